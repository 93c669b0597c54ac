"""Measures disentanglement: one object of a scene is moved, recoloured or reshaped, and the pictures are compared.

Letters: n scenes, K objects, k the one that changes, S the pictures' side. A world draws its scenes as they are and
changed; what is compared is `genjax.metrics.disentanglement`, and how it changes here. Worlds: a run of GIRAFFE, whose
regions are the objects' shares in its rendered volume; the scenes of the ray tracer, which give the values that a
perfect generator of them reaches (objects cast shadows and mirror each other: nothing is exactly 0); and a world whose
changed pictures are of other scenes, which gives those of chance.

    measure(GiraffeWorld(task, variables, key, 64), key)    {"motion_slope": ..., "move_outside": ..., ...}
    measure(DrawnWorld("two", 64), key)                     the yardstick
    measure(Shuffled(DrawnWorld("two", 64)), key)           chance
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import numpy as np

from genjax.core import rng as rng_lib
from genjax.data import scenes
from genjax.data import scenes_shapes as shapes
from genjax.errors import UserError
from genjax.metrics import disentanglement as measures
from genjax.metrics.recipe import Recipe, Value

STEPS = (0.15, 0.3)  # shares of the prior's range
SWAPS = ("appearance", "shape")
_AT_ONCE = 16  # scenes that one program draws


@dataclasses.dataclass(frozen=True)
class Poses:
    """Where the objects of a world are, and what is looked at with.

    Attributes:
      centre: [n,K,3] middles; present: [n,K] bool; size: [n,K] the largest half side.
      eye, rotation, focal: [n,3], [n,3,3], [n], as in `genjax.ops.camera`.
      low, high: between which middles lie along x and y (and z).
      apart: [n,K,K] two objects are at least this far from each other along x or y; below 0 they may overlap.
      pixels: to a unit of the image plane.
    """

    centre: np.ndarray
    present: np.ndarray
    size: np.ndarray
    eye: np.ndarray
    rotation: np.ndarray
    focal: np.ndarray
    low: np.ndarray
    high: np.ndarray
    apart: np.ndarray
    pixels: float

    @property
    def chosen(self) -> np.ndarray:
        """k [n]: the first object that is there."""
        return np.argmax(self.present, 1)

    def project(self, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """([n,K,2] places in pixels to the right and down from the middle, [n,K] depths) of points [n,K,3]."""
        q = np.einsum("nji,nkj->nki", self.rotation, centre - self.eye[:, None])
        p = self.focal[:, None, None] * q[..., :2] / -q[..., 2:]
        return p * [self.pixels, -self.pixels], -q[..., 2]


class World(Protocol):
    """Scenes that can be drawn again with one object changed."""

    poses: Poses
    size: int

    def draw(self, centre: np.ndarray | None = None, swap: str = "") -> tuple[np.ndarray, np.ndarray]:
        """(pictures [n,S,S,3] in [0,1], the region [n,S,S] of object k in them).

        Args:
          centre: [n,3] of object k; None for its own.
          swap: "appearance" or "shape" of object k is that of another scene's; "absent" takes it out.
        """


def measure(world: World, key: jax.Array, steps: Sequence[float] = STEPS) -> dict[str, float]:
    """All of `genjax.metrics.disentanglement.moved` and `swapped`; without those of motion where nothing may move.

    Object k of each scene is moved along x and along y, once by each of `steps` shares of the range, to a random side.
    Cases are left out in which it would touch another object or a nearer one may hide it, and in which it could not go
    to the other side too: else what is moved left were mostly at the right, and motions of chance would agree.

    Raises:
      UserError: no scene has room for a move.
    """
    found, poses = {}, world.poses
    before, region = world.draw()
    margin = max(2, before.shape[1] // 16)
    rng = np.random.default_rng(np.asarray(jax.random.bits(key, (4,))))
    axes = [axis for axis in (0, 1) if poses.low[axis] < poses.high[axis]]
    cases: list[list[np.ndarray]] = []
    for axis in axes:
        for step in steps:
            centre, fits = _moved(poses, axis, step * rng.choice([-1.0, 1.0], len(before)))
            after, region_after = world.draw(centre)
            cases.append([v[fits] for v in (before, after, region, region_after, _expected(poses, centre))])
    if axes:
        every = [np.concatenate(v) for v in zip(*cases, strict=True)]
        if not len(every[0]):
            raise UserError(f"in none of {len(before)} scenes an object can move by {tuple(steps)} of its range; take"
                            " more scenes or smaller steps")
        found |= measures.moved(*every, margin)
    without, _ = world.draw(swap="absent")
    for name in SWAPS:
        after, region_after = world.draw(swap=name)
        found |= measures.swapped(name, before, after, without, region, region_after, margin)
    found["objects_seen"] = (region > measures.SEEN).any((1, 2)).mean()
    return {k: float(v) for k, v in found.items()}


def _moved(poses, axis, shares):
    """([n,3] middles of objects k after a move along an axis, [n] whether it is allowed and seen)."""
    rows, k = np.arange(len(shares)), poses.chosen
    way = shares * (poses.high[axis] - poses.low[axis])
    here = poses.centre[rows, k]
    room = np.minimum(here[:, axis] - poses.low[axis], poses.high[axis] - here[:, axis])
    fits = np.abs(way) <= room + 1e-5
    every = poses.centre.copy()
    every[rows, k, axis] += way
    here = every[rows, k]
    others = poses.present.copy()
    others[rows, k] = False
    clear = (np.abs(every - here[:, None])[..., :2] >= poses.apart[rows, k][..., None] - 1e-5).any(-1)
    fits &= (clear | ~others).all(1)
    for centre in (poses.centre, every):
        place, depth = poses.project(centre)
        reach = poses.pixels * 1.5 * poses.size * poses.focal[:, None] / depth
        far = np.linalg.norm(place - place[rows, k][:, None], axis=-1) > reach + reach[rows, k][:, None]
        fits &= (far | (depth > depth[rows, k][:, None]) | ~others).all(1)
    return here, fits & poses.present[rows, k]


def _expected(poses, centre):
    rows, k = np.arange(len(centre)), poses.chosen
    return poses.project(centre[:, None])[0][:, 0] - poses.project(poses.centre)[0][rows, k]


class Shuffled:
    """A world whose changed pictures are of the next scene."""

    def __init__(self, world: World):
        self._world, self.poses, self.size = world, world.poses, world.size

    def draw(self, centre=None, swap=""):
        """As `World.draw`."""
        found = self._world.draw(centre, swap)
        return found if centre is None and not swap else tuple(np.roll(v, 1, 0) for v in found)


class GiraffeWorld:
    """Samples of a `genjax.fields.task.Giraffe`.

    Args:
      task: the task.
      variables: of a snapshot.
      key: of the scenes; scene i is that of sample i.
      n: how many.
    """

    def __init__(self, task: Any, variables: dict[str, Any], key: jax.Array, n: int):
        self._task, self._variables, self.size = task, variables, task.generator.size
        draw = jax.jit(lambda key: task.draw(rng_lib.per_item(key, n)))
        self._scene, self._other = (jax.tree.map(np.asarray, draw(k)) for k in (key, jax.random.fold_in(key, 2**31)))
        boxes, prior, generator = self._scene.boxes, task.boxes, task.generator
        size, h = boxes.scale.max(-1), generator.volume_size
        apart = size[:, :, None] + size[:, None] + prior.padding if prior.padding >= 0 else np.full((1, 1, 1), -1.0)
        k = prior.boxes
        # A feature at -1 and 1 is drawn in the middle of the outermost of h cells.
        self.poses = Poses(boxes.centre, boxes.present, np.broadcast_to(size, (n, k)), self._scene.eye,
                           self._scene.rotation, self._scene.focal, np.asarray(prior.centre_min),
                           np.asarray(prior.centre_max), np.broadcast_to(apart, (n, k, k)),
                           (h - 1) / 2 * generator.size / h)

    def draw(self, centre=None, swap=""):
        """As `World.draw`."""
        scene, rows, k = self._scene, np.arange(len(self._scene.eye)), self.poses.chosen

        def put(array, value):
            array = array.copy()
            array[rows, k] = value
            return array

        if centre is not None:
            scene = scene.replace(boxes=scene.boxes.replace(centre=put(scene.boxes.centre, centre)))
        if swap == "absent":
            scene = scene.replace(boxes=scene.boxes.replace(present=put(scene.boxes.present, False)))
        elif swap:
            scene = scene.replace(**{swap: put(getattr(scene, swap), getattr(self._other, swap)[:, 0])})
        images = np.clip(self._task.images(self._variables, scene, batch=_AT_ONCE), 0, 1)
        seen = np.concatenate([self._task.volumes(self._variables, jax.tree.map(lambda v, at=at: v[at], scene)).seen
                               for at in _parts(len(rows))])[:len(rows)][rows, k]
        return images, np.asarray(jax.image.resize(seen, images.shape[:3], "bilinear"))


def _parts(n):
    """Indices of n scenes in parts of one size, the last filled up."""
    size = min(_AT_ONCE, n)
    return [np.minimum(np.arange(i, i + size), n - 1) for i in range(0, n, size)]


class DrawnWorld:
    """The test split's scenes of the ray tracer.

    Args:
      preset: of `builtin:scenes`, one with objects on a ground.
      n: how many.
      size: S.
      seed: of the scenes.
    """

    def __init__(self, preset: str, n: int, size: int = 64, seed: int = 0):
        drawn = [scenes.draw_scene(preset, i, seed, "test") for i in range(2 * n)]
        prior = scenes.PRESETS[preset]
        if isinstance(prior, scenes.Rooms):
            raise UserError("rooms have no prior that an object could be moved in; take another preset of the scenes")
        scene, camera = jax.tree.map(lambda *v: np.stack(v), *drawn[:n])
        self._prior, self.size, self._scene, self._camera = prior, size, scene, camera
        self._other = jax.tree.map(lambda *v: np.stack(v), *(s for s, _ in drawn[n:]))
        low, high = (np.array([prior.x[i], prior.y[i]]) for i in (0, 1))
        k = prior.objects
        self.poses = Poses(scene.position, scene.present, scene.size.max(-1), camera.eye, camera.rotation,
                           camera.focal, low, high, np.full((n, k, k), prior.spacing), size / 2)

    def draw(self, centre=None, swap=""):
        """As `World.draw`."""
        s, o, rows, k = self._scene, self._other, np.arange(len(self._camera.focal)), self.poses.chosen

        def put(**values):
            new = {f: getattr(s, f).copy() for f in values}
            for f, v in values.items():
                new[f][rows, k] = v
            return dataclasses.replace(s, **new)

        if centre is not None:
            s = put(position=centre)
        if swap == "absent":
            s = put(present=False)
        elif swap == "appearance":
            s = put(rgb=o.rgb[:, 0], colour=o.colour[:, 0], material=o.material[:, 0])
        elif swap == "shape":
            half = (s.size[rows, k, :1] / shapes.ASPECT[s.shape[rows, k]][:, :1]) * shapes.ASPECT[o.shape[:, 0]]
            position = s.position[rows, k]
            if self._prior.on_ground:
                position = np.concatenate([position[:, :2], half[:, 2:]], 1)
            else:
                s = dataclasses.replace(s, ground=-half[:, 2])
            s = put(shape=o.shape[:, 0], size=half, position=position)
        drawn = _render(s, self._camera, self.size)
        return np.asarray(drawn["image"], np.float32) / 255, np.asarray(drawn["instance"] == k[:, None, None] + 1,
                                                                        np.float32)


@functools.partial(jax.jit, static_argnums=2)
def _render(scene, camera, size):
    return jax.lax.map(lambda v: scenes.render(*v, size, ("instance",)), (scene, camera))


def values(world: World, key: jax.Array, steps: Sequence[float] = STEPS) -> dict[str, Value]:
    """`measure` with how it was measured: {"motion_slope": ..., ...}."""
    n = len(world.poses.centre)
    return {k: Value(v, Recipe(metric="disentanglement", n_fake=n, parameters=(
        ("of", k), ("steps", tuple(steps)), ("resolution", f"{world.size}x{world.size}x3"))))
        for k, v in measure(world, key, steps).items()}
