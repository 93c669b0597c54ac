"""Configs: Python files of `{target, **kwargs}` nodes whose schema is the constructor's signature.

A config file defines `get_config(arg) -> ConfigDict`; its docstring is the lab notebook. A node names what it builds
(`target`, a dotted path) and the keyword arguments; `finalize` checks every key against the constructor's signature,
expands all defaults into the config and locks it, so that each value is visible, saved, typed and overridable.
A string "@name" stands for the value (or the object built from the node) of the top-level key `name`; a top-level key
that neither the experiment nor any "@name" reads is an error.
"""

import dataclasses
import inspect
import json
import typing
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from genjax.core import made_by
from genjax.core.coerce import coerce
from genjax.core.config_file import ROOT as ROOT
from genjax.core.config_file import find_config, load_module, mistakes_in
from genjax.core.config_file import list_configs as list_configs
from genjax.core.config_file import parse_arg as parse_arg  # configs import it from here
from genjax.core.schema import resolve_target, schema
from genjax.errors import UserError, key_of, unknown

EXPERIMENT = "genjax.core.experiment.Experiment"


class Node(ConfigDict):
    """A config node that can be changed in Python: `c.train.steps = 60` works although the file has not set `train`.

    A key that is not set reads as its target's default; what is assigned is checked and typed by `finalize`.
    """

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_") or key in self or "target" not in self or self.is_locked:
            return super().__getattr__(key)
        fields = schema(self.target)
        if key not in fields:
            raise unknown(f"key of {self.target}:", key, (set(fields) | set(self.keys())) - {"target"})
        if fields[key].default is inspect.Parameter.empty:
            raise UserError(f"key {key!r} of {self.target} has no default and is not set yet")
        self[key] = _plain(fields[key].default)
        return self[key]


def node(target: str, **kwargs: Any) -> ConfigDict:
    """A config node: `target` is the dotted path of a class or function, `kwargs` its keyword arguments."""
    made = Node(type_safe=False)
    for key, value in {"target": target, **kwargs}.items():
        made[key] = value
    return made


def experiment(**kwargs: Any) -> ConfigDict:
    """The root node of a config: an `Experiment`, plus any top-level keys that "@name" values read."""
    return node(EXPERIMENT, **kwargs)


def _plain(value: Any) -> Any:
    """A default value as config data: dataclass instances become nodes."""
    if dataclasses.is_dataclass(value):
        name = f"{type(value).__module__}.{type(value).__name__}"
        return node(name, **{f: _plain(getattr(value, f)) for f in schema(name)})
    return tuple(_plain(v) for v in value) if isinstance(value, (list, tuple)) else value


def is_node(value: Any) -> bool:
    """Whether a config value is a `{target, ...}` node."""
    return isinstance(value, ConfigDict) and "target" in value


def _set(config: ConfigDict, key: str, value: Any) -> None:
    with config.ignore_type(), config.unlocked():
        if key in config:
            del config[key]  # ConfigDict would turn a tuple back into the list it replaces
        config[key] = value


def _expand(config: ConfigDict, path: str, root: ConfigDict) -> None:
    if not isinstance(config.target, str):
        raise UserError(f"config.{path}target must be a dotted path in quotes, got {config.target!r}")
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
            _set(config, key, _plain(field.default))
        value = config[key]
        if is_node(value):
            _expand(value, f"{where}.", root)
        elif _is_reference(value):
            read = _follow(value, root, f"config.{where}")
            if not is_node(read):
                coerce(read, field.annotation, f"config.{where} = {value!r}")
        else:
            _set(config, key, coerce(value, field.annotation, f"config.{where}"))


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("@")


def _follow(value: str, root: ConfigDict, where: str) -> Any:
    """What "@name" stands for, through further references."""
    seen = set()
    while _is_reference(value):
        if value[1:] not in root:
            raise unknown(f"reference in {where}: top-level key", value[1:], set(root.keys()) - {"target"})
        if value in seen:
            raise UserError(f"{where}: the reference {value!r} leads back to itself")
        seen.add(value)
        value = root[value[1:]]
    return value


