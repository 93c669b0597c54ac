"""Images laid out to be compared: grids, captioned sheets, zoomed insets, error maps.

An image is anything array-like of shape [H,W], [H,W,1], [H,W,3] or [H,W,4], float in [0,1], bool, or uint8;
numpy or jax. Every function returns uint8 [H,W,3].
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from genjax.errors import UserError, unknown
from genjax.viz import lettering
from genjax.viz.atomic import write_file

INK, SOFT = (24, 26, 31), (96, 101, 112)  # titles; captions and labels
CORNERS = ("top left", "top right", "bottom left", "bottom right")


def to_uint8(image: Any) -> np.ndarray:
    """Any image as uint8 [H,W,3].

    Floats are clipped to [0,1] and rounded; NaN and infinities become magenta, so that they are seen. Grey is
    repeated, alpha is laid over white.

    Raises:
      UserError: not an image's shape, or integers other than uint8.
    """
    x = np.asarray(image)
    if x.ndim == 2:
        x = x[..., None]
    if x.ndim != 3 or x.shape[-1] not in (1, 3, 4) or 0 in x.shape:
        raise UserError(f"an image is [H,W], [H,W,1], [H,W,3] or [H,W,4], not of shape {list(x.shape)}")
    if x.dtype == np.uint8:
        broken = None
    elif np.issubdtype(x.dtype, np.integer):
        raise UserError(f"an image is float in [0,1] or uint8, not {x.dtype}; convert it first")
    else:
        x = x.astype(np.float32)
        broken = ~np.isfinite(x).all(-1)
        x = np.round(np.clip(np.nan_to_num(x), 0, 1) * 255).astype(np.uint8)
    if x.shape[-1] == 4:
        alpha = x[..., 3:].astype(np.float32) / 255
        x = np.round(x[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    x = np.repeat(x, 3, -1) if x.shape[-1] == 1 else x.copy()
    if broken is not None and broken.any():
        x[broken] = (255, 0, 255)
    return x


def png_bytes(image: Any) -> bytes:
    """The image as a PNG file's bytes."""
    out = io.BytesIO()
    Image.fromarray(to_uint8(image)).save(out, "png", optimize=True)
    return out.getvalue()


