"""Photographs of one scene from known places: batches of single rays with their colours, and held-out views.

Letters: V views of H x W pixels, B rays in a batch. Cameras as in `genjax.ops.camera`: z up, x to the right, y up and z
back in the camera's axes, so NeRF's own "transform_matrix" is the pose as it stands.
"""

import dataclasses
import functools
import json
import math
import zipfile
import zlib
from pathlib import Path

import numpy as np

from genjax import errors
from genjax.data import images
from genjax.data.source_array import Listing, file_listing


@dataclasses.dataclass(frozen=True, eq=False)
class Views:
    """Pictures and where they were taken.

    Attributes:
      images: [V,H,W,3] float32 in [0,1].
      eye: [V,3].
      rotation: [V,3,3] camera to world.
      focal: in units of half the width.
      solid: [V,H,W] bool, where the pictures were not transparent; None where nothing is known.
      files: what they were read from.
    """

    images: np.ndarray
    eye: np.ndarray
    rotation: np.ndarray
    focal: float
    solid: np.ndarray | None = None
    files: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, which) -> "Views":
        solid = None if self.solid is None else self.solid[which]
        return Views(self.images[which], self.eye[which], self.rotation[which], self.focal, solid, self.files)

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
        return file_listing(dict.fromkeys(self.train.files + self.test.files), path if path.is_dir() else path.parent)

    @functools.cached_property
    def _all(self) -> tuple[Views, Views]:
        kind, _, rest = self.source.partition(":")
        if kind == "npz" and rest:
            every = _npz(Path(rest).expanduser(), self.background, self.image_size)
        elif kind == "folder" and rest:
            every, test = _folder(Path(rest).expanduser(), self.background, self.image_size, self.holdout == 0)
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


def _wider(h: int, w: int, size: int) -> float:
    """The width of a picture over the side of the square that is taken of it; a focal length in half widths grows by
    it."""
    return w / min(h, w) if size else 1.0


def _over(x: np.ndarray, background: float, size: int) -> np.ndarray:
    """[H,W,3] float32 in [0,1] from [H,W,3 or 4] uint8: over the background, resampled."""
    x = x.astype(np.float32) / 255
    if x.shape[-1] == 4:
        x = x[..., :3] * x[..., 3:] + background * (1 - x[..., 3:])
    return images.square(x, size) if size else x


def _npz(path: Path, background: float, size: int) -> Views:
    try:
        z = np.load(path)
        if not isinstance(z, np.lib.npyio.NpzFile):
            raise errors.UserError(f"{path} holds one array, not the arrays images, poses and focal; write it with"
                                   " np.savez")
        with z:
            missing = {"images", "poses", "focal"} - set(z.files)
            if missing:
                raise errors.UserError(f"{path} has no {sorted(missing)[0]!r}; posed pictures are images [V,H,W,C],"
                                       " poses [V,4,4] and focal (pixels)")
            x, poses, focal = z["images"], z["poses"].astype(np.float32), z["focal"].astype(np.float32)
    except errors.UserError:
        raise
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        reason = getattr(e, "strerror", None) or e
        raise errors.UserError(f"cannot read {path} as npz: {reason}; give a file that np.savez wrote") from e
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[-1] not in (3, 4) or not x.size or poses.shape != (len(x), 4, 4):
        raise errors.UserError(f"{path}: images {x.dtype}{list(x.shape)}, poses {list(poses.shape)}; wanted are uint8"
                               " [V,H,W,3 or 4] and [V,4,4]")
    if focal.size != 1 or not np.isfinite(focal).all() or focal.min() <= 0:
        raise errors.UserError(f"{path}: focal {list(focal.shape)} is to be one number of pixels above 0, that of all"
                               " views")
    every = np.stack([_over(v, background, size) for v in x])
    solid = None
    if x.shape[-1] == 4:
        solid = np.stack([_over(np.repeat(v[..., 3:], 3, -1), 0, size)[..., 0] > 0 for v in x])
    _, h, w, _ = x.shape
    return Views(every, poses[:, :3, 3], poses[:, :3, :3], 2 * focal.item() / w * _wider(h, w, size), solid,
                 (path,))


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
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise errors.UserError(f"{file} is not in NeRF's synthetic format: {type(e).__name__} {e}") from e
    if not frames or poses.shape != (len(frames), 4, 4) or not 0 < angle < math.pi:
        raise errors.UserError(f"{file}: {len(frames)} frames with matrices {list(poses.shape[1:])} and camera_angle_x="
                               f"{angle}; wanted are one frame or more, [4,4], an angle between 0 and pi")
    paths = [p if p.suffix else p.with_suffix(".png") for p in paths]
    found = [images.load_image(p, channels=3, background=background) for p in paths]
    wider = [_wider(*x.shape[:2], size) for x in found]
    if max(wider) > 1.01 * min(wider):
        raise errors.UserError(f"{file} names pictures of different ratios of their sides, and one camera_angle_x for"
                               " all: cut them alike")
    found = [images.square(x, size) if size else x for x in found]
    if len({x.shape for x in found}) > 1:
        raise errors.UserError(f"{file} names pictures of different sizes; set config.data.image_size")
    return Views(np.stack(found), poses[:, :3, 3], poses[:, :3, :3], wider[0] / math.tan(angle / 2), None,
                 (file, *paths))
