"""GIRAFFE as a task: what scenes are drawn from, and training as in the authors' code.

Letters as in `genjax.fields.giraffe`. Differences from the authors' code: a scene's background turn is drawn for each
image (theirs: once per batch); cameras are rotations (theirs divides each axis by its largest norm in the batch, which
shortens right and up of the cameras nearer the zenith, the chairs' most); a step trains the discriminator, then the
generator (theirs the other way round, which is the same sequence from another start); pictures for people and for
metrics are rendered without jitter and noise on densities (theirs measures with both). Source: Niemeyer and Geiger 2021
(arXiv:2011.12100) section 3.4, and the code.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.core.adversarial import AdversarialTask
from genjax.errors import UserError, at_least
from genjax.fields import controls, disentangle, stage
from genjax.fields.boxes import BoxPrior
from genjax.fields.giraffe import Generator, Scene, Volume
from genjax.losses.adversarial import Convention
from genjax.ops.camera import focal_length, look_at, on_sphere


@dataclasses.dataclass(frozen=True)
class CameraPrior:
    """Where cameras are: on a sphere around the origin, looking at it.

    Attributes:
      u: azimuth as a share of a full turn.
      v: polar angle arccos(1 - 2 v); 1/2 is the horizon.
      radius: of the sphere.
      fov: degrees across the image.

    Raises:
      UserError: a range the wrong way round, v outside [0,1], no radius, a fov that no camera has.
    """

    u: tuple[float, float] = (0.0, 0.0)
    v: tuple[float, float] = (0.25, 0.25)
    radius: tuple[float, float] = (2.732, 2.732)
    fov: float = 49.13

    def __post_init__(self):
        for name in ("u", "v", "radius"):
            low, high = getattr(self, name)
            if low > high:
                raise UserError(f"the camera's {name} goes from {low} to {high}: the first must not be the larger")
        if not (self.v[0] >= 0 and self.v[1] <= 1):
            raise UserError(f"the camera's v={self.v} must lie between 0 (above) and 1 (below)")
        if not 0 < self.fov < 180 or self.radius[0] <= 0:
            raise UserError(f"fov={self.fov} must be between 0 and 180 degrees, radius={self.radius} above 0")

    def at(self, u, v, radius) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(eye [...,3], rotation [...,3,3], focal [...]) at shares [...] (0 to 1) of the ranges."""
        u, v, radius = (low + share * (high - low) for (low, high), share in
                        zip((self.u, self.v, self.radius), (u, v, radius), strict=True))
        eye = on_sphere(u, v) * jnp.asarray(radius)[..., None]
        return eye, look_at(eye), jnp.full(eye.shape[:-1], focal_length(self.fov))

    def draw(self, keys: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """`at` uniform shares, one for each of keys [B]."""
        share = jax.vmap(lambda k: jax.random.uniform(k, (3,)))(keys)
        return self.at(share[:, 0], share[:, 1], share[:, 2])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Giraffe(AdversarialTask):
    """Trains GIRAFFE.

    Attributes:
      generator: its `span` is that of `boxes`, whatever the config says.
      boxes, camera: priors.
      code: Z, of an object's shape and of its appearance each; `background_code` of the background's.
      background_rotation: turns of the background, as a share of a full one.
    """

    generator: Generator
    boxes: BoxPrior = BoxPrior()
    camera: CameraPrior = CameraPrior()
    code: int = 256
    background_code: int = 128
    background_rotation: tuple[float, float] = (0.0, 0.0)
    r1_gamma: float = 10.0
    r1_convention: Convention = "whole"
    ema_decay: float = 0.999
    preview_images: int = 16
    value_range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self):
        super().__post_init__()
        at_least(self, code=1, background_code=1)
        low, high = self.background_rotation
        if not low <= high:
            raise UserError(f"background_rotation goes from {low} to {high}: the first must not be the larger")
        self._nothing_swallows_the_camera()
        span = self.boxes.span(self.generator.padding)
        object.__setattr__(self, "generator", self.generator.clone(span=span))

    def _nothing_swallows_the_camera(self):
        b, share = self.boxes, np.linspace(0, 1, 17)
        x, y, z = b.scale_max
        half = np.array([x, y, z] if b.rotation == (0.0, 0.0) else [np.hypot(x, y), np.hypot(x, y), z])
        reach = np.abs([b.centre_min, b.centre_max]).max(0) + (1 + self.generator.padding) * half
        eye = np.asarray(self.camera.at(*np.meshgrid(share, share, [0.0]))[0]).reshape(-1, 3)
        if (np.abs(eye) < reach).all(-1).any():
            raise UserError(f"a camera at radius {self.camera.radius[0]} may lie inside a box, which reach up to"
                            f" {reach.round(2).tolist()} from the origin; use smaller boxes or a larger radius")

    def draw(self, keys, step=None):
        """One `Scene` for each of keys."""
        k = jax.vmap(lambda key: jax.random.split(key, 7))(keys)

        def normal(i, *shape):
            return jax.vmap(lambda key: jax.random.normal(key, shape))(k[:, i])

        n = self.boxes.boxes
        low, high = self.background_rotation
        turn = low + (high - low) * jax.vmap(jax.random.uniform)(k[:, 6])
        return Scene(normal(0, n, self.code), normal(1, n, self.code), normal(2, self.background_code),
                     normal(3, self.background_code), self.boxes.draw(k[:, 4]), *self.camera.draw(k[:, 5]), turn)

    @functools.cached_property
    def _volume(self):
        def volume(variables, scene):
            return self.generator.apply({"params": variables["params"]}, scene, False, method="volume")

        return jax.jit(volume)

    def volumes(self, variables: dict[str, Any], scene: Scene) -> Volume:
        """Depth, opacities and features of scenes, before the neural renderer, as numpy arrays."""
        return jax.tree.map(np.asarray, self._volume(variables, scene))

    def moves(self, variables):
        """Objects moved and changed, and what the pictures did: see `genjax.fields.disentangle`."""
        def measured(key, settings):
            world = disentangle.GiraffeWorld(self, variables, key, settings.move_scenes)
            return disentangle.values(world, key, settings.move_steps)

        return measured

    def controls(self):
        """Objects turned, moved, changed and added, the camera, the background: see `genjax.fields.controls`."""
        return controls.offered(self)

    def withheld(self):
        """Of those, what the priors leave nothing to do for."""
        return controls.withheld(self)

    def stage(self, variables):
        """Dials for the camera and every object: see `genjax.fields.stage`."""
        return stage.make(self, variables)
