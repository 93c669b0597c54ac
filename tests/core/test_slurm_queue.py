"""What SLURM has, it is not given twice: with stand-ins for sbatch and squeue, which need no SLURM."""

import json
import os
import signal
import time
from types import SimpleNamespace

import pytest

import launch
from genjax.core import config as config_lib
from genjax.core import launcher_slurm, launchers, sweep_run
from genjax.core.launchers import Job, Options
from genjax.core.run import RunFolder
from genjax.errors import UserError

TOY = "tests/core/toy_config.py"
CONFIG = '''
"""The toy with a sweep."""

from genjax.core.sweep import grid
from tests.core.toy_config import get_config

def sweep_rates():
    return grid({"optimizer.learning_rate": (0.1, 0.01)})
'''


class Slurm:
    """Stand-ins on PATH; `queue` is what squeue prints, None lets it fail."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        for name in ("sbatch", "srun", "squeue"):
            (folder / name).write_text(f'#!/bin/sh\n[ {name} = squeue ] && exec cat {folder}/queue\n'
                                       f'echo x >> {folder}/submitted; echo "Submitted batch job 42"\n')
            (folder / name).chmod(0o755)
        self.queue("")

    def queue(self, said):
        (self.folder / "queue").unlink(missing_ok=True)
        if said is not None:
            (self.folder / "queue").write_text(said)

    @property
    def submitted(self):
        file = self.folder / "submitted"
        return file.read_text().count("x") if file.exists() else 0


def import_submitit():
    """The module; without it the test is skipped."""
    try:
        return launcher_slurm.import_submitit()
    except UserError as e:
        pytest.skip(str(e))


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    import_submitit()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return Slurm(tmp_path / "bin")


@pytest.fixture
def sweep(tmp_path, capsys):
    """Runs the verb; returns its exit code, its rows and what it said."""
    (tmp_path / "config.py").write_text(CONFIG)

    def run(*more):
        capsys.readouterr()
        rows = tmp_path / "rows.json"
        rows.unlink(missing_ok=True)
        code = launch.main(["sweep", "--config", str(tmp_path / "config.py"), "--sweep", "rates", "--on", "slurm",
                            "--workdir", str(tmp_path / "sweep"), "--json", str(rows), *more])
        return code, json.loads(rows.read_text()) if rows.exists() else None, capsys.readouterr().err

    return run


def test_a_queue_that_does_not_answer_is_no_empty_one(slurm, sweep, tmp_path):
    assert sweep()[0] == 0 and slurm.submitted == 1
    slurm.queue(None)
    code, _, err = sweep()
    assert code == 2 and slurm.submitted == 1 and err.count("\n") == 1
    assert "which of 2 submitted points wait there is not known" in err and "queue.json" in err
    assert sweep("--status")[0] == sweep("--dry-run")[0] == 0 and slurm.submitted == 1, "looking needs no queue"
    (tmp_path / "sweep" / "queue.json").write_text("{")
    slurm.queue("")
    assert "queue.json is not readable" in sweep()[2]


def test_a_kill_between_submission_and_note_forgets_nothing(slurm, sweep, tmp_path, monkeypatch):
    given = []

    def killed(jobs, options, tick=None):
        given.extend(jobs)
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(sweep_run, "launch", killed)
        assert sweep()[0] == 130
    token = launcher_slurm.token(given)
    slurm.queue(f"42_0 {token}\n42_1 {token}\n7 (null)\n")
    assert sweep()[0] == 0 and slurm.submitted == 0
    slurm.queue(f"42_1 {token}\n")  # the first left the queue
    assert sweep()[0] == 0 and slurm.submitted == 1
    kept = json.loads((tmp_path / "sweep" / "queue.json").read_text())
    assert kept == {given[0].name: "42", given[1].name: f"{token}:1"}


def test_the_mark_in_the_queue_is_the_runs_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jobs = [Job(n, (), tmp_path / "s" / n) for n in "ab"]
    again = [Job(n, ("x",), (tmp_path / "s" / n).relative_to(tmp_path)) for n in "ab"]
    assert launcher_slurm.token(jobs) == launcher_slurm.token(again)
    others = {launcher_slurm.token(j) for j in (jobs, jobs[:1], jobs[::-1], [Job("a", (), tmp_path / "a")])}
    assert len(others) == 4


def test_a_run_is_not_submitted_beside_itself(slurm, tmp_path, capsys):
    argv = ["train", "--config", TOY, "--on", "slurm", "--workdir", str(tmp_path / "runs" / "a")]
    assert launch.main(argv) == 0
    job = Job("a", (), tmp_path / "runs" / "a")
    slurm.queue(f"42 {launcher_slurm.token([job])}\n")
    capsys.readouterr()
    assert launch.main(argv) == 2 and slurm.submitted == 1
    err = capsys.readouterr().err
    assert "error: job 42 trains in" in err and "scancel 42" in err and err.count("\n") == 1
    assert launch.main([*argv[:-1], str(tmp_path / "runs" / "b")]) == 0, "another folder"
    slurm.queue(None)
    with pytest.raises(UserError, match="squeue does not say which jobs"):
        launchers.launch([job], Options(on="slurm"))
    assert slurm.submitted == 2


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    """A run's attempt in a task of SLURM: `attempt(code, said)` is how its process ends."""
    submitit = import_submitit()
    monkeypatch.setattr(submitit, "JobEnvironment", lambda: SimpleNamespace(USR_SIG="USR2", global_rank=0))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    job = Job("a", ("train",), tmp_path / "a")

    def run(code, said, processes=1):
        one = launcher_slurm.Attempt(Job(job.name, job.args, job.folder, processes))
        job.log().write_text(said)
        monkeypatch.setattr(one, "_run", lambda *a, **k: code)
        with pytest.raises(RuntimeError, match=f"exit code {code}"):
            one()
        return RunFolder(job.folder)

    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
    before = [signal.getsignal(s) for s in signals]
    yield run
    for s, handler in zip(signals, before, strict=True):
        signal.signal(s, handler)


