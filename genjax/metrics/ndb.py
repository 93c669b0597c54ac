"""NDB: the number of statistically different bins.

Letters: K bins, the cells of a k-means clustering of the real samples; p, q the shares of the n real and of the m
generated samples that fall into a bin.

A generator that misses modes puts too few samples into some bins, one that repeats itself too many. Source: Richardson
and Weiss, "On GANs and GMMs", 2018, section 2 (K = 100, significance 5 %).
"""

import dataclasses

import jax
import numpy as np

from genjax.errors import UserError
from genjax.metrics.statistics import host_rng


@dataclasses.dataclass(frozen=True, eq=False)
class Bins:
    """A Voronoi tessellation of the real samples.

    Attributes:
      centres: [K,d] float64.
      shares: [K], share of the real samples in each bin.
      n: real samples.
    """

    centres: np.ndarray
    shares: np.ndarray
    n: int


def make_bins(real: np.ndarray, key: jax.Array, bins: int = 100) -> Bins:
    """Clusters the real samples [n,d] (pixels or features, as they are: no whitening) by k-means.

    Args:
      key: of the first centres (k-means++).
      bins: K <= n.
    """
    from sklearn.cluster import KMeans  # half a second of import

    if not 1 <= bins <= len(real):
        raise UserError(f"bins={bins} for {len(real)} real images; use from 1 to that many")
    x = np.asarray(real, np.float64).reshape(len(real), -1)
    seed = int(host_rng(key).integers(2**31))
    found = KMeans(bins, n_init=1, random_state=seed).fit(x)
    return Bins(found.cluster_centers_, np.bincount(found.labels_, minlength=bins) / len(x), len(x))


def assign(x: np.ndarray, centres: np.ndarray, chunk: int = 4096) -> np.ndarray:
    """The nearest centre of each row, [N] int."""
    x = np.asarray(x).reshape(len(x), -1)
    squares = np.sum(centres**2, -1)
    return np.concatenate([np.argmin(squares - 2 * x[i : i + chunk].astype(np.float64) @ centres.T, 1)
                           for i in range(0, len(x), chunk)])


def different_bins(p: np.ndarray, n: int, q: np.ndarray, m: int, significance: float = 0.05) -> np.ndarray:
    """Which bins' shares differ by the two-proportion z test, [K] bool.

    z = (p - q) / sqrt(s (1 - s) (1/n + 1/m)), s the share of both together; a bin is different when the two-sided
    probability of |z| is below `significance`.
    """
    s = (p * n + q * m) / (n + m)
    error = np.sqrt(s * (1 - s) * (1 / n + 1 / m))
    z = np.divide(np.abs(p - q), error, out=np.zeros_like(error), where=error > 0)
    from scipy.special import ndtr  # the normal distribution's, without scipy.stats, which takes a second to import

    return 2 * ndtr(-z) < significance


def ndb(bins: Bins, fake: np.ndarray, significance: float = 0.05) -> dict[str, float]:
    """NDB of generated samples.

    Args:
      bins: of the reals.
      fake: [m,...], the same kind of vectors.

    Returns:
      {"ndb": number of different bins, "share": the same over K (about `significance` for a perfect generator),
      "jsd": Jensen-Shannon divergence of the shares, in nats}.
    """
    q = np.bincount(assign(fake, bins.centres), minlength=len(bins.centres)) / len(fake)
    p, mid = bins.shares, (bins.shares + q) / 2
    number = int(different_bins(p, bins.n, q, len(fake), significance).sum())
    jsd = sum(0.5 * np.sum(x[x > 0] * np.log(x[x > 0] / mid[x > 0])) for x in (p, q))
    return {"ndb": float(number), "share": number / len(p), "jsd": float(jsd)}
