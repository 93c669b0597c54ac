"""Rays against the primitives of a scene.

Letters: N objects of at most M primitives, P = N M primitives; o, d origin and direction of rays, t the distance along
d (directions are not normalised, see `genjax.ops.camera`); A[3,3], b[3] the map p -> A p + b from the world into a
primitive's own box, where it is the unit ball, the unit cylinder along z or the cube. A map keeps t as it is.

Vectors are three arrays, not one with a last axis of 3: rays then fill a CPU's vector registers. Primitives are visited
one after another by a loop on the device, only as many as the scene has.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

FAR = 1e9  # no hit


class Vec(NamedTuple):
    """Three arrays of one shape that are calculated with as one."""

    x: jax.Array
    y: jax.Array
    z: jax.Array

    def __add__(self, other):
        o = _vec(other)
        return Vec(self.x + o.x, self.y + o.y, self.z + o.z)

    def __sub__(self, other):
        o = _vec(other)
        return Vec(self.x - o.x, self.y - o.y, self.z - o.z)

    def __mul__(self, other):
        o = _vec(other)
        return Vec(self.x * o.x, self.y * o.y, self.z * o.z)

    __radd__, __rmul__ = __add__, __mul__

    def dot(self, other: "Vec"):
        return self.x * other.x + self.y * other.y + self.z * other.z

    def unit(self) -> "Vec":
        return self * jax.lax.rsqrt(jnp.maximum(self.dot(self), 1e-20))

    def map(self, f) -> "Vec":
        return Vec(f(self.x), f(self.y), f(self.z))


def _vec(x) -> Vec:
    return x if isinstance(x, Vec) else Vec(x, x, x)


def vec(x: jax.Array) -> Vec:
    """From an array [3,...]."""
    return Vec(x[0], x[1], x[2])


def where(condition, a, b) -> Vec:
    """`jnp.where` for vectors and numbers."""
    a, b = _vec(a), _vec(b)
    return Vec(*(jnp.where(condition, x, y) for x, y in zip(a, b, strict=True)))


def times(A: jax.Array, v: Vec, transposed: bool = False) -> Vec:
    """A v, or A^T v, for A [3,3,...]."""
    A = jnp.swapaxes(A, 0, 1) if transposed else A
    return Vec(*(A[i, 0] * v.x + A[i, 1] * v.y + A[i, 2] * v.z for i in range(3)))


class Primitives(NamedTuple):
    """The primitives of a scene, those it has first.

    Attributes:
      count: how many there are.
      A, b: [P,3,3], [P,3], see the module.
      box, ball: [P], 1 where it is one; neither is a cylinder.
      taper: [P,2].
      rows: [F,P] everything that shading needs of the one that is hit, see `scenes_render`.
    """

    count: jax.Array
    A: jax.Array
    b: jax.Array
    box: jax.Array
    ball: jax.Array
    taper: jax.Array
    rows: jax.Array


def _interval(box, ball, taper, o: Vec, d: Vec, branch: bool):
    """Where a ray is inside of a primitive, given in its own box: (t in, t out), in > out where it misses.

    `branch`: calculate only what the kind needs, rather than both and choose: faster where the results are few.
    """
    tiny = 1e-12
    flip = 1 / jnp.where(jnp.abs(d.z) < tiny, tiny, d.z)
    low, high = (-1 - o.z) * flip, (1 - o.z) * flip
    z_in, z_out = jnp.minimum(low, high), jnp.maximum(low, high)

    def quadric():
        a = d.x * d.x + d.y * d.y + ball * d.z * d.z + tiny
        half = o.x * d.x + o.y * d.y + ball * o.z * d.z
        # b^2 - ac as a - |o x d|^2, which does not cancel for distant rays.
        cz, cx, cy = o.x * d.y - o.y * d.x, o.y * d.z - o.z * d.y, o.z * d.x - o.x * d.z
        disc = a - cz * cz - ball * (cx * cx + cy * cy)
        root, inverse = jnp.sqrt(jnp.maximum(disc, 0)), 1 / a
        miss = disc <= 0
        return (jnp.where(miss, FAR, (-half - root) * inverse), jnp.where(miss, -FAR, (root - half) * inverse))

    def sides():
        t_in, t_out = -FAR, FAR
        for x, dx, k in ((o.x, d.x, taper[0] / 2), (o.y, d.y, taper[1] / 2)):
            for sign in (1, -1):  # the plane sign x + k z = 1 - k
                slope = sign * dx + k * d.z
                slope = jnp.where(jnp.abs(slope) < tiny, tiny, slope)
                t = (1 - k - sign * x - k * o.z) / slope
                t_in = jnp.maximum(t_in, jnp.where(slope < 0, t, -FAR))
                t_out = jnp.minimum(t_out, jnp.where(slope > 0, t, FAR))
        return t_in, t_out

    if branch:
        s_in, s_out = jax.lax.cond(box > 0, sides, quadric)
    else:
        s_in, s_out = (jnp.where(box > 0, x, y) for x, y in zip(sides(), quadric(), strict=True))
    return jnp.maximum(s_in, z_in), jnp.minimum(s_out, z_out)


def _one(prims: Primitives, k):
    return prims.A[k], prims.b[k], (prims.box[k], prims.ball[k], prims.taper[k])


def nearest(prims: Primitives, o: Vec, d: Vec, start: float = 1e-4):
    """The first primitive that rays enter.

    Args:
      prims: P primitives.
      o, d: rays, of shapes that broadcast.
      start: t from which on.

    Returns:
      (t, k): t is FAR and k is -1 where there is none.
    """
    shape = jnp.broadcast_shapes(*(x.shape for x in (*o, *d)))

    def body(k, carry):
        t, best = carry
        A, b, kind = _one(prims, k)
        t_in, t_out = _interval(*kind, times(A, o) + vec(b), times(A, d), True)
        hit = (t_in < t_out) & (t_in > start) & (t_in < t)
        return jnp.where(hit, t_in, t), jnp.where(hit, k, best)

    return jax.lax.fori_loop(0, prims.count, body, (jnp.full(shape, FAR), jnp.full(shape, -1, jnp.int32)))


def lit(prims: Primitives, p: Vec, towards: Vec, finite: jax.Array):
    """Whether points see light samples: float 0 or 1 of the shape of both broadcast.

    Args:
      prims: P primitives.
      p: points, a little above the surfaces they lie on.
      towards: places of the samples, or directions where `finite` is 0.
      finite: 1 for places, 0 for directions.
    """
    shape = jnp.broadcast_shapes(p.x.shape, towards.x.shape)

    def body(k, seen):
        A, b, kind = _one(prims, k)
        here = times(A, p) + vec(b)
        d = times(A, towards) + (vec(b) - here) * finite  # A (l - p), as A l + b - (A p + b)
        t_in, t_out = _interval(*kind, here, d, False)
        blocked = (t_in < t_out) & (t_out > 1e-4) & (t_in < jnp.where(finite > 0, 1.0, FAR))
        return jnp.where(blocked, 0.0, seen)

    return jax.lax.fori_loop(0, prims.count, body, jnp.ones(shape))


def normal_at(box, ball, taper, here: Vec) -> Vec:
    """The outward normal, in a primitive's own box and of any length, at a point of its surface."""
    kx, ky = taper.x / 2, taper.y / 2
    gx = jnp.abs(here.x) + kx * (here.z + 1) - 1  # 0 on the face, negative inside of it
    gy = jnp.abs(here.y) + ky * (here.z + 1) - 1
    gz = jnp.abs(here.z) - 1
    round_ = here.x * here.x + here.y * here.y + ball * here.z * here.z - 1
    zero = jnp.zeros_like(gx)
    cap = Vec(zero, zero, jnp.sign(here.z))
    flat = where(gx > gy, Vec(jnp.sign(here.x), zero, kx + zero), Vec(zero, jnp.sign(here.y), ky + zero))
    side = where(box > 0, flat, Vec(here.x, here.y, ball * here.z))
    return where(gz > jnp.where(box > 0, jnp.maximum(gx, gy), round_), cap, side)