@pytest.mark.parametrize("said, reason", [("starting\nerror: no such picture\n", "no such picture"),
                                          ("Segmentation fault\n", "exit code 139 (Segmentation fault)"),
                                          ("", "exit code 139")])
def test_a_crash_leaves_a_mark(tmp_path, attempt, said, reason):
    folder = RunFolder(tmp_path / "a")
    folder.create(config_lib.load(TOY))
    assert attempt(139, said).state() == ("failed", {"step": 0, "reason": reason, "exit_code": 139,
                                                      "time": folder.state()[1]["time"]})


def test_other_ends_keep_their_mark(tmp_path, attempt):
    folder = RunFolder(tmp_path / "a")
    folder.create(config_lib.load(TOY))
    assert attempt(75, "").state()[0] == "running", "another task is gone, whose failure it is"
    with folder.lock():
        assert attempt(2, "error: it is in use").state()[0] == "running", "the run of another process"
        assert attempt(1, "error: broken", processes=2).state()[0] == "running"
    for mark, info, now in (("PREEMPTED", {"step": 5}, "failed"), ("PREEMPTED", {"stopped": True}, "preempted"),
                            ("DONE", {}, "done"), ("FAILED", {"reason": "the loss is nan"}, "failed")):
        folder.mark(mark, **info)
        state, found = attempt(1, "error: broken").state()
        assert state == now and found.get("reason") == (info.get("reason") or (now == "failed" and "broken") or None)


def test_a_point_that_crashed_before_it_had_a_folder_waits_to_be_retried(slurm, sweep, tmp_path):
    sweep()
    first, second = json.loads((tmp_path / "sweep" / "queue.json").read_text())
    name = next(n for n in json.loads((tmp_path / "sweep" / "sweep.json").read_text())["points"] if n.endswith(first))
    (tmp_path / "sweep" / "points" / f"{name}.log").write_text("error: no such picture\n")
    _, rows, _ = sweep("--status")
    assert {r["point"]: (r["state"], r["reason"]) for r in rows} == {
        first: ("failed", "no such picture"), second: ("waiting", "")}
    sweep()
    assert slurm.submitted == 2 and json.loads((tmp_path / "sweep" / "queue.json").read_text())[second] == "42"
    slurm.queue("42\n")
    sweep()
    assert slurm.submitted == 2, "it stays failed"
    sweep("--retry-failed")
    assert slurm.submitted == 3
