"""Meshes and shardings from the config: named axes, and regex -> rule strings over the paths of the state.

Paths are those of `jax.tree_util` joined by "/", e.g. `params/decoder/kernel` or `opt_state/0/mu/decoder/kernel`; a
rule is matched with `re.search`, so `decoder/kernel` rules its optimiser state and average too. The first match wins.
"""

import ast
import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from genjax.errors import UserError, unknown
from genjax.nn.sharding import BATCH

AXES = ("data", "fsdp", "tensor")


@dataclasses.dataclass(frozen=True)
class MeshSpec:
    """Devices along each axis; one of them may be -1, "all the rest"."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def build(self, devices: Sequence[jax.Device] | None = None) -> Mesh:
        """The mesh over `devices` (default: all). Axes are Auto: explicit axes break linen's Dropout."""
        devices = list(jax.devices() if devices is None else devices)
        sizes = [self.data, self.fsdp, self.tensor]
        if any(s == 0 or s < -1 for s in sizes) or sizes.count(-1) > 1:
            raise UserError(f"config.mesh {dict(zip(AXES, sizes, strict=True))}: sizes must be positive, one may be -1")
        fixed = math.prod(s for s in sizes if s > 0)
        if -1 in sizes:
            if len(devices) % fixed:
                raise UserError(f"config.mesh: {len(devices)} devices do not divide by {fixed}; change config.mesh")
            sizes[sizes.index(-1)] = len(devices) // fixed
        total = math.prod(sizes)
        if total > len(devices):
            raise UserError(f"config.mesh asks for {total} devices, {len(devices)} are here; lower config.mesh"
                            " or start more (JAX_NUM_CPU_DEVICES=N for N fake CPU devices)")
        return jax.make_mesh(tuple(sizes), AXES, axis_types=(AxisType.Auto,) * 3, devices=devices[:total])


Rule = Callable[[tuple[int, ...], Mesh], PartitionSpec]


def replicate() -> Rule:
    """Every device holds the whole array."""
    return lambda shape, mesh: PartitionSpec()


def shard_dim(dim: int, axis: str) -> Rule:
    """Split dimension `dim` over mesh axis `axis`; arrays where it does not divide are replicated."""
    def rule(shape, mesh):
        if len(shape) == 0 or not -len(shape) <= dim < len(shape) or shape[dim] % mesh.shape[axis]:
            return PartitionSpec()
        spec: list[str | None] = [None] * len(shape)
        spec[dim] = axis
        return PartitionSpec(*spec)
    return rule


def fsdp(axis: str = "fsdp", min_size: int = 2**12) -> Rule:
    """Split the largest dimension that divides over `axis`; arrays below `min_size` elements are replicated."""
    def rule(shape, mesh):
        n = mesh.shape[axis]
        fit = [d for d in range(len(shape)) if shape[d] % n == 0 and shape[d] >= n]
        if math.prod(shape) < min_size or not fit:
            return PartitionSpec()
        return shard_dim(max(fit, key=lambda d: (shape[d], d)), axis)(shape, mesh)
    return rule


RULES = {"replicate": replicate, "shard_dim": shard_dim, "fsdp": fsdp}


def parse_rule(text: str) -> tuple[str, str, Rule]:
    """Parses "regex -> rule(args)" into the pattern, the rule's text and the rule.

    Raises:
      UserError: not of that form, a bad regex, an unknown rule, wrong arguments, or an unknown mesh axis.
    """
    pattern, arrow, call = (part.strip() for part in text.partition("->"))
    if not arrow or not pattern:
        raise UserError(f"sharding rule {text!r} is not of the form 'regex -> rule', e.g. '.* -> replicate'")
    try:
        re.compile(pattern)
    except re.error as e:
        raise UserError(f"sharding rule {text!r}: bad regex ({e})") from None
    name = call.partition("(")[0].strip()
    if name not in RULES:
        raise unknown(f"sharding rule in {text!r}:", name, RULES)
    signature = inspect.signature(RULES[name])
    try:
        tree = ast.parse(call if "(" in call else call + "()", mode="eval").body
        if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
            raise ValueError(f"write {name}{signature}")
        bound = signature.bind(*map(_argument, tree.args), **{str(k.arg): _argument(k.value) for k in tree.keywords})
    except (SyntaxError, ValueError, TypeError) as e:
        raise UserError(f"sharding rule {text!r}: {e}") from None
    for key, value in bound.arguments.items():
        wanted = signature.parameters[key].annotation
        if type(value) is not wanted:
            raise UserError(f"sharding rule {text!r}: {key} must be {wanted.__name__}, got {value!r}")
        if wanted is str and value not in AXES:
            raise unknown(f"mesh axis in sharding rule {text!r}:", value, AXES)
    return pattern, call, RULES[name](*bound.args, **bound.kwargs)


def _argument(tree: ast.expr) -> Any:
    """An argument of a rule: a literal, or an axis with or without quotes."""
    return tree.id if isinstance(tree, ast.Name) else ast.literal_eval(tree)


def path_str(path: tuple) -> str:
    """A pytree path as `a/b/0/c`."""
    return "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)


def tree_shardings(tree: Any, rules: Sequence[str], mesh: Mesh) -> Any:
    """A `NamedSharding` per leaf of an abstract tree.

    Raises:
      UserError: a rule that matches no leaf or only leaves that rules before it match, or a leaf that no rule matches.
    """
    parsed = [parse_rule(r) for r in rules]
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    paths = [path_str(p) for p, _ in leaves]
    for i, (pattern, call, _) in enumerate(parsed):
        found = [p for p in paths if re.search(pattern, p)]
        if not found:
            raise UserError(f"sharding rule '{pattern} -> {call}' matches none of the {len(paths)} arrays;"
                            f" paths look like {paths[min(1, len(paths) - 1)]!r} (see the plan verb)")
        if all(any(re.search(before, p) for before, _, _ in parsed[:i]) for p in found):
            raise UserError(f"sharding rule '{pattern} -> {call}' is never reached: the rules before it match all its"
                            f" {len(found)} arrays; the first match wins, so put it earlier in config.sharding")

    def choose(path, leaf):
        name = path_str(path)
        for pattern, _, rule in parsed:
            if re.search(pattern, name):
                return NamedSharding(mesh, rule(leaf.shape, mesh))
        raise UserError(f"no sharding rule matches {name!r}; end config.sharding with '.* -> replicate'")

    return jax.tree_util.tree_map_with_path(choose, tree)


def batch_shardings(spec: Mapping[str, jax.ShapeDtypeStruct], mesh: Mesh, constant: bool,
                    size: str = "the batch's size in config.data") -> dict[str, NamedSharding]:
    """Batches are split over data x fsdp along dimension 0.

    A constant batch (a few images to restore) that does not divide is replicated; any other is an error, which says
    to change `size`.
    """
    n = math.prod(mesh.shape[a] for a in BATCH)
    out = {}
    for name, s in spec.items():
        if s.shape[0] % n == 0:
            out[name] = NamedSharding(mesh, PartitionSpec(BATCH))
        elif constant:
            out[name] = NamedSharding(mesh, PartitionSpec())
        else:
            raise UserError(f"a batch of {s.shape[0]} does not divide over {n} devices (mesh data x fsdp);"
                            f" change {size} or config.mesh")
    return out


def bytes_per_device(tree: Any) -> int:
    """Bytes one device holds of an abstract tree whose leaves carry shardings."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))
