"""Pictures in and out: float32 [H, W, C] arrays in [0, 1] from whatever file a user has.

Letters: H height, W width, C channels (1 or 3). Files are read by Pillow, so every common format works. What
is decided here once, for the whole of genjax:

* 16-bit grey PNG and TIFF are divided by 65535, 32-bit integers too. Where none is above 255 (and one above 0) they may
  mean 8 bits, and are refused. 16-bit colour PNG is read by Pillow as 8-bit.
* Transparent pixels are laid over white, as a browser shows them (over black for masks: transparent = hole).
* A photograph is turned the way its EXIF orientation says; EXIF that cannot be read says nothing.
  An animation gives its first frame.
* Colour to grey is Rec. 601 luma, 0.299 R + 0.587 G + 0.114 B, in float. Colour profiles are ignored.
* Whatever is wrong with a file is a one-line `UserError` that names it.
"""

import contextlib
import os
import struct
import uuid
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from genjax import errors
from genjax.data import folders, photos

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm")  # written
MAX_PIXELS = 250_000_000  # beyond this a "picture" is a decompression bomb or a mistake
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
METHODS = {
    "nearest": Image.Resampling.NEAREST, "box": Image.Resampling.BOX, "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS,
}
Method = Literal["nearest", "box", "bilinear", "bicubic", "lanczos"]
Fit = Literal["centre", "squash", "random"]  # see `genjax.data.pipeline.Pipeline`
ORIENTATION = 0x0112  # the EXIF tag, 1 to 8
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error, zlib.error)

# The limit is ours, and one line; Pillow warns from a third of it on and refuses two thirds.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # long comments are no damage
for _ignored in (dict(category=Image.DecompressionBombWarning), dict(message="Corrupt EXIF data", module="PIL")):
    warnings.filterwarnings("ignore", **_ignored)


def resolve(spec: str | os.PathLike) -> Path:
    """The file that a picture spec names; checks what can be checked without opening it.

    Args:
      spec: a path (`~` is the home folder) or "builtin:photos[/NAME]".

    Raises:
      UserError: no such file (naming the nearest in its folder), a folder, an empty file, a URL.
    """
    text = os.fspath(spec)
    if not text:
        raise errors.UserError("no picture given; give a file or builtin:photos/NAME")
    if text.startswith("builtin:"):
        group, _, name = text.removeprefix("builtin:").partition("/")
        if group not in ("photos", "textures"):
            raise errors.unknown("builtin picture", text, ["builtin:photos/" + n for n in photos.photo_names()])
        return photos.photo_path(name or (photos.texture_names()[0] if group == "textures" else ""))
    if "://" in text:
        raise errors.UserError(f"{text} is an address, not a file; download it and give the path")
    path = Path(text).expanduser()
    if path.is_dir():
        raise errors.UserError(f"{path} is a folder, not a picture; name one file in it")
    try:
        size = path.stat().st_size
    except PermissionError as e:
        raise errors.UserError(f"no permission to read {path}; check its rights (chmod +r)") from e
    except (OSError, ValueError) as e:  # ValueError: a NUL byte in the name
        if "\0" not in text and path.is_symlink():
            raise errors.UserError(f"{folders.missing(path)}; mend the link, or give the file itself") from e
        near = _nearest_file(path)
        raise errors.UserError(f"no picture at {path}; " + (near or "check the path")) from e
    if size == 0:
        raise errors.UserError(f"{path} is empty (0 bytes); copy or download it again")
    return path


