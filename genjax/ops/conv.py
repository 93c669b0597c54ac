"""Convolutions (placeholder in plain lax; the ops room replaces it with the CPU-fast form)."""

import jax.numpy as jnp
from jax import lax

_DN = ("NHWC", "HWIO", "NHWC")
_MODES = {"zero": "constant", "reflect": "reflect", "edge": "edge", "circular": "wrap"}


def conv2d(x, w, *, stride=1, padding="SAME", pad_mode="zero"):
    """2-D cross-correlation, NHWC x HWIO -> NHWC."""
    kh, kw = w.shape[:2]
    if padding == "SAME":
        pads = (((kh - 1) // 2,) * 2, ((kw - 1) // 2,) * 2)
    elif padding == "VALID":
        pads = ((0, 0), (0, 0))
    elif isinstance(padding, int):
        pads = ((padding, padding), (padding, padding))
    else:
        pads = tuple(padding)
    if pad_mode != "zero" and any(p for ab in pads for p in ab):
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)), mode=_MODES[pad_mode])
        pads = ((0, 0), (0, 0))
    return lax.conv_general_dilated(x, w, (stride, stride), pads, dimension_numbers=_DN)


def conv_transpose2d(x, w, *, stride=2, padding=1):
    """Transposed convolution with torch's ConvTranspose2d semantics."""
    kh, kw = w.shape[:2]
    pads = ((kh - 1 - padding,) * 2, (kw - 1 - padding,) * 2)
    return lax.conv_general_dilated(
        x, w[::-1, ::-1], (1, 1), pads, lhs_dilation=(stride, stride), dimension_numbers=_DN
    )
