"""Sweeps: the algebra of points, the run folders as state, interruptions, the table and the report."""

import dataclasses
import fcntl
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import launch
from genjax.core import config as config_lib
from genjax.core import inspect, record, sweep, sweep_points, sweep_report, sweep_run, sweep_table, train
from genjax.core.run import RunFolder
from genjax.core.sweep import chain, choice, grid, integers, log_uniform, point_id, sample, uniform
from genjax.core.sweep import zip as in_step
from genjax.errors import UserError
from genjax.metrics.recipe import Recipe, Value
from genjax.viz.grid import save_png

CONFIG = '''
"""The toy with sweeps."""

import os

from genjax.core.sweep import chain, grid, sample, uniform
from tests.core.toy_config import get_config

def sweep_rates():
    return grid({"optimizer.learning_rate": tuple(10.0 ** -k for k in range(1, 1 + int(os.environ.get("POINTS", 3))))})

def sweep_typo():
    return chain(sweep_rates(), grid({"optimizer.learning_rat": (0.1,)}))

def sweep_type():
    return grid({"width": (8, "wide")})

def sweep_nothing():
    return ()

def sweep_number():
    return 3

def sweep_broken():
    return grid({"width": 1 / 0})
'''


@pytest.fixture
def config(tmp_path):
    """A config file with sweeps."""
    file = tmp_path / "sweeping.py"
    file.write_text(CONFIG)
    return file


# The algebra.

def test_grid_zip_and_chain():
    two = grid({"a": (1, 2), "b": ("x", "y")})
    assert two == ({"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"})
    steps = in_step({"c": (8, 16), "d": (0.5, 0.25)})
    assert steps == ({"c": 8, "d": 0.5}, {"c": 16, "d": 0.25})
    assert grid(two, steps)[:2] == ({"a": 1, "b": "x", "c": 8, "d": 0.5}, {"a": 1, "b": "x", "c": 16, "d": 0.25})
    assert len(grid(two, steps, {"e": (True, False, None)})) == 24
    assert grid({}) == ({},) == grid(), "no override is one point, the config itself"
    assert chain(two, grid({"b": ("x",), "a": (1.0,)}), grid({"a": (3,)})) == (*two, {"a": 3}), "each point once"
    assert grid({"a": (1, 1, 2)}) == ({"a": 1}, {"a": 2})
    assert grid({"s": ((1, 2), [3, 4])}) == ({"s": (1, 2)}, {"s": (3, 4)})
    assert type(grid({"a": np.linspace(0, 1, 3)})[1]["a"]) is float


@pytest.mark.parametrize("wrong, says", [
    (lambda: in_step({"a": (1, 2), "b": (1,)}), "equally many values for every key, got 2 for a, 1 for b"),
    (lambda: grid({"a": 3}), r"a needs a tuple of values, got 3; write \(3,\)"),
    (lambda: grid({"a": "adam"}), "a needs a tuple of values, got 'adam'"),
    (lambda: grid({"a": uniform(0, 1)}), "a: a distribution has no list of values"),
    (lambda: grid({"a": ({"b": 1},)}), "a: a point holds numbers, strings, None and tuples"),
    (lambda: grid({"a": (1,)}, {"a": (2,)}), "a is set by two of the multiplied sweeps"),
    (lambda: chain({"a": 1}), "a sweep is a tuple of points"),
    (lambda: chain([("a", 1)]), "a point of a sweep is a dict"),
    (lambda: sample(0, {"a": uniform(0, 1)}), "at least 1 point, got 0"),
    (lambda: sample(3, {"a": (0, 1)}), r"sample: a needs uniform\(...\)"),
    (lambda: log_uniform(0, 1), "lower end above 0, got 0"),
    (lambda: uniform(2, 1), "the lower one first"),
    (lambda: uniform(0, math.inf), "finite numbers"),
    (lambda: integers(0, 1.5), "whole numbers"),
    (lambda: choice(), "at least one option"),
])
def test_mistakes_are_one_line(wrong, says):
    with pytest.raises(UserError, match=says) as e:
        wrong()
    assert "\n" not in str(e.value)


def test_samples_depend_on_seed_and_number_alone():
    space = {"a": uniform(-1, 1), "b": log_uniform(1e-4, 1e-1), "c": integers(2, 5), "d": choice("x", "y", (1, 2))}
    points = sample(400, space)
    assert sample(10, space) == points[:10], "more points leave the first as they were"
    alone = sample(10, {"b": space["b"]})
    assert [p["b"] for p in alone] == [p["b"] for p in points[:10]], "so do more keys"
    assert sample(10, space, seed=1) != points[:10]
    a, b, c = (np.array([p[k] for p in points]) for k in "abc")
    assert a.min() >= -1 and a.max() < 1 and abs(a.mean()) < 0.1 and len(set(a)) > 390
    assert b.min() >= 1e-4 and b.max() < 1e-1 and abs(np.log10(b).mean() + 2.5) < 0.15, "decades are equally likely"
    assert set(c) == {2, 3, 4, 5} and {p["d"] for p in points} == {"x", "y", (1, 2)}
    assert len(str(points[0]["a"])) <= 9, "six digits: overrides stay readable"