def _references(config: ConfigDict) -> set[str]:
    found = set()
    for value in config.values():
        if isinstance(value, ConfigDict):
            found |= _references(value)
        elif _is_reference(value):
            found.add(value[1:])
    return found


def _refuse_cycles(root: ConfigDict) -> None:
    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise UserError("config: references go in a circle: " + " -> ".join((*above, name)))
        value = root[name]
        inner = _references(value) if isinstance(value, ConfigDict) else {value[1:]} if _is_reference(value) else ()
        for other in sorted(inner):
            visit(other, (*above, name))

    for name in root.keys():
        visit(name, ())


def finalize(config: ConfigDict) -> ConfigDict:
    """Checks and expands a config in place, then locks it.

    Every node gets all defaults of its target; values are checked against the annotations; a top-level key that
    nobody reads is an error. Idempotent, so a saved `config.json` passes through it too.
    """
    if not is_node(config):
        raise UserError("a config's root must come from genjax.core.config.experiment(...)")
    if config.target != EXPERIMENT:
        raise UserError(f"config.target must be {EXPERIMENT}, got {config.target!r}")
    _expand(config, "", config)
    for key in config.keys():
        if key in schema(config.target):
            continue
        if is_node(config[key]):
            _expand(config[key], f"{key}.", config)
        elif _is_reference(config[key]):
            _follow(config[key], config, f"config.{key}")
        else:
            _set(config, key, coerce(config[key], Any, f"config.{key}"))
    read = set(schema(config.target)) | _references(config) | {"target"}
    for key in config.keys():
        if key not in read:
            raise unknown(f"config key {key!r}: nobody reads it; key", key, read - {"target"})
    _refuse_cycles(config)
    return config.lock()


def _held_elsewhere(config: ConfigDict, key: str, reference: str, part: str = "") -> UserError:
    """The error for an override of a key that holds "@name", where the top-level key `name` is meant."""
    value = _follow(reference, config, f"config.{key}")
    name = reference[1:]
    while _is_reference(config[name]):
        name = config[name][1:]
    keys = [part] if is_node(value) and part in value else [k for k in value.keys() if k != "target"] if is_node(
        value) else []
    target = f"config.{name}.{keys[0]}" if keys else f"config.{name}"
    return UserError(f"config.{key} holds {reference!r}, what the top-level key {name!r} says: override"
                     f" {'' if part in keys or not keys else 'its keys, e.g. '}--{target}=VALUE")


def _parent_of(config: ConfigDict, dotted: str) -> tuple[ConfigDict, str]:
    parent, parts = config, dotted.split(".")
    for i, part in enumerate(parts):
        if _is_reference(parent):
            raise _held_elsewhere(config, ".".join(parts[:i]), parent, part)
        if not isinstance(parent, ConfigDict) or part not in parent:
            valid = parent.keys() if isinstance(parent, ConfigDict) else []
            prefix = ".".join(["config", *parts[:i]])
            if i == 0 and len(parts) == 1 and (places := key_of(part, flatten(config))):
                meant = " or ".join(f"config.{place}" for place in places)
                raise UserError(f"unknown config key config.{part}; did you mean {meant}?")
            raise unknown(f"config key {'.'.join(['config', *parts])}: no key", part,
                          valid) if valid else UserError(f"{prefix} is a value, it has no key {part!r}")
        if i < len(parts) - 1:
            parent = parent[part]
    return parent, parts[-1]


