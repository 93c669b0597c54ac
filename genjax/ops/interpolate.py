"""Interpolation of latent codes: straight lines and great circles.

Letters: a, b codes [...,d], t weights in [0,1] that broadcast against [...,1] (a number, or [...,1]; outside [0,1] the
curves go on), w the angle between a and b.
"""

import jax.numpy as jnp

PARALLEL = 1e-4  # below this sine of the angle a great circle is a straight line to float32


def lerp(a, b, t):
    """(1 - t) a + t b, exact at both ends."""
    return a * (1 - t) + b * t


def slerp(a, b, t):
    """Spherical interpolation of codes as they are: (sin((1 - t) w) a + sin(t w) b) / sin w.

    The angle is that of the directions, the lengths are left alone: between two normal draws the length stays near
    sqrt(d), where lerp falls to sqrt(d / 2). Parallel or opposite codes are interpolated on the straight line.

    Args:
      a, b: [...,d], float.
      t: a number or [...,1].

    Returns:
      [...,d]; a at t = 0, b at t = 1.

    Source: White, "Sampling generative networks", 2016; GIRAFFE's `interpolate_sphere` (Niemeyer and Geiger 2021).
    """
    cosine = jnp.clip(jnp.sum(_unit(a) * _unit(b), -1, keepdims=True), -1, 1)
    straight = 1 - cosine**2 < PARALLEL**2
    # arccos has no derivative at its ends: where the line is taken it sees another number.
    w = jnp.arccos(jnp.where(straight, 0.0, cosine))
    sine = jnp.sin(w)
    arc = jnp.sin((1 - t) * w) / sine * a + jnp.sin(t * w) / sine * b
    return jnp.where(straight, lerp(a, b, t), arc)


def slerp_unit(a, b, t):
    """The point at angle t w from a on the great circle through the directions of a and b; always of length 1.

    Args:
      a, b: [...,d], float; only their directions count. Parallel ones stay where they are.
      t: a number or [...,1].

    Returns:
      [...,d] of length 1.

    Source: Karras, Laine and Aila, "A style-based generator architecture", 2019, section 4.1 and appendix: both codes
    and the result are normalised.
    """
    a, b = _unit(a), _unit(b)
    cosine = jnp.clip(jnp.sum(a * b, -1, keepdims=True), -1, 1)
    across = b - cosine * a  # length sin w
    length2 = jnp.sum(across**2, -1, keepdims=True)
    straight = length2 < PARALLEL**2
    across = across / jnp.sqrt(jnp.where(straight, 1.0, length2))
    # arctan2, not arccos: accurate for small angles too, which path lengths are made of.
    w = jnp.arctan2(jnp.sqrt(jnp.where(straight, 1.0, length2)), cosine)
    return _unit(jnp.where(straight, lerp(a, b, t), a * jnp.cos(t * w) + across * jnp.sin(t * w)))


def _unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
