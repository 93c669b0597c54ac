"""conv2d, conv_transpose2d and pad2d against lax and float64 sums: values, gradients, vmap, jit, scan."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from genjax.errors import UserError
from genjax.ops import conv_cpu
from genjax.ops.conv import Geometry, _native, conv2d, conv_transpose2d
from genjax.ops.pad import pad2d

DIMS = ("NHWC", "HWIO", "NHWC")


def rand(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def lax_conv(x, w, s, pads):
    return lax.conv_general_dilated(x, w, (s, s), pads, dimension_numbers=DIMS, precision="highest")


def close(got, want, tol=1e-5):
    """Largest difference relative to the largest value."""
    assert got.shape == want.shape and got.dtype == want.dtype
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert np.abs(got - want).max() <= tol * max(1.0, np.abs(want).max())


NONE, ONE, ODD, WIDE = ((0, 0), (0, 0)), ((1, 1), (1, 1)), ((2, 1), (0, 3)), ((5, 4), (4, 6))
CASES = [
    ((1, 1), 1, NONE),
    ((1, 1), 2, ODD),
    ((2, 3), 1, NONE),
    ((2, 3), 3, WIDE),
    ((3, 3), 1, WIDE),  # more padding than the kernel reaches: the data gradient must crop
    ((3, 3), 2, ONE),
    ((3, 3), 3, ODD),
    ((4, 4), 2, ONE),
    ((4, 4), 3, NONE),
    ((5, 5), 2, WIDE),
    ((7, 7), 1, ((3, 3), (3, 3))),
    ((7, 5), 2, ODD),
]


@pytest.mark.parametrize("kernel,stride,pads", CASES)
def test_matches_lax_with_gradients(kernel, stride, pads):
    x, w = rand(0, 2, 9, 8, 3), rand(1, *kernel, 3, 4)

    @jax.jit
    def both(x, w):
        want, pull = jax.vjp(lambda x, w: lax_conv(x, w, stride, pads), x, w)
        got, mine = jax.vjp(lambda x, w: conv2d(x, w, stride=stride, padding=pads), x, w)
        dy = jnp.cos(3 * want)
        return (got, *mine(dy)), (want, *pull(dy))

    for a, b in zip(*both(x, w), strict=True):
        close(a, b)


@pytest.mark.parametrize("kind", ["F", "D", "W"])
@pytest.mark.parametrize("stride,pads", [(1, ((1, 1), (1, 1))), (2, ((1, 1), (0, 2))), (2, ((3, 3), (2, 4)))])
def test_gpu_branch_equals_cpu_branch(kind, stride, pads):
    """GPU and TPU take `_native`: check its geometry here, where no GPU is needed to run it."""
    g = Geometry(stride, pads, (9, 8), (3, 4))
    x, w = rand(0, 2, 9, 8, 3), rand(1, 3, 4, 3, 5)
    y = rand(2, 2, *g.out, 5)
    a, b = {"F": (x, w), "D": (y, w), "W": (x, y)}[kind]
    close(conv_cpu.KERNELS[kind](g, a, b), _native(kind, g, a, b))


WINOGRAD = [((64, 64), ((1, 1), (1, 1))), ((61, 67), ((2, 0), (1, 2))), ((66, 66), ((0, 0), (0, 0)))]


@pytest.mark.parametrize("size,pads", WINOGRAD)
def test_winograd_is_used_and_accurate(size, pads):
    """Large 3x3 layers run Winograd: as near to a float64 sum as float32 training needs, in all three kinds."""
    x, w = rand(0, 2, *size, 32), rand(1, 3, 3, 32, 40)
    g = Geometry(1, pads, size, (3, 3))
    assert conv_cpu._winograd_pays((3, 3), 2, g.out, 32, 40, x.dtype)
    dy = rand(2, 2, *g.out, 40)
    y = conv2d(x, w, padding=pads)
    dx, dw = jax.jit(lambda x, w, dy: jax.vjp(lambda x, w: conv2d(x, w, padding=pads), x, w)[1](dy))(x, w, dy)
    xp = np.pad(np.asarray(x, np.float64), ((0, 0), *pads, (0, 0)))
    w64, dy64 = np.asarray(w, np.float64), np.asarray(dy, np.float64)
    y64, dx64, dw64 = 0, np.zeros_like(xp), np.zeros_like(w64)
    p, q = g.out
    for k, l in itertools.product(range(3), range(3)):
        v = xp[:, k : k + p, l : l + q]
        y64 = y64 + v @ w64[k, l]
        dx64[:, k : k + p, l : l + q] += dy64 @ w64[k, l].T
        dw64[k, l] = v.reshape(-1, 32).T @ dy64.reshape(-1, 40)
    (t, b), (l, r) = pads
    dx64 = dx64[:, t : xp.shape[1] - b, l : xp.shape[2] - r]
    for got, want in ((y, y64), (dx, dx64), (dw, dw64)):
        assert np.abs(got - want).max() <= 2e-5 * want.std()
        assert np.sqrt(np.mean((got - want) ** 2)) <= 3e-6 * want.std()


@pytest.mark.parametrize("size,i,o,pads", [((32, 30), 16, 8, ONE), ((19, 32), 20, 24, ((0, 2), (1, 0))),
                                           ((17, 16), 20, 64, ((0, 0), (-1, 2))), ((64, 64), 3, 8, ONE)])
def test_4x4_at_stride_2_is_halved_and_accurate(size, i, o, pads):
    out = tuple((n + sum(ab) - 4) // 2 + 1 for n, ab in zip(size, pads, strict=True))
    g = Geometry(2, pads, size, (4, 4))
    assert g.out == out
    n = -(-(1 << 18) // min(size[0] * size[1] * i, out[0] * out[1] * o))
    x, w, y = rand(0, n, *size, i), rand(1, 4, 4, i, o), rand(2, n, *out, o)
    for kind, a, b in (("F", x, w), ("D", y, w), ("W", x, y)):
        kernel = functools.partial(conv_cpu.KERNELS[kind], g)
        halved = i >= 8 if kind != "D" else i >= 8 and min(out) >= 8
        if kind != "W":
            assert ("conv_general_dilated" in str(jax.make_jaxpr(kernel)(a, b))) != halved
        got, want = jax.jit(kernel)(a, b), jax.jit(functools.partial(_native, kind, g))(a, b)
        close(got / want.std(), want / want.std(), 3e-6)


@pytest.mark.parametrize("stride,padding,kernel", [(2, 1, 4), (2, 0, 2), (2, 1, 3), (1, 1, 3), (3, 2, 5), (2, 0, 1)])
def test_transposed_paints_stamps(stride, padding, kernel):
    x, w = rand(0, 2, 5, 4, 3), rand(1, kernel, kernel, 3, 2)
    x64, w64 = (np.asarray(v, np.float64) for v in (x, w))
    h, v = ((n - 1) * stride + kernel for n in (5, 4))
    cut = (slice(None), slice(padding, h - padding), slice(padding, v - padding))
    canvas, dcanvas = np.zeros((2, h, v, 2)), np.zeros((2, h, v, 2))
    dcanvas[cut] = dy = rand(2, *canvas[cut].shape)
    dx, dw = np.zeros_like(x64), np.zeros_like(w64)
    for i, j in itertools.product(range(5), range(4)):
        stamp = (slice(None), slice(i * stride, i * stride + kernel), slice(j * stride, j * stride + kernel))
        canvas[stamp] += np.einsum("ni,klio->nklo", x64[:, i, j], w64)
        dx[:, i, j] = np.einsum("nklo,klio->ni", dcanvas[stamp], w64)
        dw += np.einsum("nklo,ni->klio", dcanvas[stamp], x64[:, i, j])
    got, pull = jax.vjp(lambda x, w: conv_transpose2d(x, w, stride=stride, padding=padding), x, w)
    for g, want in zip((got, *pull(dy)), (canvas[cut], dx, dw), strict=True):
        assert g.shape == want.shape and np.abs(g - want).max() <= 1e-5 * want.std()


@pytest.mark.parametrize("mode", ["zero", "reflect", "edge", "circular"])
@pytest.mark.parametrize("pads", [((1, 1), (1, 1)), ((3, 0), (2, 4)), ((0, 0), (0, 1))])
def test_pad_modes(mode, pads):
    x = rand(0, 2, 5, 6, 3)
    numpy_mode = {"zero": "constant", "circular": "wrap"}.get(mode, mode)
    want, pull = jax.vjp(lambda x: jnp.pad(x, ((0, 0), *pads, (0, 0)), mode=numpy_mode), x)
    got, mine = jax.vjp(lambda x: pad2d(x, pads, mode), x)
    close(got, want, 0)
    dy = rand(1, *want.shape)
    close(mine(dy)[0], pull(dy)[0])
    again = jax.grad(lambda dy: jnp.vdot(mine(dy)[0], x))(dy)  # the gradient's own gradient is the padding
    close(again, want)


@pytest.mark.parametrize("mode", ["reflect", "edge", "circular"])
def test_conv_pads_by_mode(mode):
    x, w = rand(0, 1, 6, 7, 2), rand(1, 5, 3, 2, 3)
    numpy_mode = {"circular": "wrap"}.get(mode, mode)
    want = lax_conv(jnp.pad(x, ((0, 0), (2, 2), (1, 1), (0, 0)), mode=numpy_mode), w, 2, "VALID")
    close(conv2d(x, w, stride=2, pad_mode=mode), want)


def _penalty(conv):
    """A gradient penalty's derivative: needs grad of grad through both arguments."""

    def norm(w, x):
        dx = jax.grad(lambda x: jnp.sum(jnp.tanh(conv(x, w)) ** 2))(x)
        return jnp.sum(dx**2)

    return jax.jit(jax.grad(norm, (0, 1)))


