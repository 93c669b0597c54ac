"""Frechet distance: closed forms of the spec, scipy's general matrix root, bias, SIFID."""

import numpy as np
import pytest
from scipy import linalg

from genjax.errors import UserError
from genjax.metrics.frechet import frechet_distance, gaussian_distance, sifid, trace_sqrt_product
from genjax.metrics.statistics import Moments

RNG = np.random.default_rng(0)


def test_closed_forms():
    d = 2048
    # Diagonal covariances, so that eigh of 2048 x 2048 is quick; the value is that of N(0,I) to N(0,4I).
    assert gaussian_distance(np.zeros(d), np.eye(d), np.zeros(d), 4 * np.eye(d)) == pytest.approx(2048.0, rel=1e-12)
    s1, s2 = np.array([[2, 1], [1, 3.0]]), np.diag([1, 4.0])
    assert trace_sqrt_product(s1, s2) == pytest.approx(4.7900179446, abs=1e-9)
    assert gaussian_distance([0, 0], s1, [1, 2], s2) == pytest.approx(5.4199641107, abs=1e-9)
    assert gaussian_distance([1, 2], s2, [0, 0], s1) == pytest.approx(5.4199641107, abs=1e-9)


def test_agrees_with_the_general_matrix_root():
    a, b = (RNG.normal(size=(300, 40)) @ RNG.normal(size=(40, 40)) for _ in range(2))
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    assert trace_sqrt_product(s1, s2) == pytest.approx(np.trace(linalg.sqrtm(s1 @ s2)).real, rel=1e-8)


def test_singular_covariances_are_no_failure():
    a = RNG.normal(size=(20, 64))
    b = a + 1.0
    assert frechet_distance(Moments.of(a), Moments.of(b), allow_few=True) == pytest.approx(64.0, abs=1e-3)
    dead = np.concatenate([RNG.normal(size=(50, 3)), np.zeros((50, 2))], 1)  # features that never fire
    assert frechet_distance(Moments.of(dead), Moments.of(dead)) == pytest.approx(0, abs=1e-6)


def test_identical_sets_are_at_0_and_halves_near_it():
    x = (RNG.normal(size=(6000, 16)) @ RNG.normal(size=(16, 16)) + 3).astype(np.float32)
    assert frechet_distance(Moments.of(x), Moments.of(x)) == pytest.approx(0, abs=1e-3)
    halves = frechet_distance(Moments.of(x[::2]), Moments.of(x[1::2]))
    assert 0 < halves < 0.02 * np.trace(np.cov(x, rowvar=False))


def test_bias_falls_with_the_number_of_images():
    """The spec's curve for a 64-dimensional normal: 21.45, 4.16, 2.20, .45 at N = 100, 500, 1000, 5000."""
    rng = np.random.default_rng(1)
    for n, expected in ((100, 21.45), (500, 4.16), (1000, 2.20), (5000, 0.45)):
        a, b = (Moments.of(rng.normal(size=(n, 64))) for _ in range(2))
        assert frechet_distance(a, b) == pytest.approx(expected, rel=0.15), n


def test_too_few_images_are_refused_in_one_line():
    few, many = Moments.of(RNG.normal(size=(63, 64))), Moments.of(RNG.normal(size=(64, 64)))
    with pytest.raises(UserError, match="63 images are too few for a covariance of 64 features; use at least 64, or set"
                                        " config.task.evaluation.settings.allow_few=True"):
        frechet_distance(many, few)
    assert frechet_distance(many, few, allow_few=True) > 0
    assert frechet_distance(many, many) == pytest.approx(0, abs=1e-6)
    with pytest.raises(UserError, match="one network"):
        frechet_distance(many, Moments.of(RNG.normal(size=(64, 3))))


def test_sifid_compares_places_image_by_image():
    real = RNG.normal(size=(3, 9, 8, 4))
    fake = real.reshape(3, 8, 9, 4) * np.array([1.0, 2.0, 1.0])[:, None, None, None]
    fake[2] += 0.5
    found = sifid(real, fake)
    assert found[0] == pytest.approx(0, abs=1e-6)  # the same vectors at other places
    x = real[1].reshape(-1, 4)
    by_hand = (x.mean(0) ** 2).sum() + np.trace(np.cov(x, rowvar=False))  # |2m - m|^2 + tr (1 + 4 - 2 2) S
    assert found[1] == pytest.approx(by_hand, rel=1e-9)
    assert found[2] == pytest.approx(4 * 0.25, rel=1e-6)
    with pytest.raises(UserError, match="too few"):
        sifid(real[:, :1, :3], fake)
    with pytest.raises(UserError, match="pair by pair"):
        sifid(real, fake[:2])
