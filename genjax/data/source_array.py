"""What a source is, and the source whose pictures are already in memory.

A source is random access over pictures: `len(source)` and `source[i] -> {"image": [H, W, C] uint8 or float32 in
[0, 1], "label": int32 scalar}` ("label" only where labels are known). Sources hold no position and no seed,
can be pickled, and may be read from several threads at once.
"""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np

from genjax import errors
from genjax.data.summary import Summary, class_counts, ordered

Listing = tuple[tuple[str, int], ...]  # (name, bytes) of everything a source was read from


class Source(Protocol):
    """Random access over pictures.

    Attributes:
      name: how errors and reports call it, usually the spec.
      labelled: whether every element has a "label".
      classes: the names of the classes, or () where they have none.
    """

    name: str
    labelled: bool
    classes: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> dict[str, np.ndarray]: ...

    def listing(self) -> Listing:
        """(name, bytes) of every file read, named from the data set's folder on, in the order of its pictures; of
        what comes from no file one row that names it. Reads no picture, so that it may be asked of a million."""

    def summary(self, first: int = 0, end: int | None = None) -> Summary:
        """What there is in elements first .. end-1 (None: all): sizes, classes, from where, what was passed over."""

    # Optional: def content(self) -> tuple[Path, ...]: the files whose bytes tell it from another set of the same names
    # and sizes, see `genjax.data.fingerprint`.
    # Optional, where many pictures are made faster at once than one by one:
    # def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]: what [i] gives, with a first axis.


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
    """Pictures in memory.

    Attributes:
      images: [N, H, W, C] uint8, or float32 in [0, 1]; or a tuple of [H, W, C] arrays of different sizes.
      labels: [N] integers, or None.
      name, classes: see `Source`.
      files: what the pictures and labels were read from, () where from no file.
      split: as asked for; notes: see `Summary`.
    """

    images: np.ndarray | tuple[np.ndarray, ...]
    labels: np.ndarray | None = None
    name: str = "arrays"
    classes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    split: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        if len(self.images) == 0:
            raise errors.UserError(f"{self.name} holds no pictures; choose another source or split")
        if self.labels is not None and len(self.labels) != len(self.images):
            raise errors.UserError(
                f"{self.name} has {len(self.images)} pictures but {len(self.labels)} labels; give one per picture")

    @property
    def labelled(self) -> bool:
        return self.labels is not None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        element = {"image": self.images[i]}
        if self.labels is not None:
            element["label"] = np.int32(self.labels[i])
        return element

    def listing(self) -> Listing:
        """See `Source`."""
        if self.files:
            return file_listing(self.files, self.files[0].parent)
        return ((self.name, sum(x.nbytes for x in self.images)),)

    def content(self) -> tuple[Path, ...]:
        """The files read."""
        return self.files

    def summary(self, first: int = 0, end: int | None = None) -> Summary:
        """See `Source`."""
        images = self.images[first:end]
        sizes = ordered(Counter(x.shape[:2] for x in images)) if isinstance(images, tuple) else (
            (images.shape[1:3], len(images)),)
        return Summary(count=len(images), sizes=sizes, looked=len(images), split=self.split, notes=self.notes,
                       classes=class_counts(None if self.labels is None else self.labels[first:end], self.classes),
                       place=os.path.abspath(self.files[0]) if self.files else self.name.removesuffix(
                           f" ({self.split})"))


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """The pictures `first` to `end` - 1 of a source."""

    source: Source
    first: int
    end: int
    name: str

    @property
    def labelled(self) -> bool:
        return self.source.labelled

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes

    @property
    def labels(self) -> np.ndarray | None:
        """[N] integers; None where the source has none to show."""
        labels = getattr(self.source, "labels", None)
        return None if labels is None else labels[self.first:self.end]

    @property
    def rows(self):
        """`Source.rows` of the part; an AttributeError where the source has none."""
        rows = self.source.rows
        return lambda indices: rows(np.asarray(indices) + self.first)

    def __len__(self) -> int:
        return self.end - self.first

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        if not 0 <= i < len(self):
            raise IndexError(i)
        return self.source[self.first + int(i)]

    def listing(self) -> Listing:
        """See `Source`: that of the whole, and which part this is."""
        return (*listing(self.source), (f"[{self.first}:{self.end}]", 0))

    def content(self) -> tuple[Path, ...]:
        """The files of the whole."""
        return tuple(getattr(self.source, "content", tuple)())

    def summary(self, first: int = 0, end: int | None = None) -> Summary:
        """See `Source`."""
        end = len(self) if end is None else end
        if not hasattr(self.source, "summary"):
            return Summary(count=end - first, what="elements", place=self.name)
        whole = self.source.summary(self.first + first, self.first + end)
        return dataclasses.replace(whole, split=whole.split + self.name.removeprefix(self.source.name))


