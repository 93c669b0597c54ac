"""`folder:PATH`: picture files as a data set. docs/data.md says the same for users.

Which folder is the split, which folders are classes, and where labels come from is decided by what is there; whatever
could be meant otherwise is said in the notes of the source's summary.
"""

import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np

from genjax import errors
from genjax.data import folders, images, summary
from genjax.data.source_array import Listing, file_listing

_ROLES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
          "testing": "test"}
LABELS = "dataset.json"  # StyleGAN's: {"labels": [["00000/img00000000.png", 6], …]}, or null


@dataclasses.dataclass(frozen=True, eq=False)
class FolderSource:
    """Picture files, decoded when asked for.

    Attributes:
      paths: the files.
      labels: [N] int32, or None.
      name, classes: see `Source`.
      channels: 1 or 3.
      root: the folder that was read.
      split: as asked for.
      label_files: the `dataset.json`s that the labels come from.
      skipped, notes: see `Summary`.
    """

    paths: tuple[Path, ...]
    labels: np.ndarray | None
    name: str
    classes: tuple[str, ...]
    channels: int = 3
    root: Path = Path()
    split: str = ""
    label_files: tuple[Path, ...] = ()
    skipped: tuple[folders.Skipped, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        return self.labels is not None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        element = {"image": images.load_pixels(self.paths[i], channels=self.channels)}
        if self.labels is not None:
            element["label"] = np.int32(self.labels[i])
        return element

    def listing(self) -> Listing:
        """See `Source`: the pictures, named from `root` on, and what their labels come from."""
        return file_listing((*self.paths, *self.label_files), self.root)

    def content(self) -> tuple[Path, ...]:
        """The pictures' files; their labels lie in memory."""
        return self.paths

    def summary(self, first: int = 0, end: int | None = None) -> summary.Summary:
        """See `Source`."""
        end = len(self) if end is None else end
        labels = None if self.labels is None else self.labels[first:end]
        return summary.Summary(
            count=end - first, **summary.sizes(first, end, lambda i: images.header_size(self.paths[i])),
            classes=summary.class_counts(labels, self.classes), split=self.split, place=os.path.abspath(self.root),
            skipped=self.skipped, notes=self.notes)


def folder(path: str, split: str, channels: int = 3) -> FolderSource:
    """Every picture under a folder, subfolders and linked ones too, in one fixed order.

    Args:
      path: the folder. Where it has a subfolder named as the split (train, test …), that one is read; a folder
        without such subfolders is one set, read by split "train" or "all". One subfolder that is called so beside at
        least two others that hold pictures themselves, as it does, is a class like them.
      split: see above.
      channels: 1 or 3.

    Returns:
      A source. Its labels are those of a `dataset.json` as StyleGAN writes it, in the folder or its subfolders; else,
      when every picture lies in a subfolder and there are at least two, the first subfolder's name is its class, and
      labels number the sorted names. Subfolders that only cut a long list into thousands (00000/img00000000.png …) are
      no classes.

    Raises:
      UserError: no such folder or split, no pictures, a `dataset.json` that cannot be read or leaves pictures out.
    """
    top = Path(path).expanduser()
    images.to_channels(np.zeros((1, 1, 1), np.uint8), channels)  # a wrong `channels` shows now, not at batch 0
    root, beside, notes = _split(top, split)
    found = folders.find(root, LABELS)
    names = [f.relative_to(root).parts for f in found.files]
    given, files, said = _given(top, root, found)
    notes += said
    if files:
        classes, labels = (), given
    else:
        classes, labels, said = _classes(names)
        notes += said + (_other_classes(top, root, classes) if classes else [])
    return FolderSource(found.files, labels, f"folder:{root}", classes, channels, root, split, files,
                        (*found.skipped, *beside), tuple(notes))


def _split(top: Path, split: str) -> tuple[Path, tuple[folders.Skipped, ...], list[str]]:
    """(the folder to read, what lies beside it, notes)."""
    inside, files = _inside(top)
    present = [s for s in _ROLES if (top / s).is_dir()]
    others = [p for p in inside if p.name not in _ROLES]
    if len({_ROLES[s] for s in present}) == 1 and split in (*_ROLES, "all"):
        # CIFAR-100 has a class `train`: one such name among folders of pictures of its kind
        alike = [p.name for p in others if folders.depth(p) == "flat"]
        if len(alike) > 1 and all(folders.depth(top / s) == "flat" for s in present):
            if split not in ("train", "all"):
                raise errors.UserError(f"{top} has classes ({alike[0]}, {alike[1]} and {present[0]} …) and no subfolder"
                                       f" of split {split!r}, so it is one set; use split 'train' or 'all'")
            return top, (), [f"{' and '.join(map(repr, present))} beside {alike[0]!r} and {len(alike) - 1} more is read"
                             f" as a class (folder:{top / present[0]} reads it alone)"]
    if (top / split).is_dir():
        held = [p.name for p in others if p.name != split and folders.depth(p)]
        loose = [p.name for p in files if folders.is_picture(p)]
        beside = tuple(folders.counted(f"{what} beside the split {split!r}", names)
                       for what, names in (("folders of pictures", held), ("pictures", sorted(loose))) if names)
        more = [s for s in present if s != split]
        return top / split, beside, [f"other splits: {', '.join(more)}"] if more else []
    if present and split != "all":
        raise errors.unknown(f"split: {top} has no such subfolder", split, [*present, "all"])
    if split not in ("train", "all"):
        raise errors.UserError(
            f"{top} has no subfolder {split!r}, so it is one set; use split 'train' or 'all', or add that folder")
    cased = [p.name for p in others if p.name.lower() in _ROLES]
    return top, (), [f"{', '.join(cased)}: splits are written in lower case, these are not taken for any"] * bool(cased)


def _inside(top: Path) -> tuple[list[Path], list[Path]]:
    """(folders, files) directly in a folder, without hidden ones; none where it is no folder."""
    if not top.is_dir():
        return [], []
    with os.scandir(top) as entries:  # which knows what is a folder without asking for each of a million files
        seen = [(e.is_dir(), e.is_file(), Path(e.path)) for e in entries if not e.name.startswith(".")]
    return sorted(p for is_dir, _, p in seen if is_dir), sorted(p for _, is_file, p in seen if is_file)


def _classes(names: list[tuple[str, ...]]) -> tuple[tuple[str, ...], np.ndarray | None, list[str]]:
    """(class names, labels, notes) by the folders in which pictures lie."""
    tops = [n[0] if len(n) > 1 else None for n in names]
    classes = tuple(sorted({t for t in tops if t}))
    if len(classes) > 1 and None in tops:
        loose = [n[0] for n in names if len(n) == 1]
        return (), None, [f"no classes, because {len(loose)} of the pictures lie beside the {len(classes)} subfolders"
                          f" ({loose[0]})"]
    if len(classes) < 2:
        return (), None, []
    if all(len(n) == 2 and _in_chunk(*n) for n in names):
        return (), None, [f"the {len(classes)} numbered subfolders are parts of a list, no classes ({LABELS} would have"
                          " labels)"]
    number = {c: n for n, c in enumerate(classes)}
    return classes, np.array([number[t] for t in tops], np.int32), []


def _other_classes(top: Path, root: Path, classes: tuple[str, ...]) -> list[str]:
    """Notes on what shifts the numbers of classes: class folders without pictures, splits with other classes."""
    empty = [p.name for p in _inside(root)[0] if p.name not in classes]
    notes = [f"no pictures in {', '.join(empty[:5])}{', …' * (len(empty) > 5)}: labels number the other classes"] if (
        empty) else []
    for split in (s for s in _ROLES if root != top and s != root.name and (top / s).is_dir()):
        theirs = tuple(p.name for p in _inside(top / split)[0])
        if theirs and theirs != classes:
            differ = sorted({*theirs} ^ {*classes})
            some = ", ".join(differ[:3]) + ", …" * (len(differ) > 3)
            notes.append(f"split {split!r} has other class folders ({some} in one of the two alone) and numbers"
                         " its own")
    return notes


def _in_chunk(place: str, name: str) -> bool:
    """Whether a subfolder is one of a list cut into thousands: StyleGAN's 00012/img00012345.png, or 12000/12345.png."""
    number = re.fullmatch(r"\D*(\d{5,})\.\w+", name)
    return bool(number and re.fullmatch(r"\d{5,}", place)
                and int(place) in (int(number[1]) // 1000, int(number[1]) // 1000 * 1000))


def _given(top: Path, root: Path, found: folders.Found) -> tuple[np.ndarray | None, tuple[Path, ...], list[str]]:
    """(labels, the files they come from, notes) by `dataset.json`; no files where there is none of StyleGAN's.

    A picture's label is looked up in the nearest one, from the picture's folder up to the data set's; names in it count
    from where it lies, or from a folder above.
    """
    above = [p / LABELS for p in (root, *root.parents) if p.is_relative_to(top) and p != root]
    tables, notes = {}, []
    for file in (*(f for f in above if f.is_file()), *found.asked):
        table = _table(file)
        if table is None:
            notes.append(f"{file} is not StyleGAN's (it has no list 'labels' of names and numbers) and was not read")
        else:
            tables[file] = table
    if not tables:
        return None, (), notes
    labels = [_look_up(p, top, tables) for p in found.files]
    here = [f for f in tables if f.is_relative_to(root)]
    if not any(tables.values()) or (not here and not any(x is not None for x in labels)):
        return None, tuple(here), [*notes, f"{next(iter(tables))} has no labels"]
    without = [p for p, x in zip(found.files, labels, strict=True) if x is None]
    if without:
        raise errors.UserError(f"{next(iter(tables))} has no label for {len(without)} of {len(labels)} pictures, such"
                               f" as {without[0].relative_to(root)}; add them, or take the file away for a set without")
    return _whole(labels, found.files, next(iter(tables)), tuple(tables), notes)


def _whole(labels: list, paths: tuple[Path, ...], file: Path, files: tuple[Path, ...], notes: list[str]):
    """As `_given`, where every picture has an entry: numbers from 0, or vectors, which are not read."""
    if all(isinstance(x, list) for x in labels):
        return None, files, [*notes, f"{file} has vectors of {len(labels[0])} numbers as labels, which are not read"]
    wrong = [(p, x) for p, x in zip(paths, labels, strict=True) if type(x) is not int or not 0 <= x < 2**31]
    if wrong:
        raise errors.UserError(f"{file} gives {wrong[0][0].name} the label {json.dumps(wrong[0][1])}; labels are whole"
                               " numbers from 0")
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return np.array(labels, np.int32), files, [*notes, f"labels from {file}{more}"]


def _table(file: Path) -> dict | None:
    """{name: label} of a `dataset.json`, empty where it has none; None where it is another program's."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as e:
        raise errors.UserError(f"{file} cannot be read ({e}); copy it again, or take it away for a set without labels"
                               ) from e
    if not isinstance(content, dict) or "labels" not in content:
        return None
    rows = content["labels"]
    if rows is None:
        return {}
    pairs = isinstance(rows, list) and all(isinstance(r, list) and len(r) == 2 and isinstance(r[0], str) for r in rows)
    return {name.replace("\\", "/"): label for name, label in rows} if pairs else None


def _look_up(path: Path, top: Path, tables: dict[Path, dict]) -> object:
    """The label of a picture in the nearest table that has it; None where none has."""
    names = [path.relative_to(place).as_posix() for place in path.parents if place.is_relative_to(top)]
    for place in path.parents:
        for name in names if (table := tables.get(place / LABELS)) else ():
            if name in table:
                return table[name]
    return None
