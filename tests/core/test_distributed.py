"""Several real processes on loopback: the same bits however many there are, killed and resumed, stopped together."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

import launch
from genjax.core import distributed
from genjax.core.train import PREEMPTED_EXIT
from genjax.errors import UserError
from genjax.viz import jsonl

STEPS, DEVICES = 24, 4
RULES = "'first/kernel -> shard_dim(1, tensor)','second/kernel -> fsdp(min_size=64)','.* -> replicate'"
CONFIG = (f"tests/core/toy_config.py:steps={STEPS},save=5", "--config.mesh.fsdp=2", f"--config.sharding={RULES}")


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """Compiled programs of these tests stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as m:
        m.setenv("GENJAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


class Processes:
    """`launch.py train` as `n` processes that share DEVICES devices."""

    def __init__(self, root, run, n, *more):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(DEVICES // n)}
        argv = [sys.executable, "launch.py", "train", "--config", *CONFIG, "--workdir", str(run), "--quiet", *more]
        flags = [["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(n), "--process-id", str(i)]
                 for i in range(n)] if n > 1 else [[]]
        self.run = run
        self.all = [subprocess.Popen([*argv, *f], cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                     text=True) for f in flags]

    def reach(self, step):
        """Waits until metrics of `step` are written."""
        file, end = self.run / "metrics.jsonl", time.time() + 120
        while not (file.exists() and file.read_bytes().count(b'"kind": "train"') > step):
            assert time.time() < end and all(p.poll() is None for p in self.all), [p.communicate() for p in self.all]
            time.sleep(0.01)
        return self

    def end(self):
        """Exit codes, and what was said on stderr without the libraries' lines."""
        said = [p.communicate(timeout=180)[1] for p in self.all]
        ours = ("error:", "interrupted")
        return [p.returncode for p in self.all], [
            "".join(line for line in text.splitlines(keepends=True) if line.startswith(ours)) for text in said]


def digest(capsys, run):
    capsys.readouterr()
    assert launch.main(["status", str(run), "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)[0]
    return found["state"], found["step"], found["digest"]


def losses(run):
    return [r["loss"] for r in jsonl.read(run / "metrics.jsonl") if r["kind"] == "train"]


@pytest.fixture(scope="module")
def two(tmp_path_factory, root):
    """An undisturbed run of two processes."""
    run = tmp_path_factory.mktemp("two") / "run"
    codes, said = Processes(root, run, 2).end()
    assert codes == [0, 0], said
    return run


def test_the_number_of_processes_does_not_change_the_bits(root, two, tmp_path, capsys):
    for n in (4, 1):
        codes, said = Processes(root, tmp_path / str(n), n).end()
        assert codes == [0] * n, said
    assert digest(capsys, tmp_path / "4") == digest(capsys, two)
    assert losses(tmp_path / "4") == losses(two) and len(losses(two)) == STEPS
    # One process sums in another order.
    assert losses(tmp_path / "1") == pytest.approx(losses(two), rel=1e-5)
    assert not list(two.glob("*.tmp")) and (two / "report.html").exists()


@pytest.mark.parametrize("victim", [0, 1])
def test_one_killed_the_other_says_so_and_both_resume(root, two, tmp_path, capsys, victim):
    run = tmp_path / "run"
    these = Processes(root, run, 2, "--config.data.pause=0.05").reach(12)
    these.all[victim].kill()
    began = time.time()
    codes, said = these.end()
    assert codes[1 - victim] == PREEMPTED_EXIT and time.time() - began < 20
    assert said[1 - victim] == (f"error: process {victim} of this run is gone; start all of them again to go on from"
                                " the newest checkpoint\n")
    codes, said = Processes(root, run, 2, "--config.data.pause=0.05").end()
    assert codes == [0, 0], said
    assert digest(capsys, run) == digest(capsys, two)


def test_a_signal_to_one_saves_the_same_step_in_all(root, two, tmp_path, capsys):
    run = tmp_path / "run"
    these = Processes(root, run, 2, "--config.data.pause=0.05").reach(6)
    these.all[1].send_signal(signal.SIGTERM)
    codes, said = these.end()
    assert codes == [PREEMPTED_EXIT] * 2, said
    state, step, _ = digest(capsys, run)
    assert state == "preempted" and 6 < step < STEPS
    assert said[0].startswith(f"interrupted and saved at step {step}")
    codes, said = Processes(root, run, 2, "--config.data.pause=0.05").end()
    assert codes == [0, 0], said
    assert digest(capsys, run) == digest(capsys, two)


def test_where_all_fail_each_says_why(root, tmp_path):
    codes, said = Processes(root, tmp_path / "run", 2, "--config.data.poison=3").end()
    assert codes == [2, 2] and all("the loss is nan at step 3" in s for s in said)


def test_one_crashes_and_nobody_waits(root, tmp_path):
    began = time.time()
    these = Processes(root, tmp_path / "run", 2, "--config.data.crash=8")
    said = [p.communicate(timeout=120)[1] for p in these.all]
    assert [p.returncode for p in these.all] == [PREEMPTED_EXIT, 1] and time.time() - began < 60
    assert "process 1 of this run is gone" in said[0] and "a mistake in this process alone" in said[1]


def test_where_process_0_cannot_begin_nobody_waits(root, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    codes, said = Processes(root, tmp_path / "file", 2).end()
    assert codes == [2, 2] and "is a file" in said[0] and "process 0 of this run could not go on" in said[1]


@pytest.mark.parametrize("given,says", [
    (("127.0.0.1:1234", None, None), "--num-processes, --process-id missing"),
    (("127.0.0.1", 2, 0), "not HOST:PORT"), (("host:99999", 2, 0), "not HOST:PORT"),
    (("host:1234", 2, 2), "--process-id 2 of --num-processes 2"), (("host:1234", 0, 0), "from 0 to")])
def test_flags_that_make_no_sense(given, says):
    with pytest.raises(UserError, match=says):
        distributed.start(*given)


def test_alone_nothing_is_joined(monkeypatch):
    distributed.start("host:1234", 1, 0)
    for name in ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    distributed.start()
    assert not distributed.several() and distributed.main()
