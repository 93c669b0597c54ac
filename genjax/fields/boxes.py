"""Objects as boxes in the scene: an affine frame each, drawn from a prior, without collisions where asked.

Letters: K boxes; s[...,3] half sides, c[...,3] centres, a[...] turns about z as a share of a full one, R their
matrices. A point p of the scene is R (p - c) / s in the box's frame, whose box is [-1,1]^3; R and not its transpose, as
in the authors' code, so an object turns clockwise when a grows (seen from above). Source: Niemeyer and Geiger 2021
(GIRAFFE, arXiv:2011.12100) section 3.1 and its code.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from genjax.errors import UserError
from genjax.ops.camera import rotation_z

CLEVR_EXISTENCE = (0.0, 0.19456788, 0.24355003, 0.25269547, 0.30918661)  # of 1 .. 5 objects in clevr2345


@struct.dataclass
class Boxes:
    """K boxes of each of B scenes.

    Attributes:
      scale: s [B,K,3].
      centre: c [B,K,3].
      angle: a [B,K], 1 is a full turn.
      present: [B,K] bool; what is absent has no density.
    """

    scale: jax.Array
    centre: jax.Array
    angle: jax.Array
    present: jax.Array


def to_box(p: jax.Array, boxes: Boxes) -> jax.Array:
    """Points p [B,P,3] of the scene in each box's frame, [B,K,P,3]; (for directions: subtract the image of 0)."""
    moved = p[:, None] - boxes.centre[:, :, None]
    return jnp.einsum("bkij,bkpj->bkpi", _rotation(boxes), moved) / boxes.scale[:, :, None]


def directions_to_box(d: jax.Array, boxes: Boxes) -> jax.Array:
    """Directions d [B,P,3] in each box's frame, [B,K,P,3], with the length that depths keep their meaning with."""
    return jnp.einsum("bkij,bpj->bkpi", _rotation(boxes), d) / boxes.scale[:, :, None]


def _rotation(boxes):
    return rotation_z(2 * jnp.pi * boxes.angle)


def inside(p: jax.Array, padding: float = 0.1) -> jax.Array:
    """Which points [...,3] of a box's frame are in it, or no further than `padding` outside: bool [...]."""
    return (jnp.abs(p) <= 1 + padding).all(-1)