@pytest.mark.parametrize("stride", [1, 2])
def test_second_order(stride):
    x, w = rand(0, 2, 6, 5, 2), 0.3 * rand(1, 3, 3, 2, 3)
    mine = _penalty(lambda x, w: conv2d(x, w, stride=stride, pad_mode="reflect"))(w, x)

    def slow(x, w):
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        return lax_conv(x, w, stride, "VALID")

    for a, b in zip(mine, _penalty(slow)(w, x), strict=True):
        close(a, b, 3e-5)


def test_second_order_transposed():
    x, w = rand(0, 2, 4, 3, 2), 0.3 * rand(1, 4, 4, 2, 3)
    mine = _penalty(lambda x, w: conv_transpose2d(x, w))(w, x)

    def slow(x, w):
        return lax.conv_general_dilated(
            x, w[::-1, ::-1], (1, 1), ((2, 2), (2, 2)), lhs_dilation=(2, 2), dimension_numbers=DIMS
        )

    for a, b in zip(mine, _penalty(slow)(w, x), strict=True):
        close(a, b, 3e-5)


def test_forward_mode_is_refused():
    x, w = rand(0, 1, 4, 4, 1), rand(1, 3, 3, 1, 1)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: conv2d(x, w), (x,), (x,))


# ---------------------------------------------------------------- vmap


