"""Where objects, lights and cameras of each preset come from. A scene is a pure function of a key.

Letters: N objects at most. Angles "in turns" are shares of a full circle. Camera and pose priors are meant to be copied
into the config of a model that has such priors of its own (GIRAFFE's `range_v`, `fov`, translations): they are exact.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from genjax.data import scenes_shapes as shapes
from genjax.data.scenes_scene import Camera, Scene, camera_at

TRIES = 32  # random places for an object before those of the grid
GRID = 11  # points per side


class Draws:
    """Uniform numbers of one key, handed out one after another: one call of the generator for a whole scene."""

    def __init__(self, key: jax.Array, count: int):
        self.left = jax.random.uniform(key, (count,))

    def __call__(self, low, high, *shape: int) -> jax.Array:
        """Numbers in [low,high)."""
        n = math.prod(shape)
        here, self.left = self.left[:n], self.left[n:]
        return low + (high - low) * here.reshape(shape)

    def choice(self, values, *shape: int) -> jax.Array:
        """Entries of an array's first axis, all equally likely."""
        values = jnp.asarray(values)
        return values[jnp.minimum(self(0, len(values), *shape).astype(jnp.int32), len(values) - 1)]

    def order(self, n: int) -> jax.Array:
        """0..n-1 in any order."""
        return jnp.argsort(self(0, 1, n)).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class Prior:
    """Objects on a ground seen by a camera that looks at the origin. Ranges are uniform unless said otherwise.

    Attributes:
      about: one line.
      shapes: names, all equally likely.
      materials: names, all equally likely.
      counts: probability of 1, 2, ... objects; N is how many are listed.
      sizes: (name for captions, size) of an object, all equally likely; half sizes are size * the shape's aspect.
      stretch: each size is multiplied by 1 + U(-stretch, stretch).
      x, y: ranges of an object's middle, together such that middles are at least `spacing` apart.
      spacing: see above.
      rotation: range about z in turns.
      on_ground: the ground is z = 0 and objects stand on it; otherwise objects have z = 0 and the ground is below.
      radius, fov, u, v: of the camera; fov in degrees, the others as in `genjax.ops.camera.on_sphere`.
      light_u, light_elevation: of the main light, in turns to either side and degrees.
      style, checked: see `Scene`.
      labels: what `label` is: the shape of the first object ("shape"), both shapes ("pair") or how many ("count").
    """

    about: str
    shapes: tuple[str, ...] = ("sphere", "box", "cylinder")
    materials: tuple[str, ...] = ("rubber", "metal")
    counts: tuple[float, ...] = (1.0,)
    sizes: tuple[tuple[str, float], ...] = (("", 0.17),)
    stretch: float = 0.0
    x: tuple[float, float] = (0.0, 0.0)
    y: tuple[float, float] = (0.0, 0.0)
    spacing: float = 0.0
    rotation: tuple[float, float] = (0.0, 1.0)
    on_ground: bool = True
    radius: float = 2.732
    fov: tuple[float, float] = (49.13, 49.13)
    u: tuple[float, float] = (0.0, 0.0)
    v: tuple[float, float] = (1 / 3, 1 / 3)
    light_u: tuple[float, float] = (0.08, 0.23)
    light_elevation: tuple[float, float] = (38.0, 58.0)
    style: str = "studio"
    checked: bool = False
    labels: str = "count"

    @property
    def objects(self) -> int:
        """N."""
        return len(self.counts)

    @property
    def parts(self) -> int:
        """The most primitives of an object."""
        return shapes.parts(self.shapes)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the values of `label`."""
        if self.labels == "shape":
            return self.shapes
        if self.labels == "pair":
            return tuple(f"{a} and {b}" for i, a in enumerate(self.shapes) for b in self.shapes[i:])
        return tuple(f"{n + 1} object{'s' * (n > 0)}" for n, p in enumerate(self.counts) if p)

    def place(self, draws: Draws) -> jax.Array:
        """Middles [N,2], at least `spacing` apart from each other.

        One after another: the first of `TRIES` random places that is free, else the first free point of a GRID x GRID
        grid over the ranges. For squares of side 1.4, spacing .39 and N <= 5 a grid point is always free: four discs
        that cover such a square have a radius of at least .7 / sqrt(2) = .495, so some place has that distance to the
        others, and a grid point is within .07 sqrt(2) = .099 of it, .396 from the others.
        """
        low, high = jnp.asarray([self.x[0], self.y[0]]), jnp.asarray([self.x[1], self.y[1]])
        grid = np.stack(np.meshgrid(*2 * [np.linspace(0, 1, GRID)]), -1).reshape(-1, 2)
        random = draws(0, 1, self.objects, TRIES, 2)
        grid = jnp.broadcast_to(jnp.asarray(grid, random.dtype), (self.objects, GRID * GRID, 2))
        candidates = low + (high - low) * jnp.concatenate([random, grid], 1)

        def one(placed, inputs):
            k, here = inputs
            apart = jnp.square(here[:, None] - placed[None]).sum(-1)  # [candidates,N]
            free = (apart >= self.spacing**2) | (jnp.arange(self.objects) >= k)
            chosen = here[jnp.argmax(free.all(1))]
            return placed.at[k].set(chosen), None

        start = jnp.zeros((self.objects, 2))
        return jax.lax.scan(one, start, (jnp.arange(self.objects), candidates))[0]

    def sample(self, key: jax.Array) -> tuple[Scene, Camera]:
        """A scene and its camera."""
        n = self.objects
        draw = Draws(key, n * (2 * TRIES + 8) + 40)
        count = 1 + (draw(0, 1) >= jnp.cumsum(jnp.asarray(self.counts[:-1]))).sum().astype(jnp.int32)
        which = draw.choice(np.arange(len(self.shapes)), n)
        shape = jnp.asarray([shapes.index(s) for s in self.shapes], jnp.int32)[which]
        colour = draw.order(len(shapes.COLOURS))[:n]
        material = draw.choice(np.int32([shapes.MATERIALS.index(m) for m in self.materials]), n)
        size = draw.choice(np.float32([s for _, s in self.sizes]), n) * (1 + draw(-self.stretch, self.stretch, n))
        half = size[:, None] * jnp.asarray(shapes.ASPECT)[shape]
        place = self.place(draw)
        turn = 2 * jnp.pi * draw(*self.rotation, n)
        z = half[:, 2] if self.on_ground else jnp.zeros(n)
        ground = jnp.float32(0) if self.on_ground else -half[0, 2]
        camera = camera_at(draw(*self.u), draw(*self.v), draw(*self.fov), self.radius)
        light, light_rgb = self._lights(draw)
        sky, ground_rgb = self._backdrop(draw)
        pair = jnp.sort(which[:2])
        label = {"shape": which[0], "count": count - 1 - sum(p == 0 for p in self.counts),
                 "pair": pair[0] * len(self.shapes) - pair[0] * (pair[0] - 1) // 2 + pair[-1] - pair[0]}[self.labels]
        return Scene(
            shape=shape, present=jnp.arange(n) < count, position=jnp.concatenate([place, z[:, None]], 1), rotation=turn,
            size=half, colour=colour, rgb=jnp.asarray(shapes.RGB)[colour], material=material,
            label=label.astype(jnp.int32), ground=ground, ground_rgb=ground_rgb, ground_scale=jnp.float32(0.35),
            sky=sky, light=light, light_rgb=light_rgb, light_finite=jnp.ones(2), room=jnp.zeros(8),
            room_rgb=jnp.zeros(3), style=self.style, parts=self.parts), camera

    def _lights(self, draw: Draws) -> tuple[jax.Array, jax.Array]:
        """A large warm light at either side and, from behind on the other side, a weaker cold one."""
        side = draw.choice(np.float32([-1, 1]))
        u, elevation = side * draw(*self.light_u), jnp.deg2rad(draw(*self.light_elevation))

        def box(u, elevation, distance, half):
            back = jnp.stack([jnp.cos(2 * jnp.pi * u) * jnp.cos(elevation),
                              jnp.sin(2 * jnp.pi * u) * jnp.cos(elevation), jnp.sin(elevation)])
            across = jnp.stack([-jnp.sin(2 * jnp.pi * u), jnp.cos(2 * jnp.pi * u), jnp.zeros_like(u)])
            return jnp.stack([distance * back, half * across, half * jnp.cross(back, across)])

        light = jnp.stack([box(u, elevation, 6.0, 0.9),
                           box(u + 0.5 + draw(-0.1, 0.1), jnp.deg2rad(35.0), 6.0, 0.8)])
        return light, draw(0.9, 1.1) * jnp.asarray([[1.22, 1.17, 1.08], [0.17, 0.19, 0.23]])

    def _backdrop(self, draw: Draws) -> tuple[jax.Array, jax.Array]:
        """(sky [2,3], ground [2,3]): a grey studio; a checked one; or open air over one of several grounds."""
        tint = 1 + draw(-0.05, 0.05, 3)
        if self.style == "road":
            grounds = [[0.14, 0.14, 0.15], [0.30, 0.29, 0.27], [0.36, 0.28, 0.18], [0.14, 0.20, 0.08]]
            ground = jnp.tile(draw.choice(np.float32(grounds)) * tint, (2, 1))
            blue = draw(0, 1)
            sky = jnp.asarray([[0.22, 0.40, 0.74], [0.72, 0.80, 0.88]]) * blue
            return sky + jnp.asarray([[0.60, 0.63, 0.67], [0.84, 0.84, 0.84]]) * (1 - blue), ground
        contrast = [[1.2], [0.45]] if self.checked else [[1.0], [1.0]]
        ground = draw(0.30, 0.40) * tint * jnp.asarray(contrast)
        return jnp.asarray([[0.20, 0.21, 0.24], [0.62, 0.62, 0.62]]) * (0.5 + 0.5 * tint), ground


# What may stand in a room: (shape, x, y, +-x, +-y, rotation in degrees, +-rotation, size, probability). The window is
# on the side of positive y here; half of all rooms are mirrored. The back wall is at x = -1.15, the sides at y = +-1.2.
_FURNITURE = {
    "living room": (
        ("sofa", -0.84, -0.05, 0.02, 0.20, 0, 0, 1.0, 1.0), ("table", -0.05, -0.08, 0.06, 0.06, 0, 6, 0.8, 0.9),
        ("rug", -0.10, -0.05, 0.04, 0.06, 0, 8, 1.0, 0.7), ("lamp", -0.99, -1.02, 0.02, 0.02, 0, 0, 1.1, 0.8),
        ("plant", -0.94, 0.98, 0.03, 0.03, 0, 180, 1.1, 0.7), ("shelf", -0.42, -1.06, 0.04, 0.0, 90, 0, 1.0, 0.7),
        ("chair", 0.16, 0.64, 0.05, 0.03, -125, 25, 1.0, 0.7), ("plant", 0.12, -0.95, 0.02, 0.02, 0, 180, 0.8, 0.3)),
    "bedroom": (
        ("bed", -0.56, 0.05, 0.02, 0.08, 0, 0, 1.0, 1.0), ("lamp", -0.99, -0.72, 0.02, 0.03, 0, 0, 0.9, 0.8),
        ("rug", 0.05, -0.10, 0.06, 0.08, 0, 8, 1.1, 0.8), ("shelf", -0.33, -1.06, 0.08, 0.0, 90, 0, 1.0, 0.8),
        ("plant", -0.96, 0.99, 0.02, 0.02, 0, 180, 1.0, 0.6), ("chair", 0.30, -0.55, 0.04, 0.06, 140, 25, 1.0, 0.7),
        ("table", 0.30, 0.62, 0.05, 0.05, 90, 5, 0.6, 0.4), ("lamp", -0.99, 0.69, 0.02, 0.0, 0, 0, 0.9, 0.3)),
    "dining room": (
        ("table", -0.25, 0.0, 0.04, 0.05, 0, 0, 1.1, 1.0), ("chair", -0.25, 0.66, 0.03, 0.03, -90, 8, 1.1, 0.8),
        ("chair", -0.25, -0.66, 0.03, 0.03, 90, 8, 1.1, 0.8), ("chair", -0.80, 0.0, 0.02, 0.03, 0, 8, 1.1, 0.8),
        ("chair", 0.32, 0.0, 0.03, 0.04, 180, 12, 1.1, 0.6), ("shelf", -1.01, -0.68, 0.0, 0.06, 0, 0, 1.0, 0.8),
        ("plant", -0.95, 0.95, 0.03, 0.03, 0, 180, 1.2, 0.7), ("rug", -0.25, 0.0, 0.03, 0.03, 0, 4, 1.4, 0.6)),
}
_WALLS = np.float32([[0.72, 0.70, 0.65], [0.58, 0.64, 0.66], [0.66, 0.52, 0.42], [0.50, 0.58, 0.48],
                     [0.64, 0.60, 0.70], [0.76, 0.66, 0.46]])
_WOODS = np.float32([[[0.34, 0.19, 0.09], [0.44, 0.27, 0.14]], [[0.20, 0.11, 0.06], [0.27, 0.16, 0.09]],
                     [[0.46, 0.36, 0.24], [0.56, 0.45, 0.32]], [[0.30, 0.28, 0.26], [0.38, 0.36, 0.33]]])


@dataclasses.dataclass(frozen=True)
class Rooms:
    """Furnished rooms with a window at one side, seen from the open front. Attributes as in `Prior`."""

    about: str = "living rooms, bedrooms and dining rooms by the light of a window"
    radius: float = 2.732
    fov: tuple[float, float] = (40.0, 46.0)
    u: tuple[float, float] = (-0.035, 0.035)
    v: tuple[float, float] = (0.375, 0.43)
    style: str = "room"
    kinds = tuple(_FURNITURE)

    @property
    def objects(self) -> int:
        """N."""
        return len(_FURNITURE[self.kinds[0]])

    @property
    def shapes(self) -> tuple[str, ...]:
        """The furniture."""
        return tuple(sorted({row[0] for rows in _FURNITURE.values() for row in rows}))

    @property
    def parts(self) -> int:
        """The most primitives of an object."""
        return shapes.parts(self.shapes)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the values of `label`: the kinds of rooms."""
        return self.kinds

    @property
    def sizes(self) -> tuple[tuple[str, float], ...]:
        """Furniture has one size."""
        return (("", 1.0),)

    def sample(self, key: jax.Array) -> tuple[Scene, Camera]:
        """A room and its camera."""
        n = self.objects
        draw = Draws(key, 8 * n + 40)
        kind = draw.choice(np.arange(len(self.kinds), dtype=np.int32))
        shape = jnp.asarray([[shapes.index(r[0]) for r in rows] for rows in _FURNITURE.values()], jnp.int32)[kind]
        numbers = jnp.asarray([[r[1:] for r in rows] for rows in _FURNITURE.values()], jnp.float32)[kind]  # [N,8]
        side = draw.choice(np.float32([-1, 1]))
        x, y = (numbers[:, i] + draw(-1, 1, n) * numbers[:, i + 2] for i in (0, 1))
        turn = jnp.deg2rad(numbers[:, 4] + draw(-1, 1, n) * numbers[:, 5])
        half = numbers[:, 6:7] * jnp.asarray(shapes.ASPECT)[shape]
        present = draw(0, 1, n) < numbers[:, 7]
        colour = draw.order(len(shapes.COLOURS))[:n]
        rgb = jnp.asarray(shapes.RGB)[colour]
        rgb = 0.75 * rgb + 0.25 * jnp.maximum(rgb.mean(-1, keepdims=True), 0.1)
        floor, ceiling = -0.38, 1.12
        window_x, window_half = draw(-0.45, -0.15), draw(0.32, 0.45)
        room = jnp.stack([jnp.float32(v) for v in (-1.15, 3.4, 1.2, ceiling)] + [
            side, window_x, window_half, jnp.float32(0.36)])
        zero = jnp.zeros(())
        window = jnp.stack([jnp.stack([window_x, side * 1.19, zero + (floor + ceiling) / 2]),
                            jnp.stack([window_half, zero, zero]), jnp.stack([zero, zero, room[7]])])
        elevation, azimuth = jnp.deg2rad(draw(30, 48)), jnp.deg2rad(draw(-35, 25))
        sun = jnp.stack([jnp.sin(azimuth) * jnp.cos(elevation), side * jnp.cos(azimuth) * jnp.cos(elevation),
                         jnp.sin(elevation)])
        light = jnp.stack([window, jnp.stack([sun, jnp.zeros(3), jnp.zeros(3)])])
        light_rgb = jnp.asarray([[0.74, 0.80, 0.88], [1.9, 1.65, 1.3]]) * jnp.stack([
            draw(0.85, 1.15), draw(0.0, 1.0)])[:, None]
        camera = camera_at(draw(*self.u), draw(*self.v), draw(*self.fov), self.radius)
        position = jnp.stack([x, side * y, floor + half[:, 2]], -1)
        return Scene(
            shape=shape, present=present, position=position, rotation=side * turn, size=half, colour=colour, rgb=rgb,
            material=jnp.zeros(n, jnp.int32), label=kind.astype(jnp.int32), ground=jnp.float32(floor),
            ground_rgb=draw.choice(_WOODS), ground_scale=jnp.float32(0.16),
            sky=jnp.asarray([[0.45, 0.62, 0.85], [0.80, 0.86, 0.92]]), light=light, light_rgb=light_rgb,
            light_finite=jnp.asarray([1.0, 0.0]), room=room,
            room_rgb=draw.choice(_WALLS), style=self.style,
            parts=self.parts), camera


