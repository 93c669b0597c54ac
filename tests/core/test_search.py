"""Searches: trials to the total, pruning, and what a killed search leaves is taken up. Runs are acted, but for one."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import launch
from genjax.core import config as config_lib
from genjax.core import inspect, search_run, train
from genjax.core.run import RunFolder
from genjax.core.search import search
from genjax.core.sweep import choice, integers, log_uniform, point_id, uniform
from genjax.errors import UserError

CONFIG = '''
"""The toy with searches."""

import os

from genjax.core.search import search
from genjax.core.sweep import choice, integers, log_uniform
from tests.core.toy_config import get_config

def search_rate():
    return search({"optimizer.learning_rate": log_uniform(1e-4, 1e-1)}, metric="norm", startup=2,
                  trials=int(os.environ.get("TRIALS", 6)), pruner=os.environ.get("PRUNER", "none"))

def search_kinds():
    return search({"width": choice(8, 16), "smoke": choice(("width=4",), ()), "seed": integers(3, 3)}, metric="norm",
                  trials=8, pruner="none", sampler="random")

def search_typo():
    return search({"optimizer.learning_rate": log_uniform(1e-4, 1e-1), "widht": choice(8)}, metric="norm", trials=2)

def search_option():
    return search({"width": choice(8, "wide")}, metric="norm", trials=2)

def search_metric():
    return search({"width": choice(8, 16)}, metric="nrom", trials=2, pruner="none")

def search_list():
    return [1]
'''


@pytest.fixture
def config(tmp_path):
    """A config file with searches."""
    file = tmp_path / "searching.py"
    file.write_text(CONFIG)
    return file


@pytest.fixture
def optuna():
    return pytest.importorskip("optuna")


class Fake:
    """Stands in for `launch`: a run of three evaluations whose metric is best at a learning rate of 1e-2."""

    def __init__(self, monkeypatch):
        self.started, self.ends, self.during, self.slow = [], {}, lambda n: None, False
        monkeypatch.setattr(search_run, "launch", self)
        monkeypatch.setattr(search_run, "POLL", 0.05)

    def __call__(self, jobs, options, tick=None):
        (job,) = jobs
        items = [a.removeprefix("--config.") for a in job.args if a.startswith("--config.")]
        found = config_lib.load(job.args[job.args.index("--config") + 1], items)
        number, folder = len(self.started), RunFolder(job.folder)
        self.started.append(job.name)
        folder.create(found)
        folder.begin(found, {})
        good = 5 - (math.log10(found.optimizer.learning_rate) + 2) ** 2
        self.during(number)
        try:
            for step in (4, 8, 12):
                with folder.metrics_file.open("a") as f:
                    f.write(json.dumps({"step": step, "kind": "eval", "norm": good + step}) + "\n")
                for _ in range(4):
                    tick({job.name: "running"})
                    time.sleep(0.05 if self.slow else 0)  # time to be judged
        except search_run.Stop:
            folder.mark("PREEMPTED", step=step)
            raise
        code = self.ends.get(number, 0)
        if code == 0:
            folder.mark("DONE", step=12, metrics={"norm": good + 12})
        elif code == 2:
            folder.mark("FAILED", step=5, reason="the loss is nan")
        return {job.name: code}


@pytest.fixture
def fake(monkeypatch):
    return Fake(monkeypatch)


def command(capsys, config, name, *more, code=0):
    """Runs the verb here; returns its rows, standard output and standard error."""
    capsys.readouterr()
    rows = config.parent / "rows.json"
    rows.unlink(missing_ok=True)
    argv = ["sweep", "--config", str(config), "--sweep", name, "--json", str(rows), *map(str, more)]
    assert launch.main(argv) == code
    out, err = capsys.readouterr()
    return json.loads(rows.read_text()) if rows.exists() else [], out, err


def study_of(optuna, workdir):
    storage = f"sqlite:///{workdir / 'study.db'}"
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


def test_without_optuna_one_line_says_how_to_get_it(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    *_, err = command(capsys, config, "rate", "--workdir", tmp_path / "s", code=2)
    assert err == "error: a search needs Optuna: pip install -r requirements-search.txt\n"
    assert command(capsys, config, "rate", "--workdir", tmp_path / "s", "--dry-run")[1].count("launch.py train") == 1
    assert not (tmp_path / "s").exists(), "what only shows the command needs no Optuna"


@pytest.mark.parametrize("space, more, says", [
    ({}, {}, "the space is empty"),
    ({"a": (1, 2)}, {}, r"search: a needs uniform"),
    ({"a": uniform(0, 1)}, {"mode": "most"}, "unknown search mode 'most'"),
    ({"a": uniform(0, 1)}, {"pruner": "medain"}, "did you mean 'median'"),
    ({"a": uniform(0, 1)}, {"sampler": "grid"}, "unknown search sampler"),
    ({"a": uniform(0, 1)}, {"trials": 0}, "trials must be at least 1"),
])
def test_wrong_searches(space, more, says):
    with pytest.raises(UserError, match=says):
        search(space, metric="norm", **more)


def test_a_config_is_checked_at_every_end():
    made = search({"a": uniform(0, 1), "b": log_uniform(1, 100), "c": integers(2, 5), "d": choice("x", [1, 2], None)},
                  metric="norm")
    assert made.typical() == {"a": 0.5, "b": 10.0, "c": 4, "d": (1, 2)}
    assert [p[k] for k in "abcd" for p in made.corners() if p[k] != made.typical()[k]] == [
        0.0, 1.0, 1.0, 100.0, 2, 5, "x", None]


@pytest.mark.parametrize("name, more, says", [
    ("rat", (), "did you mean 'rate'?"),
    ("typo", ("--config.train.eval_every=1",), "did you mean 'width'?"),
    ("option", ("--config.train.eval_every=1",), "config.width must be int, got 'wide'"),
    ("list", (), "must return genjax.core.search.search(...)"),
    ("rate", ("--config.optimizer.learning_rate=1",), "is what the sweep rate varies"),
    ("rate", ("--on", "slurm"), "start the same command on each, with --storage URL"),
    ("rate", ("--storage", "nowhere"), "--storage: Could not parse"),
    ("rate", ("--storage", "sqlite:////no/such/folder/x.db"), "unable to open database file"),
    ("rate", ("--status",), "holds no search yet"),
    ("rate", ("--workdir", "."), "holds other files"),
])
def test_wrong_commands_start_nothing(config, tmp_path, optuna, fake, capsys, monkeypatch, name, more, says):
    monkeypatch.chdir(tmp_path)
    *_, err = command(capsys, config, name, *more, code=2)
    assert says in err and err.count("\n") == 1 and fake.started == []
    assert [p.name for p in tmp_path.iterdir() if p.name != "__pycache__"] == ["searching.py"]


def test_pruning_needs_evaluations_on_the_way(config, tmp_path, optuna, capsys, monkeypatch):
    monkeypatch.setenv("PRUNER", "median")
    *_, err = command(capsys, config, "rate", "--config.train.eval_every=0 epochs", code=2)
    assert "add --config.train.eval_every=N" in err


def test_trials_to_the_total_and_on(config, tmp_path, optuna, fake, capsys, monkeypatch):
    """Started again with more trials it goes on; a search left alone chooses the same points from its seed."""
    work = ("--workdir", tmp_path / "a")
    rows, out, _ = command(capsys, config, "rate", *work)
    assert len(rows) == len(set(fake.started)) == 6 and {r["state"] for r in rows} == {"done"}
    assert sorted(r["trial"] for r in rows) == list(range(6))
    first = {r["trial"]: r["overrides"]["optimizer.learning_rate"] for r in rows}
    assert all(1e-4 <= v <= 1e-1 for v in first.values())
    assert [r["point"] for r in rows] == [point_id(r["overrides"]) for r in rows]
    values = [r["metrics"]["norm"] for r in rows]
    best = max(rows, key=lambda r: r["metrics"]["norm"])
    assert out.splitlines()[1].split()[:3] == [str(best["trial"]), best["point"], "done"]
    assert f"--config.optimizer.learning_rate={best['overrides']['optimizer.learning_rate']}" in out
    assert study_of(optuna, tmp_path / "a").best_value == max(values)
    assert "Course of the search" in (tmp_path / "a" / "report.html").read_text()
    command(capsys, config, "rate", *work)
    assert len(fake.started) == 6, "the total is reached"
    rows, *_ = command(capsys, config, "rate", "--workdir", tmp_path / "b", "--max-parallel", 1)
    assert {r["trial"]: r["overrides"]["optimizer.learning_rate"] for r in rows} == first
    monkeypatch.setenv("TRIALS", "9")
    rows, *_ = command(capsys, config, "rate", *work, "--max-parallel", 3)
    assert len(rows) == 9 and len(fake.started) == 15 and len({r["point"] for r in rows}) == 9, "all new"
    status, out, _ = command(capsys, config, "rate", *work, "--status")
    assert status == rows and len(fake.started) == 15
    config.write_text(CONFIG.replace("1e-4, 1e-1", "1e-5, 1e-1"))
    *_, err = command(capsys, config, "rate", *work, code=2)
    assert "holds another sweep (space:" in err and err.count("\n") == 1


def test_points_of_few_options_share_their_run(config, tmp_path, optuna, fake, capsys):
    fake.slow = True  # so that two trials of one point meet
    rows, *_ = command(capsys, config, "kinds", "--workdir", tmp_path / "s", "--max-parallel", 3)
    assert len(rows) == 8 and {r["state"] for r in rows} == {"done"}
    assert len(fake.started) == len(set(fake.started)) == len({r["point"] for r in rows}) <= 4
    assert {tuple(r["overrides"]["smoke"]) for r in rows} == {("width=4",), ()}, "tuples come back as such"


def test_hopeless_runs_are_pruned(config, tmp_path, optuna, fake, capsys, monkeypatch):
    monkeypatch.setenv("PRUNER", "median")
    fake.slow = True
    rows, *_ = command(capsys, config, "rate", "--workdir", tmp_path / "s", "--config.train.eval_every=4")
    states = {r["trial"]: r["state"] for r in rows}
    assert states[0] == states[1] == "done" and "pruned" in states.values(), states
    by_value = sorted(rows, key=lambda r: (math.log10(r["overrides"]["optimizer.learning_rate"]) + 2) ** 2)
    assert by_value[0]["state"] == "done", "the best is never pruned"
    for r in rows:
        if r["state"] == "pruned":
            assert r["step"] < 12 and (Path(r["run"]) / "PREEMPTED").exists()
    told = {t.number: t.state.name for t in study_of(optuna, tmp_path / "s").trials}
    assert told == {n: {"done": "COMPLETE", "pruned": "PRUNED"}[s] for n, s in states.items()}
    count = len(fake.started)
    rows, *_ = command(capsys, config, "rate", "--workdir", tmp_path / "s", "--config.train.eval_every=4")
    assert {r["trial"]: r["state"] for r in rows} == states and len(fake.started) == count


def test_what_a_killed_search_left_is_taken_up(config, tmp_path, optuna, fake, capsys, monkeypatch):
    """Trials that ran, and one that was not even proposed to the end: none is lost, none comes twice."""
    work = tmp_path / "s"
    monkeypatch.setenv("TRIALS", "2")
    command(capsys, config, "rate", "--workdir", work)
    study, owner = study_of(optuna, work), json.loads((work / "sweep.json").read_text())["owner"]
    killed = study.ask()
    rate = killed.suggest_float("optimizer.learning_rate", 1e-4, 1e-1, log=True)
    killed.set_user_attr("owner", owner)
    killed.report(3.0, 4)
    study.ask()  # killed before it had a point
    done = study.ask()  # its run ended, but nobody was there to tell
    point = {"optimizer.learning_rate": done.suggest_float("optimizer.learning_rate", 1e-4, 1e-1, log=True)}
    done.set_user_attr("owner", owner)
    folder = RunFolder(work / "points" / point_id(point))
    folder.create(config_lib.load(str(config), [f"optimizer.learning_rate={point['optimizer.learning_rate']}"]))
    folder.mark("DONE", step=12, metrics={"norm": 7.5})
    monkeypatch.setenv("TRIALS", "6")
    rows, *_ = command(capsys, config, "rate", "--workdir", work)
    rows = {r["trial"]: r for r in rows}
    assert sorted(rows) == list(range(6)) and {r["state"] for r in rows.values()} == {"done"}
    assert rows[2]["overrides"] == {"optimizer.learning_rate": rate} and rows[4]["metrics"] == {"norm": 7.5}
    assert len(fake.started) == 5 and rows[2]["point"] in fake.started and rows[4]["point"] not in fake.started
    states = {t.number: t.state.name for t in study_of(optuna, work).trials}
    assert states == dict.fromkeys(range(6), "COMPLETE")


def test_failed_trials_can_be_tried_again(config, tmp_path, optuna, fake, capsys):
    fake.ends = {1: 2, 3: 143}
    rows, _, err = command(capsys, config, "rate", "--workdir", tmp_path / "s", code=1)
    states = {r["trial"]: r["state"] for r in rows}
    assert states[1] == "failed" and states[3] == "preempted", "ended by somebody else: neither told nor started again"
    assert "--retry-failed" in err and len(fake.started) == 6
    rows, *_ = command(capsys, config, "rate", "--workdir", tmp_path / "s", code=1)
    assert {r["trial"]: r["state"] for r in rows}[3] == "done" and len(fake.started) == 7
    failed = next(r["point"] for r in rows if r["state"] == "failed")
    rows, *_ = command(capsys, config, "rate", "--workdir", tmp_path / "s", "--retry-failed")
    assert len(rows) == 6 and {r["state"] for r in rows} == {"done"} and fake.started[7:] == [failed]
    assert 1 not in {r["trial"] for r in rows}, "the new trial stands for the failed one"


def test_an_unknown_metric_is_said_at_the_first_result(config, tmp_path, optuna, fake, capsys):
    *_, err = command(capsys, config, "metric", "--workdir", tmp_path / "s", code=2)
    assert "unknown metric of the search metric: 'nrom'; did you mean 'norm'?" in err.splitlines()[-1]
    assert len(fake.started) == 1


def test_a_signal_leaves_trials_to_go_on_with(config, tmp_path, optuna, fake, capsys):
    def kill(number):
        if number == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)

    fake.during = kill
    rows, _, err = command(capsys, config, "rate", "--workdir", tmp_path / "s", "--max-parallel", 2, code=75)
    assert "run the same command again to go on" in err and "preempted" in {r["state"] for r in rows}
    fake.during = lambda number: None
    again, *_ = command(capsys, config, "rate", "--workdir", tmp_path / "s", "--max-parallel", 2)
    assert len(again) == 6 and {r["state"] for r in again} == {"done"}
    before = {r["trial"]: r["overrides"] for r in rows}
    assert before == {r["trial"]: r["overrides"] for r in again if r["trial"] in before}, "the same trials went on"


def test_machines_share_a_storage(config, tmp_path, optuna, fake, capsys, monkeypatch):
    """Each with a workdir of its own: they count to one total, and leave each other's trials alone."""
    storage = ("--storage", f"sqlite:///{tmp_path / 'shared.db'}")
    monkeypatch.setenv("TRIALS", "3")
    command(capsys, config, "rate", "--workdir", tmp_path / "a", *storage)
    (name,) = optuna.get_all_study_names(storage[1])
    elsewhere = optuna.load_study(study_name=name, storage=storage[1]).ask()
    elsewhere.set_user_attr("owner", "another machine")
    monkeypatch.setenv("TRIALS", "6")
    rows, *_ = command(capsys, config, "rate", "--workdir", tmp_path / "b", *storage)
    assert len(fake.started) == 5 and len(list((tmp_path / "b" / "points").iterdir())) == 2
    assert {r["trial"]: r["state"] for r in rows} == {0: "done", 1: "done", 2: "done", 3: "running", 4: "done",
                                                     5: "done"}
    *_, err = command(capsys, config, "rate", "--workdir", tmp_path / "b", code=2)
    assert "holds another sweep (storage:" in err, "the storage is not forgotten by mistake"