def override(config: ConfigDict, items: typing.Iterable[str]) -> ConfigDict:
    """Applies `key.path=value` strings to an expanded config, typed by the constructor's annotations.

    Overriding a `target` swaps what is built: values that differ from the old target's defaults stay where the new one
    has such a key, all others become the new target's defaults; top-level keys that only the old one read are dropped.

    Raises:
      UserError: unknown key (names the nearest), or a value of the wrong type.
    """
    items = list(items)
    replaced: dict[str, str] = {}  # "@name" values that an override took the place of

    def order(item):  # targets first, outer ones before inner ones
        key = item.partition("=")[0]
        return (0, key.count(".")) if key.split(".")[-1] == "target" else (1, 0)

    for item in sorted(items, key=order):
        key, eq, text = item.partition("=")
        if not eq:
            raise UserError(f"override {item!r} has no value: write --config.{key}=VALUE")
        parent, last = _parent_of(config, key)
        where = f"config.{key}"
        if last == "target":
            if parent is config:
                raise UserError(f"config.target is always {EXPERIMENT}; override config.task.target and the like")
            old, fields, before = schema(parent.target), schema(text), _references(config)
            with parent.unlocked():
                for k in [k for k in parent.keys() if k != "target"]:
                    if k not in fields or (not is_node(parent[k]) and parent[k] == old[k].default):
                        del parent[k]
            _set(parent, "target", text)
            _expand(parent, key[: -len("target")], config)
            with config.unlocked():
                for k in before - _references(config) - set(schema(config.target)):
                    del config[k]
        elif is_node(parent[last]):
            raise UserError(f"{where} is a node; override one of its keys ({', '.join(parent[last].keys())})")
        else:
            fields = schema(parent.target) if "target" in parent else {}
            annotation = fields[last].annotation if last in fields else type(parent[last])
            value = text if text.startswith("@") else coerce(text, annotation, where, text=True)
            if _is_reference(parent[last]):
                replaced[key] = parent[last]
                if is_node(_follow(parent[last], config, where)) and value is not None and not _is_reference(value):
                    raise _held_elsewhere(config, key, parent[last])
            _set(parent, last, value)
    for key, reference in replaced.items():  # where nobody else reads the top-level key, that one was meant
        if reference[1:] not in {*_references(config), *schema(config.target)}:
            raise _held_elsewhere(config, key, reference)
    return finalize(config)


def load(spec: str, overrides: typing.Iterable[str] = ()) -> ConfigDict:
    """Loads, checks, expands and overrides a config; `spec` is a config file with argument or a `config.json`."""
    path, arg = find_config(spec)
    if path.suffix == ".json":
        if arg:
            raise UserError(f"{path} is a resolved config and takes no structural argument {arg!r}")
        return override(read_json(path), overrides)
    module = load_module(path)
    try:
        inspect.signature(module.get_config).bind(arg)
    except (AttributeError, TypeError):
        raise UserError(f"{path} defines no get_config(arg)") from None
    with mistakes_in(path):
        config = module.get_config(arg)
    return override(finalize(config), overrides)


def read_json(path: Path) -> ConfigDict:
    """The config saved in a file by `to_json`, finalized and locked; modules of its own are found where they were."""
    made_by.recall(path.parent)
    try:
        return finalize(from_json(path.read_text()))
    except UserError as e:
        raise UserError(f"{path}: {e}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: the saved config is not text") from None


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
        return plain(json.loads(text))
    except (ValueError, RecursionError) as e:  # not JSON, or keys that no config has
        raise UserError(f"the saved config is not readable JSON ({e})") from None


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
    kwargs = {}
    for k, field in schema(config.target).items():
        kwargs[k] = value = build(config[k], root, f"{path}.{k}", cache)
        kind = field.annotation
        judged = kind is not Any and isinstance(kind, type) and not getattr(kind, "_is_protocol", False)
        source = _follow(config[k], root, path) if _is_reference(config[k]) else config[k]
        if judged and is_node(source) and not isinstance(value, kind):
            raise UserError(f"{path}.{k} must be a {kind.__name__}; {source.target} makes a {type(value).__name__}")
    try:
        return resolve_target(config.target)(**kwargs)
    except UserError as e:
        raise UserError(str(e) if str(e).startswith("config.") else f"{path}: {e}") from None
