"""Configs: Python files of `{target, **kwargs}` nodes whose schema is the constructor's signature.

A config file defines `get_config(arg) -> ConfigDict`; its docstring is the lab notebook. A node names what it builds
(`target`, a dotted path) and the keyword arguments; `finalize` checks every key against the constructor's signature,
expands all defaults into the config and locks it, so that each value is visible, saved, typed and overridable.
A string "@name" stands for the value (or the object built from the node) of the top-level key `name`; a top-level key
that neither the experiment nor any "@name" reads is an error.
"""

import ast
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import json
import types
import typing
from pathlib import Path
from typing import Any

from flax import linen as nn
from ml_collections import ConfigDict

from genjax.core.coerce import coerce
from genjax.errors import UserError, unknown

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = "genjax.core.experiment.Experiment"


def node(target: str, **kwargs: Any) -> ConfigDict:
    """A config node: `target` is the dotted path of a class or function, `kwargs` its keyword arguments."""
    return ConfigDict({"target": target, **kwargs})


def experiment(**kwargs: Any) -> ConfigDict:
    """The root node of a config: an `Experiment`, plus any top-level keys that "@name" values read."""
    return node(EXPERIMENT, **kwargs)


def parse_arg(arg: str | None, **defaults: Any) -> types.SimpleNamespace:
    """Parses the structural argument of a config, the part after ":" in `configs/x.py:small,res=64`.

    Args:
      arg: comma-separated `key=value` items; a bare `key` means `key=True`.
      **defaults: the allowed keys with their default values, whose types the values must have.

    Returns:
      A namespace with one attribute per default.

    Raises:
      UserError: unknown key or a value of another type.
    """
    out = dict(defaults)
    for item in filter(None, (arg or "").split(",")):
        key, eq, text = item.partition("=")
        if key not in defaults:
            raise unknown("structural argument", key, defaults)
        out[key] = coerce(text, type(defaults[key]), f"structural argument {key}", text=True) if eq else True
        if type(out[key]) is not type(defaults[key]):
            raise UserError(f"structural argument {key} needs a value: write {key}={defaults[key]!r}")
    return types.SimpleNamespace(**out)


@functools.cache
def resolve_target(target: str) -> Any:
    """The object a dotted path names; a path that does not exist is an error naming the nearest name."""
    module, _, attr = str(target).rpartition(".")
    if not module:
        raise UserError(f"target {target!r} is not a dotted path such as 'package.module.Name'")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as e:
        if not (e.name and (module == e.name or module.startswith(e.name + "."))):
            raise
        raise UserError(f"target {target!r}: no module named {e.name!r}") from None
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
    """The keywords a target accepts, in order, with annotations and defaults."""
    obj = resolve_target(target)
    fn = obj.__init__ if inspect.isclass(obj) else obj
    try:
        hints = typing.get_type_hints(obj if dataclasses.is_dataclass(obj) else fn)
    except NameError:
        hints = {}
    factories = {}
    if dataclasses.is_dataclass(obj):
        factories = {f.name: f.default_factory for f in dataclasses.fields(obj)
                     if f.default_factory is not dataclasses.MISSING}
    # linen's own two fields are not configuration
    hidden = {"parent", "name"} if inspect.isclass(obj) and issubclass(obj, nn.Module) else set()
    out = {}
    for name, p in inspect.signature(obj).parameters.items():
        if name in hidden or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            continue
        default = factories[name]() if name in factories else p.default
        out[name] = Field(hints.get(name, Any), default)
    return out


