"""A run killed at any moment and started again ends with the same bits as one that was left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

import launch
from genjax.core.train import PREEMPTED_EXIT
from genjax.viz import jsonl

STEPS = 30
# Slow batches make a run of 1 s to hit; saves every 3 steps make most moments near one.
CONFIG = (f"tests/core/toy_config.py:steps={STEPS},save=3", "--config.data.pause=0.03")


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """Compiled programs of these tests stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as m:
        m.setenv("GENJAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def start(root, run, *more):
    """Starts `launch.py train`, with optimised code as users run it; the same command starts and goes on."""
    argv = ["launch.py", "train", "--config", *CONFIG, "--workdir", str(run), "--quiet", *more]
    return subprocess.Popen([sys.executable, *argv], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""})


def wait_for(process, happened, seconds=120):
    """Waits until `happened()` or the process ends; returns whether it still runs."""
    end = time.time() + seconds
    while process.poll() is None and not happened():
        assert time.time() < end, "nothing happened"
        time.sleep(0.002)
    return process.poll() is None


def finish(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def status(capsys, run):
    capsys.readouterr()
    assert launch.main(["status", str(run), "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)[0]


def train_rows(run):
    return [r for r in jsonl.read(run / "metrics.jsonl") if r["kind"] == "train"]


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    """The same run left alone."""
    run = tmp_path_factory.mktemp("whole") / "run"
    code, _, err = finish(start(root, run, "--config.data.pause=0"))
    assert code == 0, err
    return run


def moments(run, rng):
    """Moments to kill at: as the folder appears, in the middle of a save, at a random step, as it ends."""
    def reached(step):
        file = run / "metrics.jsonl"
        return file.exists() and file.read_bytes().count(b'"kind": "train"') >= step

    step = rng.randrange(4, STEPS - 4)
    delay = rng.uniform(0, 0.1)
    return {
        "folder": (run.exists, 0.0),
        "config": ((run / "config.json").exists, rng.uniform(0, 0.3)),
        "save": (lambda: any("tmp" in p.name for p in (run / "checkpoints").glob("*")), rng.uniform(0, 0.003)),
        "step": (lambda: reached(step), delay),
        "end": (lambda: any((run / "snapshots").glob("*")) and (run / "checkpoints" / str(STEPS)).exists(), 0.0),
    }


def kill_and_finish(root, run, names, seed):
    """Kills the run at each of the moments, one after the other, then lets it end."""
    rng, killed = random.Random(seed), []
    for name in names:
        happened, delay = moments(run, rng)[name]
        process = start(root, run)
        if wait_for(process, happened):
            time.sleep(delay)
        process.kill()
        code, _, err = finish(process)
        killed.append(code == -signal.SIGKILL)
        assert code in (-signal.SIGKILL, 0), err
    code, _, err = finish(start(root, run))
    assert code == 0, err
    return killed


def assert_same(capsys, run, whole):
    got, want = status(capsys, run), status(capsys, whole)
    assert got["state"] == "done" and got["step"] == STEPS and got["digest"] == want["digest"]
    assert got["metrics"] == want["metrics"]
    assert train_rows(run) == train_rows(whole), "every step once, with the values of the run left alone"
    assert {p.name for p in (run / "checkpoints").iterdir()} == {str(STEPS - 3), str(STEPS)}, "nothing half-written"


def test_killed_runs_end_with_the_same_bits(tmp_path, root, capsys, whole):
    killed = kill_and_finish(root, tmp_path / "run", ["folder", "save", "step"], seed=1)
    assert killed == [True] * 3
    assert_same(capsys, tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_killed_runs_end_with_the_same_bits_many_times(tmp_path, root, capsys, whole, seed):
    names = random.Random(100 + seed).choices(["folder", "config", "save", "step", "step", "end"], k=5)
    kill_and_finish(root, tmp_path / "run", names, seed)
    assert_same(capsys, tmp_path / "run", whole)


def test_sigterm_saves_and_asks_to_be_resumed(tmp_path, root, capsys, whole):
    run = tmp_path / "run"
    process = start(root, run)
    assert wait_for(process, lambda: (run / "metrics.jsonl").exists() and len(train_rows(run)) >= 5)
    process.terminate()
    code, _, err = finish(process)
    assert code == PREEMPTED_EXIT == 75, err
    row = status(capsys, run)
    assert row["state"] == "preempted" and 5 <= row["step"] < STEPS
    assert err.strip().endswith("run the same command again to go on") and f"step {row['step']};" in err
    assert json.loads((run / "PREEMPTED").read_text())["step"] == row["step"]
    saved = [int(p.name) for p in (run / "checkpoints").iterdir()]
    assert max(saved) == row["step"], "the state at the signal is saved, not the last interval's"
    code, _, err = finish(start(root, run))
    assert code == 0 and f"resuming {run} at step {row['step']} of {STEPS}" in (run / "log.txt").read_text(), err
    assert not (run / "PREEMPTED").exists() and (run / "DONE").exists()
    got, want = status(capsys, run), status(capsys, whole)
    assert got["digest"] == want["digest"] and train_rows(run) == train_rows(whole)


def test_a_second_signal_stops_at_once(tmp_path, root, capsys):
    run = tmp_path / "run"
    process = start(root, run, "--config.data.pause=20", "--config.data.slow_from=2")
    assert wait_for(process, lambda: (run / "metrics.jsonl").exists() and len(train_rows(run)) >= 1)
    time.sleep(0.3)  # now it waits for its third batch
    began = time.time()
    process.terminate()
    time.sleep(0.3)
    assert process.poll() is None, "the first signal waits for the step"
    process.terminate()
    code, _, err = finish(process)
    assert code == 130 and time.time() - began < 10 and err.strip().endswith("interrupted")
    assert status(capsys, run)["state"] == "interrupted", "no mark: nothing was saved, the next start goes on"
