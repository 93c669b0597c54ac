"""Precision, recall, density and coverage of generated features among real ones.

Letters: R [n,d] real and F [m,d] generated features; r_i(k) the distance of point i to its k-th nearest other point of
its own set; the ball of a point has that radius.

    precision  share of F inside some ball of R          recall    share of R inside some ball of F
    density    mean number of balls of R around a point of F, / k
    coverage   share of R whose ball holds a point of F

Source: Kynkaanniemi et al., "Improved precision and recall metric for assessing generative models", 2019 (k = 3, VGG16
fc2, 50 000 each); Naeem et al., "Reliable fidelity and diversity metrics for generative models", 2020 (k = 5). Points
on the surface are inside.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from genjax.errors import UserError
from genjax.metrics.statistics import place, spread

CHUNK = 1024  # rows whose distances to all points are held at once, per device


def manifold_metrics(real: np.ndarray, fake: np.ndarray, k: int = 3, chunk: int = CHUNK) -> dict[str, float]:
    """All four numbers.

    Distances are computed on the devices in float32, `chunk` rows at a time, after the mean of the reals is taken off
    (distances do not change, rounding gets smaller).

    Args:
      real: [n,d], fake: [m,d].
      k: which neighbour is the radius; n, m > k.
      chunk: rows at once: memory is chunk x max(n, m) numbers.

    Returns:
      {"precision", "recall", "density", "coverage"}.

    Raises:
      UserError: k below 1 or too few images for it.
    """
    if k < 1 or min(len(real), len(fake)) <= k:
        raise UserError(f"k={k} needs more than {max(k, 1)} images on both sides, not {len(real)} and {len(fake)};"
                        " lower k (at least 1) or give more")
    centre = np.asarray(real, np.float64).mean(0)
    real, fake = ((np.asarray(x) - centre).astype(np.float32) for x in (real, fake))
    real_radii, fake_radii = radii(real, k, chunk), radii(fake, k, chunk)
    around_fake, reached = _balls(fake, real, real_radii, chunk)
    around_real, _ = _balls(real, fake, fake_radii, chunk)
    return {"precision": float((around_fake > 0).mean()), "recall": float((around_real > 0).mean()),
            "density": float(around_fake.mean() / k), "coverage": float(reached.mean())}


def radii(x: np.ndarray, k: int, chunk: int = CHUNK) -> np.ndarray:
    """Squared distance of each row of x [N,d] to its k-th nearest other row, [N] float32."""
    points = spread(x)
    return np.concatenate([np.asarray(_kth(rows, i, points, k))[:count] for rows, i, count in _chunks(x, chunk)])


def _balls(rows, points, radii2, chunk):
    """(how many balls around `points` hold each row, whether each ball holds a row)."""
    counts, reached = [], np.zeros(len(points), bool)
    points, radii2 = spread(points), spread(radii2)
    for block, _, count in _chunks(rows, chunk):
        number, hit = _inside(block, points, radii2, count)
        counts.append(np.asarray(number)[:count])
        reached |= np.asarray(hit)
    return np.concatenate(counts), reached


def _chunks(x, chunk):
    """(rows, their indices, how many count), all of one length: the last rows are repeated to fill it."""
    devices = len(jax.local_devices())
    size = min(chunk * devices, -(-len(x) // devices) * devices)
    for first in range(0, len(x), size):
        index = np.minimum(np.arange(first, first + size), len(x) - 1).astype(np.int32)
        yield place(x[index]), place(index), min(size, len(x) - first)


def _squared(rows, points):
    cross = jnp.einsum("id,jd->ij", rows, points, precision="highest")
    return jnp.maximum(jnp.sum(rows**2, -1)[:, None] + jnp.sum(points**2, -1) - 2 * cross, 0)


@functools.partial(jax.jit, static_argnums=3)
def _kth(rows, index, points, k):
    distances = jnp.where(index[:, None] == jnp.arange(len(points)), jnp.inf, _squared(rows, points))
    return -jax.lax.top_k(-distances, k)[0][:, -1]


@jax.jit
def _inside(rows, points, radii2, count):
    inside = _squared(rows, points) <= radii2
    inside &= (jnp.arange(len(rows)) < count)[:, None]
    return inside.sum(1), inside.any(0)
