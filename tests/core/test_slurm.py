"""SLURM for real, on one machine (`.ci/slurm` sets it up as root): two tasks as one run, and an array preempted."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genjax.core import launcher_slurm, launchers
from genjax.core.launchers import Job, Options
from genjax.errors import UserError
from genjax.viz import jsonl

pytestmark = pytest.mark.slow
STEPS = 60
CONFIG = f"tests/core/toy_config.py:steps={STEPS},save=50"


def run(*command, check=True):
    return subprocess.run(command, capture_output=True, text=True, check=check, timeout=120).stdout


@pytest.fixture(scope="module", autouse=True)
def slurm():
    """The partitions that `.ci/slurm` makes, with nothing running."""
    try:
        launcher_slurm.import_submitit()
    except UserError as e:
        pytest.skip(str(e))
    if not shutil.which("sinfo"):
        pytest.skip("no SLURM here (no sinfo): run .ci/slurm as root")
    found = subprocess.run(["sinfo", "-h", "-o", "%R %t"], capture_output=True, text=True, timeout=60)
    if found.returncode or not {"low", "high"} <= set(found.stdout.split()):
        why = " ".join(found.stderr.split())[:200]
        pytest.skip(f"SLURM does not answer with partitions low and high: run .ci/slurm as root ({why})")


def job(folder, *more, processes=1):
    args = ("train", "--config", CONFIG, "--workdir", str(folder), "--quiet", "--config.train.log_every=1", *more)
    return Job(folder.name, args, folder, processes)


def submit(capsys, jobs, **options):
    """Submits; returns the job's id and its submitit jobs."""
    submitit = launcher_slurm.import_submitit()
    capsys.readouterr()
    assert launchers.launch(jobs, Options(on="slurm", time=10, **options)) == {}
    words = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    found = [submitit.SlurmJob(jobs[0].folder.parent / "slurm", i) for i in words[1:]]
    assert len(found) == len(jobs)
    return words[1].split("_")[0], found


def state(slurm_id):
    """{array index: state} of what is still queued or running."""
    rows = run("squeue", "-h", "-r", "-j", slurm_id, "-o", "%i %T", check=False).splitlines()
    return dict(r.split() for r in rows)


def wait_until(happened, what, seconds=180):
    end = time.time() + seconds
    while not happened():
        assert time.time() < end, f"did not happen: {what}\n{run('squeue')}"
        time.sleep(0.2)


def wait_for_end(slurm_id):
    wait_until(lambda: not state(slurm_id), "the job ends")


def wait_for_steps(slurm_id, *folders):
    """Until each run has trained five steps."""
    def there():
        steps = [trained(f) for f in folders]
        logs = (Path(f"{f}.log") for f in folders)
        assert state(slurm_id), [p.read_text()[-2000:] for p in logs if p.exists()] or "ended before it began"
        return min(steps) >= 5

    wait_until(there, "it trains")


def trained(folder):
    rows = jsonl.read(folder / "metrics.jsonl") if (folder / "metrics.jsonl").exists() else []
    return len([r for r in rows if r["kind"] == "train"])


def status(root, folder):
    out = run(sys.executable, str(root / "launch.py"), "status", str(folder), "--json", "-")
    return json.loads(out)[0]


def alone(root, folder, *more):
    """The digest of a run of the same config that nothing disturbs, outside SLURM."""
    code = launchers.launch([job(folder, *more, "--config.data.pause=0")], Options())
    assert code == {folder.name: 0}, Path(f"{folder}.log").read_text()
    return status(root, folder)["digest"]


def preempt():
    """A job in `high` takes both cores for a second."""
    run("srun", "-p", "high", "-n", "2", "-c", "1", "sleep", "1")


def exit_of(slurm_id):
    """(state, exit code) of a job that has ended, from the controller."""
    words = dict(w.split("=", 1) for w in run("scontrol", "show", "job", "-o", slurm_id).split() if "=" in w)
    return words["JobState"], words["ExitCode"]


