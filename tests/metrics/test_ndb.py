"""NDB on mixtures whose missing modes are known."""

import jax
import numpy as np
import pytest
from scipy import stats

from genjax.errors import UserError
from genjax.metrics.ndb import assign, different_bins, make_bins, ndb

KEY = jax.random.key(0)
CENTRES = 20.0 * np.random.default_rng(5).normal(size=(10, 6))


def mixture(seed, n, modes=10):
    rng = np.random.default_rng(seed)
    return CENTRES[rng.integers(modes, size=n)] + rng.normal(size=(n, 6))


BINS = make_bins(mixture(0, 2000), KEY, 10)


def test_bins_are_cells_of_the_reals():
    assert BINS.shares.sum() == pytest.approx(1) and BINS.n == 2000
    x = mixture(1, 50)
    slow = [int(np.argmin([np.linalg.norm(v - c) for c in BINS.centres])) for v in x]
    np.testing.assert_array_equal(assign(x, BINS.centres, chunk=7), slow)
    same = make_bins(mixture(0, 2000), KEY, 10)
    np.testing.assert_array_equal(same.centres, BINS.centres)


def test_a_perfect_generator_differs_at_the_rate_of_the_test():
    bins = make_bins(mixture(0, 4000), KEY, 40)
    shares = [ndb(bins, mixture(seed, 4000))["share"] for seed in range(1, 9)]
    assert np.mean(shares) < 0.12  # 5 % are expected


def test_missing_modes_are_counted():
    found = ndb(BINS, mixture(3, 2000, modes=5))
    assert found["ndb"] >= 8 and found["share"] == found["ndb"] / 10
    assert found["jsd"] > 0.1 > 0.01 > ndb(BINS, mixture(4, 2000))["jsd"] >= 0
    assert ndb(BINS, np.tile(CENTRES[:1], (100, 1)))["share"] == 1


def test_two_proportions():
    p, q, n, m = np.array([0.10, 0.10, 0.0]), np.array([0.15, 0.11, 0.0]), 500, 400
    s = (50 + 60) / 900
    z = 0.05 / np.sqrt(s * (1 - s) * (1 / 500 + 1 / 400))
    probability = 2 * stats.norm.sf(z)
    assert 0.01 < probability < 0.05
    np.testing.assert_array_equal(different_bins(p, n, q, m), [True, False, False])
    np.testing.assert_array_equal(different_bins(p, n, q, m, probability * 0.999), [False] * 3)
    np.testing.assert_array_equal(different_bins(p, n, q, m, probability * 1.001), [True, False, False])


def test_bins_must_fit():
    with pytest.raises(UserError, match="bins=4 for 3 real images"):
        make_bins(np.zeros((3, 2)), KEY, 4)
