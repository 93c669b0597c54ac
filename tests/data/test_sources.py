"""Sources: what is written is what is read, and every wrong file or spec is one line."""

import gzip
import pickle
import struct

import numpy as np
import pytest
from PIL import Image

from genjax.data.source_files import read_idx
from genjax.data.sources import ArraySource, listing, open_source
from genjax.errors import UserError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (6, 5, 4, 3), np.uint8)
G = X[..., 0]
Y = np.arange(6) % 3


def check(source, x, y):
    assert len(source) == len(x) and source.labelled == (y is not None)
    again = pickle.loads(pickle.dumps(source))
    for i in (0, len(x) - 1, len(x) // 2):
        for element in (source[i], again[i]):
            np.testing.assert_array_equal(element["image"], x[i])
            if y is not None:
                assert element["label"] == y[i] and element["label"].dtype == np.int32


def idx_bytes(x):
    return struct.pack(f">BBBB{x.ndim}I", 0, 0, 8, x.ndim, *x.shape) + x.astype(np.uint8).tobytes()


# builtin

def test_digits_split():
    train, test, every = (open_source("builtin:digits", s) for s in ("train", "test", "all"))
    assert (len(train), len(test), len(every)) == (1500, 297, 1797) and train.classes[3] == "3"
    np.testing.assert_array_equal(np.concatenate([train.images, test.images]), every.images)
    x = train[0]["image"]
    assert x.shape == (8, 8, 1) and x.dtype == np.uint8 and train.images.max() == 255 and train[0]["label"] == 0
    check(test, test.images, test.labels)


def test_a_part_of_a_split():
    every = open_source("builtin:digits", "train")
    part = open_source("builtin:digits", "train[2:500]")
    assert part.classes == every.classes and "[2:500]" in part.name
    check(part, every.images[2:500], every.labels[2:500])
    assert [len(open_source("builtin:digits", s)) for s in ("train[90%:]", "test[:9999]", "all[:]")] == [150, 297, 1797]
    with pytest.raises(IndexError):
        part[498]
    for wrong in ("train[5]", "train[a:]", "train[:-1]", "train[500:500]", "train[1500:]"):
        with pytest.raises(UserError, match=r"split 'train\["):
            open_source("builtin:digits", wrong)


def test_photos_whole_and_cut():
    whole = open_source("builtin:photos")
    assert whole.classes[:2] == ("astronaut", "cat") and len({x.shape for x in whole.images}) > 1
    train, test, every = (open_source("builtin:photos", s, crops=64) for s in ("train", "test", "all"))
    assert len(train) + len(test) == len(every) and len(test) == len(every) // 10
    assert every.images.shape[1:] == (64, 64, 3)
    np.testing.assert_array_equal(every.images[1], whole.images[0][:64, 64:128])  # astronaut, second square
    assert open_source("builtin:photos", crops=128, channels=1).images.shape[1:] == (128, 128, 1)
    textures = open_source("builtin:textures", "all", crops=128)
    assert textures.images.shape == (48, 128, 128, 1) and textures.classes == ("brick", "grass", "gravel")
    np.testing.assert_array_equal(np.bincount(textures.labels), [16, 16, 16])


# folder

def put(root, names):
    for k, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(X[k]).save(root / name)


def test_folder_flat_and_nested(tmp_path):
    put(tmp_path / "flat", ["b.png", "a.png", "sub/c.png"])
    check(open_source(f"folder:{tmp_path}/flat"), X[[1, 0, 2]], None)
    put(tmp_path / "classes", ["dog/1.png", "cat/1.png", "dog/2.png", "cat/deep/2.png"])
    source = open_source(f"folder:{tmp_path}/classes", "all")
    assert source.classes == ("cat", "dog")
    check(source, X[[1, 3, 0, 2]], [0, 0, 1, 1])


def test_folder_splits_and_channels(tmp_path):
    put(tmp_path, ["train/a.png", "train/b.png", "test/a.png"])
    check(open_source(f"folder:{tmp_path}", "train"), X[:2], None)
    check(open_source(f"folder:{tmp_path}", "test"), X[2:3], None)
    assert len(open_source(f"folder:{tmp_path}", "all")) == 3
    assert open_source(f"folder:{tmp_path}", "test", channels=1)[0]["image"].shape == (5, 4, 1)
    with pytest.raises(UserError, match="train, test, all|did you mean"):
        open_source(f"folder:{tmp_path}", "val")


# npz

@pytest.mark.parametrize("arrays, spec, split", [
    (dict(x_train=X, y_train=Y, x_test=X[:1]), "", "train"),
    (dict(train_images=X, train_labels=Y[:, None]), "", "train"),
    (dict(images=X, labels=Y), "", "train"), (dict(images=X, labels=Y), "", "all"),
    (dict(image=X, label=Y), "", "train"),
    (dict(test_images=X, test_labels=Y), "", "test"), (dict(x_train=X, y_train=Y, z=G), ":x_train", "test"),
    (dict(train_images=X, train_labels=Y), ":train_images", "train"), (dict(pictures=X), ":pictures", "train")])
def test_npz_names(tmp_path, arrays, spec, split):
    np.savez(tmp_path / "d.npz", **arrays)
    check(open_source(f"npz:{tmp_path}/d.npz{spec}", split), X, None if "pictures" in arrays else Y)


@pytest.mark.parametrize("x, want", [
    (G, G[..., None]), (G > 99, np.where(G > 99, 255, 0)[..., None]), (X / 255.0, (X / 255.0).astype(np.float32)),
    (X.astype(np.uint16) * 257, X / np.float32(255))])
def test_npz_kinds(tmp_path, x, want):
    np.save(tmp_path / "d.npy", x)
    source = open_source(f"npz:{tmp_path}/d.npy")
    np.testing.assert_allclose(source.images, want, atol=1e-7)
    assert source.images.dtype in (np.uint8, np.float32)


BAD_NPZ = {
    "float range": (dict(images=X.astype(np.float32)), "", "scale them"),
    "nan": (dict(images=np.full((2, 3, 3), np.nan)), "", "NaN"),
    "8 bits in 16": (dict(images=X.astype(np.uint16)), "", "may mean 8 bits or 16"),
    "int64": (dict(images=X.astype(np.int64)), "", "uint8"),
    "channels first": (dict(images=RNG.integers(0, 256, (2, 3, 8, 8), np.uint8)), "", "transpose"),
    "four channels": (dict(images=np.zeros((2, 3, 3, 4), np.uint8)), "", "1 or 3 channels"),
    "flat": (dict(images=np.zeros((2, 9), np.uint8)), "", "[N, H, W]"),
    "no pictures": (dict(images=X[:0]), "", "[N, H, W]"),
    "label count": (dict(images=X, labels=Y[:2]), "", "2 labels"),
    "label range": (dict(images=X, labels=Y.astype(np.int64) + 2**32), "", "below 2^31"),
    "label kind": (dict(images=X, labels=Y + 0.5), "", "whole numbers"),
    "objects": (dict(images=np.array([{}, {}], dtype=object)), "", "np.savez"),
    "key": (dict(pictures=X), ":picture", "did you mean 'pictures'"),
    "no key": (dict(foo=X, bar=X), "", "npz:"),
}


@pytest.mark.parametrize("case", BAD_NPZ)
def test_bad_npz(tmp_path, case):
    arrays, key, part = BAD_NPZ[case]
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(UserError) as info:
        open_source(f"npz:{tmp_path}/d.npz{key}")
    assert part in str(info.value) and "\n" not in str(info.value) and "d.npz" in str(info.value)


@pytest.mark.parametrize("data", [b"PK\x03\x04 not a zip", b"\x93NUMPY\x01\x00", b"text"])
def test_npz_damaged(tmp_path, data):
    (tmp_path / "d.npz").write_bytes(data)
    with pytest.raises(UserError, match="np.savez"):
        open_source(f"npz:{tmp_path}/d.npz")


def test_npz_cut_short(tmp_path):
    np.savez_compressed(tmp_path / "d.npz", images=X)
    data = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "d.npz").write_bytes(data[:-40])
    with pytest.raises(UserError, match="np.savez"):
        open_source(f"npz:{tmp_path}/d.npz")


