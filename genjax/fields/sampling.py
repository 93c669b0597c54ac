"""Where a ray is sampled. Letters: t[...,S] depths along the ray, increasing, in units of its direction d."""

from typing import Any

import jax
import jax.numpy as jnp

from genjax.errors import UserError, at_least


def check(of: Any) -> None:
    """Refuses the `samples`, `near` and `far` of a generator or a task that no ray can be sampled by."""
    at_least(of, samples=2)
    if not 0 <= of.near < of.far:
        raise UserError(f"near={of.near}, far={of.far}: rays go from near to far, both at least 0")


def depths(of: Any, rays: tuple[int, ...], rng: jax.Array | None = None, shift: float | jax.Array = 0.0) -> jax.Array:
    """t [*rays,S] of a generator or a task by its `near`, `far` and `samples`: even, or with a key stratified.

    Args:
      of: what has them.
      rays: shape.
      rng: key of the jitter, None for none.
      shift: added to both ends, [*rays,1] or what broadcasts to it.
    """
    t = jnp.broadcast_to(even(of.near, of.far, of.samples) + shift, (*rays, of.samples))
    return t if rng is None else stratified(rng, t)


def even(near: float | jax.Array, far: float | jax.Array, n: int) -> jax.Array:
    """n depths from near to far, both included: [n]."""
    return near + jnp.linspace(0.0, 1.0, n) * (far - near)


def stratified(rng: jax.Array, t: jax.Array) -> jax.Array:
    """One uniform draw around each of t [...,S], from the middle towards its predecessor to the middle towards its
    successor (the ends are the borders of the outermost cells): the order stays.

    Source: the jitter of NeRF's code and GIRAFFE's; Mildenhall et al. 2020 (eq. 2) cut [near,far] into equal cells.
    """
    middle = (t[..., 1:] + t[..., :-1]) / 2
    low = jnp.concatenate([t[..., :1], middle], -1)
    high = jnp.concatenate([middle, t[..., -1:]], -1)
    return low + (high - low) * jax.random.uniform(rng, t.shape, t.dtype)


def importance(u: jax.Array, edges: jax.Array, weights: jax.Array, floor: float = 1e-5) -> jax.Array:
    """Depths distributed like a ray's weights: the inverse of their piecewise linear cumulative distribution at u.

    Args:
      u: [...,N] in [0,1): uniform draws, or even places without randomness.
      edges: [...,M+1] borders of the cells.
      weights: [...,M] of the cells, not negative, any sum.
      floor: added to each weight, so that an empty ray is sampled evenly.

    Returns:
      [...,N], in the order of u; no gradient flows through them (Mildenhall et al. 2020, section 5.2).
    """
    w = weights + floor
    cdf = jnp.cumsum(w / w.sum(-1, keepdims=True), -1)
    cdf = jnp.concatenate([jnp.zeros_like(cdf[..., :1]), jnp.minimum(cdf, 1.0)], -1)
    cell = jnp.clip((u[..., :, None] >= cdf[..., None, :]).sum(-1) - 1, 0, weights.shape[-1] - 1)
    low, high = jnp.take_along_axis(cdf, cell, -1), jnp.take_along_axis(cdf, cell + 1, -1)
    start, end = jnp.take_along_axis(edges, cell, -1), jnp.take_along_axis(edges, cell + 1, -1)
    share = (u - low) / jnp.maximum(high - low, 1e-10)
    return jax.lax.stop_gradient(start + jnp.clip(share, 0, 1) * (end - start))
