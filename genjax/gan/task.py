"""Adversarial training from latent vectors: the original GAN, DCGAN, WGAN-GP and what derives from them.

Letters as in `genjax.core.adversarial`, which trains; here z[N,Z] are vectors drawn from a prior.
"""

import dataclasses
from typing import Literal

import jax

from genjax.core.adversarial import NAMES, AdversarialTask
from genjax.errors import at_least

Prior = Literal["normal", "uniform"]

__all__ = ["NAMES", "Adversarial", "Prior", "draw_latents"]


def draw_latents(keys: jax.Array, dim: int, prior: Prior = "normal", bound: float = 1.0) -> jax.Array:
    """z [n,dim], the i-th a function of keys[i] alone: N(0, bound^2 I), or uniform on (-bound, bound)^dim."""
    if prior == "uniform":
        return jax.vmap(lambda k: jax.random.uniform(k, (dim,), minval=-bound, maxval=bound))(keys)
    return bound * jax.vmap(lambda k: jax.random.normal(k, (dim,)))(keys)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adversarial(AdversarialTask):
    """`AdversarialTask` on latent vectors.

    Attributes:
      latent_dim: Z.
      prior: distribution of z; `prior_bound` is the uniform one's bound, or the normal one's standard deviation.
    """

    latent_dim: int = 100
    prior: Prior = "normal"
    prior_bound: float = 1.0

    def __post_init__(self):
        at_least(self, latent_dim=1, prior_bound=0)
        super().__post_init__()

    def draw(self, keys):
        """z [n,Z] from the prior."""
        return draw_latents(keys, self.latent_dim, self.prior, self.prior_bound)

    def style(self, variables):
        """The generator, if it has styles, as a `genjax.gan.latent.Style`."""
        from genjax.gan.latent import Style  # which draws latents with this module

        return Style(self.generator, variables)

    def controls(self):
        """Walks and, with styles, mixing, truncation, noise and projection: see `genjax.gan.controls`."""
        from genjax.gan import controls  # which calls tasks of this module

        return controls.offered(self)
