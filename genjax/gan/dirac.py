"""The Dirac-GAN: the smallest adversarial game, whose dynamics can be written down. Mescheder et al. 2018 (1801.04406).

The data are one point, 0; the generator makes one point, theta; the discriminator is linear, D(x) = psi x. The
equilibrium is theta = psi = 0. Near it the gradient vector field v = (-dL_G/dtheta, -dL_D/dpsi) is linear, and its
eigenvalues l decide: gradient descent converges where Re l < 0 and circles where l is imaginary (sections 2, 3).

Letters: p = (theta, psi), float32 [2]; h the learning rate; c the slope of a loss at the equilibrium, 1/2 for the
logistic and least-squares ones, 1 for the linear ones. Without a penalty l = +-c i; with gamma / 2 |grad D|^2 it is
-gamma/2 +- sqrt(gamma^2/4 - c^2) (section 3). Everything is computed from `genjax.losses` on two
real networks by differentiating, nothing from these formulas. psi has the opposite sign to the paper's: D is large here
for what is real.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from genjax.errors import at_least
from genjax.losses import adversarial as losses


class Generator(nn.Module):
    """z [N,Z] -> x [N,1]: theta, whatever z."""

    @nn.compact
    def __call__(self, z: jax.Array, labels: jax.Array | None = None, train: bool = True) -> jax.Array:
        theta = self.param("theta", nn.initializers.ones, ())
        return jnp.broadcast_to(theta, (z.shape[0], 1))


class Discriminator(nn.Module):
    """x [N,1] -> logits [N]: psi x + offset.

    Attributes:
      offset: a constant that is not trained.
    """

    offset: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array | None = None, train: bool = True) -> jax.Array:
        psi = self.param("psi", nn.initializers.ones, ())
        return psi * x[:, 0] + self.offset


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiracGAN:
    """One loss and its penalties.

    Attributes:
      loss: see `genjax.losses.adversarial`; minimax is the saturating one.
      r1_gamma, r2_gamma: weights of |grad D|^2 at the data and at the generated point, 0 for none: both are psi^2.
      r1_convention: "half" or "whole".
      gp_weight, gp_target: of WGAN-GP, 0 for none: weight (|psi| - target)^2 / target^2. It has a kink at psi = 0:
        the field has no Jacobian there.
      clip: |psi| is cut to this after each of its updates, 0 for never (WGAN's weight clipping).
    """

    loss: losses.LossName = "minimax"
    r1_gamma: float = 0.0
    r2_gamma: float = 0.0
    r1_convention: losses.Convention = "half"
    gp_weight: float = 0.0
    gp_target: float = 1.0
    clip: float = 0.0

    def __post_init__(self):
        at_least(self, r1_gamma=0, r2_gamma=0, gp_weight=0, clip=0)
        losses.find(self.loss)

    def losses(self, theta: jax.Array, psi: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(L_G, L_D) of the two networks, scalars."""
        # Least squares asks for 1 and 0: undecided is 1/2, not 0, and a line through 0 could never say it.
        net = Discriminator(offset=0.5 if self.loss == "least_squares" else 0.0)

        def logits(x):
            return net.apply({"params": {"psi": psi}}, x)

        real = jnp.zeros((1, 1))
        fake = Generator().apply({"params": {"theta": theta}}, jnp.zeros((1, 1)))
        d = losses.discriminator_loss(self.loss, logits(real), logits(fake))
        for gamma, x in ((self.r1_gamma, real), (self.r2_gamma, fake)):
            if gamma > 0:
                d += losses.zero_centred_penalty(losses.squared_gradient(logits, x), gamma, self.r1_convention)
        if self.gp_weight > 0:  # the line's gradient is the same everywhere, so the key does not matter
            d += losses.gradient_penalty(logits, real, fake, jax.random.key(0), self.gp_weight, self.gp_target)
        return losses.generator_loss(self.loss, logits(fake), lambda: logits(real)), d

    def field(self, p: jax.Array) -> jax.Array:
        """v(p) [2]: where simultaneous gradient descent moves p = (theta, psi) [2]."""
        theta, psi = p
        return -jnp.stack([self._slope(0, theta, psi), self._slope(1, theta, psi)])

    def _slope(self, player, theta, psi):
        """The gradient of a player's loss in its own parameter; 0 is the generator."""
        return jax.grad(lambda *args: self.losses(*args)[player], argnums=player)(theta, psi)

    def update(self, p: jax.Array, h: jax.Array, alternating: bool) -> jax.Array:
        """p [2] after one step of size h: both at once, or the generator against the discriminator that has moved."""
        theta, psi = p
        moved = psi - h * self._slope(1, theta, psi)
        if self.clip > 0:
            moved = jnp.clip(moved, -self.clip, self.clip)
        return jnp.stack([theta - h * self._slope(0, theta, moved if alternating else psi), moved])


@functools.partial(jax.jit, static_argnums=0)
def fields(game: DiracGAN, p: jax.Array) -> jax.Array:
    """v at many places p [...,2]: [...,2]."""
    return jax.vmap(game.field)(p.reshape(-1, 2)).reshape(p.shape)


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def trajectory(game: DiracGAN, start: jax.Array, h: jax.Array, steps: int, alternating: bool) -> jax.Array:
    """p [steps+1,2] of gradient descent from `start` [2], which it contains."""
    def body(p, _):
        new = game.update(p, h, alternating)
        return new, new

    _, path = jax.lax.scan(body, start, length=steps)
    return jnp.concatenate([start[None], path])


def jacobian(game: DiracGAN, p: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """dv/dp at p, float64 [2,2], row by component of v."""
    return np.asarray(jax.jacrev(game.field)(jnp.asarray(p, jnp.float32)), np.float64)


def eigenvalues(game: DiracGAN) -> np.ndarray:
    """Of the Jacobian at the equilibrium, complex [2]: the real part largest first, then the imaginary one."""
    return _sorted(jacobian(game))


def step_eigenvalues(game: DiracGAN, h: float, alternating: bool) -> np.ndarray:
    """Of one step of gradient descent at the equilibrium, complex [2]; it converges where both lie within 1.

    Without a penalty their modulus is sqrt(1 + h^2 c^2) with simultaneous and 1 with alternating steps (lemmas 2.3,
    2.4).
    """
    return _sorted(np.asarray(jax.jacrev(lambda p: game.update(p, h, alternating))(jnp.zeros(2)), np.float64))


def _sorted(matrix: np.ndarray) -> np.ndarray:
    found = np.linalg.eigvals(matrix).astype(np.complex128)
    return found[np.lexsort((-found.imag, -found.real))]
