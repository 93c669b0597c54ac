"""The Dirac-GAN: eigenvalues against closed forms, fields against formulas, trajectories against the trained task."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.gan.dirac import (
    DiracGAN,
    Discriminator,
    Generator,
    eigenvalues,
    fields,
    jacobian,
    step_eigenvalues,
    trajectory,
)
from genjax.gan.task import Adversarial

START = (1.0, 0.5)


@pytest.mark.parametrize(("game", "expected"), [
    (DiracGAN(), (0.5j, -0.5j)),
    (DiracGAN(loss="non_saturating"), (0.5j, -0.5j)),
    (DiracGAN(loss="least_squares"), (0.5j, -0.5j)),
    (DiracGAN(loss="hinge"), (1j, -1j)),
    (DiracGAN(loss="wasserstein"), (1j, -1j)),
    (DiracGAN(r1_gamma=0.5), (-0.25 + 0.4330127j, -0.25 - 0.4330127j)),
    (DiracGAN(r1_gamma=1.0), (-0.5, -0.5)),
    (DiracGAN(r1_gamma=10.0), (-0.0250628, -9.9749372)),
    (DiracGAN(r1_gamma=5.0, r1_convention="whole"), (-0.0250628, -9.9749372)),
    (DiracGAN(r2_gamma=0.5, loss="non_saturating"), (-0.25 + 0.4330127j, -0.25 - 0.4330127j)),
    (DiracGAN(loss="wasserstein", r1_gamma=1.0, r2_gamma=1.0), (-1, -1))], ids=str)
def test_eigenvalues_at_the_equilibrium(game, expected):
    assert np.allclose(eigenvalues(game), expected, atol=2e-6)


def test_the_field_is_the_papers():
    """Written out: v = (f'(theta psi) psi, -f'(theta psi) theta) with f' the logistic function."""
    p = np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32)
    theta, psi = p[..., 0], p[..., 1]
    slope = 1 / (1 + np.exp(-theta * psi))
    assert np.allclose(fields(DiracGAN(), p), np.stack([slope * psi, -slope * theta], -1), atol=1e-6)
    r1 = fields(DiracGAN(r1_gamma=0.3), p) - fields(DiracGAN(), p)
    assert np.allclose(r1, np.stack([0 * psi, -0.3 * psi], -1), atol=1e-6)
    away = p[np.abs(psi) > 1e-2]  # the penalty has a kink at 0
    gp = fields(DiracGAN(loss="wasserstein", gp_weight=2.0, gp_target=0.5), away)
    psi, theta = away[:, 1], away[:, 0]
    assert np.allclose(gp, np.stack([psi, -theta - 2 * 2 / 0.25 * (np.abs(psi) - 0.5) * np.sign(psi)], -1), atol=1e-4)
    far = np.asarray([[2.0, 3.0], [2.0, -3.0]], np.float32)
    assert np.allclose(fields(DiracGAN(loss="hinge"), far), [[3, -2], [-3, 0]]), "known by a margin"


def test_the_jacobian_elsewhere():
    """By central differences."""
    game, p, h = DiracGAN(loss="least_squares", r2_gamma=0.4), np.float32([0.7, -0.4]), 1e-2
    numeric = [np.asarray(game.field(p + h * e) - game.field(p - h * e)) / (2 * h) for e in np.eye(2, dtype=np.float32)]
    assert np.allclose(jacobian(game, (0.7, -0.4)), np.stack(numeric, 1), atol=1e-3)


@pytest.mark.parametrize(("loss", "slope"), [("minimax", 0.5), ("wasserstein", 1.0)])
def test_simultaneous_steps_grow_and_alternating_ones_circle(loss, slope):
    game, h = DiracGAN(loss=loss), 0.2
    assert np.abs(step_eigenvalues(game, h, False)) == pytest.approx(np.hypot(1, h * slope), abs=1e-6)
    assert np.abs(step_eigenvalues(game, h, True)) == pytest.approx(1, abs=1e-6)
    assert np.abs(step_eigenvalues(DiracGAN(loss=loss, r1_gamma=0.5), h, True)).max() < 0.96


def far(game, alternating, steps=400):
    path = np.asarray(trajectory(game, jnp.asarray(START), 0.1, steps, alternating))
    assert path.shape == (steps + 1, 2) and np.allclose(path[0], START)
    return np.linalg.norm(path, axis=1)


def test_what_converges():
    plain = DiracGAN()
    assert far(plain, False)[-1] > 1.3 * far(plain, False)[0]
    circle = far(plain, True)
    assert circle[-100:].min() > 0.9 * circle[0] and circle.max() < 1.1 * circle[0]
    assert far(DiracGAN(r1_gamma=1.0), False)[-1] < 1e-4 and far(DiracGAN(r1_gamma=1.0), True)[-1] < 1e-4
    assert far(DiracGAN(loss="wasserstein", gp_weight=1.0), True)[-100:].min() > 0.3


def test_clipping_bounds_the_discriminator():
    path = np.asarray(trajectory(DiracGAN(loss="wasserstein", clip=0.1), jnp.asarray(START), 0.1, 50, True))
    assert np.abs(path[1:, 1]).max() == pytest.approx(0.1)


@pytest.mark.parametrize("game", [DiracGAN(loss="non_saturating", r1_gamma=0.3),
                                  DiracGAN(r2_gamma=0.2, r1_convention="whole")], ids=str)
def test_alternating_descent_is_what_the_task_trains(game):
    """`Adversarial` with these networks, plain gradient descent and the one datum takes the same path."""
    task = Adversarial(generator=Generator(), discriminator=Discriminator(), g_optimizer=optax.sgd(0.1), latent_dim=1,
                       d_optimizer=optax.sgd(0.1), loss=game.loss, r1_gamma=game.r1_gamma, r2_gamma=game.r2_gamma,
                       r1_convention=game.r1_convention)
    batch = {"image": jnp.zeros((2, 1))}
    state = task.init(jax.random.key(0), {"image": jax.ShapeDtypeStruct((2, 1), jnp.float32)})
    step, path = jax.jit(task.step), [(1.0, 1.0)]
    for i in range(5):
        state, _ = step(state, batch, jax.random.key(i))
        path.append((float(state.params["generator"]["theta"]), float(state.params["discriminator"]["psi"])))
    assert np.allclose(path, trajectory(game, jnp.ones(2), 0.1, 5, True), atol=1e-6)
