"""Equalised layers: scale at run time, variance, learning-rate multiplier; pixel norm; minibatch standard deviation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.nn.equalized import EqualConv, EqualDense, minibatch_std, pixel_norm
from genjax.ops.conv import conv2d


def rand(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_dense_scales_at_run_time():
    x = rand(0, 4, 64)
    layer = EqualDense(32, gain=1.5, lr_multiplier=0.01, bias_init=3.0, act="leaky_relu", act_gain=2.0)
    v = layer.init(jax.random.key(0), x)["params"]
    assert abs(v["kernel"].std() / 100 - 1) < 0.05  # N(0, 1/m^2)
    y = x @ np.asarray(v["kernel"]) * (1.5 * 0.01 / 8) + 0.01 * 3.0
    np.testing.assert_allclose(layer.apply({"params": v}, x), 2 * np.where(y > 0, y, 0.2 * y), atol=1e-5)


def test_conv_keeps_the_variance_and_clamps():
    x = rand(0, 2, 8, 8, 64)
    layer = EqualConv(64)
    v = layer.init(jax.random.key(0), x)
    y = layer.apply(v, x)
    assert abs(float(y[:, 1:-1, 1:-1].std()) - 1) < 0.1
    np.testing.assert_allclose(y, conv2d(x, v["params"]["kernel"] / 24), atol=1e-4)
    assert float(jnp.abs(EqualConv(64, clamp=0.5).apply(v, x)).max()) == 0.5
    assert EqualConv(64, down=2).apply(v, x).shape == (2, 4, 4, 64)
    low = EqualConv(64, dtype="bfloat16").apply(v, x)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(low.astype(jnp.float32), y, atol=0.06)


def test_box_filter_is_the_fused_layer_of_progressive_gan():
    """Repeat the pixels, then convolve = one transposed convolution and a box filter (kernel flipped)."""
    x = rand(0, 1, 4, 4, 2)
    layer = EqualConv(3, up=2, fir=(1.0, 1.0))
    v = layer.init(jax.random.key(0), x)
    w = v["params"]["kernel"][::-1, ::-1] / np.sqrt(18)
    np.testing.assert_allclose(layer.apply(v, x), conv2d(x.repeat(2, 1).repeat(2, 2), w), atol=1e-5)


def test_pixel_norm_oracle():
    np.testing.assert_allclose(pixel_norm(jnp.asarray([3.0, 4.0])), [0.8485281, 1.1313709], rtol=1e-6)


def test_minibatch_std_by_hand():
    x = rand(0, 6, 2, 2, 4)
    got = np.asarray(minibatch_std(x, 3, 2))
    np.testing.assert_array_equal(got[..., :4], x)
    for n in range(6):
        group = x[n % 2 :: 2]
        for f in range(2):
            std = np.sqrt(group[..., 2 * f : 2 * f + 2].var(0) + 1e-8).mean()
            np.testing.assert_allclose(got[n, ..., 4 + f], std, rtol=1e-5)
    np.testing.assert_allclose(minibatch_std(x, None)[..., 4], np.sqrt(x.var(0) + 1e-8).mean(), rtol=1e-5)
    with pytest.raises(UserError, match="groups of 4"):
        minibatch_std(x, 4)
    with pytest.raises(UserError, match="features"):
        minibatch_std(x, 3, 3)
