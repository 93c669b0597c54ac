"""Progressive GAN's networks (Karras et al. 2018, arXiv:1710.10196, section 4, table 2 and appendix A).

Letters: z[N,Z] latents, y[N] labels, x[N,r,r,C] pictures in [-1,1], h feature maps, a[N] logits; R `resolution`, the
full size, r `size`, the one in use, a power of two from 4 to R; alpha in [0,1] the fade, 0: the layers up to r/2 only.
At r there are nf(r) = min(2 fmap_base / r, fmap_max) maps. r is static, alpha may be traced; all parameters exist
whatever r is, and those of larger sizes have no gradient.

Parameters: G and D have 23 079 115 and 23 087 249 at 1024 with the defaults, 22 933 394 and 22 941 313 at 128.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.errors import UserError, unknown
from genjax.nn.equalized import SQRT2, EqualConv, EqualDense, finish, minibatch_std, pixel_norm
from genjax.ops.resample import avg_pool2x
from genjax.ops.upfirdn import filter2d

BOX = (1.0, 1.0)  # pixels repeated on the way up, 2 x 2 means on the way down
BLUR = (1.0, 2.0, 1.0)  # StyleGAN's
Head = Literal["acgan", "switch"]


def sizes(resolution: int) -> list[int]:
    """4, 8, ..., R."""
    if resolution < 4 or resolution & (resolution - 1):
        raise UserError(f"resolution must be a power of two and at least 4, got {resolution}")
    return [2**i for i in range(2, resolution.bit_length())]


def check_size(size: int | None, resolution: int) -> int:
    """r; None: R."""
    size = resolution if size is None else size
    if size not in sizes(resolution):
        raise UserError(f"a network for {resolution} pixels works at {sizes(resolution)} pixels, not at {size}")
    return size


def nf(size: int, fmap_base: int, fmap_max: int) -> int:
    """Feature maps at r; r = 2 gives those of the last dense layer."""
    return min(2 * fmap_base // size, fmap_max)


def upscale(x: jax.Array) -> jax.Array:
    """Every pixel twice along both axes: [N,H,W,C] -> [N,2H,2W,C]."""
    n, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (n, h, 2, w, 2, c)).reshape(n, 2 * h, 2 * w, c)


def fade(old: jax.Array, new: jax.Array, alpha: jax.Array | float) -> jax.Array:
    """old + alpha (new - old), exactly `new` at alpha = 1."""
    return new + (old - new) * jnp.asarray(1 - alpha, new.dtype)


def fade_images(x: jax.Array, alpha: jax.Array | float) -> jax.Array:
    """Real pictures on their way from r/2 to r: x faded in over its own 2 x 2 means."""
    return fade(upscale(avg_pool2x(x)), x, alpha)


def one_hot(labels: jax.Array | None, classes: int) -> jax.Array:
    """[N,classes] float32."""
    if labels is None:
        raise UserError(f"a network with {classes} classes needs labels")
    return jax.nn.one_hot(labels, classes)


def as_float(x: jax.Array, dtype: str | None = None) -> jax.Array:
    """x in `dtype`; None: at least float32."""
    return x.astype(dtype or jnp.promote_types(x.dtype, jnp.float32))


class Generator(nn.Module):
    """z -> x. Dense and convolution at 4 x 4, two convolutions per further size; pixel norm after each.

    Attributes:
      resolution: R.
      channels: C.
      classes: labels are appended to z, one-hot; 0: none.
      fmap_base, fmap_max: of nf.
      normalize_latents: z is put on the sphere first.
      eps: of the pixel norms; 1e-4 where dtype is float16.
      dtype: of the maps, "bfloat16" or "float16"; None: float32. Pictures are float32.
    """

    resolution: int = 1024
    channels: int = 3
    classes: int = 0
    fmap_base: int = 8192
    fmap_max: int = 512
    normalize_latents: bool = True
    eps: float = 1e-8
    dtype: str | None = None

    def _layer(self, x, features, name, up=1):
        y = EqualConv(features, 3, up=up, fir=BOX, gain=SQRT2, act="leaky_relu", name=name)(x)
        return pixel_norm(y, self.eps)

    @nn.compact
    def __call__(self, z: jax.Array, labels: jax.Array | None = None, train: bool = True, *, size: int | None = None,
                 alpha: jax.Array | float = 1.0) -> jax.Array:
        """x [N,r,r,C] float32."""
        size = check_size(size, self.resolution)
        z = as_float(z)
        if self.classes:
            z = jnp.concatenate([z, one_hot(labels, self.classes)], -1)
        if self.normalize_latents:
            z = pixel_norm(z, self.eps)
        image = None
        for r in sizes(size):
            width = nf(r, self.fmap_base, self.fmap_max)
            if r == 4:
                # The published order of the units: channel, row, column. The gain is that of the first implementation.
                x = EqualDense(16 * width, gain=SQRT2 / 4, use_bias=False, dtype=self.dtype, name="b4_dense")(z)
                x = x.reshape(-1, width, 4, 4).transpose(0, 2, 3, 1)
                bias = self.param("b4_dense_bias", nn.initializers.zeros, (width,))
                x = pixel_norm(finish(x, bias, "leaky_relu"), self.eps)
            else:
                x = self._layer(x, width, f"b{r}_conv0", up=2)
            x = self._layer(x, width, f"b{r}_conv1")
            if r in (size, size // 2) or self.is_initializing():
                rgb = as_float(EqualConv(self.channels, 1, name=f"b{r}_torgb")(x))
                image = rgb if image is None or r < size else fade(upscale(image), rgb, alpha)
        return image


class Discriminator(nn.Module):
    """x -> a. Two convolutions per size, the second halving it; at 4 x 4 minibatch deviation and two dense layers.

    Serves StyleGAN too, with `blur` and `head="switch"`. Its size is that of the picture.

    Attributes:
      resolution, channels, fmap_base, fmap_max, dtype: as in `Generator`.
      classes: 0: no labels.
      head: "acgan": classes are told by logits of their own beside a (Odena et al. 2017, see `classify`); "switch": one
        logit per class, that of the label is a (Mescheder et al. 2018).
      blur: filter [1,2,1] before every reduction.
      mbstd_group: images per group of the minibatch deviation; 1: none.
    """

    resolution: int = 1024
    channels: int = 3
    classes: int = 0
    head: Head = "acgan"
    fmap_base: int = 8192
    fmap_max: int = 512
    blur: bool = False
    mbstd_group: int = 4
    dtype: str | None = None

    def _conv(self, x, features, kernel, name, **kwargs):
        return EqualConv(features, kernel, gain=SQRT2, act="leaky_relu", name=name, **kwargs)(x)

    @nn.compact
    def _outputs(self, x, alpha):
        size = check_size(x.shape[1], self.resolution)
        if x.shape[2:] != (size, self.channels):
            raise UserError(f"the discriminator takes pictures [N,r,r,{self.channels}], got {tuple(x.shape)}")
        x = as_float(x, self.dtype)
        h = None
        for r in reversed(sizes(size)):
            width = nf(r, self.fmap_base, self.fmap_max)
            if r in (size, size // 2) or self.is_initializing():
                maps = self._conv(x, width, 1, f"b{r}_fromrgb")
                h = maps if h is None else fade(maps, h, alpha) if r == size // 2 else h
            x = avg_pool2x(x)
            if r > 4:
                h = self._conv(h, width, 3, f"b{r}_conv0")
                h = filter2d(h, BLUR) if self.blur else h
                h = self._conv(h, nf(r // 2, self.fmap_base, self.fmap_max), 3, f"b{r}_conv1", down=2, fir=BOX)
        h = as_float(h)
        h = minibatch_std(h, self.mbstd_group) if self.mbstd_group > 1 else h
        h = self._conv(h, width, 3, "b4_conv")
        h = h.transpose(0, 3, 1, 2).reshape(h.shape[0], -1)  # the published order of the units: channel, row, column
        h = EqualDense(nf(2, self.fmap_base, self.fmap_max), gain=SQRT2, act="leaky_relu", name="b4_dense")(h)
        outputs = {"acgan": 1 + self.classes, "switch": max(1, self.classes)}
        if self.head not in outputs:
            raise unknown("head", self.head, outputs)
        return EqualDense(outputs[self.head], name="output")(h)

    def classify(self, x: jax.Array, alpha: jax.Array | float = 1.0) -> tuple[jax.Array, jax.Array]:
        """(a [N], logits of the classes [N,classes]) of the "acgan" head."""
        y = self._outputs(x, alpha)
        return y[:, 0], y[:, 1:]

    def __call__(self, x: jax.Array, labels: jax.Array | None = None, train: bool = True, *,
                 alpha: jax.Array | float = 1.0) -> jax.Array:
        """a [N], float32."""
        y = self._outputs(x, alpha)
        if self.classes and self.head == "switch":
            return (y * one_hot(labels, self.classes)).sum(1)
        return y[:, 0]
