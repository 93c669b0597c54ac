"""Distances between an image and its reference: MSE, PSNR, PSNR on luma, SSIM.

Letters: `a` the image, `b` its reference, both [H,W,C] or [N,H,W,C]; `m` a mask [H,W,1] or [N,H,W,1], 1 = the
pixel counts; L the data range (1 for [0,1], 2 for [-1,1], 255 for uint8).

Everything but `ssim` and `nonzero_box` takes numpy or jax arrays and may be jitted, vmapped and
differentiated. Numpy input is reduced in float64 and gives numpy; one jax array among the inputs makes it
jax, in float32. One image gives a scalar; a batch gives one value per image, [N], never an average over
images: the mean of PSNRs is not the PSNR of the mean error.
"""

import jax
import jax.numpy as jnp
import numpy as np

from genjax.errors import UserError

# ITU-R BT.601 luma, as OpenCV and MATLAB weigh red, green and blue.
LUMA = (0.299, 0.587, 0.114)


def mse(a, b, mask=None):
    """Mean squared error, over the pixels and channels where the mask is set.

    Args:
      a, b: [H,W,C] or [N,H,W,C], equal shapes. Integers are converted before the difference, so uint8 cannot
        wrap.
      mask: None, or weights in [0,1] of shape [H,W,1|C] or [N,H,W,1|C]; 0 leaves a pixel out, whatever it
        holds (NaN included). An image whose mask is all 0 gives NaN.

    Returns:
      A scalar, or [N] for a batch: Σ m (a-b)² / Σ m.
    """
    xp, a, b = _pair(a, b, isinstance(mask, jax.Array))
    axes = (-3, -2, -1)
    if mask is None:
        return xp.mean(xp.square(a - b), axis=axes)
    mask = xp.asarray(mask, a.dtype)
    if mask.ndim not in (3, 4) or mask.ndim > a.ndim or mask.shape[-1] not in (1, a.shape[-1]) or (
        mask.shape[-3:-1] != a.shape[-3:-1] or mask.shape[:-3] not in ((), (1,), a.shape[:-3])
    ):
        raise UserError(f"mask of shape {_shape(mask)} does not fit images of shape {_shape(a)}; "
                        f"it must be [H,W,1] or [N,H,W,1] with the same H and W")
    mask = xp.broadcast_to(mask, a.shape)
    # where, not a product: 0 · NaN is NaN, and unknown pixels may hold anything.
    error = xp.where(mask > 0, mask * xp.square(xp.where(mask > 0, a - b, 0)), 0)
    weight = xp.sum(mask, axis=axes)
    return xp.where(weight > 0, xp.sum(error, axis=axes) / xp.where(weight > 0, weight, 1), xp.nan)[()]


def psnr(a, b, mask=None, data_range=1.0):
    """Peak signal-to-noise ratio in dB, 10 log10(L² / MSE).

    Args:
      a, b, mask: see `mse`.
      data_range: L, the distance between the smallest and the largest possible value.

    Returns:
      A scalar, or [N] for a batch; infinite where the images are equal.

    Raises:
      UserError: shapes differ, or integer images with data_range 1 (a uint8 pair needs data_range=255).
    """
    for x in (a, b):
        if hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.integer) and data_range == 1.0:
            raise UserError(f"{x.dtype} images with data_range=1; pass data_range=255 or scale them to [0,1]")
    if not data_range > 0:
        raise UserError(f"data_range must be positive, not {data_range}")
    error = mse(a, b, mask)
    xp = jnp if isinstance(error, jax.Array) else np
    with np.errstate(divide="ignore"):
        return 20 * np.log10(data_range) - 10 * xp.log10(error)


def luma(x):
    """Luma Y in studio range, (16 + 219 (.299 R + .587 G + .114 B)) / 255.

    Args:
      x: [...,3] RGB or [...,1] grey (R = G = B), values in [0,1].

    Returns:
      [...,1] in [16/255, 235/255]. Source: ITU-R BT.601; the rule by which super-resolution papers score.
    """
    xp, x = _floats(x)
    if x.shape[-1] == 3:
        y = xp.sum(x * xp.asarray(LUMA, x.dtype), axis=-1, keepdims=True)
    elif x.shape[-1] == 1:
        y = x
    else:
        raise UserError(f"luma needs 1 or 3 channels, not an array of shape {_shape(x)}")
    return (16 + 219 * y) / 255


