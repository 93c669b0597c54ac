"""The reliability figures' own instruments: they notice every difference, fault and hang they are there to notice.

Their smoke forms (three kills; two faults that need no root) run in test_figures.py as every figure's do, and raise
where a run does not end like the one left alone. The small forms are here, marked slow.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import launch
from experiments.reliability import _short, faults, sigkill
from genjax.core import checkpoint, figure
from genjax.core.checkpoint import Checkpoints
from genjax.core.figure import FigureRun
from genjax.core.record import Recorder
from genjax.core.run import RunFolder
from genjax.core.task import TrainState
from genjax.errors import UserError

TOY = "tests/core/toy_config.py:steps=4,save=2"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of the toy that keeps a picture; tests work on copies."""
    run = tmp_path_factory.mktemp("finished") / "run"
    argv = ["train", "--config", TOY, "--workdir", str(run), "--quiet", "--config.task.keeps=True"]
    assert launch.main(argv) == 0
    return run


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


# What must be equal


def test_a_copy_of_a_run_has_no_differences(finished, run):
    assert _short.differences(run, _short.ending(finished)) == [] and _short.unreadable(run) == ""


def replace(file, old, new):
    file.write_text(file.read_text().replace(old, new, 1))


CHANGES = {
    "metrics": lambda run: replace(run / "metrics.jsonl", "0.", "1."),
    "end": lambda run: (run / "report.html").unlink(),
    "pictures": lambda run: (run / "outputs" / "kernel.png").write_bytes(b"x"),
    "checkpoints": lambda run: shutil.copytree(run / "checkpoints" / "2", run / "checkpoints" / "1"),
    "litter": lambda run: (run / "samples" / ".step-x1y2z3w4.png").write_text("x"),
    "state": lambda run: shutil.rmtree(run / "checkpoints" / "4"),
    "snapshot": lambda run: np.savez(run / "snapshots" / "step_00000004.npz", w=np.zeros(1),
                                     __meta__=np.frombuffer(b"{}", np.uint8)),
}


@pytest.mark.parametrize("part", CHANGES)
def test_every_difference_is_seen(finished, run, part):
    CHANGES[part](run)
    assert part in _short.differences(run, _short.ending(finished))


def test_an_end_that_cannot_be_read_is_a_difference(finished, run):
    expected = _short.ending(finished)
    shutil.rmtree(run / "snapshots")
    (found,) = _short.differences(run, expected)
    assert "no snapshot" in found


