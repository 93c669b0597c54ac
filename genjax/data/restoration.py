"""A few pictures to restore: what was observed, the mask, and the truth where there is one.

Letters: N pictures, H and W the size of the restored picture, C channels; h, w the size of the observation (H
and W divided by the factor for super-resolution, else the same). All arrays float32 in [0, 1].

Each picture goes: file -> (size: centre square, Lanczos) -> centre crop to a multiple -> reflection pad -> degrade.
Source: Ulyanov, Vedaldi and Lempitsky, Deep Image Prior, CVPR 2018, sections 4.1 to 4.5.
"""

import dataclasses
import functools
import itertools
import math
from pathlib import Path
from typing import Literal

import numpy as np

from genjax import errors
from genjax.data import degradations, images, masks
from genjax.data.source_array import Listing
from genjax.data.summary import Summary, sizes

Problem = Literal["denoise", "jpeg", "super_resolution", "inpaint", "flash"]
PROBLEMS = ("denoise", "jpeg", "super_resolution", "inpaint", "flash")
MAX_SIZE = 8192  # beyond this `size` is a mistake: noise and resampling alone would take many gigabytes


@dataclasses.dataclass(frozen=True)
class RestorationSet:
    """Pictures and their degradation, as one batch that never changes.

    Attributes:
      images: files, folders or "builtin:photos/NAME", separated by commas (or a tuple of them).
      problem: "denoise" (Gaussian noise `sigma`), "jpeg" (`jpeg_quality`), "super_resolution" (`factor`), "inpaint"
        (`mask`), "flash" (pictures taken without flash, restored with the help of `guide`, the one with flash).
      mask: for "inpaint": a file (white = keep), one per picture separated by commas, or a short form such as
        "text", "bernoulli:0.5" or "hole:0.25" (see `masks.make_mask`).
      invert_mask: for mask files whose white marks the hole.
      sigma: noise level in units of 1/255; the noisy picture is clipped to [0, 1].
      jpeg_quality: 1 to 95.
      factor: 4 or 8 are the usual ones.
      size: 0 keeps each picture's size; else its centre square is resampled to size x size by Lanczos (at most 8192).
        Where `clean` is False it is only cut, to at most this size: resampling would change the degradation.
      crop_multiple: H and W are cut, around the centre, to multiples of this (0 or 1 = not), and of `factor` too.
      pad: pixels of reflection padding all around, after the crop (the paper pads Barbara by 1).
      channels: 3, or 1 for grey.
      guide: for "flash": the picture taken with flash, one per picture. Without any, `images` are the flash pictures
        and dim, warm copies with noise `sigma` stand in for the others (their noiseless form is the truth).
      clean: False when the pictures given are the degraded ones: nothing is added, no truth is known, no PSNR is
        reported. (For "flash" with a guide there never is a truth.)
      seed: of noise and drawn masks; picture n uses (seed, n).

    Raises:
      UserError: at construction for values out of range or keys the problem does not read; at `arrays()` for files.
    """

    images: str | tuple[str, ...] = "builtin:photos/astronaut"
    problem: Problem = "denoise"
    mask: str = ""
    invert_mask: bool = False
    sigma: float = 25.0
    jpeg_quality: int = 10
    factor: int = 4
    size: int = 0
    crop_multiple: int = 32
    pad: int = 0
    channels: int = 3
    guide: str = ""
    clean: bool = True
    seed: int = 0

    constant = True  # batch(i) is the same for every i: the loop puts it on the device once

    def __post_init__(self):
        if self.problem not in PROBLEMS:
            raise errors.unknown("problem", self.problem, PROBLEMS)
        for name, least in (("sigma", 0), ("factor", 1), ("size", 0), ("crop_multiple", 0), ("pad", 0), ("seed", 0)):
            if not getattr(self, name) >= least:  # NaN too
                raise errors.UserError(f"{name}={getattr(self, name)}: at least {least} is needed")
        if self.size > MAX_SIZE:
            raise errors.UserError(f"size={self.size}: at most {MAX_SIZE} is possible (0 keeps the picture's own size)")
        if not 1 <= self.jpeg_quality <= 95:
            raise errors.UserError(f"jpeg_quality={self.jpeg_quality}: JPEG quality lies between 1 and 95")
        if self.channels not in (1, 3):
            raise errors.UserError(f"channels={self.channels}: a picture has 1 (grey) or 3 (colour) channels")
        if self.problem == "inpaint" and not self.mask:
            raise errors.UserError("problem=inpaint needs a mask: a file, or text, bernoulli:0.5, hole:0.25 …")
        if self.problem != "inpaint" and self.mask:
            raise errors.UserError(f"mask={self.mask!r} is only read by problem=inpaint, not {self.problem}")
        if self.problem == "flash" and not self.guide and not self.clean:
            raise errors.UserError("problem=flash with clean=False needs guide: the same scene photographed with flash")
        if self.problem != "flash" and self.guide:
            raise errors.UserError(f"guide={self.guide!r} is only read by problem=flash, not {self.problem}")

    @functools.cached_property
    def specs(self) -> tuple[str, ...]:
        """One spec per picture, folders opened."""
        return tuple(s for spec in _items(self.images) for s in _expand(spec))

    @property
    def names(self) -> tuple[str, ...]:
        """Short names of the pictures, for reports: file names without their suffix, then -2, -3 where they repeat."""
        found: dict[str, None] = {}
        for stem in (Path(s).stem for s in self.specs):
            tries = itertools.chain((stem,), (f"{stem}-{i}" for i in itertools.count(2)))
            found[next(name for name in tries if name not in found)] = None
        return tuple(found)

    @property
    def batch_size(self) -> int:
        """N."""
        return len(self.specs)

    def __len__(self) -> int:
        return len(self.specs)

    def _fit(self, x: np.ndarray, scale: int = 1) -> np.ndarray:
        """Size, crop and pad of one [H, W, C]; `scale`: how much larger the restored picture is."""
        if self.size and self.clean:
            x = images.square(x, self.size)
        elif self.size:
            x = images.center_crop(x, size=tuple(min(n, max(1, self.size // scale)) for n in x.shape[:2]))
        multiple = max(1, self.crop_multiple)
        if scale > 1:  # the restored picture shall be the multiple, so the small one is of a fraction of that
            multiple //= math.gcd(multiple, scale)
        elif self.problem == "super_resolution":
            multiple = math.lcm(multiple, self.factor)
        if multiple > min(x.shape[:2]):
            raise errors.UserError(
                f"a {_size(x)} picture is smaller than one multiple of {multiple} (crop_multiple={self.crop_multiple});"
                " set a smaller crop_multiple or a larger size")
        x = images.center_crop(x, multiple=multiple)
        if self.pad:
            if self.pad >= min(x.shape[:2]):
                raise errors.UserError(f"pad={self.pad} does not fit a {_size(x)} picture; use a smaller pad")
            x = np.pad(x, ((self.pad, self.pad), (self.pad, self.pad), (0, 0)), mode="reflect")
        return x

    def _mask(self, n: int, picture: np.ndarray, original: tuple[int, int]) -> np.ndarray:
        """[H, W, 1] mask of picture n: drawn at its final size, or read at its file's size and fitted like it."""
        specs = (self.mask,) if Path(self.mask).expanduser().exists() else _items(self.mask)
        if len(specs) not in (1, len(self)):
            raise errors.UserError(f"{len(specs)} masks for {len(self)} pictures; give one for all or one for each")
        spec = specs[n % len(specs)]
        if spec.partition(":")[0] in masks.KINDS and not Path(spec).exists():
            if self.invert_mask:
                raise errors.UserError(f"invert_mask is for mask files; {spec!r} is drawn with 1 = keep")
            return masks.make_mask(spec, *picture.shape[:2], seed=(self.seed, n))
        if not any(c in spec for c in "./\\") and not Path(spec).exists():
            raise errors.unknown("mask", spec, masks.KINDS)
        read = images.load_mask(spec, size=original, invert=self.invert_mask)
        return (self._fit(read) >= 0.5).astype(np.float32)

    def _one(self, n: int) -> dict[str, np.ndarray]:
        """Picture n: observed, mask, and clean where it is known."""
        x = images.load_image(self.specs[n], channels=self.channels)
        original, low = x.shape[:2], self.problem == "super_resolution" and not self.clean
        x = self._fit(x, self.factor if low else 1)
        seed, known = (self.seed, n), self.clean and not self.guide
        scale = self.factor if low else 1
        if x.shape[0] * x.shape[1] * scale**2 > images.MAX_PIXELS:
            raise errors.UserError(f"a {_size(x)} picture enlarged by factor={scale} has more than"
                                   f" {images.MAX_PIXELS // 10**6} million pixels; use a smaller factor or picture")
        out = {"observed": x, "mask": np.ones((x.shape[0] * scale, x.shape[1] * scale, 1), np.float32)}
        if self.problem == "inpaint":
            out["mask"] = self._mask(n, x, original)
            out["observed"] = x * out["mask"]
        elif known and self.problem == "denoise":
            out["observed"] = degradations.add_gaussian_noise(x, self.sigma, seed)
        elif known and self.problem == "jpeg":
            out["observed"] = degradations.jpeg(x, self.jpeg_quality)
        elif known and self.problem == "super_resolution":
            out["observed"] = degradations.downscale(x, self.factor)
        elif known and self.problem == "flash":
            out["guide"], x = images.to_channels(x, 3), degradations.without_flash(x)
            out["observed"] = degradations.add_gaussian_noise(x, self.sigma, seed)
        return out | ({"clean": x} if known else {})

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything, float32 in [0, 1].

        Returns:
          "observed" [N, h, w, C], "mask" [N, H, W, 1] (1 = known; ones unless inpainting), where the truth is known
          "clean" [N, H, W, C], and for "flash" "guide" [N, H, W, 3].

        Raises:
          UserError: a file that cannot be read, pictures of different sizes, a mask or guide of another size.
        """
        return dict(self._arrays)

    @functools.cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        rows = [self._one(n) for n in range(len(self))]
        if self.guide:
            guides = [s for spec in _items(self.guide) for s in _expand(spec)]
            if len(guides) != len(rows):
                raise errors.UserError(f"{len(guides)} guides for {len(rows)} pictures; give one for each")
            for row, spec in zip(rows, guides, strict=True):
                row["guide"] = self._fit(images.load_image(spec))
                if row["guide"].shape[:2] != row["observed"].shape[:2]:
                    raise errors.UserError(f"the guide {spec} is {_size(row['guide'])} but its picture is "
                                           f"{_size(row['observed'])}; the two must show the same frame")
        for row, spec in zip(rows, self.specs, strict=True):
            if row["observed"].shape != rows[0]["observed"].shape:
                a, b = _size(rows[0]["observed"]), _size(row["observed"])
                raise errors.UserError(
                    f"pictures of one set need one size, but {self.specs[0]} is {a} and {spec} is {b}; set size=, e.g."
                    " size=256")
        return {k: np.stack([row[k] for row in rows]).astype(np.float32) for k in rows[0]}

    def batch(self, i: int, lo: int | None = None, hi: int | None = None) -> dict[str, np.ndarray]:
        """The same batch for every i: `arrays()`, or its rows lo..hi-1."""
        lo, hi = 0 if lo is None else lo, len(self) if hi is None else hi
        if i < 0 or not 0 <= lo < hi <= len(self):
            raise ValueError(f"batch({i}, {lo}, {hi}) of a batch of {len(self)}")
        return {k: v[lo:hi] for k, v in self._arrays.items()}

    def summary(self) -> Summary:
        """What every run logs of its data: the files' own sizes, the mask, and at which size they are restored."""
        specs, (h, w) = self.specs, self._arrays["mask"].shape[1:3]
        places = [str(images.resolve(s).absolute()) for s in specs[:3]] + ["…"] * (len(specs) > 3)
        found = sizes(0, len(specs), lambda i: images.header_size(specs[i]))
        notes = [f"mask {self.mask}" if self.mask else "", f"guide {self.guide}" if self.guide else "",
                 f"restored at {h}x{w}" if found["sizes"] != (((h, w), len(specs)),) else "",
                 "" if self.clean else "given as degraded"]
        return Summary(count=len(specs), **found, what="pictures to restore", place=", ".join(places),
                       notes=tuple(filter(None, notes)))

    def listing(self) -> Listing:
        """(name, bytes) of the pictures, guides and mask files."""
        specs = [*self.specs, *(s for spec in (_items(self.guide) if self.guide else ()) for s in _expand(spec))]
        if Path(self.mask).expanduser().is_file():
            specs.append(self.mask)
        elif self.mask:
            specs += [m for m in _items(self.mask) if Path(m).expanduser().is_file()]
        files = [images.resolve(s) for s in specs]
        return tuple((f.name, f.stat().st_size) for f in files)

    @property
    def element_spec(self) -> dict:
        """Name -> `jax.ShapeDtypeStruct` of the whole batch."""
        import jax

        return {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in self._arrays.items()}


def _size(x: np.ndarray) -> str:
    return f"{x.shape[0]}x{x.shape[1]}"


def _items(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """The specs in a comma-separated string or a tuple of such; an existing path may hold commas."""
    texts = (value,) if isinstance(value, str) else tuple(value)
    parts = [[t] if t and Path(t).expanduser().exists() else t.split(",") for t in texts]
    out = [s.strip() for part in parts for s in part if s.strip()]
    if not out:
        raise errors.UserError("no picture given; give files, a folder or builtin:photos/NAME")
    return tuple(out)


def _expand(spec: str) -> list[str]:
    """A folder's pictures, or the spec itself."""
    if not spec.startswith("builtin:") and Path(spec).expanduser().is_dir():
        return [str(p) for p in images.list_images(spec)]
    return [spec]
