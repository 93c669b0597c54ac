"""Targets for the config tests: fields of every kind, nodes in nodes, defaults that JSON cannot hold."""

import dataclasses
from typing import Any, Literal

from tests.core.toy import ToyData


@dataclasses.dataclass(frozen=True)
class Inner:
    width: int = 4
    scales: tuple[int, ...] = (1, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """A target with one field of every kind."""

    name: str
    maybe: int | None = None
    text: str | None = None
    kind: Literal["near", "far"] = "near"
    sizes: tuple[int, int] = (3, 4)
    upsample: str | tuple[str, ...] = "near"
    inner: Inner = Inner()
    rate: float = 1.0
    anything: Any = None
    made: tuple[int, ...] = dataclasses.field(default_factory=lambda: (7,))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignedData(ToyData):
    """The toy's data, said to lie in another range than the task's."""

    value_range: tuple[float, float] = (-1.0, 1.0)


def with_function_default(x: int = 1, initializer=len) -> Inner:
    """A target with a default that JSON cannot hold."""
    return Inner(initializer(range(x)))


def both(a: Inner, b: Inner):
    """A target that reads two references."""
    return a, b


def holder(inner: Inner = Inner()) -> Inner:
    """A target around an `Inner`."""
    return inner


def keyless():
    """A target without keywords."""
