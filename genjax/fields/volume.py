"""Volume rendering: what a ray sees of densities and features along it.

Letters: t[...,S] depths in units of the ray's direction d, l[...] its length |d|, sigma[...,S] densities >= 0,
alpha[...,S] opacities, T[...,S] transmittances, w = T alpha [...,S] weights; K things in the scene, first axis of
sigma[K,...] and f[K,...,C] where they are composed. Sources: Max 1995; Mildenhall et al. 2020 (arXiv:2003.08934) eq. 3;
Niemeyer and Geiger 2021 (2011.12100) eq. 8, 9.
"""

from typing import Literal

import jax
import jax.numpy as jnp

Composition = Literal["sum", "max"]
_EPS = 1e-10  # of the transmittance, as in NeRF's code: its gradient is finite behind an opaque sample


def opacity(sigma: jax.Array, t: jax.Array, length: jax.Array, last: float = 1e10) -> jax.Array:
    """alpha_i = 1 - exp(-sigma_i (t_{i+1} - t_i) l) [...,S]; sigma below 0 counts as 0.

    Args:
      sigma: [...,S].
      t: [...,S], increasing.
      length: l [...].
      last: the distance behind the last sample, in units of d: 1e10 makes whatever density it has opaque, 0 leaves
        it out (for masks of objects).
    """
    steps = jnp.concatenate([t[..., 1:] - t[..., :-1], jnp.full_like(t[..., :1], last)], -1)
    return -jnp.expm1(-jax.nn.relu(sigma) * steps * length[..., None])


def ray_weights(alpha: jax.Array) -> jax.Array:
    """w_i = alpha_i prod_{j<i} (1 - alpha_j) [...,S]: the share of sample i in what is seen."""
    through = jnp.cumprod(1 - alpha + _EPS, -1)
    return alpha * jnp.concatenate([jnp.ones_like(alpha[..., :1]), through[..., :-1]], -1)


def weights(sigma: jax.Array, t: jax.Array, length: jax.Array, last: float = 1e10) -> jax.Array:
    """`ray_weights` of `opacity`."""
    return ray_weights(opacity(sigma, t, length, last))


def depth(w: jax.Array, t: jax.Array) -> jax.Array:
    """sum_i w_i t_i [...], the expected depth; where w sums to less than 1 it is that much too near."""
    return (w * t).sum(-1)


def colour(w: jax.Array, c: jax.Array, behind: float = 0.0) -> jax.Array:
    """sum_i w_i c_i [...,C] of colours c [...,S,C], and of what is `behind` all samples the rest: 1 for white."""
    return (w[..., None] * c).sum(-2) + behind * (1 - w.sum(-1, keepdims=True))


def shares(sigma: jax.Array, how: Composition = "sum") -> tuple[jax.Array, jax.Array]:
    """Density of several things at the same places, and the share [K,...] of each in it.

    sum: sigma = sum_k sigma_k, shares sigma_k / sigma (GIRAFFE eq. 8), 0 where all are 0 (its code divides by 1e-4
    there). max: sigma of the densest thing, whose share is 1.

    Args:
      sigma: [K,...] >= 0.
      how: which.

    Returns:
      sigma [...], shares [K,...].
    """
    if how == "max":
        return sigma.max(0), jax.nn.one_hot(jnp.argmax(sigma, 0), len(sigma), dtype=sigma.dtype, axis=0)
    total = sigma.sum(0)
    return total, sigma / jnp.where(total == 0, 1e-4, total)


def compose(sigma: jax.Array, f: jax.Array, how: Composition = "sum") -> tuple[jax.Array, jax.Array]:
    """Density [...] and feature sum_k share_k f_k [...,C] of several things, see `shares`; f is [K,...,C]."""
    total, share = shares(sigma, how)
    return total, (f * share[..., None]).sum(0)
