"""Photographs of one scene from known places: batches of single rays with their colours, and held-out views.

Letters: V views of H x W pixels, B rays in a batch. Cameras as in `genjax.ops.camera`: z up, x to the right, y up and z
back in the camera's axes, so NeRF's own "transform_matrix" is the pose as it stands.
"""

import dataclasses
import functools
import json
import math
from pathlib import Path

import numpy as np

from genjax import errors
from genjax.data import images


@dataclasses.dataclass(frozen=True, eq=False)
class Views:
    """Pictures and where they were taken.

    Attributes:
      images: [V,H,W,3] float32 in [0,1].
      eye: [V,3].
      rotation: [V,3,3] camera to world.
      focal: in units of half the width.
      solid: [V,H,W] bool, where the pictures were not transparent; None where nothing is known.
    """

    images: np.ndarray
    eye: np.ndarray
    rotation: np.ndarray
    focal: float
    solid: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, which) -> "Views":
        solid = None if self.solid is None else self.solid[which]
        return Views(self.images[which], self.eye[which], self.rotation[which], self.focal, solid)

    def rays(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(origins, directions, colours), each [N,3] float32, of pixels counted over all views row by row."""
        _, h, w, _ = self.images.shape
        view, pixel = np.divmod(index, h * w)
        row, column = np.divmod(pixel, w)
        x, y = (2 * column + 1) / w - 1, (h - 2 * row - 1) / w
        local = np.stack([x / self.focal, y / self.focal, -np.ones_like(x)], -1).astype(np.float32)
        d = np.einsum("nij,nj->ni", self.rotation[view], local)
        return self.eye[view], d, self.images[view, row, column]


class PosedImages:
    """Rays of a scene for training, in an order that is a function of (seed, i).

    Args:
      source: "npz:PATH" (images [V,H,W,3 or 4] uint8, poses [V,4,4] camera to world, focal in pixels), "folder:PATH"
        (transforms.json or transforms_train.json, as NeRF's synthetic scenes) or "builtin:scenes[/PRESET]" (a scene
        of the ray tracer, seen from a sphere around it).
      batch_size: B.
      holdout: every n-th view is for evaluation, counted from the n-th; a folder's transforms_test.json too if there
        is one and holdout is 0.
      image_size: side to which pictures are resampled; 0 as they are.
      background: the grey value in [0,1] behind transparent pixels.
      solid: a share of rays to be drawn from pixels that are not transparent alone, the rest from all pixels; needs
        pictures with an alpha channel (npz:), without effect on others.
      views, scene: for builtin:scenes: how many, and of which scene.
      seed: of the order.
    """

    constant = False
    value_range = (0.0, 1.0)

    def __init__(self, source: str = "builtin:scenes/one", batch_size: int = 1024, holdout: int = 8,
                 image_size: int = 0, background: float = 1.0, solid: float = 0.0, views: int = 64, scene: int = 0,
                 seed: int = 0):
        if batch_size < 1 or holdout < 0 or image_size < 0 or views < 2:
            raise errors.UserError(f"batch_size={batch_size} and views={views} must be at least 1 and 2,"
                                   f" holdout={holdout} and image_size={image_size} not negative")
        if not 0 <= solid <= 1:
            raise errors.UserError(f"solid={solid} is a share of the rays, between 0 and 1")
        self.solid = solid
        self.source, self.batch_size, self.holdout, self.seed = source, int(batch_size), int(holdout), int(seed)
        self.image_size, self.background, self.count, self.scene = int(image_size), background, int(views), int(scene)
        _ = self._all  # what cannot be read is said now

    def __len__(self) -> int:
        """Rays in one epoch."""
        x = self.train.images
        return len(x) * x.shape[1] * x.shape[2]

    @functools.cached_property
    def _all(self) -> tuple[Views, Views]:
        kind, _, rest = self.source.partition(":")
        if kind == "npz" and rest:
            every = _npz(rest, self.background, self.image_size)
        elif kind == "folder" and rest:
            every, test = _folder(Path(rest), self.background, self.image_size, self.holdout == 0)
            if test is not None:
                return every, test
        elif kind == "builtin" and rest.split("/")[0] == "scenes":
            from genjax.data import posed_scenes

            every = posed_scenes.around(rest.partition("/")[2] or "one", self.scene, self.count, self.image_size or 64)
        else:
            raise errors.unknown("source of posed pictures", self.source,
                                 ["npz:PATH", "folder:PATH", "builtin:scenes/one"])
        if not self.holdout or len(every) < self.holdout:
            raise errors.UserError(f"{self.source} has {len(every)} views and holdout={self.holdout} leaves none for"
                                   " evaluation; set config.data.holdout to between 2 and their number")
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
        index = rng.integers(len(self), size=self.batch_size)
        few = round(self.solid * self.batch_size)
        if few and len(self._solid):
            index[:few] = self._solid[rng.integers(len(self._solid), size=few)]
        o, d, colour = self.train.rays(index[lo:hi])
        return {"image": colour, "origin": o.astype(np.float32), "direction": d.astype(np.float32)}


def _over(x: np.ndarray, background: float, size: int) -> np.ndarray:
    """[H,W,3] float32 in [0,1] from [H,W,3 or 4] uint8: over the background, resampled."""
    x = x.astype(np.float32) / 255
    if x.shape[-1] == 4:
        x = x[..., :3] * x[..., 3:] + background * (1 - x[..., 3:])
    return images.square(x, size) if size else x


def _npz(path: str, background: float, size: int) -> Views:
    try:
        with np.load(path) as z:
            missing = {"images", "poses", "focal"} - set(z.files)
            if missing:
                raise errors.UserError(f"{path} has no {sorted(missing)[0]!r}; posed pictures are images [V,H,W,C],"
                                       " poses [V,4,4] and focal (pixels)")
            x, poses, focal = z["images"], z["poses"].astype(np.float32), float(z["focal"])
    except (OSError, ValueError) as e:
        if isinstance(e, errors.UserError):
            raise
        raise errors.UserError(f"cannot read {path} as npz: {e}") from e
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[-1] not in (3, 4) or poses.shape != (len(x), 4, 4):
        raise errors.UserError(f"{path}: images {x.dtype}{list(x.shape)}, poses {list(poses.shape)}; wanted are uint8"
                               " [V,H,W,3 or 4] and [V,4,4]")
    every = np.stack([_over(v, background, size) for v in x])
    solid = None
    if x.shape[-1] == 4:
        solid = np.stack([_over(np.repeat(v[..., 3:], 3, -1), 0, size)[..., 0] > 0 for v in x])
    return Views(every, poses[:, :3, 3], poses[:, :3, :3], 2 * focal / x.shape[2], solid)


def _folder(path: Path, background: float, size: int, with_test: bool) -> tuple[Views, Views | None]:
    first = next((path / n for n in ("transforms.json", "transforms_train.json") if (path / n).exists()), None)
    if first is None:
        raise errors.UserError(f"{path} has no transforms.json or transforms_train.json (NeRF's synthetic format)")
    test = path / "transforms_test.json"
    return _transforms(first, background, size), (
        _transforms(test, background, size) if with_test and test.exists() else None)


def _transforms(file: Path, background: float, size: int) -> Views:
    try:
        meta = json.loads(file.read_text())
        angle, frames = float(meta["camera_angle_x"]), meta["frames"]
        poses = np.array([f["transform_matrix"] for f in frames], np.float32)
        paths = [file.parent / f["file_path"] for f in frames]
    except (ValueError, KeyError, TypeError) as e:
        raise errors.UserError(f"{file} is not in NeRF's synthetic format: {type(e).__name__} {e}") from e
    paths = [p if p.suffix else p.with_suffix(".png") for p in paths]
    found = [images.load_image(p, channels=3, background=background) for p in paths]
    found = [images.square(x, size) if size else x for x in found]
    if len({x.shape for x in found}) > 1:
        raise errors.UserError(f"{file} names pictures of different sizes; set config.data.image_size")
    return Views(np.stack(found), poses[:, :3, 3], poses[:, :3, :3], 1 / math.tan(angle / 2))
