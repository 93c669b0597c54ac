"""Every linear op of genjax.ops (and max pooling), values and gradients, as it stands and under jit, vmap and scan.

The reference is float64 numpy: each op written as the obvious loop, its gradient by applying that loop to every
basis image, <f(e), dy>. Errors are in standard deviations of the result. `test_sharded.py` runs the same cases on
eight devices.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy import ndimage

from genjax.ops.conv import conv2d, conv_transpose2d
from genjax.ops.pad import pad2d
from genjax.ops.resample import (
    avg_pool2x,
    downsample,
    downsampling_kernel,
    gaussian_blur,
    max_pool2x,
    resize,
    upsample2x,
)

IMAGE = (8, 9, 2)  # H, W, C of every case
TOLERANCE = 1e-5

# ---------------------------------------------------------------- the slow references


def pixels(h, w):
    return itertools.product(range(h), range(w))


def slow_conv(x, w, stride, pad):
    x, (k, l) = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0))), w.shape[:2]
    y = np.zeros((len(x), (x.shape[1] - k) // stride + 1, (x.shape[2] - l) // stride + 1, w.shape[3]))
    for i, j in pixels(*y.shape[1:3]):
        window = x[:, i * stride : i * stride + k, j * stride : j * stride + l]
        y[:, i, j] = np.tensordot(window, w, 3)
    return y


def slow_transposed(x, w, stride, pad):
    n, h, v, _ = x.shape
    k = len(w)
    y = np.zeros((n, (h - 1) * stride + k, (v - 1) * stride + k, w.shape[3]))
    for i, j in pixels(h, v):
        y[:, i * stride : i * stride + k, j * stride : j * stride + k] += np.einsum("ni,klio->nklo", x[:, i, j], w)
    return y[:, pad : y.shape[1] - pad, pad : y.shape[2] - pad]


def slow_blocks(x, reduce):
    y = np.zeros((len(x), x.shape[1] // 2, x.shape[2] // 2, x.shape[3]))
    for i, j in pixels(*y.shape[1:3]):
        y[:, i, j] = reduce(x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2], (1, 2))
    return y


def max_gradient(x, dy):
    g = np.zeros_like(x)
    for n, i, j, c in np.ndindex(*dy.shape):
        block = x[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        k, l = divmod(int(block.argmax()), 2)
        g[n, 2 * i + k, 2 * j + l, c] = dy[n, i, j, c]
    return g


def sinc(t):
    return 1.0 if t == 0 else math.sin(math.pi * t) / (math.pi * t)


def cubic(t):
    t = abs(t)
    if t <= 1:
        return 1.5 * t**3 - 2.5 * t**2 + 1
    return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t <= 2 else 0.0


KERNELS = {
    "bilinear": lambda t: max(1 - abs(t), 0.0),
    "bicubic": cubic,
    "lanczos2": lambda t: sinc(t) * sinc(t / 2) if abs(t) < 2 else 0.0,
    "lanczos3": lambda t: sinc(t) * sinc(t / 3) if abs(t) < 3 else 0.0,
    "box": lambda t: float(abs(t) < 0.5),
}


def slow_axis(out, size, method, antialias):
    """[out, size]. Antialiased: the stretched kernel over the pixels there are; else the edge pixel goes on."""
    if method == "area":  # cut every pixel into `out` equal parts and average `size` of them at a time
        return np.repeat(np.eye(size), out, 0).reshape(out, size, size).mean(1)
    r = np.zeros((out, size))
    for i in range(out):
        if method == "nearest":
            r[i, (2 * i + 1) * size // (2 * out)] = 1
        elif antialias:
            for j in range(size):
                r[i, j] = KERNELS[method]((j + 0.5 - (i + 0.5) * size / out) / max(size / out, 1))
        else:
            for j in range(-5, size + 5):
                r[i, min(max(j, 0), size - 1)] += KERNELS[method](j + 0.5 - (i + 0.5) * size / out)
    return r / r.sum(1, keepdims=True)


def slow_resize(x, shape, method, antialias=True):
    rows, cols = (slow_axis(o, n, method, antialias) for o, n in zip(shape, x.shape[1:3], strict=True))
    return np.einsum("ph,nhwc,qw->npqc", rows, x, cols)


def slow_downsample(x, kernel, factor, pad):
    k = len(kernel)
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
    y = np.zeros((len(x), (x.shape[1] - k) // factor + 1, (x.shape[2] - k) // factor + 1, x.shape[3]))
    for i, j in pixels(*y.shape[1:3]):
        window = x[:, i * factor : i * factor + k, j * factor : j * factor + k]
        y[:, i, j] = np.einsum("nklc,kl->nc", window, kernel)
    return y


def lanczos_by_4():
    row = [KERNELS["lanczos2"]((i - 7.5) / 4) for i in range(16)]
    return np.outer(row, row) / np.sum(np.outer(row, row))


# ---------------------------------------------------------------- the cases


class Case(NamedTuple):
    """op(x) or op(x, kernel) in jax, the same in float64 numpy; linear in each unless `gradient`(x, dy) is given."""

    op: Callable
    slow: Callable
    kernel: tuple[int, ...] | None = None
    gradient: Callable | None = None


def _resize(method, shape, antialias=True):
    return Case(
        lambda x: resize(x, shape, method, antialias), lambda x: slow_resize(x, shape, method, antialias)
    )


def _pad(mode, numpy_mode):
    pads = ((3, 0), (1, 4))
    return Case(lambda x: pad2d(x, pads, mode), lambda x: np.pad(x, ((0, 0), *pads, (0, 0)), mode=numpy_mode))


CASES = {
    "conv3": Case(conv2d, lambda x, w: slow_conv(x, w, 1, 1), (3, 3, 2, 4)),
    "conv3_stride2": Case(
        lambda x, w: conv2d(x, w, stride=2), lambda x, w: slow_conv(x, w, 2, 1), (3, 3, 2, 4)
    ),
    "conv1": Case(conv2d, lambda x, w: slow_conv(x, w, 1, 0), (1, 1, 2, 4)),
    "transposed": Case(conv_transpose2d, lambda x, w: slow_transposed(x, w, 2, 1), (4, 4, 2, 4)),
    "up_bilinear": Case(upsample2x, lambda x: slow_resize(x, (16, 18), "bilinear", False)),
    "up_nearest": Case(lambda x: upsample2x(x, "nearest"), lambda x: x.repeat(2, 1).repeat(2, 2)),
    "avg_pool": Case(avg_pool2x, lambda x: slow_blocks(x, np.mean)),
    "max_pool": Case(max_pool2x, lambda x: slow_blocks(x, np.max), gradient=max_gradient),
    # rows shrink, columns grow
    **{f"resize_{m}": _resize(m, (5, 13)) for m in (*KERNELS, "area", "nearest")},
    **{f"resize_{m}_sharp": _resize(m, (5, 13), False) for m in ("bilinear", "bicubic", "lanczos2")},
    "downsample": Case(
        lambda x: downsample(x, downsampling_kernel(4, "lanczos2"), 4),
        lambda x: slow_downsample(x, lanczos_by_4(), 4, 6),
    ),
    # a kernel that is not an outer product runs as a strided convolution
    "downsample_any": Case(lambda x, k: downsample(x, k, 2), lambda x, k: slow_downsample(x, k, 2, 1), (3, 3)),
    "blur": Case(
        lambda x: gaussian_blur(x, 1.3), lambda x: ndimage.gaussian_filter(x, (0, 1.3, 1.3, 0), mode="nearest")
    ),
    "pad_zero": _pad("zero", "constant"),
    "pad_reflect": _pad("reflect", "reflect"),
    "pad_edge": _pad("edge", "edge"),
    "pad_circular": _pad("circular", "wrap"),
}


def draw(case, *lead):
    """Arguments and cotangent of a case, float32, with leading axes: x [*lead, N..]."""
    r = np.random.default_rng(0)
    *outer, n = lead
    args = [r.standard_normal((*outer, n, *IMAGE))]
    if case.kernel:
        args.append(r.standard_normal((*outer, *case.kernel)))
    first = [v[(0,) * len(outer)] for v in args]
    dy = r.standard_normal((*outer, *case.slow(*first).shape))
    return [v.astype(np.float32) for v in args], dy.astype(np.float32)


def wanted(case, args, dy):
    """[y, dx] or [y, dx, dkernel] in float64."""
    x, *kernel = (np.asarray(v, np.float64) for v in args)
    dy = np.asarray(dy, np.float64)
    if case.gradient:
        return [case.slow(x), case.gradient(x, dy)]
    basis = np.eye(x[0].size).reshape(-1, *x.shape[1:])
    dx = np.tensordot(dy, case.slow(basis, *kernel), ((1, 2, 3), (1, 2, 3))).reshape(x.shape)
    out = [case.slow(x, *kernel), dx]
    for k in kernel:
        basis = np.eye(k.size).reshape(-1, *k.shape)
        out.append(np.reshape([np.vdot(case.slow(x, e), dy) for e in basis], k.shape))
    return out


def both(case):
    """(args, dy) -> (y, gradients...)."""

    def value_and_vjp(args, dy):
        y, pull = jax.vjp(case.op, *args)
        return y, *pull(dy)

    return value_and_vjp


def close(got, want):
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape and g.dtype == jnp.float32
        assert np.abs(np.asarray(g, np.float64) - w).max() <= TOLERANCE * w.std()


# without LLVM's optimisation passes compiling is faster; XLA's own rewrites stay
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

# ---------------------------------------------------------------- tests

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@every_case
def test_plain_and_jit(case):
    args, dy = draw(case, 2)
    want = wanted(case, args, dy)
    close(both(case)([jnp.asarray(v) for v in args], dy), want)
    close(jax.jit(both(case))(args, dy), want)


AXES = [pytest.param((0, 0), id="both"), pytest.param((0, None), id="image"), pytest.param((None, 0), id="kernel")]


@pytest.mark.parametrize(
    "case,axes",
    [
        pytest.param(c, a.values[0][: 1 + bool(c.kernel)], id=f"{name}-{a.id}")
        for name, c in CASES.items()
        for a in (AXES if c.kernel else AXES[:1])
    ],
)
def test_vmap(case, axes):
    """Over images, kernels or both; the gradient is inside, so an argument that is not mapped gets one per member."""
    args, dy = draw(case, 3, 2)
    args = [v if a is not None else v[0] for v, a in zip(args, axes, strict=True)]
    got = quick_jit(jax.vmap(both(case), (list(axes), 0)))(args, dy)
    for b in range(3):
        mine = [v[b] if a is not None else v for v, a in zip(args, axes, strict=True)]
        close([g[b] for g in got], wanted(case, mine, dy[b]))


@every_case
def test_scan(case):
    """y_t = f(x_0 + ... + x_t, kernel): reverse mode runs through the carry and sums the kernel's gradient."""
    (xs, *kernel), dys = draw(case, 3, 2)
    kernel = [k[0] for k in kernel]

    def scanned(xs, *kernel):
        def body(total, x):
            total = total + x
            return total, case.op(total, *kernel)

        return lax.scan(body, jnp.zeros_like(xs[0]), xs)[1]

    got = quick_jit(both(Case(scanned, None)))([xs, *kernel], dys)
    steps = [wanted(case, [x, *kernel], dy) for x, dy in zip(np.cumsum(xs, 0), dys, strict=True)]
    y, dx, *dk = (np.stack(v) for v in zip(*steps, strict=True))
    close(got, [y, dx[::-1].cumsum(0)[::-1], *(k.sum(0) for k in dk)])


