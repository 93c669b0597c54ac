"""What a user can get wrong: one line on stderr that names the fix, exit code 2, and nothing half-written.

The line and the code are checked through `launch.main`; the folder a mistake was made in must be as it was before.
"""

import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

import launch
from genjax.core import config as config_lib
from genjax.core import inspect as inspect_lib
from genjax.core.checkpoint import save_snapshot
from genjax.verbs import VERBS

TOY = "tests/core/toy_config.py"
TRAIN = ("train", "--config", TOY, "--workdir", "{dir}/new", "--quiet")
PLAN = ("plan", "--config", TOY)


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """Compiled programs of these tests stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as m:
        m.setenv("GENJAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of the toy, four steps; tests work on copies."""
    run = tmp_path_factory.mktemp("finished") / "run"
    assert launch.main(["train", "--config", f"{TOY}:steps=4,save=2", "--workdir", str(run), "--quiet"]) == 0
    return run


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(finished, tmp_path / "run")


def tree(folder):
    """Every file under a folder with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def refused(capsys, folder, *argv, unchanged=True):
    """Runs a command that must fail; returns its one line."""
    before = tree(folder)
    capsys.readouterr()
    code = launch.main([str(a).replace("{dir}", str(folder)) for a in argv])
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), (code, out, err)
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1, err
    assert 15 < len(err) < 500
    if unchanged:
        after = tree(folder)
        assert after.keys() == before.keys() and after == before
    return err[len("error: "):-1]


# The command line

COMMAND_LINE = [
    ((), "required: VERB; python launch.py --help explains"),
    (("trian",), "unknown verb 'trian'; did you mean 'train'"),
    (("train",), "--config; python launch.py train --help"),
    (("train", "--confg", TOY), "unknown argument of train: '--confg'; did you mean '--config'?"),
    (("train", "-config", TOY), "unknown argument of train: '-config'; did you mean '--config'?"),
    (("train", "--hepl"), "did you mean '--help'?"), (("train", "help"), "did you mean --help?"),
    (("sample", "{dir}", "--n", "4"), "did you mean '-n'?"),
    ((*TRAIN, "--epochs", "3"), "did you mean --config.train.steps='3 epochs'?"),
    ((*TRAIN, "--quite"), "unknown argument of train: '--quite'; did you mean '--quiet'"),
    ((*TRAIN, "more"), "unknown argument of train: 'more'"),
    ((*TRAIN, "a/b.py"), "unknown argument of train: 'a/b.py'; valid"),
    (("train", TOY), f"train takes its config by name: write --config {TOY}"),
    ((*TRAIN, "--steps", "5"), "did you mean --config.train.steps=5?"),
    ((*TRAIN, "--lr=1e-3"), "did you mean --config.optimizer.learning_rate=1e-3?"),
    ((*TRAIN, "--batch-size", "8"), "did you mean --config.data.batch_size=8?"),
    ((*TRAIN, "--task.hidden=8"), "did you mean --config.task.hidden=8?"),
    ((*TRAIN, "train.steps=5"), "did you mean --config.train.steps=5?"),
    ((*TRAIN, "width=5"), "did you mean --config.width=5?"),
    ((*TRAIN, "--outdir", "x"), "did you mean '--workdir'?"),
    ((*TRAIN, "help"), "did you mean --help?"),
    (("help", "trian"), "unknown verb 'trian'; did you mean 'train'"),
    ((*TRAIN, "--config.optimizer.lr=1"), "no key 'lr'; did you mean 'learning_rate'?"),
    ((*TRAIN, "--config.train.epochs=1"), "no key 'epochs'; did you mean 'steps'?"),
    ((*TRAIN, "--config.lr=1"), "did you mean config.optimizer.learning_rate?"),
    ((*TRAIN, "--config.hidden=1"), "did you mean config.task.hidden?"),
    ((*TRAIN, "--config.train.steps"), "--config.train.steps has no value: write --config.train.steps=VALUE"),
    (("list", "--config.seed=1"), "list takes no --config.KEY overrides"),
    (("sample", "{dir}", "-n", "few"), "-n: invalid int value: 'few'"),
    (("sample",), "required: run; python launch.py sample --help"),
    (("diff", TOY), "required: b"),
    (("reproduce", "dip/restoration", "--scale", "huge"), "invalid choice: 'huge'"),
    (("bench", "dpi"), "unknown benchmark 'dpi'; did you mean 'dip'"),
    (("bench", "dip", "--repeats", "0"), "--repeats must be at least 1"),
]


@pytest.mark.parametrize(("argv", "message"), COMMAND_LINE)
def test_command_line(capsys, tmp_path, argv, message):
    assert message in refused(capsys, tmp_path, *argv)


def test_figures(capsys, tmp_path, monkeypatch):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "fig1.py").write_text('"""A figure."""\ndef run(fig):\n    pass\n')
    (tmp_path / "toy" / "bad.py").write_text('"""A figure."""\ndef run(fig)\n    pass\n')
    monkeypatch.setattr(inspect_lib, "EXPERIMENTS", tmp_path)
    assert "unknown figure 'toy/fig2'; did you mean 'toy/fig1'" in refused(capsys, tmp_path, "reproduce", "toy/fig2")
    found = refused(capsys, tmp_path, "reproduce", "toy/fig1", "--images", "{dir}/none", "--workdir", "{dir}/out")
    assert "none does not exist; give a picture or a folder" in found
    assert "bad.py:2: " in refused(capsys, tmp_path, "reproduce", "toy/bad", "--workdir", "{dir}/out")
    found = refused(capsys, tmp_path, "reproduce", "toy/fig1", "--workdir", "{dir}/toy/fig1.py/out")
    assert "choose another --workdir" in found
    assert launch.main(["list"]) == 0 and "toy/bad" in (out := capsys.readouterr().out) and "(not readable: " in out


# Config files

FILES = {
    "syntax.py": ("def get_config(arg='')\n    return 1\n", "syntax.py:1: expected ':'"),
    "none.py": ("x = 1\n", "none.py defines no get_config(arg)"),
    "noarg.py": ("def get_config():\n    return 1\n", "noarg.py defines no get_config(arg)"),
    "name.py": ("def get_config(arg=''):\n    x = 1\n    return nod('a')\n", "name.py:3: NameError"),
    "imports.py": ("from genjax.core.config import nod\n", "imports.py:1: ImportError"),
    "returns.py": ("def get_config(arg=''):\n    return {}\n", "root must come from genjax.core.config.experiment"),
    "broken.json": ("{", "broken.json: the saved config is not readable JSON"),
}


@pytest.mark.parametrize("name", FILES)
def test_config_files(capsys, tmp_path, name):
    text, message = FILES[name]
    (tmp_path / name).write_text(text)
    for verb in ("show", "plan"):
        assert message in refused(capsys, tmp_path, verb, "--config", f"{{dir}}/{name}")


CONFIGS = [
    ("dip/denois", "unknown config file 'dip/denois'; did you mean 'configs/dip/denoise.py'"),
    ("configs/dip", "unknown config file"),
    ("README.md", "unknown config file"),
    ("dip/denoise:smal", "unknown structural argument 'smal'; did you mean 'small'"),
    ("dip/denoise:sigma=high", "structural argument sigma must be int, got 'high'"),
    ("dip/denoise:sigma", "structural argument sigma needs a value: write sigma=25"),
    ("dip/inpaint_hole:network=unett", "unknown network 'unett'; did you mean 'unet'"),
    (f"{TOY}:task=ToyTsk", "unknown target in tests.core.toy 'ToyTsk'; did you mean 'ToyTask'"),
]


@pytest.mark.parametrize(("config", "message"), CONFIGS)
def test_configs_and_their_arguments(capsys, tmp_path, config, message):
    argv = ("train", "--config", config, "--workdir", "{dir}/new", "--quiet")
    assert message in refused(capsys, tmp_path, *argv)


# Keys and values

VALUES = [
    ("trian.steps=3", "no key 'trian'; did you mean 'train'"),
    ("train.step=3", "no key 'step'; did you mean 'steps'"),
    ("seed.x=3", "config.seed is a value"),
    ("optimizer=3", "config.optimizer is a node"),
    ("seed=abc", "config.seed must be int, got 'abc'"),
    ("seed=1.5", "config.seed must be int"),
    ("seed=99999999999999999999", "config.seed must be from 0 to 4294967295, got 99999999999999999999"),
    ("seed=-1", "config.seed must be from 0 to 4294967295"),
    ("optimizer.learning_rate=fast", "config.optimizer.learning_rate must be float"),
    ("optimizer.learning_rate=-1", "learning_rate must not be negative"),
    ("optimizer.schedule=cosin", "did you mean 'cosine'"),
    ("optimizer.schedule=linear", "needs decay_steps > 0"),
    ("optimizer.nesterov=1", "no key 'nesterov'"),
    ("optimizer.target=genjax.core.optim.adamm", "did you mean 'adam'"),
    ("optimizer.target=genjax.core.sharding.MeshSpec", "config.task.optimizer must be a GradientTransformation"),
    ("task.optimizer=@optimzer", "did you mean 'optimizer'"),
    ("task.target=tests.core.toy.ToyData", "it lacks methods of the Task protocol"),
    ("data.target=genjax.core.sharding.MeshSpec", "config.data builds a MeshSpec: it lacks batch"),
    ("data.batch_size=0", "a batch needs at least 1 element"),
    ("data.batch_size=-8", "a batch needs at least 1 element"),
    ("train.steps=-5", "config.train.steps: -5 is no duration"),
    ("train.steps=0", "config.train.steps must be at least 1, got 0"),
    ("train.steps=soon", "'soon' is no duration; write e.g."),
    ("train.steps=1.2.3", "'1.2.3' is no duration"),
    ("train.save_every=3 weeks", "config.train.save_every: '3 weeks' is no duration"),
    ("train.steps_per_call=0", "config.train.steps_per_call must be at least 1"),
    ("train.keep=0", "config.train.keep must be at least 1"),
    ("mesh.data=8", "config.mesh asks for 8 devices, 1 are here"),
    ("mesh.data=0", "sizes must be positive"),
    ("mesh.tensor=-1", "one may be -1"),
    ("sharding=kernle -> replicate,.* -> replicate", "'kernle -> replicate' matches none of the"),
    ("sharding=.* -> replicate,kernel -> fsdp", "'kernel -> fsdp' is never reached"),
    ("sharding=kernel -> replicate", "no sharding rule matches"),
    ("sharding=( -> replicate", "bad regex"),
    ("sharding=.* -> shard_dim(0, dta)", "did you mean 'data'"),
    ("sharding=.* -> shard_dim(data)", "missing a required argument"),
    ("sharding=.* -> spread", "unknown sharding rule"),
    ("sharding=replicate", "not of the form 'regex -> rule'"),
]


@pytest.mark.parametrize(("item", "message"), VALUES)
def test_keys_and_values_are_refused_before_anything_is_written(capsys, tmp_path, item, message):
    assert message in refused(capsys, tmp_path, *TRAIN, f"--config.{item}")


PICTURES = [
    ("dip/denoise", "image={dir}/none.png", "none.png"),
    ("dip/denoise", "image={dir}/text.png", "text.png"),
    ("dip/denoise", "image={dir}/empty", "empty"),
    ("dip/denoise", "image=builtin:photos/astronut", "astronaut"),
    ("dip/denoise", "image=", "no picture given"),
    ("dip/denoise", "data.sigma=-1", "sigma"),
    ("dip/denoise", "data.size=-4", "size"),
    ("dip/denoise", "data.problem=denose", "did you mean 'denoise'"),
    ("dip/denoise", "mask=text", "only read by problem=inpaint"),
    ("dip/denoise", "task.network.out_channels=1", "config.task.network.out_channels"),
    ("dip/denoise", "task.ema_decay=1", "ema_decay must be in [0,1)"),
    ("dip/inpaint_text", "mask={dir}/none.png", "none.png"),
    ("dip/inpaint_text", "mask=txt", "did you mean 'text'"),
    ("dip/super_resolution", "task.factor=8", "make config.task.factor and config.data.factor agree"),
    ("dip/flash", "data.guide=", "guide"),
]


@pytest.mark.parametrize(("config", "item", "message"), PICTURES)
def test_pictures_and_problems_are_refused_before_anything_is_written(capsys, tmp_path, config, item, message):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty").mkdir()
    argv = ("train", "--config", config, "--workdir", "{dir}/new", "--quiet", f"--config.{item}")
    assert message in refused(capsys, tmp_path, *argv)


# Workdirs


def test_workdirs_that_cannot_be(capsys, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    train = ("train", "--config", TOY, "--quiet", "--workdir")
    assert "is a file; name a folder" in refused(capsys, tmp_path, *train, "{dir}/file")
    assert "cannot write the run folder" in refused(capsys, tmp_path, *train, "{dir}/file/run")
    assert "cannot write the run folder" in refused(capsys, tmp_path, *train, "/proc/run")
    assert "File name too long" in refused(capsys, tmp_path, *train, "{dir}/" + "x" * 300)
    assert "holds other files and no run" in refused(capsys, tmp_path, *train, "{dir}/mine")


def test_a_workdir_of_another_config_is_left_alone(capsys, run, tmp_path):
    argv = ("train", "--config", f"{TOY}:steps=4,save=2", "--workdir", run, "--quiet")
    found = refused(capsys, tmp_path, *argv, "--config.task.hidden=64")
    assert "holds a run of another config (1 keys differ, first config.task.hidden: 32 there, 64 here)" in found


def test_a_folder_left_by_a_run_killed_at_its_first_moment_is_taken_up(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".config-x1y2z3w4.json").write_text("{")
    argv = ["train", "--config", f"{TOY}:steps=1", "--workdir", str(folder), "--quiet"]
    assert launch.main(argv) == 0
    assert [p.name for p in folder.rglob(".*")] == [".lock"], "temporaries of a killed run are cleared"


def test_a_finished_run_that_is_started_again_keeps_its_metrics(run):
    before = (run / "metrics.jsonl").read_bytes()
    assert b'"kind": "eval"' in before
    assert launch.main(["train", "--config", str(run / "config.json"), "--workdir", str(run), "--quiet"]) == 0
    assert (run / "metrics.jsonl").read_bytes() == before


def test_another_architecture_in_the_checkpoints(capsys, run, tmp_path):
    wide = tmp_path / "wide"
    argv = ["train", "--config", f"{TOY}:steps=4,save=2", "--quiet", "--config.task.hidden=64", "--workdir", str(wide)]
    assert launch.main(argv) == 0
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(wide / "checkpoints", run / "checkpoints")
    found = refused(capsys, tmp_path, "train", "--config", run / "config.json", "--workdir", run, "--quiet",
                    unchanged=False)
    assert "does not fit this config" in found and "[16, 64]" in found and "[16, 32]" in found
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["2", "4"]
    found = refused(capsys, tmp_path, "eval", run, "--snapshot", wide / "snapshots" / "step_00000004.npz")
    assert "does not fit this run's config" in found and "[16, 64]" in found


def test_no_readable_checkpoint(capsys, run, tmp_path):
    for step in ("2", "4"):
        shutil.rmtree(run / "checkpoints" / step / "state")
    found = refused(capsys, tmp_path, "train", "--config", run / "config.json", "--workdir", run, "--quiet",
                    unchanged=False)
    assert "none of the checkpoints [4, 2]" in found and "start over at step 0" in found


# Verbs on runs


@pytest.mark.parametrize("verb", ["status", "report", "eval", "sample"])
def test_not_a_run_folder(capsys, tmp_path, verb):
    (tmp_path / "file").write_text("x")
    for path in ("{dir}", "{dir}/file"):
        assert "is not a run folder: it has no config.json" in refused(capsys, tmp_path, verb, path)
    (tmp_path / "dcgan-small").mkdir()
    assert f"no folder {tmp_path}/dcgan-smal; did you mean" in refused(capsys, tmp_path, verb, "{dir}/dcgan-smal")
    assert "name the folder of a run" in refused(capsys, tmp_path, verb, "{dir}/none/none")


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"\xff\xfe", b'{"target": 5}', b'{"a.b": 1}',
    b'{"target": "genjax.core.experiment.Experiment", "task": {"target": "gone.Task"}}'])
@pytest.mark.parametrize("verb", ["status", "report", "eval", "sample"])
def test_a_damaged_config_json(capsys, tmp_path, verb, content):
    (tmp_path / "config.json").write_bytes(content)
    if verb == "status" and b"gone.Task" in content:
        return  # it resolves no config, and shows such runs
    assert "config.json" in refused(capsys, tmp_path, verb, "{dir}")


def test_samples(capsys, run, tmp_path):
    assert "-n must be at least 1, got 0" in refused(capsys, tmp_path, "sample", run, "-n", 0)
    assert "-n must be at least 1, got -3" in refused(capsys, tmp_path, "sample", run, "-n", -3)
    assert "--seed must be from 0 to" in refused(capsys, tmp_path, "sample", run, "--seed", 10**20)
    for out in ("s.xyz", "s.jpg", "s"):
        found = refused(capsys, tmp_path, "sample", run, "--out", f"{{dir}}/{out}")
        assert f"{out}: samples are written as PNG; name a file that ends in .png" in found
    assert "no snapshot" in refused(capsys, tmp_path, "sample", run, "--snapshot", "{dir}/none.npz")
    assert "cannot write" in refused(capsys, tmp_path, "sample", run, "--out", run / "DONE" / "x.png")
    shutil.rmtree(run / "snapshots")
    shutil.rmtree(run / "checkpoints")
    assert "has no snapshot or checkpoint yet; train it" in refused(capsys, tmp_path, "sample", run)
    assert "has no snapshot or checkpoint yet; train it" in refused(capsys, tmp_path, "eval", run)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "foreign"])
def test_damaged_snapshots(capsys, run, tmp_path, damage):
    file = run / "snapshots" / "step_00000004.npz"
    if damage == "foreign":
        save_snapshot(file, {"other": np.zeros(3)}, {"step": 4})
    else:
        data = file.read_bytes()
        file.write_bytes({"truncated": data[: len(data) // 2], "empty": b"", "text": b"hello"}[damage])
    found = refused(capsys, tmp_path, "eval", run)
    assert "step_00000004.npz" in found and ("not a readable genjax snapshot" in found or "does not fit" in found)


def test_damaged_metrics_and_marks(capsys, run, tmp_path):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join([*lines[:2], "garbage", *lines[2:]]))
    assert "metrics.jsonl line 3 is not a JSON object" in refused(capsys, tmp_path, "status", run)
    (run / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 9, "ki']))
    for mark in ("", "{", "[]", "5"):
        (run / "DONE").write_text(mark)
        assert launch.main(["status", str(run), "--json", "-"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert row["state"] == "done" and row["step"] == 4 and len(row["digest"]) == 64
    argv = ["train", "--config", str(run / "config.json"), "--workdir", str(run), "--quiet"]
    assert launch.main(argv) == 0 and launch.main(["report", str(run)]) == 0


def test_diffs_and_tables(capsys, run, tmp_path):
    assert "unknown config file" in refused(capsys, tmp_path, "diff", TOY, "{dir}/none.py")
    assert "not a run folder" in refused(capsys, tmp_path, "diff", TOY, "{dir}")
    (tmp_path / "file").write_text("x")
    capsys.readouterr()
    assert launch.main(["status", str(run), "--json", str(tmp_path / "file" / "x.json")]) == 2
    assert "cannot write" in capsys.readouterr().err


# Too large

def test_what_does_not_fit_into_memory(capsys, tmp_path):
    found = refused(capsys, tmp_path, *TRAIN, f"--config.data.batch_size={10**14}", unchanged=False)
    assert found.startswith("does not fit into memory (") and found.endswith(
        "train on smaller pictures or batches (plan says what needs how much)")


@pytest.mark.parametrize("error", [MemoryError(), MemoryError("Unable to allocate 1.2 PiB for an array"),
                                   jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 5 bytes\nmore"),
                                   jax.errors.JaxRuntimeError("INTERNAL: Out of memory allocating 5 bytes.")])
def test_memory_errors_of_every_kind(capsys, tmp_path, monkeypatch, error):
    def fails(*a):
        raise error

    monkeypatch.setattr(VERBS["train"], "run", fails)
    assert "does not fit into memory (" in refused(capsys, tmp_path, *TRAIN)


def test_other_errors_of_the_runtime_keep_their_traceback(monkeypatch):
    def fails(*a):
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")

    monkeypatch.setattr(VERBS["train"], "run", fails)
    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
        launch.main(["train", "--config", TOY])


# A full disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1.5 MB; skipped where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=1536k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(["mount", *options], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_the_run_goes_on_once_there_is_room(capsys, small_disk):
    filler = small_disk / "filler"
    run = small_disk / "run"
    argv = ["train", "--config", f"{TOY}:steps=12,save=1", "--workdir", str(run), "--quiet", "--config.task.hidden=64"]
    filler.write_bytes(bytes(1_440_000))
    # in a process of its own: here pytest, there the terminal's own handlers see what the libraries log
    done = subprocess.run([sys.executable, "launch.py", *argv], cwd=config_lib.ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and "No space left" in done.stderr
    filler.unlink()
    assert launch.main(argv) == 0
    assert (run / "DONE").exists() and inspect_lib.status(str(run))["step"] == 12
