"""Interpolation: spec oracles, and what a great circle must keep."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.ops.interpolate import lerp, slerp, slerp_unit

KEY = jax.random.key(0)
A, B = jax.random.normal(KEY, (2, 64, 512))
E1, E2 = jnp.eye(2)


@pytest.mark.parametrize("curve", [slerp, slerp_unit])
def test_midpoint_of_the_axes(curve):
    np.testing.assert_allclose(curve(E1, E2, 0.5), [0.70710678, 0.70710678], rtol=1e-6)


def test_ends_and_lengths():
    np.testing.assert_allclose(slerp(A, B, 0.0), A, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(slerp(A, B, 1.0), B, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(lerp(A, B, 0.0), A)
    np.testing.assert_array_equal(lerp(A, B, 1.0), B)
    t = jnp.linspace(0, 1, 64)[:, None]
    np.testing.assert_allclose(jnp.linalg.norm(slerp_unit(A, B, t), axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(slerp_unit(A, B, 1.0), B / jnp.linalg.norm(B, axis=-1, keepdims=True), atol=1e-5)


def test_slerp_keeps_the_length_of_a_normal_draw_and_lerp_does_not():
    expected = math.sqrt(2) * math.exp(math.lgamma(256.5) - math.lgamma(256))
    assert expected == pytest.approx(22.6164, abs=1e-4)
    length = [float(jnp.linalg.norm(f(A, B, 0.5), axis=-1).mean()) for f in (slerp, lerp)]
    assert length[0] == pytest.approx(expected, rel=0.01) and length[1] == pytest.approx(expected / 2**0.5, rel=0.02)


def test_lengths_are_left_alone_by_one_and_normalised_by_the_other():
    np.testing.assert_allclose(slerp(3 * E1, 5 * E2, 0.5), np.array([3, 5]) * 0.70710678, rtol=1e-6)
    np.testing.assert_allclose(slerp_unit(3 * E1, 5 * E2, 0.5), [0.70710678, 0.70710678], rtol=1e-6)


@pytest.mark.parametrize("curve", [slerp, slerp_unit])
def test_equal_and_opposite_codes_have_values_and_gradients(curve):
    for b in (E1, 2 * E1, -3 * E1):
        assert np.isfinite(curve(E1, b, 0.3)).all()
        assert np.isfinite(jax.grad(lambda a, b=b: curve(a, b, 0.3).sum())(E1)).all()
    np.testing.assert_allclose(slerp(E1, 2 * E1, 0.5), 1.5 * E1, rtol=1e-6)


def test_unit_circle_has_constant_speed_at_steps_of_path_length():
    """In float64 terms: |p(t + e) - p(t)| = e w; e = 1e-4 leaves float32 three digits."""
    a, b = A[:8], B[:8]
    w = np.arccos(np.sum(np.asarray(a, np.float64) * np.asarray(b, np.float64), -1)
                  / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1))
    for t in (0.0, 0.4, 0.9):
        step = np.linalg.norm(slerp_unit(a, b, t + 1e-4) - slerp_unit(a, b, t), axis=-1)
        np.testing.assert_allclose(step / 1e-4, w, rtol=2e-2)
