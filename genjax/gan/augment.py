"""Adaptive discriminator augmentation: Karras et al. 2020 (arXiv:2006.06676), section 2 and appendix B.

Letters: x[N,H,W,C] pictures in [-1,1], C 3 or 1; p strength in [0,1], a traced scalar; G[N,3,3] inverse geometric
transformation (see `augment_geometry`), A[N,4,4] colour transformation of (r, g, b, 1), b[N,4] gains of frequency
bands.

Each transformation is applied to each picture with its own chance p times its multiplier. A draw (`Pipe.draw`: what is
applied, as numbers) is separate from its execution (`Pipe.apply`), which is linear in x plus a constant: gradients of
any order in reverse mode. A picture to which nothing of a kind is applied passes that kind bit for bit; so p = 0
returns x unchanged.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genjax.errors import UserError, unknown
from genjax.gan.augment_geometry import matmul, rotate, scale, translate, warp

_KINDS = {
    "blit": ("xflip", "rotate90", "xint"),
    "geom": ("scale", "rotate", "aniso", "xfrac"),
    "color": ("brightness", "contrast", "lumaflip", "hue", "saturation"),
    "filter": ("imgfilter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
}

# Symlet 2, low-pass decomposition filter (Daubechies 1992; pywt.Wavelet("sym2").dec_lo)
SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)
POWER = np.asarray((10, 1, 1, 1)) / 13  # expected share of a natural picture's power in each band


class Draw(NamedTuple):
    """What a batch undergoes; None where the pipe has nothing of the kind."""

    inverse: jax.Array | None  # G[N,3,3]
    colour: jax.Array | None  # A[N,4,4]
    bands: jax.Array | None  # b[N,4]
    noise: jax.Array | None  # [N,H,W,C], what is added
    cutout: jax.Array | None  # [N,3]: centre (column, row) in [0,1], side as a share of the picture's, 0: none


@dataclasses.dataclass(frozen=True)
class Pipe:
    """The augmentations of StyleGAN2-ADA; all off by default, see `pipe` for the paper's sets.

    Attributes:
      xflip, rotate90, xint, scale, rotate, aniso, xfrac, brightness, contrast, lumaflip, hue, saturation, imgfilter,
        noise, cutout: multipliers of p, 0: off.
      xint_max: whole-pixel translation, largest share of the size.
      scale_std, aniso_std: standard deviation of log2 of the scales.
      rotate_max: largest rotation, 1: half a turn either way.
      xfrac_std: standard deviation of the translation, as a share of the size.
      brightness_std: standard deviation of what is added.
      contrast_std, saturation_std, imgfilter_std: standard deviation of log2 of the factors.
      hue_max: largest rotation of hue, 1: half a turn either way.
      imgfilter_bands: multipliers of the four bands, the lowest frequencies first.
      noise_std: the standard deviation of the noise is |N(0, noise_std^2)|.
      cutout_size: side of the square cut out, as a share of the picture's.
      margin: see `augment_geometry.warp`.
    """

    xflip: float = 0.0
    rotate90: float = 0.0
    xint: float = 0.0
    scale: float = 0.0
    rotate: float = 0.0
    aniso: float = 0.0
    xfrac: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    lumaflip: float = 0.0
    hue: float = 0.0
    saturation: float = 0.0
    imgfilter: float = 0.0
    noise: float = 0.0
    cutout: float = 0.0
    xint_max: float = 0.125
    scale_std: float = 0.2
    rotate_max: float = 1.0
    aniso_std: float = 0.2
    xfrac_std: float = 0.125
    brightness_std: float = 0.2
    contrast_std: float = 0.5
    hue_max: float = 1.0
    saturation_std: float = 1.0
    imgfilter_bands: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    imgfilter_std: float = 1.0
    noise_std: float = 0.1
    cutout_size: float = 0.5
    margin: float = 1.0

    def __post_init__(self):
        for name in (n for names in _KINDS.values() for n in names):
            if not getattr(self, name) >= 0:
                raise UserError(f"the multiplier {name} must not be negative, got {getattr(self, name)}")

    def __call__(self, x: jax.Array, p: jax.Array | float, key: jax.Array) -> jax.Array:
        """x[N,H,W,C] augmented with strength p, same shape and dtype."""
        return self.apply(x, self.draw(key, p, x.shape))

    def draw(self, key: jax.Array, p: jax.Array | float, shape: tuple[int, int, int, int]) -> Draw:
        """The numbers of one batch of that shape."""
        geometry, colour, bands, noise, cutout = jax.random.split(key, 5)
        n = shape[0]
        return Draw(
            self._geometry(_Chances(geometry, p, n), *shape[1:3]) if self._any("blit", "geom") else None,
            self._colour(_Chances(colour, p, n)) if self._any("color") else None,
            self._bands(_Chances(bands, p, n)) if self._any("filter") else None,
            self._noise(_Chances(noise, p, n), shape) if self._any("noise") else None,
            self._cutout(_Chances(cutout, p, n)) if self._any("cutout") else None,
        )

    def apply(self, x: jax.Array, draw: Draw) -> jax.Array:
        """What `draw` says, done to x[N,H,W,C]."""
        if draw.inverse is not None:
            x = warp(x, draw.inverse, self.margin)
        if draw.colour is not None:
            x = recolour(x, draw.colour)
        if draw.bands is not None:
            x = filter_bands(x, draw.bands)
        if draw.noise is not None:
            x = x + draw.noise.astype(x.dtype)
        return x if draw.cutout is None else cut_out(x, draw.cutout)

    def _any(self, *kinds):
        return any(getattr(self, name) > 0 for kind in kinds for name in _KINDS[kind])

    def _geometry(self, c, h, w):
        g = jnp.eye(3)
        if self.xflip:
            g = matmul(g, scale(1 - 2 * c.applied(self.xflip, c.integer(2), 0), 1))
        if self.rotate90:
            g = matmul(g, rotate90_matrix(c.applied(self.rotate90, c.integer(4), 0)))
        if self.xint:
            t = c.applied(self.xint, c.uniform(2) * self.xint_max, 0)
            g = matmul(g, translate(-jnp.round(t[:, 0] * w), -jnp.round(t[:, 1] * h)))
        if self.scale:
            s = c.applied(self.scale, jnp.exp2(c.normal() * self.scale_std), 1)
            g = matmul(g, scale(1 / s, 1 / s))
        # a rotation before or after: P(either) = p
        share = 1 - jnp.sqrt(jnp.clip(1 - self.rotate * c.p, 0, 1))
        if self.rotate:
            g = matmul(g, rotate(c.applied_with(share, c.uniform() * np.pi * self.rotate_max, 0)))
        if self.aniso:
            s = c.applied(self.aniso, jnp.exp2(c.normal() * self.aniso_std), 1)
            g = matmul(g, scale(1 / s, s))
        if self.rotate:
            g = matmul(g, rotate(c.applied_with(share, c.uniform() * np.pi * self.rotate_max, 0)))
        if self.xfrac:
            t = c.applied(self.xfrac, c.normal(2) * self.xfrac_std, 0)
            g = matmul(g, translate(-t[:, 0] * w, -t[:, 1] * h))
        return g

    def _colour(self, c):
        a = jnp.broadcast_to(jnp.eye(4), (c.n, 4, 4))
        if self.brightness:
            b = c.applied(self.brightness, c.normal() * self.brightness_std, 0)
            a = matmul(brightness_matrix(b), a)
        if self.contrast:
            a = matmul(contrast_matrix(c.applied(self.contrast, jnp.exp2(c.normal() * self.contrast_std), 1)), a)
        if self.lumaflip:
            a = matmul(lumaflip_matrix(c.applied(self.lumaflip, c.integer(2), 0)), a)
        if self.hue:
            a = matmul(hue_matrix(c.applied(self.hue, c.uniform() * np.pi * self.hue_max, 0)), a)
        if self.saturation:
            s = c.applied(self.saturation, jnp.exp2(c.normal() * self.saturation_std), 1)
            a = matmul(saturation_matrix(s), a)
        return a

    def _bands(self, c):
        gains = jnp.ones((c.n, len(POWER)))
        for i, share in enumerate(self.imgfilter_bands):
            t = c.applied(self.imgfilter * share, jnp.exp2(c.normal() * self.imgfilter_std), 1)
            rest = 1 + POWER[i] * (jnp.square(t) - 1)  # expected power once band i is multiplied by t
            gains = gains * jnp.where(jnp.arange(len(POWER)) == i, t[:, None], 1) / jnp.sqrt(rest)[:, None]
        return gains

    def _noise(self, c, shape):
        sigma = c.applied(self.noise, jnp.abs(c.normal()) * self.noise_std, 0)
        return sigma[:, None, None, None] * jax.random.normal(c.key(), shape)

    def _cutout(self, c):
        size = c.applied(self.cutout, jnp.full((c.n,), self.cutout_size), 0)
        return jnp.concatenate([(c.uniform(2) + 1) / 2, size[:, None]], 1)


class _Chances:
    """Random numbers for n pictures, a fresh key for each request."""

    def __init__(self, key, p, n):
        self._key, self._used, self.p, self.n = key, 0, p, n

    def key(self):
        self._used += 1
        return jax.random.fold_in(self._key, self._used)

    def uniform(self, *shape):
        """In [-1,1), [n,*shape]."""
        return jax.random.uniform(self.key(), (self.n, *shape), minval=-1.0, maxval=1.0)

    def normal(self, *shape):
        return jax.random.normal(self.key(), (self.n, *shape))

    def integer(self, below):
        return jax.random.randint(self.key(), (self.n,), 0, below).astype(jnp.float32)

    def applied(self, multiplier, value, neutral):
        """value[n,...] with chance p times multiplier, else `neutral`."""
        return self.applied_with(multiplier * self.p, value, neutral)

    def applied_with(self, chance, value, neutral):
        yes = jax.random.uniform(self.key(), (self.n,)) < chance
        return jnp.where(yes.reshape(-1, *[1] * (value.ndim - 1)), value, neutral)


# ---------------------------------------------------------------- matrices


def rotate90_matrix(i):
    """[...,3,3]: the inverse matrix of i quarter turns; whole numbers, where cosines would round."""
    c, s = jnp.round(jnp.cos(i * np.pi / 2)), jnp.round(jnp.sin(i * np.pi / 2))
    return jnp.zeros((*jnp.shape(i), 3, 3)).at[..., 0, 0].set(c).at[..., 0, 1].set(-s).at[..., 1, 0].set(
        s).at[..., 1, 1].set(c).at[..., 2, 2].set(1.0)


_LUMA = np.pad(np.full((3, 3), 1 / 3), ((0, 1), (0, 1))).astype(np.float32)  # v v^T, v the grey axis (1,1,1)/sqrt 3


def _on_rgb(f):
    return jnp.pad(f, [(0, 0)] * (f.ndim - 2) + [(0, 1), (0, 1)]).at[..., 3, 3].set(1.0)


def brightness_matrix(b):
    """[...,4,4]: adds b."""
    return jnp.broadcast_to(jnp.eye(4), (*b.shape, 4, 4)).at[..., :3, 3].set(b[..., None])


def contrast_matrix(c):
    """[...,4,4]: multiplies by c."""
    return _on_rgb(c[..., None, None] * jnp.eye(3))


def lumaflip_matrix(i):
    """[...,4,4]: mirrors along the grey axis where i = 1 (a Householder reflection)."""
    return jnp.eye(4) - 2 * _LUMA * i[..., None, None]


def hue_matrix(theta):
    """[...,4,4]: turns around the grey axis by theta (Rodrigues' formula)."""
    c, s = jnp.cos(theta)[..., None, None], jnp.sin(theta)[..., None, None]
    cross = np.asarray([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], np.float32) / np.sqrt(3)
    return _on_rgb(c * jnp.eye(3) + s * cross + (1 - c) * _LUMA[:3, :3])


def saturation_matrix(s):
    """[...,4,4]: multiplies the distance from the grey axis by s."""
    return jnp.eye(4) + (s[..., None, None] - 1) * (_on_rgb(jnp.eye(3) - _LUMA[:3, :3]) - np.diag([0, 0, 0, 1.0]))


# ---------------------------------------------------------------- execution


def recolour(x: jax.Array, a: jax.Array) -> jax.Array:
    """A[N,4,4] applied to the colours of x[N,H,W,3]; one channel takes the mean row, as a grey picture would."""
    n, _, _, c = x.shape
    if c not in (1, 3):
        raise UserError(f"colour augmentations want 3 channels or 1, got {c}")
    a = a.astype(x.dtype)
    if c == 1:
        row = a[:, :3].mean(1)
        y = x * row[:, :3].sum(1)[:, None, None, None] + row[:, 3][:, None, None, None]
        return jnp.where((a == jnp.eye(4)).all((1, 2))[:, None, None, None], x, y)
    # multiply-adds rather than a product with N tiny matrices
    channels = [x[..., j : j + 1] * a[:, :3, j][:, None, None, :] for j in range(3)]
    return channels[0] + channels[1] + channels[2] + a[:, :3, 3][:, None, None, :]


def band_filters() -> np.ndarray:
    """[4,43] symmetric filters that add up to a unit impulse: octaves of the picture's spectrum, lowest first.

    Built from sym2's half-band filter H(z) H(1/z) / 2 and its complement by the usual cascade: each step stretches
    the bank by 2, narrows it with the low-pass, and puts the high-pass in as the new band.
    """
    low = np.asarray(SYM2)
    low = np.convolve(low, low[::-1]) / 2
    high = low * (-1.0) ** (np.arange(len(low)) - len(low) // 2)
    bank = [np.ones(1)]
    for _ in range(3):
        wide = [np.zeros(2 * len(b) - 1) for b in bank]
        for w, b in zip(wide, bank, strict=True):
            w[::2] = b
        bank = [np.convolve(w, low) for w in wide]
        pad = (len(bank[0]) - len(high)) // 2
        bank.append(np.pad(high, pad))
    return np.stack(bank).astype(np.float32)


def _band_matrix(filters, size):
    """filters[4,T] as matrices [4,size,size] along an axis continued by reflection."""
    reach = filters.shape[1] // 2
    if size <= reach:
        raise UserError(f"imgfilter needs pictures of more than {reach} pixels a side, got {size}; turn it off")
    i, j = jnp.arange(size)[:, None], jnp.arange(size)[None, :]
    padded = jnp.pad(filters, ((0, 0), (reach, reach + 1)))

    def tap(offset, where):
        near = where & (jnp.abs(offset) <= reach)
        return jnp.where(near, padded[:, jnp.where(near, offset, 0) + 2 * reach], 0)

    return tap(j - i, True) + tap(-j - i, j > 0) + tap(2 * (size - 1) - j - i, j < size - 1)


def filter_bands(x: jax.Array, gains: jax.Array) -> jax.Array:
    """Multiplies the four frequency bands of x[N,H,W,C] by gains[N,4] along both axes, continued by reflection."""
    filters = jnp.asarray(band_filters())
    rows, cols = (jnp.einsum("nb,bij->nij", gains, _band_matrix(filters, k), precision="highest").astype(x.dtype)
                  for k in x.shape[1:3])
    y = jnp.einsum("nij,njwc->niwc", rows, x, precision="highest")
    y = jnp.einsum("nij,nhjc->nhic", cols, y, precision="highest")
    return jnp.where((gains == 1).all(1)[:, None, None, None], x, y)


def cut_out(x: jax.Array, cutout: jax.Array) -> jax.Array:
    """Zero where a pixel's centre is nearer than half the side to the centre along both axes; cutout as in `Draw`."""
    _, h, w, _ = x.shape
    col = jnp.abs((jnp.arange(w) + 0.5) / w - cutout[:, 0:1]) >= cutout[:, 2:] / 2
    row = jnp.abs((jnp.arange(h) + 0.5) / h - cutout[:, 1:2]) >= cutout[:, 2:] / 2
    return jnp.where((row[:, :, None] | col[:, None, :])[..., None], x, jnp.zeros((), x.dtype))


# ---------------------------------------------------------------- the paper's sets


def pipe(name: str = "bgc", margin: float = 1.0) -> Pipe:
    """A set of augmentations with multiplier 1: "blit", "geom", "color", "filter", "noise", "cutout", or "bg", "bgc"
    (the paper's choice), "bgcf", "bgcfn", "bgcfnc" for the first two, three ... of them; "none".

    Raises:
      UserError: another name.
    """
    kinds = list(_KINDS)
    sets = {"none": [], **{k: [k] for k in kinds}, **{"bgcfnc"[:n]: kinds[:n] for n in range(2, 7)}}
    if name not in sets:
        raise unknown("augmentation pipe", name, sets)
    return Pipe(**{field: 1.0 for kind in sets[name] for field in _KINDS[kind]}, margin=margin)
