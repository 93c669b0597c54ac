"""Mixtures in the plane: batches as a function of (seed, i), centres, exact density."""

import numpy as np
import pytest

from genjax.data.mixtures import Grid, Mixture, Ring, Spiral
from genjax.errors import UserError

ALL = [Ring(), Ring(modes=5, radius=1.0, sigma=0.1), Grid(), Spiral()]


@pytest.mark.parametrize("data", ALL, ids=str)
def test_batches(data):
    a, b = data.batch(3)["image"], data.batch(4)["image"]
    assert a.shape == data.element_spec["image"].shape == (512, 2) and a.dtype == np.float32 == data.element_spec[
        "image"].dtype
    assert np.array_equal(a, data.batch(3)["image"]) and not np.array_equal(a, b)
    assert np.array_equal(a[100:130], data.batch(3, 100, 130)["image"])
    other = type(data)(seed=1, sigma=data.sigma)
    assert not np.array_equal(other.batch(3)["image"], a)
    assert len(data) == 50_000 and not data.constant


def test_centres():
    ring = Ring().centres
    assert ring.shape == (8, 2) and np.allclose(np.linalg.norm(ring, axis=1), 2) and np.allclose(ring[0], (2, 0))
    assert np.allclose(ring[2], (0, 2)) and np.allclose(ring.sum(0), 0)
    grid = Grid().centres
    assert {tuple(c) for c in grid} == {(x, y) for x in (-4., -2., 0., 2., 4.) for y in (-4., -2., 0., 2., 4.)}
    assert tuple(grid[1]) == (-2, -4)
    spiral = Spiral().centres
    gaps = np.linalg.norm(np.diff(spiral, axis=0), axis=1)
    assert np.allclose(spiral[0], 0) and np.allclose(spiral[-1], (2, 0)) and gaps.max() < 0.1  # smooth: below sigma
    assert gaps.std() < 0.01 * gaps.mean()


@pytest.mark.parametrize("data", ALL, ids=str)
def test_points_have_the_stated_spread_about_equally_many_centres(data):
    x = np.concatenate([data.batch(i)["image"] for i in range(20)]).astype(np.float64)
    squared = np.square(x[:, None] - data.centres).sum(-1)
    assert np.abs(x).max() < data.extent
    if isinstance(data, Spiral):  # neighbours overlap: the centre a point came from is not the nearest
        assert np.allclose(x.mean(0), data.centres.mean(0), atol=0.1)
        return
    assert squared.min(1).mean() == pytest.approx(2 * data.sigma**2, rel=0.05)
    share = np.bincount(squared.argmin(1), minlength=len(data.centres)) / len(x)
    assert share == pytest.approx(1 / len(data.centres), rel=0.25)


@pytest.mark.parametrize("data", [Ring(sigma=0.3), Grid(sigma=0.3), Spiral(sigma=0.3)], ids=str)
def test_density(data):
    along = np.linspace(-8, 8, 321)
    p = data.density(np.stack(np.meshgrid(along, along), -1))
    assert p.shape == (321, 321) and (p >= 0).all()
    assert p.sum() * (along[1] - along[0]) ** 2 == pytest.approx(1, abs=1e-6)
    written = np.mean([np.exp(-((1 - c[0]) ** 2 + c[1] ** 2) / 0.18) for c in data.centres]) / (2 * np.pi * 0.09)
    assert data.density(np.asarray([1.0, 0.0])) == pytest.approx(written)


@pytest.mark.parametrize(("make", "says"), [
    (lambda: Ring(sigma=0.0), "sigma must be positive"), (lambda: Grid(batch_size=0), "batch_size must be at least 1"),
    (lambda: Ring(seed=-1), "seed=-1"), (lambda: Ring(modes=0), "modes must be at least 1"),
    (lambda: Grid(side=0), "side must be at least 1"), (lambda: Spiral(modes=1), "modes must be at least 2")])
def test_bad_settings(make, says):
    with pytest.raises(UserError, match=says):
        make()


def test_the_common_part_alone_has_no_centres():
    with pytest.raises(TypeError, match="Ring"):
        _ = Mixture().centres
