"""The schema of a config node: what a target is called and which keywords its constructor takes."""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import sys
import traceback
import typing
from pathlib import Path
from typing import Any

from genjax.errors import UserError, unknown

_folders: list[str] = []


def search(folder: str | Path) -> None:
    """Puts a config's folder on the path of imports, behind what is installed: targets may be modules beside it."""
    folder = str(Path(folder).resolve())
    if folder in _folders:
        _folders.remove(folder)
    _folders.append(folder)  # the last one is that of the config being read
    if folder not in sys.path:
        sys.path.append(folder)
    importlib.invalidate_caches()  # the module may be newer than the last look into the folder


def _mistake(e: Exception) -> UserError | None:
    """The one line for what a module in one of the configs' folders raises while it is imported."""
    at = [(e.filename, e.lineno)] if isinstance(e, SyntaxError) else []
    at += [(f.filename, f.lineno) for f in traceback.extract_tb(e.__traceback__)[::-1]]
    file, line = next(((f, n) for f, n in at if f and str(Path(f).parent) in _folders), (None, 0))
    return file and UserError(f"{file}:{line}: {type(e).__name__}: {e}")


@functools.cache
def resolve_target(target: str) -> Any:
    """The object a dotted path names; a path that does not exist is an error naming the nearest name."""
    module, _, attr = target.rpartition(".")
    if not module or not all(part.isidentifier() for part in target.split(".")):
        raise UserError(f"target {target!r} is not a dotted path such as 'package.module.Name'")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as e:
        if not (e.name and (module == e.name or module.startswith(e.name + "."))):
            raise _mistake(e) or e from None
        parent, _, last = e.name.rpartition(".")
        inside = getattr(importlib.import_module(parent), "__path__", ()) if parent else ()
        if not inside:
            beside = f", nor beside the config in {_folders[-1]}" if _folders else ""
            raise UserError(f"target {target!r}: no module named {e.name!r}{beside}") from None
        names = [m.name for m in pkgutil.iter_modules(inside)]
        raise unknown(f"module in target {target!r}:", last, names) from None
    except Exception as e:
        raise _mistake(e) or e from None
    if not hasattr(found, attr):
        raise unknown(f"target in {module}", attr, [n for n in dir(found) if not n.startswith("_")])
    return getattr(found, attr)


@dataclasses.dataclass(frozen=True)
class Field:
    """One keyword of a target: its annotation and default (`inspect.Parameter.empty` when required)."""

    annotation: Any
    default: Any


@functools.cache
def schema(target: str) -> dict[str, Field]:
    """The keywords a target accepts, in order, with annotations and defaults.

    A default that JSON cannot hold (a function, a dtype) stays the constructor's own: its keyword is no config key.
    """
    obj = resolve_target(target)
    if not callable(obj):
        raise UserError(f"target {target!r} is a {type(obj).__name__}, not a class or function")
    fn = obj.__init__ if inspect.isclass(obj) else obj
    try:
        hints = typing.get_type_hints(obj if dataclasses.is_dataclass(obj) else fn, include_extras=True)
    except (NameError, TypeError, AttributeError):  # annotations that only a type checker can follow
        hints = {}
    factories = {}
    if dataclasses.is_dataclass(obj):
        factories = {f.name: f.default_factory for f in dataclasses.fields(obj)
                     if f.default_factory is not dataclasses.MISSING}
    # linen's own two fields are not configuration
    from flax import linen as nn  # with jax: not where only a config's name is looked up

    hidden = {"parent", "name"} if inspect.isclass(obj) and issubclass(obj, nn.Module) else set()
    try:
        parameters = inspect.signature(obj).parameters
    except ValueError:
        raise UserError(f"target {target!r} does not say which keywords it takes; wrap it in a function") from None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters.values()) and not any(
            p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters.values()):
        raise UserError(f"target {target!r} takes only *arguments, which a node cannot give; write a function with"
                        " keywords that calls it, and name that as the target")
    out = {}
    for name, p in parameters.items():
        if name in hidden or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            continue
        default = factories[name]() if name in factories else p.default
        if default is not p.empty and not is_data(default):
            continue
        out[name] = Field(hints.get(name, Any), default)
    return out


def is_data(value: Any) -> bool:
    """Whether a default can be written in a config: plain values, tuples of them, or a dataclass (a node)."""
    if isinstance(value, (list, tuple)):
        return all(is_data(v) and not dataclasses.is_dataclass(v) for v in value)
    return value is None or isinstance(value, (bool, int, float, str)) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type))
