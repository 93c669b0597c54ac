"""GRAF: a radiance field with codes as the generator, trained on patches of images of any size.

Letters: B images, P the side of a patch, S samples on a ray, u[...,2] places on the image in [-1,1] (the centres of
the outermost pixels), z_s, z_a[B,Z] codes of shape and appearance. Source: Schwarz et al. 2020 (arXiv:2007.02442)
section 3 and the authors' code.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from genjax.core.adversarial import AdversarialTask
from genjax.errors import UserError, at_least
from genjax.fields import sampling, volume
from genjax.fields.radiance import RadianceField
from genjax.fields.task import CameraPrior
from genjax.losses.adversarial import Convention
from genjax.nn.layers import Conv, Dense, InstanceNorm, activation
from genjax.ops.camera import image_plane, rays


@struct.dataclass
class Shot:
    """What one patch is made from.

    Attributes:
      shape, appearance: z_s, z_a [B,Z].
      eye, rotation, focal: the cameras, [B,3], [B,3,3], [B].
      scale, shift: the patch is scale u + shift, [B] and [B,2].
      noise: standard deviation of the noise on densities, [B].
    """

    shape: jax.Array
    appearance: jax.Array
    eye: jax.Array
    rotation: jax.Array
    focal: jax.Array
    scale: jax.Array
    shift: jax.Array
    noise: jax.Array


@dataclasses.dataclass(frozen=True)
class PatchPrior:
    """Which patches are looked at: larger ones first, smaller ones too as training goes on.

    Attributes:
      size: P.
      least, largest: of the patch's scale, a share of the image's side; the scale is uniform between the current least
        and the largest.
      anneal: the current least is largest exp(-3 anneal floor(step / 1000)), between `least` and .9; 0: `least` always.
    """

    size: int = 32
    least: float = 0.25
    largest: float = 1.0
    anneal: float = 0.0025

    def __post_init__(self):
        if not 0 < self.least <= self.largest <= 1 or self.size < 2 or self.anneal < 0:
            raise UserError(f"least={self.least}, largest={self.largest} must be shares of the image in this order,"
                            f" size={self.size} at least 2, anneal={self.anneal} not negative")

    def current(self, step: jax.Array) -> jax.Array:
        """The least scale at a step."""
        if not self.anneal:
            return jnp.float32(self.least)
        annealed = self.largest * jnp.exp(-3 * self.anneal * (step // 1000))
        return jnp.minimum(jnp.maximum(annealed, self.least), 0.9)

    def draw(self, keys: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(scale [B], shift [B,2]) of patches that lie within the image, one for each of keys."""
        share = jax.vmap(lambda k: jax.random.uniform(k, (3,)))(keys)
        least = self.current(step)
        scale = least + share[:, 0] * (self.largest - least)
        return scale, (1 - scale)[:, None] * (2 * share[:, 1:] - 1)

    def places(self, scale: jax.Array, shift: jax.Array) -> jax.Array:
        """u [B,P,P,2] of the patches' pixels, first row on top."""
        return scale[:, None, None, None] * image_plane(self.size, self.size, corners=True) + shift[:, None, None]


def bilinear(images: jax.Array, u: jax.Array) -> jax.Array:
    """Images [B,H,W,C] at places u [B,...,2] between their pixels: [B,...,C]."""
    h, w = images.shape[1:3]
    x = jnp.clip((u[..., 0] + 1) / 2, 0, 1) * (w - 1)
    y = jnp.clip((1 - u[..., 1]) / 2, 0, 1) * (h - 1)
    x0, y0 = (jnp.clip(jnp.floor(v), 0, n - 2).astype(jnp.int32) for v, n in ((x, w), (y, h)))
    a, b = (x - x0)[..., None], (y - y0)[..., None]

    def at(i, j):
        return jax.vmap(lambda image, i, j: image[i, j])(images, i, j)

    top = at(y0, x0) * (1 - a) + at(y0, x0 + 1) * a
    bottom = at(y0 + 1, x0) * (1 - a) + at(y0 + 1, x0 + 1) * a
    return top * (1 - b) + bottom * b


class Generator(nn.Module):
    """Shots to patches [B,P,P,3] in [-1,1] while training, to whole images [B,size,size,3] otherwise.

    Attributes:
      field: colours and densities.
      size: of whole images.
      patch: P.
      near, far: depths of the first and last sample.
      radius: the camera's distance from the origin that they are for: they move with it, so that the same space is seen
        from near and from far. 0: they stay.
      samples: S.
      white: what is behind everything is white, else black.
      centred: the camera's axis meets the middle of the image, and rays go through the pixels' centres. Otherwise, as
        in the authors' code, through their upper left corners: all is seen half a pixel further right and down.

    Raises:
      UserError: fewer than 2 samples, images or patches of fewer than 2 x 2, a far plane in front of the near one.
    """

    field: RadianceField = RadianceField()
    size: int = 128
    patch: int = 32
    near: float = 7.5
    far: float = 12.5
    radius: float = 0.0
    samples: int = 64
    white: bool = True
    centred: bool = True

    def __post_init__(self):
        sampling.check(self)
        at_least(self, size=2, patch=2, radius=0)
        super().__post_init__()

    @nn.compact
    def __call__(self, shot: Shot, y: jax.Array | None = None, train: bool = True) -> jax.Array:
        if train:
            u = PatchPrior(self.patch).places(shot.scale, shot.shift)
            return self._render(shot, u, True)
        u = image_plane(self.size, self.size, corners=True)

        # Row by row: a whole image's samples would not fit in memory.
        def row(field, carry, u):
            u = jnp.broadcast_to(u, (len(shot.scale), 1, *u.shape))
            return carry, self._render(shot, u, False)[:, 0]

        _, x = nn.scan(row, variable_broadcast="params", split_rngs={"params": False})(self.field, (), u)
        return jnp.moveaxis(x, 0, 1)

    def on_plane(self, u: jax.Array) -> jax.Array:
        """Places u [...,2] on the image plane that the focal length is for, [...,2] in [-1,1] over the whole image.

        The outermost pixels' centres are half a pixel inside it.
        """
        p = u * (self.size - 1) / self.size
        return p if self.centred else p + jnp.asarray([-1.0, 1.0]) / self.size

    def _render(self, shot, u, train):
        """Colours [B,h,w,3] in [-1,1] of rays through u [B,h,w,2]."""
        h, w = u.shape[1:3]
        o, d = rays(self.on_plane(u).reshape(len(u), -1, 2), shot.focal, shot.rotation, shot.eye)
        keys = jax.random.split(self.make_rng("noise")) if train else (None, None)
        shift = (jnp.linalg.norm(shot.eye, axis=-1) - self.radius)[:, None, None] if self.radius else 0.0
        t = sampling.depths(self, o.shape[:2], keys[0], shift)
        rgb, sigma = self.field(o[..., None, :] + t[..., None] * d[..., None, :], d, shot.shape, shot.appearance)
        if train:
            sigma += shot.noise[:, None, None] * jax.random.normal(keys[1], sigma.shape)
        colour = volume.colour(volume.weights(sigma, t, jnp.linalg.norm(d, axis=-1)), rgb, float(self.white))
        return (2 * colour - 1).reshape(-1, h, w, 3)