def test_ids_are_the_overrides_alone():
    assert point_id({"a": 1, "b": "x"}) == point_id({"b": "x", "a": 1.0}) != point_id({"a": 1, "b": "y"})
    assert point_id({"lr": 1e-3}) == point_id({"lr": 0.001}) == "b00f9e2b", "the same ever after"
    assert len({point_id(p) for p in grid({"a": range(50), "b": (0.1, 0.2, None, True, "s", (1,), (1, 2))})}) == 350


def test_folders_are_named_by_their_overrides():
    name = sweep_points.folder_name
    assert name({"optimizer.learning_rate": 1e-4, "seed": 2}) == (
        f"learning_rate=0.0001,seed=2-{point_id({'optimizer.learning_rate': 1e-4, 'seed': 2})}")
    assert name({"b.rate": 1, "a.rate": None}).startswith("a.rate=None,b.rate=1-"), "as much of a key as tells it apart"
    assert name({"seed": 1, "a": 2}) == name({"a": 2.0, "seed": 1}) and name({}) == point_id({})
    points = grid({"image": ("../a b/*:?<>|.png", "ß", "x" * 300, ("a", 1.5)), "w": (1 / 3, 1 / 3 + 1e-12, "A", "a")})
    names = {name(p) for p in points}
    assert len({n.lower() for n in names}) == len(points) == 16, "unique where case does not count too"
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9=,._+-]{,90}", n) for n in names)
    assert {sweep_points.point_of(name(p)) for p in points} == {point_id(p) for p in points}


def test_values_arrive_as_they_were(config):
    """Overrides go through the command line's text."""
    base = "tests/core/toy_config.py"
    for point in ({"optimizer.learning_rate": 1e-5}, {"optimizer.learning_rate": 3.0}, {"width": 8},
                  {"data.constant": True}, {"train.steps": "8 images"}, {"task.stop_at": -3},
                  {"sharding": ("a -> replicate", ".* -> replicate")}, {"smoke": ("width=4",)}, {"smoke": ()}):
        flat = config_lib.flatten(config_lib.load(base, sweep.overrides(point)))
        assert {k: flat[k] for k in point} == point


# Which points are run: with a launcher that only writes what a run would leave.

class Fake:
    """Stands in for `launch`; keeps what was started, and ends runs as `ends` says (by learning rate)."""

    def __init__(self, monkeypatch):
        self.started, self.ends, self.parallel, self.during = [], {}, None, lambda folder: None
        monkeypatch.setattr(sweep_run, "launch", self)

    def __call__(self, jobs, options, tick=None):
        self.parallel, codes = options.max_parallel, {}
        for job in jobs:
            tick({j.name: "running" if j is job else f"exit {codes[j.name]}" if j.name in codes else "waiting"
                  for j in jobs})
            codes[job.name] = self.train(job)
        tick({name: f"exit {code}" for name, code in codes.items()})
        return codes

    def train(self, job):
        items = [a.removeprefix("--config.") for a in job.args if a.startswith("--config.")]
        found = config_lib.load(job.args[job.args.index("--config") + 1], items)
        rate = found.optimizer.learning_rate
        self.started.append(rate)
        folder, end = RunFolder(job.folder), self.ends.get(rate, 0)
        if end == 2:  # before there is a folder
            job.folder.parent.mkdir(parents=True, exist_ok=True)
            job.folder.with_name(job.folder.name + ".log").write_text("starting\nerror: no such picture\n")
            return 2
        folder.create(found)
        folder.begin(found, {})
        folder.metrics_file.write_text('{"step": 4, "kind": "eval", "norm": "NaN"}\n{"step": 5, "kind": "train"}\n')
        self.during(folder)
        if end == 0:
            folder.mark("DONE", step=12, metrics={"norm": 1 / rate, "mse": rate})
        elif end == 75:
            folder.mark("PREEMPTED", step=5)
        elif end == 3:
            folder.mark("FAILED", step=5, reason="the loss is nan")
        return min(end, 2) if end == 3 else end


@pytest.fixture
def fake(monkeypatch):
    return Fake(monkeypatch)


def command(capsys, config, name, *more, code=0):
    """Runs the verb here; returns its rows by learning rate, standard output and standard error."""
    capsys.readouterr()
    rows = config.parent / "rows.json"
    rows.unlink(missing_ok=True)
    argv = ["sweep", "--config", str(config), "--sweep", name, "--json", str(rows), *map(str, more)]
    assert launch.main(argv) == code
    out, err = capsys.readouterr()
    found = json.loads(rows.read_text()) if rows.exists() else []
    return {r["overrides"].get("optimizer.learning_rate"): r for r in found}, out, err


