"""`bench fields`: its rows without a peer, arguments of benchmarks, and folders that are not the authors'."""

import importlib.util
import itertools
import json
import logging

import numpy as np
import pytest

import launch
from experiments.bench import fields
from genjax.core import bench, inspect
from genjax.core.play import Dial, Stage
from genjax.errors import UserError


def test_arguments_of_benchmarks(tmp_path, monkeypatch):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "toy.py").write_text(
        '"""Toy."""\n\n\ndef run(bench, official=""):\n    bench.compare(official, lambda: 1, None)\n')
    monkeypatch.setattr(inspect, "EXPERIMENTS", tmp_path)
    assert [bench.bench(name, 1, True)[0]["case"] for name in ("toy", "toy:official=a b/c")] == ["", "a b/c"]


def test_wrong_arguments(capsys, tmp_path):
    said = []
    for arg in ("offical=x", f"official={tmp_path}"):
        assert launch.main(["bench", "fields:" + arg, "--smoke", "--repeats", "1"]) == 2
        said.append(capsys.readouterr().err.strip())
        assert "\n" not in said[-1]
    assert "did you mean 'official'" in said[0]
    assert "git clone https://github.com/autonomousvision/giraffe" in said[1]


@pytest.mark.slow
def test_rows_without_the_peer(tmp_path, caplog):
    caplog.set_level(logging.INFO, "genjax")
    assert launch.main(["bench", "fields", "--smoke", "--repeats", "1", "--json", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    served = all(importlib.util.find_spec(m) for m in ("fastapi", "uvicorn"))
    assert [r["case"].split()[1] for r in rows] == ["step", "drawing", *["play"] * served] * 2
    assert all(r["genjax"] > 0 and r["peer"] is None for r in rows)
    assert all(r["slowest"] >= r["genjax"] for r in rows if "play" in r["case"])
    assert {r["peer_name"] for r in rows if "play" not in r["case"]} == {"without official=FOLDER"}
    assert caplog.text.count("git clone https://github.com/autonomousvision/giraffe") == 1


def test_sliders_are_moved_over_http(caplog, monkeypatch):
    """Every timed call moves twenty, with a picture for each; without FastAPI the row is left out."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    drawn = []
    stage = Stage((Dial("objects", 0, 4, 2, 1), Dial("depth", -0.5, 1.5, 0.5), Dial("turn", 0, 1, 0.5)),
                  lambda v: drawn.append(dict(v)) or np.zeros((4, 4, 3)))
    run = bench.Bench(2, True)
    fields._play(run, "toy", stage)
    (row,) = run.rows
    assert row["case"] == "GIRAFFE play toy" and 0 < row["genjax"] <= row["slowest"] and len(drawn) == 3 * fields.MOVES
    for before, after in itertools.pairwise(drawn):
        assert sum(before[k] != after[k] for k in before) == 1, "one slider at a time"
    assert {v["objects"] for v in drawn} == {2} and all(-0.5 <= v["depth"] <= 1.5 for v in drawn)

    def missing(*_):
        raise UserError("play needs FastAPI")

    monkeypatch.setattr(fields, "application", missing)
    caplog.set_level(logging.INFO, "genjax")
    fields._play(run, "toy", stage)
    assert len(run.rows) == 1 and "play is left out: play needs FastAPI" in caplog.text
