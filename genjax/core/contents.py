"""What a data source holds, without training: its line, and a contact sheet with a row for each class."""

import contextlib
import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np

from genjax.data import folders, images
from genjax.data.posed import PosedImages
from genjax.data.source_array import Part
from genjax.data.source_folder import FolderSource
from genjax.data.sources import KINDS, ArraySource, Source, open_source
from genjax.data.summary import MOST_LABELS, Summary, summarize
from genjax.errors import UserError
from genjax.viz import grid

ROWS, COLUMNS, CELL = 16, 8, 96  # of a contact sheet; CELL in pixels
_PROBED = 128  # elements whose labels are read where all of them would take long


@dataclasses.dataclass(frozen=True)
class Contents:
    """A source that was opened: its pictures, and the summary that a run on it logs."""

    source: Source
    summary: Summary


def open_contents(spec: str, split: str = "train", **options: Any) -> Contents:
    """Opens what `config.data.source` or `config.image` may name.

    Args:
      spec: as for `open_source`; a folder with a transforms.json, or an .npz with poses, is read as posed views, and a
        picture file, or builtin:photos/NAME, as that one picture.
      split: see there.
      **options: of the source.

    Raises:
      UserError: whatever is wrong with them.
    """
    kind, colon, rest = spec.partition(":")
    path = Path(rest).expanduser()
    own = kind not in KINDS  # no kind of source is named
    if spec.startswith(("builtin:photos/", "builtin:textures/")) or (own and Path(spec).expanduser().is_file()):
        x = images.load_pixels(spec)
        source = ArraySource(x[None], name=spec, files=(images.resolve(spec),))
        return Contents(source, summarize(source))
    if (kind == "folder" and any((path / n).is_file() for n in ("transforms.json", "transforms_train.json"))) or (
            kind == "npz" and path.is_file() and _holds_poses(path)):
        data = _posed(spec)
        views = (*data.train.images, *data.test.images)
        return Contents(ArraySource(views, name=spec), summarize(data))
    if own and Path(spec).suffix.lower() in folders.suffixes() and not Path(spec).is_dir():
        images.resolve(spec)  # says what is wrong with the picture that is meant
    source = open_source(spec, split, **options)
    return Contents(source, summarize(source))


def _posed(spec: str) -> PosedImages:
    """Posed views as a run reads them by default; of few views, with what can be held out."""
    for holdout in (8, 0):  # 0: those of transforms_test.json
        with contextlib.suppress(UserError):
            return PosedImages(spec, holdout=holdout)
    return PosedImages(spec, holdout=2)


def _holds_poses(path: Path) -> bool:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {"images", "poses", "focal"} <= set(file)
    except Exception:  # a single array, or whatever zip and NumPy raise on a damaged file: `open_source` says it
        return False


def contact_sheet(source: Source, title: str = "") -> tuple[np.ndarray, list[str]]:
    """(a sheet uint8 [H,W,3] with a row of pictures for each class, the errors of pictures that cannot be read).

    Of many classes, and of the pictures of one, evenly chosen ones are shown; without classes the pictures of a source
    go row by row.
    """
    rows, cells, unreadable = _rows(source), [], []
    for _, indices in rows:
        shown = [_cell(source, i, unreadable) for i in indices]
        cells += shown + [np.full((1, 1, 3), 255, np.uint8)] * (COLUMNS - len(shown))
    names = [name for name, _ in rows]
    return grid.image_grid(cells, COLUMNS, row_labels=names if any(names) else None, title=title, padding=4), unreadable


def sheet_name(spec: str, split: str) -> str:
    """The file name of a contact sheet: data-folder-photos-train.png."""
    kind, _, rest = spec.partition(":")
    rest = rest if kind == "builtin" else Path(rest or kind).expanduser().absolute().name
    return re.sub(r"[^\w.]+", "-", f"data {kind if _ else 'picture'} {rest} {split}").strip("-") + ".png"


def _cell(source: Source, i: int, unreadable: list[str]) -> np.ndarray:
    """Picture i with its longer side at CELL pixels; small ones are enlarged by a whole factor."""
    try:
        x = np.asarray(source[i]["image"])
    except UserError as e:
        unreadable.append(str(e))
        return np.full((CELL, CELL, 3), (255, 0, 255), np.uint8)
    h, w = x.shape[:2]
    if max(h, w) <= CELL:
        return grid.to_uint8(np.kron(x, np.ones((CELL // max(h, w), CELL // max(h, w), 1), x.dtype)))
    scale = CELL / max(h, w)
    return grid.to_uint8(images.resize_image(x, (max(1, round(h * scale)), max(1, round(w * scale)))))


def _rows(source: Source) -> list[tuple[str, list[int]]]:
    """(name, indices) of the rows of a contact sheet."""
    labels = _labels(source)
    if not labels:
        chosen = _evenly(range(len(source)), ROWS // 2 * COLUMNS)
        return [("", chosen[i:i + COLUMNS]) for i in range(0, len(chosen), COLUMNS)]
    of: dict[int, list[int]] = {}
    for i, label in labels.items():
        of.setdefault(label, []).append(i)
    names = dict(enumerate(source.classes))
    return [(names.get(c, str(c)), _evenly(of[c], COLUMNS)) for c in _evenly(sorted(of), ROWS)]


def _labels(source: Source) -> dict[int, int]:
    """{index: label}: of all elements where that is quick, else of some that are read; {} without labels."""
    if not source.labelled:
        return {}
    whole = source.source if isinstance(source, Part) else source
    if len(whole) <= MOST_LABELS or isinstance(whole, (ArraySource, FolderSource)):
        known = getattr(source, "labels", None)
        if known is not None:
            return dict(enumerate(np.asarray(known).tolist()))
    some = np.array(_evenly(range(len(source)), _PROBED))
    rows = getattr(source, "rows", None)
    found = rows(some)["label"] if rows else [source[int(i)]["label"] for i in some]
    return dict(zip(some.tolist(), map(int, found), strict=True))


def _evenly(items: Any, most: int) -> list:
    """At most so many of them, the first and the last among them."""
    items = list(items)
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).astype(int))]