def _plain(value: Any, path: str) -> Any:
    """A default value as config data: dataclass instances become nodes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        cls = type(value)
        kwargs = {f: _plain(getattr(value, f), f"{path}.{f}") for f in schema(f"{cls.__module__}.{cls.__name__}")}
        return node(f"{cls.__module__}.{cls.__name__}", **kwargs)
    if isinstance(value, (list, tuple)):
        return tuple(_plain(v, path) for v in value)
    if value is None or isinstance(value, (bool, int, float, str, ConfigDict)):
        return value
    raise TypeError(f"{path}: the default {value!r} cannot be written in a config")


def is_node(value: Any) -> bool:
    """Whether a config value is a `{target, ...}` node."""
    return isinstance(value, ConfigDict) and "target" in value


def _set(config: ConfigDict, key: str, value: Any) -> None:
    with config.ignore_type(), config.unlocked():
        config[key] = value


def _expand(config: ConfigDict, path: str, root: ConfigDict) -> None:
    fields = schema(config.target)
    is_root = path == ""
    for key in config.keys():
        if key != "target" and key not in fields and not is_root:
            raise unknown(f"key {path}{key} of {config.target}: key", key, fields)
    for key, field in fields.items():
        where = f"{path}{key}"
        if key not in config:
            if field.default is inspect.Parameter.empty:
                raise UserError(f"config.{where} is missing: {config.target} needs it")
            _set(config, key, _plain(field.default, where))
        value = config[key]
        if is_node(value):
            _expand(value, f"{where}.", root)
        elif isinstance(value, str) and value.startswith("@"):
            if value[1:] not in root:
                raise unknown(f"reference in config.{where}: top-level key", value[1:], root.keys())
        else:
            _set(config, key, coerce(value, field.annotation, f"config.{where}"))


def _references(config: ConfigDict) -> set[str]:
    found = set()
    for value in config.values():
        if isinstance(value, ConfigDict):
            found |= _references(value)
        elif isinstance(value, str) and value.startswith("@"):
            found.add(value[1:])
    return found


def finalize(config: ConfigDict) -> ConfigDict:
    """Checks and expands a config in place, then locks it.

    Every node gets all defaults of its target; values are checked against the annotations; a top-level key that
    nobody reads is an error. Idempotent, so a saved `config.json` passes through it too.
    """
    if not is_node(config):
        raise UserError("a config's root must come from genjax.core.config.experiment(...)")
    _expand(config, "", config)
    for key in config.keys():
        if is_node(config[key]) and key not in schema(config.target):
            _expand(config[key], f"{key}.", config)
    read = set(schema(config.target)) | _references(config) | {"target"}
    for key in config.keys():
        if key not in read:
            raise unknown(f"config key {key!r}: nobody reads it; key", key, read - {"target"})
    return config.lock()


def _parent_of(config: ConfigDict, dotted: str) -> tuple[ConfigDict, str]:
    parent, parts = config, dotted.split(".")
    for i, part in enumerate(parts):
        if not isinstance(parent, ConfigDict) or part not in parent:
            valid = parent.keys() if isinstance(parent, ConfigDict) else []
            prefix = ".".join(["config", *parts[:i]])
            raise unknown(f"config key {'.'.join(['config', *parts])}: no key", part,
                          valid) if valid else UserError(f"{prefix} is a value, it has no key {part!r}")
        if i < len(parts) - 1:
            parent = parent[part]
    return parent, parts[-1]


def override(config: ConfigDict, items: typing.Iterable[str]) -> ConfigDict:
    """Applies `key.path=value` strings to an expanded config, typed by the constructor's annotations.

    Overriding a `target` swaps what is built: keys the new target does not know are dropped, its defaults filled in.

    Raises:
      UserError: unknown key (names the nearest), or a value of the wrong type.
    """
    items = list(items)
    for item in sorted(items, key=lambda s: not s.partition("=")[0].endswith("target")):  # targets first
        key, eq, text = item.partition("=")
        if not eq:
            raise UserError(f"override {item!r} has no value: write --config.{key}=VALUE")
        parent, last = _parent_of(config, key)
        where = f"config.{key}"
        if last == "target":
            fields = schema(text)
            with parent.unlocked():
                for k in list(parent.keys()):
                    if k != "target" and k not in fields:
                        del parent[k]
            _set(parent, "target", text)
            _expand(parent, key[: -len("target")], config)
        elif is_node(parent[last]):
            raise UserError(f"{where} is a node; override one of its keys ({', '.join(parent[last].keys())})")
        else:
            fields = schema(parent.target) if "target" in parent else {}
            annotation = fields[last].annotation if last in fields else type(parent[last])
            value = text if text.startswith("@") else coerce(text, annotation, where, text=True)
            _set(parent, last, value)
    return finalize(config)


def find_config(spec: str) -> tuple[Path, str]:
    """Splits `configs/dip/denoise.py:small`, or the short `dip/denoise:small`, into file and argument."""
    name, _, arg = spec.partition(":")
    for path in (Path(name), ROOT / name, ROOT / "configs" / name, ROOT / "configs" / f"{name}.py"):
        if path.is_file() and path.suffix in (".py", ".json"):
            return path.resolve(), arg
    raise unknown("config file", name, [f"configs/{p}.py" for p in list_configs()])


def list_configs() -> list[str]:
    """Every config under configs/, as `family/name`; files whose name starts with "_" hold shared parts."""
    base = ROOT / "configs"
    return sorted(str(p.relative_to(base).with_suffix("")) for p in base.rglob("*.py") if not p.stem.startswith("_"))


def load_module(path: Path) -> types.ModuleType:
    """Imports a Python file by path; a syntax error in it is a one-line error."""
    spec = importlib.util.spec_from_file_location("genjax_file_" + path.stem, path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as e:
        raise UserError(f"{path}:{e.lineno}: {e.msg}") from None
    return module


def load(spec: str, overrides: typing.Iterable[str] = ()) -> ConfigDict:
    """Loads, checks, expands and overrides a config; `spec` is a config file with argument or a `config.json`."""
    path, arg = find_config(spec)
    if path.suffix == ".json":
        return override(finalize(from_json(path.read_text())), overrides)
    module = load_module(path)
    if not hasattr(module, "get_config"):
        raise UserError(f"{path} defines no get_config(arg)")
    return override(finalize(module.get_config(arg)), overrides)


def describe(path: Path) -> str:
    """The first line of a config's or figure's docstring, read without importing it."""
    doc = ast.get_docstring(ast.parse(path.read_text())) or ""
    return doc.split("\n")[0]


def to_json(config: ConfigDict) -> str:
    """The resolved config as readable JSON."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def from_json(text: str) -> ConfigDict:
    """The config written by `to_json` (not yet finalized)."""
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return ConfigDict({k: plain(v) for k, v in value.items()})
        return tuple(plain(v) for v in value) if isinstance(value, list) else value

    try:
        data = json.loads(text)
    except json.JSONDecodeError as e:
        raise UserError(f"the saved config is not readable JSON ({e})") from None
    return plain(data)


