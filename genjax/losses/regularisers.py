"""Regularisers on pictures. Letters: x [..., H, W, C]."""

import jax
import jax.numpy as jnp


def total_variation(x: jax.Array, beta: float = 0.5) -> jax.Array:
    """Sum over pixels and channels of (dx^2 + dy^2)^beta, forward differences; a scalar.

    beta 0.5 is the isotropic total variation. Differences of a flat region are kept at 1e-12 inside the power, so that
    the gradient is finite there.

    Source: Mahendran and Vedaldi 2015, eq. 4; the TV baselines of Deep Image Prior.
    """
    dx = x[..., :-1, 1:, :] - x[..., :-1, :-1, :]
    dy = x[..., 1:, :-1, :] - x[..., :-1, :-1, :]
    return jnp.sum((dx**2 + dy**2 + 1e-12) ** beta)
