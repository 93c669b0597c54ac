"""Total variation against loops, closed forms and numerical gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.losses.regularisers import total_variation


def slow(x, beta):
    total = 0.0
    h, w, channels = x.shape
    for i in range(h - 1):
        for j in range(w - 1):
            for c in range(channels):
                dx, dy = x[i, j + 1, c] - x[i, j, c], x[i + 1, j, c] - x[i, j, c]
                total += (dx * dx + dy * dy) ** beta
    return total


@pytest.mark.parametrize("beta", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("channels", [1, 3])
def test_equals_the_sum_over_pixels(beta, channels):
    x = np.random.default_rng(0).uniform(size=(6, 7, channels))
    np.testing.assert_allclose(total_variation(jnp.asarray(x), beta), slow(x, beta), rtol=1e-5)


def test_an_edge_costs_its_length_times_its_height():
    x = np.zeros((9, 9, 1), np.float32)
    x[:, 5:] = 0.5
    np.testing.assert_allclose(total_variation(x), 8 * 0.5, rtol=1e-4)  # the last row has no difference below it


def test_a_ramp_costs_its_slope_everywhere():
    y, x = np.mgrid[:8, :8].astype(np.float32)
    np.testing.assert_allclose(total_variation((0.3 * x + 0.4 * y)[..., None]), 49 * 0.5, rtol=1e-5)


def test_scales_with_the_picture_and_adds_over_a_batch():
    x = np.random.default_rng(1).uniform(size=(3, 5, 5, 2)).astype(np.float32)
    np.testing.assert_allclose(total_variation(2 * x), 2 * total_variation(x), rtol=1e-5)
    np.testing.assert_allclose(total_variation(x), sum(total_variation(p) for p in x), rtol=1e-5)
    np.testing.assert_allclose(total_variation(x + 3), total_variation(x), rtol=1e-4)


def test_gradient_is_finite_on_a_flat_picture_and_right_elsewhere():
    flat = jax.grad(total_variation)(jnp.full((5, 5, 1), 0.3))
    assert np.isfinite(flat).all() and abs(np.asarray(flat)).max() == 0
    x = np.random.default_rng(2).uniform(size=(4, 5, 1))
    got = np.asarray(jax.grad(total_variation)(jnp.asarray(x, jnp.float32)))
    for at in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[at] += 1e-5
        down[at] -= 1e-5
        assert got[at] == pytest.approx((slow(up, 0.5) - slow(down, 0.5)) / 2e-5, abs=2e-3)
