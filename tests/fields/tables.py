"""What a config says against a table written down from a paper or its authors' settings."""

import functools
import math
from typing import Any


def differences(config: Any, want: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """{dotted name: (found, wanted)} of what differs: numbers by more than a ten-thousandth, all else at all."""
    found = {key: functools.reduce(getattr, key.split("."), config) for key in want}
    return {key: (v, want[key]) for key, v in found.items() if not _same(v, want[key])}


def _same(a, b):
    if isinstance(b, tuple):
        return isinstance(a, (list, tuple)) and len(a) == len(b) and all(map(_same, a, b))
    if isinstance(b, (bool, str, type(None))) or isinstance(a, (bool, str, type(None))):
        return a == b and type(a) is type(b)
    return math.isclose(a, b, rel_tol=1e-4)
