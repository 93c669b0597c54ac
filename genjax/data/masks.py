"""Masks for inpainting, drawn on the host: float32 [H, W, 1] in {0, 1}, where 1 = known and 0 = hole.

All are pure functions of their arguments; `seed` is an integer or a sequence of integers. `make_mask` reads the
short form used in configs: "text", "bernoulli:0.5", "hole:0.25", "strokes:0.1", "scratches".
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from genjax import errors

Seed = int | Sequence[int]
MAX_STROKES = 2000  # 0.9 of a square takes some 200; each is followed by a count over the picture
_WORDS = ("light falls on the old stone wall and every leaf in the garden turns to gold while rivers carry their "
          "silver under quiet bridges where nobody waits but small birds sing of summer until evening comes").split()


def _keep(picture: Image.Image) -> np.ndarray:
    """A drawing in white (255) on black (0) becomes a mask whose holes are the drawing."""
    return (np.asarray(picture) < 128).astype(np.float32)[..., None]


def _fraction(what: str, value: float) -> float:
    if not 0 < value < 1:
        raise errors.UserError(f"{what} must lie between 0 and 1 (exclusive), got {value}")
    return float(value)


def bernoulli_mask(H: int, W: int, keep: float, seed: Seed = 0) -> np.ndarray:
    """Keeps each pixel independently with probability `keep` (0.5: half of the pixels are missing).

    Source: Papyan et al. 2017, and Ulyanov et al., Deep Image Prior, table 1.
    """
    keep = _fraction("bernoulli's share of kept pixels", keep)
    return (np.random.default_rng(seed).random((H, W, 1)) < keep).astype(np.float32)


def hole_mask(H: int, W: int, fraction: float = 0.25, *, box: tuple[int, int, int, int] | None = None,
              center: tuple[float, float] = (0.5, 0.5)) -> np.ndarray:
    """One rectangular hole.

    Args:
      H, W: size.
      fraction: the hole's share of the area; the hole has the picture's proportions.
      box: instead of `fraction`: (top, left, height, width) in pixels.
      center: where the hole of `fraction` sits, as shares of H and W; it is shifted to stay inside.
    """
    if box is None:
        side = np.sqrt(_fraction("hole's share of the area", fraction))
        h, w = max(1, round(H * side)), max(1, round(W * side))
        top = int(np.clip(round(H * center[0] - h / 2), 0, H - h))
        left = int(np.clip(round(W * center[1] - w / 2), 0, W - w))
    else:
        top, left, h, w = box
        if min(top, left) < 0 or min(h, w) < 1 or top + h > H or left + w > W:
            raise errors.UserError(
                f"the hole (top {top}, left {left}, height {h}, width {w}) leaves the {H}x{W} picture; move or shrink"
                " it")
    mask = np.ones((H, W, 1), np.float32)
    mask[top:top + h, left:left + w] = 0.0
    if not mask.any():
        raise errors.UserError(f"the hole covers the whole {H}x{W} picture; make it smaller")
    return mask


def text_mask(H: int, W: int, seed: Seed = 0, *, lines: int = 8, weight: float = 0.015) -> np.ndarray:
    """Lines of text laid over the whole picture, to be removed: the letters are the hole.

    Args:
      H, W: size. The letters scale with it, so a small picture gets small letters, not fewer.
      seed: chooses the words and where each line starts.
      lines: lines from top to bottom, at most a quarter of the rows (the default goes for every picture).
      weight: how far letters are thickened, as a share of the letter height (0 = as the font is).

    Like the text over a photograph in figure 7 of Deep Image Prior. Drawn with the font that Pillow carries, so
    the exact pixels belong to one Pillow version.
    """
    if lines < 1:
        raise errors.UserError(f"lines={lines}: a text mask has at least one line")
    if lines > max(8, H // 4):
        raise errors.UserError(f"{lines} lines of text do not fit into {H} rows; ask for at most {max(8, H // 4)}")
    rng = np.random.default_rng(seed)
    scale = 4  # drawn larger and reduced: the stroke width then need not be a whole pixel
    pitch = scale * H / lines
    try:
        font = ImageFont.load_default(size=max(6.0 * scale, 0.5 * pitch))
    except ImportError as e:  # Pillow built without FreeType has no scalable font
        raise errors.UserError("a text mask needs Pillow with FreeType; pip install pillow") from e
    stroke = round(weight * 0.5 * pitch)
    page = Image.new("L", (W * scale, H * scale), 0)
    draw = ImageDraw.Draw(page)
    for k in range(lines):
        start = rng.integers(len(_WORDS))
        words = [_WORDS[(start + j) % len(_WORDS)] for j in range(len(_WORDS))]
        line, shift = " ".join(words), rng.uniform(0, 2 * pitch)
        while draw.textlength(line, font=font) < W * scale + shift:  # a wide, low picture needs more than one round
            line = line + " " + " ".join(words)
        draw.text((-shift, (k + 0.5) * pitch), line, font=font, fill=255, anchor="lm", stroke_width=stroke,
                  stroke_fill=255)
    return _keep(page.resize((W, H), Image.Resampling.BOX))


def stroke_mask(H: int, W: int, fraction: float = 0.1, seed: Seed = 0, *, width: float = 0.03) -> np.ndarray:
    """Free-form brush strokes, added until at least `fraction` of the area is hole.

    Args:
      H, W: size.
      fraction: share of the area to hide, in (0, 1).
      seed: integer(s).
      width: mean brush width as a share of the short side.

    Raises:
      UserError: when MAX_STROKES leave more than that: nearly the whole area of a large or very long picture.
    """
    fraction = _fraction("strokes' share of the area", fraction)
    rng, page, short = np.random.default_rng(seed), Image.new("L", (W, H), 0), min(H, W)
    draw = ImageDraw.Draw(page)
    drawn = 0
    while np.count_nonzero(np.asarray(page)) < fraction * H * W:
        drawn += 1
        if drawn > MAX_STROKES:
            raise errors.UserError(f"{MAX_STROKES} strokes do not hide {fraction:g} of {H}x{W} pixels; ask for less")
        brush = max(1, round(short * width * rng.uniform(0.5, 1.5)))
        point, angle = rng.uniform((0, 0), (W, H)), rng.uniform(0, 2 * np.pi)
        for _ in range(rng.integers(2, 7)):
            angle += rng.uniform(-1.2, 1.2)
            end = point + rng.uniform(0.05, 0.2) * short * np.array([np.cos(angle), np.sin(angle)])
            draw.line([tuple(point), tuple(end)], fill=255, width=brush)
            r = brush / 2
            draw.ellipse([*(end - r), *(end + r)], fill=255)  # round joints
            point = end
    return _check(_keep(page), "strokes")


def scratch_mask(H: int, W: int, count: int = 20, seed: Seed = 0, *, width: float = 0.006) -> np.ndarray:
    """Long thin scratches across the picture, as on an old print.

    Args:
      H, W: size.
      count: number of scratches, at most one per row and column (the default goes for every picture).
      seed: integer(s).
      width: of a scratch, as a share of the short side (at least one pixel).
    """
    if count < 1:
        raise errors.UserError(f"scratches:{count}: a number of at least 1 is needed")
    if count > max(20, H + W):
        raise errors.UserError(f"scratches:{count}: at most {max(20, H + W)} go on a {H}x{W} picture")
    rng, page, short = np.random.default_rng(seed), Image.new("L", (W, H), 0), min(H, W)
    draw = ImageDraw.Draw(page)
    for _ in range(count):
        point, angle = rng.uniform((0, 0), (W, H)), rng.uniform(0, np.pi)
        points = [point]
        for _ in range(rng.integers(4, 12)):
            angle += rng.normal(0, 0.15)
            points.append(points[-1] + 0.1 * short * np.array([np.cos(angle), np.sin(angle)]))
        draw.line([tuple(p) for p in points], fill=255, width=max(1, round(short * width * rng.uniform(0.5, 1.5))))
    return _check(_keep(page), "scratches")


def _check(mask: np.ndarray, what: str) -> np.ndarray:
    if not mask.any():
        raise errors.UserError(f"the {what} hide the whole picture; ask for less")
    return mask


def dilate_holes(mask: np.ndarray, radius: float) -> np.ndarray:
    """The mask [H, W, 1] whose holes also take the known pixels at most `radius` pixels away from one."""
    if not radius or mask.all():
        return mask
    from scipy.ndimage import distance_transform_edt

    return (distance_transform_edt(mask[..., 0] > 0) > radius).astype(np.float32)[..., None]


def make_mask(spec: str, H: int, W: int, seed: Seed = 0) -> np.ndarray:
    """The mask that a short form names.

    Args:
      spec: "text[:LINES]", "bernoulli[:KEPT SHARE]", "hole[:AREA SHARE]", "strokes[:AREA SHARE]" or
        "scratches[:COUNT]".
      H, W: size of the picture.
      seed: integer(s).

    Returns:
      [H, W, 1] float32 in {0, 1}, 1 = keep.

    Raises:
      UserError: an unknown kind (with the nearest), a number that is not one or out of range.
    """
    kind, colon, number = spec.partition(":")
    if kind not in KINDS:
        raise errors.unknown("mask", spec, KINDS)
    number_type, draw = KINDS[kind]
    if not colon:
        return draw(H, W, seed)
    try:
        value = number_type(number)
    except ValueError as e:
        form = "a whole number" if number_type is int else "a share such as 0.5"
        raise errors.UserError(f"mask {spec!r}: {number!r} is not {form}") from e
    return draw(H, W, seed, value)


KINDS = {  # name: (type of the number after the colon, function)
    "text": (int, lambda H, W, seed, v=8: text_mask(H, W, seed, lines=v)),
    "bernoulli": (float, lambda H, W, seed, v=0.5: bernoulli_mask(H, W, v, seed)),
    "hole": (float, lambda H, W, seed, v=0.25: hole_mask(H, W, v)),
    "strokes": (float, lambda H, W, seed, v=0.1: stroke_mask(H, W, v, seed)),
    "scratches": (int, lambda H, W, seed, v=20: scratch_mask(H, W, v, seed)),
}
