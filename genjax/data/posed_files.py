"""Views from files: arrays in an .npz, or pictures with a transforms.json (NeRF's synthetic scenes, instant-ngp,
Nerfstudio).

What a transforms.json says of the camera is used, or refused in one line: fl_x, fl_y, cx, cy (pixels of a picture of
w x h, scaled where the pictures are smaller), camera_angle_x, camera_angle_y. Distorted lenses, cameras that differ
from frame to frame, moving scenes and masks are refused. What else it holds (depths, bounds, normalisations) is named
as not read.
"""

import dataclasses
import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from genjax import errors
from genjax.data import images

_PINHOLE = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL", "FULL_OPENCV", "PERSPECTIVE")
_DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2", "b1", "b2", "s1", "s2", "s3", "s4")
_BENT = (*_DISTORTION, "distortion_params", "distortion_coefficients", "dist_coeffs", "distortion", "is_fisheye",
         "rolling_shutter", "rolling_shutter_time")  # one number or a list; only zeros are a pinhole camera
_MATRICES = ("intrinsic_matrix", "camera_matrix", "intrinsics", "K")
_INTRINSICS = ("camera_angle_x", "camera_angle_y", "fl_x", "fl_y", "cx", "cy", "w", "h")
_READ = (*_INTRINSICS, *_BENT, *_MATRICES, "camera_model", "frames", "file_path", "transform_matrix", "rotation",
         "time", "mask_path")  # NeRF's synthetic `rotation` is that of the turntable, which the matrix has in it


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
      centre: (x to the right, y up) of the principal point, from the middle of the picture, in half widths.
      stretch: the horizontal focal length over the vertical one, both in pixels.
      notes: what the files hold that was not read.
      sizes: (height, width) of each picture as its file has it; () where no file has it.
    """

    images: np.ndarray
    eye: np.ndarray
    rotation: np.ndarray
    focal: float
    solid: np.ndarray | None = None
    files: tuple[Path, ...] = ()
    centre: tuple[float, float] = (0.0, 0.0)
    stretch: float = 1.0
    notes: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, which) -> "Views":
        solid = None if self.solid is None else self.solid[which]
        sizes = tuple(self.sizes[i] for i in np.atleast_1d(np.arange(len(self))[which])) if self.sizes else ()
        return dataclasses.replace(self, images=self.images[which], eye=self.eye[which],
                                   rotation=self.rotation[which], solid=solid, sizes=sizes)

    def plane(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """[N,2] places of pixels on the image plane at a distance of `focal`, from the principal point on."""
        _, h, w, _ = self.images.shape
        x, y = (2 * column + 1) / w - 1, (h - 2 * row - 1) / w
        return np.stack([x - self.centre[0], (y - self.centre[1]) * self.stretch], -1)

    def rays(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(origins, directions, colours), each [N,3] float32, of pixels counted over all views row by row."""
        _, h, w, _ = self.images.shape
        view, pixel = np.divmod(index, h * w)
        row, column = np.divmod(pixel, w)
        p = self.plane(row, column) / self.focal
        local = np.concatenate([p, np.full((len(p), 1), -1.0)], -1).astype(np.float32)
        d = np.einsum("nij,nj->ni", self.rotation[view], local)
        return self.eye[view], d, self.images[view, row, column]


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


def read_npz(path: Path, background: float, size: int) -> Views:
    """The views of arrays images [V,H,W,3 or 4] uint8, poses [V,4,4] camera to world and focal (pixels).

    Raises:
      UserError: a file that cannot be read, or arrays of other shapes.
    """
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
            more = set(z.files) - {"images", "poses", "focal"}
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
    if lens := more & {*_INTRINSICS, *_DISTORTION}:
        raise errors.UserError(f"{path} has {sorted(lens)[0]!r}, which arrays are not read with; give the pictures with"
                               " a transforms.json, which may say it, or leave it away")
    _check_poses(path, poses, [f"view {i}" for i in range(len(x))])
    every = np.stack([_over(v, background, size) for v in x])
    solid = None
    if x.shape[-1] == 4:
        solid = np.stack([_over(np.repeat(v[..., 3:], 3, -1), 0, size)[..., 0] > 0 for v in x])
    _, h, w, _ = x.shape
    return Views(every, poses[:, :3, 3], poses[:, :3, :3], 2 * focal.item() / w * _wider(h, w, size), solid,
                 (path,), notes=_unread(more), sizes=(x.shape[1:3],) * len(x))