def test_an_array_is_preempted_requeued_and_goes_on(tmp_path, root, capsys, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    folders = [tmp_path / "sweep" / f"p{i}" for i in range(4)]
    jobs = [job(f, f"--config.seed={i}", "--config.data.pause=0.1") for i, f in enumerate(folders)]
    array, _ = submit(capsys, jobs, partition="low", max_parallel=2, cpus_per_task=1)
    wait_for_steps(array, *folders[:2])
    assert list(state(array).values()).count("RUNNING") == 2
    preempt()
    assert all(trained(f) < STEPS for f in folders), "preempted in the middle"
    wait_for_end(array)
    for i, f in enumerate(folders):
        found, log = status(root, f), Path(f"{f}.log").read_text()
        assert found["state"] == "done" and found["step"] == STEPS, log
        assert log.count("interrupted and saved") == (i < 2), log
        assert found["digest"] == alone(root, tmp_path / f"alone{i}", f"--config.seed={i}")
    messages = "".join(p.read_text() for p in (tmp_path / "sweep" / "slurm").glob("*.out"))
    assert messages.count("DUE TO PREEMPTION") >= 2


def test_the_signal_before_the_time_limit_requeues(tmp_path, root, capsys, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    folder = tmp_path / "run"
    slurm_id, _ = submit(capsys, [job(folder, "--config.data.pause=0.1")], partition="low", cpus_per_task=1)
    wait_for_steps(slurm_id, folder)
    run("scancel", slurm_id, "--signal", "USR2")  # as SLURM does, --signal seconds before the limit
    wait_for_end(slurm_id)
    found, log = status(root, folder), Path(f"{folder}.log").read_text()
    assert log.count("interrupted and saved") == 1 and found["state"] == "done", log
    assert found["digest"] == alone(root, tmp_path / "alone")


def test_two_tasks_are_one_run(tmp_path, root, capsys, monkeypatch):
    """Preempted too: both save the same step, and both go on."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    digests = []
    for name in ("disturbed", "undisturbed"):
        folder = tmp_path / name
        slurm_id, _ = submit(capsys, [job(folder, "--config.data.pause=0.1", processes=2)], partition="low",
                             processes=2, cpus_per_task=1)
        if name == "disturbed":
            wait_for_steps(slurm_id, folder)
            preempt()
        wait_for_end(slurm_id)
        found, log = status(root, folder), Path(f"{folder}.log").read_text()
        assert found["state"] == "done" and found["step"] == STEPS, log
        assert "on 2 x cpu" in (folder / "log.txt").read_text(), "the devices of both"
        assert log.count("interrupted and saved") == (name == "disturbed"), log
        assert exit_of(slurm_id) == ("COMPLETED", "0:0")
        digests.append(found["digest"])
    assert digests[0] == digests[1]


def test_a_failure_fails_the_job(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    folder = tmp_path / "run"
    slurm_id, (submitted,) = submit(capsys, [job(folder, "--config.widht=3")], partition="low", cpus_per_task=1)
    wait_for_end(slurm_id)
    assert exit_of(slurm_id) == ("FAILED", "1:0")
    assert "did you mean" in Path(f"{folder}.log").read_text()
    with pytest.raises(Exception, match="exit code 2"):
        submitted.result()


def test_a_cancelled_job_saves_and_stays_cancelled(tmp_path, root, capsys, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    folder = tmp_path / "run"
    slurm_id, _ = submit(capsys, [job(folder, "--config.data.pause=0.1")], partition="low", cpus_per_task=1)
    wait_for_steps(slurm_id, folder)
    run("scancel", slurm_id)
    wait_for_end(slurm_id)
    assert exit_of(slurm_id)[0] == "CANCELLED"
    assert status(root, folder)["state"] == "preempted" and trained(folder) < STEPS
