"""A sweep's `report.html`: which point is best, what each hyper-parameter does to the metric, pictures side by side."""

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from genjax.core.sweep import text
from genjax.core.sweep_table import (
    Mode,
    Row,
    brief,
    counts,
    keys_of,
    metric_names,
    origin,
    ranked,
    short_names,
    unranked,
)
from genjax.viz.atomic import write_file
from genjax.viz.grid import Panel
from genjax.viz.plots import spans_decades
from genjax.viz.report import Chip, Link, Report, number

SHOWN_PICTURES = 24
SHOWN_METRICS = 4  # beside the one that ranks
PICTURE_SIZE = 480  # pixels of the longer side; the whole picture stays in the run folder
GROUPS = 6  # colours of a scatter plot, at most


def write(workdir: Path, rows: Sequence[Row], metric: str | None, mode: Mode, command: str,
          notes: Iterable[str] = ()) -> Path:
    """Assembles the report of a sweep; returns its path.

    Args:
      workdir: the sweep's folder; links to the points' own reports are relative to it.
      rows: the points as they stand.
      metric, mode: what ranks them; None when nothing was evaluated or logged yet.
      command: the command that runs the sweep.
      notes: sentences under the headline.
    """
    rows = ranked(rows, metric, mode)
    why, said = unranked(rows, metric), origin(rows, metric)
    state = "failed" if any(r.state == "failed" for r in rows) else (
        "done" if all(r.state in ("done", "pruned") for r in rows) else "unfinished")
    page = Report(workdir.name, f"`{command}`", status=state)
    judged = [] if why else [r for r in rows if _value(r, metric) is not None]
    facts: dict[str, Any] = {"points": counts(rows)}
    if judged:
        facts |= {f"best {metric}": _value(judged[0], metric), "of point": judged[0].point}
    page.facts(facts)
    for note in filter(None, (why, said, *notes)):
        page.text(note)
    if judged and judged[0].values:
        page.code(" ".join(f"--config.{k}={text(v)}" for k, v in judged[0].values.items()), "The best point")
    _points(page, rows, metric, mode, workdir)
    if judged:
        _influence(page, judged, metric, mode)
    _pictures(page, rows, metric)
    _failures(page, rows, workdir)
    return write_file(workdir / "report.html", page.html())


def _value(row: Row, metric: str | None) -> float | None:
    value = row.metrics.get(metric, math.nan) if metric else math.nan
    return value if math.isfinite(value) else None


def _link(path: Path, workdir: Path, shown: str) -> Link | str:
    return Link(shown, os.path.relpath(path, workdir)) if path.exists() else shown


def _points(page: Report, rows: Sequence[Row], metric: str | None, mode: Mode, workdir: Path) -> None:
    short = short_names(keys_of(rows))
    more = [m for m in metric_names(rows) if m != metric]
    order = "" if unranked(rows, metric) else (
        f"Sorted by `{metric}`, {'largest' if mode == 'max' else 'smallest'} first. ")
    page.section("Points").text(f"{order}A point's name leads to its own report.")
    table = []
    for row in rows:
        cells: dict[str, Any] = {} if row.trial is None else {"trial": row.trial}
        cells |= {"point": _link(row.folder / "report.html", workdir, row.point), "state": Chip(row.state)}
        cells |= {metric: _value(row, metric)} if metric else {}
        cells |= {short[k]: _shown(row.values.get(k)) for k in short}
        cells |= {m: row.metrics.get(m) for m in more[:SHOWN_METRICS]}
        table.append({**cells, "step": row.step})
    page.table(table)
    if len(more) > SHOWN_METRICS:
        page.text("Also evaluated: " + ", ".join(f"`{m}`" for m in more[SHOWN_METRICS:]) + ".")


def _shown(value: Any) -> Any:
    return text(value) if isinstance(value, (tuple, bool)) else value


def _numeric(values: Iterable[Any]) -> bool:
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def _influence(page: Report, rows: Sequence[Row], metric: str, mode: Mode) -> None:
    """A scatter plot per numeric hyper-parameter, parallel coordinates for two and more of any kind."""
    short = short_names(keys_of(rows))
    columns = {k: [r.values.get(k) for r in rows] for k in short}
    columns = {k: v for k, v in columns.items() if len(set(map(str, v))) > 1}
    scatters = []
    for key, values in columns.items():
        if _numeric(values):
            decades, different = spans_decades(values), sorted(set(values))
            scatters.append({"series": _series(key, columns, rows, metric, short), "xlabel": short[key],
                             "ylabel": metric, "title": short[key], "logx": decades,
                             "xticks": different if decades and len(different) <= 6 else None})
    if not columns:
        return
    page.section("Hyper-parameters")
    page.scatter(*scatters)
    if len(columns) > 1 or not scatters:
        axes = {short[k]: [v if _numeric([v]) else text(v) for v in values] for k, values in columns.items()}
        page.parallel({"axes": {**axes, metric: [_value(r, metric) for r in rows]}, "best": mode,
                       "title": "Every line is a point; the best in orange", "size": (980, 380)})
    if any(r.trial is not None for r in rows):
        _history(page, rows, metric, mode)