# ---------------------------------------------------------------- which arithmetic runs where


def lowered(f, args, platform):
    """The program of f for a platform that need not be here, before XLA's own passes."""
    return jax.jit(f).trace(*args).lower(lowering_platforms=(platform,)).as_text()


def count(text):
    return text.count("stablehlo.convolution"), text.count("stablehlo.dot_general")


# convolutions and matrix products on a CPU for y, dx and dw: a product per tap of the kernel for dw, a convolution per
# phase of a stride (of 3x3 the last phase has one tap: a product), and 1x1 is all products
CPU_COUNTS = {"conv3": (2, 9), "conv3_stride2": (1 + 3, 9 + 1), "conv1": (0, 3), "transposed": (4 + 1, 16)}


@pytest.mark.parametrize("name", CPU_COUNTS)
def test_gpu_and_tpu_keep_their_own_convolution(name):
    (x, w), dy = draw(CASES[name], 2)
    f = both(CASES[name])
    for platform in ("cuda", "rocm", "tpu"):
        assert count(lowered(f, ([x, w], dy), platform)) == (3, 0)
    assert count(lowered(f, ([x, w], dy), "cpu")) == CPU_COUNTS[name]


@pytest.mark.parametrize("name", CPU_COUNTS)
def test_gpu_and_tpu_keep_grouped_convolution_under_vmap(name):
    args, dy = draw(CASES[name], 3, 2)
    for platform in ("cuda", "tpu"):
        text = lowered(jax.vmap(both(CASES[name])), (args, dy), platform)
        assert count(text) == (3, 0) and text.count("_group_count = 3") == 3 and "stablehlo.while" not in text
    assert "_group_count = 3" not in lowered(jax.vmap(both(CASES[name])), (args, dy), "cpu")
