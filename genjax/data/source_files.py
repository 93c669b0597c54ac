"""`npz:PATH[:key]` and `idx:PATH`: data sets in files of arrays."""

import gzip
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from genjax import errors
from genjax.data import folders
from genjax.data.source_array import ArraySource, check_images, check_labels

_IDX_UBYTE = 0x08  # the only element type that MNIST-like files use


def _file(path: str, kind: str) -> Path:
    """An existing, non-empty file, or the error that says so."""
    found = Path(path).expanduser()
    if found.is_dir():
        raise errors.UserError(f"{found} is a folder; {kind}: needs a file")
    if found.is_symlink() and not found.exists():
        raise errors.UserError(f"{folders.missing(found)}; mend the link")
    if not found.exists():
        near = errors.nearest(found.name, [p.name for p in found.parent.iterdir()]) if found.parent.is_dir() else None
        raise errors.UserError(f"no file {found}; " + (f"did you mean {near!r}?" if near else "check the path"))
    if found.stat().st_size == 0:
        raise errors.UserError(f"{found} is empty (0 bytes); copy or download it again")
    return found


def npz(path: str, split: str) -> ArraySource:
    """Pictures, and labels where there are any, out of one .npz (or .npy) file, read into memory.

    Args:
      path: PATH or PATH:KEY. Without a key the pictures are x_SPLIT, SPLIT_images, images_SPLIT (then labels
        y_SPLIT, SPLIT_labels, labels_SPLIT), or, for split "train" and "all", images, image, x, data or arr_0
        (then labels, label or y).
      split: "train", "test" …

    Returns:
      A source of [H, W, C] uint8, or float32 in [0, 1].
    """
    key = ""
    if not Path(path).expanduser().exists() and ":" in path:
        path, _, key = path.rpartition(":")
    file = _file(path, "npz")
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            there, arrays = ["arr_0"], {"arr_0": loaded}
            image_key, label_key = _npz_names(file, there, split, key)
        else:
            with loaded:
                there = list(loaded.files)
                image_key, label_key = _npz_names(file, there, split, key)
                arrays = {n: loaded[n] for n in (image_key, label_key) if n}
    except errors.UserError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as e:
        raise errors.UserError(
            f"{file} is damaged, cut short, or no .npz file of plain arrays; write it again with np.savez") from e
    x = check_images(arrays[image_key], f"{file}:{image_key}")
    labels = check_labels(arrays[label_key], f"{file}:{label_key}") if label_key else None
    unread = [n for n in there if n not in (image_key, label_key)]
    notes = (f"arrays {image_key}" + f" and {label_key}" * bool(label_key),
             *([f"not read: {', '.join(unread[:8])}" + ", …" * (len(unread) > 8)] if unread else ()))
    return ArraySource(x, labels, f"npz:{file}:{image_key}", (), (file,), split, notes)


def _npz_names(file: Path, keys: list[str], split: str, key: str) -> tuple[str, str]:
    """The names of the picture array and of the label array ("" = none)."""
    labels = [f"y_{split}", f"{split}_labels", f"labels_{split}"]
    pictures = [f"x_{split}", f"{split}_images", f"images_{split}"]
    if split in ("train", "all"):
        pictures += ["images", "image", "x", "data", "arr_0"]
        labels += ["labels", "label", "y"]
    if key:
        if key not in keys:
            raise errors.unknown(f"array in {file}", key, keys)
        tail = key.removeprefix("x").removeprefix("images").removesuffix("images").removesuffix("image")
        own = [f"y{tail}", f"labels{tail}", f"{tail}labels", f"{tail}label"]
        return key, next((n for n in own if n in keys and n != key), "")
    image = next((n for n in pictures if n in keys), "")
    if not image:
        raise errors.UserError(
            f"{file} has no pictures for split {split!r} (it holds {', '.join(keys)}); name one: npz:{file}:KEY")
    return image, next((n for n in labels if n in keys), "")


def read_idx(path: str | Path) -> np.ndarray:
    """One idx file of unsigned bytes, plain or gzipped.

    The format: two zero bytes, the element type (8 = unsigned byte), the number of dimensions, each dimension
    as a big-endian 32-bit integer, then the elements. Source: LeCun, Cortes and Burges, the MNIST page.

    Raises:
      UserError: not idx, another element type, fewer or more bytes than the header promises.
    """
    file = _file(str(path), "idx")
    raw = file.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as e:
            raise errors.UserError(f"{file} is a damaged gzip file ({e}); download it again") from e
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[3] not in (1, 2, 3, 4):
        raise errors.UserError(f"{file} is not an idx file (first bytes {raw[:4].hex()}); expected 0000080N")
    if raw[2] != _IDX_UBYTE:
        raise errors.UserError(f"{file} holds idx type 0x{raw[2]:02x}; only unsigned bytes (0x08) are pictures")
    rank = raw[3]
    head = 4 + 4 * rank
    if len(raw) < head:
        raise errors.UserError(f"{file} is cut short inside its header; download it again")
    shape = struct.unpack(f">{rank}I", raw[4:head])
    want = int(np.prod(shape, dtype=object))
    if len(raw) - head != want:
        raise errors.UserError(
            f"{file} promises {'x'.join(map(str, shape))} = {want} bytes but has {len(raw) - head}; download it again")
    return np.frombuffer(raw, np.uint8, offset=head).reshape(shape)


def idx(path: str, split: str) -> ArraySource:
    """An MNIST-like set.

    Args:
      path: a folder with [PREFIX]train-images-idx3-ubyte and t10k-images-idx3-ubyte (plain or .gz, labels beside
        them as *-labels-idx1-ubyte), or one images file.
      split: "train" (train-*) or "test" (t10k-*); ignored for a file.

    Returns:
      [H, W, 1] uint8 pictures, labelled where the label file is there.
    """
    root = Path(path).expanduser()
    if root.is_dir():
        words = {"train": ("train",), "test": ("t10k", "test")}
        if split not in words:
            raise errors.unknown("split of an idx folder", split, words)
        found = sorted({p for w in words[split] for p in root.glob(f"*{w}-images*idx3*") if p.is_file()})
        found = [p for p in found if not (p.suffix == ".gz" and p.with_suffix("") in found)]  # prefer the plain
        if len(found) != 1:
            names = ", ".join(p.name for p in found or sorted(root.glob("*images*idx3*"))) or "none"
            raise errors.UserError(
                f"{root} should hold one {words[split][0]}-images-idx3-ubyte[.gz] for split {split!r}, found {names};"
                " give the file: idx:FILE")
        file = found[0]
    else:
        file = _file(path, "idx")
    x = read_idx(file)
    if x.ndim not in (3, 4):
        raise errors.UserError(f"{file} has shape {x.shape}: it holds labels, not pictures; give the images file")
    beside = file.name.replace("images", "labels").replace("idx3", "idx1")
    plain = beside.removesuffix(".gz")
    label_file = next((file.with_name(n) for n in (beside, plain, plain + ".gz")
                       if n != file.name and file.with_name(n).is_file()), None)
    labels = None if label_file is None else check_labels(read_idx(label_file), str(label_file))
    files = (file,) if label_file is None else (file, label_file)
    return ArraySource(check_images(x, str(file)), labels, f"idx:{file}", (), files, split if root.is_dir() else "")