def _series(key: str, columns: Mapping[str, Sequence[Any]], rows: Sequence[Row], metric: str,
            short: Mapping[str, str]) -> dict[str, tuple[list[float], list[float]]]:
    """The cloud of one key, coloured by whether a search pruned it, or by another key of a few values."""
    def cloud(keep: Iterable[bool]) -> tuple[list[float], list[float]]:
        kept = [(float(x), _value(r, metric)) for x, r, k in zip(columns[key], rows, keep, strict=True) if k]
        return [x for x, _ in kept], [y for _, y in kept]

    if any(r.state == "pruned" for r in rows):
        states = ("done", "pruned")
        return {s: cloud([(r.state == "pruned") == (s == "pruned") for r in rows]) for s in states}
    few = {k: list(map(brief, sorted(set(v)) if _numeric(v) else dict.fromkeys(v)))
           for k, v in columns.items() if k != key}
    few = {k: v for k, v in few.items() if len(v) <= min(GROUPS, len(rows) // 2)}
    if not few:
        return {metric: cloud([True] * len(rows))}
    other = min(few, key=lambda k: len(few[k]))
    return {f"{short[other]}={v}": cloud([brief(r.values.get(other)) == v for r in rows]) for v in few[other]}


def _history(page: Report, rows: Sequence[Row], metric: str, mode: Mode) -> None:
    """The search's course: every trial's result, and the best so far."""
    rows = sorted((r for r in rows if r.trial is not None), key=lambda r: r.trial)
    values = np.asarray([_value(r, metric) for r in rows], np.float64)
    best = (np.fmax if mode == "max" else np.fmin).accumulate(
        np.where([r.state == "done" for r in rows], values, np.nan))
    x = np.asarray([r.trial for r in rows], np.float64)
    page.curves({"series": {"best so far": (x, best), "trials": (x, values)}, "title": "Course of the search",
                 "xlabel": "trial", "ylabel": metric, "markers": True})


def _pictures(page: Report, rows: Sequence[Row], metric: str | None) -> None:
    """A picture of every point in the table's order: the output the metric names, else the last sample."""
    short, panels, wide = short_names(keys_of(rows)), [], False
    for row in rows:
        outputs = sorted(row.folder.glob("outputs/*.png"))
        named = [p for p in outputs if _words(p.stem) & _words(metric or "")]
        files = named or sorted(row.folder.glob("samples/*.png")) or outputs
        if not files or len(panels) == SHOWN_PICTURES:
            continue
        try:
            with Image.open(files[-1]) as picture:
                wide |= picture.width > 3 * picture.height
                picture = picture.convert("RGB")
                picture.thumbnail((PICTURE_SIZE * (1 + wide), PICTURE_SIZE), Image.LANCZOS)
        except (OSError, UnidentifiedImageError):  # a run killed while it drew
            continue
        value = _value(row, metric)
        caption = " ".join(f"{short[k]}={brief(v)}" for k, v in row.values.items())
        panels.append(Panel(np.asarray(picture), row.point if value is None else f"{metric} {number(value)}",
                            f"{caption} ({row.point}, {files[-1].stem})"))
    if panels:
        page.section("Pictures").text("A picture of each point" + ", best first" * (not unranked(rows, metric))
                                      + (f"; the first {SHOWN_PICTURES}." if len(panels) == SHOWN_PICTURES else "."))
        page.images(panels, columns=2 if wide else None)


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-zA-Z0-9]+", name))


def _failures(page: Report, rows: Sequence[Row], workdir: Path) -> None:
    failed = [r for r in rows if r.state == "failed"]
    if failed:
        page.section("Failed").text("`--retry-failed` runs them again.")
        page.table([{"point": _link(r.folder.with_name(f"{r.folder.name}.log"), workdir, r.point), "step": r.step,
                     "reason": r.reason, "overrides": " ".join(f"{k}={text(v)}" for k, v in r.values.items())}
                    for r in failed])
