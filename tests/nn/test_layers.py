"""Shared layers against slow loops, closed forms and each other."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.nn import init
from genjax.nn.layers import BatchStatNorm, Conv, ConvTranspose, InstanceNorm, activation

KEY = jax.random.key(0)


def normal(i, *shape):
    return jnp.asarray(np.random.default_rng(i).normal(size=shape), jnp.float32)


def drawn(layer, x):
    """Parameters of a layer drawn with numpy: compiling an initialisation takes longer than these tests."""
    return jax.tree.map(lambda p: normal(p.size, *p.shape), jax.eval_shape(layer.init, KEY, x))


def slow_conv(x, w, b, stride, mode):
    """Cross-correlation by its definition."""
    x, w, k = np.asarray(x, np.float64), np.asarray(w, np.float64), w.shape[0]
    p = (k - 1) // 2
    x = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)), mode={"zero": "constant"}.get(mode, mode))
    rows, cols = (x.shape[1] - k) // stride + 1, (x.shape[2] - k) // stride + 1
    y = np.zeros((x.shape[0], rows, cols, w.shape[-1]))
    for i in range(rows):
        for j in range(cols):
            window = x[:, i * stride : i * stride + k, j * stride : j * stride + k]
            y[:, i, j] = np.einsum("nhwc,hwcd->nd", window, w)
    return y + np.asarray(b)


@pytest.mark.parametrize("kernel,stride,mode", [(3, 1, "zero"), (3, 2, "reflect"), (5, 2, "edge"), (1, 1, "reflect")])
def test_conv_is_the_definition(kernel, stride, mode):
    layer, x = Conv(4, kernel, stride, mode), normal(0, 2, 7, 8, 3)
    v = drawn(layer, x)
    want = slow_conv(x, v["params"]["kernel"], v["params"]["bias"], stride, mode)
    np.testing.assert_allclose(layer.apply(v, x), want, atol=1e-5)


@pytest.mark.parametrize("kernel,stride,padding", [(4, 2, 1), (3, 1, 1), (3, 2, 0)])
def test_transposed_conv_scatters_every_pixel(kernel, stride, padding):
    layer, x = ConvTranspose(2, kernel, stride, padding), normal(1, 1, 3, 4, 3)
    v = drawn(layer, x)
    w = np.asarray(v["params"]["kernel"])
    full = np.zeros((1, 2 * stride + kernel, 3 * stride + kernel, 2))
    for i in range(3):
        for j in range(4):
            patch = np.einsum("nc,hwcd->nhwd", x[:, i, j], w)
            full[:, i * stride : i * stride + kernel, j * stride : j * stride + kernel] += patch
    want = full[:, padding : full.shape[1] - padding, padding : full.shape[2] - padding]
    np.testing.assert_allclose(layer.apply(v, x), want + v["params"]["bias"], atol=1e-5)


def test_kernels_start_uniform_within_torchs_bound():
    kernel = init.torch_kernel(KEY, (3, 3, 16, 64))
    bound = 1 / math.sqrt(3 * 3 * 16)
    assert float(jnp.abs(kernel).max()) <= bound < 1.01 * float(jnp.abs(kernel).max())
    np.testing.assert_allclose(kernel.std(), bound / math.sqrt(3), rtol=0.02)
    # torch divides by axis 1 of its own weight, which for a transposed convolution is the output
    transposed = init.torch_transposed_kernel(KEY, (4, 4, 2, 64))
    bound = 1 / math.sqrt(4 * 4 * 64)
    assert 0.98 * bound < float(jnp.abs(transposed).max()) <= bound
    bias = init.torch_bias(144)(KEY, (1000,))
    assert 0.98 / 12 < float(jnp.abs(bias).max()) <= 1 / 12


def test_batch_stat_norm_closed_form_and_activation():
    x = 3 * normal(2, 2, 4, 5, 3) + 1
    v = {"params": {"scale": jnp.array([1.0, 2.0, 0.5]), "bias": jnp.array([0.0, -1.0, 2.0])}}
    a = np.asarray(x, np.float64)
    want = (a - a.mean((0, 1, 2))) / np.sqrt(a.var((0, 1, 2)) + 1e-5) * [1, 2, 0.5] + [0, -1, 2]
    np.testing.assert_allclose(BatchStatNorm().apply(v, x), want, atol=1e-5)
    fresh = BatchStatNorm().init(KEY, x)["params"]
    assert fresh["scale"].tolist() == [1, 1, 1] and fresh["bias"].tolist() == [0, 0, 0]
    leaky = np.where(want > 0, want, 0.2 * want)
    np.testing.assert_allclose(BatchStatNorm("leaky_relu").apply(v, x), leaky, atol=1e-5)
    np.testing.assert_allclose(BatchStatNorm("elu").apply(v, x), np.where(want > 0, want, np.expm1(want)), atol=1e-5)


def test_batch_stat_norm_of_parts_is_that_of_their_concatenation():
    parts = (normal(3, 1, 6, 5, 2), 4 * normal(4, 1, 6, 5, 3) - 2, normal(5, 1, 6, 5, 1))
    v = {"params": {"scale": normal(6, 6), "bias": normal(7, 6)}}
    got = BatchStatNorm("leaky_relu").apply(v, parts)
    want = BatchStatNorm("leaky_relu").apply(v, jnp.concatenate(parts, -1))
    assert [g.shape[-1] for g in got] == [2, 3, 1]
    np.testing.assert_allclose(jnp.concatenate(got, -1), want, atol=1e-6)
    assert drawn(BatchStatNorm(), parts)["params"]["scale"].shape == (6,)


def test_instance_norm_treats_images_alone():
    x = normal(8, 3, 5, 4, 2) * jnp.array([1.0, 10.0, 100.0])[:, None, None, None] + 5
    y = InstanceNorm().apply({}, x)
    np.testing.assert_allclose(y.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((1, 2)), 1, atol=1e-4)
    np.testing.assert_allclose(InstanceNorm().apply({}, x[1:2]), y[1:2], atol=1e-5)
    affine = InstanceNorm(affine=True).init(KEY, x)["params"]
    assert affine["scale"].shape == affine["bias"].shape == (2,)


def test_bfloat16_arithmetic_keeps_float32_parameters_and_statistics():
    x = normal(9, 1, 16, 16, 8)
    layer = Conv(8, dtype="bfloat16")
    v = drawn(layer, x)
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(v))
    y = layer.apply(v, x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype("float32"), Conv(8).apply(v, x), atol=0.05 * float(jnp.std(y)))
    for norm in (BatchStatNorm("leaky_relu"), InstanceNorm()):
        # With a mean of 100 and a deviation of 1, statistics taken in bfloat16 (steps of 1/2) would be far off.
        x16 = (x + 100).astype(jnp.bfloat16)
        v = {"params": {"scale": jnp.ones(8), "bias": jnp.zeros(8)}} if isinstance(norm, BatchStatNorm) else {}
        got = norm.apply(v, x16)
        assert got.dtype == jnp.bfloat16
        want = norm.apply(v, x16.astype(jnp.float32))
        np.testing.assert_allclose(got.astype("float32"), want, atol=0.02)


def test_activations_by_name():
    x = jnp.array([-2.0, 0.0, 3.0])
    np.testing.assert_allclose(activation("leaky_relu")(x), [-0.4, 0, 3])
    np.testing.assert_allclose(activation("swish")(x), x / (1 + np.exp(-x)), rtol=1e-6)
    np.testing.assert_allclose(activation("none")(x), x)
    with pytest.raises(UserError, match="did you mean 'leaky_relu'"):
        activation("leakyrelu")


def test_too_small_pictures_are_named():
    with pytest.raises(UserError, match="reflection padding by 2 .* got 2x9"):
        Conv(3, 5, pad_mode="reflect").init(KEY, jnp.zeros((1, 2, 9, 1)))
    for norm in (BatchStatNorm(), InstanceNorm()):
        with pytest.raises(UserError, match="more than one pixel"):
            norm.init(KEY, jnp.zeros((1, 1, 1, 4)))
