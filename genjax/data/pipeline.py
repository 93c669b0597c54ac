"""Batches as a pure function of (seed, i), so a run resumes at step i with no iterator to restore.

Letters: B the global batch, S the picture's side, C channels, n the number of pictures, r the row: batch i is
the rows r = iB .. (i+1)B-1 of one endless sequence, epoch e = r // n after epoch, each a permutation of the
pictures. A batch may straddle two epochs; no picture is dropped or doubled. What is random in row r (its crop,
its flip) depends on (seed, r) alone. So a process may ask for only its own rows of a batch, and the global batch
does not depend on how many processes there are.

Rows run through a Grain `MapDataset`; a source that makes many pictures faster at once than one by one (`rows`) makes
those of a batch before its rows are run through. The permutation is ours: Grain's `shuffle` (0.2.18) finds each index
by walking a cycle of about 2^16 steps divided by n, 1.9 ms per row for a dozen pictures.
"""

import dataclasses
import functools
import threading
from pathlib import Path
from typing import get_args

import numpy as np

from genjax import errors
from genjax.data import images
from genjax.data.prefetch import Prefetched
from genjax.data.source_array import Listing
from genjax.data.sources import Source, listing, open_source
from genjax.data.summary import Summary, summarize

_ENDLESS = 2**62  # rows of the endless sequence, as far as Grain is concerned


class Rows:
    """The endless sequence of picture indices: rows[r] is the picture of row r, for r = 0, 1, 2, …

    Args:
      n: number of pictures.
      seed: chooses the permutations, one per epoch.
      shuffle: False for the order of the source.
    """

    def __init__(self, n: int, seed: int, shuffle: bool):
        self.n, self.seed, self.shuffle = n, seed, shuffle

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, r: int) -> int:
        epoch, place = divmod(int(r), self.n)
        return int(_permutation(self.n, self.seed, epoch)[place]) if self.shuffle else place


@functools.lru_cache(maxsize=4)  # neighbouring epochs, for training and evaluation: 10 MB for ImageNet
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(n)


class _Read(threading.local):
    """Reads a source picture by picture; what a thread has fetched at once lies ready for it."""

    def __init__(self, source: Source):
        self.source, self.ready = source, {}

    def __reduce__(self):
        return _Read, (self.source,)

    def fetch(self, indices: list[int]) -> None:
        """Makes these pictures at once, for this thread, until it fetches others."""
        self.ready = {}  # before the new ones are made: memory for one batch only
        found = self.source.rows(np.asarray(indices))
        for n, i in enumerate(indices):
            self._finite(i, found["image"][n])
        self.ready = {i: {k: v[n] for k, v in found.items()} for n, i in enumerate(indices)}

    def __call__(self, i: int) -> dict[str, np.ndarray]:
        if i in self.ready:
            return self.ready[i]
        element = self.source[i]
        self._finite(i, element["image"])
        return element

    def _finite(self, i: int, image: np.ndarray) -> None:
        if image.dtype != np.uint8 and not np.isfinite(image).all():
            paths = getattr(self.source, "paths", None)
            raise errors.UserError(f"picture {i} of {self.source.name}{f' ({paths[i]})' if paths else ''} holds NaN or"
                                   " infinite values; mend it or leave it out")


