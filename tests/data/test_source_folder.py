"""Folders: old layouts read as ever, splits and classes decided by what is there, links, endings, StyleGAN's labels."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from genjax.data import folders, images
from genjax.data.labels import check, counts
from genjax.data.sources import listing, open_source
from genjax.data.summary import summarize
from genjax.errors import UserError


def put(root, *names, size=(4, 4)):
    """Pictures whose grey value is their number among the names."""
    for k, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, k).save(root / name, format=None if "." in name.rsplit("/", 1)[-1] else "PNG")


def read(root, split="train"):
    """(names of the pictures, labels, classes, the line) of a folder."""
    source = open_source(f"folder:{root}", split)
    names = [p.relative_to(root).as_posix() for p in source.paths]
    return names, None if source.labels is None else source.labels.tolist(), source.classes, summarize(source).line()


# layouts that were always read: the order and the labels of runs that go on

@pytest.mark.parametrize("names, split, want, labels, classes", [
    (["b.png", "a.png", "sub/c.png"], "train", ["a.png", "b.png", "sub/c.png"], None, ()),
    (["dog/1.png", "cat/1.png", "dog/2.png", "cat/x/2.png"], "all",
     ["cat/1.png", "cat/x/2.png", "dog/1.png", "dog/2.png"], [0, 0, 1, 1], ("cat", "dog")),
    (["train/a.png", "test/b.png"], "test", ["test/b.png"], None, ()),
    (["train/cat/a.png", "train/dog/b.png", "val/cat/c.png", "notes/x.txt"], "train",
     ["train/cat/a.png", "train/dog/b.png"], [0, 1], ("cat", "dog")),
    (["train/a.png", "test/b.png"], "all", ["test/b.png", "train/a.png"], [0, 1], ("test", "train")),
    (["train/a.png", "test/b.png", "extra/c.png", "more/d.png"], "train", ["train/a.png"], None, ()),
    (["train/a.png", "unlabeled/c.png"], "train", ["train/a.png"], None, ()),
    (["train/cat/a.png", "train/dog/b.png", "x/1.png", "y/2.png"], "train",
     ["train/cat/a.png", "train/dog/b.png"], [0, 1], ("cat", "dog")),
    (["0/1.png", "1/0.png", "10/2.png"], "train", ["0/1.png", "1/0.png", "10/2.png"], [0, 1, 2], ("0", "1", "10")),
    (["00000/00000_00000.ppm", "00001/00000_00001.ppm"], "train", ["00000/00000_00000.ppm", "00001/00000_00001.ppm"],
     [0, 1], ("00000", "00001")),
    (["a/1.JPG", "B/2.png"], "train", ["B/2.png", "a/1.JPG"], [0, 1], ("B", "a")),
    (["bus/1.png", "car/1.png"], "bus", ["bus/1.png"], None, ())])
def test_layouts_of_old(tmp_path, names, split, want, labels, classes):
    put(tmp_path, *(n for n in names if not n.endswith(".txt")))
    (tmp_path / "notes").mkdir(exist_ok=True)
    assert read(tmp_path, split)[:3] == (want, labels, classes)


def test_what_lies_beside_a_split_is_said(tmp_path):
    put(tmp_path, "train/a.png", "test/b.png", "extra/c.png", "loose.png")
    line = read(tmp_path)[3]
    assert "folders of pictures beside the split 'train': 1 (extra)" in line and "other splits: test" in line
    assert "pictures beside the split 'train': 1 (loose.png)" in line


# a class that is called like a split

def test_a_class_called_train(tmp_path):
    put(tmp_path, "bus/1.png", "car/1.png", "train/1.png", "train/2.png")
    for split in ("train", "all"):
        names, labels, classes, line = read(tmp_path, split)
        assert labels == [0, 1, 2, 2] and classes == ("bus", "car", "train") and len(names) == 4
        assert "3 classes (bus: 1, car: 1, train: 2)" in line
        assert "'train' beside 'bus' and 1 more is read as a class" in line
    assert read(tmp_path / "train")[0] == ["1.png", "2.png"]
    with pytest.raises(UserError, match="one set; use split 'train' or 'all'"):
        read(tmp_path, "test")


def test_pictures_beside_class_folders_take_the_classes_away_and_it_is_said(tmp_path):
    put(tmp_path, "bus/1.png", "car/1.png", "preview.png")
    assert "no classes, because 1 of the pictures lie beside the 2 subfolders (preview.png)" in read(tmp_path)[3]
    put(tmp_path / "b", "Train/1.png", "Test/1.png")
    assert "splits are written in lower case" in read(tmp_path / "b")[3]


# links

def test_what_shifts_the_numbers_of_classes_is_said(tmp_path):
    put(tmp_path, *(f"train/{c}/{i}.png" for c in "abc" for i in range(2)), "test/b/0.png", "test/c/0.png")
    (tmp_path / "test" / "a0").mkdir()
    names, labels, classes, line = read(tmp_path, "test")
    assert labels == [0, 1] and classes == ("b", "c")  # as they were for runs that go on
    assert "no pictures in a0: labels number the other classes" in line
    assert "split 'train' has other class folders (a in one of the two alone) and numbers its own" in line
    train, test = open_source(f"folder:{tmp_path}"), open_source(f"folder:{tmp_path}", "test")
    assert counts(test, 3, train.classes).tolist() == [0, 1, 1]
    assert counts(train, 3, train.classes).tolist() == [2, 2, 2]
    with pytest.raises(UserError, match="class 'a', which is none of the training data's .b, c.; compare"):
        counts(train, 3, test.classes)
    put(tmp_path / "alike", "train/a/0.png", "train/b/0.png", "test/a/0.png", "test/b/0.png")
    assert "other class" not in read(tmp_path / "alike")[3] and "no pictures" not in read(tmp_path / "alike")[3]


def test_linked_folders_are_classes_too_and_loops_end(tmp_path):
    put(tmp_path / "store", "dog/1.png", "dog/2.png", "dog/deep/3.png")
    put(tmp_path / "d", "cat/1.png")
    for name, target in {"dog": "../store/dog", "dog2": "../store/dog", "loop": ".", "up": "..", "cat2": "cat"}.items():
        (tmp_path / "d" / name).symlink_to(target)
    (tmp_path / "store" / "dog" / "back").symlink_to("../../d")
    (tmp_path / "d" / "cat" / "gone.png").symlink_to("nowhere.png")
    names, labels, classes, line = read(tmp_path / "d")
    assert names == ["cat/1.png", "dog/1.png", "dog/2.png", "dog/deep/3.png"]
    assert labels == [0, 1, 1, 1] and classes == ("cat", "dog")
    assert "links to nothing: 1 (cat/gone.png)" in line and "linked folders that hold the link: 3" in line
    assert "linked folders that are read already: 2 (cat2, dog2)" in line


def test_a_linked_picture_and_a_linked_root(tmp_path):
    put(tmp_path / "store", "x.png")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.png").symlink_to("../store/x.png")
    (tmp_path / "link").symlink_to("d")
    assert read(tmp_path / "link")[0] == ["a.png"]
    (tmp_path / "dead").symlink_to("nowhere")
    for path in ("folder:{}/dead", "npz:{}/dead", "idx:{}/dead"):
        with pytest.raises(UserError, match="dead is a link to nowhere, which is not there"):
            open_source(path.format(tmp_path))


# which files are pictures

ENDINGS = (".png", ".apng", ".jpg", ".jpe", ".jfif", ".jp2", ".tga", ".webp", ".bmp", ".tiff", ".gif", ".pgm", ".ico",
           ".qoi", ".sgi", ".avif")


def test_everything_that_opens_alone_is_read_in_folders(tmp_path):
    endings = [e for e in ENDINGS if e in folders.suffixes()]
    assert len(endings) >= len(ENDINGS) - 1, "AVIF may be missing from a build of Pillow"
    for e in endings:
        Image.new("RGB", (16, 16), (200, 30, 30)).save(tmp_path / f"x{e}")
    Image.new("RGB", (16, 16)).save(tmp_path / "bare", "JPEG")
    (tmp_path / "README").write_text("Python is no picture; P5 neither")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "data.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    put(tmp_path, ".hidden.png")
    source = open_source(f"folder:{tmp_path}")
    assert [p.name for p in source.paths] == sorted(["bare", *(f"x{e}" for e in endings)])
    assert all(source[i]["image"].shape == (16, 16, 3) for i in range(len(source)))
    line = summarize(source).line()
    assert f"{len(source)} pictures of 16x16" in line
    assert "hidden: 1 (.hidden.png), not pictures: 3 (README, data.h5, notes.txt)" in line


def test_no_picture_says_what_was_passed_over(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UserError, match=r"no pictures in .* \(passed over: not pictures: 1 \(a.txt\)\)"):
        open_source(f"folder:{tmp_path}")
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").touch()
    with pytest.raises(UserError, match=f"mnist holds idx files, not pictures; write idx:{tmp_path}/mnist"):
        open_source(f"folder:{tmp_path}/mnist")


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    put(tmp_path, "a/1.png", "b/2.png")
    scandir = os.scandir

    def refuse(place):
        if str(place).endswith("/b"):
            raise PermissionError(13, "Permission denied")
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    assert "unreadable: permission denied: 1 (b)" in read(tmp_path)[3]


# StyleGAN's dataset.json

CHUNKS = ("00000/img00000000.png", "00000/img00000999.png", "00001/img00001000.png")


def test_labels_of_a_dataset_json(tmp_path):
    put(tmp_path, *CHUNKS)
    names, labels, classes, line = read(tmp_path)
    assert names == list(CHUNKS) and labels is None and classes == ()
    assert "numbered subfolders are parts of a list, no classes" in line
    rows = [[n, k] for n, k in zip(CHUNKS, (6, 9, 6), strict=True)]
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": rows}))
    names, labels, classes, line = read(tmp_path)
    assert names == list(CHUNKS) and labels == [6, 9, 6]
    assert "2 classes (6: 2, 9: 1)" in line and f"labels from {tmp_path}/dataset.json" in line
    assert "not pictures" not in line
    source = open_source(f"folder:{tmp_path}")
    assert source[1]["label"] == 9 and listing(source)[-1][0] == "dataset.json"
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": None}))
    assert read(tmp_path)[1:3] == (None, ())


@pytest.mark.parametrize("key", ["{name}", "{folder}/{name}"])
def test_a_dataset_json_inside_each_chunk(tmp_path, key):
    put(tmp_path, *CHUNKS)
    for place in ("00000", "00001"):
        rows = [[key.format(folder=place, name=n.split("/")[1]), int(n[-5])] for n in CHUNKS if n.startswith(place)]
        (tmp_path / place / "dataset.json").write_text(json.dumps({"labels": rows}))
    assert read(tmp_path)[1] == [0, 9, 0] and "00000/dataset.json and 1 more" in read(tmp_path)[3]


def test_a_dataset_json_of_splits_and_of_class_folders(tmp_path):
    put(tmp_path, "train/00000/img00000000.png", "test/00000/img00000000.png")
    rows = [["train/00000/img00000000.png", 3], ["test/00000/img00000000.png", 5]]
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": rows}))
    assert read(tmp_path)[1] == [3] and read(tmp_path, "test")[1] == [5]
    put(tmp_path / "c", "cat/1.png", "dog/1.png")
    (tmp_path / "c" / "dataset.json").write_text(json.dumps({"labels": ["cat", "dog"]}))
    names, labels, classes, line = read(tmp_path / "c")
    assert labels == [0, 1] and classes == ("cat", "dog") and "is not StyleGAN's" in line


def test_ffhq_chunks_are_no_classes(tmp_path):
    put(tmp_path, "00000/00000.png", "00000/00999.png", "01000/01000.png")
    assert read(tmp_path)[1] is None


def test_networks_with_classes_are_told_why_there_are_none(tmp_path):
    put(tmp_path, "00000/img00000000.png", "00001/img00001000.png")
    with pytest.raises(UserError, match="choose a labelled config.data.source .*: the 2 numbered subfolders are parts"):
        check(open_source(f"folder:{tmp_path}"), (), {"generator": 2})


@pytest.mark.parametrize("content, says", [
    ('{"labels": [["00000/img00000000.png", 1]]}', "no label for 2 of 3 pictures, such as 00000/img00000999.png"),
    ('{"labels": [["0', "cannot be read"),
    (json.dumps({"labels": [[n, -1] for n in CHUNKS]}), "the label -1; labels are whole numbers from 0"),
    (json.dumps({"labels": [[n, 1.5] for n in CHUNKS]}), "the label 1.5")])
def test_a_dataset_json_that_cannot_be_used(tmp_path, content, says):
    put(tmp_path, *CHUNKS)
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(UserError, match="dataset.json") as info:
        read(tmp_path)
    assert says in str(info.value)


def test_vectors_as_labels_are_not_read(tmp_path):
    put(tmp_path, *CHUNKS)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": [[n, [0.5] * 25] for n in CHUNKS]}))
    labels, line = read(tmp_path)[1::2]
    assert labels is None and "vectors of 25 numbers" in line


# sizes

def test_sizes_are_of_upright_pictures_and_read_from_headers_alone(tmp_path, monkeypatch):
    put(tmp_path, "a.png", size=(6, 4))
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6
    Image.new("L", (6, 4)).save(tmp_path / "b.jpg", exif=exif)
    (tmp_path / "broken.png").write_bytes(b"x")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    found = summarize(open_source(f"folder:{tmp_path}"))
    assert dict(found.sizes) == {(4, 6): 1, (6, 4): 1} and (found.count, found.looked) == (3, 3)
    line = found.line()
    assert line.startswith("3 pictures of 4x6 (1), 6x4 (1) (height x width), no classes, split train")
    assert "; 1 of 3 looked at cannot be read (" in line and "broken.png is not a picture" in line


def test_of_many_files_some_are_looked_at(tmp_path, monkeypatch):
    put(tmp_path, *(f"{i:03d}.png" for i in range(40)))
    monkeypatch.setattr("genjax.data.summary.MOST_FILES", 10)
    found = summarize(open_source(f"folder:{tmp_path}"))
    assert found.looked == 10 and "40 pictures of 4x4, of 10 looked at" in found.line()
    part = summarize(open_source(f"folder:{tmp_path}", "train[:5]"))
    assert (part.count, part.looked, part.split) == (5, 5, "train[:5]")


def test_classes_are_shortened_where_they_are_many(tmp_path):
    labels = np.repeat(np.arange(100), 2)[:-1]
    np.savez(tmp_path / "d.npz", images=np.zeros((199, 4, 4), np.uint8), labels=labels, weights=labels)
    found = summarize(open_source(f"npz:{tmp_path}/d.npz"))
    assert "100 classes (0, 1, 2, … 99; 1 to 2 each)" in found.line() and "not read: weights" in found.line()
    assert json.loads(json.dumps(found.to_dict()))["classes"][99] == {"name": "99", "count": 1}
