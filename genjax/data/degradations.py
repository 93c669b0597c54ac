"""What spoils a picture, on the host: pure functions of (image, seed), float32 [H, W, C] in [0, 1] in and out.

Noise strengths are standard deviations in units of 1/255, as the denoising literature quotes them. `seed` is
an integer or a sequence of integers (NumPy's `SeedSequence`), so picture n of a set may use (seed, n).
"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from genjax import errors
from genjax.data import images

Seed = int | Sequence[int]


def add_gaussian_noise(x: np.ndarray, sigma: float, seed: Seed = 0, clip: bool = True) -> np.ndarray:
    """x + N(0, (sigma/255)²) per value.

    Args:
      x: [..., C] float in [0, 1].
      sigma: standard deviation in units of 1/255 (25 is the usual test).
      seed: integer(s).
      clip: cut to [0, 1] as Deep Image Prior does; a noisy 8-bit file cannot hold more. False leaves the noise
        exactly Gaussian.

    Source: Ulyanov et al., Deep Image Prior, CVPR 2018, section 4.1 (sigma 25, clipped).
    """
    if sigma < 0:
        raise errors.UserError(f"sigma={sigma}: a noise level is at least 0 (25 means 25/255)")
    noise = np.random.default_rng(seed).standard_normal(x.shape)
    y = x + noise * (sigma / 255.0)
    return (np.clip(y, 0.0, 1.0) if clip else y).astype(np.float32)


def add_poisson_noise(x: np.ndarray, peak: float, seed: Seed = 0) -> np.ndarray:
    """Photon noise: Poisson(peak · x) / peak, clipped; `peak` is the mean count of a white pixel."""
    if peak <= 0:
        raise errors.UserError(f"peak={peak}: the photon count of white is above 0")
    counts = np.random.default_rng(seed).poisson(np.clip(x, 0.0, 1.0).astype(np.float64) * peak)
    return np.clip(counts / peak, 0.0, 1.0).astype(np.float32)


def salt_and_pepper(x: np.ndarray, fraction: float, seed: Seed = 0) -> np.ndarray:
    """Turns a fraction of the pixels (all channels at once) black or white, evenly; x is [H, W, C]."""
    if not 0 <= fraction <= 1:
        raise errors.UserError(f"fraction={fraction}: a fraction lies between 0 and 1")
    rng = np.random.default_rng(seed)
    hit, white = rng.random(x.shape[:-1]) < fraction, rng.random(x.shape[:-1]) < 0.5
    return np.where(hit[..., None], white[..., None], x).astype(np.float32)


def without_flash(x: np.ndarray, light: float = 0.5, warmth: float = 0.4) -> np.ndarray:
    """As if taken by a dim, warm lamp instead of a flash: darker, red over blue, brightest at the upper left.

    Args:
      x: [H, W, C] in [0, 1].
      light: brightness of the lamp at its brightest, as a share of the flash.
      warmth: 0 = white light; red gains and blue loses about this share.

    Returns:
      [H, W, C] float32 in [0, 1], without noise. Not from a paper: a stand-in where no photographs are at hand.
    """
    h, w, c = x.shape
    row, column = np.linspace(0, 1, h)[:, None, None], np.linspace(0, 1, w)[None, :, None]
    fall = 1.0 - 0.5 * (row + column) / 2.0
    tint = np.array([1.0 + warmth, 1.0, 1.0 - warmth]) if c == 3 else np.ones(1)
    return np.clip(x * light * fall * tint, 0.0, 1.0).astype(np.float32)


def to_uint8(x: np.ndarray) -> np.ndarray:
    """[0, 1] floats to the nearest of 256 levels."""
    return np.round(np.clip(x, 0.0, 1.0) * 255.0).astype(np.uint8)


def jpeg(x: np.ndarray, quality: int = 10) -> np.ndarray:
    """Through a JPEG file and back, by Pillow's encoder (4:2:0 chroma for colour).

    Args:
      x: [H, W, 1 or 3] float in [0, 1].
      quality: 1 (worst) to 95, libjpeg's scale.
    """
    if not 1 <= quality <= 95:
        raise errors.UserError(f"jpeg_quality={quality}: JPEG quality lies between 1 and 95")
    x = to_uint8(x)
    buffer = io.BytesIO()
    Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x).save(buffer, "JPEG", quality=int(quality))
    y = np.asarray(Image.open(buffer), np.float32) / 255.0
    return y[..., None] if y.ndim == 2 else y


def downscale(x: np.ndarray, factor: int, method: images.Method = "lanczos", quantize: bool = True) -> np.ndarray:
    """Shrinks by a whole factor with Pillow's antialiased filter.

    Args:
      x: [H, W, C] float in [0, 1]; H and W must be multiples of `factor` (crop first).
      factor: 4 and 8 are the usual ones.
      method: "lanczos" (Pillow's is Lanczos 3, the data model of the paper), "bicubic", "box" …
      quantize: pass through 8 bits, as low-resolution test files did. False resamples in float.

    Returns:
      [H/factor, W/factor, C] float32 in [0, 1].

    Source: Ulyanov et al., section 4.2; the low-resolution files are the ground truth shrunk by Pillow.
    """
    h, w = x.shape[:2]
    if factor < 1 or factor != int(factor):
        raise errors.UserError(f"factor={factor}: a downscaling factor is a whole number of at least 1")
    factor = int(factor)
    if h % factor or w % factor:
        raise errors.UserError(
            f"a {h}x{w} picture does not divide by factor={factor}; crop it to a multiple of {factor}")
    size = (h // factor, w // factor)
    if quantize:
        return images.resize_image(to_uint8(x), size, method).astype(np.float32) / 255.0
    return images.resize_image(x, size, method)


def grayscale(x: np.ndarray) -> np.ndarray:
    """[..., 3] to [..., 1], Rec. 601 luma."""
    return images.to_channels(x, 1)
