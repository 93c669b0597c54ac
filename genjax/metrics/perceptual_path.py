"""Perceptual path length: how much images change along a short step in latent space.

Letters: z latents [B,d], w mapped latents, t in [0,1] the place on the path, e the step.

    E dist(G(path(t)), G(path(t + e))) / e^2

over pairs of random ends; the path is a great circle in z and a straight line in w; "full" takes t uniform, "end"
t = 0. Published as ppl_zfull, ppl_wend and so on, with LPIPS-VGG as the distance, 50 000 or more samples and e = 1e-4.

Source: Karras, Laine and Aila, "A style-based generator architecture for generative adversarial networks", 2019,
section 4.1; trimming and crop as in the papers' code.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from genjax.errors import UserError, unknown
from genjax.metrics.statistics import rows_per_call, place
from genjax.ops.interpolate import lerp, slerp_unit
from genjax.ops.resample import resize

SPACES, SAMPLINGS = ("z", "w"), ("full", "end")
LARGEST = 256  # images are averaged down to this side before the distance


def path_distances(decode: Callable[..., jax.Array], distance: Callable[[jax.Array, jax.Array], jax.Array],
                   key: jax.Array, n: int, *, width: int, mapping: Callable[..., jax.Array] | None = None,
                   args: tuple = (), space: str = "w", sampling: str = "end", epsilon: float = 1e-4,
                   crop: bool = False, batch: int = 16) -> np.ndarray:
    """The n single path lengths; pair i depends on `key` and i alone.

    Args:
      decode: (latents [b,...], keys [b], *args) -> images [b,H,W,C]. Latents are z for space "z", else w; both ends of
        a pair get the same keys, so that noise, if there is any, stays. Hashable, compiled once (see `generate`).
      distance: (images [b,H,W,C], images) -> [b], as LPIPS: quadratic in small changes. Compiles itself.
      width: d of z.
      mapping: (z [b,d], *args) -> w [b,...]; for space "w" only, None when w = z.
      args: arrays for `decode` and `mapping`, such as weights.
      space, sampling: see above.
      epsilon: e.
      crop: cut the face, rows 3/8 to 7/8 and columns 2/8 to 6/8, before the distance.
      batch: pairs per device and call.

    Returns:
      [n] float64.
    """
    if space not in SPACES:
        raise unknown("latent space", space, SPACES)
    if sampling not in SAMPLINGS:
        raise unknown("sampling", sampling, SAMPLINGS)
    if n < 1 or batch < 1 or not epsilon > 0:
        raise UserError(f"n={n}, batch={batch}, epsilon={epsilon}: all must be positive")
    size, found = rows_per_call(n, batch), []
    for first in range(0, n, size):
        index = np.minimum(np.arange(first, first + size), n - 1).astype(np.int32)
        a, b = _pair((decode, mapping, width, space, sampling, crop), key, place(index), epsilon, args)
        found.append(np.asarray(distance(a, b), np.float64)[: n - first])
    return np.concatenate(found) / epsilon**2


@functools.partial(jax.jit, static_argnums=0)
def _pair(static, key, index, epsilon, args):
    decode, mapping, width, space, sampling, crop = static

    def draw(i):
        a, b, place, noise = jax.random.split(jax.random.fold_in(key, i), 4)
        return (jax.random.normal(a, (width,)), jax.random.normal(b, (width,)),
                jax.random.uniform(place) if sampling == "full" else 0.0, noise)

    a, b, t, noise = jax.vmap(draw)(index)
    if space == "w" and mapping is not None:
        a, b = mapping(a, *args), mapping(b, *args)
    path = lerp if space == "w" else slerp_unit
    t = jnp.reshape(t, (-1,) + (1,) * (a.ndim - 1))
    images = (decode(path(a, b, t), noise, *args), decode(path(a, b, t + epsilon), noise, *args))
    return tuple(_shown(x, crop) for x in images)


def _shown(x, crop):
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


def perceptual_path_length(*args, trim: tuple[float, float] = (1, 99), **kwargs) -> float:
    """`trimmed_mean` of `path_distances`, which says what the arguments are."""
    return trimmed_mean(path_distances(*args, **kwargs), *trim)
