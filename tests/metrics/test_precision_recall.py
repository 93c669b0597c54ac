"""Precision, recall, density, coverage against brute force, in chunks of any size."""

import numpy as np
import pytest

from genjax.errors import UserError
from genjax.metrics.precision_recall import manifold_metrics, radii

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(41, 6))
FAKE = 0.9 * RNG.normal(size=(33, 6)) + 1


def brute(real, fake, k):
    def distances(a, b):
        return np.array([[np.linalg.norm(u - v) for v in b] for u in a])

    def kth(a):
        return np.array([sorted(np.delete(row, i))[k - 1] for i, row in enumerate(distances(a, a))])

    between, real_r, fake_r = distances(fake, real), kth(real), kth(fake)
    return {"precision": np.mean([any(row <= real_r) for row in between]),
            "recall": np.mean([any(row <= fake_r) for row in between.T]),
            "density": np.mean([sum(row <= real_r) for row in between]) / k,
            "coverage": np.mean([any(column <= r) for column, r in zip(between.T, real_r, strict=True)])}


@pytest.mark.parametrize("k,chunk", [(3, 7), (1, 64), (5, 41)])
def test_brute_force(k, chunk):
    for offset in (0.0, 100.0):  # features far from the origin lose no neighbours to rounding
        found = manifold_metrics(REAL + offset, FAKE + offset, k, chunk)
        assert found == pytest.approx(brute(REAL, FAKE, k), abs=1e-6)
        assert 0 < found["precision"] < 1


def test_precision_and_recall_swap_with_the_sides():
    a, b = manifold_metrics(REAL, FAKE, 3), manifold_metrics(FAKE, REAL, 3)
    assert (a["precision"], a["recall"]) == (b["recall"], b["precision"]) and a["precision"] != a["recall"]


def test_extremes():
    same = manifold_metrics(REAL, REAL, 3)
    assert same["precision"] == same["recall"] == same["coverage"] == 1
    apart = manifold_metrics(REAL, FAKE + 50, 3)
    assert set(apart.values()) == {0.0}
    one_mode = manifold_metrics(np.concatenate([REAL, REAL + 50]), np.tile(REAL, (2, 1)), 3)
    assert one_mode["precision"] == 1 and one_mode["recall"] == one_mode["coverage"] == 0.5


def test_radius_is_that_of_another_point():
    x = np.float32([[0], [1], [3], [7]])
    np.testing.assert_allclose(radii(x, 1, 2), [1, 1, 4, 16])
    np.testing.assert_allclose(radii(x, 2, 3), [9, 4, 9, 36])
    np.testing.assert_allclose(radii(np.zeros((4, 2), np.float32), 2, 4), 0)


@pytest.mark.parametrize("k", [0, 33])
def test_k_must_fit(k):
    with pytest.raises(UserError, match=f"k={k} needs more than"):
        manifold_metrics(REAL, FAKE, k)
