"""The geometric part of StyleGAN2-ADA's augmentations: Karras et al. 2020 (arXiv:2006.06676), appendix B.

Letters: x[N,H,W,C] pictures; G[N,3,3] inverse transformations, which take homogeneous (column, row, 1) positions of an
output pixel, in pixels from the picture's centre, to positions in the input; m margin.

A picture is continued by reflection, upsampled twice with the 12 taps of Daubechies' symlet 6, read bilinearly at the
transformed positions of a grid twice as fine, and downsampled with the reversed filter. The filters are orthogonal to
their shifts by two, so the identity comes back unchanged but for rounding.
"""

import jax
import jax.numpy as jnp
import numpy as np

from genjax.errors import UserError
from genjax.ops.pad import pad2d
from genjax.ops.upfirdn import downsample2d, upsample2d

# Symlet 6, low-pass decomposition filter (Daubechies 1992, "least asymmetric"; pywt.Wavelet("sym6").dec_lo).
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
)
REACH = len(SYM6) // 4  # how far, in pixels, the downsampling filter reads beyond the border


def _matrix(*rows):
    rows = [[jnp.asarray(v, jnp.float32) for v in row] for row in rows]
    shape = jnp.broadcast_shapes(*(v.shape for row in rows for v in row))
    return jnp.stack([jnp.stack([jnp.broadcast_to(v, shape) for v in row], -1) for row in rows], -2)


def translate(tx, ty):
    """[...,3,3]: moves by (tx, ty) pixels."""
    return _matrix([1, 0, tx], [0, 1, ty], [0, 0, 1])


def scale(sx, sy):
    """[...,3,3]: stretches columns' positions by sx, rows' by sy."""
    return _matrix([sx, 0, 0], [0, sy, 0], [0, 0, 1])


def rotate(theta):
    """[...,3,3]: turns (column, row) by theta radians, the first axis towards the second: clockwise as displayed."""
    c, s = jnp.cos(theta), jnp.sin(theta)
    return _matrix([c, -s, 0], [s, c, 0], [0, 0, 1])


def matmul(a, b):
    """Product in full float32, on GPU and TPU too."""
    return jnp.matmul(a, b, precision="highest")


# ---------------------------------------------------------------- bilinear reading


def _corners(u, v, shape):
    """The four pixels around position (row u, column v): flat indices[4,N,P] and weights[4,N,P], 0 outside."""
    h, w = shape
    r, c = jnp.floor(u), jnp.floor(v)
    index, weight = [], []
    for dr in (0, 1):
        for dc in (0, 1):
            rr, cc = r + dr, c + dc
            inside = (rr >= 0) & (rr < h) & (cc >= 0) & (cc < w)
            value = (1 - jnp.abs(u - rr)) * (1 - jnp.abs(v - cc))
            flat = jnp.clip(rr, 0, h - 1).astype(jnp.int32) * w + jnp.clip(cc, 0, w - 1).astype(jnp.int32)
            index.append(flat)
            weight.append(jnp.where(inside, value, 0.0))
    return jnp.stack(index), jnp.stack(weight)


def bilinear(x: jax.Array, u: jax.Array, v: jax.Array) -> jax.Array:
    """x[N,H,W,C] read at rows u and columns v [N,P,Q] (0 = centre of the first pixel), zero outside: [N,P,Q,C].

    Linear in x, so differentiable to any order: JAX's own transpose of the four gathers, four scatters, is as fast on
    the CPU as one written by hand. Positions are draws, not functions of parameters: they have no gradient.
    """
    n, h, w, c = x.shape
    index, weight = _corners(*(jax.lax.stop_gradient(p).reshape(n, -1) for p in (u, v)), (h, w))
    pixels = x.reshape(n, h * w, c)
    y = sum(a[..., None].astype(x.dtype) * jnp.take_along_axis(pixels, i[..., None], 1, mode="clip")
            for i, a in zip(index, weight, strict=True))
    return y.reshape(n, *u.shape[1:], c)


# ---------------------------------------------------------------- the whole


def warp(x: jax.Array, inverse: jax.Array, margin: float = 1.0) -> jax.Array:
    """Transforms the pictures x[N,H,W,C] by the inverse matrices[N,3,3], as the module docstring says.

    A picture whose matrix is exactly the identity comes back bit for bit.

    Args:
      margin: how far reflection continues a picture on each side, as a share of its size minus 1; zeros beyond. The
        published code takes what the batch's corners need, at most 1; a jitted program needs a size, and 1 is always
        enough, at 9 times the pixels to upsample.

    Returns:
      [N,H,W,C] in x's dtype.

    Raises:
      UserError: a margin outside (0, 1].
    """
    if not 0 < margin <= 1:
        raise UserError(f"the margin of the geometric augmentations must lie in (0, 1], got {margin}")
    n, h, w, _ = x.shape
    my, mx = (int(np.ceil(margin * (k - 1))) for k in (h, w))
    fine = upsample2d(pad2d(x, ((my, my), (mx, mx)), "reflect"), SYM6)
    # positions on the two fine grids, in fine pixels from the centre; the even filters shift both by half a pixel
    rows, cols = 2 * (h + 2 * REACH), 2 * (w + 2 * REACH)
    to_fine = matmul(matmul(translate(-0.5, -0.5), scale(2.0, 2.0)), inverse)
    g = matmul(to_fine, matmul(scale(0.5, 0.5), translate(0.5, 0.5)))
    row = (jnp.arange(rows) - (rows - 1) / 2)[None, :, None]
    col = (jnp.arange(cols) - (cols - 1) / 2)[None, None, :]
    a = g[:, :, :, None, None]
    v = a[:, 0, 0] * col + a[:, 0, 1] * row + a[:, 0, 2] + (fine.shape[2] - 1) / 2
    u = a[:, 1, 0] * col + a[:, 1, 1] * row + a[:, 1, 2] + (fine.shape[1] - 1) / 2
    y = downsample2d(bilinear(fine, u, v), SYM6, pad=-2 * REACH, flip=True)
    same = (inverse == jnp.eye(3)).all((1, 2))
    return jnp.where(same[:, None, None, None], x, y)
