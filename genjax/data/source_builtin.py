"""`builtin:photos`, `builtin:textures` and `builtin:digits`: data without a download.

Pictures come from scikit-image's wheel, digits from scikit-learn's. The splits are fixed rules, no seed.
"""

import numpy as np

from genjax import errors
from genjax.data import images, photos
from genjax.data.source_array import ArraySource

NAMES = ("digits", "photos", "textures")
_TEST_DIGITS = 297  # the last ones: other writers than the first 1500


def _split(kind: str, split: str, count: int, test: np.ndarray) -> np.ndarray:
    """Indices of a split, given which of `count` elements are test."""
    if split not in ("train", "test", "all"):
        raise errors.unknown(f"split of builtin:{kind}", split, ("train", "test", "all"))
    return np.arange(count) if split == "all" else np.flatnonzero(test if split == "test" else ~test)


def digits(split: str) -> ArraySource:
    """Scikit-learn's 1,797 handwritten digits, 8x8 grey, labels 0 to 9 (train 1,500, test 297, all).

    The 17 grey levels 0..16 are spread over 0..255. Source: Alpaydin and Kaynak 1998, UCI repository.
    """
    try:
        from sklearn.datasets import load_digits  # scikit-learn takes a second to import: only when asked for
    except ImportError as e:
        raise errors.UserError("builtin:digits comes with scikit-learn; pip install scikit-learn") from e
    data = load_digits()
    x = np.round(data.images * (255.0 / 16.0)).astype(np.uint8)[..., None]
    rows = _split("digits", split, len(x), np.arange(len(x)) >= len(x) - _TEST_DIGITS)
    return ArraySource(x[rows], data.target[rows].astype(np.int32), f"builtin:digits ({split})",
                       tuple(str(c) for c in range(10)), split=split)


def _tiles(picture: np.ndarray, size: int) -> list[np.ndarray]:
    """The non-overlapping squares of a picture, row by row, around its centre; what is left over is dropped."""
    h, w = picture.shape[0] // size, picture.shape[1] // size
    if not h or not w:
        return []
    x = images.center_crop(picture, multiple=size)
    return [x[i * size:(i + 1) * size, j * size:(j + 1) * size] for i in range(h) for j in range(w)]


def pictures(kind: str, split: str, crops: int = 0, channels: int = 0) -> ArraySource:
    """The bundled photographs or textures, whole or cut into squares.

    Args:
      kind: "photos" (colour) or "textures" (grey brick, grass, gravel).
      split: "train", "test" or "all". Every tenth square is test, counted from the tenth; whole photographs
        (crops=0) are all in every split, there are too few to hold any back.
      crops: side of the non-overlapping squares to cut, 0 for whole pictures of different sizes.
      channels: 1 or 3; 0 = 3 for photos, 1 for textures.

    Returns:
      uint8 pictures whose label is the photograph or texture they come from.
    """
    names = photos.photo_names() if kind == "photos" else photos.texture_names()
    if crops < 0:
        raise errors.UserError(f"crops={crops}: give the side of the squares, or 0 for whole pictures")
    channels = channels or (3 if kind == "photos" else 1)
    found, labels = [], []
    for label, name in enumerate(names):
        x = images.load_pixels(photos.photo_path(name), channels=channels)
        parts = _tiles(x, crops) if crops else [x]
        found += parts
        labels += [label] * len(parts)
    if not found:
        raise errors.UserError(f"builtin:{kind} has no picture of {crops}x{crops}; use a smaller crops")
    test = np.arange(len(found)) % 10 == 9
    rows = _split(kind, split, len(found), test if crops else np.zeros(len(found), bool))
    if not crops:
        rows = np.arange(len(found))
    elif not len(rows):
        raise errors.UserError(f"builtin:{kind} with crops={crops} has no {split} squares; use smaller crops")
    kept = [found[r] for r in rows]
    same = len({x.shape for x in kept}) == 1
    return ArraySource(np.stack(kept) if same else tuple(kept), np.array(labels, np.int32)[rows],
                       f"builtin:{kind} ({split})", names, split=split)
