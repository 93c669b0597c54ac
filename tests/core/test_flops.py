"""FLOPs counted on a jaxpr against numbers by hand, and convolutions against XLA's own count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from genjax.core.flops import count


def flops(fn, *shapes):
    return count(jax.make_jaxpr(fn)(*(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes)))


PRODUCT = 2 * 3 * 4 * 5


def product(a, b):
    return a @ b


@pytest.mark.parametrize(("fn", "shapes", "expected"), [
    (product, [(3, 4), (4, 5)], PRODUCT),
    (jax.vmap(product), [(7, 3, 4), (7, 4, 5)], 7 * PRODUCT),
    (lambda a, b: lax.map(lambda x: product(*x), (a, b)), [(7, 3, 4), (7, 4, 5)], 7 * PRODUCT),
    (jax.jit(jax.checkpoint(product)), [(3, 4), (4, 5)], PRODUCT),
    (lambda a, b: lax.cond(a.sum() > 0, lambda: product(a, b), lambda: product(a, b) @ jnp.ones((5, 5))),
     [(3, 4), (4, 5)], PRODUCT + 2 * 3 * 5 * 5),
    (lambda a, n: lax.fori_loop(0, n[0].astype(int), lambda _, x: x @ x, a), [(3, 3), (1,)], 2 * 27),
    (lambda a: a + jnp.sin(a), [(9, 9)], 0)])
def test_products_and_control_flow(fn, shapes, expected):
    assert flops(fn, *shapes) == expected


def test_shards_are_summed():
    mesh = AbstractMesh((2, 3), ("data", "other"), axis_types=(AxisType.Auto,) * 2)  # the default differs by version

    def both(a, b):
        return jax.shard_map(lambda a, b: lax.map(lambda x: x @ b, a), mesh=mesh, in_specs=(PartitionSpec("data"),
                             PartitionSpec()), out_specs=PartitionSpec("data"), check_vma=False)(a, b)

    assert flops(both, (4, 3, 4), (4, 5)) == 4 * PRODUCT


@pytest.mark.parametrize("options", [
    dict(window_strides=(1, 1), padding="VALID"), dict(window_strides=(2, 1), padding="SAME"),
    dict(window_strides=(1, 1), padding=((2, 1), (0, 3)), lhs_dilation=(2, 3)),
    dict(window_strides=(1, 2), padding=((1, 1), (2, 2)), rhs_dilation=(2, 1)),
    dict(window_strides=(1, 1), padding="SAME", feature_group_count=2)])
def test_convolutions_as_xla_counts_them(options):
    def fn(x, w):
        return lax.conv_general_dilated(x, w, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)

    x, w = (2, 9, 8, 4), (3, 3, 4 // options.get("feature_group_count", 1), 6)
    lowered = jax.jit(fn).lower(*(np.zeros(s, np.float32) for s in (x, w)))
    assert flops(fn, x, w) == lowered.cost_analysis()["flops"] > 0