def flatten(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """`{dotted.key: value}` over all leaves."""
    out = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            out |= flatten(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out


def diff(a: ConfigDict, b: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Keys whose values differ, as `{key: (value in a, value in b)}`; a missing key shows as "(absent)"."""
    fa, fb = flatten(a), flatten(b)
    pairs = {k: (fa.get(k, "(absent)"), fb.get(k, "(absent)")) for k in sorted(fa | fb)}
    return {k: v for k, v in pairs.items() if v[0] != v[1]}


def smoke(config: ConfigDict) -> ConfigDict:
    """The mechanical smoke form of any config: two steps, every interval one step, the config's own shrinkings.

    Widths and sizes come from the config's `smoke` entry, a tuple of `key=value` overrides.
    """
    items = ["train.steps=2", "train.steps_per_call=1", "train.log_every=1", "train.save_every=1",
             "train.preview_every=2", "train.eval_every=2", *config.smoke]
    return override(config, items)


def build(config: Any, root: ConfigDict | None = None, path: str = "config", _cache: dict | None = None) -> Any:
    """Builds the object a node describes, its inner nodes first; "@name" takes the root's value or built node."""
    root = config if root is None else root
    cache = {} if _cache is None else _cache
    if isinstance(config, str) and config.startswith("@"):
        name = config[1:]
        if name not in cache:
            cache[name] = build(root[name], root, f"config.{name}", cache)
        return cache[name]
    if not is_node(config):
        return config
    fields = schema(config.target)
    kwargs = {k: build(config[k], root, f"{path}.{k}", cache) for k in fields}
    try:
        return resolve_target(config.target)(**kwargs)
    except UserError as e:
        raise UserError(str(e) if str(e).startswith("config.") else f"{path}: {e}") from None