def _nearest_file(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        if not path.parent.is_dir():
            return f"the folder {path.parent} does not exist"
        near = errors.nearest(path.name, [p.name for p in path.parent.iterdir()])
        return f"did you mean {near!r}?" if near else ""
    return ""


def _open(spec: str | os.PathLike) -> tuple[Path, Image.Image]:
    """Opens, decodes and turns upright; every failure is a UserError."""
    path = resolve(spec)
    with _opened(path) as picture:
        picture.load()
        turn, format_ = _turn(picture), picture.format
        picture = picture if turn is None else picture.transpose(turn)
        picture.format = format_
    if picture.width == 0 or picture.height == 0:
        raise errors.UserError(f"{path} has no pixels ({picture.width}x{picture.height}); give another picture")
    return path, picture


def header_size(spec: str | os.PathLike) -> tuple[int, int]:
    """(height, width) of a picture, upright, by its header alone; nothing is decoded.

    Raises:
      UserError: as `load_image`, for what shows in a header.
    """
    with _opened(resolve(spec)) as picture:
        known = picture.format != "PNG" or "exif" in picture.info  # without, Pillow decodes a PNG to look behind it
        turned = known and _turn(picture) in [_TURNS[n] for n in (5, 6, 7, 8)]
        return picture.size if turned else picture.size[::-1]


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """How EXIF says to turn a picture; None where it says nothing, or cannot be read: the pixels are there all the
    same."""
    try:
        return _TURNS.get(picture.getexif().get(ORIENTATION))
    except (*_BROKEN, TypeError, AttributeError):
        return None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture file, its header read; what goes wrong here or within is a UserError."""
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield picture
    except UnidentifiedImageError as e:
        raise errors.UserError(f"{path} is not a picture that Pillow can read; convert it to PNG or JPEG") from e
    except Image.DecompressionBombError as e:
        raise errors.UserError(f"{path} has more than {MAX_PIXELS // 10**6} million pixels; scale it down first") from e
    except PermissionError as e:
        raise errors.UserError(f"no permission to read {path}; check its rights (chmod +r)") from e
    except MemoryError as e:
        raise errors.UserError(f"{path} does not fit into memory; scale it down first") from e
    except _BROKEN as e:
        raise errors.UserError(f"{path} is damaged or cut short ({e}); copy or download it again") from e


def _decode(path: Path, picture: Image.Image, background: float) -> np.ndarray:
    """[H, W, 1 or 3], uint8 for opaque 8-bit pictures and float32 in [0, 1] otherwise."""
    mode = picture.mode
    if mode.startswith("I;16"):
        x = np.asarray(picture)
        _no_eight_bits(path, x, 16)
        return x.astype(np.float32)[..., None] / 65535.0
    if mode == "I":
        x = np.asarray(picture)
        if x.min() < 0 or x.max() > 65535:
            raise errors.UserError(f"{path} holds 32-bit integers from {x.min()} to {x.max()}; save it as 8- or 16-bit")
        _no_eight_bits(path, x, 32)
        return x.astype(np.float32)[..., None] / 65535.0
    if mode == "F":
        x = np.asarray(picture, np.float32)
        if not np.isfinite(x).all():
            raise errors.UserError(f"{path} holds NaN or infinite values; clean the picture first")
        if x.min() < 0 or x.max() > 1:
            raise errors.UserError(
                f"{path} holds floats from {x.min():.4g} to {x.max():.4g}; scale them into [0, 1] first")
        return x[..., None]
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        x = np.asarray(picture.convert("RGBA")).astype(np.float32) / 255.0
        colour, alpha = x[..., :3], x[..., 3:]
        x = colour * alpha + background * (1.0 - alpha)
        return x[..., :1] if mode in ("LA", "La", "L", "1") else x
    if mode in ("1", "L"):
        return np.asarray(picture.convert("L"))[..., None]
    return np.asarray(picture.convert("RGB"))  # palette, CMYK, YCbCr, Lab, HSV too


def _no_eight_bits(path: Path, x: np.ndarray, bits: int) -> None:
    """Refuses wide integers of which none is above 255: divided by 65535 they would be as good as black."""
    if 0 < x.max() <= 255:
        raise errors.UserError(f"{path} holds {bits}-bit integers from {x.min()} to {x.max()}, which may mean 8 bits or"
                               " 16; save it as 8-bit, or spread its values over 0 to 65535")


def to_float(x: np.ndarray) -> np.ndarray:
    """uint8 [0, 255] to float32 [0, 1]; floats stay as they are."""
    return x.astype(np.float32) / np.float32(255.0) if x.dtype == np.uint8 else x.astype(np.float32)


def to_channels(x: np.ndarray, channels: int) -> np.ndarray:
    """[..., 1 or 3] to [..., channels]: grey is repeated, colour becomes Rec. 601 luma (the dtype is kept)."""
    if channels not in (1, 3):
        raise errors.UserError(f"channels={channels}: a picture has 1 (grey) or 3 (colour) channels")
    if x.shape[-1] == channels:
        return x
    if channels == 3:
        return np.repeat(x, 3, axis=-1)
    grey = (x.astype(np.float32) @ LUMA)[..., None]
    return np.round(grey).astype(np.uint8) if x.dtype == np.uint8 else np.clip(grey, 0.0, 1.0)


def load_image(spec: str | os.PathLike, *, channels: int = 3, background: float = 1.0) -> np.ndarray:
    """Reads a picture.

    Args:
      spec: a file of any common format, or "builtin:photos/NAME" ("builtin:photos" is the first of them).
      channels: 3 for colour (grey files are repeated) or 1 for luma.
      background: the grey value behind transparent pixels.

    Returns:
      [H, W, channels] float32 in [0, 1]; see the module docstring for 16-bit, alpha and EXIF.

    Raises:
      UserError: missing, a folder, empty, cut short, not a picture, too large, float values outside [0, 1].
    """
    return to_channels(to_float(_decode(*_open(spec), background=background)), channels)


def load_pixels(spec: str | os.PathLike, *, channels: int = 3) -> np.ndarray:
    """As `load_image`, but an 8-bit opaque file stays uint8 [0, 255]: a quarter of the memory, for data sets."""
    return to_channels(_decode(*_open(spec), background=1.0), channels)


def load_mask(spec: str | os.PathLike, *, size: tuple[int, int], invert: bool = False,
              threshold: float = 0.5) -> np.ndarray:
    """Reads a mask: white = known, black or transparent = hole.

    Args:
      spec: a file of any mode.
      size: (H, W) of the picture it belongs to.
      invert: True for files whose white marks the hole.
      threshold: the luma from which on a pixel is known (of the inverted file where `invert`), in (0, 1].

    Returns:
      [H, W, 1] float32 in {0, 1}; 1 = known, keep.

    Raises:
      UserError: as `load_image`; another size than the picture's (both are named); nothing left to keep.
    """
    path, picture = _open(spec)
    if (picture.height, picture.width) != tuple(size):
        raise errors.UserError(
            f"the mask {path} is {picture.height}x{picture.width} (height x width) but its picture is"
            f" {size[0]}x{size[1]}; give a mask of the picture's size")
    white = to_channels(to_float(_decode(path, picture, background=0.0)), 1)
    white = 1 - white if invert else white
    keep = white >= threshold
    if not keep.any() and white.max() >= 0.5:
        raise errors.UserError(f"the mask {path} keeps no pixel: its {'darkest' if invert else 'brightest'} is"
                               f" {'1 - ' if invert else ''}{white.max():.2f}, and known from {threshold:g} on; set"
                               f" mask_threshold={np.floor(white.max() * 20) / 20:g}")
    if not keep.any():
        raise errors.UserError(f"the mask {path} keeps no pixel (white = keep); give one of the other polarity")
    return keep.astype(np.float32)


def save_image(path: str | os.PathLike, x: np.ndarray) -> Path:
    """Writes a picture, atomically: a reader sees the old file or the whole new one.

    Args:
      path: where; the suffix chooses the format. Missing folders are made.
      x: [H, W], [H, W, 1] or [H, W, 3]; floats are clipped to [0, 1] and rounded to 8 bits, uint8 is written
        as it is.

    Returns:
      The path written.

    Raises:
      UserError: a suffix that is no picture format, or a place that cannot be written.
      ValueError: an array of another shape, or with NaN.
    """
    path, x = Path(path).expanduser(), np.asarray(x)
    if path.suffix.lower() not in SUFFIXES:
        raise errors.UserError(f"cannot write a picture as {path.name!r}; end the name in .png or .jpg")
    if x.ndim == 2:
        x = x[..., None]
    if x.ndim != 3 or x.shape[-1] not in (1, 3) or 0 in x.shape:
        raise ValueError(f"save_image wants [H, W], [H, W, 1] or [H, W, 3], got {x.shape}")
    if x.dtype != np.uint8:
        if not np.isfinite(x).all():
            raise ValueError(f"the picture for {path} holds NaN or infinite values")
        x = np.round(np.clip(x.astype(np.float32), 0.0, 1.0) * 255.0).astype(np.uint8)
    picture = Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x)
    options = {"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg", ".webp") else {}
    kind = Image.registered_extensions()[path.suffix.lower()]
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")  # hidden, in the same file system
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(temporary, format=kind, **options)
        os.replace(temporary, path)
    except OSError as e:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise errors.UserError(f"cannot write {path} ({e.strerror or e}); choose another place") from e
    return path


def center_crop(x: np.ndarray, *, multiple: int = 0, size: int | tuple[int, int] = 0) -> np.ndarray:
    """Cuts the middle out of [..., H, W, C]; an odd remainder leaves the extra row or column at the end.

    Args:
      x: [..., H, W, C].
      multiple: the largest H', W' that are multiples of this; 0 or 1 leaves the picture whole.
      size: instead of `multiple`: (H', W'), or one number for a square.

    Raises:
      UserError: when the picture is too small.
    """
    h, w = x.shape[-3:-1]
    if size:
        new_h, new_w = (size, size) if isinstance(size, int) else size
    else:
        m = max(int(multiple), 1)
        new_h, new_w = h - h % m, w - w % m
    if new_h > h or new_w > w or new_h < 1 or new_w < 1:
        need = f"{new_h}x{new_w}" if size else f"a multiple of {multiple}"
        raise errors.UserError(f"cannot crop a {h}x{w} picture (height x width) to {need}; use a larger picture")
    top, left = (h - new_h) // 2, (w - new_w) // 2
    return x[..., top:top + new_h, left:left + new_w, :]


def resize_image(x: np.ndarray, size: tuple[int, int], method: Method = "lanczos") -> np.ndarray:
    """Resamples one picture by Pillow, which widens its filter when it shrinks (antialiasing).

    Args:
      x: [H, W, C] uint8 (resampled in 8 bits) or float in [0, 1] (resampled in float, overshoot clipped).
      size: (H', W').
      method: "nearest", "box", "bilinear", "bicubic" or "lanczos" (support 3).

    Returns:
      [H', W', C] of dtype uint8 or float32.

    Raises:
      UserError: an unknown method or a size below 1.
    """
    if method not in METHODS:
        raise errors.unknown("resize method", method, METHODS)
    h, w = (int(s) for s in size)
    if h < 1 or w < 1:
        raise errors.UserError(f"cannot resize a picture to {h}x{w}; give a size of at least 1x1")
    x = np.asarray(x)
    if x.shape[:2] == (h, w):
        return x if x.dtype == np.uint8 else x.astype(np.float32)
    if x.dtype == np.uint8:
        if x.shape[-1] == 3:
            return np.asarray(Image.fromarray(x).resize((w, h), METHODS[method]))
        planes = [Image.fromarray(np.ascontiguousarray(x[..., c])) for c in range(x.shape[-1])]
        return np.stack([np.asarray(p.resize((w, h), METHODS[method])) for p in planes], -1)
    planes = [Image.fromarray(np.ascontiguousarray(x[..., c], np.float32)) for c in range(x.shape[-1])]
    y = np.stack([np.asarray(p.resize((w, h), METHODS[method])) for p in planes], -1)
    return np.clip(y, 0.0, 1.0)


def square(x: np.ndarray, size: int, method: Method = "lanczos", squash: bool = False) -> np.ndarray:
    """The centre square of [H, W, C], or with `squash` all of it, resampled to [size, size, C]."""
    return resize_image(x if squash else center_crop(x, size=min(x.shape[:2])), (size, size), method)


def shorter_side(x: np.ndarray, size: int, method: Method = "lanczos") -> np.ndarray:
    """[H, W, C] resampled so that its shorter side is `size`; the other keeps the ratio, rounded down."""
    h, w = x.shape[:2]
    return resize_image(x, (max(size, size * h // w), max(size, size * w // h)), method)


def list_images(folder: str | os.PathLike) -> list[Path]:
    """Every picture file under a folder, subfolders too, in one fixed order; see `genjax.data.folders.find`.

    Raises:
      UserError: no such folder, a file, or no picture in it.
    """
    return list(folders.find(folder).files)