class PatchDiscriminator(nn.Module):
    """Spectrally normalised 4x4 convolutions of stride 2 with instance normalisation: [B,P,P,3] -> logits [B].

    Attributes:
      features: width at half of a 64 x 64 patch; a 32 x 32 patch starts with twice as many.
      mirrored: while training, patches are mirrored left to right at random (key "noise"), real and generated ones.
    """

    features: int = 64
    mirrored: bool = False

    def __post_init__(self):
        at_least(self, features=1)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array | None = None, train: bool = True) -> jax.Array:
        if x.shape[1] not in (32, 64, 128) or x.shape[1] != x.shape[2]:
            raise UserError(f"GRAF's discriminator takes patches of 32, 64 or 128, got {x.shape[1:3]}")

        if self.mirrored and train:
            turned = jax.random.bernoulli(self.make_rng("noise"), shape=(len(x), 1, 1, 1))
            x = jnp.where(turned, x[:, :, ::-1], x)

        def normed(layer):
            return nn.SpectralNorm(layer, collection_name="spectral")

        first, size, width = True, x.shape[1], self.features * 64 // x.shape[1]
        if not width:
            raise UserError(f"the discriminator of patches of {size} needs features of at least 2, got {self.features}")
        while size > 4:
            x = normed(Conv(width, kernel=4, stride=2, use_bias=False))(x, update_stats=train)
            if not first or x.shape[1] == 16:  # a larger patch's first layer has no normalisation
                x = InstanceNorm()(x)
            x = activation("leaky_relu")(x)
            first, size, width = False, size // 2, width * 2
        return normed(Dense(1, use_bias=False))(x.reshape(len(x), -1), update_stats=train)[:, 0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Graf(AdversarialTask):
    """Trains GRAF.

    Attributes:
      patches: which patches are looked at.
      camera: prior.
      code: Z, of shape and of appearance each.
      noise_steps: the noise on densities falls from 1 to 0 over so many steps.
      r1_convention: "pixels", as in the authors' code; runs from before it was one say "whole", P^2 times as strong.
    """

    patches: PatchPrior = PatchPrior()
    camera: CameraPrior = CameraPrior(u=(0.0, 1.0), v=(0.0, 0.45642), radius=(10.0, 10.0), fov=30.0)
    code: int = 128
    noise_steps: int = 5000
    r1_gamma: float = 10.0
    r1_convention: Convention = "pixels"
    ema_decay: float = 0.999
    preview_images: int = 16

    def __post_init__(self):
        super().__post_init__()
        at_least(self, code=1, noise_steps=1)
        g, low = self.generator, self.camera.radius[0]
        if g.radius and g.near + low - g.radius < 0:
            raise UserError(f"near={g.near} at radius {g.radius} would lie behind a camera at {low}; use a larger near")
        if self.generator.patch != self.patches.size:
            raise UserError(f"task.generator.patch={self.generator.patch} is not task.patches.size={self.patches.size}")

    def check_data(self, data):
        """Real pictures must have the side of whole generated ones: patches are shares of it."""
        super().check_data(data)
        size = data.element_spec["image"].shape[1:3]
        if size != (self.generator.size,) * 2:
            raise UserError(f"the data's pictures are {size[0]} x {size[1]}, the generator's {self.generator.size} x"
                            f" {self.generator.size}; set config.data.image_size={self.generator.size}, or the config's"
                            " res for both")

    def draw(self, keys, step=None):
        """One `Shot` for each of keys."""
        k = jax.vmap(lambda key: jax.random.split(key, 4))(keys)
        codes = jax.vmap(lambda key: jax.random.normal(key, (2, self.code)))(k[:, 0])
        at = jnp.int32(0) if step is None else step
        noise = jnp.full((len(k),), jnp.maximum(1 - at / self.noise_steps, 0), jnp.float32)
        return Shot(codes[:, 0], codes[:, 1], *self.camera.draw(k[:, 1]), *self.patches.draw(k[:, 2], at), noise)

    def seen(self, images, rng, step):
        """Patches [B,P,P,3] of the real images, each at a place of its own."""
        keys = jax.vmap(lambda i: jax.random.fold_in(rng, i))(jnp.arange(images.shape[0]))
        return bilinear(images, self.patches.places(*self.patches.draw(keys, step)))
