"""Picture files under a folder: which there are, in one fixed order, and what was passed over and why.

A file is a picture when its name ends as one of the formats that Pillow opens here, or, where a name has no ending,
when its first bytes are those of a common format. Links to folders are followed, each folder once.
"""

import dataclasses
import functools
import os
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError

from genjax import errors

# Known by their first bytes; the others would take any text for a picture.
_BY_CONTENT = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
_NOT_DECODED = ("EPS", "MPEG")  # Pillow knows them, and needs another program or reads no pixels
_NAMED = 3  # files that a line names as examples


@dataclasses.dataclass(frozen=True)
class Skipped:
    """What was passed over for one reason: how many, and the names of the first few."""

    reason: str
    count: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        names = [*self.names, "…"] if self.count > len(self.names) else self.names
        return f"{self.reason}: {self.count} ({', '.join(names)})"


@dataclasses.dataclass(frozen=True)
class Found:
    """Picture files, sorted by folder and name; what is no picture or could not be looked at; files called as asked."""

    files: tuple[Path, ...]
    skipped: tuple[Skipped, ...]
    asked: tuple[Path, ...] = ()


@functools.cache
def suffixes() -> frozenset[str]:
    """The endings of names, in lower case, of every format that Pillow decodes here."""
    Image.init()
    stubs = {k for k, (opener, _) in Image.OPEN.items()
             if isinstance(opener, type) and issubclass(opener, ImageFile.StubImageFile)}
    decoded = Image.OPEN.keys() - stubs - set(_NOT_DECODED)
    return frozenset(s.lower() for s, kind in Image.registered_extensions().items() if kind in decoded)


def is_picture(path: Path) -> bool:
    """Whether a file is read as a picture: by its name, or by its content where the name has no ending."""
    if path.suffix:
        return path.suffix.lower() in suffixes()
    try:
        with Image.open(path, formats=_BY_CONTENT):
            return True
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return False


def find(folder: str | os.PathLike, asked: str = "") -> Found:
    """Every picture file under a folder, subfolders and linked ones too; hidden names are passed over.

    Args:
      folder: where.
      asked: the name of files to be found beside the pictures, wherever they lie.

    A link to a folder that holds it (an endless loop), or to one that is read anyway, is not followed.

    Raises:
      UserError: no such folder, a file, or no picture in it.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise errors.UserError(f"{missing(root)}; give a folder of pictures")
    walk = _Walk(root, asked)
    if not walk.files:
        passed = "; ".join(map(str, walk.reasons()))
        if any(root.glob("*-idx[13]-ubyte*")):
            raise errors.UserError(f"{root} holds idx files, not pictures; write idx:{root}")
        raise errors.UserError(f"no pictures in {root}; expected files ending in .png, .jpg, .jpeg, .webp, .bmp …"
                               + (f" (passed over: {passed})" if passed else ""))
    in_order = (tuple(sorted(paths, key=lambda p: p.relative_to(root).parts)) for paths in (walk.files, walk.asked))
    return Found(next(in_order), walk.reasons(), next(in_order))


def missing(path: Path) -> str:
    """What is wrong with a path that is not the folder, or not the file, it should be."""
    if path.is_symlink() and not path.exists():
        return f"{path} is a link to {os.readlink(path)}, which is not there"
    return f"{path} is a file, not a folder" if path.exists() else f"{path} does not exist"


def counted(reason: str, names: Iterable[str]) -> Skipped:
    """`Skipped` for these names."""
    names = list(names)
    return Skipped(reason, len(names), tuple(names[:_NAMED]))


class _Walk:
    """Reads a folder: what really lies in it first, then what its links lead to."""

    def __init__(self, root: Path, name: str):
        self.root, self.name = root, name
        self.files, self.asked, self.links = [], [], []
        self.seen: set[tuple[int, int]] = set()
        self.passed: dict[str, list] = {}
        self.read(root)
        while self.links:
            links, self.links = sorted(self.links), []
            for link in links:
                self.follow(link)

    def reasons(self) -> tuple[Skipped, ...]:
        """What was passed over, the same for every order in which a system lists files."""
        return tuple(counted(reason, sorted(names)) for reason, names in sorted(self.passed.items()))

    def skip(self, path: Path, reason: str) -> None:
        self.passed.setdefault(reason, []).append(path.relative_to(self.root).as_posix())

    def follow(self, link: Path) -> None:
        target, here = os.path.realpath(link), os.path.realpath(link.parent)
        if any(os.path.commonpath((target, place)) == target for place in (here, os.path.realpath(self.root))):
            self.skip(link, "linked folders that hold the link")
        elif _identity(link) in self.seen:
            self.skip(link, "linked folders that are read already")
        else:
            self.read(link)

    def read(self, top: Path) -> None:
        todo = [top]
        while todo:
            place = todo.pop()
            try:
                self.seen.add(_identity(place))
                with os.scandir(place) as entries:
                    for entry in entries:
                        self.look(entry, todo)
            except OSError as e:
                self.skip(place, f"unreadable: {(e.strerror or 'error').lower()}")

    def look(self, entry: os.DirEntry, todo: list[Path]) -> None:
        path = Path(entry.path)
        if entry.name.startswith("."):
            if entry.is_dir() or path.suffix.lower() in suffixes():
                self.skip(path, "hidden")
        elif entry.is_dir():
            (self.links if entry.is_symlink() else todo).append(path)
        elif not entry.is_file():
            self.skip(path, "links to nothing" if entry.is_symlink() else "neither files nor folders")
        elif entry.name == self.name:
            self.asked.append(path)
        elif is_picture(path):
            self.files.append(path)
        else:
            self.skip(path, "not pictures")


def _identity(place: Path) -> tuple[int, int]:
    found = place.stat()
    return found.st_dev, found.st_ino


def depth(place: Path) -> str:
    """"flat" where a folder holds pictures itself, "deep" where only folders in it do, "" where none does."""
    inside = []
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    inside.append(Path(entry.path))
                elif entry.is_file() and is_picture(Path(entry.path)):
                    return "flat"
    except OSError:
        return ""
    return "deep" if any(map(depth, inside)) else ""
