"""What guards a run: one process per folder, verify-resume, profiles, deterministic mode, plans that cannot fit."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.ad_checkpoint import print_saved_residuals

import launch
from genjax.core import backend, distributed, estimate, launchers, plan, verify
from genjax.core import config as config_lib
from genjax.core import train as train_lib
from genjax.core.experiment import Programs
from genjax.core.run import RunFolder
from genjax.core.sweep_points import Target
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


@pytest.mark.parametrize("name", ["killed", "stopped"])
def test_verify_resume_without_an_interruption_is_no_proof(tmp_path, monkeypatch, name):
    """Killed after its end is not killed."""
    monkeypatch.setattr(verify.Run, "finish", lambda self: "a")
    monkeypatch.setattr(verify.Run, "losses", lambda self: [])

    def interrupt(self, when, delay, sig):
        done = self.folder.name == name
        if done and name == "killed":
            self.folder.mkdir()
            (self.folder / "DONE").write_text("{}")
        return not done or name == "killed"

    monkeypatch.setattr(verify.Run, "interrupt", interrupt)
    with pytest.raises(UserError, match=f"the run to be {name} ended before .*give more --steps, e.g. --steps 120"):
        verify.verify(TOY, [], False, 12, 2, 0, str(tmp_path / "v"), tell=lambda _: None)
    if name == "killed":
        return
    rows = verify.verify(TOY, [], False, 12, 0, 0, str(tmp_path / "w"), tell=lambda _: None)
    assert not any(r["interrupted_at"] for r in rows), "none was asked for"


def test_verify_resume_leaves_a_living_one_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(verify.Run, "finish", lambda self: "a")
    monkeypatch.setattr(verify.Run, "losses", lambda self: [])
    said = []

    def again():
        with pytest.raises(UserError, match="another verify-resume, or a run of one, works in") as e:
            verify.verify(TOY, [], False, 12, 1, 0, str(tmp_path / "v"))
        said.append(e.value)

    def interrupt(self, *_):
        self.folder.mkdir(exist_ok=True)
        again()
        return self.folder.is_dir()

    monkeypatch.setattr(verify.Run, "interrupt", interrupt)
    for _ in range(2):  # once it is over, the next one may
        verify.verify(TOY, [], False, 12, 1, 0, str(tmp_path / "v"), tell=lambda _: None)
    assert len(said) == 4
    with RunFolder(tmp_path / "v" / "killed").lock():  # of a call that was killed
        again()
    assert (tmp_path / "v" / "killed").is_dir()


def test_what_only_looks_leaves_the_devices_to_the_runs(tmp_path, root):
    """A backend that started would be refused here, as a GPU would be held there."""
    train_lib.train(toy(steps=2), tmp_path / "run", quiet=True)
    report = (tmp_path / "run" / "report.html")
    code = ("import sys; sys.path.insert(0, '.'); import launch; run = sys.argv[1]\n"
            "for argv in (['list'], ['show', '--config', run], ['diff', run, run], ['status', run], ['report', run]):\n"
            "    if argv[0] == 'show': argv[2] += '/config.json'\n"
            "    assert launch.main(argv) == 0, argv\n"
            "import jax; print(jax.default_backend())")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], cwd=root, capture_output=True, text=True,
                          env={**os.environ, "JAX_PLATFORMS": "abacus"})
    assert done.returncode == 0 and done.stdout.endswith("cpu\n") and report.exists(), done.stderr


@pytest.mark.parametrize("argv", [["verify-resume", "--config", TOY], ["train", "--config", TOY, "--processes", "2"]])
def test_what_starts_others_leaves_the_devices_to_them(tmp_path, monkeypatch, argv):
    seen = []
    monkeypatch.setattr(backend, "leave_devices", lambda: seen.append("left"))
    monkeypatch.setattr(backend, "start", lambda: seen.append("taken"))
    monkeypatch.setattr(verify, "verify", lambda *a, **k: [])
    monkeypatch.setattr(launchers, "train", lambda *a: 0)
    assert launch.main([*argv, "--workdir", str(tmp_path / "x")]) == 0 and seen == ["left"]


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


@pytest.mark.parametrize(("calls", "steps"), [(10, (11, 14)), (5, (0, 2)), (4, (7, 9))])
def test_steps_inside_a_call_are_profiled(tmp_path, calls, steps):
    config = toy(f"train.steps_per_call={calls}", steps=20, save=0)
    train_lib.train(config, tmp_path / "run", quiet=True, profile=steps)
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))


def test_a_profile_of_nothing_is_one_line(tmp_path, caplog):
    for steps, trained in ((5, "trained steps 0 to 4"), (5, "trained no step")):
        caplog.clear()
        train_lib.train(toy(steps=steps), tmp_path / "run", quiet=True, profile=(50, 60))
        (said,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING" and r.name == "genjax"]
        assert said.startswith(f"--profile 50:60 traced nothing: this start {trained};") and "\n" not in said
    assert not (tmp_path / "run" / "profile").exists()


@pytest.mark.parametrize("text", ["5", "5:", "a:b", "5:5", "6:2", "-1:3"])
def test_bad_profile(text):
    with pytest.raises(UserError, match="--profile .* is not FROM:TO"):
        train_lib.profile_steps(text)


def test_deterministic_is_handed_to_xla_and_noted(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=")
    for _ in range(2):
        backend.deterministic()
        assert os.environ["XLA_FLAGS"] == f"--xla_dump_to= {backend.DETERMINISTIC}"
    from genjax.core.run import environment

    assert backend.DETERMINISTIC in environment()["xla_flags"]


def test_deterministic_comes_before_the_processes_meet(monkeypatch):
    """Where several meet, the backend starts, which reads XLA_FLAGS."""
    monkeypatch.setenv("XLA_FLAGS", "")
    seen = []

    def start(*flags):
        seen.append(os.environ["XLA_FLAGS"])
        raise UserError("enough")

    monkeypatch.setattr(distributed, "start", start)
    assert launch.main(["train", "--config", TOY, "--deterministic"]) == 2 and seen == [backend.DETERMINISTIC]


def test_deterministic_is_handed_on(tmp_path, monkeypatch):
    argv = []
    monkeypatch.setattr(verify.Run, "finish", lambda self: argv.append(self.argv) or "a")
    monkeypatch.setattr(verify.Run, "interrupt", lambda self, *_: True)
    monkeypatch.setattr(verify.Run, "losses", lambda self: [])
    monkeypatch.setenv("XLA_FLAGS", "")
    assert launch.main(["verify-resume", "--config", TOY, "--deterministic", "--workdir", str(tmp_path / "v")]) == 0
    assert len(argv) == 3 and all("--deterministic" in a for a in argv) and os.environ["XLA_FLAGS"] == ""
    target = Target(TOY, "rates", (), False, tmp_path, deterministic=True)
    assert "--deterministic" in target.job({}, 1).args and "--deterministic" in target.command()
    assert target.identity() == dataclasses.replace(target, deterministic=False).identity()


def test_plan_refuses_what_cannot_fit(capsys):
    found = plan.plan(toy())
    sizes = found["bytes_per_device"]
    assert found["fits"] and 2 * sizes["state"] < sizes["total"] < sizes["available"]
    assert sizes["save_copy"] == sizes["state"] and "copy of the state while saving" in plan.text(found)
    plan.check(found, toy())
    assert launch.main(["plan", "--config", TOY, "--device-memory", "1e-6"]) == 2
    said = capsys.readouterr()
    assert "networks:" in said.out and said.err.strip().splitlines()[-1].startswith("error: does not fit: a step needs")
    advice = said.err.strip().splitlines()[-1].partition("; ")[2]
    assert advice == ("lower config.data.batch_size, set config.task.micro_batches or config.task.remat, or split the"
                      " state with config.mesh.fsdp"), "keys that this config has"
    # What the step alone needs is too little: a checkpoint is written from a copy of the state.
    step = (sizes["total"] - sizes["save_copy"]) / 2**30
    assert not plan.plan(toy(), step)["fits"] and plan.plan(toy(), sizes["total"] / 2**30)["fits"]


def test_plan_says_what_costs_nothing_before_it_compiles(monkeypatch, capsys, tmp_path):
    lower, said = jax.stages.Traced.lower, []
    monkeypatch.setattr(jax.stages.Traced, "lower", lambda self, *args, **more: (
        said.append(capsys.readouterr().out), lower(self, *args, **more))[1])
    monkeypatch.setattr(estimate, "rate", lambda: 2e9)
    assert launch.main(["plan", "--config", TOY, "--json", str(tmp_path / "plan.json")]) == 0
    first, rest = "".join(said), capsys.readouterr().out
    assert "params/" in first and [line.split(":")[0] for line in first.splitlines()[-4:]] == [
        "networks", "mesh", "per step", "kept"]
    assert "per device: " in rest and "time: " in rest and "an estimate" in rest
    found = json.loads((tmp_path / "plan.json").read_text())
    assert {"networks", "bytes_per_device", "flops_per_step", "mesh", "shardings", "estimate"} <= found.keys()
    assert found["estimate"]["seconds_per_step"] == found["flops_per_step"] / 2e9
    assert found["estimate"]["seconds"] == found["estimate"]["steps"] * found["estimate"]["seconds_per_step"]


@pytest.mark.parametrize("size", ["nan", "inf", "-5", "0"])
def test_memory_that_is_no_size(capsys, size):
    assert launch.main(["plan", "--config", TOY, "--device-memory", size]) == 2
    err = capsys.readouterr().err
    assert f"error: --device-memory {size} is no size of a memory" in err and err.count("\n") == 1


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
