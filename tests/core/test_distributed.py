"""Several real processes on loopback: the same bits however many there are, killed and resumed, stopped together."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import launch
from genjax.core import config as config_lib
from genjax.core import distributed
from genjax.core import train as train_lib
from genjax.core.checkpoint import Checkpoints
from genjax.core.checkpoint import digest as state_digest
from genjax.core.task import TrainState
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


def again_if_aborted(test):
    """Once more where a process was aborted: a thread of the runtime's collectives may throw when its connection
    breaks, before the watch has ended the process in order. Seen twice in some hundred runs, on a busy machine."""
    @functools.wraps(test)
    def run(tmp_path, **given):
        try:
            test(tmp_path=_made(tmp_path / "first"), **given)
        except AssertionError as e:
            if str(-signal.SIGABRT) not in str(e):
                raise
            test(tmp_path=_made(tmp_path / "second"), **given)

    return run


def _made(folder):
    folder.mkdir()
    return folder


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
@again_if_aborted
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


def test_a_signal_after_the_end_holds_nobody_up(root, two, tmp_path):
    """jax's farewell would wait three minutes for a process that has nothing more to ask."""
    run = tmp_path / "run"
    these = Processes(root, run, 2)
    end = time.time() + 120
    while not (run / "DONE").exists():
        assert time.time() < end
        time.sleep(0.005)
    these.all[0].send_signal(signal.SIGTERM)
    began = time.time()
    codes, said = these.end()
    assert codes == [0, 0] and time.time() - began < 30, said


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


@again_if_aborted
def test_one_crashes_and_nobody_waits(root, tmp_path):
    began = time.time()
    these = Processes(root, tmp_path / "run", 2, "--config.data.crash=8")
    said = [p.communicate(timeout=120)[1] for p in these.all]
    assert [p.returncode for p in these.all] == [PREEMPTED_EXIT, 1] and time.time() - began < 60, said
    assert "process 1 of this run is gone" in said[0] and "a mistake in this process alone" in said[1]


def test_where_process_0_cannot_begin_nobody_waits(root, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    codes, said = Processes(root, tmp_path / "file", 2).end()
    assert codes == [2, 2] and "is a file" in said[0] and said[1] == said[0]


def test_where_process_0_cannot_log_nobody_waits(root, tmp_path):
    (tmp_path / "run" / "log.txt").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text(config_lib.to_json(config_lib.load(CONFIG[0], [
        "mesh.fsdp=2", f"sharding={RULES}"])))
    began = time.time()
    codes, said = Processes(root, tmp_path / "run", 2).end()
    assert codes == [2, 2] and time.time() - began < 60
    assert "cannot write the run folder" in said[0] and said[1] == said[0]


@pytest.fixture(scope="module")
def agreed(root, tmp_path_factory):
    """What the two processes of two_processes.py had, and their folder."""
    folder = tmp_path_factory.mktemp("agreed")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(root)}
    argv = [sys.executable, "tests/core/two_processes.py", str(folder), str(port)]
    both = [subprocess.Popen([*argv, str(i)], cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True) for i in range(2)]
    try:
        said = [p.communicate(timeout=120) for p in both]
    except subprocess.TimeoutExpired:
        pytest.fail("one process waits for the other")
    finally:
        for p in both:
            p.kill()
    assert [p.returncode for p in both] == [0, 0], said
    return folder, [json.loads(out.splitlines()[-1]) for out, _ in said]


def test_each_process_restores_its_part(agreed):
    assert [found["none"] for found in agreed[1]] == [[2, True]] * 2


@pytest.mark.parametrize("damage", ["flip", "truncate", "forget"])
def test_what_one_process_cannot_read_sends_all_to_the_checkpoint_before(agreed, damage):
    folder, both = agreed
    assert [found[damage] for found in both] == [[1, True]] * 2
    assert [p.name for p in (folder / damage / "corrupt").iterdir()] == ["2"]


def test_failures_that_are_no_damage_move_nothing(agreed):
    folder, both = agreed
    assert "process 1 of this run could not read checkpoint 2" in both[0]["files"]
    assert "Too many open files; allow more open files" in both[1]["files"]
    assert all("none of the checkpoints [2, 1]" in found["all"] for found in both)
    for name in ("files", "all"):
        assert not (folder / name / "corrupt").exists()
        assert {p.name for p in (folder / name / "checkpoints").iterdir()} == {"1", "2"}


def test_one_process_reads_what_two_have_written(agreed):
    folder, _ = agreed
    w = np.random.default_rng(2).normal(size=(2, 4000)).astype(np.float32)
    state = TrainState(jnp.int32(2), {"w": jnp.asarray(w), "b": jnp.arange(3000.0)})
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    saver = Checkpoints(folder / "saved" / "checkpoints")
    got = saver.restore(jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), state))
    saver.close()
    assert state_digest(got) == state_digest(state)


def test_process_0_tells_all(agreed):
    zero, one = agreed[1]
    assert zero["value"] == one["value"] == ["done", {"step": 3, "path": "ä" * 300}]
    assert zero["os"] == one["os"] == ("UserError: log.txt: No space left on device; mend that and run the same command"
                                       " again")
    assert zero["user"] == one["user"] == "UserError: mend it"
    assert zero["bug"] == "KeyError: 'x'" and "process 0 of this run failed (KeyError)" in one["bug"]
    assert zero["votes"] == one["votes"] == [5, 6]


def test_every_process_has_process_0s_word_on_how_a_run_ended(monkeypatch, tmp_path):
    """On a file system that lags, another sees DONE late, or still."""
    config = config_lib.load("tests/core/toy_config.py:steps=2")
    train_lib.train(config, tmp_path / "run", quiet=True)
    monkeypatch.setattr(distributed, "from_main", lambda call: ("running", {}) if call.__name__ == "state" else call())
    went = []
    monkeypatch.setattr(train_lib._Loop, "run", lambda self, signals: went.append(self.step))
    train_lib.train(config, tmp_path / "run", quiet=True)
    assert went == [2], "this process would have returned by itself"


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
