"""GIRAFFE's generator: objects and a background as feature fields, composed, rendered and enlarged.

Letters: B scenes, K objects, P = h^2 rays of an h x h map, S samples on a ray, W of them near an object, H a field's
hidden width, M features. z_s, z_a [B,K,Z] codes of the objects, [B,Zb] of the background. Source: Niemeyer and Geiger
2021 (arXiv:2011.12100) section 3 and the authors' code.

An object's field counts only inside its box, and a ray is inside for few of its samples, one after another (a box is
convex): the field is evaluated at the W samples from the first one inside, W so large that no box of the prior can
hold more. All objects are one batch. The image is the same as with all samples of all objects.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from genjax.errors import UserError, at_least
from genjax.fields import sampling, volume
from genjax.fields.boxes import Boxes, directions_to_box, inside, to_box
from genjax.fields.decoder import FeatureField
from genjax.fields.renderer import NeuralRenderer
from genjax.nn.sharding import BATCH, constrain
from genjax.ops.camera import image_plane, rays, rotation_z


@struct.dataclass
class Scene:
    """What is drawn, for each of B images.

    Attributes:
      shape, appearance: z_s, z_a [B,K,Z] of the objects.
      background_shape, background_appearance: [B,Zb].
      boxes: the objects' frames.
      eye, rotation, focal: of the cameras, [B,3], [B,3,3], [B].
      background_angle: [B] turn of the background about z, 1 is a full one.
    """

    shape: jax.Array
    appearance: jax.Array
    background_shape: jax.Array
    background_appearance: jax.Array
    boxes: Boxes
    eye: jax.Array
    rotation: jax.Array
    focal: jax.Array
    background_angle: jax.Array


@struct.dataclass
class Volume:
    """What rendering the volume gives, first row on top.

    Attributes:
      features: [B,h,h,M].
      depth: [B,h,h] expected depth along the camera's axis; what a ray leaves the scene with counts as 0.
      objects: [B,K,h,h] opacity of each object alone, in [0,1].
      seen: [B,K+1,h,h] the share of each object, and of the background last, in what is seen; they sum to at most 1,
        to less where a ray leaves the scene. Without a background [B,K,h,h].
    """

    features: jax.Array
    depth: jax.Array
    objects: jax.Array
    seen: jax.Array


class Generator(nn.Module):
    """Scenes to images [B,S,S,3] in (0,1).

    Attributes:
      decoder: the objects' field, shared by all.
      background: its field; None for none.
      renderer: from features to the image; None to return the features as they are.
      size: S, of the image; the renderer's too.
      volume_size: h.
      samples: S on a ray.
      near, far: depths between which they lie.
      span: longest way of a ray through a box (`BoxPrior.span`); it decides W. 0: all samples are evaluated.
      padding: how far a box reaches beyond its sides.
      noise: standard deviation of the noise on densities while training.
      composition: "sum" or "max", see `volume.shares`.
      chunk: rays of an image that are computed at a time, one part after another, with nothing but the results kept for
        the backward pass; 0: all at once. The image is the same.
      remat: compute the fields' activations again in the backward pass instead of keeping them.

    Raises:
      UserError: fewer than 2 samples or a map of fewer than 2 x 2, a far plane in front of the near one, boxes that a
        negative padding empties, fields of different numbers of features, a renderer of another size, or a `chunk` that
        does not divide the rays.
    """

    decoder: FeatureField = FeatureField()
    background: FeatureField | None = FeatureField(hidden=64, blocks=4, skips=(), downscale=12.0)
    renderer: NeuralRenderer | None = NeuralRenderer()
    size: int = 64
    volume_size: int = 16
    samples: int = 64
    near: float = 0.5
    far: float = 6.0
    span: float = 0.0
    padding: float = 0.1
    noise: float = 1.0
    composition: volume.Composition = "sum"
    chunk: int = 0
    remat: bool = False

    def __post_init__(self):
        sampling.check(self)
        at_least(self, volume_size=2, chunk=0, noise=0)
        if not self.padding > -1:
            raise UserError(f"padding={self.padding} must be above -1, where boxes have nothing inside")
        if self.background is not None and self.background.features != self.decoder.features:
            raise UserError(f"decoder.features={self.decoder.features} and background.features="
                            f"{self.background.features} must be the same number: they are added")
        if self.renderer is not None and self.renderer.size != self.size:
            raise UserError(f"generator.size={self.size} and generator.renderer.size={self.renderer.size} must be the"
                            " same number; the config's res sets both and the data's")
        super().__post_init__()

    @property
    def window(self) -> int:
        """W: samples are at least one cell apart from their second next, so n of them span n - 2 cells or more."""
        if self.span <= 0:
            return self.samples
        return min(self.samples, math.floor(self.span * (self.samples - 1) / (self.far - self.near) + 1e-6) + 2)

    def __call__(self, scene: Scene, y: jax.Array | None = None, train: bool = True) -> jax.Array:
        """The images; `train` jitters samples and densities (key "noise"); y is not used."""
        f = self.volume(scene, train).features
        if self.renderer is None:
            return f
        return self.renderer(f)

    def volume(self, scene: Scene, train: bool = False) -> Volume:
        """The rendered volume, before the neural renderer; without `train` it is deterministic."""
        n, h, k = scene.eye.shape[0], self.volume_size, scene.boxes.centre.shape[1]
        o, d = rays(image_plane(h, h, corners=True).reshape(-1, 2), scene.focal, scene.rotation, scene.eye)
        keys = jax.random.split(self.make_rng("noise"), 3) if train else (None,) * 3
        t, noise = sampling.depths(self, (n, h * h), keys[0]), {}
        if train and self.noise > 0:  # drawn for all rays at once: the same however they are cut
            noise = {"objects": self.noise * jax.random.normal(keys[1], (n, k, h * h, self.window)).swapaxes(1, 2),
                     "background": self.noise * jax.random.normal(keys[2], t.shape)}
        # Over all devices: images over a batch's axes, rays over the one that is left.
        o, d, t, noise = jax.tree.map(lambda v: constrain(v, BATCH, "tensor"), (o, d, t, noise))
        marched = self._in_parts(scene, (o, d, t, noise))
        features, depth, objects, seen = (constrain(v, BATCH) for v in marched)
        objects, seen = (v.swapaxes(1, 2).reshape(n, -1, h, h) for v in (objects, seen))
        return Volume(features.reshape(n, h, h, -1), depth.reshape(n, h, h), objects, seen)

    def _in_parts(self, scene, along):
        """`_march` of rays `along` [B,P,...], `chunk` at a time if they are more."""
        count = along[0].shape[1]
        if not self.chunk or self.chunk >= count:
            return self._march(scene, *along)
        if count % self.chunk:
            raise UserError(f"chunk={self.chunk} must divide the {count} rays of {self.volume_size} x"
                            f" {self.volume_size}")
        # Part i has rays i, i + parts, ...: where rays are split over devices, each works at every part.
        parts = jax.tree.map(lambda v: jnp.moveaxis(v.reshape(v.shape[0], self.chunk, -1, *v.shape[2:]), 2, 0), along)

        def run(generator, carry, part):
            return carry, generator._march(scene, *jax.tree.map(lambda v: constrain(v, BATCH, "tensor"), part))

        scan = nn.scan(nn.remat(run, prevent_cse=False), variable_broadcast="params", split_rngs={"params": False})
        _, found = scan(self, (), parts)
        return jax.tree.map(lambda v: jnp.moveaxis(v, 0, 2).reshape(v.shape[1], count, *v.shape[3:]), found)

    def _march(self, scene, o, d, t, noise):
        """(features [B,P,M], depth [B,P], objects' opacities [B,P,K], shares in what is seen [B,P,K+1]) of P rays.

        Args:
          scene: the scenes.
          o, d: [B,P,3].
          t: [B,P,S].
          noise: "objects" [B,P,K,W] and "background" [B,P,S] on densities; {} for none.
        """
        length = jnp.linalg.norm(d, axis=-1)  # [B,P]
        hidden, sigma, first = self._objects(scene, o, d, t, noise.get("objects"))
        dense = _spread(sigma, first, self.samples)  # [B,K,P,S]
        parts = [dense[:, i] for i in range(dense.shape[1])]
        if self.background is not None:
            turn = rotation_z(2 * jnp.pi * scene.background_angle)
            ob, db = (jnp.einsum("bij,bpj->bpi", turn, v) for v in (o, d))
            back, sigma_back = self._field(
                self.background, ob[..., None, :] + t[..., None] * db[..., None, :], db, scene.background_shape,
                scene.background_appearance)
            parts.append(nn.relu(sigma_back + noise.get("background", 0)))
        every = jnp.stack(parts)  # [K(+1),B,P,S]
        total, share = volume.shares(every, self.composition)
        w = volume.weights(total, t, length)
        c = share * w  # what each thing's samples count, [K(+1),B,P,S]
        near = jnp.moveaxis(c[:dense.shape[1]], 0, 1)  # [B,K,P,S]
        near = _gather(near, first, sigma.shape[-1])
        features = self.decoder.head(jnp.einsum("bkpw,bkpwh->bph", near.astype(hidden.dtype), hidden),
                                     near.sum((1, 3)))
        if self.background is not None:
            cb = c[-1]
            features += self.background.head(jnp.einsum("bps,bpsh->bph", cb.astype(back.dtype), back), cb.sum(-1))
        objects = volume.weights(dense, t[:, None], length[:, None], last=0.0).sum(-1)
        return features, volume.depth(w, t), objects.swapaxes(1, 2), jnp.moveaxis(c.sum(-1), 0, -1)

    def _field(self, field, *args):
        """The field's `hidden_features`, its activations kept or not."""
        def run(field, *args):
            return field.hidden_features(*args)

        return (nn.remat(run) if self.remat else run)(field, *args)

    def _objects(self, scene, o, d, t, noise):
        """(hidden [B,K,P,W,H], densities [B,K,P,W], index of each window's first sample [B,K,P])."""
        ob = to_box(o[:, :1], scene.boxes)  # the eye: one for all rays
        db = directions_to_box(d, scene.boxes)
        first = jnp.zeros(db.shape[:-1], jnp.int32)
        near = jnp.broadcast_to(t[:, None], (*db.shape[:-1], t.shape[-1]))
        if self.window < self.samples:
            held = inside(ob[..., None, :] + t[:, None, ..., None] * db[..., None, :], self.padding)
            first = jnp.minimum(jnp.argmax(held, -1), self.samples - self.window)
            near = _gather(near, first, self.window)
        p = ob[..., None, :] + near[..., None] * db[..., None, :]
        hidden, sigma = self._field(self.decoder, p, db, scene.shape, scene.appearance)
        sigma = nn.relu(sigma if noise is None else sigma + noise.swapaxes(1, 2))
        there = inside(p, self.padding) & scene.boxes.present[:, :, None, None]
        return hidden, jnp.where(there, sigma, 0.0), first


def _gather(x: jax.Array, first: jax.Array, n: int) -> jax.Array:
    """x[...,first:first+n]."""
    if n == x.shape[-1]:
        return x
    return jnp.take_along_axis(x, first[..., None] + jnp.arange(n), -1)


def _spread(x: jax.Array, first: jax.Array, n: int) -> jax.Array:
    """x [...,W] at places first .. first+W-1 of [...,n], zeros elsewhere: the transpose of `_gather`."""
    if x.shape[-1] == n:
        return x
    place = jnp.arange(n) - first[..., None]
    held = (place >= 0) & (place < x.shape[-1])
    return jnp.where(held, jnp.take_along_axis(x, jnp.clip(place, 0, x.shape[-1] - 1), -1), 0.0)
