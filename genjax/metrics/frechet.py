"""Frechet distance between Gaussians, FID and SIFID.

Letters: m mean [d], S covariance [d,d], N images, d features.

    d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)

Source: Heusel et al., "GANs trained by a two time-scale update rule", 2017; SIFID: Shaham et al., "SinGAN", 2019.
"""

import numpy as np

from genjax.errors import UserError
from genjax.metrics.statistics import Moments


def trace_sqrt_product(s1: np.ndarray, s2: np.ndarray) -> float:
    """tr (S1 S2)^(1/2) of covariances [d,d], float64.

    S1 S2 has the eigenvalues of the symmetric S1^(1/2) S2 S1^(1/2), which are real and not negative: no complex matrix
    root, no offset on the diagonal and no failure where a general root has them. Rounding below 0 is cut off.
    """
    values, vectors = np.linalg.eigh(s1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    product = root @ s2 @ root
    return float(np.sqrt(np.maximum(np.linalg.eigvalsh((product + product.T) / 2), 0)).sum())


def gaussian_distance(m1: np.ndarray, s1: np.ndarray, m2: np.ndarray, s2: np.ndarray) -> float:
    """The squared Frechet (2-Wasserstein) distance of two Gaussians, which is what FID reports.

    Args:
      m1, m2: [d]. s1, s2: [d,d]. Computed in float64.
    """
    m1, s1, m2, s2 = (np.asarray(x, np.float64) for x in (m1, s1, m2, s2))
    return float(np.sum((m1 - m2) ** 2) + np.trace(s1) + np.trace(s2) - 2 * trace_sqrt_product(s1, s2))


def frechet_distance(a: Moments, b: Moments, allow_few: bool = False) -> float:
    """FID's formula for two sets of features.

    The estimate is too large by an amount that falls like 1 / N, so values are comparable at equal N alone. Below d
    images a covariance has no full rank and the number says little; that is refused.

    Args:
      allow_few: take fewer than d images all the same, for smoke tests and curves.

    Raises:
      UserError: fewer images than features, or networks of different widths.
    """
    if a.mean.shape != b.mean.shape:
        raise UserError(f"features of {a.mean.size} and of {b.mean.size} numbers; use one network for both sets")
    if not allow_few and min(a.n, b.n) < a.mean.size:
        raise UserError(f"{min(a.n, b.n)} images are too few for a covariance of {a.mean.size} features;"
                        f" use at least {a.mean.size}, or set config.task.evaluation.settings.allow_few=True (in Python"
                        " allow_few=True) for a number that is no result")
    return gaussian_distance(a.mean, a.covariance, b.mean, b.covariance)


def sifid(real: np.ndarray, fake: np.ndarray, allow_few: bool = False) -> np.ndarray:
    """Single-image FID: the Frechet distance between the features at all places of one image and of another.

    Args:
      real, fake: feature maps [N,h,w,d]; map i of one is compared with map i of the other, and h, w may differ
        between the two. The paper's text takes Inception's layer before its second pooling; its code, and the
        numbers with it, the one before the first (d = 64, "conv3" here) of pictures in their own size.
      allow_few: as for `frechet_distance`; the places are what counts here.

    Returns:
      [N] float64. SinGAN reports the mean.
    """
    real, fake = np.asarray(real), np.asarray(fake)
    if real.ndim != 4 or fake.ndim != 4 or len(real) != len(fake):
        raise UserError(f"sifid compares maps [N,h,w,d] pair by pair, not {list(real.shape)} with {list(fake.shape)}")
    pairs = zip(real, fake, strict=True)
    return np.array([frechet_distance(*(Moments.of(x.reshape(-1, x.shape[-1])) for x in pair), allow_few)
                     for pair in pairs])
