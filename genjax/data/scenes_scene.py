"""A scene and a camera as pytrees, which may be changed by hand and drawn again (`scenes_render.render`).

World: z up; the camera of the presets stands in the direction of +x, so that x is depth (towards it) and y is across,
as in GIRAFFE (Niemeyer and Geiger 2021). Letters: N objects at most, L lights.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from genjax.data import scenes_shapes as shapes
from genjax.data.scenes_geometry import Primitives
from genjax.ops import camera as camera_lib

STYLES = ("studio", "road", "room")


@functools.partial(jax.tree_util.register_dataclass, data_fields=("eye", "rotation", "focal"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Camera:
    """A pinhole, as `genjax.ops.camera` has it.

    Attributes:
      eye: e [...,3].
      rotation: R [...,3,3], camera to world.
      focal: f [...].
    """

    eye: jax.Array
    rotation: jax.Array
    focal: jax.Array


def camera_at(u, v, fov, radius=2.732, at=0.0) -> Camera:
    """The camera at u, v in [0,1] on a sphere around the origin (`genjax.ops.camera.on_sphere`).

    Args:
      u, v: turns about z, and (1 - cos of the polar angle) / 2; arrays of any one shape.
      fov: across the image, degrees.
      radius: of the sphere.
      at: the point [3] in the middle of the picture.
    """
    u, v, fov = jnp.broadcast_arrays(*(jnp.asarray(x, jnp.float32) for x in (u, v, fov)))
    eye = radius * camera_lib.on_sphere(u, v)
    return Camera(eye, camera_lib.look_at(eye, jnp.asarray(at, jnp.float32)), camera_lib.focal_length(fov))


_ARRAYS = ("shape", "present", "position", "rotation", "size", "colour", "rgb", "material", "label", "ground",
           "ground_rgb", "ground_scale", "sky", "light", "light_rgb", "light_finite", "room", "room_rgb")


@functools.partial(jax.tree_util.register_dataclass, data_fields=_ARRAYS, meta_fields=("style", "parts"))
@dataclasses.dataclass(frozen=True)
class Scene:
    """Objects on a ground, under lights.

    Attributes:
      shape: [N] int32 into `scenes_shapes.NAMES`.
      present: [N] bool; what is not there is not drawn.
      position: [N,3] the middle of each object's box.
      rotation: [N] radians about z, anticlockwise seen from above.
      size: [N,3] half sizes of its box, along its own axes.
      colour: [N] int32 into `scenes_shapes.COLOURS`: its name.
      rgb: [N,3] linear light in 0..1: what is drawn.
      material: [N] int32 into `scenes_shapes.MATERIALS`.
      label: int32, the class of the whole, see the preset.
      ground: its height.
      ground_rgb: [2,3] the two colours of a checkerboard, linear.
      ground_scale: side of its squares.
      sky: [2,3] at the zenith and at the horizon.
      light: [L,3,3] middle and two half edges of rectangles; or a direction (and 0) where not finite.
      light_rgb: [L,3] irradiance at the origin of a surface that faces the light.
      light_finite: [L] 1 for a rectangle, 0 for a sun.
      room: [8] back wall's x, front's x, half the width, the ceiling's z, and the window: side (+-1), its middle's x,
        half its width, and half its height (it is in the middle of the wall).
      room_rgb: [3] the walls' colour.
      style: "studio" (plain or checked ground), "road" (patterns of cars) or "room" (walls, floor boards).
      parts: the most primitives that an object has.
    """

    shape: jax.Array
    present: jax.Array
    position: jax.Array
    rotation: jax.Array
    size: jax.Array
    colour: jax.Array
    rgb: jax.Array
    material: jax.Array
    label: jax.Array
    ground: jax.Array
    ground_rgb: jax.Array
    ground_scale: jax.Array
    sky: jax.Array
    light: jax.Array
    light_rgb: jax.Array
    light_finite: jax.Array
    room: jax.Array
    room_rgb: jax.Array
    style: str = "studio"
    parts: int = 1


# What `Primitives.rows` hold, in this order.
ROWS = {"A": 9, "b": 3, "box": 1, "ball": 1, "taper": 2, "pattern": 1, "rgb": 3, "optics": 5, "instance": 1,
        "semantic": 1, "turn": 2}


def primitives(scene: Scene) -> Primitives:
    """The primitives of all objects, those of present ones first."""
    n, m = scene.shape.shape[0], scene.parts
    part = {k: jnp.asarray(v[:, :m])[scene.shape] for k, v in shapes.TABLE.items()}  # [N,M,...]
    c, s = jnp.cos(scene.rotation), jnp.sin(scene.rotation)
    zero, one = jnp.zeros_like(c), jnp.ones_like(c)
    # Written out: a product of matrices would be rounded to less than float32 on some devices.
    back = jnp.stack([jnp.stack([c, s, zero], -1), jnp.stack([-s, c, zero], -1), jnp.stack([zero, zero, one], -1)], -2)
    scaled = back / scene.size[:, :, None]  # world to the object's box
    shift = -jnp.sum(scaled * scene.position[:, None], -1)
    turn = part["turn"] / part["half"][..., None, :]  # a wheel's axes are swapped after its half sizes divide
    A = jnp.sum(turn[..., :, :, None] * scaled[:, None, None], -2)
    b = jnp.sum(turn * (shift[:, None, None] - part["centre"][:, :, None]), -1)
    as_object = part["as_object"][..., None]
    rgb = jnp.minimum(part["own"][..., None] * scene.rgb[:, None] + part["fixed"], 0.95)
    optics = as_object * jnp.asarray(shapes.OPTICS)[scene.material][:, None] + (1 - as_object) * part["optics"]
    number = jnp.broadcast_to(jnp.arange(1, n + 1, dtype=jnp.float32)[:, None], (n, m))
    semantic = jnp.broadcast_to(scene.shape[:, None] + shapes.FIRST_SHAPE, (n, m)).astype(jnp.float32)
    fields = {"A": A.reshape(n, m, 9), "b": b, "box": part["box"], "ball": part["ball"], "taper": part["taper"],
              "pattern": part["pattern"], "rgb": rgb, "optics": optics, "instance": number, "semantic": semantic,
              "turn": jnp.broadcast_to(jnp.stack([c, s], -1)[:, None], (n, m, 2))}
    used = (part["used"] & scene.present[:, None]).reshape(-1)
    order = jnp.argsort(~used, stable=True)
    rows = jnp.concatenate([fields[k].reshape(n * m, w)[order] for k, w in ROWS.items()], -1)
    flat = {k: x.reshape(n * m, *x.shape[2:])[order] for k, x in
            {"A": A, "b": b, "box": part["box"], "ball": part["ball"], "taper": part["taper"]}.items()}
    return Primitives(used.sum().astype(jnp.int32), **flat, rows=rows.T)


def fields(rows: jax.Array) -> dict[str, jax.Array]:
    """`Primitives.rows` [F,...] by name, each [width,...]."""
    ends = np.cumsum(list(ROWS.values()))
    return dict(zip(ROWS, jnp.split(rows, ends[:-1]), strict=True))
