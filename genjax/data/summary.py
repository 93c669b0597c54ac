"""What was read, in one line: how many pictures of what sizes, which classes and split, from where, what was skipped.

`summarize(data)` asks a source, or what batches are drawn from; both answer with a `Summary`, whose line every run logs
and `launch.py data` prints. Nothing is decoded for it: of files only the headers of some are read.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from genjax.data.folders import Skipped
from genjax.errors import UserError

MOST_FILES = 256  # headers read at most; the first of them 2 seconds at most
MOST_SECONDS = 2.0
MOST_LABELS = 20_000  # of a set whose labels have to be read or drawn; those of a larger one are not counted
_NAMED_CLASSES = 12
_NAMED_SIZES = 3

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """What a data set holds.

    Attributes:
      count: how many elements.
      what: what they are.
      sizes: ((height, width), how many), the most frequent first.
      looked: at how many elements it looked for their sizes; fewer than `count` is a sample.
      unreadable: the errors of those that cannot be read.
      classes: (name, how many) in the order of the labels; how many is -1 where nobody counted.
      split, place: as asked for, and the absolute path (or what it came with).
      skipped: what was passed over.
      notes: how the rest was understood.
    """

    count: int
    what: str = "pictures"
    sizes: tuple[tuple[Size, int], ...] = ()
    looked: int = 0
    unreadable: tuple[str, ...] = ()
    classes: tuple[tuple[str, int], ...] = ()
    split: str = ""
    place: str = ""
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()

    def line(self) -> str:
        """All of it as one line, for the log, the report and `launch.py data`."""
        what = self.what.replace("pictures", "picture") if self.count == 1 else self.what
        parts = [f"{self.count} {what}" + self._sizes(), self._classes(), f"split {self.split}" if self.split else "",
                 f"from {self.place}" if self.place else ""]
        broken = (f"{len(self.unreadable)} of {self.looked} looked at cannot be read ({self.unreadable[0]})"
                  if self.unreadable else "")
        skipped = f"skipped {', '.join(map(str, self.skipped))}" if self.skipped else ""
        return "; ".join(filter(None, [", ".join(filter(None, parts)), broken, skipped, *self.notes]))

    def _sizes(self) -> str:
        if not self.sizes:
            return ""
        names = [f"{h}x{w}" for (h, w), _ in self.sizes]
        if len(names) == 1:
            text = names[0]
        elif len(names) <= _NAMED_SIZES:
            text = ", ".join(f"{name} ({n})" for name, (_, n) in zip(names, self.sizes, strict=True))
        else:
            h, w = zip(*(s for s, _ in self.sizes), strict=True)
            text = f"{min(h)} to {max(h)} x {min(w)} to {max(w)}, {len(names)} sizes, most often {names[0]}"
        some = f", of {self.looked} looked at" if self.looked < self.count else ""
        order = " (height x width)" if any(h != w for (h, w), _ in self.sizes) else ""
        return f" of {text}{order}{some}"

    def _classes(self) -> str:
        if not self.classes:
            return "no classes" if self.what == "pictures" else ""
        counts = [n for _, n in self.classes]
        if len(self.classes) <= _NAMED_CLASSES:
            names = ", ".join(name if n < 0 else f"{name}: {n}" for name, n in self.classes)
        else:
            each = "" if min(counts) < 0 else f"; {min(counts)}" + (
                "" if min(counts) == max(counts) else f" to {max(counts)}") + " each"
            names = ", ".join(n for n, _ in self.classes[:3]) + f", … {self.classes[-1][0]}{each}"
        return f"{len(self.classes)} class{'es' if len(self.classes) > 1 else ''} ({names})"

    def to_dict(self) -> dict[str, Any]:
        """For JSON, the line among it."""
        return {
            "line": self.line(), "count": self.count, "what": self.what,
            "sizes": [{"height": h, "width": w, "count": n} for (h, w), n in self.sizes], "looked": self.looked,
            "unreadable": list(self.unreadable),
            "classes": [{"name": name, "count": n if n >= 0 else None} for name, n in self.classes],
            "split": self.split, "place": self.place,
            "skipped": [dataclasses.asdict(s) for s in self.skipped], "notes": list(self.notes)}


def summarize(data: Any) -> Summary:
    """`data.summary()` of a source or of what batches are drawn from; number and name alone where it has none."""
    if hasattr(data, "summary"):
        return data.summary()
    name = getattr(data, "name", type(data).__name__)
    return Summary(count=len(data), what="elements", place=str(name))


def sizes(first: int, end: int, size: Callable[[int], Size]) -> dict[str, Any]:
    """`Summary`'s `sizes`, `looked` and `unreadable` for elements first .. end-1; of many, evenly chosen ones."""
    found, errors, until = Counter(), [], time.monotonic() + MOST_SECONDS
    for i in np.unique(np.linspace(first, end - 1, min(end - first, MOST_FILES)).astype(int)):
        try:
            found[size(int(i))] += 1
        except UserError as e:
            errors.append(str(e))
        if time.monotonic() > until:
            break
    return {"sizes": ordered(found), "looked": found.total() + len(errors), "unreadable": tuple(errors)}


def ordered(found: Counter) -> tuple[tuple[Size, int], ...]:
    """Sizes and their numbers, the most frequent first."""
    return tuple(sorted(found.items(), key=lambda kv: (-kv[1], kv[0])))


def class_counts(labels: np.ndarray | None, names: tuple[str, ...] = ()) -> tuple[tuple[str, int], ...]:
    """(class, how many) of labels [N]: every class that has a name or pictures; numbers where there are no names."""
    if labels is None or not len(labels):
        return ()
    counts = Counter(np.asarray(labels).tolist())
    known = {i: name for i, name in enumerate(names)}
    return tuple((known.get(i, str(i)), counts[i]) for i in sorted({*known, *counts}))


def uncounted(names: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """`Summary.classes` of a set whose labels nobody counted."""
    return tuple((name, -1) for name in names)
