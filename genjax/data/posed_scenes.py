"""One drawn scene seen from all around: posed pictures without a download."""

import functools

import jax
import numpy as np

from genjax import errors
from genjax.data.posed_files import Views
from genjax.data.scenes import PRESETS, camera_at, draw_scene, views

FOV = 30.0


@functools.lru_cache(maxsize=2)
def around(preset: str, scene: int, count: int, size: int, radius: float = 4.0) -> Views:
    """Scene number `scene` of a preset from `count` places on the upper half of a sphere, evenly spread, held-out and
    other views alike (a golden spiral: Swinbank and Purser 2006).

    Args:
      preset: of `builtin:scenes`, out of doors.
      scene: its number.
      count: of views.
      size: side of the pictures.
      radius: of the sphere.
    """
    if preset not in PRESETS or preset == "rooms":
        raise errors.unknown("preset of builtin:scenes to walk around", preset, [p for p in PRESETS if p != "rooms"])
    what, _ = draw_scene(preset, scene)
    i = np.arange(count)
    u = np.mod(i * (np.sqrt(5) - 1) / 2, 1.0)
    v = 0.08 + (0.46 - 0.08) * (i + 0.5) / count  # elevations from 5 to 57 degrees
    order = np.random.default_rng(0).permutation(count)  # so that every n-th view is no ring of its own
    cameras = camera_at(np.float32(u[order]), np.float32(v[order]), np.full(count, FOV, np.float32), radius)
    drawn = jax.jit(lambda scene, cameras: views(scene, cameras, size)["image"])(what, cameras)
    images = np.asarray(drawn)
    images = images.astype(np.float32) / (255 if images.dtype == np.uint8 else 1)
    return Views(images, np.asarray(cameras.eye), np.asarray(cameras.rotation), float(np.asarray(cameras.focal)[0]))
