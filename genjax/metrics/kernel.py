"""Kernel distance (KID): the squared maximum mean discrepancy with a cubic kernel, unbiased.

Letters: x [n,d], y [m,d] features, k(a, b) = (a.b / d + 1)^3.

Source: Binkowski et al., "Demystifying MMD GANs", 2018. Unlike the Frechet distance its expectation does not depend on
the number of images; it is often reported times 10^3, and here the metric's name says so.
"""

import jax
import numpy as np

from genjax.errors import UserError
from genjax.metrics.statistics import host_rng


def mmd2(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimate of MMD^2; may be negative.

    Args:
      x: [n,d], y: [m,d], n, m >= 2. Computed in float64: the three terms nearly cancel.
    """
    if min(len(x), len(y)) < 2:
        raise UserError(f"a kernel distance needs at least 2 images on both sides, not {len(x)} and {len(y)}")
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)

    def within(a):
        k = _kernel(a, a)
        return (k.sum() - np.trace(k)) / (len(a) * (len(a) - 1))

    return float(within(x) + within(y) - 2 * _kernel(x, y).mean())


def _kernel(a, b):
    k = a @ b.T
    k /= a.shape[1]
    k += 1
    return k * k * k


def kernel_distance(x: np.ndarray, y: np.ndarray, key: jax.Array, subsets: int = 100,
                    subset_size: int = 1000) -> tuple[float, float]:
    """KID: the mean of `mmd2` over random subsets, drawn without replacement.

    Args:
      x: [n,d], y: [m,d].
      key: chooses the subsets.
      subsets: how many.
      subset_size: images of each side in one; at most what both sides have.

    Returns:
      (mean, standard deviation over the subsets), not multiplied by 10^3.
    """
    if subset_size > min(len(x), len(y)):
        raise UserError(f"subset_size={subset_size} but only {min(len(x), len(y))} images; set it to at most that")
    rng = host_rng(key)
    found = [mmd2(*(a[rng.choice(len(a), subset_size, replace=False)] for a in (x, y))) for _ in range(subsets)]
    return float(np.mean(found)), float(np.std(found))