def file_listing(paths: Iterable[Path], root: Path) -> Listing:
    """(name from `root` on, bytes) of files, in their order.

    Raises:
      UserError: one is not there (any more).
    """
    try:
        return tuple((p.relative_to(root).as_posix() if p.is_relative_to(root) else os.path.relpath(p, root),
                      p.stat().st_size) for p in paths)
    except OSError as e:
        raise errors.UserError(f"cannot read {e.filename}: {e.strerror}; it belongs to {root}") from e


def listing(data: object) -> Listing:
    """`data.listing()` of a source or of what batches are drawn from; one row with its name where it has none."""
    if hasattr(data, "listing"):
        return data.listing()
    size = len(data) if hasattr(data, "__len__") else 0
    return ((f"{getattr(data, 'name', type(data).__name__)} ({size})", 0),)


def check_images(x: np.ndarray, name: str) -> np.ndarray:
    """Brings an array of pictures into the form `ArraySource` wants, or says what is wrong with it.

    Args:
      x: [N, H, W] or [N, H, W, C]; bool, uint8, uint16, or floats in [0, 1].
      name: for the message.

    Returns:
      [N, H, W, C] uint8, or float32 in [0, 1].
    """
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or 0 in x.shape:
        raise errors.UserError(f"{name} has shape {x.shape}; pictures are [N, H, W] or [N, H, W, C], none of them 0")
    if x.shape[-1] not in (1, 3):
        hint = ("; it looks like [N, C, H, W], transpose it with x.transpose(0, 2, 3, 1)"
                if x.shape[1] in (1, 3) and x.shape[-1] > 4 else "; pictures have 1 or 3 channels")
        raise errors.UserError(f"{name} has shape {x.shape}{hint}")
    if x.dtype == np.bool_:
        return x.astype(np.uint8) * 255
    if x.dtype == np.uint8:
        return x
    if x.dtype == np.uint16:
        if 0 < x.max() <= 255:
            raise errors.UserError(f"{name} has dtype uint16 and no value above {x.max()}, which may mean 8 bits or 16;"
                                   " store 8 bits as uint8, or floats in [0, 1]")
        return x.astype(np.float32) / 65535.0
    if not np.issubdtype(x.dtype, np.floating):
        raise errors.UserError(f"{name} has dtype {x.dtype}; store pictures as uint8 [0, 255] or floats in [0, 1]")
    bad = np.flatnonzero(~np.isfinite(x).all((1, 2, 3)))
    if bad.size:
        raise errors.UserError(f"{name} holds NaN or infinite values in {bad.size} of {len(x)} pictures, first in"
                               f" picture {bad[0]} (counted from 0); clean it first")
    if x.min() < 0 or x.max() > 1:
        raise errors.UserError(
            f"{name} holds floats from {x.min():.4g} to {x.max():.4g}; scale them into [0, 1] or store uint8")
    return x.astype(np.float32)


def check_labels(x: np.ndarray, name: str) -> np.ndarray:
    """[N] or [N, 1] whole numbers to [N] int32."""
    if x.ndim == 2 and x.shape[1] == 1:
        x = x[:, 0]
    whole = np.issubdtype(x.dtype, np.integer) or (np.issubdtype(x.dtype, np.floating) and (x == np.round(x)).all())
    if x.ndim != 1 or not whole or (x.size and max(-int(x.min()), int(x.max())) >= 2**31):
        raise errors.UserError(f"{name} has shape {x.shape} and dtype {x.dtype}; labels are [N] whole numbers below"
                               " 2^31")
    return x.astype(np.int32)
