"""Floating-point operations of a program as it was written, counted on its jaxpr (where an op chooses its form by the
backend, as `genjax.ops.conv` does on a CPU, of the form chosen).

XLA's own count is of one device's program after optimisation and takes a loop's body once, whatever it repeats.
Counted are matrix products and convolutions, two per multiply-add, as papers count; elementwise work is left out, and
so is what a convolution would multiply in its padding and between dilated entries.
"""

import math
from typing import Any

import numpy as np
from jax.extend.core import Jaxpr


def count(jaxpr: Any) -> int:
    """FLOPs of one evaluation, over all devices: `scan` (and `lax.map`) times its length, a `while` body once, the
    dearest branch of a `cond`, `shard_map` times the devices it splits over."""
    return sum(_equation(eqn) for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns)


def _equation(eqn) -> int:
    name, params = eqn.primitive.name, eqn.params
    if name == "dot_general":
        return _dot(eqn)
    if name == "conv_general_dilated":
        return _convolution(eqn)
    inner = [count(j) for j in _inner(params)]
    if name == "cond":
        return max(inner)
    if name == "scan":
        return params["length"] * sum(inner)
    if name == "shard_map":
        axes = {a for spec in params["in_specs"] for part in spec if part is not None
                for a in (part if isinstance(part, tuple) else (part,))}
        return math.prod(params["mesh"].shape[a] for a in axes) * sum(inner)
    return sum(inner)


def _inner(params: dict[str, Any]) -> list[Jaxpr]:
    values = [x for v in params.values() for x in (v if isinstance(v, (tuple, list)) else (v,))]
    return [j for j in (getattr(x, "jaxpr", x) for x in values) if isinstance(j, Jaxpr)]


def _dot(eqn) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    left = eqn.invars[0].aval.shape
    return 2 * math.prod(eqn.outvars[0].aval.shape) * math.prod(left[d] for d in contracted)


def _convolution(eqn) -> int:
    p, dims = eqn.params, eqn.params["dimension_numbers"]
    left, right = (v.aval.shape for v in eqn.invars[:2])
    out = eqn.outvars[0].aval.shape
    total = 2 * out[dims.out_spec[0]] * out[dims.out_spec[1]] * right[dims.rhs_spec[1]]
    for i, (stride, (low, _)) in enumerate(zip(p["window_strides"], p["padding"], strict=True)):
        size, kernel, ends = (x[s[2 + i]] for x, s in ((left, dims.lhs_spec), (right, dims.rhs_spec),
                                                       (out, dims.out_spec)))
        spread = p["lhs_dilation"][i]
        # Where tap k of output position o reads: in the (dilated) input, and on one of its entries.
        at = np.arange(ends)[:, None] * stride + np.arange(kernel) * p["rhs_dilation"][i] - low
        total *= int(((at >= 0) & (at <= (size - 1) * spread) & (at % spread == 0)).sum())
    return total