_SQUARE = {"x": (-0.7, 0.7), "y": (-0.7, 0.7), "spacing": 0.39}
PRESETS: dict[str, Prior | Rooms] = {
    "one": Prior("one object in the middle, the camera anywhere around it", sizes=(("small", 0.38), ("large", 0.55)),
                 on_ground=False, u=(0.0, 1.0), v=(0.15, 0.43), light_u=(0.0, 0.5), checked=True, labels="shape"),
    "two": Prior("two objects, as CLEVR in GIRAFFE's world", counts=(0.0, 1.0), labels="pair", **_SQUARE),
    # How many: as in CLEVR between two and five (GIRAFFE's sample_object_existance).
    "two_to_five": Prior("two to five objects, as CLEVR in GIRAFFE's world",
                         counts=(0.0, 0.1946, 0.2435, 0.2527, 0.3092), **_SQUARE),
    "cars": Prior("one car from all sides on an open plain", shapes=("sedan", "van", "pickup"), materials=("paint",),
                  sizes=(("", 0.21),), stretch=0.05, x=(-0.22, 0.22), y=(-0.12, 0.12), on_ground=False,
                  fov=(17.0, 17.0), v=(0.40, 0.48), light_u=(0.05, 0.3), style="road", labels="shape"),
    "rooms": Rooms(),
}