@pytest.mark.slow
def test_killed_for_real(tmp_path, root, config, optuna, capsys, monkeypatch):
    """SIGKILL of the search while two real runs train; started again, every trial ends once, with the right bits."""
    work = tmp_path / "s"
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "TRIALS": "5", "PRUNER": "median"}
    argv = [sys.executable, "launch.py", "sweep", "--config", f"{config}:steps=24,save=3", "--sweep", "rate",
            "--workdir", str(work), "--max-parallel", "2", "--config.data.pause=0.1", "--config.train.eval_every=6",
            "--json", "-"]

    def start():
        return subprocess.Popen(argv, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    process, end = start(), time.time() + 120
    while sum(p.read_bytes().count(b'"train"') >= 8 for p in work.glob("points/*/metrics.jsonl")) < 2:
        assert process.poll() is None and time.time() < end, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)
    left = {t.number: t.params for t in study_of(optuna, work).trials}
    process = start()
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    rows = {r["trial"]: r for r in json.loads(out)}
    assert sorted(rows) == list(range(5)) and {r["state"] for r in rows.values()} <= {"done", "pruned"}
    assert left and all(rows[n]["overrides"] == params for n, params in left.items())
    for r in rows.values():
        if r["state"] == "done":
            alone = tmp_path / "alone" / r["point"]
            items = [f"{k}={v!r}" for k, v in r["overrides"].items()]
            train.train(config_lib.load(f"{config}:steps=24,save=3", items), str(alone), quiet=True)
            assert inspect.status(r["run"])["digest"] == inspect.status(str(alone))["digest"]
