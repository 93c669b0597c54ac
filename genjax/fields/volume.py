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


def shares(sigma: jax.Array) -> jax.Array:
    """sigma_k / sum_k sigma_k [K,...], 0 where all are 0 (GIRAFFE's code divides by 1e-4 there)."""
    total = sigma.sum(0)
    return sigma / jnp.where(total == 0, 1e-4, total)


def compose(sigma: jax.Array, f: jax.Array, how: Composition = "sum") -> tuple[jax.Array, jax.Array]:
    """Density and feature of several things at the same places.

    sum: sigma = sum_k sigma_k, f = sum_k sigma_k f_k / sigma (GIRAFFE eq. 8). max: those of the densest thing.

    Args:
      sigma: [K,...] >= 0.
      f: [K,...,C].
      how: which.

    Returns:
      sigma [...], f [...,C].
    """
    if how == "max":
        densest = jnp.argmax(sigma, 0)
        return sigma.max(0), jnp.take_along_axis(f, densest[None, ..., None], 0)[0]
    return sigma.sum(0), (f * shares(sigma)[..., None]).sum(0)
