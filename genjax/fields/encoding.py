"""Positional encodings of points and directions. Letters: x[...,3], L octaves."""

import jax
import jax.numpy as jnp
import numpy as np


def octaves(x: jax.Array, n: int, pi: bool = True, include_input: bool = False) -> jax.Array:
    """[sin(2^i c x), cos(2^i c x)] for i = 0 .. n-1, sine and cosine of an octave beside each other: [...,6n (+3)].

    Args:
      x: [...,3].
      n: L.
      pi: c = pi (GIRAFFE, eq. 1 of Mildenhall et al. 2020) or 1 (NeRF's own code, GRAF).
      include_input: x itself comes first (NeRF's own code, GRAF).
    """
    scale = (2.0 ** np.arange(n) * (np.pi if pi else 1.0)).astype(np.float32)
    a = x[..., None, :] * scale[:, None].astype(x.dtype)  # [...,L,3]
    y = jnp.concatenate([jnp.sin(a), jnp.cos(a)], -1).reshape(*x.shape[:-1], 6 * n)
    return jnp.concatenate([x, y], -1) if include_input else y


def gaussian(x: jax.Array, directions: jax.Array) -> jax.Array:
    """[sin(pi B x), cos(pi B x)] with fixed random directions B [M,3] (Tancik et al. 2020, eq. 5): [...,2M]."""
    a = jnp.pi * jnp.einsum("...i,mi->...m", x, directions.astype(x.dtype))
    return jnp.concatenate([jnp.sin(a), jnp.cos(a)], -1)


def gaussian_directions(octaves: int, std: float = 4.0, seed: int = 42, after: int = 0) -> np.ndarray:
    """B [3 octaves,3] ~ N(0, std^2), as many features as that many octaves. GIRAFFE's code draws them from seed 42,
    those of directions `after` those of so many octaves of points."""
    drawn = np.random.RandomState(seed).randn(3 * (after + octaves), 3)
    return (std * drawn[3 * after:]).astype(np.float32)


def unit(d: jax.Array) -> jax.Array:
    """Directions [...,3] with length 1; 0 stays 0."""
    return d * jax.lax.rsqrt(jnp.maximum(jnp.square(d).sum(-1, keepdims=True), 1e-20))
