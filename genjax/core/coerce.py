"""Values of a config checked against annotations, from Python files and from the command line alike."""

import ast
import re
import types
import typing
from collections.abc import Mapping
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
    given = value
    if text and isinstance(value, str):
        value = _literal(value)
    if annotation in (Any, object):
        return True, _tuples(value)
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
        # Text fits a string always and a tuple nearly always: strings last, unless there is nothing to split.
        one = isinstance(value, str) and len(_split(value, tuple[str, ...])) < 2
        for option in sorted(typing.get_args(annotation), key=lambda a: 2 * (a is str) + 3 * (one and _is_tuple(a))):
            ok, out = _fits(given, option, text)
            if ok:
                return True, out
        return False, value
    if origin is typing.Literal:
        choices = [c for c in typing.get_args(annotation) for v in (given, value) if type(c) is type(v) and c == v]
        return bool(choices), choices[0] if choices else value
    if _is_tuple(annotation):
        if text and isinstance(given, str):
            value = _split(given, annotation)
        if not isinstance(value, (list, tuple)):
            return False, value
        args = typing.get_args(annotation)
        if not args:
            return True, _tuples(value)
        args = (args[0],) * len(value) if args[-1] is Ellipsis or origin is list else args
        parts = [_fits(v, a, False) for v, a in zip(value, args, strict=False)]
        ok = len(args) == len(value) and all(p[0] for p in parts)
        return ok, tuple(p[1] for p in parts)
    # Classes, protocols and library types are built from nodes: here only plain data can be judged.
    if isinstance(value, (bool, int, float, str, tuple, list)):
        return not (isinstance(annotation, type) and annotation.__module__.startswith("genjax.")), _tuples(value)
    return True, value


def _is_tuple(annotation: Any) -> bool:
    return annotation in (tuple, list) or typing.get_origin(annotation) in (tuple, list)


def _tuples(value: Any) -> Any:
    """Lists as tuples, as they come back from JSON."""
    return tuple(_tuples(v) for v in value) if isinstance(value, (list, tuple)) else value


def _is_data(value: Any) -> bool:
    """Whether JSON can hold the value as it is."""
    if isinstance(value, tuple):
        return all(_is_data(v) for v in value)
    return value is None or type(value) in (bool, int, float, str)


def coerce(value: Any, annotation: Any, where: str, text: bool = False) -> Any:
    """Returns `value` as `annotation` asks, or raises.

    Args:
      value: the value; a string to be parsed when `text` (the command line).
      annotation: the constructor's annotation (plain types, tuples, Literal, unions; anything else passes).
        `Annotated[type, check]`: as the type, and `check(value)` raises a UserError for what it refuses.
      where: the key, for the message.
      text: parse Python literals out of strings.

    Returns:
      The value: ints become floats where floats are asked for, integer-valued floats ints, lists tuples.

    Raises:
      UserError: a value of another type, or not one of the choices.
    """
    if typing.get_origin(annotation) is typing.Annotated:
        annotation, *checks = typing.get_args(annotation)
        value = coerce(value, annotation, where, text)
        for check in checks:
            try:
                check(value)
            except UserError as e:
                raise UserError(f"{where}: {e}") from None
        return value
    if isinstance(value, ConfigDict):
        if annotation in (Any, object, dict, Mapping) or typing.get_origin(annotation) in (dict, Mapping):
            return value
        raise UserError(f"{where} has no target; write node('module.Name', ...) for the {_name(annotation)} it must be")
    ok, out = _fits(value, annotation, text)
    if ok and not _is_data(out):
        raise UserError(f"{where} cannot hold {value!r}: numbers, strings, tuples of them, or a node with a target")
    if ok:
        return out
    if typing.get_origin(annotation) is typing.Literal:
        raise unknown(f"value for {where}", str(value), [str(a) for a in typing.get_args(annotation)])
    raise UserError(f"{where} must be {_name(annotation)}, got {value!r}")


def _split(value: str, annotation: Any) -> Any:
    """Comma-separated text for a tuple; items of string tuples need no quotes, commas in brackets do not split."""
    parsed = _literal(value) if value else ()
    words = parsed if isinstance(parsed, (tuple, list)) else (parsed,)
    unquoted = str in typing.get_args(annotation) and not all(isinstance(w, str) for w in words)
    if unquoted or parsed == value:
        return tuple(p.strip() for p in re.split(r",(?![^(\[{]*[)\]}])", value) if p.strip())
    return tuple(words)
