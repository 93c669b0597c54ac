"""Perceptual path length: how much images change along a short step in latent space.

Letters: z latents [B,d], w mapped latents, t in [0,1] the place on the path, e the step.

    E dist(G(path(t)), G(path(t + e))) / e^2

over pairs of random ends; the path is a great circle in z and a straight line in w; "full" takes t uniform, "end"
t = 0. Published as ppl_zfull, ppl_wend and so on, with LPIPS-VGG as the distance, 50 000 or more samples and e = 1e-4.

Source: Karras, Laine and Aila, "A style-based generator architecture for generative adversarial networks", 2019,
section 4.1; trimming and crop as in the papers' code.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Protocol

import jax
import numpy as np

from genjax.errors import UserError, unknown
from genjax.metrics.recipe import Recipe, Value, resolution_of
from genjax.metrics.statistics import place, rows_per_call
from genjax.ops.interpolate import lerp, slerp_unit
from genjax.ops.resample import resize

LARGEST = 256  # images are averaged down to this side before the distance


class Distance(Protocol):
    """What `perceptual_path_length` asks of an image distance, such as LPIPS; it compiles itself.

    Attributes:
      name, weights_id: see `Recipe`.
    """

    name: str
    weights_id: str

    def __call__(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """Float images [b,H,W,C] in the generator's range -> [b], quadratic in small changes."""


@dataclasses.dataclass(frozen=True)
class PathSettings:
    """Which path length.

    Attributes:
      space: "z", great circles, or "w", straight lines.
      sampling: "full" for places all along the path, "end" for its beginning.
      epsilon: e.
      crop: cut the face, rows 3/8 to 7/8 and columns 2/8 to 6/8, before the distance.
      trim: percentiles outside which values are left out.

    Raises:
      UserError: an unknown space or sampling, or numbers that make no sense.
    """

    space: str = "w"
    sampling: str = "end"
    epsilon: float = 1e-4
    crop: bool = False
    trim: tuple[float, float] = (1, 99)

    def __post_init__(self):
        if self.space not in ("z", "w"):
            raise unknown("latent space", self.space, ("z", "w"))
        if self.sampling not in ("full", "end"):
            raise unknown("sampling", self.sampling, ("full", "end"))
        if not self.epsilon > 0 or not 0 <= self.trim[0] < self.trim[1] <= 100:
            raise UserError(f"epsilon={self.epsilon} must be positive and trim={self.trim} rise within 0 to 100")


def perceptual_path_length(decode: Callable[..., jax.Array], distance: Distance, key: jax.Array, n: int, *, width: int,
                           settings: PathSettings | None = None, **options) -> Value:
    """The trimmed mean of `path_distances`, which explains the arguments, with its recipe."""
    s = settings or PathSettings()
    found = path_distances(decode, distance, key, n, width=width, settings=s, **options)
    recipe = Recipe(metric="path_length", network=distance.name, weights=distance.weights_id, n_fake=n, uint8="none",
                    parameters=(*dataclasses.asdict(s).items(),
                                ("resolution", _resolution(decode, key, width, s, **options))))
    return Value(trimmed_mean(found, *s.trim), recipe)


def path_distances(decode: Callable[..., jax.Array], distance: Callable[[jax.Array, jax.Array], jax.Array],
                   key: jax.Array, n: int, *, width: int, settings: PathSettings | None = None,
                   mapping: Callable[..., jax.Array] | None = None, args: tuple = (), batch: int = 16) -> np.ndarray:
    """The n single path lengths; pair i depends on `key` and i alone.

    Args:
      decode: (latents [b,...], keys [b], *args) -> images [b,H,W,C]. Latents are z for space "z", else w; both ends of
        a pair get the same keys, so that noise, if there is any, stays. Hashable, compiled once (see `generate`).
      distance: see `Distance`; the names are not needed here.
      width: d of z, which is normal; for space "z" scaled to length sqrt(d) along the path, as StyleGAN's z are.
      settings: None for the defaults.
      mapping: (z [b,d], *args) -> w [b,...]; for space "w" only, None when w = z.
      args: arrays for `decode` and `mapping`, such as weights.
      batch: pairs per device and call.

    Returns:
      [n] float64.
    """
    s = settings or PathSettings()
    if n < 1 or batch < 1:
        raise UserError(f"n={n} pairs in batches of {batch}: both must be at least 1")
    size, found = rows_per_call(n, batch), []
    for first in range(0, n, size):
        index = np.minimum(np.arange(first, first + size), n - 1).astype(np.int32)
        a, b = _pair((decode, mapping, width, s), key, place(index), args)
        found.append(np.asarray(distance(a, b), np.float64)[: n - first])
    return np.concatenate(found) / s.epsilon**2


def _resolution(decode, key, width, s, mapping=None, args=(), **_):
    """"HxWxC" of what a generator makes, before the crop."""
    def one(key, args):
        z = jax.random.normal(key, (1, width))
        return decode(mapping(z, *args) if s.space == "w" and mapping is not None else z, key[None], *args)

    return resolution_of(jax.eval_shape(one, key, args))


@functools.partial(jax.jit, static_argnums=0)
def _pair(static, key, index, args):
    decode, mapping, width, s = static

    def draw(i):
        a, b, t, noise = jax.random.split(jax.random.fold_in(key, i), 4)
        return jax.random.normal(a, (width,)), jax.random.normal(b, (width,)), jax.random.uniform(t), noise

    a, b, t, noise = jax.vmap(draw)(index)
    if s.space == "w" and mapping is not None:
        a, b = mapping(a, *args), mapping(b, *args)
    t = t.reshape(-1, *[1] * (a.ndim - 1)) * (s.sampling == "full")
    # sqrt(d): the unit circle in the scale of normal draws, for decoders that do not normalise z themselves.
    along = lerp if s.space == "w" else lambda a, b, t: slerp_unit(a, b, t) * width**0.5
    images = (decode(along(a, b, x), noise, *args) for x in (t, t + s.epsilon))
    return tuple(shown(x, s.crop) for x in images)


def shown(x, crop):
    """What the distance sees of images [b,H,W,C]."""
    h, w = x.shape[1:3]
    if crop:
        x = x[:, 3 * h // 8 : 7 * h // 8, 2 * w // 8 : 6 * w // 8]
        h, w = x.shape[1:3]
    factor = max(h // LARGEST, 1)
    return resize(x, (h // factor, w // factor), "area") if factor > 1 else x


def trimmed_mean(x: np.ndarray, low: float = 1, high: float = 99) -> float:
    """The mean of what lies between two percentiles, both included; the percentiles are samples, not interpolated."""
    x = np.asarray(x, np.float64)
    a, b = np.percentile(x, low, method="lower"), np.percentile(x, high, method="higher")
    return float(x[(x >= a) & (x <= b)].mean())
