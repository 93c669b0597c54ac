"""What guards a run: one process per folder, verify-resume, profiles, deterministic mode, plans that cannot fit."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.ad_checkpoint import print_saved_residuals

import launch
from genjax.core import backend, plan, verify
from genjax.core import config as config_lib
from genjax.core import train as train_lib
from genjax.core.experiment import Programs
from genjax.core.run import RunFolder
from genjax.errors import UserError

TOY = "tests/core/toy_config.py"


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """Compiled programs of these tests stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as m:
        m.setenv("GENJAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def toy(*overrides, **arg):
    text = ",".join(f"{k}={v}" for k, v in arg.items())
    return config_lib.load(f"{TOY}:{text}", overrides)


def test_two_processes_in_one_folder_are_refused(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert not folder.busy()
    folder.create(toy())
    with folder.lock():
        assert folder.busy()
        code = "import sys; from genjax.core import config, train; train.train(config.load(sys.argv[1]), sys.argv[2])"
        done = subprocess.run([sys.executable, "-c", code, TOY, str(tmp_path / "run")], capture_output=True, text=True,
                              env={**os.environ, "JAX_PLATFORMS": "cpu"})
        assert f"--workdir {tmp_path / 'run'} is in use by process {os.getpid()} on" in done.stderr.splitlines()[-1]
        assert not (tmp_path / "run" / "FAILED").exists(), "the run of the other process is not touched"
    assert not folder.busy()
    assert train_lib.train(toy(steps=2), tmp_path / "run", quiet=True).step == 2


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    run = verify.Run(tmp_path / "run", ["--config", f"{TOY}:steps=30,save=3", "--config.data.pause=0.05"])
    assert run.interrupt(lambda: run.steps() >= 4 and RunFolder(tmp_path / "run").busy())
    assert not RunFolder(tmp_path / "run").busy()


def test_verify_resume(tmp_path, capsys):
    argv = ["verify-resume", "--config", TOY, "--config.data.pause=0.03", "--kills", "1", "--steps", "12"]
    assert launch.main([*argv, "--workdir", str(tmp_path / "v"), "--json", str(tmp_path / "v.json")]) == 0
    rows = json.loads((tmp_path / "v.json").read_text())
    assert [r["run"] for r in rows] == ["left alone", "killed", "stopped"] and len({r["digest"] for r in rows}) == 1
    assert all(r["starts"] == 2 and 1 <= r["interrupted_at"][0] <= 12 for r in rows[1:])
    assert capsys.readouterr().out.count("equal") == 2


def test_verify_resume_finds_a_difference(tmp_path, monkeypatch):
    # Digests that differ stand in for a task whose state is not whole: none of ours is.
    found = iter("abc")
    monkeypatch.setattr(verify.Run, "finish", lambda self: next(found))
    monkeypatch.setattr(verify.Run, "interrupt", lambda self, *_: True)
    monkeypatch.setattr(verify.Run, "losses", lambda self: [])
    rows = verify.verify(TOY, [], False, 12, 1, 0, str(tmp_path / "v"), tell=lambda _: None)
    assert [r["equal"] for r in rows] == [True, False, False]


def test_verify_resume_refuses(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    for steps, kills, folder, says in ((12, 2, tmp_path, "holds other files"), (2, 2, "x", "--steps"),
                                       (12, -1, "x", "--kills")):
        with pytest.raises(UserError, match=says):
            verify.verify(TOY, [], False, steps, kills, 0, str(folder))
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_a_failing_run_is_one_line(tmp_path, capsys):
    argv = ["verify-resume", "--config", TOY, "--config.data.poison=1", "--workdir", str(tmp_path / "v")]
    assert launch.main(argv) == 2
    assert "exit code 2: error: the loss is nan at step 1" in capsys.readouterr().err


@pytest.mark.parametrize("calls", [1, 3])
def test_profile(tmp_path, calls):
    train_lib.train(toy(f"train.steps_per_call={calls}"), tmp_path / "run", quiet=True, profile=(4, 6))
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))
    assert "profile of steps 4 to 6" in (tmp_path / "run" / "log.txt").read_text()


def test_profile_past_the_end_is_written_too(tmp_path):
    train_lib.train(toy(steps=5), tmp_path / "run", quiet=True, profile=(3, 50))
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))


@pytest.mark.parametrize("text", ["5", "5:", "a:b", "5:5", "6:2", "-1:3"])
def test_bad_profile(text):
    with pytest.raises(UserError, match="--profile .* is not FROM:TO"):
        train_lib.profile_steps(text)


def test_deterministic_is_handed_to_xla_and_noted(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=")
    backend.start(deterministic=True)
    assert os.environ["XLA_FLAGS"] == f"--xla_dump_to= {backend.DETERMINISTIC}"
    from genjax.core.run import environment

    assert backend.DETERMINISTIC in environment()["xla_flags"]


def test_plan_refuses_what_cannot_fit(capsys):
    found = plan.plan(toy())
    sizes = found["bytes_per_device"]
    assert found["fits"] and sizes["state"] < sizes["total"] < sizes["available"]
    plan.check(found)
    assert launch.main(["plan", "--config", TOY, "--device-memory", "1e-6"]) == 2
    said = capsys.readouterr()
    assert "networks:" in said.out and said.err.strip().splitlines()[-1].startswith("error: does not fit: a step needs")


def test_rematerialised_gradients_are_the_same_and_keep_less(capsys):
    config = config_lib.smoke(config_lib.load("dip/denoise"))
    kept, grads = [], []
    for remat in (False, True):
        experiment = config_lib.build(config_lib.override(config, [f"task.remat={remat}"]))
        programs = Programs(experiment)
        state, batch, task = programs.init(), programs.put(0, 1), experiment.task
        one = {k: v[0] for k, v in batch.items()}
        params = jax.tree.map(lambda x: x[0], state.params)

        def loss(params, task=task, z=state.extra["z"][0], one=one):
            from genjax.core.task import rematerialised

            return rematerialised(task._loss, task.remat)(params, z, one)[0]

        print_saved_residuals(loss, params)
        lines = capsys.readouterr().out.splitlines()
        kept.append(sum("argument" not in line for line in lines))
        grads.append(jax.jit(jax.grad(loss))(params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *grads)
    assert kept[1] < kept[0] / 2


def test_micro_batches_that_do_not_divide():
    task = config_lib.build(toy("task.micro_batches=3")).task
    data = config_lib.build(toy()).data
    state = task.init(jax.random.key(0), data.element_spec)
    with pytest.raises(UserError, match="a batch of 8 does not divide into 3 micro-batches"):
        task.step(state, data.batch(0), jax.random.key(0))
    with pytest.raises(UserError, match="micro_batches must be at least 1"):
        config_lib.build(toy("task.micro_batches=0"))