def _check_poses(file: Path, poses: np.ndarray, names: list[str]) -> None:
    bad = np.flatnonzero(~np.isfinite(poses).all((1, 2)))
    if bad.size:
        raise errors.UserError(f"{file}: the camera of {names[bad[0]]} holds NaN or infinite numbers ({bad.size} of"
                               f" {len(poses)} do); leave such views out")


def _unread(names: set[str]) -> tuple[str, ...]:
    return (f"not read: {', '.join(sorted(names))}",) if names else ()


def read_folder(path: Path, background: float, size: int, with_test: bool) -> tuple[Views, Views | None]:
    """(the views of transforms.json or transforms_train.json, those of transforms_test.json if asked for and there).

    Raises:
      UserError: neither is there, or what it says cannot be used.
    """
    first = next((path / n for n in ("transforms.json", "transforms_train.json") if (path / n).exists()), None)
    if first is None:
        raise errors.UserError(f"{path} has no transforms.json or transforms_train.json (NeRF's synthetic format)")
    views, test = _transforms(first, background, size), path / "transforms_test.json"
    if not test.exists():
        return views, None
    if with_test:
        return views, _transforms(test, background, size)
    return dataclasses.replace(views, notes=(*views.notes, f"{test.name} was not read (config.data.holdout=0 holds its"
                                             " views out)")), None


def _transforms(file: Path, background: float, size: int) -> Views:
    try:
        meta = json.loads(file.read_text())
        frames = meta["frames"]
        poses = np.array([f["transform_matrix"] for f in frames], np.float32)
        paths = [file.parent / f["file_path"] for f in frames]
        lens = _lens(file, meta, frames)
    except errors.UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise errors.UserError(f"{file} is not in NeRF's synthetic format: {type(e).__name__} {e}") from e
    if not frames or poses.shape != (len(frames), 4, 4):
        raise errors.UserError(f"{file}: {len(frames)} frames with matrices {list(poses.shape[1:])}; wanted are one"
                               " frame or more, [4,4]")
    _check_poses(file, poses, [str(f["file_path"]) for f in frames])
    paths = [p if p.suffix else p.with_suffix(".png") for p in paths]
    found = [images.load_image(p, channels=3, background=background) for p in paths]
    wider = [_wider(*x.shape[:2], size) for x in found]
    if max(wider) > 1.01 * min(wider):
        raise errors.UserError(f"{file} names pictures of different ratios of their sides, and one camera for all: cut"
                               " them alike")
    camera = _camera(file, lens, *found[0].shape[:2], size)
    sizes = tuple(x.shape[:2] for x in found)
    found = [images.square(x, size) if size else x for x in found]
    if len({x.shape for x in found}) > 1:
        raise errors.UserError(f"{file} names pictures of different sizes; set config.data.image_size")
    keys = {*meta, *(k for f in frames for k in f)}
    return Views(np.stack(found), poses[:, :3, 3], poses[:, :3, :3], files=(file, *paths), **camera,
                 notes=_unread(keys - {*_READ}), sizes=sizes)


