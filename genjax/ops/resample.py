"""Resampling of NHWC images: x2 up-sampling, pooling, separable resizing, strided blur, Gaussian blur.

Letters: x[N,H,W,C] image batch, R[out,in] resampling matrix of one axis, f integer factor, k[k,k] kernel.
Every axis convention is align_corners=False: pixel i covers [i, i+1), its centre is i + 1/2.

Resizing and strided blurs are written as dense matrices, one per axis: they are small (a 512 -> 128
Lanczos matrix is 256 KiB), exact at the borders, and their gradient is the transposed matrix product.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from genjax.errors import UserError, unknown


def _check_nhwc(x, what):
    if x.ndim != 4:
        raise UserError(f"{what} wants an image batch [N,H,W,C], got shape {tuple(x.shape)}; add the missing axis")


# ---------------------------------------------------------------- x2 up-sampling and pooling


def _interleave(even, odd, axis):
    shape = list(even.shape)
    shape[axis] *= 2
    return jnp.stack([even, odd], axis + 1).reshape(shape)


def _split(y, axis):
    """The even and the odd pixels along `axis`."""
    shape = (*y.shape[:axis], y.shape[axis] // 2, 2, *y.shape[axis + 1 :])
    y = y.reshape(shape)
    return tuple(lax.index_in_dim(y, i, axis + 1, keepdims=False) for i in (0, 1))


def _shifted(x, axis, by, fill):
    """x moved by one pixel along `axis`, the freed place taken from the same place of `fill`."""
    n = x.shape[axis]
    cut = functools.partial(lax.slice_in_dim, axis=axis)
    if by > 0:
        return jnp.concatenate([cut(fill, 0, 1), cut(x, 0, n - 1)], axis)
    return jnp.concatenate([cut(x, 1, n), cut(fill, n - 1, n)], axis)


@jax.custom_vjp
def _bilinear2x(x):
    for axis in (1, 2):
        even = 0.75 * x + 0.25 * _shifted(x, axis, 1, x)
        odd = 0.75 * x + 0.25 * _shifted(x, axis, -1, x)
        x = _interleave(even, odd, axis)
    return x


@jax.custom_vjp
def _bilinear2x_transposed(y):
    for axis in (2, 1):
        even, odd = _split(y, axis)
        y = 0.75 * (even + odd) + 0.25 * (_shifted(even, axis, -1, odd) + _shifted(odd, axis, 1, even))
    return y


# each is the other's transpose, so derivatives of any order exist
_bilinear2x.defvjp(lambda x: (_bilinear2x(x), None), lambda _, dy: (_bilinear2x_transposed(dy),))
_bilinear2x_transposed.defvjp(lambda y: (_bilinear2x_transposed(y), None), lambda _, dx: (_bilinear2x(dx),))


def upsample2x(x, method="bilinear"):
    """Double height and width. [N,H,W,C] -> [N,2H,2W,C], any float dtype.

    "bilinear": out[2i] = x[i-1]/4 + 3x[i]/4, out[2i+1] = 3x[i]/4 + x[i+1]/4, edge clamped, per axis: exactly
    torch's `Upsample(scale_factor=2, align_corners=False)`. "nearest": every pixel becomes a 2 x 2 block.
    """
    _check_nhwc(x, "upsample2x")
    if method == "nearest":
        n, h, w, c = x.shape
        return jnp.broadcast_to(x[:, :, None, :, None], (n, h, 2, w, 2, c)).reshape(n, 2 * h, 2 * w, c)
    if method != "bilinear":
        raise unknown("up-sampling method", method, ["bilinear", "nearest"])
    return _bilinear2x(x)


def _blocks(x, what):
    _check_nhwc(x, what)
    n, h, w, c = x.shape
    if h < 2 or w < 2:
        raise UserError(f"{what} needs an image of at least 2x2 pixels, got {h}x{w}")
    return x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c)


def avg_pool2x(x):
    """Mean over 2 x 2 blocks, [N,H,W,C] -> [N,H//2,W//2,C]; an odd last row or column is dropped (as in torch)."""
    return _blocks(x, "avg_pool2x").mean((2, 4))


def max_pool2x(x):
    """Maximum over 2 x 2 blocks, [N,H,W,C] -> [N,H//2,W//2,C]; an odd last row or column is dropped (as in torch)."""
    height, width = _blocks(x, "max_pool2x").shape[1:4:2]
    x = x[:, : 2 * height, : 2 * width]
    # By comparison, not `max`: the gradient of a reduction looks for x == max, and under jit the two sides may be
    # computed with different rounding, which loses gradient.
    a, b = x[:, ::2], x[:, 1::2]
    x = jnp.where(b > a, b, a)
    a, b = x[:, :, ::2], x[:, :, 1::2]
    return jnp.where(b > a, b, a)


# ---------------------------------------------------------------- resizing by separable matrices


def _triangle(t):
    return np.maximum(1 - np.abs(t), 0)


def _cubic(t, a=-0.5):
    """Keys' cubic; a = -1/2 is PIL's choice (torch and OpenCV take -3/4)."""
    t = np.abs(t)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = (((t - 5) * t + 8) * t - 4) * a
    return np.where(t < 1, near, np.where(t < 2, far, 0.0))


def _lanczos(t, lobes):
    return np.where(np.abs(t) < lobes, np.sinc(t) * np.sinc(t / lobes), 0.0)


# name -> (kernel, half width in source pixels at scale 1)
_KERNELS = {
    "bilinear": (_triangle, 1.0),
    "bicubic": (_cubic, 2.0),
    "lanczos2": (functools.partial(_lanczos, lobes=2), 2.0),
    "lanczos3": (functools.partial(_lanczos, lobes=3), 3.0),
    "box": (lambda t: np.where((t > -0.5) & (t <= 0.5), 1.0, 0.0), 0.5),
}
RESIZE_METHODS = (*_KERNELS, "area", "nearest")


@functools.lru_cache(maxsize=256)
def resize_matrix(out_size, in_size, method="bilinear", antialias=True):
    """The matrix R[out,in] (numpy float32, rows sum to 1) that resizes one axis.

    With antialias the kernel is stretched by the reduction factor, windowed and renormalised at the border
    exactly as PIL does it (`Image.resize` on mode "F"). "area" weighs source pixels by their exact overlap
    with the output pixel; "nearest" takes the source pixel under the output pixel's centre. Neither
    depends on `antialias`.
    """
    if method not in RESIZE_METHODS:
        raise unknown("resize method", method, RESIZE_METHODS)
    scale = in_size / out_size
    i, j = np.arange(out_size)[:, None], np.arange(in_size)[None, :]
    if method == "area":
        r = np.minimum((i + 1) * scale, j + 1.0) - np.maximum(i * scale, j)
        r = np.maximum(r, 0.0)
    elif method == "nearest":
        r = (j == np.minimum(np.floor((i + 0.5) * scale), in_size - 1)).astype(np.float64)
    else:
        kernel, half = _KERNELS[method]
        stretch = max(scale, 1.0) if antialias else 1.0
        centre = (i + 0.5) * scale
        if antialias:
            # PIL's window, in whole source pixels
            lo = np.maximum(np.floor(centre - half * stretch + 0.5), 0)
            hi = np.minimum(np.floor(centre + half * stretch + 0.5), in_size)
            r = kernel((j - centre + 0.5) / stretch) * ((j >= lo) & (j < hi))
        else:
            # sample the kernel at its own scale; taps beyond the border repeat the edge pixel (torch)
            r = np.zeros((out_size, in_size))
            first = np.floor(centre - 0.5).astype(int) - math.ceil(half) + 1
            for k in range(2 * math.ceil(half)):
                tap = first + k
                np.add.at(r, (i, np.clip(tap, 0, in_size - 1)), kernel(tap + 0.5 - centre))
    return (r / r.sum(1, keepdims=True)).astype(np.float32)


def _apply_rows_cols(x, rows, cols):
    """rows[P,H] and cols[Q,W] applied to x[N,H,W,C] -> [N,P,Q,C]; the axis that shrinks most goes first."""
    x_dtype = x.dtype
    compute = jnp.promote_types(x_dtype, jnp.float32)
    x = x.astype(compute)

    def do_rows(v):
        return jnp.einsum("ph,nhwc->npwc", jnp.asarray(rows, compute), v, precision="highest")

    def do_cols(v):
        return jnp.einsum("qw,nhwc->nhqc", jnp.asarray(cols, compute), v, precision="highest")

    rows_first = rows.shape[0] * cols.shape[1] <= rows.shape[1] * cols.shape[0]
    y = do_cols(do_rows(x)) if rows_first else do_rows(do_cols(x))
    return y.astype(x_dtype)


def resize(x, shape, method="bilinear", antialias=True):
    """Resize x[N,H,W,C] to shape = (H', W') by one matrix per axis.

    Args:
      method: "bilinear", "bicubic" (a = -1/2), "lanczos2", "lanczos3", "box", "area" or "nearest".
      antialias: stretch the kernel when shrinking. True equals PIL's resize of a float image ("lanczos3" is
        PIL's LANCZOS); False equals torch's `interpolate(align_corners=False)` for bilinear.

    Returns:
      [N,H',W',C] in x's dtype (computed in at least float32).

    Raises:
      UserError: unknown method, not 4 axes, or an empty size.
    """
    _check_nhwc(x, "resize")
    h, w = (int(s) for s in shape)
    if h < 1 or w < 1:
        raise UserError(f"resize needs a size of at least 1x1, got {h}x{w}")
    rows = resize_matrix(h, x.shape[1], method, bool(antialias))
    cols = resize_matrix(w, x.shape[2], method, bool(antialias))
    return _apply_rows_cols(x, rows, cols)


# ---------------------------------------------------------------- Deep Image Prior's strided blur


def downsampling_kernel(factor, kind="lanczos2", phase=0.5, support=None, sigma=None):
    """The anti-aliasing kernel of Deep Image Prior's Downsampler, numpy float32 [k,k] with sum 1.

    kind "lanczos2" / "lanczos3" (or "lanczos" with `support` lobes): k = 2 * support * factor at phase 1/2
    (the kernel's centre lies between pixels, k even) and one more at phase 0 (k odd).
    kind "gauss" with `sigma` and `support` = k (odd; default 2 * ceil(6 sigma) + 1): exp(-d^2 / 8 sigma^2), d in
    source pixels. The code of the paper halves distances whatever the factor, so its "gauss12" is
    k = 7, sigma = 1/2 and its "gauss1sq2" k = 9, sigma = 1/sqrt 2; both names work here.
    kind "box": k = `support` or factor.
    """
    factor = int(factor)
    if factor < 1:
        raise UserError(f"the down-sampling factor must be at least 1, got {factor}")
    if phase not in (0, 0.5):
        raise UserError(f"phase must be 0 or 0.5, got {phase}")
    named = {"lanczos2": ("lanczos", 2, None), "lanczos3": ("lanczos", 3, None)}
    named |= {"gauss12": ("gauss", 7, 0.5), "gauss1sq2": ("gauss", 9, math.sqrt(0.5))}
    shape, support, sigma = named.get(kind, (kind, support, sigma))
    if shape == "lanczos":
        if not support:
            raise UserError("kind 'lanczos' needs support=, its number of lobes; or use 'lanczos2'")
        k = 2 * support * factor + (phase == 0)
        row = _lanczos((np.arange(k) - (k - 1) / 2) / factor, support)
    elif shape == "gauss":
        if not sigma:
            raise UserError("kind 'gauss' needs sigma=; or use 'gauss12' or 'gauss1sq2'")
        k = support or 2 * math.ceil(6 * sigma) + 1
        row = np.exp(-(((np.arange(k) - (k - 1) / 2) / 2) ** 2) / (2 * sigma**2))
    elif shape == "box":
        row = np.ones(support or factor)
    else:
        raise unknown("down-sampling kernel", kind, [*named, "lanczos", "gauss", "box"])
    kernel = np.outer(row, row)
    return (kernel / kernel.sum()).astype(np.float32)


@functools.lru_cache(maxsize=64)
def _strided_blur_matrix(row, in_size, factor, pad):
    """One axis of replication padding, a blur with `row`, and taking every factor-th pixel, as R[out,in]."""
    k = len(row)
    out_size = (in_size + 2 * pad - k) // factor + 1
    if out_size < 1:
        raise UserError(f"an axis of {in_size} pixels is too short for a down-sampling kernel of {k}")
    r = np.zeros((out_size, in_size))
    i = np.arange(out_size)
    for t in range(k):
        np.add.at(r, (i, np.clip(i * factor + t - pad, 0, in_size - 1)), row[t])
    return r.astype(np.float32)


def _rank_one(kernel):
    """(column, row) with kernel = outer(column, row), or None. Only for kernels known at trace time."""
    if isinstance(kernel, jax.core.Tracer):
        return None
    kernel = np.asarray(kernel, np.float64)
    u, s, vt = np.linalg.svd(kernel)
    if len(s) > 1 and s[1] > 1e-6 * s[0]:
        return None
    return u[:, 0] * s[0], vt[0]


def downsample(x, kernel, factor, preserve_size=True):
    """Blur with kernel[k,k] and keep every factor-th pixel, channel by channel: DIP's Downsampler.

    With preserve_size the image is first padded by replication, (k-1)/2 for odd k and (k-factor)/2 for
    even k, so that H -> H / factor. Cross-correlation (DIP's kernels are symmetric anyway).

    A kernel known at trace time that is an outer product (all of `downsampling_kernel`'s are) runs as one
    matrix per axis; any other as a strided convolution.

    Returns:
      [N,H',W',C] in x's dtype.
    """
    _check_nhwc(x, "downsample")
    k = kernel.shape[0]
    if kernel.shape != (k, k):
        raise UserError(f"downsample wants a square kernel, got {kernel.shape}")
    pad = 0
    if preserve_size:
        pad = (k - 1) // 2 if k % 2 else (k - factor) // 2
        if pad < 0:
            raise UserError(f"a kernel of {k} is too small for factor {factor} with preserve_size")
    halves = _rank_one(kernel)
    if halves is not None:
        rows = _strided_blur_matrix(tuple(halves[0]), x.shape[1], factor, pad)
        cols = _strided_blur_matrix(tuple(halves[1]), x.shape[2], factor, pad)
        return _apply_rows_cols(x, rows, cols)
    n, h, w, c = x.shape
    planes = jnp.moveaxis(x, 3, 1).reshape(n * c, h, w, 1)
    planes = jnp.pad(planes, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
    y = lax.conv_general_dilated(
        planes,
        jnp.asarray(kernel, x.dtype)[:, :, None, None],
        (factor, factor),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )
    return jnp.moveaxis(y.reshape(n, c, *y.shape[1:3]), 1, 3)


@functools.lru_cache(maxsize=64)
def _gaussian_matrix(size, sigma, truncate):
    radius = int(truncate * sigma + 0.5)
    t = np.arange(-radius, radius + 1)
    row = np.exp(-0.5 * (t / sigma) ** 2)
    return _strided_blur_matrix(tuple(row / row.sum()), size, 1, radius)


def gaussian_blur(x, sigma, truncate=4.0):
    """Gaussian blur of x[N,H,W,C] with standard deviation `sigma` pixels (a Python number), edge repeated.

    Equals `scipy.ndimage.gaussian_filter(mode="nearest")`, radius round(truncate * sigma). sigma 0: x unchanged.
    """
    _check_nhwc(x, "gaussian_blur")
    if sigma < 0:
        raise UserError(f"sigma must not be negative, got {sigma}")
    if sigma == 0:
        return x
    rows = _gaussian_matrix(x.shape[1], float(sigma), float(truncate))
    cols = _gaussian_matrix(x.shape[2], float(sigma), float(truncate))
    return _apply_rows_cols(x, rows, cols)