def psnr_y(a, b, shave=(4, 5)):
    """PSNR in dB on luma with data range 1, leaving out a frame.

    This is how Deep Image Prior and the super-resolution papers before it score: because Y spans 219/255 of
    the range it reads 1.32 dB more than the PSNR of the grey image would.

    Args:
      a, b: [H,W,C] or [N,H,W,C] in [0,1], C 1 or 3.
      shave: pixels left out (at the top and on the left, at the bottom and on the right), or one number for all
        sides. (4, 5) is what Deep Image Prior's evaluation script leaves out, which counts its 4 from the last
        pixel; super-resolution papers take the factor on all sides.

    Returns:
      A scalar, or [N] for a batch.

    Raises:
      UserError: a negative shave, or one that leaves nothing.
    """
    xp, a, b = _pair(a, b)
    height, width = a.shape[-3:-1]
    first, last = (shave, shave) if isinstance(shave, int) else shave
    if min(first, last) < 0 or min(height, width) <= first + last:
        raise UserError(f"cannot shave {first} and {last} pixels off the sides of a {height}x{width} image")
    inner = (Ellipsis, slice(first, height - last), slice(first, width - last), slice(None))
    return psnr(luma(a[inner]), luma(b[inner]))


def nonzero_box(x):
    """The smallest box outside which an image is exactly 0, as (row slice, column slice).

    Deep Image Prior's outputs for super-resolution are centred on a black frame when the size was cropped to
    a multiple of 32; its scores are taken inside this box. Host only: the result is a shape.

    Args:
      x: [H,W,C], values ≥ 0.

    Raises:
      UserError: the image is all black.
    """
    lit = np.asarray(x).sum(-1) > 0
    rows, columns = np.flatnonzero(lit.any(1)), np.flatnonzero(lit.any(0))
    if not len(rows):
        raise UserError("the image is black everywhere; nothing to score")
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def ssim(a, b, data_range=1.0):
    """Structural similarity, mean over pixels and channels (host only, through scikit-image).

    Settings of Wang et al. 2004: Gaussian window of 11x11, σ 1.5, population covariance, K1 .01, K2 .03; each
    channel by itself, then averaged.

    Args:
      a, b: [H,W,C] or [N,H,W,C], sides of at least 11 pixels.
      data_range: L, as for `psnr`.

    Returns:
      A float in [-1,1], or [N] float64 for a batch; 1 only for equal images.

    Source: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural
    similarity", 2004.
    """
    from skimage.metrics import structural_similarity  # 0.5 s of import that PSNR does not need

    _, a, b = _pair(np.asarray(a), np.asarray(b))
    if min(a.shape[-3:-1]) < 11:
        raise UserError(f"ssim needs images of at least 11x11 pixels, not {a.shape[-3]}x{a.shape[-2]}")
    one = [
        structural_similarity(p, q, data_range=data_range, channel_axis=-1, gaussian_weights=True, sigma=1.5,
                              use_sample_covariance=False)
        for p, q in zip(a.reshape(-1, *a.shape[-3:]), b.reshape(-1, *b.shape[-3:]), strict=True)
    ]
    return float(one[0]) if a.ndim == 3 else np.asarray(one)


def _shape(x):
    return "[" + ",".join(map(str, x.shape)) + "]"


def _floats(x, jax_too=False):
    """(numpy or jax.numpy, x as float64 for numpy or at least float32 for jax)."""
    if jax_too or isinstance(x, jax.Array):
        x = jnp.asarray(x)
        return jnp, x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return np, np.asarray(x).astype(np.float64)


def _pair(a, b, jax_too=False):
    jax_too = jax_too or isinstance(a, jax.Array) or isinstance(b, jax.Array)
    (xp, a), (_, b) = _floats(a, jax_too), _floats(b, jax_too)
    if a.shape != b.shape:
        raise UserError(f"cannot compare images of shapes {_shape(a)} and {_shape(b)}; crop or resize one")
    if a.ndim not in (3, 4):
        raise UserError(f"images must be [H,W,C] or [N,H,W,C], not an array of shape {_shape(a)}")
    return xp, a, b