def test_only_what_is_missing_is_started(config, tmp_path, fake, capsys):
    work = ("--workdir", tmp_path / "sweep", "--max-parallel", 2)
    fake.ends = {0.1: 75, 0.01: 3, 0.001: 0}
    rows, out, err = command(capsys, config, "rates", *work, code=1)
    assert fake.started == [0.1, 0.01, 0.001] and fake.parallel == 2, "the preempted one is not started again at once"
    assert {k: r["state"] for k, r in rows.items()} == {0.1: "preempted", 0.01: "failed", 0.001: "done"}
    assert rows[0.001]["metrics"] == {"norm": 1000.0, "mse": 0.001} and rows[0.001]["step"] == 12
    assert rows[0.01]["reason"] == "the loss is nan" and rows[0.01]["metrics"] == {"norm": None}
    assert "1 done, 1 preempted, 1 failed" in err and "--retry-failed" in err
    assert out.splitlines()[0].split() == ["point", "state", "step", "norm", "learning_rate"]
    fake.started.clear()
    fake.ends = {}
    rows, *_ = command(capsys, config, "rates", *work, code=1)
    assert fake.started == [0.1] and rows[0.1]["state"] == "done", "done and failed points are left alone"
    fake.started.clear()
    command(capsys, config, "rates", *work, "--retry-failed")
    assert fake.started == [0.01]
    fake.started.clear()
    rows, out, err = command(capsys, config, "rates", *work, "--retry-failed")
    assert fake.started == [] and {r["state"] for r in rows.values()} == {"done"} and err == ""
    ids = [line.split()[0] for line in out.splitlines()[1:4]]
    assert ids == [point_id({"optimizer.learning_rate": r}) for r in (0.001, 0.01, 0.1)], "best first"
    assert "best norm 1000: --config.optimizer.learning_rate=0.001" in out
    _, out, _ = command(capsys, config, "rates", *work, "--metric", "mse")
    assert [line.split()[3] for line in out.splitlines()[:4]] == ["mse", "0.001", "0.01", "0.1"], "less error is better"
    _, out, _ = command(capsys, config, "rates", *work, "--metric", "mse", "--mode", "max")
    assert [line.split()[3] for line in out.splitlines()[1:4]] == ["0.1", "0.01", "0.001"]


