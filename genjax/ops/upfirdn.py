"""Upsampling, FIR filtering and downsampling of feature maps: StyleGAN's upfirdn2d, NHWC.

Letters: x[N,H,W,C] maps, f filter of T taps, s = `up`, d = `down`, lo and hi the padding of an axis. Along each axis,

    v[s i] = x[i], zero between;   y[j] = sum_t g[t] v[d j + t - lo],   0 <= j < (s n + lo + hi - T) // d + 1

where g is f reversed (a convolution, as in Karras et al.) or f itself (`flip=True`: a correlation). It is linear, and
its transpose is another one: s and d exchanged, g reversed, other padding. So one `custom_vjp` is closed under reverse
mode of any order; forward mode (`jax.jvp`) is refused.

Filters are constants known at trace time. One that is an outer product runs axis by axis. The taps are shifted slices,
multiplied and added, which XLA fuses into one pass. On 2 shared CPU cores, four taps, in ms:

| | slices | one matrix per axis | convolution of planes | depthwise convolution |
|---|---|---|---|---|
| same size, [16,64,64,128] | 47 | 66 | 316 | 374 |
| up 2, [16,16,16,512] | 4 (22 with the zeros) | 40 | | |
| down 2, [16,64,64,128] | 26 | 31 | 115 | 176 |
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from genjax.errors import UserError
from genjax.ops.conv import conv2d, conv_transpose2d

Fir = Sequence[float] | np.ndarray | None
Pads = int | tuple[tuple[int, int], tuple[int, int]]

FIR = (1.0, 3.0, 3.0, 1.0)  # Karras et al. 2020 (arXiv:1912.04958), appendix B; normalised by `fir_taps`


class Axis(NamedTuple):
    """What one axis needs to know besides the pixels; static."""

    size: int  # n
    up: int
    down: int
    lo: int
    hi: int

    def out(self, taps: int) -> int:
        """Length of the result."""
        return (self.size * self.up + self.lo + self.hi - taps) // self.down + 1

    def transposed(self, taps: int) -> "Axis":
        """The axis of the transpose, to be used with the reversed taps."""
        m, lo = self.out(taps), taps - 1 - self.lo
        return Axis(m, self.down, self.up, lo, (self.size - 1) * self.up + taps - m * self.down - lo)


# ---------------------------------------------------------------- one axis


def _pad_axis(x, axis, lo, hi, between=0):
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (lo, hi, between)
    return lax.pad(x, jnp.zeros((), x.dtype), config) if lo or hi or between else x


def _taps(x, axis, a, g):
    """y of the module docstring along `axis` for taps g, as shifted multiply-adds."""
    m = a.out(len(g))
    if a.up > 1 and a.down == 1:
        return _phases(x, axis, a, g, m)
    # hi may leave pixels over at the end; a window that ends on the last one used keeps every slice in range
    need = (m - 1) * a.down + len(g)
    if a.up == 1:
        x = _pad_axis(x, axis, a.lo, need - a.lo - a.size)
    else:
        x = _pad_axis(x, axis, a.lo, need - a.lo - ((a.size - 1) * a.up + 1), a.up - 1)
    return _sum(x, axis, [(t, c) for t, c in enumerate(g)], m, a.down)


def _sum(x, axis, terms, m, step=1):
    total = None
    for t, c in terms:
        if c:
            part = lax.slice_in_dim(x, t, t + (m - 1) * step + 1, step, axis) * np.asarray(c, x.dtype)
            total = part if total is None else total + part
    shape = (*x.shape[:axis], m, *x.shape[axis + 1 :])
    return jnp.zeros(shape, x.dtype) if total is None else total


def _phases(x, axis, a, g, m):
    """Upsampling without touching the zeros: y[s q + r] meets the taps t = lo - r mod s only."""
    s, count = a.up, -(-m // a.up)
    phases = []
    for r in range(s):
        first = (a.lo - r) % s
        terms = [(t, (r + t - a.lo) // s) for t in range(first, len(g), s)]  # (tap, shift in pixels of x)
        shifts = [shift for _, shift in terms] or [0]
        low, high = min(shifts), max(shifts)
        padded = _pad_axis(x, axis, -low, high + count - a.size)
        phases.append(_sum(padded, axis, [(shift - low, g[t]) for t, shift in terms], count))
    y = jnp.stack(phases, axis + 1)
    y = y.reshape(*y.shape[:axis], count * s, *y.shape[axis + 2 :])
    return lax.slice_in_dim(y, 0, m, axis=axis)


# ---------------------------------------------------------------- both axes


def _window(x, axes, g):
    """The same for a filter that is no outer product: taps g[T,U] as rows of a tuple."""
    h, w = axes
    total = None
    for t, row in enumerate(g):
        one = _taps(x, 1, h._replace(lo=h.lo - t, hi=h.hi + t - len(g) + 1), (1.0,))
        part = _taps(one, 2, w, row)
        total = part if total is None else total + part
    return total


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _apply(axes, g, x):
    h, w = axes
    if isinstance(g[0], tuple) and len(g) == 1:  # separable: ((column, row),)
        column, row = g[0]
        # the axis that grows goes last, the one that shrinks first
        if h.up * w.down <= w.up * h.down:
            return _taps(_taps(x, 1, h, column), 2, w, row)
        return _taps(_taps(x, 2, w, row), 1, h, column)
    return _window(x, axes, g[1])


def _sizes(g):
    return (len(g[0][0]), len(g[0][1])) if len(g) == 1 else (len(g[1]), len(g[1][0]))


def _reverse(g):
    if len(g) == 1:
        return (tuple(v[::-1] for v in g[0]),)
    return (g[0], tuple(row[::-1] for row in g[1][::-1]))


def _transpose(axes, g, dy):
    back = tuple(a.transposed(t) for a, t in zip(axes, _sizes(g), strict=True))
    return _apply(back, _reverse(g), dy)


_apply.defvjp(lambda axes, g, x: (_apply(axes, g, x), None), lambda axes, g, _, dy: (_transpose(axes, g, dy),))


def fir_taps(f: Fir, gain: float = 1.0) -> np.ndarray:
    """`f`, a row of taps [T] or a window [T,U], divided by its sum and times `gain` (its square root per axis for a
    row, which stands for its outer product), float64. None: one tap."""
    f = np.asarray((1.0,) if f is None else f, np.float64)
    if f.ndim not in (1, 2) or not f.size:
        raise UserError(f"a filter is a row of taps or a window of them, got shape {f.shape}")
    if not f.sum():
        raise UserError("a filter whose taps sum to 0 cannot be normalised; pass normalize=False")
    return f / f.sum() * gain ** (f.ndim / 2)


def _prepare(f, flip):
    """Hashable taps of a correlation: ((column, row),) or ("window", rows)."""
    if not flip:
        f = np.flip(f)
    if f.ndim == 1:
        row = tuple(f.tolist())
        return ((row, row),)
    u, s, v = np.linalg.svd(f)
    if len(s) == 1 or s[1] <= 1e-12 * s[0]:
        return ((tuple((u[:, 0] * s[0]).tolist()), tuple(v[0].tolist())),)
    return ("window", tuple(tuple(r) for r in f.tolist()))


def _pads(pad):
    if isinstance(pad, int):
        return ((pad, pad), (pad, pad))
    return tuple((int(lo), int(hi)) for lo, hi in pad)


def upfirdn(x: jax.Array, f: Fir, *, up: int = 1, down: int = 1, pad: Pads = 0, flip: bool = False,
            gain: float = 1.0, normalize: bool = True) -> jax.Array:
    """Insert up-1 zeros after each pixel, pad, filter, keep every down-th pixel (`upfirdn2d` of Karras et al. 2020).

    Args:
      x: [N,H,W,C], any float dtype.
      f: taps known at trace time: a row [T] (used along both axes), a window [T,U], or None.
      pad: zeros around the upsampled image, ((top, bottom), (left, right)) or one number; negative: cropped.
      flip: correlate instead of convolve.
      gain: the result is multiplied by it.
      normalize: divide f by its sum.

    Returns:
      [N,H',W',C] in x's dtype, H' = (H up + top + bottom - T) // down + 1.

    Raises:
      UserError: a filter larger than the padded image, factors below 1.
    """
    if x.ndim != 4:
        raise UserError(f"upfirdn wants an image [N,H,W,C], got {tuple(x.shape)}")
    if up < 1 or down < 1:
        raise UserError(f"upfirdn: up and down must be at least 1, got {up} and {down}")
    f = fir_taps(f, gain) if normalize else np.asarray(f, np.float64) * gain ** (np.ndim(f) / 2)
    g = _prepare(f, flip)
    axes = tuple(Axis(n, up, down, lo, hi) for n, (lo, hi) in zip(x.shape[1:3], _pads(pad), strict=True))
    if min(a.out(t) for a, t in zip(axes, _sizes(g), strict=True)) < 1:
        raise UserError(f"upfirdn: {_sizes(g)} taps do not fit an image of {x.shape[1:3]} with padding {_pads(pad)}")
    return _apply(axes, g, x)


def _lengths(f):
    shape = np.shape((1.0,) if f is None else f)
    return shape if len(shape) == 2 else shape * 2


def _around(f, up, down, pad):
    """The padding that centres `f`: sizes become exactly up / down times the input's; `pad` comes on top."""
    out = []
    for t, (lo, hi) in zip(_lengths(f), _pads(pad), strict=True):
        if up > 1:
            lo, hi = lo + (t + up - 1) // 2, hi + (t - up) // 2
        if down > 1:
            lo, hi = lo + (t - down + 1) // 2, hi + (t - down) // 2
        if up == down == 1:
            lo, hi = lo + t // 2, hi + (t - 1) // 2
        out.append((lo, hi))
    return tuple(out)


