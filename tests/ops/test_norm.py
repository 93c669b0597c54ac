"""Batch normalisation against autodiff of the textbook formula in float64, and its accuracy far from zero mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.ops.norm import batch_norm, batch_norm_leaky_relu


def rand(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def textbook(x, scale, bias, slope=1.0, eps=1e-5):
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    var = ((x - mean) ** 2).mean(axes)
    z = (x - mean) / jnp.sqrt(var + eps) * scale + bias
    return jnp.where(z >= 0, z, slope * z)


def both(slope, eps=1e-5):
    if slope == 1.0:
        return lambda x, s, b: batch_norm(x, s, b, eps)
    return lambda x, s, b: batch_norm_leaky_relu(x, s, b, slope, eps)


@pytest.mark.parametrize("slope", [1.0, 0.2, 0.0])
@pytest.mark.parametrize("shape", [(2, 9, 7, 5), (1, 1, 2, 3), (33, 6)])
def test_value_and_gradient(slope, shape):
    x, scale, bias = 2 * rand(0, *shape) + 0.7, rand(1, shape[-1]), rand(2, shape[-1])
    dy = rand(3, *shape)
    got, pull = jax.vjp(both(slope), x, scale, bias)
    want, slow = jax.vjp(lambda *a: textbook(*a, slope), x, scale, bias)
    np.testing.assert_allclose(got, want, atol=1e-5)
    for a, b in zip(pull(dy), slow(dy), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * max(1, float(jnp.abs(b).max())))


@pytest.mark.parametrize("mean,std", [(100, 1), (-3000, 2), (0, 1e-3)])
def test_large_means_lose_nothing(mean, std):
    """E[x^2] - E[x]^2 in float32 gets the variance 1 about mean 3000 wrong by more than itself."""
    x = mean + std * rand(0, 2, 64, 48, 4)
    one, zero, dy = jnp.ones(4), jnp.zeros(4), rand(1, 2, 64, 48, 4)
    got, pull = jax.vjp(both(0.2), x, one, zero)
    x64 = np.asarray(x, np.float64)
    u = (x64 - x64.mean((0, 1, 2))) / np.sqrt(x64.var((0, 1, 2)) + 1e-5)
    ulp = np.spacing(np.float32(abs(mean))) / std  # what float32 can hold of the mean itself
    np.testing.assert_allclose(got, np.where(u >= 0, u, 0.2 * u), atol=1e-5 + 2 * ulp)
    dz = np.asarray(dy, np.float64) * np.where(u >= 0, 1, 0.2)
    dx = (dz - dz.mean((0, 1, 2)) - u * (dz * u).mean((0, 1, 2))) / np.sqrt(x64.var((0, 1, 2)) + 1e-5)
    sure = np.abs(u) > 1e-4 + 10 * ulp  # nearer to the kink than float32 can tell, either slope is right
    error = np.abs(pull(dy)[0] - dx)[sure]
    assert sure.mean() > 0.95 and error.max() <= (1e-3 + 10 * ulp) * np.abs(dx).max()


def test_rows_unlike_the_rest_do_not_hurt():
    """The pivot comes from every 16th row; make exactly those rows wild."""
    x = rand(0, 1, 64, 32, 2)
    x = x.at[:, ::16].add(1000.0)
    x64 = np.asarray(x, np.float64)
    want = (x64 - x64.mean((0, 1, 2))) / np.sqrt(x64.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(batch_norm(x, jnp.ones(2), jnp.zeros(2)), want, atol=2e-5)


def test_constant_channel_gives_bias():
    y = batch_norm(jnp.full((1, 4, 4, 2), 7.0), jnp.ones(2), jnp.asarray([0.5, -1.0]))
    np.testing.assert_allclose(y[0, 0, 0], [0.5, -1.0], atol=1e-6)


def test_second_order():
    x, scale, bias = rand(0, 1, 4, 3, 2), rand(1, 2), rand(2, 2)

    def penalty(f):
        return jax.grad(lambda x, s: jnp.sum(jax.grad(lambda x: jnp.sum(jnp.sin(f(x, s, bias))))(x) ** 2), (0, 1))

    got, want = penalty(both(0.2))(x, scale), penalty(lambda *a: textbook(*a, 0.2))(x, scale)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * max(1, float(jnp.abs(b).max())))


def test_vmap_normalises_each_network_alone():
    xs, s, b = 5 + rand(0, 3, 2, 6, 5, 4), rand(1, 3, 4), rand(2, 3, 4)
    got = jax.jit(jax.vmap(jax.grad(lambda *a: jnp.sum(both(0.2)(*a) ** 3), (0, 1, 2))))(xs, s, b)
    for i in range(3):
        want = jax.grad(lambda *a: jnp.sum(textbook(*a, 0.2) ** 3), (0, 1, 2))(xs[i], s[i], b[i])
        for g, w in zip(got, want, strict=True):
            np.testing.assert_allclose(g[i], w, atol=1e-4 * max(1, float(jnp.abs(w).max())))


def test_bfloat16_statistics_are_float32():
    x = (50 + rand(0, 1, 64, 64, 3)).astype(jnp.bfloat16)
    y = batch_norm(x, jnp.ones(3), jnp.zeros(3))
    assert y.dtype == jnp.bfloat16
    want = textbook(x.astype(jnp.float32), jnp.ones(3), jnp.zeros(3))
    assert np.abs(y.astype(jnp.float32) - want).max() <= 2**-7 * np.abs(want).max()
    assert jax.grad(lambda x: jnp.sum(batch_norm(x, jnp.ones(3), jnp.zeros(3)) ** 2))(x).dtype == jnp.bfloat16
