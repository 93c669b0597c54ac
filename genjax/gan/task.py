"""Adversarial training from latent vectors: the original GAN, DCGAN, WGAN-GP and what derives from them.

Letters as in `genjax.core.adversarial`, which trains; here z[N,Z] are vectors drawn from a prior.
"""

import dataclasses
import functools
import math
from typing import Literal

import jax
from flax import linen as nn

from genjax.core.adversarial import NAMES, AdversarialTask
from genjax.errors import UserError, at_least
from genjax.metrics.evaluation import Paths

Prior = Literal["normal", "uniform"]

__all__ = ["NAMES", "Adversarial", "Painter", "Prior", "draw_latents"]


def draw_latents(keys: jax.Array, dim: int, prior: Prior = "normal", bound: float = 1.0) -> jax.Array:
    """z [n,dim], the i-th a function of keys[i] alone: N(0, bound^2 I), or uniform on (-bound, bound)^dim."""
    if prior == "uniform":
        return jax.vmap(lambda k: jax.random.uniform(k, (dim,), minval=-bound, maxval=bound))(keys)
    return bound * jax.vmap(lambda k: jax.random.normal(k, (dim,)))(keys)


@dataclasses.dataclass(frozen=True)
class Painter:
    """(latents [b,Z] or styles [b,L,W], keys [b], variables) -> pictures, each with the noise of its key.

    Attributes:
      network: a generator with styles.
      growth: of a growing one, ("size", r) and ("alpha", a).
      space: "w" for styles, "z" for latents.
    """

    network: nn.Module
    growth: tuple = ()
    space: str = "w"

    def map(self, z, variables):
        """w [b,L,W] of the layers in use."""
        ws = self.network.apply(variables, z, None, method="map")
        return ws[:, :2 * int(math.log2(dict(self.growth).get("size", self.network.resolution))) - 2]

    def __call__(self, x, keys, variables):
        ws = x if self.space == "w" else self.map(x, variables)
        return jax.vmap(lambda w, key: self.network.apply(
            variables, w[None], noise="random", method="synthesize", rngs={"noise": key}, **dict(self.growth))[0])(
            ws, keys)


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

    def draw(self, keys, step=None):
        """z [n,Z] from the prior."""
        return draw_latents(keys, self.latent_dim, self.prior, self.prior_bound)

    def style(self, variables):
        """The generator, if it has styles, as a `genjax.gan.latent.Style`."""
        from genjax.gan.latent import Style  # which draws latents with this module

        return Style(self.generator, variables)

    def paths(self, variables):
        """z of the normal prior, and w where there are styles; the noise is the pair's own."""
        from genjax.gan.latent import has_styles

        def of(space):
            if self.conditional or self.prior != "normal":
                raise UserError(f"path lengths are measured between normal latents without classes, which this run has"
                                f" not ({'conditional' if self.conditional else self.prior}); leave them out")
            if has_styles(self.generator):
                style = self.style(variables)
                walk = Painter(style.network, tuple(style.growth.items()), space)
                return Paths(walk, self.latent_dim, walk.map if space == "w" else None, (style.variables,))
            if space == "w":
                raise UserError(f"{type(self.generator).__name__} has no styles; measure ppl_zfull or ppl_zend")
            return Paths(self._walk, self.latent_dim, None, (variables,))

        return of

    @functools.cached_property
    def _walk(self):
        def decode(z, keys, variables):
            return self._render(variables, self.prior_bound * z, None)

        return decode

    def controls(self):
        """Walks and, with styles, mixing, truncation, noise and projection: see `genjax.gan.controls`."""
        from genjax.gan import controls  # which calls tasks of this module

        return controls.offered(self)