def filter2d(x: jax.Array, f: Fir, *, pad: Pads = 0, flip: bool = False, gain: float = 1.0) -> jax.Array:
    """Filter at the same size, zeros beyond the border: [N,H,W,C] -> [N,H,W,C]; `pad` adds to (or crops) the result."""
    return upfirdn(x, f, pad=_around(f, 1, 1, pad), flip=flip, gain=gain)


def upsample2d(x: jax.Array, f: Fir = FIR, *, up: int = 2, pad: Pads = 0, flip: bool = False,
               gain: float = 1.0) -> jax.Array:
    """Upsample by `up` with low-pass `f`: [N,H,W,C] -> [N,up H,up W,C]. A constant keeps its value (gain up^2)."""
    return upfirdn(x, f, up=up, pad=_around(f, up, 1, pad), flip=flip, gain=gain * up * up)


def downsample2d(x: jax.Array, f: Fir = FIR, *, down: int = 2, pad: Pads = 0, flip: bool = False,
                 gain: float = 1.0) -> jax.Array:
    """Low-pass `f`, then every down-th pixel: [N,H,W,C] -> [N,H/down,W/down,C]."""
    return upfirdn(x, f, down=down, pad=_around(f, 1, down, pad), flip=flip, gain=gain)


def conv_resample(x: jax.Array, w: jax.Array, *, f: Fir = FIR, up: int = 1, down: int = 1) -> jax.Array:
    """A convolution with odd kernel and "SAME" zero padding that also up- or downsamples, as in StyleGAN2.

    up 2: transposed convolution of stride 2, then `f`; w is not flipped, so as a correlation after the upsampling it
    acts flipped (the convention of the published weights). down 2: `f`, then a convolution of stride 2. A 1x1 kernel
    runs at the smaller of the two sizes. Padding is done once, around everything.

    Args:
      x: [N,H,W,I].
      w: [K,K,I,O] in x's dtype, K odd.

    Returns:
      [N,up H/down,up W/down,O].

    Raises:
      UserError: even kernel, or both up and down.
    """
    k = w.shape[0]
    if k != w.shape[1] or k % 2 == 0:
        raise UserError(f"conv_resample wants an odd square kernel, got {w.shape[:2]}")
    if up > 1 and down > 1:
        raise UserError(f"conv_resample goes up or down, not both; got up={up}, down={down}")
    if up == down == 1:
        return conv2d(x, w)
    p = k // 2
    if k == 1:
        return upsample2d(conv2d(x, w), f, up=up) if up > 1 else conv2d(downsample2d(x, f, down=down), w)
    if down > 1:
        return conv2d(upfirdn(x, f, pad=_around(f, 1, down, p)), w, stride=down, padding="VALID")
    # painting K x K stamps already pads by K-1 in front and K-up behind
    pads = [(lo - (k - 1), hi - (k - up)) for lo, hi in _around(f, up, 1, p)]
    return upfirdn(conv_transpose2d(x, w, stride=up, padding=0), f, pad=tuple(pads), gain=up * up)
