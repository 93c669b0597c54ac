"""`launch.py data`: one line, a contact sheet with a row per class, JSON; the line is that of a run."""

import json

import numpy as np
import pytest
from PIL import Image

import launch
from genjax.core import contents
from genjax.data.pipeline import Pipeline
from genjax.data.sources import ArraySource, open_source
from genjax.viz import grid


def put(root, *names):
    for k, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 8), (20 * k, 0, 255 - 20 * k)).save(root / name)


def data(capsys, *argv, code=0):
    """(what the verb printed, what it said on stderr)."""
    capsys.readouterr()
    assert launch.main(["data", *map(str, argv)]) == code
    return capsys.readouterr()


def test_a_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "d", "bus/1.png", "bus/2.png", "train/1.png", "car/1.png")
    (tmp_path / "d" / "car" / "broken.png").write_bytes(b"x")
    out = data(capsys, "folder:d", "--json", "d.json", "--out", "sheet.png").out
    line = out.splitlines()[0]
    assert line == Pipeline("folder:d").summary().line()
    assert line.startswith("5 pictures of 8x12 (height x width), 3 classes (bus: 2, car: 2, train: 1), split train, "
                           f"from {tmp_path}/d; 1 of 5 looked at cannot be read (")
    assert line.endswith("reads it alone)") and "; 'train' beside 'bus' and 1 more is read as a class" in line
    assert "cannot be read: " in out and "broken.png" in out and "contact sheet: sheet.png" in out
    found = json.loads((tmp_path / "d.json").read_text())
    assert found["line"] == line and found["classes"][0] == {"name": "bus", "count": 2}
    assert len(found["unreadable"]) == 1
    assert json.loads(data(capsys, "folder:d", "--json", "-").out)["contact_sheet"] == "data-folder-d-train.png"
    assert (tmp_path / "data-folder-d-train.png").read_bytes() == (tmp_path / "sheet.png").read_bytes()


def test_a_row_for_each_class_with_its_name(monkeypatch):
    seen = {}
    monkeypatch.setattr(grid, "image_grid", lambda cells, columns, **more: seen.update(more, cells=cells))
    x = np.arange(60, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 4, 1), np.uint8)
    labels = np.arange(60) % 20
    contents.contact_sheet(ArraySource(x, labels, classes=tuple("abcdefghijklmnopqrst")))
    assert len(seen["row_labels"]) == contents.ROWS and seen["row_labels"][0] == "a" and seen["row_labels"][-1] == "t"
    assert len(seen["cells"]) == contents.ROWS * contents.COLUMNS
    assert [int(c[0, 0, 0]) for c in seen["cells"][:4]] == [0, 20, 40, 255], "three of class a, then white"
    assert seen["cells"][0].shape == (48, 96, 3), "enlarged by a whole factor"
    contents.contact_sheet(ArraySource(np.zeros((3, 300, 200, 3), np.uint8)))
    assert seen["row_labels"] is None and [c.shape for c in seen["cells"][:3]] == [(96, 64, 3)] * 3


@pytest.mark.parametrize("spec, argv, says", [
    ("builtin:digits", ["--split", "train[:20]"], "20 pictures of 8x8, 10 classes (0: 2, 1: 2"),
    ("builtin:scenes/one", ["--size", "8", "--split", "train[:12]"], "12 scenes of 8x8, 3 classes (sphere: "),
    ("builtin:photos", ["--crops", "128"], "267 pictures of 128x128, 12 classes (astronaut: "),
    ("builtin:photos/cat", [], "1 picture of 300x451 (height x width), no classes, from /"),
    ("p.png", [], "1 picture of 8x12 (height x width), no classes, from /"),
    ("folder:views", [], "2 posed views of 8x12 (height x width), from /"),
    ("npz:views.npz", [], "8 posed views of 4x5 (height x width), from /"),
    ("npz:plain.npz", [], "6 pictures of 4x4, 2 classes (0: 3, 1: 3), split train, from /")])
def test_every_kind_of_source(tmp_path, capsys, monkeypatch, spec, argv, says):
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "p.png", "views/0.png", "views/1.png")
    frames = [{"file_path": f"{i}.png", "transform_matrix": np.eye(4).tolist()} for i in range(8)]
    (tmp_path / "views" / "transforms_train.json").write_text(json.dumps({"camera_angle_x": 1.0, "frames": frames[:1]}))
    (tmp_path / "views" / "transforms_test.json").write_text(json.dumps({"camera_angle_x": 1.0, "frames": frames[1:2]}))
    np.savez(tmp_path / "views.npz", images=np.zeros((8, 4, 5, 3), np.uint8), poses=np.tile(np.eye(4), (8, 1, 1)),
             focal=np.float32(3))
    np.savez(tmp_path / "plain.npz", images=np.zeros((6, 4, 4), np.uint8), labels=np.arange(6) % 2)
    out = data(capsys, spec, *argv).out
    assert out.startswith(says), out
    assert Image.open(tmp_path / out.split("contact sheet: ")[1].strip()).size[0] > 12


@pytest.mark.parametrize("argv, says", [
    (["folder:nowhere"], "does not exist"), (["."], "write folder:."), (["builtin:digits", "--crops", "8"], "'crops'"),
    (["nowhere.png"], "no picture at nowhere.png; "), (["nowhere"], "unknown data source"),
    (["builtin:digits", "--split", "tset"], "did you mean 'test'")])
def test_what_cannot_be_shown_is_one_line(tmp_path, capsys, monkeypatch, argv, says):
    monkeypatch.chdir(tmp_path)
    err = data(capsys, *argv, code=2).err
    assert says in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_labels_of_sets_too_large_to_read_are_probed(monkeypatch):
    source = open_source("builtin:scenes/one", size=8, count=40)
    monkeypatch.setattr(contents, "MOST_LABELS", 10)
    monkeypatch.setattr(contents, "_PROBED", 5)
    assert list(contents._labels(source)) == [0, 9, 19, 29, 39]
    assert contents._labels(source) == {i: int(source[i]["label"]) for i in (0, 9, 19, 29, 39)}