@pytest.mark.parametrize("axes,stride", [((0, 0), 1), ((0, None), 2), ((None, 0), 2), ((3, 1), 2)])
def test_vmap(axes, stride):
    """Batched images, batched kernels, both, on any axis: values and gradients equal a Python loop."""
    xs, ws = rand(0, 3, 2, 6, 5, 2), rand(1, 3, 3, 3, 2, 4)

    def f(x, w):
        return jnp.sum(jnp.sin(conv2d(x, w, stride=stride, pad_mode="reflect")))

    arg = [v if a is not None else v[0] for v, a in zip((xs, ws), axes, strict=True)]
    moved = [jnp.moveaxis(v, 0, a) if a else v for v, a in zip(arg, axes, strict=True)]

    def one(i):
        return [v[i] if a is not None else v for v, a in zip(arg, axes, strict=True)]

    got = jax.jit(jax.vmap(jax.value_and_grad(f, (0, 1)), axes))(*moved)
    alone = jax.jit(jax.value_and_grad(f, (0, 1)))
    want = [alone(*one(i)) for i in range(3)]
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(jax.tree.map(lambda *v: jnp.stack(v), *want)), strict=True):
        close(a, b)
    # grad of vmap
    got = jax.jit(jax.grad(lambda *v: jnp.sum(jax.vmap(f, axes)(*v)), (0, 1)))(*moved)
    for g, a, parts in zip(got, axes, zip(*(w[1] for w in want), strict=True), strict=True):
        close(g, jnp.moveaxis(jnp.stack(parts), 0, a) if a is not None else sum(parts))


