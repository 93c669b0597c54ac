"""The forward model of super-resolution: how a restored picture would have been observed."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from genjax.ops.resample import downsample, downsampling_kernel

Kernel = Literal["lanczos2", "lanczos3", "gauss12", "gauss1sq2", "box"]

_GAUSS = {"gauss12": (7, 0.5), "gauss1sq2": (9, 0.5**0.5)}  # size, sigma


def centred_kernel(factor: int, kind: Kernel = "lanczos2") -> np.ndarray:
    """The filter [k,k] whose middle is that of a block of `factor` pixels: k is even where factor is, else odd.

    The paper's is Lanczos with 2 lobes at an even factor: phase 1/2, k = 4 factor. The published code takes phase 1/2
    for odd factors too, and always samples its Gaussians (k = 7 and 9) at the first pixel of a block; here the former
    have phase 0, and the latter one pixel more where that centres them.
    """
    if kind not in _GAUSS:
        return downsampling_kernel(factor, kind, phase=0 if factor % 2 else 0.5)
    size, sigma = _GAUSS[kind]
    size = max(size, factor)
    return downsampling_kernel(factor, "gauss", support=size + (size - factor) % 2, sigma=sigma)


def observe(picture: jax.Array, factor: int, kind: Kernel = "lanczos2") -> jax.Array:
    """[H,W,C] -> [H/factor,W/factor,C]: blurred by `centred_kernel`, edges replicated, one pixel per block."""
    if factor == 1:
        return picture
    kernel = centred_kernel(factor, kind)
    if factor % 2 == 0:
        return downsample(picture[None], kernel, factor, preserve_size=True)[0]
    edge = (len(kernel) - factor) // 2  # `preserve_size` would put an odd kernel on the first pixel of a block
    picture = jnp.pad(picture, ((edge, edge), (edge, edge), (0, 0)), mode="edge")
    return downsample(picture[None], kernel, factor, preserve_size=False)[0]
