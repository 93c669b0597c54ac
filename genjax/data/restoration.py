"""A few pictures to restore: what was observed, the mask, and the truth where there is one.

Letters: N pictures, H and W the size of the restored picture, C channels; h, w the size of the observation (H
and W divided by the factor for super-resolution, else the same). All arrays float32 in [0, 1].

Each picture goes: file -> (size: centre square, Lanczos) -> centre crop to a multiple -> reflection pad -> degrade;
`describe` says in one line what that did.
Source: Ulyanov, Vedaldi and Lempitsky, Deep Image Prior, CVPR 2018, sections 4.1 to 4.5.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from genjax import errors
from genjax.data import degradations, images, masks
from genjax.data.source_array import Listing
from genjax.data.summary import Summary, sizes

Problem = Literal["denoise", "jpeg", "super_resolution", "inpaint", "flash"]
PROBLEMS = ("denoise", "jpeg", "super_resolution", "inpaint", "flash")
_READ_BY = {  # keys that only some problems read
    "sigma": ("denoise", "flash"), "jpeg_quality": ("jpeg",), "factor": ("super_resolution",), "mask": ("inpaint",),
    "invert_mask": ("inpaint",), "mask_dilate": ("inpaint",), "guide": ("flash",)}
MAX_SIZE = 8192  # beyond this `size` is a mistake: noise and resampling alone would take many gigabytes


@dataclasses.dataclass(frozen=True)
class RestorationSet:
    """Pictures and their degradation, as one batch that never changes.

    Attributes:
      images: files, folders or "builtin:photos/NAME", separated by commas (or a tuple of them).
      problem: "denoise" (Gaussian noise `sigma`), "jpeg" (`jpeg_quality`), "super_resolution" (`factor`), "inpaint"
        (`mask`), "flash" (pictures taken without flash, restored with the help of `guide`, the one with flash).
      mask: for "inpaint": a file (white = keep), one per picture separated by commas, or, where `clean`, a short form
        such as "text", "bernoulli:0.5" or "hole:0.25" (see `masks.make_mask`).
      invert_mask: for mask files whose white marks the hole.
      mask_threshold: a pixel of a mask file is known from this value on (0 black, 1 white; after the inversion). The
        configs set 0.98, white alone, as pure as JPEG leaves it: grey edges lie on what is damaged in part, and letters
        whose edges count as known leave ghosts. (Runs from before it was a key have the 0.5 they began with.)
      mask_dilate: pixels by which holes grow to all sides, where a mask file is drawn too tight.
      sigma: noise level in units of 1/255; the noisy picture is clipped to [0, 1].
      jpeg_quality: 1 to 95.
      factor: 4 or 8 are the usual ones.
      size: 0 keeps each picture's size; else the centre square of one that is larger is resampled to size x size by
        Lanczos (at most 8192); none is enlarged. Where `clean` is False it is only cut, to at most this size:
        resampling would change the degradation.
      crop_multiple: H and W are cut, around the centre, to multiples of this (0 or 1 = not; the paper's authors take
        32, for inpainting 64), for super-resolution of `factor` too.
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
    mask_threshold: float = 0.5
    mask_dilate: int = 0
    sigma: float = 25.0
    jpeg_quality: int = 10
    factor: int = 4
    size: int = 0
    crop_multiple: int = 1
    pad: int = 0
    channels: int = 3
    guide: str = ""
    clean: bool = True
    seed: int = 0

    constant = True  # batch(i) is the same for every i: the loop puts it on the device once

    def __post_init__(self):
        if self.problem not in PROBLEMS:
            raise errors.unknown("problem", self.problem, PROBLEMS)
        for name, least in (("sigma", 0), ("factor", 1), ("size", 0), ("crop_multiple", 0), ("pad", 0), ("seed", 0),
                            ("mask_dilate", 0)):
            if not least <= getattr(self, name) < math.inf:  # NaN neither
                raise errors.UserError(f"{name}={getattr(self, name)}: at least {least} is needed")
        if not 0 < self.mask_threshold <= 1:
            raise errors.UserError(f"mask_threshold={self.mask_threshold}: above 0 (black) and at most 1 (white)")
        self._check_degradation()
        if self.size > MAX_SIZE:
            raise errors.UserError(f"size={self.size}: at most {MAX_SIZE} is possible (0 keeps the picture's own size)")
        if not 1 <= self.jpeg_quality <= 95:
            raise errors.UserError(f"jpeg_quality={self.jpeg_quality}: JPEG quality lies between 1 and 95")
        if self.channels not in (1, 3):
            raise errors.UserError(f"channels={self.channels}: a picture has 1 (grey) or 3 (colour) channels")
        if self.problem == "inpaint" and not self.mask:
            raise errors.UserError("problem=inpaint needs a mask: a file, or text, bernoulli:0.5, hole:0.25 …")
        if self.problem == "flash" and not self.guide and not self.clean:
            raise errors.UserError("problem=flash with clean=False needs guide: the same scene photographed with flash")

    def _check_degradation(self) -> None:
        """Refuses what degrades nothing, and keys of another problem."""
        for key, readers in _READ_BY.items():
            default = type(self).__dataclass_fields__[key].default
            if self.problem not in readers and getattr(self, key) != default:
                raise errors.UserError(f"{key}={getattr(self, key)} is only read by problem={' and '.join(readers)},"
                                       f" not {self.problem}")
        if self.problem == "denoise" and self.clean and self.sigma == 0:
            raise errors.UserError("sigma=0 adds no noise, so there is none to take away; set a noise level such as"
                                   " 25, or clean=False where the picture is noisy itself")
        if self.problem == "super_resolution" and self.factor == 1:
            raise errors.UserError("factor=1 enlarges nothing; take 2 or more, usually 4 or 8")
        drawn = [m for m in _items(self.mask) if _is_drawn(m)] if self.mask else []
        if drawn and not self.clean:
            raise errors.UserError(f"mask={drawn[0]} is drawn by genjax and does not know where a picture given as"
                                   " damaged (clean=False) is damaged; give --config.mask=FILE, black where it is")
        if drawn and self.invert_mask:
            raise errors.UserError(f"invert_mask is for mask files; {drawn[0]!r} is drawn with 1 = keep")

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

    def _frames(self, size: tuple[int, int], scale: int = 1) -> tuple[tuple[int, int], ...]:
        """Of a picture of this (H, W): the middle that is kept, what it is resampled to, and what is kept of that;
        `scale`: how much larger the restored picture is."""
        kept = made = size
        if self.size and self.clean and max(size) > self.size:
            kept = (min(size),) * 2
            made = (min(self.size, *size),) * 2
        elif self.size and not self.clean:
            kept = made = tuple(min(n, self.size) for n in size)
        multiple = max(1, self.crop_multiple)
        if scale > 1:  # the restored picture shall be the multiple, so the small one is of a fraction of that
            multiple //= math.gcd(multiple, scale)
        elif self.problem == "super_resolution":
            multiple = math.lcm(multiple, self.factor)
        if multiple > min(made):
            why = f"crop_multiple={self.crop_multiple}" + (f", factor={self.factor}" if multiple != self.crop_multiple
                                                           else "")
            ways = ["a smaller crop_multiple" if self.crop_multiple > 1 else "a smaller factor"]
            ways += ["a larger size"] if min(size) >= multiple else []  # `size` enlarges nothing
            raise errors.UserError(f"a {_by(made)} picture is smaller than one multiple of {multiple} ({why}); set"
                                   f" {' or '.join(ways)}")
        return kept, made, tuple(n - n % multiple for n in made)

    def _fit(self, x: np.ndarray, scale: int = 1) -> np.ndarray:
        """Size, crop and pad of one [H, W, C], see `_frames`."""
        kept, made, cut = self._frames(x.shape[:2], scale)
        x = images.center_crop(images.resize_image(images.center_crop(x, size=kept), made), size=cut)
        if self.pad:
            if self.pad >= min(cut):
                raise errors.UserError(f"pad={self.pad} does not fit a {_by(cut)} picture; use a smaller pad")
            x = np.pad(x, ((self.pad, self.pad), (self.pad, self.pad), (0, 0)), mode="reflect")
        return x

    def _mask(self, n: int, picture: np.ndarray, original: tuple[int, int]) -> tuple[np.ndarray, str]:
        """[H, W, 1] mask of picture n, drawn at its final size, or read at its file's size and fitted like it; and in
        words what it hides."""
        specs = (self.mask,) if Path(self.mask).expanduser().exists() else _items(self.mask)
        if len(specs) not in (1, len(self)):
            raise errors.UserError(f"{len(specs)} masks for {len(self)} pictures; give one for all or one for each")
        spec = specs[n % len(specs)]
        if not _is_drawn(spec):
            if not any(c in spec for c in "./\\") and not Path(spec).exists():
                raise errors.unknown("mask", spec, masks.KINDS)
            read = images.load_mask(spec, size=original, invert=self.invert_mask, threshold=self.mask_threshold)
            known, elsewhere = (self._fit(read) >= 0.5).astype(np.float32), not read.all()
        else:
            elsewhere = False  # drawn at its final size
            known = masks.make_mask(spec, *picture.shape[:2], seed=(self.seed, n))
        known = masks.dilate_holes(known, self.mask_dilate)
        hidden = 1 - known.mean()
        grown = f" after growing by {self.mask_dilate}" if self.mask_dilate else ""
        if _is_drawn(spec):
            said = (f"a mask {spec!r} is drawn over it and hides {hidden:.1%}{grown} (--config.mask=FILE for damage of"
                    " its own)")
        else:
            side, other = ("white", False) if self.invert_mask else ("black", True)
            told = ("; warning: this hides most of the picture; if the rest is the hole, set"
                    f" --config.data.invert_mask={other}" if hidden > 0.5 else
                    f" (--config.data.invert_mask={other} for the other side)")
            said = f"the hole is what is {side} in {Path(spec).name}, {hidden:.1%} of the picture{grown}{told}"
        if hidden == 0:
            where, more = ((" of the middle that is kept", ", or size=0 to keep the whole picture")
                           if elsewhere and self._frames(original)[0] != original else ("", ""))
            raise errors.UserError(f"the mask {spec} hides nothing{where}, so there is nothing to restore; give one"
                                   f" with a hole (black in a file, or white with invert_mask=True){more}")
        if hidden == 1:
            raise errors.UserError(f"the mask {spec} hides the whole picture{grown}; give one that keeps something")
        return known, said

    def _degradation(self, x: np.ndarray) -> str:
        """In words what is done to a picture [H, W, C] (masks say it themselves)."""
        if not self.clean or self.guide:
            if self.problem != "super_resolution":
                return "taken as the degraded picture itself"
            return f"restored at {_by([n * self.factor for n in x.shape])}"
        if self.problem == "super_resolution":
            made = f"reduced by {self.factor} to {_by([n // self.factor for n in x.shape])}"
        else:
            made = {"denoise": f"noise of sigma {self.sigma:g} is added", "jpeg": f"saved as JPEG of quality"
                    f" {self.jpeg_quality}", "flash": "a copy without flash is made up"}[self.problem]
        return f"{made} (--config.data.clean=False takes a picture as degraded already)"

    def _one(self, n: int) -> tuple[dict[str, np.ndarray], str, str]:
        """Picture n: observed, mask, and clean where it is known; and in words its file's size and what was done."""
        x = images.load_image(self.specs[n], channels=self.channels)
        original, low = x.shape[:2], self.problem == "super_resolution" and not self.clean
        scale = self.factor if low else 1
        said, x = self._framing(original, scale), self._fit(x, scale)
        seed, known = (self.seed, n), self.clean and not self.guide
        if x.shape[0] * x.shape[1] * scale**2 > images.MAX_PIXELS:
            raise errors.UserError(f"a {_by(x.shape)} picture enlarged by factor={scale} has more than"
                                   f" {images.MAX_PIXELS // 10**6} million pixels; use a smaller factor or picture")
        out = {"observed": x, "mask": np.ones((x.shape[0] * scale, x.shape[1] * scale, 1), np.float32)}
        if self.problem == "inpaint":
            out["mask"], done = self._mask(n, x, original)
            out["observed"] = x * out["mask"]
        else:
            done = self._degradation(x)
        if known and self.problem == "denoise":
            out["observed"] = degradations.add_gaussian_noise(x, self.sigma, seed)
        elif known and self.problem == "jpeg":
            out["observed"] = degradations.jpeg(x, self.jpeg_quality)
        elif known and self.problem == "super_resolution":
            out["observed"] = degradations.downscale(x, self.factor)
        elif known and self.problem == "flash":
            out["guide"], x = images.to_channels(x, 3), degradations.without_flash(x)
            out["observed"] = degradations.add_gaussian_noise(x, self.sigma, seed)
        return out | ({"clean": x} if known else {}), _by(original), f"{said}; {done}"

    def _framing(self, size: tuple[int, int], scale: int) -> str:
        """In words what is kept of a picture of this (H, W), and how to keep all of it."""
        kept, made, cut = self._frames(size, scale)
        done = [f"its middle {_by(kept)}"] if kept != size else []
        done += [f"resampled to {_by(made)}"] if made != kept else []
        done += [f"cut to {_by(cut)}"] if cut != made else []
        keys = ["size=0"] if made != size else []
        keys += ["crop_multiple=1"] if cut != made and self.crop_multiple > 1 else []
        advice = " (" + " ".join(f"--config.data.{k}" for k in keys) + " keeps all)" if keys else ""
        padded = f", {self.pad} pixels reflected around" if self.pad else ""
        return (", ".join(done) or "kept whole") + advice + padded

    def describe(self) -> str:
        """In one line: what was cut or resampled of the pictures and how to keep all, and what was done to them; with
        names and sizes where that differs."""
        names = [s if s.startswith("builtin:") else Path(s).name for s in self.specs]
        alike: dict[tuple[str, str], list[str]] = {}
        for name, (_, size, said) in zip(names, self._rows, strict=True):
            alike.setdefault((size, said), []).append(name)
        if len(alike) == 1:
            return next(iter(alike))[1]
        return " | ".join(f"{found[0]}{f' and {len(found) - 1} more of' if found[1:] else ','} {size}: {said}"
                          for (size, said), found in alike.items())

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
    def _rows(self) -> list[tuple[dict[str, np.ndarray], str, str]]:
        """For each picture: its arrays, and in words the size of its file and what was done to it."""
        return [self._one(n) for n in range(len(self.specs))]

    @functools.cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        rows = [dict(row) for row, *_ in self._rows]
        if self.guide:
            guides = [s for spec in _items(self.guide) for s in _expand(spec)]
            if len(guides) != len(rows):
                raise errors.UserError(f"{len(guides)} guides for {len(rows)} pictures; give one for each")
            for row, spec in zip(rows, guides, strict=True):
                row["guide"] = self._fit(images.load_image(spec))
                if row["guide"].shape[:2] != row["observed"].shape[:2]:
                    raise errors.UserError(f"the guide {spec} is {_by(row['guide'].shape)} but its picture is "
                                           f"{_by(row['observed'].shape)}; the two must show the same frame")
        for row, spec in zip(rows, self.specs, strict=True):
            if row["observed"].shape != rows[0]["observed"].shape:
                a, b = _by(rows[0]["observed"].shape), _by(row["observed"].shape)
                side = min(min(row["observed"].shape[:2]) for row in rows)
                raise errors.UserError(f"pictures of one set need one size, but {self.specs[0]} is {a} and {spec} is"
                                       f" {b}; set size={min(256, side)} or less")
        return {k: np.stack([row[k] for row in rows]).astype(np.float32) for k in rows[0]}

    def batch(self, i: int, lo: int | None = None, hi: int | None = None) -> dict[str, np.ndarray]:
        """The same batch for every i: `arrays()`, or its rows lo..hi-1."""
        lo, hi = 0 if lo is None else lo, len(self) if hi is None else hi
        if i < 0 or not 0 <= lo < hi <= len(self):
            raise ValueError(f"batch({i}, {lo}, {hi}) of a batch of {len(self)}")
        return {k: v[lo:hi] for k, v in self._arrays.items()}

    def summary(self) -> Summary:
        """What every run logs of its data: the files' own sizes, and what was done to the pictures."""
        specs = self.specs
        places = [str(images.resolve(s).absolute()) for s in specs[:3]] + ["…"] * (len(specs) > 3)
        found = sizes(0, len(specs), lambda i: images.header_size(specs[i]))
        notes = (f"guide {self.guide}", self.describe()) if self.guide else (self.describe(),)
        return Summary(count=len(specs), **found, what="pictures to restore", place=", ".join(places), notes=notes)

    def listing(self) -> Listing:
        """(name, bytes) of the pictures, guides and mask files."""
        return tuple((f.name, f.stat().st_size) for f in self.content())

    def content(self) -> tuple[Path, ...]:
        """The files of the pictures, guides and masks."""
        specs = [*self.specs, *(s for spec in (_items(self.guide) if self.guide else ()) for s in _expand(spec))]
        if Path(self.mask).expanduser().is_file():
            specs.append(self.mask)
        elif self.mask:
            specs += [m for m in _items(self.mask) if Path(m).expanduser().is_file()]
        return tuple(images.resolve(s) for s in specs)

    @property
    def element_spec(self) -> dict:
        """Name -> `jax.ShapeDtypeStruct` of the whole batch."""
        import jax

        return {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in self._arrays.items()}


def _by(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"


def _is_drawn(mask: str) -> bool:
    """Whether a mask is a short form, not a file."""
    return mask.partition(":")[0] in masks.KINDS and not Path(mask).exists()


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