def test_unreadable_files_are_told(run, tmp_path):
    for file in ("metrics.jsonl", "snapshots/step_00000004.npz", "config.json"):
        copy = shutil.copytree(run, tmp_path / "damaged", dirs_exist_ok=True)
        data = (copy / file).read_bytes()
        (copy / file).write_bytes(data[: len(data) // 3] + b"\n}" + data[len(data) // 2:])
        assert file.split("/")[-1] in _short.unreadable(copy), file
    for p in (run / "checkpoints" / "4" / "state").rglob("*"):
        if p.is_file():
            p.write_bytes(b"x")
    assert _short.unreadable(run).startswith("unreadable")
    assert _short.unreadable(tmp_path / "none") == "", "a run killed before it began is none"


# Kills


def test_moments_are_spread_over_the_run_and_always_the_same():
    kinds, steps = set(), []
    for i in range(20):
        found = sigkill.moments(i, 5)
        assert found == sigkill.moments(i, 5) and len(found) == 5
        assert [m.step for m in found] == sorted(m.step for m in found) and found[-1].step < _short.STEPS
        assert found[0].what in ("folder", "config", "start", "step") and found[-1].what in ("end", "save", "between")
        assert all(0 <= m.delay <= sigkill.DELAYS[m.what] for m in found)
        kinds |= {m.what for m in found}
        steps += [m.step for m in found]
    assert kinds == set(sigkill.DELAYS) and len(set(steps)) > 25 and len(sigkill.moments(0, 3)) == 3


@pytest.fixture
def folder(tmp_path):
    """A run folder in the making: write(steps=.., starts=.., saved=.., saving=..)."""
    def write(steps=0, starts=(), saved=(), saving=None):
        (tmp_path / "log.txt").write_text("".join(
            f"now INFO resuming x at step {s} of 40 on 1 x cpu; the first step compiles\n" for s in starts))
        (tmp_path / "metrics.jsonl").write_text("".join(f'{{"step": {i}, "kind": "train"}}\n' for i in range(steps)))
        for name in (*saved, *([f"{saving}.orbax-checkpoint-tmp"] if saving else [])):
            (tmp_path / "checkpoints" / str(name)).mkdir(parents=True)
        return tmp_path
    return write


def test_what_a_killed_process_was_doing(folder):
    assert sigkill.phase(folder(), 0, 0) == ("starting or compiling", 0)
    assert sigkill.phase(folder(starts=[0]), 0, 0) == ("starting or compiling", 0)
    assert sigkill.phase(folder(starts=[0]), 0, 3) == ("between saves", 3)
    assert sigkill.phase(folder(starts=[0, 8], saved=[8]), 1, 8) == ("starting or compiling", 8)
    assert sigkill.phase(folder(starts=[0, 8]), 1, 9) == ("between saves", 9)
    path = folder(starts=[0, 8], saving=16)
    assert sigkill.phase(path, 1, 17) == ("in a save", 17)
    assert sigkill.phase(path, 2, 30) == ("starting or compiling", 8), "another start's rows and half-written save"
    shutil.rmtree(path / "checkpoints")
    assert sigkill.phase(path, 1, 40) == ("ending", 40)
    (path / "DONE").write_text("{}")
    assert sigkill.phase(path, 2, 40) == ("ending", 40)


def test_moments_come_when_they_should(folder):
    run = folder(starts=[0], steps=20, saved=[16])
    seen = {w: sigkill.seen(run, sigkill.Moment(w, 10, 0.0), lambda: 20) for w in sigkill.DELAYS}
    assert {w for w, s in seen.items() if s()} == {"folder", "start"}, "20 rows are the start's before"
    (run / "config.json").write_text("{}")
    folder(starts=[0, 16])
    assert {w for w, s in seen.items() if s()} == {"folder", "start", "config", "step", "between"}
    (run / "checkpoints" / "24.orbax-checkpoint-tmp").mkdir()
    assert {w for w, s in seen.items() if s()} == {"folder", "start", "config", "step", "save"}
    late = sigkill.seen(run, sigkill.Moment("end", 10, 0.0), lambda: 40)
    assert not late()
    folder(starts=[0, 16, 16])
    assert late()


class FakeRun:
    """A `verify.Run` without processes."""

    def __init__(self, folder, lives=9, digest="good", fails=False):
        self.folder, self.lives, self.digest, self.fails, self.starts = folder, lives, digest, fails, 0

    def steps(self):
        return 0

    def interrupt(self, when, delay):
        if self.fails:
            raise UserError("exit code 1: it broke")
        self.starts += 1
        self.lives -= 1
        return self.lives >= 0

    def finish(self):
        return self.digest


def test_a_disturbed_run_is_compared_with_the_one_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(_short, "differences", lambda folder, expected: [])
    aims = sigkill.moments(0, 5)

    def outcome(**kwargs):
        return sigkill.disturbed(FakeRun(tmp_path, **kwargs), aims, lambda: {"state": "good"})

    row = outcome()
    assert len(row["kills"]) == row["starts"] == 5 and row["equal"] and not row["differs"] and not row["unreadable"]
    assert len(outcome(lives=2)["kills"]) == 2, "it ended before the third"
    assert not outcome(digest="other")["equal"]
    row = outcome(fails=True)
    assert not row["equal"] and row["differs"] == ["exit code 1: it broke"]
    (tmp_path / "corrupt" / "8").mkdir(parents=True)
    assert outcome()["unreadable"] == ["checkpoint 8 was set aside"]
    monkeypatch.setattr(_short, "unreadable", lambda folder: "bad")
    assert outcome()["unreadable"][:5] == ["bad"] * 5


def a_kill(i=0, **more):
    kills = [{"aim": "save", "phase": "in a save", "step": 9 * i, "unreadable": ""}] * 3
    return {"name": f"killed_{i}", "kills": kills, "starts": 4, "digest": "d", "equal": True, "differs": [],
            "unreadable": [], **more}


@pytest.mark.parametrize("wrong", [{"equal": False, "differs": ["state"]}, {"unreadable": ["bad"]},
                                   {"differs": ["metrics"]}])
def test_one_bad_run_fails_the_figure_at_every_scale(tmp_path, wrong):
    good = FigureRun("reliability/sigkill", "small", tmp_path, None, True)
    sigkill.report(good, [a_kill(0), a_kill(1)], 6, 6)
    assert good.passed and (tmp_path / "kills.png").exists()
    bad = FigureRun("reliability/sigkill", "small", tmp_path, None, True)
    sigkill.report(bad, [a_kill(0), a_kill(1, **wrong)], 6, 6)
    assert not bad.passed
    smoke = FigureRun("reliability/sigkill", "smoke", tmp_path, None, True)
    with pytest.raises(UserError, match="killed_1: "):
        sigkill.report(smoke, [a_kill(0), a_kill(1, **wrong)], 6, 6)


def test_missed_kills_are_made_up_for_and_an_interrupted_call_goes_on(tmp_path, monkeypatch):
    made = []

    def disturbed(run, aims, expected):
        made.append(run.folder.name)
        return {k: v for k, v in a_kill().items() if k != "name"}  # three kills, whatever was asked for

    monkeypatch.setattr(sigkill, "disturbed", disturbed)
    monkeypatch.setattr(_short, "left_alone", lambda fig: SimpleNamespace(result=dict))
    fig = FigureRun("reliability/sigkill", "small", tmp_path, None, True)
    sigkill.run(fig)
    assert len(made) == len(set(made)) == 10 and fig.rows[0]["got"] == 30 and fig.passed
    lines = (tmp_path / "kills.jsonl").read_text().splitlines()
    (tmp_path / "kills.jsonl").write_text("\n".join(lines[:4]) + "\n")
    sigkill.run(again := FigureRun("reliability/sigkill", "small", tmp_path, None, True))
    kept = {json.loads(line)["name"] for line in lines[:4]}  # two runs go at a time: lines come in any order
    assert sorted(made[10:]) == sorted(set(made[:10]) - kept) and again.rows == fig.rows


def test_a_folder_in_use_is_not_swept_away(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    with run.lock(), pytest.raises(UserError, match="in use by a process of an earlier call"):
        _short.fresh(run.path)
    assert _short.fresh(run.path) == run.path and not run.path.exists()


# Faults


def strike(tmp_path, monkeypatch, script, codes, fault=None, good=0):
    """Strikes a run whose process is a Python script; returns the row."""
    monkeypatch.setattr(faults, "PATIENCE", 1.0)
    monkeypatch.setattr(_short, "differences", lambda folder, expected: [])

    @contextlib.contextmanager
    def plain(case):
        case.good = good
        yield

    monkeypatch.setitem(faults.FAULTS, "test", (fault or plain, codes))
    case = faults.Case(tmp_path / "run", tmp_path, tmp_path)
    log = "import pathlib; pathlib.Path('log.txt').write_text('x at step 8 of 40; the first step compiles\\n');"
    case.run.argv = [sys.executable, "-c", log + script]
    monkeypatch.setattr(case.run, "env", {**os.environ})
    case.folder.mkdir()
    monkeypatch.chdir(case.folder)
    return faults.strike("test", case, dict)


SAYS = "import sys; sys.stderr.write('error: no\\n'); sys.exit(2)"


@pytest.mark.parametrize(("script", "codes", "good", "problem"), [
    ("", [0], 8, None),
    (SAYS, [2], 8, None),
    ("", [0], 16, "it went on from step 8, not 16"),
    (SAYS, [0], 8, "exit codes [2], not [0]"),
    ("import sys; sys.exit(2)", [2], 8, "it said 0 lines"),
    ("import sys; sys.stderr.write('a\\nb\\n')", [0], 8, "it said 2 lines"),
    ("import time; time.sleep(30)", [0], 8, "exit codes [-9], not [0]"),
])
def test_a_fault_is_judged(tmp_path, monkeypatch, script, codes, good, problem):
    row = strike(tmp_path, monkeypatch, script, codes, good=good)
    assert row["problems"][:1] == ([problem] if problem else []), row
    if "sleep" in script:
        assert "hung for" in row["said"]


def test_a_fault_that_cannot_be_made_is_skipped_and_one_that_breaks_is_told(tmp_path, monkeypatch):
    @contextlib.contextmanager
    def refused(case):
        faults._command("false")
        yield

    assert strike(tmp_path, monkeypatch, "", [0], refused) == {"skipped": "false was refused: 1"}

    @contextlib.contextmanager
    def broken(case):
        raise UserError("written over")
        yield

    (tmp_path / "run").rename(tmp_path / "old")
    assert strike(tmp_path, monkeypatch, "", [0], broken)["problems"][0] == "written over"


def test_the_clock_of_that_fault_falls_back(tmp_path):
    (tmp_path / "now.py").write_text("import time, sys; print(sys.argv, time.time(), time.time_ns())")
    argv = [sys.executable, "-c", faults.CLOCK, str(tmp_path / "now.py"), "train"]
    out = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    names, seconds, nanoseconds = out.rsplit(maxsplit=2)
    assert names == str([str(tmp_path / "now.py"), "train"])
    assert 364 < (time.time() - float(seconds)) / 86400 < 370 and abs(float(nanoseconds) / 1e9 - float(seconds)) < 86400


# What the faults found


def test_a_failing_write_of_metrics_is_one_line(tmp_path):
    recorder = Recorder(RunFolder(tmp_path), 4, 0, quiet=True)

    def full(*args):
        raise OSError(28, "No space left on device")

    recorder._jsonl.write = full
    with pytest.raises(UserError, match="No space left on device; make room and run the same command again"):
        recorder.steps(0, {"loss": np.zeros(1)}, 1)


def test_a_folder_that_cannot_be_locked_is_one_line(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(UserError, match="cannot write the run folder .*; mend that and run the same command again"):
        with RunFolder(tmp_path).lock():
            pass


def state(step):
    return TrainState(jnp.int32(step), {"w": jnp.full((3,), float(step))})


def test_a_checkpoint_folder_that_takes_none_is_one_line_and_nobody_waits_for_it(tmp_path, monkeypatch):
    saver = Checkpoints(tmp_path / "c")
    before, mkdir = set(threading.enumerate()), Path.mkdir

    def refuse(self, *args, **kwargs):
        if self.parent == tmp_path / "c":
            raise PermissionError(1, "Operation not permitted", str(self))
        return mkdir(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match="Operation not permitted; make it writable and run the same command again"):
        saver.save(state(1))
    assert not set(threading.enumerate()) - before, "Orbax's threads would keep the process for 300 s"
    monkeypatch.undo()
    saver.save(state(2))
    saver.close()
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["2"]


def test_dropped_reads_and_writes_are_not_told_one_by_one(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    checkpoint._silence_dropped_work()
    checkpoint._silence_dropped_work()
    for file in ("/lib/orbax/checkpoint/serialization.py", "/home/me/mine.py"):
        code = SimpleNamespace(co_filename=file)
        sys.unraisablehook(SimpleNamespace(object=SimpleNamespace(cr_code=code)))
    sys.unraisablehook(SimpleNamespace(object=None))
    assert len(told) == 2
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        checkpoint._silence_dropped_work()
        for text in ("coroutine 'write' was never awaited", "something else"):
            warnings.warn(text, RuntimeWarning, stacklevel=1)
    assert [str(w.message) for w in heard] == ["something else"]


def test_a_save_that_timed_out_is_one_line(tmp_path, monkeypatch):
    saver = Checkpoints(tmp_path / "c")

    def late(*args, **kwargs):
        raise TimeoutError("ChainedFuture completed 3/4 futures but timed out after 6873.53 seconds.")

    monkeypatch.setattr(saver._manager, "save", late)
    with pytest.raises(UserError, match="timed out; see whether the disk is slow or the clock leapt and run"):
        saver.save(state(1))


def test_a_run_killed_before_it_deleted_an_old_checkpoint_deletes_it_when_it_goes_on(tmp_path):
    saver = Checkpoints(tmp_path / "c", keep=5)
    for step in (1, 2, 3):
        saver.save(state(step))
    saver.close()
    saver = Checkpoints(tmp_path / "c", keep=2)
    assert int(saver.restore(abstract(state(0))).step) == 3
    saver.close()
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["2", "3"]


def abstract(tree):
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


# The small forms


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reliability/faults", "reliability/sigkill"])
def test_figure_at_small_scale(name, tmp_path):
    fig = figure.reproduce(name, "small", str(tmp_path), None, quiet=True)
    assert fig.passed and sum(r["pass"] is True for r in fig.rows) >= 4, fig.rows
