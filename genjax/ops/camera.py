"""Pinhole cameras and their rays.

Letters: f focal length in units of half the image's width, p[...,2] places on the image plane, x to the right and y
upwards, both in [-1,1] over the image; R[...,3,3] camera-to-world rotation with columns right, up, back; e[...,3] the
eye; o, d[...,3] origin and direction of a ray. World: z up. Cameras look along their own -z, so the ray of p is
o = e, d = R (p_x / f, p_y / f, -1): directions are not normalised, a distance t along d is a depth, not a length.
Sources: Niemeyer and Geiger 2021 (GIRAFFE, arXiv:2011.12100) and its code; Mildenhall et al. 2020 (NeRF, 2003.08934).
"""

import jax
import jax.numpy as jnp


def focal_length(fov: float | jax.Array) -> jax.Array:
    """f = 1 / tan(fov / 2) of a field of view across the image, in degrees."""
    return 1 / jnp.tan(jnp.deg2rad(fov) / 2)


def on_sphere(u: jax.Array, v: jax.Array) -> jax.Array:
    """The point [...,3] of the unit sphere at u, v [...] in [0,1]: azimuth 2 pi u, polar angle arccos(1 - 2 v).

    Uniform u and v are uniform on the sphere. v = 0 is the zenith, v = 1/2 the horizon.
    """
    height = 1 - 2 * v
    ring = jnp.sqrt(jnp.maximum(1 - jnp.square(height), 0))
    azimuth = 2 * jnp.pi * u
    return jnp.stack([ring * jnp.cos(azimuth), ring * jnp.sin(azimuth), height], -1)


def look_at(eye: jax.Array, at: jax.Array | float = 0.0, up: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> jax.Array:
    """R [...,3,3] of a camera at `eye` [...,3] that sees the point `at` in the middle of its image.

    Looking straight along `up`, where the image could be turned anyhow, its right is the world's y.
    """
    back = eye - at
    back *= jax.lax.rsqrt(jnp.maximum(jnp.square(back).sum(-1, keepdims=True), 1e-10))
    right = jnp.cross(jnp.broadcast_to(jnp.asarray(up, back.dtype), back.shape), back)
    squared = jnp.square(right).sum(-1, keepdims=True)  # not the norm, whose gradient at 0 is NaN
    unit = right * jax.lax.rsqrt(jnp.maximum(squared, 1e-10))
    right = jnp.where(squared > 1e-10, unit, jnp.asarray([0.0, 1.0, 0.0], back.dtype))
    return jnp.stack([right, jnp.cross(back, right), back], -1)


def image_plane(height: int, width: int, corners: bool = False) -> jax.Array:
    """p [height,width,2] of every pixel, first row on top.

    Args:
      height, width: of the image.
      corners: -1 and 1 are the centres of the outermost pixels on both axes (GIRAFFE); otherwise the outer edges of
        the image's sides, with x over [-1,1] and square pixels.
    """
    if corners:
        x, y = jnp.linspace(-1, 1, width), jnp.linspace(1, -1, height)
    else:
        x = (2 * jnp.arange(width) + 1) / width - 1
        y = (height - 2 * jnp.arange(height) - 1) / width
    return jnp.stack(jnp.meshgrid(x, y), -1)


def rays(p: jax.Array, focal: float | jax.Array, rotation: jax.Array, eye: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Origins and directions (o, d) of the rays through p.

    Args:
      p: [...,P,2] or [P,2] places on the image plane.
      focal: f, a number or [...].
      rotation: R [...,3,3].
      eye: e [...,3].

    Returns:
      o, d, each [...,P,3].
    """
    f = jnp.asarray(focal)[..., None, None]
    p = p / f
    local = jnp.concatenate([p, jnp.full((*p.shape[:-1], 1), -1.0, p.dtype)], -1)
    d = jnp.einsum("...ij,...pj->...pi", rotation, local)
    return jnp.broadcast_to(eye[..., None, :], d.shape), d


def rotation_z(angle: jax.Array) -> jax.Array:
    """[...,3,3] of a turn about z by `angle` [...] in radians, anticlockwise seen from above."""
    c, s = jnp.cos(angle), jnp.sin(angle)
    zero, one = jnp.zeros_like(c), jnp.ones_like(c)
    return jnp.stack([jnp.stack([c, -s, zero], -1), jnp.stack([s, c, zero], -1), jnp.stack([zero, zero, one], -1)], -2)
