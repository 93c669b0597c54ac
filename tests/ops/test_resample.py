"""Resampling against PIL, scipy, explicit loops and the numbers published for Deep Image Prior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genjax.errors import UserError
from genjax.ops.resample import (
    avg_pool2x,
    downsample,
    downsampling_kernel,
    gaussian_blur,
    max_pool2x,
    resize,
    resize_matrix,
    upsample2x,
)


def rand(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).random(shape), jnp.float32)


PIL = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos3": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}


@pytest.mark.parametrize("method", PIL)
@pytest.mark.parametrize("shape", [(12, 17), (80, 61), (37, 20), (5, 100), (37, 53)])
def test_resize_equals_pil_float(method, shape):
    x = rand(0, 1, 37, 53, 2)
    y = resize(x, shape, method)
    for c in range(2):
        want = np.asarray(Image.fromarray(np.asarray(x[0, :, :, c])).resize(shape[::-1], PIL[method]))
        np.testing.assert_allclose(y[0, :, :, c], want, atol=1e-6)


def test_area_is_exact_overlap():
    x = rand(0, 1, 12, 10, 1)
    np.testing.assert_allclose(
        resize(x, (4, 5), "area"), x.reshape(1, 4, 3, 5, 2, 1).mean((2, 4)), atol=1e-6
    )
    # 3 -> 2: outputs cover pixels [0, 1.5) and [1.5, 3)
    np.testing.assert_allclose(resize_matrix(2, 3, "area"), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], atol=1e-7)


@pytest.mark.parametrize("method", ["bilinear", "bicubic", "lanczos2", "lanczos3", "area", "nearest"])
@pytest.mark.parametrize("antialias", [True, False])
def test_constants_survive(method, antialias):
    x = jnp.full((1, 9, 7, 2), 0.3)
    np.testing.assert_allclose(resize(x, (5, 16), method, antialias), 0.3, atol=1e-6)


def test_bilinear_without_antialias_interpolates():
    ramp = jnp.arange(8.0)[None, :, None, None]
    y = resize(ramp, (4, 1), "bilinear", antialias=False)[0, :, 0, 0]
    np.testing.assert_allclose(y, [0.5, 2.5, 4.5, 6.5], atol=1e-6)


def test_resize_gradient_is_the_transpose():
    x, dy = rand(0, 1, 9, 7, 2), rand(1, 1, 5, 16, 2)
    g = jax.grad(lambda x: jnp.vdot(resize(x, (5, 16), "bicubic"), dy))(x)
    rows, cols = resize_matrix(5, 9, "bicubic"), resize_matrix(16, 7, "bicubic")
    np.testing.assert_allclose(g, np.einsum("ph,npqc,qw->nhwc", rows, dy, cols), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 3), (8, 6)])
def test_upsample2x_against_a_loop(size):
    h, w = size
    x = rand(0, 2, h, w, 3)
    want = np.zeros((2, 2 * h, 2 * w, 3))
    for i in range(2 * h):
        for j in range(2 * w):
            u, v = np.clip((i + 0.5) / 2 - 0.5, 0, h - 1), np.clip((j + 0.5) / 2 - 0.5, 0, w - 1)
            a, b = int(u), int(v)
            a1, b1 = min(a + 1, h - 1), min(b + 1, w - 1)
            p, q = u - a, v - b
            top = (1 - q) * x[:, a, b] + q * x[:, a, b1]
            want[:, i, j] = (1 - p) * top + p * ((1 - q) * x[:, a1, b] + q * x[:, a1, b1])
    np.testing.assert_allclose(upsample2x(x), want, atol=1e-6)
    np.testing.assert_array_equal(upsample2x(x, "nearest"), np.kron(x, np.ones((1, 2, 2, 1))))


@pytest.mark.parametrize("f", [upsample2x, lambda x: upsample2x(x, "nearest"), avg_pool2x], ids=["bi", "near", "avg"])
def test_linear_ops_have_transposed_gradients(f):
    """<f(x), y> = <x, f^T(y)> for every basis image: the gradient is the transposed matrix, to any order."""
    x = rand(0, 1, 4, 6, 1)
    y = rand(1, *f(x).shape)
    matrix = np.stack([np.ravel(f(e.reshape(1, 4, 6, 1))) for e in jnp.eye(24)], 1)
    g = jax.vjp(f, x)[1](y)[0]
    np.testing.assert_allclose(np.ravel(g), matrix.T @ np.ravel(y), atol=1e-5)
    again = jax.grad(lambda y: jnp.vdot(jax.vjp(f, x)[1](y)[0], x))(y)
    np.testing.assert_allclose(again, f(x), atol=1e-5)


def test_pools():
    x = rand(0, 2, 5, 7, 3)
    blocks = np.asarray(x[:, :4, :6]).reshape(2, 2, 2, 3, 2, 3)
    np.testing.assert_allclose(avg_pool2x(x), blocks.mean((2, 4)), atol=1e-6)
    np.testing.assert_array_equal(max_pool2x(x), blocks.max((2, 4)))
    g = jax.grad(lambda x: max_pool2x(x).sum())(x)
    assert g.sum() == 2 * 2 * 3 * 3 and set(np.unique(g)) == {0.0, 1.0}
    with pytest.raises(UserError, match="2x2"):
        avg_pool2x(x[:, :1])


def test_downsampling_kernels():
    k = downsampling_kernel(4, "lanczos2")
    assert k.shape == (16, 16) and k.dtype == np.float32
    half = [-0.001065, -0.009752, -0.020384, -0.014878, 0.024594, 0.098658, 0.183115, 0.239711]
    np.testing.assert_allclose(k.sum(0), half + half[::-1], atol=1e-6)
    np.testing.assert_allclose([k.max(), k.min(), k.sum()], [0.057461, -0.004886, 1], atol=1e-6)
    assert downsampling_kernel(8).shape == (32, 32)
    np.testing.assert_allclose(downsampling_kernel(8).max(), 0.015079, atol=1e-6)
    assert downsampling_kernel(4, "lanczos3", phase=0).shape == (25, 25)
    assert downsampling_kernel(4, "gauss12").shape == (7, 7)
    np.testing.assert_allclose(downsampling_kernel(3, "box"), np.full((3, 3), 1 / 9), atol=1e-7)
    with pytest.raises(UserError, match="did you mean 'lanczos2'"):
        downsampling_kernel(4, "lanczo2")


@pytest.mark.parametrize(
    "factor,kind,phase", [(4, "lanczos2", 0.5), (2, "lanczos3", 0), (2, "gauss12", 0), (4, "box", 0.5)]
)
@pytest.mark.parametrize("preserve", [True, False])
def test_downsample_against_a_loop(factor, kind, phase, preserve):
    """The matrix form, the convolution form (kernel not known at trace time) and a plain loop agree."""
    x = rand(0, 2, 32, 40, 2)
    k = downsampling_kernel(factor, kind, phase)
    n = k.shape[0]
    pad = ((n - 1) // 2 if n % 2 else (n - factor) // 2) if preserve else 0
    xp = np.pad(np.asarray(x, np.float64), ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
    h, w = ((s - n) // factor + 1 for s in xp.shape[1:3])
    want = np.zeros((2, h, w, 2))
    for i in range(h):
        for j in range(w):
            window = xp[:, i * factor : i * factor + n, j * factor : j * factor + n]
            want[:, i, j] = np.einsum("nklc,kl->nc", window, k.astype(np.float64))
    if preserve:
        assert (h, w) == (32 // factor, 40 // factor)
    np.testing.assert_allclose(downsample(x, k, factor, preserve), want, atol=2e-6)
    np.testing.assert_allclose(jax.jit(lambda k: downsample(x, k, factor, preserve))(k), want, atol=2e-6)


def test_gaussian_blur_equals_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    x = rand(0, 1, 21, 17, 2)
    want = ndimage.gaussian_filter(np.asarray(x), (0, 1.7, 1.7, 0), mode="nearest")
    np.testing.assert_allclose(gaussian_blur(x, 1.7), want, atol=1e-6)
    assert gaussian_blur(x, 0) is x


def test_vmap_and_bfloat16():
    x = rand(0, 3, 1, 6, 5, 2)
    for f in (upsample2x, lambda x: resize(x, (4, 9)), lambda x: gaussian_blur(x, 1.0), max_pool2x):
        np.testing.assert_allclose(jax.vmap(f)(x), jnp.stack([f(v) for v in x]), atol=1e-6)
        y = f(x[0].astype(jnp.bfloat16))
        assert y.dtype == jnp.bfloat16
        np.testing.assert_allclose(y.astype(jnp.float32), f(x[0]), atol=0.02)


@pytest.mark.parametrize(
    "call,match",
    [
        (lambda x: resize(x, (4, 4), "bicubik"), "did you mean 'bicubic'"),
        (lambda x: resize(x[0], (4, 4)), "N,H,W,C"),
        (lambda x: resize(x, (0, 4)), "1x1"),
        (lambda x: upsample2x(x, "bilinera"), "did you mean 'bilinear'"),
        (lambda x: gaussian_blur(x, -1), "negative"),
        (lambda x: downsample(x, downsampling_kernel(4), 4, False), "too short"),
    ],
)
def test_errors(call, match):
    with pytest.raises(UserError, match=match):
        call(rand(0, 1, 6, 6, 1))
