"""Runs are opened by their weights alone: without their data, from the newest of snapshot and checkpoint."""

import dataclasses
import fcntl
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import launch
from genjax.core import config as config_lib
from genjax.core import inspect, report, snapshot
from genjax.core import train as train_lib
from genjax.core.checkpoint import read_arrays, read_checked
from genjax.core.config import experiment, node
from genjax.core.run import RunFolder
from genjax.errors import UserError
from tests.core.toy import ToyData

STEPS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileData(ToyData):
    """Data that lie in a file."""

    path: str

    def __post_init__(self):
        if not Path(self.path).is_file():
            raise UserError(f"no file {self.path}")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of 8 steps with checkpoints at 4 and 8, whose data are gone."""
    base = tmp_path_factory.mktemp("opened")
    (base / "data").touch()
    config = experiment(
        task=node("tests.core.toy.ToyTask", optimizer="@optimizer", ema_decay=0.9),
        data=node("tests.core.test_opened_run.FileData", path=str(base / "data")),
        optimizer=node("genjax.core.optim.adam", learning_rate=0.01),
        train=node("genjax.core.experiment.TrainOptions", steps=STEPS, save_every=4))
    train_lib.train(config_lib.finalize(config), base / "run", quiet=True)
    (base / "data").unlink()
    return base / "run"


@pytest.fixture
def run(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "run"))


def kernel(run, *args, **kw):
    return np.asarray(snapshot.OpenedRun(run, *args, **kw).variables["params"]["first"]["kernel"])


def test_weights_open_without_the_data(run, capsys):
    out = run / "s.png"
    assert launch.main(["sample", str(run), "-n", "2", "--out", str(out)]) == 0 and out.is_file()
    assert launch.main(["eval", str(run)]) == 2
    assert "no file" in capsys.readouterr().err, "measuring needs them"


def test_a_run_from_before_says_that_it_needs_its_data(run, capsys):
    file = run / "snapshots" / "step_00000008.npz"
    with np.load(file) as f:
        arrays = {k: f[k] for k in f.files}
    meta = json.loads(bytes(arrays["__meta__"]))
    assert meta.pop("element_spec") == {"x": [[8, 16], "float32"], "y": [[8, 16], "float32"]}
    arrays["__meta__"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    np.savez(file, **arrays)
    kernel(run)  # the folder says it too
    (run / "spec.json").write_text("{")
    assert launch.main(["sample", str(run)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "no file" in said and "put them back, or change config.data in" in said
    Path(json.loads((run / "config.json").read_text())["data"]["path"]).touch()
    kernel(run)
    Path(json.loads((run / "config.json").read_text())["data"]["path"]).unlink()


def test_a_run_from_before_opens_by_its_config_where_that_says_the_pictures_shape(tmp_path, capsys):
    file, run = tmp_path / "d.npz", tmp_path / "run"
    np.savez(file, images=np.random.default_rng(0).integers(0, 256, (80, 8, 8), np.uint8))
    config = config_lib.smoke(config_lib.load("gan/dcgan"))
    train_lib.train(config_lib.override(config, [f"data.source=npz:{file}", "data.channels=3"]), run, quiet=True)
    there = snapshot.OpenedRun(run)
    assert there.snapshot.suffix == ".npz"
    spec = there.experiment.data.element_spec
    assert snapshot.told_spec(there.config) == {"image": spec["image"]}
    with np.load(there.snapshot) as f:
        arrays = {k: f[k] for k in f.files}
    meta = json.loads(bytes(arrays["__meta__"]))
    del meta["element_spec"]
    arrays["__meta__"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    np.savez(there.snapshot, **arrays)
    (run / "spec.json").unlink()
    file.unlink()
    assert launch.main(["sample", str(run), "-n", "2", "--out", str(run / "s.png")]) == 0, capsys.readouterr().err
    shutil.rmtree(run / "snapshots")
    assert launch.main(["sample", str(run), "-n", "2", "--out", str(run / "c.png")]) == 0, "a checkpoint too"
    old = json.loads((run / "config.json").read_text())
    old["data"]["channels"] = 0  # as the source has
    (run / "config.json").write_text(json.dumps(old))
    assert launch.main(["sample", str(run), "-n", "2"]) == 2
    assert "put them back" in capsys.readouterr().err


def test_the_newest_of_snapshot_and_checkpoint_is_taken(run, capsys, caplog):
    last = kernel(run)
    (run / "snapshots" / "step_00000008.npz").rename(run / "snapshots" / "step_00000002.npz")
    caplog.clear()
    np.testing.assert_array_equal(kernel(run), last)
    assert [r.getMessage() for r in caplog.records if r.name == "genjax"] == [
        f"taking the weights of step 8, checkpoint {run}/checkpoints/8"]
    opened = snapshot.OpenedRun(run)
    assert opened.meta["step"] == 8 and opened.snapshot.name == "8"
    assert launch.main(["sample", str(run), "-n", "2", "--out", str(run / "s.png")]) == 0
    assert (kernel(run, "4") != last).any()
    for given in ("8", f"{run}/checkpoints/8", f"{run}/checkpoints", f"{run}/snapshots", "2"):
        np.testing.assert_array_equal(kernel(run, given), last)
    for given, says in (("5", "it has of: 2, 4, 8"), (str(run / "samples"), "holds no snapshot and no checkpoint")):
        assert launch.main(["sample", str(run), "--snapshot", given]) == 2
        assert says in capsys.readouterr().err


def test_a_damaged_checkpoint_is_passed_over(run, caplog):
    shutil.rmtree(run / "snapshots")
    older = kernel(run, "4")
    meta = run / "checkpoints" / "8" / "meta" / "metadata"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"digest": "0" * 64}))
    np.testing.assert_array_equal(kernel(run), older)
    assert "checkpoints/8 is unreadable (its arrays are not the ones that were saved)" in caplog.text
    assert (run / "checkpoints" / "8").is_dir(), "looking changes nothing"
    with pytest.raises(UserError, match="8 is unreadable"):
        kernel(run, "8")
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UserError, match="has no snapshot or checkpoint yet"):
        kernel(run)


def test_parts_of_several_processes_are_checked(run):
    """A checkpoint of several processes has a digest for each part, in place of one of the whole."""
    folder = run / "checkpoints" / "8" / "meta"
    parts = {}
    for name, x in read_arrays(run / "checkpoints", 8).items():
        halves = [(0, x.shape[0] // 2), (x.shape[0] // 2, x.shape[0])] if x.ndim else [()]
        rest = [f"0:{n}" for n in x.shape[1:]]
        parts[name] = {",".join([f"{h[0]}:{h[1]}", *rest]) if h else "":
                       hashlib.sha256(np.ascontiguousarray(x[slice(*h)] if h else x).tobytes()).hexdigest()
                       for h in halves}
    meta = json.loads((folder / "metadata").read_text()) | {"digest": None, "shards": 1}
    (folder / "metadata").write_text(json.dumps(meta))
    (folder / "shards.0").write_text(json.dumps(parts))
    assert read_checked(run / "checkpoints", 8).keys() == parts.keys()
    parts["params/first/kernel"]["8:16,0:32"] = "0" * 64
    (folder / "shards.0").write_text(json.dumps(parts))
    with pytest.raises(ValueError, match=r"params/first/kernel \[8:16,0:32\] is not what was saved"):
        read_checked(run / "checkpoints", 8)


def test_a_run_whose_process_is_gone_is_interrupted(run):
    (run / "DONE").unlink()
    assert inspect.status(str(run))["state"] == "interrupted" and "interrupted" in report.write(run).read_text()
    with open(run / ".lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert inspect.status(str(run))["state"] == "running"
    (run / "PREEMPTED").write_text("{}")
    assert inspect.status(str(run))["state"] == "preempted"


@pytest.mark.parametrize(("name", "content", "says"), [
    ("config.json", "{", "config.json: the saved config is not readable"),
    ("metrics.jsonl", "x\n{}\n", "metrics.jsonl line 1 is not a JSON object")])
def test_a_run_that_cannot_be_read_is_a_row(run, tmp_path, capsys, monkeypatch, name, content, says):
    shutil.copytree(run, tmp_path / "runs" / "good")
    shutil.copytree(run, tmp_path / "runs" / "bad")
    (tmp_path / "runs" / "bad" / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    assert launch.main(["status"]) == 1
    bad, good = capsys.readouterr().out.splitlines()
    assert bad.startswith("runs/bad: ") and says in bad and good.startswith("runs/good: done at step 8")
    assert launch.main(["status", "runs/good"]) == 0 and launch.main(["status", "runs/bad"]) == 2
    assert says in capsys.readouterr().err
    monkeypatch.chdir(run)
    assert launch.main(["status"]) == 2
    assert "no runs below runs/ here" in capsys.readouterr().err


def test_a_mark_that_says_nonsense(run):
    for content in ('{"step": "x"}', '{"metrics": 5}'):
        (run / "DONE").write_text(content)
        assert RunFolder(run).state() == ("done", {}) and inspect.status(str(run))["step"] == STEPS


def test_play_takes_a_run_as_sample_does(run, capsys):
    for argv in ((str(run),), ("--run", str(run))):
        assert launch.main(["play", *argv]) == 2
        assert "ToyTask has nothing to play with" in capsys.readouterr().err
    assert launch.main(["play"]) == 2
    assert "one of the arguments run --run is required" in capsys.readouterr().err


def completed(script, *words):
    """What bash offers after these words of a command line."""
    line = f"COMP_WORDS=({' '.join(words)} ''); [ -n \"$last\" ] && COMP_WORDS[{len(words)}]=$last"
    done = subprocess.run(["bash", "-c", f"{script}\n{line}; COMP_CWORD={len(words)}; _genjax; echo ${{COMPREPLY[@]}}"],
                          capture_output=True, text=True, timeout=20)
    assert done.stderr == ""
    return done.stdout.split()


def test_completion_of_verbs_configs_figures_and_flags(capsys):
    assert launch.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    command = ("python", "launch.py")
    assert {"train", "sample", "status"} <= set(completed(script, *command))
    assert "dip/denoise" in completed(script, *command, "train", "--config")
    assert "dip/denoise" in completed(script, *command, "train", "--config", "=")
    assert "dip/restoration" in completed(script, *command, "reproduce")
    assert completed("last=--work\n" + script, *command, "train") == ["--workdir"]
    assert completed("last=--s\n" + script, "./launch.py", "sample", "run") == ["--snapshot", "--seed"]
    assert completed(script, "python", "other.py") == []


def test_help_is_a_verb_too(capsys):
    for argv, says in ((["help"], "VERB"), (["help", "train"], "--workdir"), (["train", "-h"], "--workdir")):
        with pytest.raises(SystemExit) as e:
            launch.main(argv)
        assert e.value.code == 0 and says in capsys.readouterr().out