def _lens(file: Path, meta: dict[str, Any], frames: list[dict[str, Any]]) -> dict[str, float]:
    """The numbers that describe the one camera of all frames; what no pinhole camera has is refused."""
    lens = {}
    for key in _INTRINSICS:
        values = {_number(file, key, f.get(key)) for f in frames}
        if len(values) > 1:
            raise errors.UserError(f"{file}: {key!r} differs from frame to frame; only one camera for all is read, so"
                                   " resample the pictures to one")
        value = next(iter(values), None)
        value = _number(file, key, meta.get(key)) if value is None else value
        if value is not None:
            lens[key] = value
    said = [(k, m[k]) for m in (meta, *frames) for k in (*_BENT, *_MATRICES) if k in m and _nonzero(m[k])]
    if matrix := next((k for k, _ in said if k in _MATRICES), None):
        raise errors.UserError(f"{file} has {matrix}, which is not read: write it as fl_x, fl_y, cx, cy, w and h (in"
                               " pixels) and take it away")
    bent = next(iter(said), None)
    models = {str(m.get("camera_model", _PINHOLE[0])) for m in (meta, *frames)}
    if bent or not models <= set(_PINHOLE):
        what = f"{bent[0]}={json.dumps(bent[1])}" if bent else f"camera_model {sorted(models - set(_PINHOLE))[0]}"
        raise errors.UserError(f"{file} says {what}, and lenses that distort are not read: undistort the pictures (such"
                               " as by COLMAP's image_undistorter) and write their camera")
    if len({f.get("time") for f in frames}) > 1:
        raise errors.UserError(f"{file} has frames of several times: a scene that moves cannot be trained as one at"
                               " rest")
    if any("mask_path" in f for f in frames):
        raise errors.UserError(f"{file} has mask_path, which is not read: put each mask into its picture's alpha"
                               " channel")
    if not {"camera_angle_x", "fl_x"} & lens.keys():
        raise errors.UserError(f"{file} has neither camera_angle_x nor fl_x, one of which says the focal length")
    for key in ("camera_angle_x", "camera_angle_y"):
        if not 0 < lens.get(key, 1.0) < math.pi:
            raise errors.UserError(f"{file}: {key}={lens[key]:g} is to be an angle between 0 and pi")
    return lens


def _number(file: Path, key: str, value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError) as e:
        raise errors.UserError(f"{file}: {key!r} is to be one number, not {json.dumps(value)[:60]}") from e


def _nonzero(value: Any) -> bool:
    """Whether a number, a list of them, or what they are named by says anything but zero; false and null say zero."""
    inside = value.values() if isinstance(value, dict) else value
    return any(map(_nonzero, inside)) if isinstance(value, (list, dict)) else value not in (0, None, "")


def _camera(file: Path, lens: dict[str, float], h: int, w: int, size: int) -> dict[str, Any]:
    """`Views`'s focal, centre and stretch for pictures of h x w, of which `size` takes the middle square."""
    full_w, full_h = lens.get("w", w), lens.get("h", h)
    small = w / full_w if full_w > 0 else 0  # the pictures may be smaller copies
    if not 0 < small or abs(full_h * small - h) > 1:
        raise errors.UserError(f"{file} describes pictures of {full_w:g} x {full_h:g} (width x height) but names one of"
                               f" {w} x {h}; the two must have one ratio")
    focal = {}
    for axis, side in (("x", w), ("y", h)):
        angle = side / 2 / math.tan(lens[f"camera_angle_{axis}"] / 2) if f"camera_angle_{axis}" in lens else None
        focal[axis] = small * lens[f"fl_{axis}"] if f"fl_{axis}" in lens else angle
        if focal[axis] is not None and not 0 < focal[axis] < math.inf:
            raise errors.UserError(f"{file}: fl_{axis}={lens[f'fl_{axis}']:g} is to be a length in pixels above 0")
        if angle is not None and abs(focal[axis] / angle - 1) > 0.01:
            raise errors.UserError(f"{file}: fl_{axis}={lens[f'fl_{axis}']:g} and camera_angle_{axis}="
                                   f"{lens[f'camera_angle_{axis}']:g} disagree; leave one away")
    cx, cy = small * lens.get("cx", full_w / 2), small * lens.get("cy", full_h / 2)
    if not (0 <= cx <= w and 0 <= cy <= h):
        raise errors.UserError(f"{file}: cx={lens.get('cx', cx):g}, cy={lens.get('cy', cy):g} lie outside of the"
                               f" {full_w:g} x {full_h:g} pixels (width x height)")
    wide = min(h, w) if size else w
    left, above = ((w - wide) // 2, (h - wide) // 2) if size else (0, 0)
    high = wide if size else h
    x = (2 * (cx - left) - wide) / wide if "cx" in lens else 0.0  # without it the middle of what is taken
    y = (high - 2 * (cy - above)) / wide if "cy" in lens else 0.0
    half = 1 / math.tan(lens["camera_angle_x"] / 2) if "fl_x" not in lens else 2 * focal["x"] / w
    return {"focal": half * _wider(h, w, size), "centre": (x, y),
            "stretch": focal["x"] / focal["y"] if focal["y"] else 1.0}
