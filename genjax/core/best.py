"""The best snapshot of a run, kept in RUN/snapshots/best.npz beside the last one: `train.keep_best` names a metric.

Only the evaluations at multiples of `train.eval_every` compete (that of the end too where it is one), and each is made
anew by a run that goes on from before it. So a run that was killed, or made longer, keeps the bits that it would have
kept in one go. Values of different recipes (`genjax.metrics.recipe`) are not compared: where the recipe changes, as in
a network that grows, the competition begins anew, and what won before is replaced.
"""

import json
import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from genjax.core.run import BEST as FILE
from genjax.core.run import RunFolder
from genjax.core.sweep_table import guess_mode
from genjax.errors import UserError
from genjax.metrics.recipe import Value

log = logging.getLogger("genjax")


def column(metric: str, found: dict[str, Any]) -> str:
    """The metric of an evaluation that `metric` names: its key ("fd_lenet"), the key's beginning ("fd"), or what it is
    in `Evaluation.metrics` ("frechet").

    Raises:
      UserError: none of them or several.
    """
    if metric in found:
        return metric
    named = [k for k, v in found.items()
             if k.startswith(f"{metric}_") or (isinstance(v, Value) and v.recipe.metric == metric)]
    if len(named) == 1:
        return named[0]
    raise UserError(f"config.train.keep_best={metric} names {len(named) or 'none'} of what this run measures; choose"
                    f" one of {', '.join(named or found) or 'none'}, or leave it away")


def kept(folder: RunFolder) -> dict[str, Any] | None:
    """What the best snapshot says of itself: "best" is {"metric", "value", "asked"} and "recipe", its id, where the
    metric has one; None where there is none, or one that cannot be read."""
    try:
        with np.load(folder.snapshots / FILE, allow_pickle=False) as file:
            meta = json.loads(bytes(file["__meta__"]))
        return meta if "best" in meta else None
    except Exception:  # none, or whatever zip, numpy and json raise on a damaged one
        return None


class Best:
    """Keeps the best snapshot of a run, also one that goes on; `metric` "" keeps none."""

    def __init__(self, folder: RunFolder, metric: str):
        self._file, self._metric, self._value, self._recipe = folder.snapshots / FILE, metric, math.nan, {}
        before = kept(folder) if metric else None
        if before is not None and before["best"]["asked"] == metric:
            self._value = before["best"]["value"]
            self._recipe = {k: v for k, v in before["best"].items() if k == "recipe"}

    def offer(self, step: int, found: dict[str, Any], save: Callable[..., None]) -> None:
        """An evaluation's metrics; `save(file, best=...)` is called where no earlier one of the
        same recipe was better."""
        if not self._metric:
            return
        key = column(self._metric, found)
        value = found[key]
        lower = value.recipe.lower_is_better if isinstance(value, Value) else guess_mode(key) == "min"
        recipe = {"recipe": value.recipe.id} if isinstance(value, Value) else {}
        value = float(value)
        # Only what is in the file counts: a run that goes on knows nothing else.
        worse = recipe == self._recipe and (value >= self._value if lower else value <= self._value)
        if math.isfinite(value) and not worse:
            self._value, self._recipe = value, recipe
            save(self._file, best={"metric": key, "value": value, "asked": self._metric, **recipe})
            log.info("step %d has the best %s so far, %.6g: kept in %s", step, key, value, self._file)
