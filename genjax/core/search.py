"""Searches: a sweep whose points are chosen as results come in, by Optuna.

A config file offers `search_NAME()` functions that return `search(...)`; `launch.py sweep --sweep NAME` runs them.

References: Bergstra et al., "Algorithms for Hyper-Parameter Optimization" (NeurIPS 2011; the tpe sampler); Akiba et
al., "Optuna" (KDD 2019); Golovin et al., "Google Vizier" (KDD 2017; the median rule).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from genjax.core.sweep import Choice, Distribution, Point, Uniform, check_distributions, plain
from genjax.errors import UserError, at_least, unknown


@dataclasses.dataclass(frozen=True)
class Search:
    """What to search for; see `search`."""

    space: dict[str, Distribution]
    metric: str
    mode: Literal["max", "min"]
    trials: int
    pruner: Literal["median", "halving", "none"]
    sampler: Literal["tpe", "random"]
    startup: int
    warmup: int
    seed: int

    def describe(self) -> dict[str, Any]:
        """What makes two searches the same; more trials only go on with one."""
        return {"space": {key: repr(self.space[key]) for key in sorted(self.space)}, "metric": self.metric,
                "mode": self.mode}

    def typical(self) -> Point:
        """A point in the middle of everything."""
        return {key: plain(d.at(0.5), key) for key, d in self.space.items()}

    def corners(self) -> list[Point]:
        """Points that together hold every option and both ends of every interval, to check a config with."""
        found, middle = [], self.typical()
        for key, d in self.space.items():
            ends = d.options if isinstance(d, Choice) else (d.low, d.high)
            if isinstance(d, Uniform):
                ends = tuple(map(float, ends))
            found += [{**middle, key: plain(end, key)} for end in ends]
        return found


def search(space: Mapping[str, Distribution], *, metric: str, mode: Literal["max", "min"] = "max", trials: int = 40,
           pruner: Literal["median", "halving", "none"] = "median", sampler: Literal["tpe", "random"] = "tpe",
           startup: int = 5, warmup: int = 0, seed: int = 0) -> Search:
    """A search for the best point.

    Args:
      space: {key of the config: uniform(...), log_uniform(...), integers(...) or choice(...)}.
      metric: of `Task.evaluate`, e.g. "psnr_ema"; one that is only logged in training counts as the mean of its last
        ten rows, and ends no run early.
      mode: whether more ("max") or less ("min") of it is better.
      trials: how many runs in total, those of earlier starts included.
      pruner: ends hopeless runs early, which needs config.train.eval_every: "median" those worse than the median of
        the others at the same step, "halving" all but the best quarter at growing steps (ASHA), "none" nothing.
      sampler: "tpe" learns from the results, "random" does not.
      startup: trials before the first is pruned.
      warmup: steps of each run before it can be pruned.
      seed: of the sampler; with one run at a time, an undisturbed search is a pure function of it.

    Raises:
      UserError: something that cannot be searched.
    """
    if not space:
        raise UserError("search: the space is empty; give {key: distribution}")
    check_distributions("search", space)
    for name, value, valid in (("mode", mode, ("max", "min")), ("pruner", pruner, ("median", "halving", "none")),
                               ("sampler", sampler, ("tpe", "random"))):
        if value not in valid:
            raise unknown(f"search {name}", str(value), valid)
    made = Search(dict(space), metric, mode, trials, pruner, sampler, startup, warmup, seed)
    at_least(made, trials=1, startup=0, warmup=0)
    return made
