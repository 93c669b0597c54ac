"""What a run writes while it goes: metrics.jsonl, TensorBoard events, the progress bar."""

import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from genjax.core.run import RunFolder
from genjax.errors import UserError
from genjax.metrics import recipe
from genjax.viz import grid, jsonl
from genjax.viz.atomic import write_file
from genjax.viz.progress import Progress
from genjax.viz.tensorboard import TensorBoard

SPEED_SECONDS = 5.0  # between two rows of throughput
RECIPES = "recipes.json"


def save_previews(path: Path, images: dict[str, np.ndarray], most: int = 8) -> Path:
    """Writes named image batches [N,H,W,C] in [0,1] as one PNG: a column per name and a row per image; a single name
    as a near-square grid of all its images."""
    if len(images) == 1:
        (batch,) = images.values()
        return grid.save_png(path, grid.image_grid(batch))
    rows = min(most, min(len(v) for v in images.values()))
    panels = [[grid.Panel(v[i]) for v in images.values()] for i in range(rows)]
    return grid.save_png(path, grid.sheet(panels, column_labels=list(images)))


def _plain(value: np.ndarray) -> float | list[float]:
    return float(value) if np.ndim(value) == 0 else [float(v) for v in np.ravel(value)]


class Silent:
    """What a process has in a `Recorder`'s place when another one writes."""

    def steps(self, first, rows, every):
        """Nothing."""

    def row(self, step, kind, metrics, recipes):
        """Nothing."""

    def images(self, step, images):
        """Nothing."""

    def close(self):
        """Nothing."""


def _told(method: Callable) -> Callable:
    """A `Recorder`'s method whose OSError (a full disk) becomes one line that names the fix."""
    @functools.wraps(method)
    def wrapped(self, *args, **kwargs):
        try:
            return method(self, *args, **kwargs)
        except OSError as e:
            raise UserError(f"cannot write in {self._folder}: {e.strerror or e}; make room and run the same command"
                            " again to go on from the last whole checkpoint") from None
    return wrapped


class Recorder:
    """Writes rows `{"step", "kind", metrics...}`; rows at or after the step a run resumes from are dropped first."""

    @_told
    def __init__(self, folder: RunFolder, total: int, start: int, quiet: bool):
        self._folder = folder.path
        jsonl.truncate_after(folder.metrics_file, start - 1)
        self._jsonl = jsonl.MetricsWriter(folder.metrics_file)
        self._board = TensorBoard(folder.path, start)
        self._progress = None if quiet else Progress(total, folder.path.name, initial=start)
        self._total = total
        self._clock, self._count = None, 0

    @_told
    def steps(self, first: int, rows: dict[str, np.ndarray], every: int) -> None:
        """Metrics of steps first, first+1, ... as arrays with a leading step axis; writes the steps due."""
        count = len(next(iter(rows.values()))) if rows else 0
        last = {}
        for j in range(count):
            last = {k: _plain(v[j]) for k, v in rows.items()}
            step = first + j
            if (every and step % every == 0) or step == self._total - 1:
                self._jsonl.write({"step": step, "kind": "train", **last})
                self._board.scalars(step, {k: v for k, v in last.items() if not isinstance(v, list)})
        now = time.monotonic()  # the clock on the wall may be set meanwhile
        if self._clock is None:  # the first call compiled: no speed
            self._clock = now
        else:
            self._count += count
        if now - self._clock >= SPEED_SECONDS:
            rate = self._count / (now - self._clock)
            self._jsonl.write({"step": first + count - 1, "kind": "speed", "steps_per_second": rate,
                               "time": time.time()})
            self._clock, self._count = now, 0
        if self._progress is not None:
            self._progress.update(count, {k: v for k, v in last.items() if not isinstance(v, list) and k != "stop"})

    @_told
    def row(self, step: int, kind: str, metrics: dict[str, Any], recipes: dict[str, str]) -> None:
        """One row of another kind ("eval"), with the ids of its metrics' recipes (see `ids`): values of two recipes are
        two curves of TensorBoard's."""
        if metrics:
            self._jsonl.write({"step": step, "kind": kind, **metrics, **({"recipes": recipes} if recipes else {})})
            self._board.scalars(step, {"/".join(filter(None, (kind, k, recipes.get(k)))): v
                                       for k, v in metrics.items()})

    @_told
    def images(self, step: int, images: dict[str, np.ndarray]) -> None:
        """Preview pictures for TensorBoard."""
        self._board.images(step, {k: v[0] for k, v in images.items()})

    @_told
    def close(self) -> None:
        """Flushes and closes everything."""
        if self._progress is not None:
            self._progress.close()
        self._board.close()
        self._jsonl.close()


def numbers(folder: RunFolder, found: dict[str, Any], step: int = 0) -> dict[str, float]:
    """The metrics of an evaluation after `step` updates as plain floats.

    How a value was measured, where it knows (`genjax.metrics.recipe.Value`), is kept in RUN/recipes.json, {metric:
    {value, std, name, id, recipe, step, recipes}}: the last value, and in `recipes`, by id, the last one of every
    recipe that the run measured it by. The rows of metrics.jsonl name the id (see `ids`), so that a number can be told
    from another of the same name.
    """
    if new := measured(found):
        known = _known(folder)
        for key, row in new.items():
            row |= {"step": step}
            old = known.get(key, {})
            known[key] = row | {"recipes": {**old.get("recipes", {old["id"]: old} if old else {}), row["id"]: row}}
        try:
            write_file(folder.path / RECIPES, json.dumps(known, indent=2) + "\n")
        except OSError as e:
            raise UserError(f"cannot write in {folder.path}: {e.strerror or e}; make room and run the same command"
                            " again") from None
    return {k: float(v) for k, v in found.items()}


def ids(found: dict[str, Any]) -> dict[str, str]:
    """The ids of the recipes of those metrics that have one."""
    return {k: v.recipe.id for k, v in found.items() if isinstance(v, recipe.Value)}


def _known(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """RUN/recipes.json; {} where there is none, or a damaged one."""
    try:
        found = json.loads((folder.path / RECIPES).read_text())
        return {k: v for k, v in found.items() if isinstance(v, dict) and "id" in v}
    except (OSError, ValueError, AttributeError):
        return {}


def measured(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """How those metrics that know it were measured, see `genjax.metrics.recipe.rows`."""
    return recipe.rows({k: found[k] for k in ids(found)})


def recipes(folder: RunFolder, metrics: dict[str, float]) -> dict[str, recipe.Value]:
    """Those of a run's last `metrics` of which RUN/recipes.json says how they were measured."""
    return {k: v for k, v in values(_known(folder)).items() if metrics.get(k) == v.value}


def by_recipe(folder: RunFolder) -> list[tuple[int | None, recipe.Value]]:
    """(step, the last value) of every recipe that RUN/recipes.json knows, metric by metric."""
    rows = [row for known in _known(folder).values() for row in known.get("recipes", {known["id"]: known}).values()]
    return [(row.get("step"), v) for row in rows for v in values({"": row}).values()]


def values(known: dict[str, dict[str, Any]]) -> dict[str, recipe.Value]:
    """What `measured` gave, as values again; rows of another genjax version that are not understood are left out."""
    found = {}
    for key, row in known.items():
        try:
            found[key] = recipe.Value(row["value"], recipe.Recipe.from_json(json.dumps(row["recipe"])), row["std"])
        except (KeyError, TypeError, ValueError, UserError):
            continue
    return found
