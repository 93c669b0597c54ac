"""The CPU's convolution kernels F, D and W (letters and roles: `genjax.ops.conv`).

What XLA's CPU backend does well (jax 0.10.2, 2 cores with AVX-512, float32): a padded stride-1 convolution and a
plain matrix product run at 300 GFLOP/s. What it does badly, and what is done here instead:

* an unpadded 3x3 convolution goes to another library and runs at 200 GFLOP/s: one needless zero column of
  padding on the right, cut off again, brings it back to 300;
* a 1x1 convolution is a matrix product (19 -> 7 ms at 256^2, 128 -> 128);
* the data gradient is a forward convolution with the flipped kernel; at stride s it splits into s^2 phases;
* the weight gradient is one matrix product per tap, contracted over all pixels;
* the 4x4 kernel at stride 2 (DCGAN) uses Winograd's F(2,2) along both axes, nine products for sixteen. Batch 64,
  32^2 x 64 -> 16^2 x 128: W 70 -> 36 ms, D 34 -> 27, F as before; 8^2 x 256 -> 4^2 x 512: F 21 -> 14, W 24 -> 17;
* three-tap rows at stride 1 use Winograd's F(4,3) along W, half the multiplications; the weight gradient of a
  3x3 kernel uses it along both axes, a quarter. At 256^2, 132 -> 128: F 69 -> 51 ms, D 74 -> 49, W 116 -> 58
  (67 along W alone); it still pays at 64^2 (10 -> 4 ms for W) and is even at 32^2.

Accuracy of Winograd at 128 channels, largest error in standard deviations of the result: F and D 8e-6 to 1.5e-5
(direct sum 4e-6), W 1.3e-5 (direct 3e-6). F along both axes would be 6e-5 and no faster, since its transforms
are bound by memory, so F and D stop at one axis.

bfloat16: a product of bfloat16 matrices with float32 result runs on AMX at 1400 GFLOP/s, but only as a plain product
(a bfloat16 convolution runs at float32's 300, a transposed left side at 115), so nothing here depends on it.

glibc gives large arrays back to the system; where page faults are dear (seen on one machine of two), a step of the 2.2
M-parameter prior fell from 639 to 540 ms with `mallopt(M_MMAP_THRESHOLD, 1 << 30)` and `mallopt(M_TRIM_THRESHOLD,
2e9)`. On the other it made no difference, and `M_ARENA_MAX` = 1 slowed small networks down: left to the user.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax

_DIMS = ("NHWC", "HWIO", "NHWC")


# ---------------------------------------------------------------- F: forward


def _conv(x, w, stride=1, pads=((0, 0), (0, 0))):
    """XLA's forward convolution, kept off its slow unpadded path."""
    if any(p for ab in pads for p in ab) or w.shape[:2] == (1, 1):
        return lax.conv_general_dilated(x, w, (stride, stride), pads, dimension_numbers=_DIMS)
    q = (x.shape[2] - w.shape[1]) // stride + 1
    pads = ((0, 0), (0, stride))
    y = lax.conv_general_dilated(x, w, (stride, stride), pads, dimension_numbers=_DIMS)
    return y[:, :, :q]


def _pad_or_crop(x, pads):
    """Zero padding; negative amounts cut."""
    if not any(p for ab in pads for p in ab):
        return x
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((lo, hi, 0) for lo, hi in pads), (0, 0, 0)])


def forward(g, x, w):
    """y = F(x, w)."""
    if g.kernel == (1, 1):
        v = _view(_pad_or_crop(x, g.pads), 0, 0, g)
        return (v.reshape(-1, v.shape[3]) @ w[0, 0]).reshape(*v.shape[:3], -1)
    if g.stride == 1 and _winograd_pays(g.kernel, x.shape[0], g.out, w.shape[2], w.shape[3], x.dtype):
        return _winograd_forward(x, w, g.pads)
    if _halving_pays(g, x, w.shape[2]):
        return _forward_4x4(x, w, g)
    if min(min(ab) for ab in g.pads) < 0:
        x, pads = _pad_or_crop(x, g.pads), ((0, 0), (0, 0))
    else:
        pads = g.pads
    return _conv(x, w, g.stride, pads)


# ---------------------------------------------------------------- D: data gradient, transposed convolution


def data_gradient(g, y, w):
    """x = D(y, w): x[s p + k - t] += y[p] w[k]^T."""
    if g.stride == 1:
        return _data_gradient_1(y, w, g)
    if min(g.out) >= 8 and _halving_pays(g, y, w.shape[2]):
        return _data_gradient_4x4(y, w, g)
    return _data_gradient_phases(y, w, g)