def test_vmap_of_batched_kernels_builds_no_grouped_convolution():
    xs, ws = rand(0, 3, 1, 8, 8, 2), rand(1, 3, 3, 3, 2, 4)
    text = jax.jit(jax.vmap(jax.grad(lambda x, w: jnp.sum(conv2d(x, w) ** 2), (0, 1)))).lower(xs, ws).as_text()
    assert "convolution" in text
    assert "feature_group_count = 3" not in text and "batch_group_count = 3" not in text


def test_nested_vmap_scan_and_remat():
    xs, ws = rand(0, 2, 3, 1, 5, 5, 2), rand(1, 2, 3, 3, 3, 2, 2)

    def f(x, w):
        def body(h, _):
            return jnp.tanh(jax.checkpoint(conv2d)(h, w)), None

        return jnp.sum(lax.scan(body, x, None, length=2)[0] ** 2)

    def slow(x, w):
        for _ in range(2):
            x = jnp.tanh(lax_conv(x, w, 1, ((1, 1), (1, 1))))
        return jnp.sum(x**2)

    alone = jax.jit(jax.grad(slow, (0, 1)))
    got = jax.jit(jax.vmap(jax.vmap(jax.grad(f, (0, 1)))))(xs, ws)
    for i, j in itertools.product(range(2), range(3)):
        for a, b in zip(got, alone(xs[i, j], ws[i, j]), strict=True):
            close(a[i, j], b)


def test_vmap_of_second_order():
    xs, ws = rand(0, 2, 1, 5, 5, 2), 0.3 * rand(1, 2, 3, 3, 2, 2)
    got = jax.vmap(_penalty(conv2d))(ws, xs)
    alone = _penalty(lambda x, w: lax_conv(x, w, 1, ((1, 1), (1, 1))))
    for i in range(2):
        for a, b in zip(got, alone(ws[i], xs[i]), strict=True):
            close(a[i], b, 3e-5)


# ---------------------------------------------------------------- types and errors


def test_bfloat16():
    x, w = rand(0, 2, 24, 24, 32).astype(jnp.bfloat16), rand(1, 3, 3, 32, 32).astype(jnp.bfloat16)
    f32 = [v.astype(jnp.float32) for v in (x, w)]
    y, pull = jax.vjp(lambda x, w: conv2d(x, w), x, w)
    y32, pull32 = jax.vjp(lambda x, w: lax_conv(x, w, 1, ((1, 1), (1, 1))), *f32)
    dy = rand(2, *y.shape).astype(jnp.bfloat16)
    for got, want in zip((y, *pull(dy)), (y32, *pull32(dy.astype(jnp.float32))), strict=True):
        assert got.dtype == jnp.bfloat16
        assert np.abs(got.astype(jnp.float32) - want).max() <= 2**-7 * np.abs(want).max()


@pytest.mark.parametrize(
    "call,match",
    [
        (lambda x, w: conv2d(x[0], w), r"N,H,W"),
        (lambda x, w: conv2d(x, w[:, :, :1]), "channels"),
        (lambda x, w: conv2d(x, w, padding="LIKE"), "SAME"),
        (lambda x, w: conv2d(x, w, pad_mode="reflekt"), "did you mean 'reflect'"),
        (lambda x, w: conv2d(x[:, :1], w, pad_mode="reflect"), "larger image"),
        (lambda x, w: conv2d(x[:, :2], w, padding="VALID"), "does not fit"),
        (lambda x, w: conv2d(x.astype(jnp.bfloat16), w), "cast"),
        (lambda x, w: conv_transpose2d(x[:, :1], w, padding=2), "cuts"),
    ],
)
def test_errors(call, match):
    with pytest.raises(UserError, match=match):
        call(rand(0, 1, 4, 4, 2), rand(1, 3, 3, 2, 2))