def test_the_pages_example_is_a_config_with_a_sweep(tmp_path, root, capsys):
    """docs/sweeps.md's Python block, saved as the page says and run as it says."""
    page = (root / "docs" / "sweeps.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.S)
    (tmp_path / "mine.py").write_text(block)
    assert "sweep --config mine.py:small --sweep rates" in page
    argv = ["sweep", "--config", f"{tmp_path}/mine.py:small", "--sweep", "rates", "--workdir", str(tmp_path / "s")]
    assert launch.main([*argv, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.count("launch.py train") == 6 and "points/learning_rate=0.01,seed=1-" in out


def test_folders_of_earlier_versions_are_not_run_again(config, tmp_path, fake, capsys, monkeypatch):
    """They were named by the id alone; they are found without sweep.json too, as a search's are."""
    work = tmp_path / "sweep"
    with monkeypatch.context() as m:
        m.setattr(sweep_points, "folder_name", point_id)
        command(capsys, config, "rates", "--workdir", work)
    old = {p.name for p in (work / "points").iterdir()}
    assert old == {point_id({"optimizer.learning_rate": r}) for r in (0.1, 0.01, 0.001)}
    fake.started.clear()
    monkeypatch.setenv("POINTS", "4")
    rows, *_ = command(capsys, config, "rates", "--workdir", work)
    assert fake.started == [0.0001] and {r["state"] for r in rows.values()} == {"done"}
    (new,) = {p.name for p in (work / "points").iterdir()} - old
    assert new.startswith("learning_rate=0.0001-") and rows[0.0001]["run"].endswith(new)
    target = sweep_points.Target(str(config), "rates", (), False, work)
    (work / "sweep.json").unlink()
    assert target.folder({"optimizer.learning_rate": 0.1}).path.name in old


def test_a_metric_that_was_only_logged_ranks(config, tmp_path, fake, capsys, caplog):
    """By name, and by default where nothing is evaluated; the table and the report say what its numbers are."""
    def write(folder):
        rate = folder.config().optimizer.learning_rate
        rows = ({"step": i, "kind": "train", "stop": 0, "norm_g": 5.0, "loss": 100.0 if i < 10 else rate + i % 2}
                for i in range(20))
        folder.metrics_file.write_text("".join(json.dumps(r) + "\n" for r in rows))
        folder.mark("DONE", step=20, metrics={})

    fake.during, fake.ends = write, dict.fromkeys((0.1, 0.01, 0.001), 137)
    work = tmp_path / "sweep"
    rows, out, _ = command(capsys, config, "rates", "--workdir", work)
    assert rows[0.1]["metrics"] == {} and rows[0.1]["logged"] == {"norm_g": 5.0, "loss": pytest.approx(0.6)}
    assert out.splitlines()[0].split() == ["point", "state", "step", "loss", "learning_rate"]
    assert [line.split()[3] for line in out.splitlines()[1:4]] == ["0.501", "0.51", "0.6"], "means of the last ten"
    said = "loss was logged in training, not evaluated: every value is the mean of the last 10 logged rows."
    page = (work / "report.html").read_text()
    assert said in out and said in page and "best loss 0.501: --config.optimizer.learning_rate=0.001" in out
    assert "smallest first" in page
    _, out, err = command(capsys, config, "rates", "--workdir", work, "--metric", "norm_g", "--mode", "max")
    assert "best norm_g 5:" in out and "norm_g was logged" in out and err == ""
    command(capsys, config, "rates", "--workdir", work, "--metric", "norm")
    assert "did you mean 'norm_g'?" in caplog.text


def test_nothing_is_best_in_an_empty_column(tmp_path, capsys):
    waiting, nan = row("a", "waiting"), row("b", value=math.nan)
    for rows, metric, says in (([waiting], None, "nothing was evaluated or logged yet"),
                               ([waiting, nan], "psnr", "no point has a finite value of psnr")):
        rows = [dataclasses.replace(r, folder=tmp_path / r.point) for r in rows]
        for r in rows:
            save_png(r.folder / "samples" / "step_1.png", np.zeros((8, 8, 3)))
        sweep_run.print_table(rows, metric, "max")
        out = capsys.readouterr().out
        page = sweep_report.write(tmp_path, rows, metric, "max", "").read_text()
        assert f"Not ranked: {says}." in out and f"Not ranked: {says}." in page
        assert "best" not in out and "best first" not in page and "Sorted by" not in page
        assert "A picture of each" in page


def test_points_may_come_and_go(config, tmp_path, fake, capsys, monkeypatch):
    work = ("--workdir", tmp_path / "sweep")
    command(capsys, config, "rates", *work)
    monkeypatch.setenv("POINTS", "4")
    fake.started.clear()
    rows, *_ = command(capsys, config, "rates", *work)
    assert fake.started == [0.0001] and len(rows) == 4
    monkeypatch.setenv("POINTS", "2")
    rows, out, _ = command(capsys, config, "rates", *work)
    assert fake.started == [0.0001] and len(rows) == 2 and "2 runs of points no longer asked for stay" in out
    assert len(json.loads((tmp_path / "sweep" / "sweep.json").read_text())["points"]) == 2
    assert len([p for p in (tmp_path / "sweep" / "points").iterdir() if p.is_dir()]) == 4, "nothing is deleted"


def test_a_run_that_breaks_down_stays_failed(config, tmp_path, fake, capsys):
    work = ("--workdir", tmp_path / "sweep")
    fake.ends = {0.1: 2, 0.01: 1, 0.001: 137}
    rows, *_ = command(capsys, config, "rates", *work, code=1)
    assert rows[0.1]["state"] == rows[0.01]["state"] == "failed" and rows[0.1]["reason"] == "no such picture"
    assert rows[0.01]["reason"] == "exit code 1" and rows[0.01]["step"] == 6
    assert rows[0.001]["state"] == "preempted", "killed from outside is no failure"
    fake.started.clear()
    command(capsys, config, "rates", *work, code=1)
    assert fake.started == [0.1, 0.001], "what never began is missing; what broke down waits for --retry-failed"


def test_longer_runs_go_on_and_changed_configs_are_refused(config, tmp_path, fake, capsys):
    work = ("--workdir", tmp_path / "sweep")
    command(capsys, config, "rates", *work)
    command(capsys, config, "rates", *work, "--config.train.steps=20")
    assert fake.started == [0.1, 0.01, 0.001] * 2
    command(capsys, config, "rates", *work, "--config.train.steps=15")
    assert len(fake.started) == 6, "long enough"
    config.write_text(CONFIG.replace("import get_config", "import get_config as base\n\n\ndef get_config(arg=''):\n"
                                     "    made = base(arg)\n    made.width = 24\n    return made"))
    *_, err = command(capsys, config, "rates", *work, "--config.train.steps=20", code=2)
    assert "holds a run of another config (config.width: 16 there, 24 here)" in err and err.count("\n") == 1


def test_a_run_that_cannot_be_read_is_a_row_of_its_own(config, tmp_path, fake, capsys):
    work = ("--workdir", tmp_path / "sweep")
    rows, *_ = command(capsys, config, "rates", *work)
    broken = Path(rows[0.01]["run"])
    (broken / "config.json").write_text("{")
    for more, code in (((), 1), (("--status",), 0)):
        rows, *_ = command(capsys, config, "rates", *work, *more, code=code)
        assert [rows[x]["state"] for x in (0.1, 0.01, 0.001)] == ["done", "failed", "done"]
        assert "config.json: the saved config is not readable" in rows[0.01]["reason"]
        assert f"move {broken} away" in rows[0.01]["reason"]
        assert rows[0.01]["metrics"] == {} and rows[0.01]["logged"] == {}, "what cannot be read is not ranked"
    assert launch.main(["report", str(tmp_path / "sweep")]) == 0
    assert fake.started == [0.1, 0.01, 0.001]


@pytest.mark.parametrize("name, more, says", [
    ("rate", (), "unknown sweep 'rate'; did you mean 'rates'?"),
    ("typo", (), "no key 'learning_rat'; did you mean 'learning_rate'?"),
    ("type", (), "config.width must be int, got 'wide'"),
    ("nothing", (), "sweep_nothing() has no points"),
    ("number", (), "a sweep is a tuple of points"),
    ("broken", (), "sweeping.py:25: ZeroDivisionError"),
    ("rates", ("--config.optimizer.learning_rate=1",), "is what the sweep rates varies"),
    ("rates", ("--config.optimizer.learning_rat=1",), "did you mean 'learning_rate'?"),
    ("rates", ("--max-parallel", "0"), "--max-parallel must be at least 1"),
    ("rates", ("--storage", "sqlite:///x.db"), "--storage goes with a search_NAME()"),
    ("rates", ("--workdir", "sweeping.py"), "is a file; name a folder"),
    ("rates", ("--workdir", "."), "holds other files and no sweep"),
])
def test_wrong_commands_start_nothing(config, tmp_path, fake, capsys, monkeypatch, name, more, says):
    monkeypatch.chdir(tmp_path)
    *_, err = command(capsys, config, name, *more, code=2)
    assert says in err and err.count("\n") == 1 and fake.started == []
    assert [p.name for p in tmp_path.iterdir() if p.name != "__pycache__"] == ["sweeping.py"], "nothing is written"


def test_workdirs(config, tmp_path, fake, capsys, monkeypatch):
    """The default says what is run; a workdir of another sweep is refused; a second sweep waits outside."""
    monkeypatch.chdir(tmp_path)
    command(capsys, config, "rates", "--config.seed=3", "--config.train.steps=9")
    (plain,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert re.fullmatch(r"sweeping-rates-[0-9a-f]{6}", plain.name)
    command(capsys, config, "rates", "--config.train.steps=10", "--config.seed=3")
    assert [p.name for p in (tmp_path / "runs" / "sweeps").iterdir()] == [plain.name], "lengths do not change the name"
    for more, says in ((("--config.seed=4",), "overrides: ['seed=3'] there, ['seed=4'] here"),
                       (("--config.seed=3", "--smoke"), "smoke: False there, True here")):
        *_, err = command(capsys, config, "rates", "--workdir", plain, *more, code=2)
        assert "holds another sweep" in err and says in err
    with sweep_run.alone(plain):
        *_, err = command(capsys, config, "rates", "--workdir", plain, "--config.seed=3", code=2)
        assert "another sweep runs in" in err
    assert sweep_run.default_workdir("dip/denoise:small", "noise", (), True).name == "dip-denoise-small-noise-smoke"


def test_looking_writes_and_starts_nothing(config, tmp_path, fake, capsys, monkeypatch):
    monkeypatch.undo()  # the real launcher
    work = ("--workdir", tmp_path / "sweep")
    _, out, _ = command(capsys, config, "rates", *work, "--dry-run", "--config.seed=2")
    assert len(out.splitlines()) == 3
    assert re.search(rf"launch.py train --config {config} --workdir {tmp_path}/sweep/points/learning_rate=0.1-"
                     r"[0-9a-f]{8} --quiet --config.seed=2 --config.optimizer.learning_rate=0.1 ", out)
    rows, out, _ = command(capsys, config, "rates", *work, "--status")
    assert {r["state"] for r in rows.values()} == {"waiting"} and out.count("waiting") == 3
    assert not (tmp_path / "sweep").exists()


def test_a_run_that_outlived_its_sweep_is_waited_for(config, tmp_path, fake, capsys):
    """A living process holds the run's lock; the point is not started beside it."""
    work = ("--workdir", tmp_path / "sweep")
    point = {"optimizer.learning_rate": 0.01}
    folder = RunFolder(tmp_path / "sweep" / "points" / point_id(point))
    found = config_lib.load(str(config), sweep.overrides(point))
    sweep_run.Target(str(config), "rates", (), False, tmp_path / "sweep").write({})
    folder.create(found)
    lock = open(folder.path / ".lock", "w")
    fcntl.flock(lock, fcntl.LOCK_EX)

    def end():
        assert fake.started == []
        folder.mark("DONE", step=12, metrics={"norm": 5.0})
        lock.close()

    timer = threading.Timer(1.0, end)
    timer.start()
    rows, _, err = command(capsys, config, "rates", *work)
    timer.join()
    assert fake.started == [0.1, 0.001] and rows[0.01]["metrics"] == {"norm": 5.0}
    assert err.startswith(f"{point_id(point)} running (0 of 3 done) learning_rate=0.01\n")


def test_a_point_taken_by_another_process_is_no_failure(config, tmp_path, fake, capsys):
    """Our process came too late and was refused (exit code 2): the other one's end counts."""
    work = ("--workdir", tmp_path / "sweep")
    held = []

    def take(folder):
        if len(fake.started) == 1:
            held.append(open(folder.path / ".lock", "w"))
            fcntl.flock(held[0], fcntl.LOCK_EX)
            threading.Timer(0.7, lambda: (folder.mark("PREEMPTED", step=6), held[0].close())).start()

    fake.during, fake.ends = take, {0.1: 4}
    original = fake.train

    def train(job):
        code = original(job)
        fake.ends = {}
        return code

    fake.train = train
    rows, *_ = command(capsys, config, "rates", *work)
    assert fake.started == [0.1, 0.01, 0.001, 0.1], "it went on when the other was preempted"
    assert {r["state"] for r in rows.values()} == {"done"}


def test_report_of_a_sweeps_folder(config, tmp_path, fake, capsys):
    command(capsys, config, "rates", "--workdir", tmp_path / "sweep", "--config.seed=2")
    page = tmp_path / "sweep" / "report.html"
    before = page.read_text()
    page.unlink()
    assert launch.main(["report", str(tmp_path / "sweep")]) == 0 and capsys.readouterr().out.strip() == str(page)
    assert page.read_text() == before
    (tmp_path / "sweep" / "sweep.json").write_text("{")
    assert launch.main(["report", str(tmp_path / "sweep")]) == 2
    assert "sweep.json is not readable" in capsys.readouterr().err


def test_interrupted(config, tmp_path, fake, capsys, monkeypatch):
    def stop(jobs, options, tick):
        raise train.Preempted("interrupted with 0 of 3 runs ended")

    monkeypatch.setattr(sweep_run, "launch", stop)
    rows, out, err = command(capsys, config, "rates", "--workdir", tmp_path / "sweep", code=75)
    assert err == "interrupted with 0 of 3 runs ended (3 waiting); run the same command again to go on\n"


def test_what_waits_in_slurms_queue_is_not_submitted_twice(config, tmp_path, capsys, monkeypatch):
    submitted = []

    def submit(jobs, options, tick=None):
        submitted.append([j.name for j in jobs])
        (tmp_path / "sweep" / "points" / "slurm").mkdir(parents=True, exist_ok=True)
        for i in range(len(jobs)):
            (tmp_path / "sweep" / "points" / "slurm" / f"{6 + len(submitted)}_{i}_submitted.pkl").touch()
        return {}

    monkeypatch.setattr(sweep_run, "launch", submit)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\nprintf '7_0\\n7_1\\n7_2\\n'\n")
    squeue.chmod(0o755)
    work = ("--workdir", tmp_path / "sweep", "--on", "slurm")
    *_, err = command(capsys, config, "rates", *work)
    assert "3 points handed over to slurm" in err and len(submitted[0]) == 3
    _, out, _ = command(capsys, config, "rates", *work)
    assert len(submitted) == 1 and out.count("waiting") == 3
    squeue.write_text("#!/bin/sh\nprintf '7_0\\n7_2\\n'\n")
    command(capsys, config, "rates", *work)
    assert submitted[1] == [submitted[0][1]], "the second left the queue without a run"


# What is shown.

def row(name, state="done", value=None, step=12, **more):
    metrics = {} if value is None else {"psnr": value, "loss": 1.0}
    return sweep_table.Row(name, state, step, {"optimizer.learning_rate": 0.1, "task.kind": "a"}, metrics,
                           **{"live": {}, "folder": Path("x") / name, **more})



def test_points_measured_differently_are_not_ranked(tmp_path, capsys):
    def point(name, value, state="done", **how):
        recipe = Recipe(metric="frechet", network="lenet", weights="ab", n_fake=100, **how) if how else None
        return dataclasses.replace(row(name, state), metrics={"fd_lenet": value},
                                   recipes={"fd_lenet": recipe} if how else {})

    same = [point("a", 3.0, n_real=9), point("b", 1.0, n_real=9), point("c", 0.5, state="running")]
    assert sweep_table.incomparable(same, "fd_lenet") == "" and sweep_table.guess_mode("fd_lenet", same) == "min"
    sweep_run.print_table(same[:2], "fd_lenet", "min")
    assert "best fd_lenet 1" in capsys.readouterr().out
    for other, why in ((point("d", 0.1, n_real=8), "n_real: 9 / 8"), (point("d", 0.1), "only one of them says how")):
        rows = [*same, other]
        line = f"Not ranked: a and d measured fd_lenet with different recipes ({why})."
        assert sweep_table.incomparable(rows, "fd_lenet") == line
        assert [r.point for r in sweep_table.ranked(rows, "fd_lenet", "min")] == ["c", "a", "b", "d"]
        sweep_run.print_table(rows, "fd_lenet", "min")
        out = capsys.readouterr().out
        assert line in out and "best" not in out
        page = sweep_report.write(tmp_path, rows, "fd_lenet", "min", "").read_text()
        assert line in page and "best fd_lenet" not in page and "Sorted by" not in page


def test_a_points_recipes_are_those_of_its_last_numbers(tmp_path):
    folder = RunFolder(tmp_path)
    recipe = Recipe(metric="recall", network="lenet")
    found = record.numbers(folder, {"recall_lenet": Value(0.25, recipe), "loss": 2})
    assert found == {"recall_lenet": 0.25, "loss": 2.0}
    assert record.recipes(folder, {"recall_lenet": 0.25})["recall_lenet"].recipe == recipe
    assert record.recipes(folder, {"recall_lenet": 0.5}) == record.recipes(folder, {}) == {}
    for broken in ("{", "[]", '{"recall_lenet": {"value": 0.25}}'):
        (tmp_path / "recipes.json").write_text(broken)
        assert record.recipes(folder, {"recall_lenet": 0.25}) == {}


def test_tables():
    rows = [row("a", value=1.0), row("b", value=math.nan), row("c", "failed", reason="no picture"), row("d", value=3.0)]
    assert [r.point for r in sweep_table.ranked(rows, "psnr", "max")] == ["d", "a", "c", "b"]
    assert [r.point for r in sweep_table.ranked(rows, "psnr", "min")] == ["a", "d", "c", "b"]
    found = sweep_table.lines(rows, ["psnr"])
    assert found[0].split() == ["point", "state", "step", "psnr", "learning_rate", "kind"]
    assert found[3].endswith("no picture") and found[2].split()[3] == "NaN"
    assert sweep_table.counts(rows) == "3 done, 1 failed" and json.dumps([r.json() for r in rows], allow_nan=False)
    assert sweep_table.short_names(["a.rate", "b.rate", "a.size"]) == {"a.rate": "a.rate", "b.rate": "b.rate",
                                                                     "a.size": "size"}
    guessed = {m: sweep_table.guess_mode(m) for m in ("psnr_ema", "val/loss", "fid", "fid50k", "mse_last", "ssim")}
    assert guessed == {"psnr_ema": "max", "val/loss": "min", "fid": "min", "fid50k": "min", "mse_last": "min",
                       "ssim": "max"}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_live_table_redraws_on_a_terminal_and_tells_changes_elsewhere(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sweep_table.shutil, "get_terminal_size", lambda: os.terminal_size((60, 6)))
    table = sweep_table.LiveTable("psnr", stream=screen)
    rows = [row("a", "running", live={"steps_per_second": 2.5}), row("b", "waiting"), row("c", "done", 3.0)]
    table.update(rows)
    first = screen.getvalue()
    assert "1 done, 1 waiting, 1 running, 0:00" in first and "2.5" in first and "and 1 more" in first
    assert all(len(line) < 60 for line in first.splitlines())
    table.update(rows)
    assert screen.getvalue()[len(first):].startswith(f"\x1b[{first.count(chr(10))}F\x1b[J")
    table.clear()
    assert screen.getvalue().endswith("F\x1b[J")
    plain = io.StringIO()
    table = sweep_table.LiveTable(stream=plain)
    for r in (row("a", "waiting"), row("a", "running"), row("a", "running"), row("a", value=3.25)):
        table.update([r, row("b", value=1.0)])
    assert plain.getvalue() == ("a running (1 of 2 done) learning_rate=0.1 kind=a\n"
                                "a done (2 of 2 done) learning_rate=0.1 kind=a: psnr 3.25\n")


def test_metrics_are_followed_as_they_grow(tmp_path):
    file = tmp_path / "metrics.jsonl"
    follow = sweep_table.Follow(file)
    assert follow.look().last == {}
    file.write_text('{"step": 2, "kind": "eval", "psnr": 3.5, "who": "x"}\n{"step": 3, "kind": "train", "lo')
    assert follow.look().evals == {2: {"psnr": 3.5}} and "train" not in follow.last
    with file.open("a") as f:
        f.write('ss": "NaN"}\n{"step": 4, "kind": "eval", "psnr": 4}\n')
    assert sorted(follow.look().evals) == [2, 4] and math.isnan(follow.last["train"]["loss"])
    (tmp_path / "new").write_text('{"step": 2, "kind": "eval", "psnr": 3.5}\n')  # a resumed run drops rows
    os.replace(tmp_path / "new", file)
    assert follow.look().evals == {2: {"psnr": 3.5}} and "train" not in follow.last


def test_report(tmp_path):
    """Every point, what each hyper-parameter does, the pictures, the failures; links relative to the page."""
    rng = np.random.default_rng(0)
    rows = []
    points = grid({"optimizer.learning_rate": (1e-4, 1e-2), "task.kind": ("a", "b<i>"), "w": (1, 2)})
    for i, point in enumerate(points):
        folder = tmp_path / "points" / point_id(point)
        save_png(folder / "samples" / "step_1.png", rng.random((8, 8, 3)))
        save_png(folder / "samples" / "step_2.png", np.full((600, 600, 3), i / 8))
        (folder / "report.html").touch()
        rows.append(sweep_table.Row(point_id(point), "done", 9, point, {"psnr": float(i)}, {}, folder))
    (rows[0].folder / "samples" / "step_2.png").write_bytes(b"\x89PNG broken")
    rows.append(sweep_table.Row("dead", "failed", 3, {"w": 3}, {}, {}, tmp_path / "points" / "dead", "NaN at <3>"))
    page = sweep_report.write(tmp_path, rows, "psnr", "max", "python launch.py sweep").read_text()
    order = [page.index(f'href="points/{r.point}/report.html"') for r in rows[:8]]
    assert order == sorted(order, reverse=True), "best first"
    assert page.count("<svg") == 3 and page.count("data:image/png") == 7, "two scatter plots, one of parallel lines"
    assert "NaN at &lt;3&gt;" in page and ">failed</span>" in page and "kind=b&lt;i&gt;" in page and "b<i" not in page
    assert 'width="480" height="480"' in page and "8 done, 1 failed" in page
    trials = [dataclasses.replace(r, trial=i, state="pruned" if i % 2 else r.state) for i, r in enumerate(rows)]
    page = sweep_report.write(tmp_path, trials, "psnr", "max", "python launch.py sweep").read_text()
    assert "Course of the search" in page and page.count("<svg") == 4
    page = sweep_report.write(tmp_path, [row("a", "waiting")], None, "max", "").read_text()
    assert "nothing was evaluated or logged yet" in page and ">unfinished</span>" in page


# Interrupted for real.

def start(root, config, work, points, *more):
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "POINTS": str(points)}
    argv = [sys.executable, "launch.py", "sweep", "--config", f"{config}:steps=24,save=3", "--sweep", "rates",
            "--workdir", str(work), "--max-parallel", "2", "--config.data.pause=0.05", *more]
    return subprocess.Popen(argv, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            start_new_session=True)


def wait_until(process, happened, seconds=120):
    end = time.time() + seconds
    while not happened():
        assert process.poll() is None and time.time() < end, process.communicate(timeout=60)
        time.sleep(0.01)


def steps_of(work):
    """{point: training rows so far}."""
    return {p.parent.name[-8:]: p.read_bytes().count(b'"kind": "train"') for p in work.glob("points/*/metrics.jsonl")}


def done_points(work):
    return {p.parent.name[-8:] for p in work.glob("points/*/DONE")}


@pytest.mark.parametrize("points", [3, pytest.param(12, marks=pytest.mark.slow)])
def test_interrupted_twice_runs_every_point_once_to_its_end(tmp_path, root, config, capsys, monkeypatch, points):
    """SIGTERM of the sweep, then SIGKILL: every point ends with the bits of a run left alone, none starts again."""
    work = tmp_path / "sweep"
    process = start(root, config, work, points)
    wait_until(process, lambda: sum(n >= 6 for n in steps_of(work).values()) >= 2)
    process.terminate()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75 and "run the same command again to go on" in err, err
    assert list(work.glob("points/*/PREEMPTED")), "two were running, of which a slow machine may have ended one"

    process = start(root, config, work, points)
    wait_until(process, lambda: len(done_points(work)) >= max(1, points // 3)
               and any(3 <= n < 20 for p, n in steps_of(work).items() if p not in done_points(work)))
    finished = {p: [next(work.glob(f"points/*{p}/{name}")).read_bytes() for name in ("DONE", "log.txt")]
                for p in done_points(work)}
    assert len(finished) < points
    if points > 3:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate(timeout=120)

    process = start(root, config, work, points, "--json", "-")
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    rows = {r["point"]: r for r in json.loads(out)}
    assert {r["state"] for r in rows.values()} == {"done"} and len(rows) == points
    monkeypatch.setenv("POINTS", str(points))
    starts: list[int] = []
    for point in sweep_run.find(str(config), "rates"):
        name, alone = point_id(point), tmp_path / "alone" / point_id(point)
        folder = work / "points" / f"learning_rate={point['optimizer.learning_rate']:.6g}-{name}"
        log = (folder / "log.txt").read_text()
        starts.append(log.count("starting") + log.count("resuming"))
        assert "already done" not in log, log
        if name in finished:
            assert [(folder / n).read_bytes() for n in ("DONE", "log.txt")] == finished[name], "started again"
        train.train(config_lib.load(f"{config}:steps=24,save=3", sweep.overrides(point)), str(alone), quiet=True)
        ours, theirs = inspect.status(str(folder)), inspect.status(str(alone))
        assert ours["digest"] == theirs["digest"] and ours["metrics"] == theirs["metrics"]
    assert max(starts) <= 3 and points < sum(starts) <= points + 4, "two at a time, interrupted twice"
    assert (work / "report.html").exists()
