"""Photographs of one scene from known places: batches of single rays with their colours, and held-out views.

Letters: V views of H x W pixels, B rays in a batch. Cameras as in `genjax.ops.camera`: z up, x to the right, y up and z
back in the camera's axes, so NeRF's own "transform_matrix" is the pose as it stands. Rays go through the pixels'
centres; those of NeRF's authors go through the pixels' upper left corners, half a pixel off.
"""

import functools
import os
from collections import Counter
from pathlib import Path

import numpy as np

from genjax import errors
from genjax.data import posed_files
from genjax.data.posed_files import Views
from genjax.data.source_array import Listing, file_listing
from genjax.data.summary import Summary, ordered


class PosedImages:
    """Rays of a scene for training, in an order that is a function of (seed, i).

    Args:
      source: "npz:PATH" (images [V,H,W,3 or 4] uint8, poses [V,4,4] camera to world, focal in pixels), "folder:PATH"
        (transforms.json or transforms_train.json, as NeRF's synthetic scenes) or "builtin:scenes[/PRESET]" (a scene
        of the ray tracer, seen from a sphere around it).
      batch_size: B.
      holdout: every n-th view is for evaluation, counted from the n-th; a folder's transforms_test.json too if there
        is one and holdout is 0.
      image_size: side to which the pictures' centre squares are resampled; 0 as they are, which need not be squares.
      background: the grey value in [0,1] behind transparent pixels.
      solid: a share of rays to be drawn from pixels that are not transparent alone, the rest from all pixels; needs
        pictures with an alpha channel (npz:), without effect on others.
      middle_steps: batches 0 .. middle_steps-1 are drawn from the middle half of each picture's height and width alone
        (`solid` rays from anywhere), where the object is when there is but one.
      views, scene: for builtin:scenes: how many, and of which scene.
      seed: of the order.
    """

    constant = False
    value_range = (0.0, 1.0)

    def __init__(self, source: str = "builtin:scenes/one", batch_size: int = 1024, holdout: int = 8,
                 image_size: int = 0, background: float = 1.0, solid: float = 0.0, views: int = 64, scene: int = 0,
                 middle_steps: int = 0, seed: int = 0):
        if batch_size < 1 or views < 2:
            raise errors.UserError(f"batch_size={batch_size} and views={views} must be at least 1 and 2")
        for name, value in (("holdout", holdout), ("image_size", image_size), ("scene", scene),
                            ("middle_steps", middle_steps), ("seed", seed)):
            if not 0 <= value < 2**31:
                raise errors.UserError(f"config.data.{name}={value} must lie between 0 and 2^31 - 1")
        if not 0 <= solid <= 1:
            raise errors.UserError(f"solid={solid} is a share of the rays, between 0 and 1")
        self.solid, self.middle_steps = solid, int(middle_steps)
        self.source, self.batch_size, self.holdout, self.seed = source, int(batch_size), int(holdout), int(seed)
        self.image_size, self.background, self.count, self.scene = int(image_size), background, int(views), int(scene)
        _ = self._all  # what cannot be read is said now

    def __len__(self) -> int:
        """Rays in one epoch."""
        x = self.train.images
        return len(x) * x.shape[1] * x.shape[2]

    def listing(self) -> Listing:
        """(name, bytes) of every file read; of a drawn scene one row that names it."""
        kind, _, rest = self.source.partition(":")
        if kind == "builtin":
            return ((f"{self.source} {self.count} views, scene {self.scene}", 0),)
        path = Path(rest).expanduser()
        return file_listing(self.content(), path if path.is_dir() else path.parent)

    def content(self) -> tuple[Path, ...]:
        """Every file read, () of a drawn scene."""
        return () if self.source.startswith("builtin:") else tuple(dict.fromkeys(self.train.files + self.test.files))

    def summary(self) -> Summary:
        """What every run logs of its data."""
        train, test = self.train, self.test
        kind, _, rest = self.source.partition(":")
        place = f"{self.source}, scene {self.scene}" if kind == "builtin" else os.path.abspath(Path(rest).expanduser())
        used = [x.shape[:2] for v in (train, test) for x in v.images]
        found = Counter([*train.sizes, *test.sizes] or used)
        resampled = () if set(found) == set(used) else (f"middle square resampled to {used[0][0]}x{used[0][1]}",)
        notes = (*resampled, f"{len(test)} of them held out", f"focal length {train.focal:.4g} half widths",
                 *train.notes)
        return Summary(count=len(train) + len(test), what="posed views", sizes=ordered(found), looked=found.total(),
                       place=place, notes=notes)

    @functools.cached_property
    def _all(self) -> tuple[Views, Views]:
        kind, _, rest = self.source.partition(":")
        if kind == "npz" and rest:
            every = posed_files.read_npz(Path(rest).expanduser(), self.background, self.image_size)
        elif kind == "folder" and rest:
            every, test = posed_files.read_folder(Path(rest).expanduser(), self.background, self.image_size,
                                                  self.holdout == 0)
            if test is not None:
                return every, test
        elif kind == "builtin" and rest.split("/")[0] == "scenes":
            from genjax.data import posed_scenes

            every = posed_scenes.around(rest.partition("/")[2] or "one", self.scene, self.count, self.image_size or 64)
        else:
            raise errors.unknown("source of posed pictures", self.source,
                                 ["npz:PATH", "folder:PATH", "builtin:scenes/one"])
        if self.holdout < 2 or len(every) < self.holdout:
            what = "training" if self.holdout == 1 else "evaluation"
            raise errors.UserError(f"{self.source} has {len(every)} views and holdout={self.holdout} leaves none for"
                                   f" {what}; set config.data.holdout to between 2 and their number")
        held = np.arange(len(every)) % self.holdout == self.holdout - 1
        return every[~held], every[held]

    @property
    def train(self) -> Views:
        """The views that rays are drawn from."""
        return self._all[0]

    @property
    def test(self) -> Views:
        """The held-out views."""
        return self._all[1]

    @functools.cached_property
    def _solid(self) -> np.ndarray:
        """Indices of the pixels that are not transparent, in the training views."""
        return np.flatnonzero(self.train.solid) if self.train.solid is not None else np.zeros(0, np.int64)

    @functools.cached_property
    def element_spec(self) -> dict:
        import jax

        shape = jax.ShapeDtypeStruct((self.batch_size, 3), np.float32)
        return {"image": shape, "origin": shape, "direction": shape}

    def batch(self, i: int, lo: int | None = None, hi: int | None = None) -> dict[str, np.ndarray]:
        """Batch i, or its rows lo..hi-1: {"origin", "direction", "image" (colours in [0,1])}, each [hi-lo,3]."""
        rng = np.random.default_rng((self.seed, i))
        if i < self.middle_steps:
            v, h, w, _ = self.train.images.shape
            view, row, column = (rng.integers(low, high, size=self.batch_size)
                                 for low, high in ((0, v), _middle(h), _middle(w)))
            index = (view * h + row) * w + column
        else:
            index = rng.integers(len(self), size=self.batch_size)
        few = round(self.solid * self.batch_size)
        if few and len(self._solid):
            index[:few] = self._solid[rng.integers(len(self._solid), size=few)]
        o, d, colour = self.train.rays(index[lo:hi])
        return {"image": colour, "origin": o.astype(np.float32), "direction": d.astype(np.float32)}


def _middle(n: int) -> tuple[int, int]:
    """The first and the end of the middle half of n rows, at least one of them."""
    return n // 2 - n // 4, max(n // 2 + n // 4, n // 2 + 1)