def _data_gradient_1(y, w, g):
    pads = tuple((k - 1 - lo, k - 1 - hi) for k, (lo, hi) in zip(g.kernel, g.pads, strict=True))
    flipped = g._replace(pads=pads, image=y.shape[1:3])
    return forward(flipped, y, jnp.flip(w, (0, 1)).swapaxes(2, 3))


def _data_gradient_phases(y, w, g):
    """Pixel x[s i + a] only meets the taps k = a + t mod s: every phase a is a small stride-1 convolution."""
    s = g.stride
    rows = [jnp.stack([_phase(y, w, g, a, b) for b in range(s)], 3) for a in range(s)]
    x = jnp.stack(rows, 2)  # [N, ceil(H/s), s, ceil(W/s), s, I]
    x = x.reshape(y.shape[0], s * x.shape[1], s * x.shape[3], x.shape[5])
    return x[:, : g.image[0], : g.image[1]]


def _phase(y, w, g, a, b):
    """x[s i + a, s j + b] for all i, j (past the image's end too, so that all phases have one size)."""
    s, pads, sub = g.stride, [], w
    for axis, first in ((0, a), (1, b)):
        lo = g.pads[axis][0]
        k0 = (first + lo) % s  # first tap of this phase; taps k0, k0+s, ...
        sub = sub[k0::s] if axis == 0 else sub[:, k0::s]
        taps = sub.shape[axis]
        # x[s i + a] = sum_m y[i + c - m] w[k0 + s m],  c = (a + t - k0) / s
        c = (first + lo - k0) // s
        size, n = -(-g.image[axis] // s), g.out[axis]
        # forward convolution with the flipped sub-kernel: index i + c - (taps-1) .. i + c
        pads.append((taps - 1 - c, size - n + c) if taps else (0, 0))
    size = tuple(-(-n // s) for n in g.image)
    if 0 in sub.shape[:2]:
        return jnp.zeros((y.shape[0], *size, w.shape[2]), y.dtype)
    inner = type(g)(1, tuple(pads), y.shape[1:3], sub.shape[:2])
    return forward(inner, y, jnp.flip(sub, (0, 1)).swapaxes(2, 3))


# ---------------------------------------------------------------- W: weight gradient


def _view(xp, k, l, g):
    """The pixels of padded xp that meet tap (k, l): [N,P,Q,I]."""
    n, _, _, c = xp.shape
    (p, q), s = g.out, g.stride
    end = (n, k + (p - 1) * s + 1, l + (q - 1) * s + 1, c)
    return lax.slice(xp, (0, k, l, 0), end, (1, s, s, 1))


def _contract(a, b):
    """sum over pixels of a[...,I] b[...,O] -> [I,O]."""
    a, b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())))


def weight_gradient(g, x, y):
    """w = W(x, y): w[k,l] = sum over pixels of x[s p + k - t, s q + l - l]^T y[p, q]."""
    if g.stride == 1 and _winograd_pays(g.kernel, x.shape[0], g.out, x.shape[3], y.shape[3], x.dtype):
        return _winograd_weights(x, y, g)
    if _halving_pays(g, x, 8):
        return _weight_gradient_4x4(x, y, g)
    xp = _pad_or_crop(x, g.pads)
    taps = [[_contract(_view(xp, k, l, g), y) for l in range(g.kernel[1])] for k in range(g.kernel[0])]
    return jnp.stack([jnp.stack(row) for row in taps])


# ---------------------------------------------------------------- Winograd
# Winograd 1980; Lavin & Gray 2016 (arXiv 1509.09308) section 4. M outputs of a correlation with R taps from M + R - 1
# products: y = A^T [(G w) * (B^T d)]. The interpolation points 0, 1, -1, 1/2, -2, infinity have the smallest error of
# the six-point sets (Barabasz et al. 2018, arXiv 1803.10986); three points are 0, 1 and infinity.


class _Scheme:
    """F(M, R): `m`, `r`, and the matrices `a` [n,m], `g` [n,r], `bt` [n,n] for n = m + r - 1 points, the last at
    infinity."""

    def __init__(self, m, r, points):
        n = m + r - 1
        at, gm, bt = np.zeros((m, n)), np.zeros((n, r)), np.zeros((n, n))
        for i, p in enumerate(points):
            others = [q for q in points if q != p]
            at[:, i] = [p**k for k in range(m)]
            gm[i] = [p**j / np.prod([p - q for q in others]) for j in range(r)]
            bt[i, :-1] = np.poly(others)[::-1]
        at[-1, -1] = gm[-1, -1] = 1
        bt[-1] = np.poly(points)[::-1]
        self.m, self.r, self.a, self.g, self.bt = m, r, at.T, gm, bt


