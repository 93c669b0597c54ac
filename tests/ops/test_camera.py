"""Cameras: closed forms, orthonormality, and that what is in the middle is seen in the middle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.ops.camera import focal_length, image_plane, look_at, on_sphere, rays, rotation_z


@pytest.mark.parametrize("fov, f", [(10, 11.4300523), (30, 3.7320508), (49.13, 2.1877193)])
def test_focal_length(fov, f):
    assert abs(float(focal_length(fov)) - f) < 2e-6 * f


def test_sphere():
    np.testing.assert_allclose(2.732 * on_sphere(jnp.float32(0), jnp.float32(0.5)), [2.732, 0, 0], atol=1e-6)
    u, v = np.random.default_rng(0).random((2, 20000))
    x = np.asarray(on_sphere(u, v))
    np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(x.T @ x / len(x), np.eye(3) / 3, atol=0.01)
    elevation = np.rad2deg(np.arcsin(np.asarray(on_sphere(0.0, jnp.array([0.33333, 0.41667])))[:, 2]))
    np.testing.assert_allclose(elevation, [19.47, 9.59], atol=0.01)


def test_look_at_is_a_rotation_and_puts_the_target_in_the_middle():
    eye = jnp.asarray(np.random.default_rng(1).normal(size=(6, 3)), jnp.float32)
    R = look_at(eye, jnp.float32(0.2))
    np.testing.assert_allclose(np.einsum("nij,nik->njk", R, R), np.tile(np.eye(3), (6, 1, 1)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(R), 1, atol=1e-5)
    seen = np.einsum("nij,ni->nj", R, 0.2 - eye)  # the target in the camera's axes
    np.testing.assert_allclose(seen[:, :2], 0, atol=1e-5)
    assert (seen[:, 2] < 0).all() and (np.asarray(R)[:, 2, 1] > 0).all(), "in front, and up is up"
    above = look_at(jnp.array([0.0, 0.0, 3.0]))
    np.testing.assert_allclose(above.T @ above, np.eye(3), atol=1e-6)
    assert np.isfinite(jax.jacrev(look_at)(jnp.array([0.0, 0.0, 3.0]))).all()


def test_cameras_are_giraffes_but_for_their_length():
    """Recorded from autonomousvision/giraffe, im2scene/camera.py: look_at of one eye, and of two at once, of which the
    second's axes are shorter: each is divided by the largest norm in the batch."""
    one = [[-0.44721359, -0.19518001, 0.87287158], [0.89442718, -0.09759001, 0.43643579], [0, 0.97590005, 0.21821789]]
    second = [[-0.04472136, -0.11710801, 0.06648225], [0.08944272, -0.05855400, 0.03324112],
              [0, 0.0097590005, 0.99723375]]
    R = np.asarray(look_at(jnp.array([[2.0, 1.0, 0.5], [0.2, 0.1, 3.0]])))
    np.testing.assert_allclose(R[0], one, atol=1e-6)
    lengths = np.linalg.norm(second, axis=0)
    np.testing.assert_allclose(R[1] * lengths, second, atol=1e-6)
    assert lengths[0] == pytest.approx(0.1, abs=1e-6), "and not 1"


def test_rays_by_hand():
    o, d = rays(image_plane(2, 2, corners=True).reshape(-1, 2), 2.0, jnp.eye(3), jnp.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(d, [[-0.5, 0.5, -1], [0.5, 0.5, -1], [-0.5, -0.5, -1], [0.5, -0.5, -1]])
    np.testing.assert_allclose(o, [[1, 2, 3]] * 4)
    batch = rays(jnp.zeros((7, 2)), jnp.ones(5), jnp.tile(jnp.eye(3), (5, 1, 1)), jnp.zeros((5, 3)))
    assert batch[0].shape == batch[1].shape == (5, 7, 3)


def test_pixels_of_a_wide_picture_are_square():
    p = np.asarray(image_plane(2, 4))
    np.testing.assert_allclose(p[0, :, 0], [-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_allclose(p[:, 0, 1], [0.25, -0.25])


def test_a_quarter_turn():
    np.testing.assert_allclose(rotation_z(jnp.float32(np.pi / 2)) @ jnp.array([1.0, 0, 5]), [0, 1, 5], atol=1e-6)
