"""upfirdn against the sum it stands for, its derivatives, and convolutions that resample against their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.ops.conv import conv2d
from genjax.ops.modulated_conv import modulated_conv2d
from genjax.ops.upfirdn import conv_resample, downsample2d, filter2d, upfirdn, upsample2d


def rand(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def slow(x, f, up, down, pad, flip=False):
    """Zeros between the pixels, zeros around or a crop, a convolution by loops, every down-th pixel."""
    f = np.asarray(f, np.float64)
    f = f if f.ndim == 2 else np.outer(f, f)
    f = f if flip else f[::-1, ::-1]
    n, h, w, c = x.shape
    v = np.zeros((n, h * up, w * up, c))
    v[:, ::up, ::up] = x
    v = np.pad(v, ((0, 0), *(tuple(max(p, 0) for p in ab) for ab in pad), (0, 0)))
    (t, b), (l, r) = ([max(-p, 0) for p in ab] for ab in pad)
    v = v[:, t : v.shape[1] - b, l : v.shape[2] - r]
    rows, cols = v.shape[1] - f.shape[0] + 1, v.shape[2] - f.shape[1] + 1
    y = sum(f[i, j] * v[:, i : i + rows, j : j + cols] for i in range(f.shape[0]) for j in range(f.shape[1]))
    return y[:, ::down, ::down]


ODD = ((3, 2), (-1, 4))
CASES = [
    ([1, 3, 3, 1], 1, 1, ((2, 1), (2, 1)), False),
    ([1, 3, 3, 1], 2, 1, ((2, 1), (2, 1)), False),
    ([1, 3, 3, 1], 1, 2, ((1, 1), (1, 1)), False),
    ([1, -2, 4, 0, 0.5], 2, 1, ODD, False),
    ([1, -2, 4, 0, 0.5], 1, 3, ODD, True),
    ([1, -2, 4], 3, 2, ((-2, -1), (0, -3)), False),
    (rand(5, 3, 4), 2, 1, ODD, False),
    (rand(5, 3, 4), 1, 2, ODD, True),
    ([2.0], 3, 1, ((0, 0), (0, 0)), False),
    ([1, 2], 1, 1, ((-3, -4), (-2, 5)), False),
]


@pytest.mark.parametrize("f,up,down,pad,flip", CASES)
def test_matches_the_sum_and_its_transpose(f, up, down, pad, flip):
    x = rand(0, 2, 9, 8, 3)
    want = slow(x, f, up, down, pad, flip)
    y, pull = jax.vjp(lambda x: upfirdn(x, f, up=up, down=down, pad=pad, flip=flip, normalize=False), x)
    np.testing.assert_allclose(y, want, atol=2e-5)
    dy = rand(1, *want.shape)
    dx, again = jax.vjp(lambda dy: pull(dy)[0], dy)  # <dy, A x> = <A' dy, x>, and (A')' = A
    assert dx.shape == x.shape
    np.testing.assert_allclose((np.asarray(dx, np.float64) * x).sum(), (dy * want).sum(), rtol=1e-4)
    np.testing.assert_allclose(again(x)[0], want, atol=2e-5)


def test_gradient_entry_by_entry():
    """The transpose is compared with the matrix of the sum itself, not only with one inner product."""
    f, pad = [1, -2, 4, 0.5], ((1, 2), (0, -1))
    eye = np.eye(20, dtype=np.float32).reshape(20, 4, 5, 1)
    matrix = slow(eye, f, 2, 1, pad).reshape(20, -1)
    dy = rand(1, 1, *slow(eye, f, 2, 1, pad).shape[1:])
    pull = jax.vjp(lambda x: upfirdn(x, f, up=2, pad=pad, normalize=False), eye[:1])[1]
    np.testing.assert_allclose(pull(dy)[0].ravel(), matrix @ dy.ravel(), atol=1e-5)


def test_convenience_forms_sizes_gain_and_place():
    x, f = rand(0, 2, 8, 6, 3), np.asarray([1, 3, 3, 1]) / 8
    np.testing.assert_allclose(upsample2d(x), slow(x, 2 * f, 2, 1, ((2, 1), (2, 1))), atol=1e-5)
    np.testing.assert_allclose(downsample2d(x), slow(x, f, 1, 2, ((1, 1), (1, 1))), atol=1e-5)
    np.testing.assert_allclose(filter2d(x, (1, 2, 1)), slow(x, [0.25, 0.5, 0.25], 1, 1, ((1, 1), (1, 1))), atol=1e-5)
    ones = jnp.ones((1, 8, 8, 1))
    np.testing.assert_allclose(upsample2d(ones)[0, 2:-2, 2:-2, 0], 1, atol=1e-6)
    np.testing.assert_allclose(upsample2d(x, (1, 1)), x.repeat(2, 1).repeat(2, 2), atol=1e-6)  # nearest
    np.testing.assert_allclose(downsample2d(x, (1, 1)), x.reshape(2, 4, 2, 3, 2, 3).mean((2, 4)), atol=1e-6)


def test_under_jit_and_vmap():
    x = rand(0, 3, 2, 8, 6, 4)
    got = jax.jit(jax.vmap(jax.grad(lambda x: (upsample2d(x) ** 3).sum())))(x)
    for a, b in zip(got, x, strict=True):
        np.testing.assert_allclose(a, jax.grad(lambda x: (upsample2d(x) ** 3).sum())(b), rtol=1e-4, atol=1e-4)


def test_errors_are_one_line():
    x = jnp.zeros((1, 4, 4, 1))
    for call in (lambda: upfirdn(x, (1.0,) * 9), lambda: upfirdn(x, None, up=0), lambda: upfirdn(x, (1, -1)),
                 lambda: upfirdn(x[0], None), lambda: conv_resample(x, jnp.zeros((2, 2, 1, 1))),
                 lambda: conv_resample(x, jnp.zeros((3, 3, 1, 1)), up=2, down=2)):
        with pytest.raises(UserError) as e:
            call()
        assert "\n" not in str(e.value)


@pytest.mark.parametrize("k", [1, 3])
def test_resampling_convolutions(k):
    """Up: filter the image with zeros between its pixels, convolve (kernel flipped); down: filter, convolve, thin."""
    x, w, f = rand(0, 2, 6, 8, 3), rand(1, k, k, 3, 4), np.asarray([1, 3, 3, 1]) / 8
    p = k // 2
    # padding once, around both operations, as in the paper's code
    wide = slow(x, 2 * f, 2, 1, ((2 + p, 1 + p), (2 + p, 1 + p)))
    up = conv2d(jnp.asarray(wide, jnp.float32), w[::-1, ::-1], padding="VALID")
    np.testing.assert_allclose(conv_resample(x, w, up=2), up, atol=2e-5)
    soft = slow(x, f, 1, 1, ((1 + p, 1 + p), (1 + p, 1 + p)))
    down = conv2d(jnp.asarray(soft, jnp.float32), w, stride=2, padding="VALID")
    np.testing.assert_allclose(conv_resample(x, w, down=2), down, atol=2e-5)


# ---------------------------------------------------------------- modulated convolution


def slow_modulated(x, w, s, demodulate):
    out = []
    for image, style in zip(x.astype(np.float64), s.astype(np.float64), strict=True):
        kernel = w * style[:, None]
        if demodulate:
            kernel = kernel / np.sqrt((kernel**2).sum((0, 1, 2)) + 1e-8)
        h, v = image.shape[:2]
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
        out.append(sum(padded[i : i + h, j : j + v] @ kernel[i, j] for i in range(3) for j in range(3)))
    return np.stack(out)


@pytest.mark.parametrize("demodulate", [True, False])
def test_modulated_convolution_matches_a_kernel_per_image(demodulate):
    x, w, s = rand(0, 3, 5, 6, 4), rand(1, 3, 3, 4, 5), rand(2, 3, 4) + 1
    want = slow_modulated(x, w, s, demodulate)
    for algorithm in ("scaled", "grouped"):
        np.testing.assert_allclose(modulated_conv2d(x, w, s, demodulate=demodulate, algorithm=algorithm), want,
                                   atol=1e-5 * max(1, np.abs(want).max()))


@pytest.mark.parametrize("sampling", [dict(up=2), dict(down=2)])
def test_the_two_algorithms_agree_with_gradients(sampling):
    x, w, s = rand(0, 2, 4, 4, 4), rand(1, 3, 3, 4, 5), rand(2, 2, 4) + 1

    def gradients(algorithm):
        def loss(args):
            y = modulated_conv2d(*args, algorithm=algorithm, **sampling)
            return (y**2 * jnp.cos(jnp.arange(y.size).reshape(y.shape))).sum(), y

        (_, y), g = jax.value_and_grad(loss, has_aux=True)((x, w, s))
        return [y, *g]

    scaled, grouped = jax.jit(lambda: (gradients("scaled"), gradients("grouped")))()
    for a, b in zip(scaled, grouped, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())


def test_demodulation_oracle_and_half_precision():
    """All ones, 512 channels: d = .0147313913; in 16 bits weights and styles far beyond float16's range still work."""
    y = modulated_conv2d(jnp.ones((1, 3, 3, 512)), jnp.ones((3, 3, 512, 1)), jnp.ones((1, 512)))
    np.testing.assert_allclose(y[0, 1, 1, 0] / (9 * 512), 0.0147313913, rtol=1e-5)
    x, w, s = rand(0, 2, 4, 4, 8), rand(1, 3, 3, 8, 5), rand(2, 2, 8)
    want = modulated_conv2d(x, w, s)
    for dtype in (jnp.float16, jnp.bfloat16):
        got = modulated_conv2d(jnp.asarray(x, dtype), w * 1e6, s * 1e4)
        assert got.dtype == dtype
        np.testing.assert_allclose(np.asarray(got, np.float32), want, atol=0.05)


def test_wrong_styles_are_refused():
    x, w = jnp.zeros((2, 4, 4, 3)), jnp.zeros((3, 3, 3, 1))
    with pytest.raises(UserError, match="styles"):
        modulated_conv2d(x, w, jnp.zeros((2, 4)))
    with pytest.raises(UserError, match="grouped"):
        modulated_conv2d(x, w, jnp.zeros((2, 3)), algorithm="groupd")
