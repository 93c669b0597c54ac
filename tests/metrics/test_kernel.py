"""Kernel distance: the two-point oracle, loops, no bias, subsets by key."""

import jax
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.metrics.kernel import kernel_distance, mmd2

X, Y = np.array([[1, 0], [0, 1.0]]), np.array([[1, 1], [2, 0.0]])
RNG = np.random.default_rng(0)
KEY = jax.random.key(0)


def test_two_points():
    assert mmd2(X, Y) == pytest.approx(1.125, abs=1e-12)
    assert kernel_distance(X, Y, KEY, subsets=3, subset_size=2) == (pytest.approx(1.125), pytest.approx(0))


def test_agrees_with_loops():
    a, b = RNG.normal(size=(7, 5)), RNG.normal(size=(9, 5)) + 0.3
    k = lambda u, v: (u @ v / 5 + 1) ** 3  # noqa: E731
    within = [np.mean([k(u, v) for i, u in enumerate(s) for j, v in enumerate(s) if i != j]) for s in (a, b)]
    assert mmd2(a, b) == pytest.approx(sum(within) - 2 * np.mean([k(u, v) for u in a for v in b]), rel=1e-10)
    assert mmd2(a.astype(np.float32), b.astype(np.float32)) == pytest.approx(mmd2(a, b), rel=1e-5)


def test_no_bias_whatever_the_number():
    """The mean over many pairs of equal sets is 0 within 3 standard errors, and some are below."""
    for n in (4, 40):
        found = [mmd2(*RNG.normal(size=(2, n, 3))) for _ in range(300)]
        assert abs(np.mean(found)) < 3 * np.std(found) / 300**0.5 and min(found) < 0


def test_subsets_follow_the_key():
    a, b = RNG.normal(size=(60, 4)), RNG.normal(size=(50, 4)) + 1
    found = kernel_distance(a, b, KEY, 10, 20)
    assert found == kernel_distance(a, b, KEY, 10, 20) != kernel_distance(a, b, jax.random.key(1), 10, 20)
    assert found[0] == pytest.approx(mmd2(a, b), abs=3 * found[1]) and found[1] > 0
    whole, std = kernel_distance(a[:50], b, KEY, 2, 50)  # without replacement: every subset is the whole
    assert whole == pytest.approx(mmd2(a[:50], b)) and std == pytest.approx(0, abs=1e-9)


def test_refusals():
    with pytest.raises(UserError, match="subset_size=51 but only 50"):
        kernel_distance(np.zeros((60, 2)), np.zeros((50, 2)), KEY, 1, 51)
    with pytest.raises(UserError, match="at least 2"):
        mmd2(X[:1], Y)