def save_png(path: str | Path, image: Any) -> Path:
    """Writes the image as PNG in one step (temporary name, then rename) and returns the path."""
    return write_file(path, png_bytes(image))


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet: `title` above it, `caption` below it (such as "24.3 dB")."""

    image: Any
    title: str = ""
    caption: str = ""


def sheet(
    rows: Sequence[Sequence[Panel | None]],
    *,
    title: str = "",
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    panel_height: int | None = None,
    gap: int = 12,
    font_size: int = 14,
    background: int = 255,
) -> np.ndarray:
    """A comparison sheet: rows of titled and captioned panels.

    Within a row all panels are drawn equally high, so a low-resolution input stands beside its restoration at
    the same size. Panels are enlarged by nearest neighbour (their pixels stay countable) and reduced by area
    averaging.

    Args:
      rows: panels, row by row; None leaves a place empty; rows may differ in length.
      title: a headline over everything.
      row_labels, column_labels: names at the left of rows and above columns, one each.
      panel_height: pixels; None takes each row's tallest image, enlarged by a whole factor to at least 160.
      gap: pixels between panels and around the sheet.
      font_size: pixels.
      background: grey level in 0..255.

    Returns:
      uint8 [H,W,3].
    """
    if not rows or not any(p is not None for row in rows for p in row):
        raise UserError("a sheet needs at least one panel")
    if panel_height is not None and panel_height < 1:
        raise UserError(f"panel_height must be positive, not {panel_height}")
    cells = [[None if p is None else (to_uint8(p.image), p.title, p.caption) for p in row] for row in rows]
    for row in cells:
        heights = [c[0].shape[0] for c in row if c]
        if heights:
            tallest = max(heights)
            target = panel_height or tallest * max(1, -(-160 // tallest))
            row[:] = [c and (_to_height(c[0], target), *c[1:]) for c in row]
    return _compose(cells, title, row_labels, column_labels, gap, font_size, background)


def image_grid(
    images: Sequence[Any] | Any,
    columns: int | None = None,
    labels: Sequence[str] | None = None,
    *,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    title: str = "",
    padding: int = 2,
    scale: int = 1,
    font_size: int = 12,
    background: int = 255,
) -> np.ndarray:
    """Images in rows and columns, pixel for pixel.

    Without labels, image (r, c) of equal images [h,w] starts at row padding + r (h + padding), column
    padding + c (w + padding). Images of other sizes are centred in their cells.

    Args:
      images: a sequence of images or one array [N,H,W,C].
      columns: images per row; None makes the grid about square.
      labels: a text under each image; "" for none.
      row_labels, column_labels: names at the left of rows and above columns, one each.
      title: a headline over everything.
      padding: pixels between images and around the grid.
      scale: whole factor by which images are enlarged (nearest neighbour).
      font_size, background: see `sheet`.

    Returns:
      uint8 [H,W,3].
    """
    if getattr(images, "ndim", 4) == 3:
        raise UserError("image_grid takes an array [N,H,W,C] or a list; put a single image in a list")
    pictures = [np.kron(to_uint8(x), np.ones((scale, scale, 1), np.uint8)) for x in images]
    if not pictures:
        raise UserError("image_grid needs at least one image")
    if labels is not None and len(labels) != len(pictures):
        raise UserError(f"{len(labels)} labels for {len(pictures)} images; give one per image")
    columns = columns or int(np.ceil(np.sqrt(len(pictures))))
    if columns < 1:
        raise UserError(f"columns must be positive, not {columns}")
    cells = [(x, "", labels[i] if labels else "") for i, x in enumerate(pictures)]
    rows = [cells[i:i + columns] for i in range(0, len(cells), columns)]
    return _compose(rows, title, row_labels, column_labels, padding, font_size, background)


def inset(
    image: Any,
    box: tuple[int, int, int, int],
    *,
    zoom: int = 3,
    corner: str = "bottom right",
    colour: tuple[int, int, int] = (255, 214, 10),
    border: int = 2,
) -> np.ndarray:
    """Frames a region and shows it enlarged in a corner of the same image.

    Args:
      image: see the module.
      box: (top, left, height, width) of the region in pixels.
      zoom: whole factor of enlargement, nearest neighbour.
      corner: one of "top left", "top right", "bottom left", "bottom right".
      colour: RGB of both frames, 0..255.
      border: width of the frames in pixels.

    Raises:
      UserError: the region leaves the image, or its enlargement does not fit in it.
    """
    x = to_uint8(image)
    if corner not in CORNERS:
        raise unknown("corner", corner, CORNERS)
    top, left, height, width = box
    size = f"{x.shape[0]}x{x.shape[1]} image"
    if min(top, left) < 0 or min(height, width, zoom) < 1 or (
        top + height > x.shape[0] or left + width > x.shape[1]
    ):
        raise UserError(f"inset box (top, left, height, width) = {tuple(box)} leaves the {size}")
    big = np.kron(x[top:top + height, left:left + width], np.ones((zoom, zoom, 1), np.uint8))
    big = np.pad(big, ((border, border), (border, border), (0, 0)))
    if big.shape[0] > x.shape[0] or big.shape[1] > x.shape[1]:
        raise UserError(f"an inset of {height}x{width} enlarged {zoom} times does not fit in a {size};"
                        f" take a smaller box or zoom")
    _frame(big, border, colour)
    region = x[max(top - border, 0):top + height + border, max(left - border, 0):left + width + border]
    _frame(region, border, colour)
    at_row = 0 if corner.startswith("top") else x.shape[0] - big.shape[0]
    at_column = 0 if corner.endswith("left") else x.shape[1] - big.shape[1]
    x[at_row:at_row + big.shape[0], at_column:at_column + big.shape[1]] = big
    return x


def error_map(a: Any, b: Any, *, vmax: float | None = None, colormap: str = "magma") -> np.ndarray:
    """Absolute difference, averaged over channels, as colours from dark (0) to bright (`vmax` and above).

    Args:
      a, b: images of equal shape.
      vmax: the difference shown brightest, in [0,1] units; None takes the largest. Give one value to all maps
        that are compared with each other.
      colormap: a matplotlib colour map's name.
    """
    from matplotlib import colormaps

    if colormap not in colormaps:
        raise unknown("colour map", colormap, colormaps)
    a, b = to_uint8(a), to_uint8(b)
    if a.shape != b.shape:
        raise UserError(f"error_map needs images of one size, not {a.shape[:2]} and {b.shape[:2]}")
    error = np.abs(a.astype(np.float32) - b).mean(-1) / 255
    vmax = float(error.max()) if vmax is None else vmax
    colours = colormaps[colormap](np.clip(error / max(vmax, 1e-12), 0, 1))[..., :3]
    return (colours * 255).round().astype(np.uint8)


def _frame(x: np.ndarray, border: int, colour) -> None:
    if border:
        x[:border] = x[-border:] = x[:, :border] = x[:, -border:] = colour


def _to_height(x: np.ndarray, height: int) -> np.ndarray:
    if x.shape[0] == height:
        return x
    size = (max(1, round(x.shape[1] * height / x.shape[0])), height)
    return np.asarray(Image.fromarray(x).resize(size, Image.NEAREST if height > x.shape[0] else Image.BOX))


def _compose(rows, title, row_labels, column_labels, gap, size, background) -> np.ndarray:
    """Draws cells (image, title, caption) on one canvas; every column as wide as its widest image."""
    count = max(len(row) for row in rows)
    for name, labels, n in (("row_labels", row_labels, len(rows)), ("column_labels", column_labels, count)):
        if labels is not None and len(labels) != n:
            raise UserError(f"{len(labels)} {name} for {n} {name.split('_')[0]}s; give one each")
    widths = [max([r[c][0].shape[1] for r in rows if c < len(r) and r[c]] or [4 * size])
              for c in range(count)]
    line, space = lettering.line_height(size), max(2, size // 4)
    left = gap
    if row_labels:
        left += max(lettering.width(t, size, True) for t in row_labels) + max(gap, size)
    lefts = [left + sum(widths[:c]) + c * gap for c in range(count)]
    big = round(size * 1.4)
    total = max(left + sum(widths) + count * gap, lettering.width(title, big, True) + 2 * gap if title else 0)

    texts = []  # (centre or left, top, text, size, bold, colour, anchor)
    y = gap
    if title:
        texts.append((gap, y, title, big, True, INK, "la"))
        y += lettering.line_height(big) + gap // 2
    if column_labels:
        wrapped = [lettering.wrap(t, w, size, True) for t, w in zip(column_labels, widths, strict=True)]
        for lines, x0, w in zip(wrapped, lefts, widths, strict=True):
            texts += [(x0 + w // 2, y + i * line, t, size, True, INK, "ma") for i, t in enumerate(lines)]
        y += max(len(lines) for lines in wrapped) * line + space
    pictures = []
    for r, row in enumerate(rows):
        cells = [(c, x, w) for c, x, w in zip(row, lefts, widths, strict=False) if c]
        titles = [lettering.wrap(c[1], w, size, True) for c, _, w in cells]
        captions = [lettering.wrap(c[2], w, size) for c, _, w in cells]
        above = max([len(t) for t in titles] or [0])
        height = max([c[0].shape[0] for c, _, _ in cells] or [0])
        below = max([len(t) for t in captions] or [0])
        top = y + (above * line + space if above else 0)
        for (cell, x, w), heads, feet in zip(cells, titles, captions, strict=True):
            image = cell[0]
            first = top - space - len(heads) * line
            texts += [(x + w // 2, first + i * line, t, size, True, INK, "ma") for i, t in enumerate(heads)]
            pictures.append((top + (height - image.shape[0]) // 2, x + (w - image.shape[1]) // 2, image))
            texts += [(x + w // 2, top + height + space + i * line, t, size, False, SOFT, "ma")
                      for i, t in enumerate(feet)]
        if row_labels:
            texts.append((gap, top + height // 2, row_labels[r], size, True, INK, "lm"))
        y = top + height + (space + below * line if below else 0) + gap

    canvas = np.full((y, total, 3), background, np.uint8)
    for row, column, image in pictures:
        canvas[row:row + image.shape[0], column:column + image.shape[1]] = image
    if not texts:
        return canvas
    drawing = Image.fromarray(canvas)
    pen = ImageDraw.Draw(drawing)
    for x, top, text, points, bold, colour, anchor in texts:
        ink = colour if background > 127 else tuple(255 - v // 2 for v in colour)
        pen.text((x, top), text, font=lettering.font(points, bold), fill=ink, anchor=anchor)
    return np.asarray(drawing)
