"""What a run was started from: the same data when it goes on, and the state of another run with `--from`."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import launch
from genjax.core import config as config_lib
from genjax.core import inspect, origin
from genjax.core.run import RunFolder
from genjax.core.train import train
from genjax.data.pipeline import Pipeline
from genjax.data.restoration import RestorationSet
from genjax.data.sources import ArraySource, listing
from genjax.data.summary import Summary
from genjax.errors import UserError
from genjax.viz.grid import save_png
from tests.core.toy import ToyData

CONFIG = "tests/core/toy_config.py:steps=4"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileData(ToyData):
    """The toy's data with files in a folder, relative to where it is started."""

    path: str = "data"

    def listing(self):
        """Their names and sizes."""
        return tuple((p.name, p.stat().st_size) for p in sorted(Path(self.path).iterdir()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewBytes(ToyData):
    """The toy's data that name a file."""

    path: str = "d.npz"

    def content(self):
        """The file."""
        return (Path(self.path),)

    def summary(self):
        """Where it lies."""
        return Summary(count=len(self), place=os.path.abspath(self.path))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MustFind(FileData):
    """Data that are looked for when they are built."""

    def __post_init__(self):
        if not Path(self.path).is_dir():
            raise UserError("no data here")


def toy(*overrides, files=False):
    """The toy's config, its data from files."""
    found = config_lib.load(CONFIG)
    if files:
        with found.unlocked():
            found.data = config_lib.node("tests.core.test_origin.FileData", width="@width")
        found = config_lib.finalize(found)
    return config_lib.override(found, overrides)


def place(folder, content=b"one"):
    """A folder data/ with a file, to start from."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "a").write_bytes(content)
    return folder


def refused(call):
    with pytest.raises(UserError) as e:
        call()
    return str(e.value)


def test_a_run_goes_on_only_with_the_data_it_was_started_with(tmp_path, monkeypatch):
    """The same relative path is another set elsewhere; the same set elsewhere is the same."""
    first, other, moved = (place(tmp_path / n, c) for n, c in (("a", b"one"), ("b", b"other"), ("c", b"one")))
    run = tmp_path / "run"
    monkeypatch.chdir(first)
    monkeypatch.syspath_prepend(config_lib.ROOT)
    train(toy("train.steps=2", files=True), str(run), quiet=True)
    data = json.loads((run / "data.json").read_text())
    assert data["count"] == 64 and data["files"] == 1 and len(data["digest"]) == 16
    config, before = (run / "config.json").read_text(), sorted(p.name for p in run.rglob("*"))
    monkeypatch.chdir(other)
    message = refused(lambda: train(toy(files=True), str(run), quiet=True))
    assert "other data (64 elements both times, of other names or sizes" in message and "--other-data" in message
    assert (run / "config.json").read_text() == config and sorted(p.name for p in run.rglob("*")) == before
    monkeypatch.chdir(moved)
    assert train(toy("train.steps=3", files=True), str(run), quiet=True).step == 3
    assert "before" not in json.loads((run / "data.json").read_text())
    monkeypatch.chdir(other)
    assert train(toy(files=True), str(run), quiet=True, other_data=True).step == 4
    assert [b["until"] for b in json.loads((run / "data.json").read_text())["before"]] == [3]
    assert "Until step 3 other data" in origin.data_lines(RunFolder(run))[1]
    assert train(toy("train.steps=5", files=True), str(run), quiet=True).step == 5, "these are its data now"
    (run / "data.json").unlink()  # a folder from before there was a record
    monkeypatch.chdir(first)
    assert train(toy("train.steps=6", files=True), str(run), quiet=True).step == 6
    assert json.loads((run / "data.json").read_text())["digest"] == data["digest"]


def test_what_tells_data_apart_is_names_and_sizes(tmp_path):
    """Not times, not where they lie; of folders, arrays, masks."""
    rng = np.random.default_rng(0)
    for name in ("x/1", "x/2", "y/1"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        save_png(tmp_path / "set" / f"{name}.png", rng.random((6, 6, 3)))
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 4, 4), np.uint8))
    mask = save_png(tmp_path / "m.png", np.ones((32, 32, 1)))

    def now(root=tmp_path):
        def restored(name):
            return RestorationSet(images=str(root / "set" / "x" / "1.png"), problem="inpaint", mask=name)

        data = (Pipeline(f"folder:{root / 'set'}"), Pipeline(f"npz:{root / 'a.npz'}"), restored(str(root / "m.png")))
        return [origin.identity(d)["digest"] for d in data]

    first = now()
    os.utime(tmp_path / "set" / "x" / "1.png", (1, 1))
    assert now() == first
    shutil.copytree(tmp_path, tmp_path.parent / "elsewhere")
    assert now(tmp_path.parent / "elsewhere") == first
    shutil.rmtree(tmp_path.parent / "elsewhere")
    save_png(mask, rng.random((32, 32, 1)))
    assert [a == b for a, b in zip(now(), first, strict=True)] == [True, True, False]
    np.savez(tmp_path / "a.npz", images=np.zeros((4, 4, 4), np.uint8))
    (tmp_path / "set" / "y" / "1.png").rename(tmp_path / "set" / "y" / "3.png")
    assert not {*now()} & {*first}


def test_sets_of_the_same_names_and_sizes_are_told_apart(tmp_path):
    """By an array's checksum, a file's ends, the labels."""
    def now(seed, name):
        rng, root = np.random.default_rng(seed), tmp_path / name
        (root / "set").mkdir(parents=True)
        for i in range(100):  # bitmaps: all of one size
            Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).save(root / "set" / f"{i:03d}.bmp")
        x = rng.integers(0, 256, (3, 40, 40), np.uint8)
        np.savez(root / "a.npz", images=x)
        (root / "a-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 40, 0, 0, 0, 40]) + x.tobytes())
        mask = root / "set" / "000.bmp"
        return [origin.identity(d) for d in (
            Pipeline(f"folder:{root / 'set'}"), Pipeline(f"npz:{root / 'a.npz'}"), Pipeline(f"idx:{root}/a-idx3-ubyte"),
            Pipeline(f"npz:{root / 'a.npz'}", split="train[:2]"), RestorationSet(images=str(mask), problem="denoise"))]

    a, b, same = now(0, "a"), now(1, "b"), now(0, "c")
    assert a == same
    for x, y in zip(a, b, strict=True):
        assert x["digest"] == y["digest"] and origin.other(x, y) == ["content"]
    x, files = np.zeros((2, 4, 4, 1), np.uint8), (tmp_path / "a" / "a.npz",)
    labelled = [origin.identity(ArraySource(x, np.array(n), files=files)) for n in ([0, 1], [1, 0])]
    assert origin.other(*labelled) == ["content"]
    assert origin.other({k: v for k, v in a[0].items() if k != "content"}, b[0]) == [], "an older record"


def test_another_set_of_the_same_names_and_sizes_is_refused(tmp_path, monkeypatch, caplog):
    """And the same one elsewhere goes on, with a line; an older record gets the new key."""
    for name, seed in (("a", 0), ("b", 1), ("c", 0)):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "d.npz", images=np.random.default_rng(seed).integers(0, 256, (64, 4), np.uint8))
    monkeypatch.syspath_prepend(config_lib.ROOT)

    def go(name, steps):
        monkeypatch.chdir(tmp_path / name)
        config = toy(f"train.steps={steps}", files=True)
        with config.unlocked():
            config.data.target, config.data.path = "tests.core.test_origin.FewBytes", "d.npz"
        return train(config, str(tmp_path / "run"), quiet=True)

    file = tmp_path / "run" / "data.json"
    go("a", 1)
    first = json.loads(file.read_text())
    assert "of other content under the same names and sizes" in refused(lambda: go("b", 2))
    assert json.loads(file.read_text()) == first
    caplog.clear()
    assert go("c", 2).step == 2
    assert f"; the same files as before, then at {tmp_path}/a/d.npz" in caplog.text
    assert [b["place"] for b in json.loads(file.read_text())["before"]] == [f"{tmp_path}/a/d.npz"]
    assert "Until step 1 the same files, at " in origin.data_lines(RunFolder(tmp_path / "run"))[1]
    file.write_text(json.dumps({k: v for k, v in first.items() if k != "content"}))
    assert go("c", 3).step == 3 and json.loads(file.read_text())["content"] == first["content"]


def test_little_is_read_to_tell_data_apart(tmp_path, monkeypatch):
    """Of many files 64 are opened, and no picture is decoded."""
    for i in range(90):
        (tmp_path / f"{i}.png").write_bytes(b"x")
    data, opened, plain = Pipeline(f"folder:{tmp_path}"), [], Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: (opened.append(self), plain(self, *a, **k))[1])
    assert origin.identity(data)["files"] == 90 == len(listing(data)) and len(set(opened)) == 64 == len(opened)


def test_from_with_nothing_changed_is_a_plain_resume(tmp_path, capsys):
    """Bit for bit; the old run is left as it is, and the new one goes on when the old one is gone."""
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    start = ["train", "--quiet", "--config", CONFIG]
    assert launch.main([*start, "--workdir", old]) == 0
    files = {p: p.stat().st_mtime_ns for p in Path(old).rglob("*")}
    more = ["--config.train.steps=9", "--config.train.keep=1"]
    assert launch.main([*start, "--workdir", new, "--from", old, *more, "--config.train.steps=6"]) == 0
    assert {p: p.stat().st_mtime_ns for p in Path(old).rglob("*")} == files
    kept = json.loads((tmp_path / "new" / "from.json").read_text())
    assert kept["run"] == old and kept["step"] == 4 and kept["data"] == "the same"
    assert kept["differs"] == {"train.steps": [4, 6], "train.keep": [2, 1]}
    page = (tmp_path / "new" / "report.html").read_text()
    assert f"continued from {old} at step 4" in page and "train.steps 4 -&gt; 6" in page
    assert launch.main([*start, "--workdir", old, *more]) == 0
    gone = shutil.move(old, tmp_path / "moved")
    assert launch.main([*start, "--workdir", new, *more]) == 0
    assert inspect.status(new)["step"] == 9 and inspect.status(new)["digest"] == inspect.status(gone)["digest"]
    assert json.loads((tmp_path / "new" / "from.json").read_text()) == kept
    capsys.readouterr()


def test_from_takes_another_batch_size_and_learning_rate(tmp_path):
    """The state is the old one's, step, averages and moments among it; killed before its first step it still is."""
    old = tmp_path / "old"
    state = train(toy(), str(old), quiet=True).state
    changed = toy("data.batch_size=4", "optimizer.learning_rate=0.1", "train.steps=5")
    out = train(changed, str(tmp_path / "new"), quiet=True, begin_from=str(old))
    assert out.step == 5 and int(out.state.opt_state[0].count) == 5
    assert set(origin.begun_from(RunFolder(tmp_path / "new"))["differs"]) == {
        "data.batch_size", "optimizer.learning_rate", "train.steps"}
    moved = np.abs(np.asarray(out.state.params["first"]["kernel"] - state.params["first"]["kernel"])).max()
    assert 0.01 < moved < 0.2, "one step of the new rate from the old parameters"
    shutil.rmtree(tmp_path / "new" / "checkpoints")
    again = train(changed, str(tmp_path / "new"), quiet=True)
    assert np.array_equal(again.state.params["first"]["kernel"], out.state.params["first"]["kernel"])
    shutil.rmtree(tmp_path / "new" / "checkpoints")
    shutil.rmtree(old / "checkpoints")
    assert "which this run begins with, is gone" in refused(lambda: train(changed, str(tmp_path / "new"), quiet=True))


def test_what_a_run_cannot_begin_with_is_one_line_and_leaves_no_folder(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    train(toy(), str(old), quiet=True)

    def begin(*overrides, source=old, folder=new):
        return refused(lambda: train(toy(*overrides), str(folder), quiet=True, begin_from=str(source)))

    assert "is at step 4 and config.train.steps makes 4 steps" in begin()
    assert "does not fit this config" in begin("train.steps=9", "task.hidden=8")
    assert "--from takes the whole state" in begin("train.steps=9", "optimizer.b1=0", "task.ema_decay=0")
    assert "did you mean" in begin("train.steps=9", source=tmp_path / "odl")
    assert "the new run itself" in begin("train.steps=9", folder=old)
    with RunFolder(old).lock():
        assert "is being trained" in begin("train.steps=9")
    assert not new.exists()
    train(toy(), str(new), quiet=True)
    assert "did not begin from another one" in begin("train.steps=9")
    shutil.rmtree(old / "checkpoints")
    assert "has no checkpoint" in begin("train.steps=9", folder=tmp_path / "third")


def test_a_finished_run_returns_at_once_without_its_data(tmp_path, monkeypatch):
    """Also where they changed; asked for more steps it needs them."""
    monkeypatch.syspath_prepend(config_lib.ROOT)
    monkeypatch.chdir(place(tmp_path / "a"))
    run = tmp_path / "run"
    config, longer = toy("train.steps=2", files=True), toy("train.steps=3", files=True)
    for c in (config, longer):
        with c.unlocked():
            c.data.target = "tests.core.test_origin.MustFind"
    train(config, str(run), quiet=True)
    Path("data/a").write_bytes(b"changed")
    kept = (run / "data.json").read_text()
    assert train(config, str(run), quiet=True).step == 2 and (run / "data.json").read_text() == kept
    assert "other data" in refused(lambda: train(longer, str(run), quiet=True))
    shutil.rmtree("data")
    assert train(config, str(run), quiet=True).step == 2 and (run / "data.json").read_text() == kept
    assert "no data here" in refused(lambda: train(longer, str(run), quiet=True))
    assert RunFolder(run).state()[0] == "done"


def test_another_config_names_the_ways_to_go_on(tmp_path):
    run = tmp_path / "run"
    train(toy("train.steps=1"), str(run), quiet=True)
    message = refused(lambda: train(toy("optimizer.learning_rate=0.5"), str(run), quiet=True))
    assert f"--config {run}/config.json and this --workdir" in message and message.endswith(f"--from {run}")
    config = config_lib.read_json(run / "config.json")
    assert train(config, str(run), quiet=True).step == 1
    out = train(toy("optimizer.learning_rate=0.5", "train.steps=2"), str(tmp_path / "new"), quiet=True,
                begin_from=str(run))
    assert out.step == 2


def test_only_configs_with_a_mask_set_its_threshold():
    assert config_lib.load("dip/denoise").data.mask_threshold == 0.5
    assert config_lib.load("dip/inpaint_text").data.mask_threshold == 0.98
