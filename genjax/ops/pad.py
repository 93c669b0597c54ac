"""Padding of NHWC images whose gradient is cheap.

The gradient of `jnp.pad(mode="reflect")` runs one full-size scatter per border; here the border rows and
columns of the cotangent are folded back onto the rows and columns they came from.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from genjax.errors import UserError, unknown

MODES = ("zero", "reflect", "edge", "circular")


def _border(x, axis, lo, hi, mode):
    """The two strips that `mode` puts before and after x along `axis`."""
    n = x.shape[axis]
    cut = functools.partial(lax.slice_in_dim, x, axis=axis)
    if mode == "reflect":
        return lax.rev(cut(1, 1 + lo), (axis,)), lax.rev(cut(n - 1 - hi, n - 1), (axis,))
    if mode == "circular":
        return cut(n - lo, n), cut(0, hi)

    def repeat(strip, times):
        return jnp.broadcast_to(strip, (*x.shape[:axis], times, *x.shape[axis + 1 :]))

    return repeat(cut(0, 1), lo), repeat(cut(n - 1, n), hi)


def _pad_axis(x, axis, lo, hi, mode):
    if lo == hi == 0:
        return x
    before, after = _border(x, axis, lo, hi, mode)
    return jnp.concatenate([before, x, after], axis)


def _fold_axis(y, axis, lo, hi, mode):
    """Transpose of `_pad_axis`."""
    if lo == hi == 0:
        return y
    n = y.shape[axis] - lo - hi
    cut = functools.partial(lax.slice_in_dim, y, axis=axis)
    before, core, after = cut(0, lo), cut(lo, lo + n), cut(lo + n, lo + n + hi)
    if mode == "reflect":
        start, end = (lax.rev(before, (axis,)), 1), (lax.rev(after, (axis,)), n - 1 - hi)
    elif mode == "circular":
        start, end = (before, n - lo), (after, 0)
    else:
        start, end = (before.sum(axis, keepdims=True), 0), (after.sum(axis, keepdims=True), n - 1)
    for strip, at in (start, end):
        if strip.shape[axis]:
            where = (slice(None),) * axis + (slice(at, at + strip.shape[axis]),)
            core = core.at[where].add(strip)
    return core


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _pad(x, pads, mode):
    return _pad_axis(_pad_axis(x, 1, *pads[0], mode), 2, *pads[1], mode)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _fold(y, pads, mode):
    return _fold_axis(_fold_axis(y, 2, *pads[1], mode), 1, *pads[0], mode)


# each is the other's transpose, so derivatives of any order exist
_pad.defvjp(lambda x, pads, mode: (_pad(x, pads, mode), None), lambda pads, mode, _, dy: (_fold(dy, pads, mode),))
_fold.defvjp(lambda y, pads, mode: (_fold(y, pads, mode), None), lambda pads, mode, _, dx: (_pad(dx, pads, mode),))


def pad2d(x, pads, mode="zero"):
    """Pad the rows and columns of x[N,H,W,C].

    Args:
      pads: ((top, bottom), (left, right)), not negative.
      mode: "zero", "reflect" (the edge pixel is not repeated: pads at most H-1, W-1), "edge" (repeats it) or
        "circular" (pads at most H, W).

    Raises:
      UserError: unknown mode, or a border wider than the image can fill.
    """
    if mode not in MODES:
        raise unknown("padding mode", mode, MODES)
    pads = tuple((int(lo), int(hi)) for lo, hi in pads)
    if min(min(p) for p in pads) < 0:
        raise UserError(f"padding must not be negative, got {pads}")
    if mode == "zero":
        return jnp.pad(x, ((0, 0), *pads, (0, 0)))
    if not any(p for ab in pads for p in ab):
        return x
    for n, ab in zip(x.shape[1:3], pads, strict=True):
        room = {"reflect": n - 1, "circular": n, "edge": max(ab)}[mode]
        if max(ab) > room:
            raise UserError(
                f"{mode} padding of {max(ab)} pixels needs an axis of more than that; the image is "
                f"{x.shape[1]}x{x.shape[2]}: use a larger image, fewer scales or zero padding"
            )
    return _pad(x, pads, mode)
