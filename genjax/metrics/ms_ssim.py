"""SSIM and multi-scale SSIM in JAX, and the mean MS-SSIM of pairs of samples as a measure of (missing) diversity.

Letters: a, b image batches [N,H,W,C]; L data range; l luminance term, cs contrast and structure term; w_j the weight of
scale j, M scales.

    MS-SSIM = l_M^w_M  prod_j cs_j^w_j

At one scale this is `genjax.metrics.image.ssim` (Gaussian window 11, sigma 1.5, K .01 and .03, windows that lie inside
the image). Between scales 2 x 2 pixels are averaged. So Wang et al.'s and Progressive GAN's code have it. torchmetrics
averages the coarsest scale over windows that reach into a mirrored border too, and differs by some 1e-4.

Source: Wang, Simoncelli and Bovik, "Multi-scale structural similarity for image quality assessment", 2003; as a measure
of diversity: Odena, Olah and Shlens, "Conditional image synthesis with auxiliary classifier GANs", 2017, and
"Progressive growing of GANs", 2018.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from genjax.errors import UserError
from genjax.metrics.statistics import host_rng, place, rows_per_call
from genjax.ops.resample import avg_pool2x

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03


@functools.lru_cache(maxsize=64)
def _window(side):
    """R[out,side]: the Gaussian window moved along an axis. Below 11 pixels it shrinks with the image, as in the code
    that Odena et al. and Karras et al. measured with.
    """
    size = min(WINDOW, side)
    t = np.arange(size) - (size - 1) / 2
    row = np.exp(-0.5 * (t / (SIGMA * size / WINDOW)) ** 2)
    out = np.zeros((side - size + 1, side))
    for i in range(len(out)):
        out[i, i : i + size] = row / row.sum()
    return out.astype(np.float32)


def _blur(x):
    x = jnp.einsum("ph,nhwc->npwc", _window(x.shape[1]), x, precision="highest")
    return jnp.einsum("qw,nhwc->nhqc", _window(x.shape[2]), x, precision="highest")


def _terms(a, b, data_range):
    """(mean of l cs, mean of cs) over places and channels, [N] each."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    # Variances and covariance of windows do not change with the mean: taking it off first saves float32's digits.
    shift = (a.mean((1, 2), keepdims=True) + b.mean((1, 2), keepdims=True)) / 2
    p, q = a - shift, b - shift
    mp, mq = _blur(p), _blur(q)
    cs = (2 * (_blur(p * q) - mp * mq) + c2) / (_blur(p * p) - mp**2 + _blur(q * q) - mq**2 + c2)
    ma, mb = mp + shift, mq + shift
    l = (2 * ma * mb + c1) / (ma**2 + mb**2 + c1)
    return (l * cs).mean((1, 2, 3)), cs.mean((1, 2, 3))


def _check(a, b, scales):
    if a.shape != b.shape or a.ndim != 4:
        raise UserError(f"two image batches [N,H,W,C] of one shape are compared, not {list(a.shape)}, {list(b.shape)}")
    least = 2 ** (scales - 1)
    if min(a.shape[1:3]) < least:
        raise UserError(f"{scales} scales need images of at least {least} pixels, not {a.shape[1]}x{a.shape[2]};"
                        " leave ms_ssim out of the metrics (in Python: give fewer weights)")


def ssim(a, b, data_range=1.0):
    """SSIM [N] of image batches [N,H,W,C]; differentiable, jittable."""
    _check(a, b, 1)
    return _terms(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32), data_range)[0]


def ms_ssim(a, b, data_range=1.0, weights=WEIGHTS):
    """Multi-scale SSIM.

    Args:
      a, b: [N,H,W,C] float or uint8, sides of at least 2^(M-1). Scales are smaller than the window from 176 pixels
        down; there the window shrinks with them.
      data_range: L; 255 for uint8.
      weights: one per scale, the finest first.

    Returns:
      [N] float32, at most 1; terms below 0 count as 0. Terms are averaged over places and channels scale by scale.
    """
    _check(a, b, len(weights))
    a, b = jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)
    product = 1.0
    for j, weight in enumerate(weights):
        whole, cs = _terms(a, b, data_range)
        product *= jnp.maximum(whole if j == len(weights) - 1 else cs, 0) ** weight
        if j < len(weights) - 1:
            a, b = avg_pool2x(a), avg_pool2x(b)
    return product


_ms_ssim = jax.jit(ms_ssim, static_argnums=3)


def pair_similarity(images: np.ndarray, key: jax.Array, pairs: int = 10000, batch: int = 64, weights=WEIGHTS) -> float:
    """Mean MS-SSIM of random pairs of different images: near 1 where all samples are alike.

    It says nothing about quality, and is read beside the same number of the real images. ACGAN takes 100 pairs of each
    class at 128 x 128, Progressive GAN 10 000 pairs.

    Args:
      images: uint8 [N,H,W,C].
      key: chooses the pairs.
      pairs: how many; a pair may come twice.
      batch: pairs per device and call.
    """
    images = np.asarray(images)
    if len(images) < 2 or images.dtype != np.uint8 or pairs < 1:
        raise UserError(f"pairs={pairs} of uint8 images are compared, two at least, not {images.dtype}"
                        f" {list(images.shape)}")
    rng = host_rng(key)
    i = rng.integers(len(images), size=pairs)
    j = (i + rng.integers(1, len(images), size=pairs)) % len(images)
    size, found = rows_per_call(pairs, batch), []
    for first in range(0, pairs, size):
        rows = np.minimum(np.arange(first, first + size), pairs - 1)
        value = _ms_ssim(place(images[i[rows]]), place(images[j[rows]]), 255.0, tuple(weights))
        found.append(np.asarray(value, np.float64)[: pairs - first])
    return float(np.concatenate(found).mean())
