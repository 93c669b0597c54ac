"""What a sweep shows of its points: rows read from the run folders, a live table, and the table at the end."""

import dataclasses
import json
import math
import os
import re
import shutil
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

from genjax.core.sweep import text
from genjax.metrics.recipe import Recipe
from genjax.viz.progress import clock_time
from genjax.viz.report import number

Mode = Literal["max", "min"]
# Words in a metric's name that say less is better.
LESS = {"loss", "mse", "rmse", "mae", "error", "fid", "kid", "fd", "kd", "sifid", "ndb", "ppl", "lpips", "dists",
        "niqe", "nll", "bpd", "nats", "perplexity", "distance", "seconds"}
LAST = 10  # training rows whose mean stands for a metric that was logged, not evaluated
ORDER = ("running", "failed", "preempted", "waiting", "pruned", "done")  # what the live table shows first


@dataclasses.dataclass(frozen=True)
class Row:
    """One point as it stands.

    Attributes:
      point: its id, the name of its run folder.
      state: waiting, running, done, failed, preempted, or pruned by a search.
      step: updates made, as far as the folder tells.
      values: {swept key: the value this point's config has there}.
      metrics: the newest evaluation.
      live: newest training metrics and steps per second, for the table while it runs.
      folder: the run folder.
      reason: why it failed.
      recipes: how those of its metrics were measured that say so.
      trial: the search's number for it.
      logged: training metrics, each the mean of the last `LAST` logged rows.
      from_log: the one of `metrics` that was taken from `logged`, see `promoted`.
    """

    point: str
    state: str
    step: int
    values: dict[str, Any]
    metrics: dict[str, float]
    live: dict[str, float]
    folder: Path
    reason: str = ""
    trial: int | None = None
    recipes: dict[str, Recipe] = dataclasses.field(default_factory=dict)
    logged: dict[str, float] = dataclasses.field(default_factory=dict)
    from_log: str = ""

    def json(self) -> dict[str, Any]:
        """For programs; numbers JSON cannot hold are null."""
        metrics, logged = ({k: v if math.isfinite(v) else None for k, v in numbers.items()}
                           for numbers in (self.metrics, self.logged))
        out = {"point": self.point, "state": self.state, "step": self.step, "overrides": self.values,
               "metrics": metrics, "logged": logged, "run": str(self.folder), "reason": self.reason}
        return out if self.trial is None else {"trial": self.trial, **out}


