"""Errors a user can cause: one clear line that names the fix; `launch.py` prints it and exits with code 2."""

import difflib
from collections.abc import Iterable

_SHOWN = 12  # names in a message; more is no line that anybody reads


class UserError(ValueError):
    """Something the user can mend. The message is one line that says what is wrong and what to do.

    Everything else that escapes is a bug of ours and keeps its traceback.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(str(message).split()))


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name closest in spelling to `name`, or None when none is close."""
    found = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return found[0] if found else None


def unknown(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """The error for a name that is not one of `valid`.

    Args:
      kind: what the name was meant to be, e.g. "config key", "source".
      name: what the user wrote.
      valid: the names that exist.

    Returns:
      A `UserError` that names the nearest valid name, or lists them (many: the first) when none is near.
    """
    valid = sorted(str(v) for v in valid)
    near = nearest(name, valid)
    shown = valid if len(valid) <= _SHOWN else [*valid[:_SHOWN], f"and {len(valid) - _SHOWN} more"]
    hint = f"did you mean {near!r}?" if near else "valid: " + (", ".join(shown) or "none")
    return UserError(f"unknown {kind} {name!r}; {hint}")


def at_least(of: object, **least: float) -> None:
    """Refuses attributes of `of`, or entries of its tuples, below the given numbers (NaN too)."""
    for what, number in least.items():
        value = getattr(of, what)
        entries = value if isinstance(value, (tuple, list)) else (value,)
        if not all(v >= number for v in entries):
            raise UserError(f"{what} must be at least {number}{' each' if entries is value else ''}, got {value}")