@dataclasses.dataclass(frozen=True)
class BoxPrior:
    """Where the boxes of a scene are.

    Attributes:
      boxes: K.
      scale_min, scale_max: of s along x, y, z.
      centre_min, centre_max: of c along x (towards the camera), y (to the right), z (up).
      rotation: of a.
      one_scale: one draw for the three sides of a box (the ratio of sides stays), else one each.
      padding: keep at least this distance between boxes along x or along y (their turned squares are not looked at,
        as in the authors' code); below 0 boxes may overlap.
      existence: probabilities of 1 .. K boxes being there, chosen at random among the K; () for all of them.
      tries: so many placements of all boxes are drawn; the first without a collision is taken, else the last.

    Raises:
      UserError: ranges the wrong way round, no size, existence that is no distribution, or, with a padding of 0 or
        more, so many boxes that more than about one scene in a hundred would be left with a collision.
    """

    boxes: int = 1
    scale_min: tuple[float, float, float] = (0.5, 0.5, 0.5)
    scale_max: tuple[float, float, float] = (0.5, 0.5, 0.5)
    centre_min: tuple[float, float, float] = (-0.75, -0.75, 0.0)
    centre_max: tuple[float, float, float] = (0.75, 0.75, 0.0)
    rotation: tuple[float, float] = (0.0, 1.0)
    one_scale: bool = True
    padding: float = -1.0
    existence: tuple[float, ...] = ()
    tries: int = 256

    def __post_init__(self):
        if self.boxes < 1 or self.tries < 1:
            raise UserError(f"boxes={self.boxes} and tries={self.tries} must be at least 1")
        for name, low, high in (("scale", self.scale_min, self.scale_max), ("centre", self.centre_min, self.centre_max),
                                ("rotation", self.rotation[:1], self.rotation[1:])):
            if any(a > b for a, b in zip(low, high, strict=True)):
                raise UserError(f"the boxes' {name} goes from {low} to {high}: the first must not be the larger")
        if min(self.scale_min) <= 0:
            raise UserError(f"scale_min={self.scale_min}: a box has a size above 0")
        if self.existence and (len(self.existence) != self.boxes or abs(sum(self.existence) - 1) > 1e-4):
            raise UserError(f"existence={self.existence}: give {self.boxes} probabilities, of 1 to {self.boxes} boxes,"
                            " that sum to 1")
        if self.padding >= 0 and not (self._fits() and self._are_placed()):
            raise UserError(f"{self.boxes} boxes of half sides up to {max(self.scale_max[:2])} with a padding of"
                            f" {self.padding} do not fit between {self.centre_min} and {self.centre_max}, or rarely do"
                            f" by chance in {self.tries} tries; use fewer or smaller boxes, a wider range, or more"
                            " tries")

    def _fits(self) -> bool:
        """Whether a regular grid of the largest boxes has K places; where it has not, random ones rarely do."""
        places = 1
        for axis in (0, 1):
            room = self.centre_max[axis] - self.centre_min[axis]
            places *= 1 + math.floor(room / (2 * self.scale_max[axis] + self.padding) + 1e-9)
        return places >= self.boxes

    def _are_placed(self, scenes: int = 200) -> bool:
        """Whether no more than one in a hundred scenes, drawn as `draw` does, is left with a collision."""
        rng, k = np.random.default_rng(0), self.boxes
        low, high = (np.asarray(v, np.float32)[:2] for v in (self.scale_min, self.scale_max))
        scale = low + rng.random((scenes, k, 1 if self.one_scale else 2), np.float32) * (high - low)
        low, high = (np.asarray(v, np.float32)[:2] for v in (self.centre_min, self.centre_max))
        i, j = np.triu_indices(k, 1)
        left, at_once = self.tries, min(16, max(1, 2**12 // k**2))
        while left > 0 and len(scale) > scenes // 100:
            n = min(left, at_once)
            centre = low + rng.random((len(scale), n, k, 2), np.float32) * (high - low)
            least = (scale[:, i] + scale[:, j] + self.padding)[:, None]
            free = (np.abs(centre[:, :, i] - centre[:, :, j]) >= least).any(-1).all(-1).any(1)
            scale, left = scale[~free], left - n
        return len(scale) <= scenes // 100

    def place(self, scale, centre, angle, n: int = 1, present=None) -> Boxes:
        """`n` times the boxes at shares of the prior's ranges (0 to 1; beyond them is allowed): what controls set.

        Args:
          scale: [K,3].
          centre: [K,3].
          angle: [K].
          n: B.
          present: [K] bool, None for all.

        Raises:
          UserError: a share of scale that leaves no size.
        """
        centre, angle = (jnp.asarray(v, jnp.float32) for v in (centre, angle))
        scale = np.asarray(scale, np.float32)  # known, whatever is traced around it
        low, high = np.asarray(self.scale_min, np.float32), np.asarray(self.scale_max, np.float32)
        size = low + (scale[:, :1] if self.one_scale else scale) * (high - low)
        if not (size > 0).all():
            raise UserError(f"a share of {scale.min()} of the scales from {self.scale_min} to {self.scale_max} leaves a"
                            " box without a size; give a larger share")
        boxes = Boxes(jnp.asarray(size),
                      _between(self.centre_min, self.centre_max, centre), self._angle(angle),
                      jnp.ones(angle.shape, bool) if present is None else jnp.asarray(present, bool))
        return jax.tree.map(lambda v: jnp.broadcast_to(v, (n, *v.shape)), boxes)

    def draw(self, keys: jax.Array) -> Boxes:
        """B scenes' boxes; scene i is a function of keys[i] alone."""
        return jax.vmap(self._one)(keys)

    def _angle(self, share):
        return self.rotation[0] + share * (self.rotation[1] - self.rotation[0])

    def _one(self, key):
        k_scale, k_centre, k_angle, k_count, k_which = jax.random.split(key, 5)
        scale = _between(self.scale_min, self.scale_max,
                         jax.random.uniform(k_scale, (self.boxes, 1 if self.one_scale else 3)))
        if self.padding < 0:
            centre = _between(self.centre_min, self.centre_max, jax.random.uniform(k_centre, (self.boxes, 3)))
        else:
            centre = self._free(k_centre, scale)
        angle = self._angle(jax.random.uniform(k_angle, (self.boxes,)))
        present = jnp.ones((self.boxes,), bool)
        if self.existence:
            count = 1 + jax.random.choice(k_count, self.boxes, p=jnp.asarray(self.existence))
            present = jax.random.permutation(k_which, jnp.arange(self.boxes) < count)
        return Boxes(scale, centre, angle, present)

    def _free(self, key, scale):
        """Centres [K,3] apart from each other, distributed as if all were drawn anew until none touch."""
        draws = _between(self.centre_min, self.centre_max, jax.random.uniform(key, (self.tries, self.boxes, 3)))
        away = jnp.abs(draws[:, :, None] - draws[:, None])[..., :2]
        free = (away >= (scale[:, None] + scale[None])[..., :2] + self.padding).any(-1)
        free = (free | jnp.eye(self.boxes, dtype=bool)).all((1, 2))
        return draws[jnp.where(free.any(), jnp.argmax(free), self.tries - 1)]

    def span(self, padding: float = 0.1) -> float:
        """The longest way through any box, with the padding of `inside`, in the scene's units."""
        return 2 * (1 + padding) * float(np.linalg.norm(self.scale_max))


def _between(low, high, share):
    low, high = jnp.asarray(low, jnp.float32), jnp.asarray(high, jnp.float32)
    return low + share * (high - low)