_THREE, _TWO = _Scheme(4, 3, (0.0, 1.0, -1.0, 0.5, -2.0)), _Scheme(2, 2, (0.0, 1.0))


def _mix(matrix, parts):
    """Rows of `matrix` applied to a list of arrays, zeros and ones left out."""
    out = []
    for row in matrix:
        terms = [p if c == 1 else p * np.asarray(c, p.dtype) for c, p in zip(row, parts, strict=True) if abs(c) > 1e-9]
        out.append(sum(terms[1:], terms[0]))
    return out


def _winograd_pays(kernel, n, out, i, o, dtype):
    return kernel[1] == 3 and dtype == jnp.float32 and min(i, o) >= 32 and out[1] >= 16 and n * out[0] * out[1] >= 4096


def _tiles(x, pads, size, axis, f):
    """B^T applied to the overlapping tiles of n pixels along `axis`: n arrays that have tiles in its place."""
    n, count = f.m + f.r - 1, -(-size // f.m)
    (lo, hi), span = pads, count * f.m + f.r - 1
    hi = span - x.shape[axis] - lo
    both = ((lo, hi), (0, 0)) if axis == 1 else ((0, 0), (lo, hi))
    xp = _pad_or_crop(x, both)
    return _mix(f.bt, [lax.slice_in_dim(xp, k, span - n + 1 + k, f.m, axis=axis) for k in range(n)])


def _spread(y, axis, f):
    """A applied to the disjoint tiles of M pixels along `axis`: n arrays that have tiles in its place."""
    short = -y.shape[axis] % f.m
    y = _pad_or_crop(y, ((0, short), (0, 0)) if axis == 1 else ((0, 0), (0, short)))
    y = y.reshape(*y.shape[:axis], -1, f.m, *y.shape[axis + 1 :])
    return _mix(f.a, [lax.index_in_dim(y, m, axis + 1, keepdims=False) for m in range(f.m)])


_CACHED = 1 << 20  # bytes of y, or of x, that are transformed at a time, see `_winograd_weights`
_LONG = 1024  # tiles in a product of matrices at least: smaller ones are slow


def _few(x, size, tiles):
    """x [N,...] as [N/n,n,...]: n images of `size` numbers and so many tiles are transformed at a time."""
    n, most = x.shape[0], max(_CACHED // (4 * size), -(-_LONG // tiles))
    few = next(k for k in range(max(1, min(n, most)), 0, -1) if n % k == 0)
    return x.reshape(n // few, few, *x.shape[1:])


def _winograd_forward(x, w, pads):
    f = _THREE
    q = x.shape[2] + sum(pads[1]) - f.r + 1
    kernels = _mix(f.g, [w[:, l : l + 1] for l in range(f.r)])
    products = [
        _conv(u, v, 1, (pads[0], (0, 0))) for u, v in zip(_tiles(x, pads[1], q, 2, f), kernels, strict=True)
    ]
    y = jnp.stack(_mix(f.a.T, products), 3)
    return y.reshape(*y.shape[:2], -1, y.shape[4])[:, :, :q]


def _winograd_weights(x, y, g):
    """Images are taken a few at a time: tiles that stay in the second-level cache halve the time of large maps
    ([8,64,64,64], one core: 44 -> 23 ms; at 128 channels and 32 x 32, 14 -> 12)."""
    f = _TWO if g.kernel[1] == 2 else _THREE
    tiles = -(-g.out[0] // (f.m if g.kernel[0] == f.r else 1)) * -(-g.out[1] // f.m)
    size = max(x[0].size, y[0].size)
    x, y = _few(x, size, tiles), _few(y, size, tiles)
    if len(x) == 1:
        return _winograd_weights_of(x[0], y[0], g, f)

    def add(w, xy):
        return w + _winograd_weights_of(*xy, g, f), None

    return lax.scan(add, jnp.zeros((*g.kernel, x.shape[-1], y.shape[-1]), x.dtype), (x, y))[0]


def _winograd_weights_of(x, y, g, f):
    (p, q), k = g.out, g.kernel[0]
    columns = []
    for u, v in zip(_tiles(x, g.pads[1], q, 2, f), _spread(y, 2, f), strict=True):
        if k == f.r:
            tiles = zip(_tiles(u, g.pads[0], p, 1, f), _spread(v, 1, f), strict=True)
            taps = _mix(f.g.T, [_contract(a, b) for a, b in tiles])
        else:
            u = _pad_or_crop(u, (g.pads[0], (0, 0)))
            taps = [_contract(u[:, t : t + p], v) for t in range(k)]
        columns.append(jnp.stack(taps))
    return jnp.stack(_mix(f.g.T, columns), 1)


# ---------------------------------------------------------------- the 4x4 kernel at stride 2
# It is a 2 x 2 kernel on the 2 x 2 neighbours of the image, put side by side: nine products of matrices for every
# square of 2 x 2 outputs, not sixteen.


def _halving_pays(g, a, i):
    return (g.stride, g.kernel) == (2, (4, 4)) and a.dtype == jnp.float32 and a.size >= 1 << 18 and i >= 8


def _halves(x, g):
    """Padded x with its 2 x 2 neighbours side by side in I: [N,P+1,Q+1,4I] (space to depth)."""
    n, h, w, i = x.shape
    p, q = (size + 1 for size in g.out)
    x = _pad_or_crop(x, tuple((lo, 2 * m - k - lo) for (lo, _), m, k in zip(g.pads, (p, q), (h, w), strict=True)))
    return x.reshape(n, p, 2, q, 2, i).transpose(0, 1, 3, 2, 4, 5).reshape(n, p, q, 4 * i)


def _halved(w):
    """w [4,4,I,O] as [2,2,4I,O]."""
    i, o = w.shape[2:]
    return w.reshape(2, 2, 2, 2, i, o).transpose(0, 2, 1, 3, 4, 5).reshape(2, 2, 4 * i, o)


def _square(x, w, pad, size):
    """The correlation of x, `pad` zeros around it, with w [2,2,C,D] at stride 1: [N,*size,D]."""
    f, tiles = _TWO, tuple(-(-n // 2) for n in size)
    kernels = [_mix(f.g, [row[0], row[1]]) for row in _mix(f.g, [w[0], w[1]])]

    def part(x):
        rows = [_tiles(u, (pad, pad), size[1], 2, f) for u in _tiles(x, (pad, pad), size[0], 1, f)]
        products = [[(u.reshape(-1, u.shape[3]) @ v).reshape(-1, *tiles, v.shape[1]) for u, v in zip(a, b, strict=True)]
                    for a, b in zip(rows, kernels, strict=True)]
        columns = zip(*(_mix(f.a.T, row) for row in products), strict=True)
        y = jnp.stack([jnp.stack(_mix(f.a.T, column), 2) for column in columns], 4)  # [n,tiles,2,tiles',2,D]
        return y.reshape(y.shape[0], 2 * tiles[0], 2 * tiles[1], -1)[:, : size[0], : size[1]]

    x = _few(x, max(x[0].size, size[0] * size[1] * w.shape[3]), tiles[0] * tiles[1])
    y = part(x[0])[None] if len(x) == 1 else lax.map(part, x)
    return y.reshape(-1, *y.shape[2:])


def _forward_4x4(x, w, g):
    return _square(_halves(x, g), _halved(w), 0, g.out)


def _data_gradient_4x4(y, w, g):
    p, q = (size + 1 for size in g.out)
    x = _square(y, jnp.flip(_halved(w), (0, 1)).swapaxes(2, 3), 1, (p, q))
    x = x.reshape(-1, p, q, 2, 2, w.shape[2]).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 2 * p, 2 * q, w.shape[2])
    return _pad_or_crop(x, tuple((-lo, n + lo - 2 * m) for (lo, _), n, m in zip(g.pads, g.image, (p, q), strict=True)))


def _weight_gradient_4x4(x, y, g):
    i, o = x.shape[3], y.shape[3]
    inner = g._replace(stride=1, pads=((0, 0), (0, 0)), image=tuple(n + 1 for n in g.out), kernel=(2, 2))
    x = _halves(x, g)
    if i < 8:  # too few for anything but one product of matrices
        w = _contract(jnp.concatenate([_view(x, k, l, inner) for k in range(2) for l in range(2)], -1), y)
    else:
        w = _winograd_weights(x, y, inner)
    return w.reshape(2, 2, 2, 2, i, o).transpose(0, 2, 1, 3, 4, 5).reshape(4, 4, i, o)


KERNELS = {"F": forward, "D": data_gradient, "W": weight_gradient}
