"""Sweeps: many runs of one config, each a point that overrides some of its keys.

A config file offers `sweep_NAME()` functions that return points, made with four functions:

    grid({"optimizer.learning_rate": (1e-3, 1e-4), "seed": (0, 1)})    every combination; grid(a, b) multiplies sweeps
    zip({"data.size": (64, 128), "train.steps": (2000, 8000)})         values in step
    sample(20, {"optimizer.learning_rate": log_uniform(1e-4, 1e-1)})   point i is a pure function of (seed, i)
    chain(a, b)                                                        one after the other, each point once

A point is a dict {key of the config: value}, a sweep a tuple of points. This file is the algebra; `sweep_run` runs it.
"""

import dataclasses
import hashlib
import itertools
import math
import zlib
from builtins import zip as pairs
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from genjax.errors import UserError

Point = dict[str, Any]
Sweep = tuple[Point, ...]


@dataclasses.dataclass(frozen=True)
class Distribution:
    """What `sample` and a search draw a value from."""

    def at(self, u: float) -> Any:
        """The value at quantile u in [0,1)."""
        raise TypeError(f"{type(self).__name__} has no quantiles")


@dataclasses.dataclass(frozen=True)
class Uniform(Distribution):
    """Real numbers between `low` and `high`, equally likely; with `log`, their logarithms are."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self):
        _ordered(self, self.low < self.high)
        if self.log and self.low <= 0:
            raise UserError(f"log_uniform needs a lower end above 0, got {self.low}")

    def at(self, u: float) -> float:
        """Rounded to six digits, so that overrides stay readable."""
        if self.log:
            value = math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + u * (self.high - self.low)
        return min(max(float(f"{value:.6g}"), self.low), self.high)


@dataclasses.dataclass(frozen=True)
class Integers(Distribution):
    """Whole numbers from `low` to `high`, both included."""

    low: int
    high: int

    def __post_init__(self):
        _ordered(self, self.low <= self.high)
        if int(self.low) != self.low or int(self.high) != self.high:
            raise UserError(f"integers({self.low}, {self.high}): the ends must be whole numbers")

    def at(self, u: float) -> int:
        """Every number is as likely."""
        return int(self.low) + int(u * (int(self.high) - int(self.low) + 1))


@dataclasses.dataclass(frozen=True)
class Choice(Distribution):
    """One of `options`, equally likely."""

    options: tuple[Any, ...]

    def __post_init__(self):
        if not self.options:
            raise UserError("choice needs at least one option")

    def at(self, u: float) -> Any:
        """Option floor(u n)."""
        return self.options[int(u * len(self.options))]


def _ordered(of: Distribution, holds: bool) -> None:
    if not (holds and math.isfinite(of.low) and math.isfinite(of.high)):
        raise UserError(f"{of}: the ends must be finite numbers, the lower one first")


def uniform(low: float, high: float) -> Uniform:
    """Real numbers between `low` and `high`."""
    return Uniform(low, high)


def log_uniform(low: float, high: float) -> Uniform:
    """Positive real numbers whose logarithm is uniform, as learning rates are tried."""
    return Uniform(low, high, log=True)


def integers(low: int, high: int) -> Integers:
    """Whole numbers from `low` to `high`, both included."""
    return Integers(low, high)


def choice(*options: Any) -> Choice:
    """One of the options: choice("adam", "sgd")."""
    return Choice(tuple(options))


def grid(*parts: Mapping[str, Iterable[Any]] | Iterable[Point]) -> Sweep:
    """Every combination; the first key varies slowest.

    Args:
      *parts: dicts {key: values}, or sweeps, which are multiplied: grid(zip({...}), {"seed": (0, 1, 2)}).

    Example:
      >>> grid({"a": (1, 2), "b": ("x", "y")})[1]
      {'a': 1, 'b': 'y'}
    """
    axes = []
    for part in parts:
        if isinstance(part, Mapping):
            axes += [tuple({key: v} for v in _values(key, values)) for key, values in part.items()]
        else:
            axes.append(chain(part))
    out = []
    for combination in itertools.product(*axes):
        point: Point = {}
        for piece in combination:
            twice = sorted(set(point) & set(piece))
            if twice:
                raise UserError(f"grid: {twice[0]} is set by two of the multiplied sweeps; drop it from one")
            point |= piece
        out.append(point)
    return chain(out)


def zip(columns: Mapping[str, Iterable[Any]]) -> Sweep:
    """Values in step: point i takes the i-th value of every key.

    Example:
      >>> zip({"a": (1, 2), "b": (3, 4)})
      ({'a': 1, 'b': 3}, {'a': 2, 'b': 4})
    """
    lists = {key: _values(key, values) for key, values in columns.items()}
    lengths = {key: len(values) for key, values in lists.items()}
    if len(set(lengths.values())) > 1:
        raise UserError("zip needs equally many values for every key, got "
                        + ", ".join(f"{n} for {key}" for key, n in lengths.items()))
    return chain([dict(pairs(lists, row, strict=True)) for row in pairs(*lists.values(), strict=True)])


def chain(*sweeps: Iterable[Point]) -> Sweep:
    """One sweep after the other; a point that comes twice appears once.

    Example:
      >>> chain(grid({"a": (1, 2)}), grid({"a": (2, 3)}))
      ({'a': 1}, {'a': 2}, {'a': 3})
    """
    found: dict[str, Point] = {}
    for sweep in sweeps:
        if isinstance(sweep, (str, Mapping)) or not isinstance(sweep, Iterable):
            raise UserError(f"a sweep is a tuple of points from grid, zip, chain or sample, got {sweep!r}")
        for point in sweep:
            if not isinstance(point, Mapping) or not all(isinstance(key, str) for key in point):
                raise UserError(f"a point of a sweep is a dict of config keys and values, got {point!r}")
            point = {key: plain(value, key) for key, value in point.items()}
            found.setdefault(canonical(point), point)
    return tuple(found.values())


def sample(n: int, distributions: Mapping[str, Distribution], seed: int = 0) -> Sweep:
    """`n` random points; point i is a pure function of (seed, i), whatever n and the other keys are.

    Args:
      n: how many.
      distributions: {key: uniform(...), log_uniform(...), integers(...) or choice(...)}.
      seed: another seed gives other points.
    """
    if n < 1:
        raise UserError(f"sample needs at least 1 point, got {n}")
    check_distributions("sample", distributions)

    def draw(i: int, key: str, distribution: Distribution) -> Any:
        return distribution.at(np.random.default_rng([seed, i, zlib.crc32(key.encode())]).random())

    return chain([{key: draw(i, key, d) for key, d in distributions.items()} for i in range(n)])


def check_distributions(where: str, distributions: Mapping[str, Distribution]) -> None:
    """Refuses what is not {key: distribution}."""
    for key, distribution in distributions.items():
        if not isinstance(distribution, Distribution):
            raise UserError(f"{where}: {key} needs uniform(...), log_uniform(...), integers(...) or choice(...),"
                            f" got {distribution!r}")


def _values(key: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, Distribution):
        raise UserError(f"{key}: a distribution has no list of values; use sample(n, {{...}})")
    if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
        raise UserError(f"{key} needs a tuple of values, got {values!r}; write ({values!r},) for a single one")
    return tuple(values)


def plain(value: Any, key: str = "") -> Any:
    """A value as config data: numpy's scalars as Python's, lists as tuples.

    Raises:
      UserError: not a number, a string, None, or tuples of them.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(plain(v, key) for v in value)
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise UserError(f"{key}: a point holds numbers, strings, None and tuples of them, not {value!r}")


def text(value: Any) -> str:
    """A value as an override on the command line spells it."""
    return value if isinstance(value, str) else repr(value)


def overrides(point: Point) -> list[str]:
    """`key=value` strings for `genjax.core.config.override`."""
    return [f"{key}={text(value)}" for key, value in point.items()]


def canonical(point: Point) -> str:
    """The same text for the same overrides in any order: sorted `key=value` lines, 1.0 spelt 1."""
    def spelt(value: Any) -> str:
        if isinstance(value, tuple):
            return "(" + ",".join(repr(v) if isinstance(v, str) else spelt(v) for v in value) + ")"
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            value = int(value)
        return text(value)

    return "\n".join(sorted(f"{key}={spelt(value)}" for key, value in point.items()))


def point_id(point: Point) -> str:
    """Eight hexadecimal digits that name a point by its overrides alone, wherever and with whatever it is run."""
    return hashlib.sha256(canonical(point).encode()).hexdigest()[:8]