class Pipeline(Prefetched):
    """Batches of pictures for training.

    Args:
      source: a spec for `open_source`, or a `Source`.
      split: the source's split.
      batch_size: B, over all processes.
      image_size: S; each picture is made a square (see `fit`) and resampled to SxS, antialiased, in its own depth.
        0 = as they are (then all must be of one size). Scenes are drawn at the largest size wanted.
      random_crop: side of a square cut at a random place, anew for each row, before `image_size` applies; 0 = none.
      flip: mirror left-right with probability one half, anew for each row.
      channels: 1 or 3; 0 = as the source has.
      value_range: (-1, 1) or (0, 1): where black and white go.
      labels: give "label" where the source has labels.
      crops: for builtin photos and textures: side of the squares they are cut into, 0 = whole.
      data_dir: for tfds: the folder of prepared sets, "" = tfds's own.
      shuffle: a new order each epoch; False keeps the source's.
      seed: 0 to 2**32-1.
      prefetch: batches prepared ahead, each by its own thread; 0 = none. Changes the speed, never the batches.
      center_crop: side of the square cut out of the middle before all else (e.g. 108 of CelebA's 178x218); 0 = none.
      resample: how `image_size` resamples: "lanczos", "box" (FFHQ-256 was made so), "bicubic", "bilinear", "nearest".
      fit: how a picture that is no square becomes SxS: "centre", its middle square is resampled; "squash", all of it,
        its sides each by its own factor; "random", the shorter side is resampled to S and a square cut at a random
        place along the longer one, anew for each row (the metrics' real pictures: the middle).

    Attributes:
      split: as given.
      constant: False, each batch is another.
      element_spec: {"image": [B, S, S, C] float32, "label": [B] int32} as `jax.ShapeDtypeStruct`.
      classes: names of the classes, or ().
    """

    constant = False
    _first = 0  # the row of the endless sequence that is row 0 here

    def __init__(self, source: str | Source = "builtin:digits", split: str = "train", batch_size: int = 64,
                 image_size: int = 0, random_crop: int = 0, flip: bool = False, channels: int = 0,
                 value_range: tuple[float, float] = (-1.0, 1.0), labels: bool = True, crops: int = 0,
                 data_dir: str = "", shuffle: bool = True, seed: int = 0, prefetch: int = 2, center_crop: int = 0,
                 resample: images.Method = "lanczos", fit: images.Fit = "centre"):
        import grain  # brings JAX and orbax along: half a second that only training pays

        for name, value, least in (("batch_size", batch_size, 1), ("image_size", image_size, 0),
                                   ("random_crop", random_crop, 0), ("crops", crops, 0), ("prefetch", prefetch, 0),
                                   ("center_crop", center_crop, 0)):
            if value < least or value != int(value):
                raise errors.UserError(f"{name}={value}: a whole number of at least {least} is needed")
        if not 0 <= seed < 2**32:
            raise errors.UserError(f"seed={seed}: a data seed lies between 0 and 2**32-1")
        if tuple(value_range) not in ((-1, 1), (0, 1)):
            raise errors.UserError(f"value_range={tuple(value_range)}: pictures go to (-1, 1) or (0, 1)")
        if channels not in (0, 1, 3):
            raise errors.UserError(f"channels={channels}: give 1 (grey), 3 (colour) or 0 (as the source)")
        if resample not in images.METHODS:
            raise errors.unknown("resample", resample, images.METHODS)
        if fit not in get_args(images.Fit):
            raise errors.unknown("fit", fit, get_args(images.Fit))
        if fit == "random" and (random_crop or not image_size):
            raise errors.UserError("fit=random cuts what image_size resampled: give image_size, and no random_crop")
        self._reopen = None
        if isinstance(source, str):
            options = _options(source, crops, data_dir, channels, max(image_size, random_crop, center_crop))
            self._reopen = functools.partial(open_source, source, **options)
            source = self._reopen(split)
        super().__init__(batch_size, prefetch)
        self.source, self.seed, self.split, self.resample = source, int(seed), split, resample
        self.image_size, self.random_crop, self.flip = int(image_size), int(random_crop), bool(flip)
        self.center_crop, self.fit = int(center_crop), fit
        self.channels, self.value_range = channels, tuple(map(float, value_range))
        self.labelled, self.classes = bool(labels and source.labelled), source.classes
        self._order, self._read = Rows(len(source), self.seed, shuffle), _Read(source)
        rows = grain.MapDataset.source(self._order).map(self._read)
        if self.center_crop:
            rows = rows.map(self._center)
        if self.random_crop or self.flip or fit == "random":
            rows = rows.seed(self.seed).random_map(self._vary)
        self.rows = rows.map(self._finish)

    def another(self, split: str) -> Source:
        """The same source's other split."""
        if self._reopen is None:
            raise errors.UserError(f"{self.source.name} was given as arrays and has no split {split!r}; open the data"
                                   " by its spec, such as folder:PATH")
        return self._reopen(split)

    def __len__(self) -> int:
        """Pictures in one epoch."""
        return len(self.source)

    def listing(self) -> Listing:
        """(name, bytes) of what the source was read from, see `Source.listing`."""
        return listing(self.source)

    def content(self) -> tuple[Path, ...]:
        """The files of the source, see `genjax.data.fingerprint`."""
        return tuple(getattr(self.source, "content", tuple)())

    def summary(self) -> Summary:
        """What the source holds, and at which size batches show it."""
        found = summarize(self.source)
        sides = {"cut to": self.center_crop, "random cuts of": self.random_crop, "resampled to": self.image_size}
        if {s for s, _ in found.sizes} == {(self.image_size,) * 2}:
            del sides["resampled to"]
        steps = tuple(f"{how} {n}x{n}" for how, n in sides.items() if n)
        grey = ("in grey (config.data.channels=1)",) if self.channels == 1 else ()
        return dataclasses.replace(found, notes=found.notes + steps + grey)

    @functools.cached_property
    def element_spec(self) -> dict:
        import jax

        row = self.rows[0]
        return {k: jax.ShapeDtypeStruct((self.batch_size, *v.shape), v.dtype) for k, v in row.items()}

    def _center(self, element: dict) -> dict:
        return {**element, "image": images.center_crop(element["image"], size=self.center_crop)}

    def _vary(self, element: dict, rng: np.random.Generator) -> dict:
        """The random part of one row: where it is cut, whether it is mirrored."""
        x, side = element["image"], self.random_crop
        if self.fit == "random":
            x, side = images.shorter_side(x, self.image_size, self.resample), self.image_size
        if side:
            h, w = x.shape[:2]
            if side > min(h, w):
                raise errors.UserError(
                    f"random_crop={side} is larger than a {h}x{w} picture of {self.source.name}; use a smaller crop")
            top, left = rng.integers(h - side + 1), rng.integers(w - side + 1)
            x = x[top:top + side, left:left + side]
        if self.flip and rng.random() < 0.5:
            x = x[:, ::-1]
        return {**element, "image": x}

    def _finish(self, element: dict) -> dict[str, np.ndarray]:
        """The fixed part of one row: channels, size, range."""
        x = element["image"]
        if self.channels:
            x = images.to_channels(x, self.channels)
        if self.image_size:
            x = images.square(x, self.image_size, self.resample, self.fit == "squash")
        low, high = self.value_range
        white = (255.0 if x.dtype == np.uint8 else 1.0) / (high - low)  # dividing keeps black and white exact
        out = {"image": x.astype(np.float32) / np.float32(white) + np.float32(low)}
        if self.labelled:
            out["label"] = element["label"]
        return out

    def _make(self, i: int, lo: int, hi: int) -> dict[str, np.ndarray]:
        numbers = range(i * self.batch_size + lo, i * self.batch_size + hi)
        if hasattr(self.source, "rows"):
            self._read.fetch(sorted({self._order[self._first + r] for r in numbers}))
        rows = [self.rows[r] for r in numbers]
        shapes = {row["image"].shape for row in rows}
        if len(shapes) > 1:
            a, b = sorted(shapes)[:2]
            raise errors.UserError(
                f"{self.source.name} has pictures of different shapes, {a} and {b}; set image_size (or channels)")
        return {k: np.stack([row[k] for row in rows]) for k in rows[0]}


def _options(source: str, crops: int, data_dir: str, channels: int, size: int) -> dict:
    """The source's own options among the pipeline's; one that the source would not read is an error."""
    pictures, tfds = source in ("builtin:photos", "builtin:textures"), source.startswith("tfds:")
    if crops and not pictures:
        raise errors.UserError(f"crops={crops} is for builtin:photos and :textures; use random_crop for {source}")
    if data_dir and not tfds:
        raise errors.UserError(f"data_dir={data_dir!r} is for tfds sources; {source} does not read it")
    options = {"crops": crops} if pictures else {"data_dir": data_dir} if tfds else {}
    if source.startswith("builtin:scenes") and size:
        options["size"] = size
    if channels and (pictures or source.startswith("folder:")):
        options["channels"] = channels
    return options