class Follow:
    """The newest rows of a growing metrics.jsonl; every look reads only what was added since the last one.

    Attributes:
      last: {kind: the newest row's numbers}.
      evals: {step: the numbers of its evaluation}.
      recent: the last `LAST` training rows.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file, self._offset = 0, 0
        self.last: dict[str, dict[str, float]] = {}
        self.evals: dict[int, dict[str, float]] = {}
        self.recent: deque[dict[str, float]] = deque(maxlen=LAST)

    def look(self) -> "Follow":
        """Reads on; a file that was replaced (a resumed run drops rows) is read anew."""
        try:
            with open(self.path, "rb") as file:
                now = os.fstat(file.fileno())
                if now.st_ino != self._file or now.st_size < self._offset:
                    self._file, self._offset, self.last, self.evals = now.st_ino, 0, {}, {}
                    self.recent.clear()
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return self
        end = data.rfind(b"\n") + 1  # a line that is being written waits for the next look
        self._offset += end
        for line in data[:end].splitlines():
            try:
                row = json.loads(line)
                step = int(row["step"])
            except (ValueError, KeyError, TypeError):
                continue
            kind, numbers = str(row.get("kind")), _numbers(row)
            self.last[kind] = numbers
            if kind == "eval":
                self.evals[step] = {k: v for k, v in numbers.items() if k != "step"}
            elif kind == "train":
                self.recent.append(numbers)
        return self

    def logged(self) -> dict[str, float]:
        """Training metrics, the mean of the last `LAST` rows: one row is one batch, and as noisy."""
        newest = self.recent[-1] if self.recent else {}
        found = {k: [row[k] for row in self.recent if k in row] for k in newest if k not in ("step", "stop")}
        return {k: sum(values) / len(values) for k, values in found.items()}


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    special = ("NaN", "Infinity", "-Infinity")  # as genjax.viz.jsonl spells them
    return {k: float(v) for k, v in row.items()
            if isinstance(v, (int, float)) and not isinstance(v, bool) or isinstance(v, str) and v in special}


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """{key: its last parts, as many as tell it from the others}."""
    def ending(key: str, n: int) -> str:
        return ".".join(key.split(".")[-n:])

    keys = list(dict.fromkeys(keys))
    return {key: ending(key, next(n for n in range(1, 99) if [ending(k, n) for k in keys].count(ending(key, n)) == 1))
            for key in keys}


def keys_of(rows: Iterable[Row]) -> list[str]:
    """Every swept key, in order of appearance."""
    return list(dict.fromkeys(k for row in rows for k in row.values))


def guess_mode(metric: str, rows: Iterable[Row] = ()) -> Mode:
    """Whether more or less of a metric is better, by a recipe of `rows`, else by the words of its name."""
    for row in rows:
        if metric in row.recipes:
            return "min" if row.recipes[metric].lower_is_better else "max"
    return "min" if set(re.split(r"[^a-z]+", metric.lower())) & LESS else "max"


def metric_names(rows: Iterable[Row]) -> list[str]:
    """Every evaluated metric, in order of appearance, finished points first."""
    rows = sorted(rows, key=lambda r: r.state != "done")
    return list(dict.fromkeys(k for row in rows for k in row.metrics))


def logged_names(rows: Iterable[Row]) -> list[str]:
    """Every logged metric: `loss` first, then what less of is better by its name."""
    names = dict.fromkeys(k for row in rows for k in row.logged)
    return sorted(names, key=lambda k: (k != "loss", guess_mode(k) == "max"))


def promoted(rows: Iterable[Row], metric: str | None) -> list[Row]:
    """The rows, with a metric that no point evaluated as it was logged while training."""
    rows = list(rows)
    if any(metric in row.metrics for row in rows):
        return rows
    return [dataclasses.replace(row, metrics={**row.metrics, metric: row.logged[metric]}, from_log=metric)
            if metric in row.logged else row for row in rows]


def origin(rows: Iterable[Row], metric: str | None) -> str:
    """Where the numbers of a metric come from, if not from evaluations: one line, or ""."""
    if not metric or not any(row.from_log == metric for row in rows):
        return ""
    return f"{metric} was logged in training, not evaluated: every value is the mean of the last {LAST} logged rows."


def unranked(rows: Iterable[Row], metric: str | None) -> str:
    """Why points cannot be ranked, one line: none has a value, or they are `incomparable`; "" if they can."""
    rows = list(rows)
    if not any(row.metrics or row.logged for row in rows):
        return "Not ranked: nothing was evaluated or logged yet."
    if not any(math.isfinite(row.metrics.get(metric, math.nan)) for row in rows):
        return f"Not ranked: no point has a finite value of {metric}."
    return incomparable(rows, metric)


def incomparable(rows: Iterable[Row], metric: str | None) -> str:
    """Two points that measured a metric in different ways, one line; "" if none did.

    A finished point that does not say how it measured is different from one that does; of one that still runs the
    number may be newer than what is known of it.
    """
    first = None
    for row in rows:
        if not math.isfinite(row.metrics.get(metric, math.nan)) or metric not in row.recipes and row.state != "done":
            continue
        theirs = row.recipes.get(metric)
        first = first or (row.point, theirs)
        if theirs != first[1]:
            how = ("only one of them says how" if None in (theirs, first[1])
                   else "; ".join(first[1].differences(theirs)))
            return f"Not ranked: {first[0]} and {row.point} measured {metric} with different recipes ({how})."
    return ""


def ranked(rows: Iterable[Row], metric: str | None, mode: Mode) -> list[Row]:
    """Best first; points without the metric (or with NaN) last, by state. Of different recipes: by state alone."""
    rows = list(rows)
    metric = None if incomparable(rows, metric) else metric

    def key(row: Row):
        value = row.metrics.get(metric, math.nan) if metric else math.nan
        finite = math.isfinite(value)
        return (not finite, (-value if mode == "max" else value) if finite else 0, ORDER.index(row.state), row.point)

    return sorted(rows, key=key)


def counts(rows: Iterable[Row]) -> str:
    """"5 done, 1 failed, 2 waiting"."""
    found = Counter(row.state for row in rows)
    return ", ".join(f"{found[s]} {s}" for s in reversed(ORDER) if found[s]) or "no points"


def lines(rows: Sequence[Row], metrics: Sequence[str], live: bool = False) -> list[str]:
    """Rows as aligned text: point, state, step, metrics, overrides; `live` adds the rate and the newest loss."""
    keys = keys_of(rows)
    short = short_names(keys)
    trials = any(row.trial is not None for row in rows)
    head = ["trial"] * trials + ["point", "state", "step"] + ["steps/s", "loss"] * live + [*metrics]
    table = [head + [short[k] for k in keys] + ([] if live else [""])]
    for row in rows:
        cells = [str(row.trial)] * trials + [row.point, row.state, str(row.step)]
        cells += [_cell(row.live.get(k)) for k in ("steps_per_second", "loss")] * live
        cells += [_cell(row.metrics.get(m)) for m in metrics]
        table.append(cells + [brief(row.values[k]) if k in row.values else "" for k in keys]
                     + ([] if live else [row.reason]))
    wide = [max(len(line[c]) for line in table) for c in range(len(head) + len(keys))]
    right = range(len(head) - len(metrics) - 1 - 2 * live, len(head))  # numbers stand to the right
    return ["  ".join([(f"{cell:>{w}}" if c in right else f"{cell:{w}}")
                       for c, (cell, w) in enumerate(zip(line, wide, strict=False))] + line[len(wide):]).rstrip()
            for line in table]


def _cell(value: float | None) -> str:
    return "" if value is None else number(float(value))


def brief(value: Any) -> str:
    """A value for a table: real numbers with six digits."""
    return f"{value:.6g}" if isinstance(value, float) else text(value)


class LiveTable:
    """Redraws the table in place on a terminal; elsewhere one line for every point that changes its state."""

    def __init__(self, metric: str | None = None, total: int | None = None, stream: TextIO | None = None):
        """Shows `metric` (default: the first that is evaluated) of `total` points (default: as many as there are)."""
        self.metric, self.total = metric, total
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._drawn = 0
        self._states: dict[tuple[int | None, str], str] = {}
        self._began = time.monotonic()

    def update(self, rows: Sequence[Row]) -> None:
        """Shows the points as they are now."""
        rows = promoted(rows, self.metric) if self.metric else rows
        if self._terminal:
            self._draw(rows)
            return
        done = sum(row.state in ("done", "pruned") for row in rows)
        metric = next(iter(self._names(rows)), None)
        for row in rows:
            before = self._states.get((row.trial, row.point))
            if row.state != before and (before is not None or row.state not in ("waiting", "done", "pruned")):
                result = row.reason or (f"{metric} {_cell(row.metrics[metric])}" if metric in row.metrics else "")
                short = short_names(list(row.values))
                values = " ".join(f"{short[k]}={brief(v)}" for k, v in row.values.items())
                self._stream.write(f"{row.point} {row.state} ({done} of {self.total or len(rows)} done) {values}"
                                   + (f": {result}" if result else "") + "\n")
            self._states[row.trial, row.point] = row.state
        self._stream.flush()

    def _names(self, rows: Sequence[Row]) -> list[str]:
        return [self.metric] if self.metric else metric_names(rows)[:1]

    def _draw(self, rows: Sequence[Row]) -> None:
        width, height = shutil.get_terminal_size()
        shown = sorted(rows, key=lambda r: ORDER.index(r.state))[:max(1, height - 4)]
        table = [f"{counts(rows)}, {clock_time(time.monotonic() - self._began)}",
                 *lines(shown, self._names(rows), live=True)]
        if len(shown) < len(rows):
            table.append(f"... and {len(rows) - len(shown)} more")
        self.clear()
        self._stream.write("".join(line[:width - 1] + "\n" for line in table))
        self._stream.flush()
        self._drawn = len(table)

    def clear(self) -> None:
        """Takes the drawn table away, so that what is printed next stands in its place."""
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}F\x1b[J")
            self._stream.flush()
            self._drawn = 0
