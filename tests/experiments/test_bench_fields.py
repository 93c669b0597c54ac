"""`bench fields`: its rows without a peer, arguments of benchmarks, and folders that are not the authors'."""

import json
import logging

import pytest

import launch
from genjax.core import bench, inspect


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
    assert [r["case"].split()[1] for r in rows] == ["step", "drawing"] * 2
    assert all(r["genjax"] > 0 and r["peer"] is None and r["peer_name"] == "without official=FOLDER" for r in rows)
    assert caplog.text.count("git clone https://github.com/autonomousvision/giraffe") == 1
