"""Values of a config checked against annotations, from Python files and from the command line alike."""

import ast
import types
import typing
from typing import Any

from ml_collections import ConfigDict

from genjax.errors import UserError, unknown


def _name(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or str(annotation).replace("typing.", "")


def _literal(text: str) -> Any:
    lowered = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in lowered:
        return lowered[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _fits(value: Any, annotation: Any, text: bool) -> tuple[bool, Any]:
    """Whether `value` is, or converts without loss to, `annotation`; and the converted value."""
    origin = typing.get_origin(annotation)
    if annotation is str:
        return isinstance(value, str), value
    if text and isinstance(value, str):
        value = _literal(value)
    if annotation in (Any, object):
        return True, value
    if annotation in (None, type(None)):
        return value is None, None
    if annotation is bool:
        return isinstance(value, bool), value
    if annotation is int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # 1e3 on the command line
        return isinstance(value, int) and not isinstance(value, bool), value
    if annotation is float:
        ok = isinstance(value, (int, float)) and not isinstance(value, bool)
        return ok, float(value) if ok else value
    if origin in (typing.Union, types.UnionType):
        # Strings last: every text would fit them.
        for option in sorted(typing.get_args(annotation), key=lambda a: a is str):
            ok, out = _fits(value, option, text)
            if ok:
                return True, out
        return False, value
    if origin is typing.Literal:
        return value in typing.get_args(annotation), value
    if annotation is tuple or origin in (tuple, list):
        if not isinstance(value, (list, tuple)):
            if not text:
                return False, value
            value = (value,)
        args = typing.get_args(annotation)
        if not args:
            return True, tuple(value)
        args = (args[0],) * len(value) if args[-1] is Ellipsis or origin is list else args
        parts = [_fits(v, a, False) for v, a in zip(value, args, strict=False)]
        ok = len(args) == len(value) and all(p[0] for p in parts)
        return ok, tuple(p[1] for p in parts)
    # Classes, protocols and library types are built from nodes: here only plain data can be judged.
    if isinstance(value, (bool, int, float, str, tuple, list)):
        return not (isinstance(annotation, type) and annotation.__module__.startswith("genjax.")), value
    return True, value


def coerce(value: Any, annotation: Any, where: str, text: bool = False) -> Any:
    """Returns `value` as `annotation` asks, or raises.

    Args:
      value: the value; a string to be parsed when `text` (the command line).
      annotation: the constructor's annotation (plain types, tuples, Literal, unions; anything else passes).
      where: the key, for the message.
      text: parse Python literals out of strings.

    Returns:
      The value: ints become floats where floats are asked for, integer-valued floats ints, lists tuples.

    Raises:
      UserError: a value of another type, or not one of the choices.
    """
    if isinstance(value, ConfigDict):
        return value
    if annotation is tuple and text and isinstance(value, str) and value == "":
        return ()
    if text and isinstance(value, str) and typing.get_origin(annotation) is tuple:
        value = _split(value, annotation)
    ok, out = _fits(value, annotation, text)
    if ok:
        return out
    if typing.get_origin(annotation) is typing.Literal:
        raise unknown(f"value for {where}", str(value), [str(a) for a in typing.get_args(annotation)])
    raise UserError(f"{where} must be {_name(annotation)}, got {value!r}")


def _split(value: str, annotation: Any) -> Any:
    """Comma-separated text for a tuple; items of string tuples need no quotes."""
    parsed = _literal(value) if value else ()
    if isinstance(parsed, (tuple, list)):
        return tuple(parsed)
    if str in typing.get_args(annotation) and isinstance(parsed, str):
        return tuple(p for p in value.split(",") if p)
    return (parsed,)