# idx

@pytest.mark.parametrize("pack, end", [(lambda b: b, ""), (gzip.compress, ".gz")])
def test_idx_folder_and_file(tmp_path, pack, end):
    for word, rows in (("train", slice(0, 6)), ("t10k", slice(1, 4))):
        (tmp_path / f"{word}-images-idx3-ubyte{end}").write_bytes(pack(idx_bytes(G[rows])))
        (tmp_path / f"{word}-labels-idx1-ubyte{end}").write_bytes(pack(idx_bytes(Y[rows])))
    check(open_source(f"idx:{tmp_path}", "train"), G[..., None], Y)
    check(open_source(f"idx:{tmp_path}", "test"), G[1:4, ..., None], Y[1:4])
    check(open_source(f"idx:{tmp_path}/t10k-images-idx3-ubyte{end}"), G[1:4, ..., None], Y[1:4])
    (tmp_path / f"train-labels-idx1-ubyte{end}").unlink()
    check(open_source(f"idx:{tmp_path}"), G[..., None], None)
    np.testing.assert_array_equal(read_idx(tmp_path / f"t10k-labels-idx1-ubyte{end}"), Y[1:4])


BAD_IDX = {
    "not idx": (b"hello world", "not an idx file"),
    "empty": (b"", "empty"),
    "short": (idx_bytes(G)[:-1], "but has"),
    "long": (idx_bytes(G) + b"x", "but has"),
    "header": (idx_bytes(G)[:9], "header"),
    "type": (b"\0\0\x0d\x03" + idx_bytes(G)[4:], "unsigned bytes"),
    "labels": (idx_bytes(Y), "labels, not pictures"),
    "gzip": (gzip.compress(idx_bytes(G))[:-9], "damaged gzip"),
    "huge": (struct.pack(">BBBB3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "but has 0"),
}


@pytest.mark.parametrize("case", BAD_IDX)
def test_bad_idx(tmp_path, case):
    data, part = BAD_IDX[case]
    (tmp_path / "train-images-idx3-ubyte").write_bytes(data)
    with pytest.raises(UserError) as info:
        open_source(f"idx:{tmp_path}")
    assert part in str(info.value) and "train-images" in str(info.value) and "\n" not in str(info.value)


def test_idx_label_count(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(G))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(Y[:3]))
    with pytest.raises(UserError, match="3 labels"):
        open_source(f"idx:{tmp_path}")


# specs

@pytest.mark.parametrize("spec, options, part", [
    ("cifar10", {}, "builtin:NAME"), ("", {}, "valid"), ("folders:x", {}, "folder:PATH"),
    ("tfds:", {}, "write tfds:NAME"),
    ("npz:", {}, "write npz:PATH"), ("builtin:digit", {}, "'digits'"), ("builtin:mnist", {}, "digits"),
    ("builtin:photos", {"crop": 4}, "'crops'"), ("builtin:digits", {"crops": 4}, "option"),
    ("builtin:photos", {"crops": 5000}, "smaller crops"), ("builtin:photos", {"crops": -1}, "crops=-1"),
    ("builtin:digits", {"split": "tset"}, "'test'"), ("builtin:photos", {"split": "valid"}, "split"),
    ("folder:/no/such", {}, "does not exist"), ("npz:/no/such.npz", {}, "no file"), ("idx:/no/such", {}, "no file"),
    ("folder:.", {"channels": 2}, "channels")])
def test_bad_source_specs(spec, options, part):
    with pytest.raises(UserError) as info:
        open_source(spec, **options)
    assert part in str(info.value) and "\n" not in str(info.value)


def test_more_bad_paths(tmp_path):
    with pytest.raises(UserError, match="folder:"):
        open_source(str(tmp_path))
    with pytest.raises(UserError, match="no pictures"):
        open_source(f"folder:{tmp_path}")
    with pytest.raises(UserError, match="'test'"):
        put(tmp_path, ["a.png"])
        open_source(f"folder:{tmp_path}", "test")
    with pytest.raises(UserError, match="idx3"):
        open_source(f"idx:{tmp_path}")
    with pytest.raises(UserError, match="needs a file"):
        open_source(f"npz:{tmp_path}")
    (tmp_path / "b.png").write_bytes(b"broken")
    source = open_source(f"folder:{tmp_path}")
    with pytest.raises(UserError, match="b.png"):
        source[1]
    with pytest.raises(UserError, match="no pictures"):
        ArraySource(X[:0])


# listings

def test_listings_name_what_was_read(tmp_path):
    put(tmp_path / "d", ["b/2.png", "a/1.png"])
    size = {n: (tmp_path / "d" / n).stat().st_size for n in ("a/1.png", "b/2.png")}
    source = open_source(f"folder:{tmp_path}/d")
    assert listing(source) == tuple(size.items()), "in the order of the pictures"
    assert listing(open_source(f"folder:{tmp_path}/d", "train[:1]")) == (*size.items(), ("[0:1]", 0))
    np.savez(tmp_path / "d.npz", images=X)
    assert listing(open_source(f"npz:{tmp_path}/d.npz")) == (("d.npz", (tmp_path / "d.npz").stat().st_size),)
    for word, x in (("images-idx3", G), ("labels-idx1", Y)):
        (tmp_path / f"train-{word}-ubyte").write_bytes(idx_bytes(x))
    assert [n for n, _ in listing(open_source(f"idx:{tmp_path}"))] == [
        "train-images-idx3-ubyte", "train-labels-idx1-ubyte"]
    assert listing(open_source("builtin:digits")) != listing(open_source("builtin:digits", "test"))
    assert listing(ArraySource(X, name="mine")) == (("mine", X.nbytes),) and listing([1, 2]) == (("list (2)", 0),)
    (tmp_path / "d" / "a" / "1.png").unlink()
    with pytest.raises(UserError, match="1.png"):
        listing(source)
