"""StyleGAN2's networks (Karras et al. 2020, arXiv:1912.04958), as trained by StyleGAN2-ADA (arXiv:2006.06676).

Letters: z[N,z_dim] latent, label[N] or one-hot [N,classes], w[N,w_dim], ws[N,L,w_dim] one w per layer, x[N,R,R,C] maps,
img[N,R,R,channels] pictures in [-1,1]. At resolution R there are min(channel_base / R, channel_max) feature maps.

Names follow the published code, so that its weights convert by rule: `weight` is `kernel`, transposed [O,I,k,k] ->
[k,k,I,O] or [O,I] -> [I,O]; `const` [C,4,4] -> [4,4,C]. The collection "buffers" holds what is state and not learned:
`noise_const`, one fixed noise picture per layer, and `w_avg`, the running average of w.

Parameters: G and D have 30 370 060 and 29 012 513 at 1024 with the defaults.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.errors import UserError, unknown
from genjax.gan.progressive import sizes
from genjax.nn.equalized import SQRT2, EqualConv, EqualDense, finish, minibatch_std, pixel_norm
from genjax.ops.modulated_conv import Algorithm, modulated_conv2d
from genjax.ops.upfirdn import downsample2d, upsample2d

Architecture = Literal["skip", "resnet", "orig"]
Noise = Literal["random", "const", "none"]
HALF = math.sqrt(0.5)  # both branches of a residual block are scaled by it


def _one_of(what: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise unknown(what, name, names)


def _as(x: jax.Array, dtype: str | None = None) -> jax.Array:
    """x in `dtype`; None: in full precision, float32 at least (float64 stays, for tests of gradients)."""
    return x.astype(dtype or jnp.promote_types(x.dtype, jnp.float32))


def _one_hot(label: jax.Array | None, classes: int) -> jax.Array:
    if label is None:
        raise UserError(f"a network with {classes} classes needs labels")
    return jax.nn.one_hot(label, classes) if label.ndim == 1 else label.astype(jnp.float32)


class Mapping(nn.Module):
    """z and label -> ws, by fully connected layers with leaky ReLU and a hundredth of the learning rate.

    z is normalised to unit second moment, the label's embedding too. Variables: params embed, fc0, fc1, ...; buffers
    w_avg[w_dim], which starts at 0 and is updated, w_avg += (1 - beta)(mean w - w_avg), by calls with
    `update_w_avg=True` in which "buffers" is mutable.

    Attributes:
      num_ws: L, how many copies of w to return; None: w itself, [N,w_dim], and no w_avg.
      z_dim: 0: no latent, labels only (the discriminator's).
      w_dim, layers, classes: widths and number of layers; classes 0: unconditional.
      lr_multiplier, w_avg_beta: constants of the paper.
    """

    num_ws: int | None
    z_dim: int = 512
    w_dim: int = 512
    layers: int = 8
    classes: int = 0
    lr_multiplier: float = 0.01
    w_avg_beta: float = 0.995

    @nn.compact
    def __call__(self, z: jax.Array | None, label: jax.Array | None = None, *, psi: float | jax.Array = 1.0,
                 cutoff: int | jax.Array | None = None, update_w_avg: bool = False) -> jax.Array:
        """ws[N,L,w_dim]; its first `cutoff` rows (None: all) are drawn towards w_avg, w_avg + psi (w - w_avg)."""
        parts = [] if self.z_dim == 0 else [pixel_norm(_as(z))]
        if self.classes:
            y = EqualDense(self.w_dim, name="embed")(_one_hot(label, self.classes))
            parts.append(pixel_norm(y))
        x = jnp.concatenate(parts, -1)
        for i in range(self.layers):
            x = EqualDense(self.w_dim, lr_multiplier=self.lr_multiplier, act="leaky_relu", act_gain=SQRT2,
                           name=f"fc{i}")(x)
        if self.num_ws is None:
            return x
        w_avg = self.variable("buffers", "w_avg", jnp.zeros, (self.w_dim,))
        if update_w_avg and not self.is_initializing():
            mean = jax.lax.stop_gradient(x).mean(0)
            w_avg.value = mean + self.w_avg_beta * (w_avg.value - mean)
        ws = jnp.broadcast_to(x[:, None], (x.shape[0], self.num_ws, self.w_dim))
        if isinstance(psi, (int, float)) and psi == 1:
            return ws
        near = w_avg.value + psi * (ws - w_avg.value)
        return near if cutoff is None else jnp.where(jnp.arange(self.num_ws)[:, None] < cutoff, near, ws)


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU: [N,r,r,C] -> [N,R,R,features], R = r up.

    Attributes:
      features: output maps.
      resolution: R.
      up: 1 or 2.
      clamp: limit of the result.
      algorithm: of the modulated convolution.
    """

    features: int
    resolution: int
    up: int = 1
    clamp: float | None = None
    algorithm: Algorithm = "scaled"

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array, noise: Noise = "random", gain: float = 1.0) -> jax.Array:
        styles = EqualDense(x.shape[3], bias_init=1.0, name="affine")(w)
        kernel = self.param("kernel", nn.initializers.normal(1.0), (3, 3, x.shape[3], self.features))
        y = modulated_conv2d(x, kernel, styles, up=self.up, algorithm=self.algorithm)
        size = (self.resolution, self.resolution)
        const = self.variable("buffers", "noise_const", lambda: jax.random.normal(self.make_rng("params"), size))
        strength = self.param("noise_strength", nn.initializers.zeros, ())
        if noise != "none":
            if noise == "const":
                picture = const.value[None]
            else:
                key = self.make_rng("params" if self.is_initializing() else "noise")
                picture = jax.random.normal(key, (y.shape[0], *size))
            y = y + (picture * strength).astype(y.dtype)[..., None]
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return finish(y, bias, "leaky_relu", SQRT2 * gain, None if self.clamp is None else self.clamp * gain)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution without demodulation: [N,R,R,C] -> [N,R,R,channels] in x's dtype."""

    channels: int = 3
    clamp: float | None = None
    algorithm: Algorithm = "scaled"

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        c = x.shape[3]
        styles = EqualDense(c, bias_init=1.0, name="affine")(w) / math.sqrt(c)
        kernel = self.param("kernel", nn.initializers.normal(1.0), (1, 1, c, self.channels))
        y = modulated_conv2d(x, kernel, styles, demodulate=False, algorithm=self.algorithm)
        return finish(y, self.param("bias", nn.initializers.zeros, (self.channels,)), clamp=self.clamp)


class SynthesisBlock(nn.Module):
    """One resolution of the generator; `first` starts from the learned constant, `last` always makes a picture."""

    features: int
    resolution: int
    channels: int = 3
    first: bool = False
    last: bool = False
    architecture: Architecture = "skip"
    clamp: float | None = None
    algorithm: Algorithm = "scaled"
    dtype: str | None = None

    @nn.compact
    def __call__(self, x, img, ws, noise: Noise = "random"):
        """x[N,r,r,C'], img[N,r,r,channels] or None, ws[N,2 or 3,w_dim] -> the same at R = 2 r."""
        settings = dict(clamp=self.clamp, algorithm=self.algorithm)
        residual = self.architecture == "resnet" and not self.first
        if self.first:
            const = self.param("const", nn.initializers.normal(1.0), (self.resolution, self.resolution, self.features))
            x = jnp.broadcast_to(_as(const, self.dtype), (ws.shape[0], *const.shape))
        else:
            x = _as(x, self.dtype)
            skip = EqualConv(self.features, 1, up=2, use_bias=False, act_gain=HALF, name="skip")(x) if residual else 0
            x = SynthesisLayer(self.features, self.resolution, up=2, name="conv0", **settings)(x, ws[:, 0], noise)
            ws = ws[:, 1:]
        conv1 = SynthesisLayer(self.features, self.resolution, name="conv1", **settings)
        x = skip + conv1(x, ws[:, 0], noise, HALF) if residual else conv1(x, ws[:, 0], noise)
        if img is not None:
            img = upsample2d(img)
        if self.last or self.architecture == "skip":
            rgb = ToRGB(self.channels, name="torgb", **settings)(x, ws[:, 1])
            img = _as(rgb) if img is None else img + _as(rgb)
        return x, img


def num_ws(resolution: int) -> int:
    """L: two layers per resolution, one at 4x4, and the last picture's: 18 at 1024."""
    return 2 * len(sizes(resolution))


def _dtype(resolution: int, of: int, low: int, dtype: str) -> str | None:
    """`dtype` for the `low` highest resolutions up to `of` (never below 8), None for the rest."""
    return dtype if resolution >= max(2 * of // 2**low, 8) else None


class Synthesis(nn.Module):
    """ws[N,L,w_dim] -> img[N,R,R,channels] float32; attributes as in `Generator`."""

    resolution: int
    channels: int = 3
    channel_base: int = 32768
    channel_max: int = 512
    architecture: Architecture = "skip"
    num_low_precision_res: int = 0
    low_precision: str = "bfloat16"
    clamp: float = 256.0
    algorithm: Algorithm = "scaled"

    @nn.compact
    def __call__(self, ws: jax.Array, noise: Noise = "random") -> jax.Array:
        _one_of("architecture", self.architecture, ("skip", "resnet", "orig"))
        _one_of("noise", noise, ("random", "const", "none"))
        at, x, img = 0, None, None
        if ws.ndim != 3 or ws.shape[1] != num_ws(self.resolution):
            raise UserError(f"a {self.resolution} pixel generator takes ws[N,{num_ws(self.resolution)},w_dim], got "
                            f"{tuple(ws.shape)}")
        for r in sizes(self.resolution):
            first, last = r == 4, r == self.resolution
            convs = 1 if first else 2
            block = SynthesisBlock(
                min(self.channel_base // r, self.channel_max), r, self.channels, first, last, self.architecture,
                self.clamp if self.num_low_precision_res else None, self.algorithm,
                _dtype(r, self.resolution, self.num_low_precision_res, self.low_precision), name=f"b{r}")
            # a block's picture takes the w of the next block's first layer
            x, img = block(x, img, ws[:, at : at + convs + 1], noise)
            at += convs
        return img


class Generator(nn.Module):
    """z -> picture: `mapping` and `synthesis`, which may be called alone (`method="map"`, `method="synthesize"`).

    Attributes:
      resolution: R, a power of two.
      channels: of the picture.
      classes: 0: unconditional.
      z_dim, w_dim, mapping_layers: of the mapping; 8 layers in StyleGAN2, 2 in the cifar and auto configs.
      channel_base, channel_max: feature maps; 16384 halves them (paper256).
      architecture: "skip" (sum of upsampled pictures), "resnet" or "orig".
      num_low_precision_res: how many of the highest resolutions compute in `low_precision`.
      low_precision: "bfloat16" or "float16".
      clamp: limit of every convolution's result when num_low_precision_res > 0.
      algorithm: of the modulated convolutions.
    """

    resolution: int
    channels: int = 3
    classes: int = 0
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    channel_base: int = 32768
    channel_max: int = 512
    architecture: Architecture = "skip"
    num_low_precision_res: int = 0
    low_precision: str = "bfloat16"
    clamp: float = 256.0
    algorithm: Algorithm = "scaled"

    @property
    def num_ws(self) -> int:
        """L, how many layers take a w."""
        return num_ws(self.resolution)

    def setup(self):
        self.mapping = Mapping(self.num_ws, self.z_dim, self.w_dim, self.mapping_layers, self.classes)
        self.synthesis = Synthesis(self.resolution, self.channels, self.channel_base, self.channel_max,
                                   self.architecture, self.num_low_precision_res, self.low_precision, self.clamp,
                                   self.algorithm)

    def map(self, z, label=None, *, psi=1.0, cutoff=None, update_w_avg=False) -> jax.Array:
        """ws[N,L,w_dim], see `Mapping`."""
        return self.mapping(z, label, psi=psi, cutoff=cutoff, update_w_avg=update_w_avg)

    def synthesize(self, ws, noise: Noise = "random") -> jax.Array:
        """Pictures [N,R,R,channels] float32, about [-1,1]; noise "random" takes `rngs={"noise": key}`."""
        return self.synthesis(ws, noise)

    def __call__(self, z, label=None, *, psi=1.0, cutoff=None, update_w_avg=False, noise: Noise = "random"):
        """synthesize(map(z, label))."""
        return self.synthesis(self.mapping(z, label, psi=psi, cutoff=cutoff, update_w_avg=update_w_avg), noise)


def mixing_cutoff(key: jax.Array, layers: int, probability: float | jax.Array = 0.9) -> jax.Array:
    """Where style mixing changes over, int32[]: uniform in [1, layers) with the given probability, else `layers`."""
    choose, where = jax.random.split(key)
    cutoff = jax.random.randint(where, (), 1, layers)
    return jnp.where(jax.random.uniform(choose) < probability, cutoff, layers)


def mix_styles(ws: jax.Array, other: jax.Array, cutoff: jax.Array | int) -> jax.Array:
    """ws[N,L,w_dim] up to layer `cutoff`, `other` from there: Karras et al. 2019 (arXiv:1812.04948), section 3.1."""
    return jnp.where(jnp.arange(ws.shape[1])[:, None] < cutoff, ws, other)


class DiscriminatorBlock(nn.Module):
    """One resolution of the discriminator, R -> R/2; `first` reads the picture."""

    maps: int
    features: int
    first: bool = False
    architecture: Architecture = "resnet"
    clamp: float | None = None
    dtype: str | None = None

    @nn.compact
    def __call__(self, x, img):
        """x[N,R,R,maps] or None, img[N,R,R,channels] or None -> x[N,R/2,R/2,features] and, for "skip", img."""
        common = dict(act="leaky_relu", clamp=self.clamp)
        if x is not None:
            x = _as(x, self.dtype)
        if self.first or self.architecture == "skip":
            img = _as(img, self.dtype)
            y = EqualConv(self.maps, 1, act_gain=SQRT2, name="fromrgb", **common)(img)
            x = y if x is None else x + y
            img = downsample2d(img) if self.architecture == "skip" else None
        residual = self.architecture == "resnet"
        gain = HALF if residual else 1.0
        common |= dict(clamp=None if self.clamp is None else self.clamp * gain)
        y = EqualConv(self.maps, 3, act="leaky_relu", act_gain=SQRT2, clamp=self.clamp, name="conv0")(x)
        y = EqualConv(self.features, 3, down=2, act_gain=SQRT2 * gain, name="conv1", **common)(y)
        if residual:
            y = y + EqualConv(self.features, 1, down=2, use_bias=False, act_gain=HALF, name="skip")(x)
        return y, img


class DiscriminatorEpilogue(nn.Module):
    """4x4 maps -> logits[N,1], float32: minibatch standard deviation, convolution, two dense layers, projection."""

    group: int | None = 4
    features: int = 1
    architecture: Architecture = "resnet"
    clamp: float | None = None

    @nn.compact
    def __call__(self, x, img, cmap=None):
        x, width = _as(x), x.shape[3]
        act = dict(act="leaky_relu", act_gain=SQRT2)
        if self.architecture == "skip":
            x = x + EqualConv(width, 1, name="fromrgb", **act)(_as(img))
        if self.features:
            x = minibatch_std(x, self.group, self.features)
        x = EqualConv(width, 3, clamp=self.clamp, name="conv", **act)(x)
        x = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)  # the published order of fc's inputs: channel, row, column
        x = EqualDense(width, name="fc", **act)(x)
        if cmap is None:
            return EqualDense(1, name="out")(x)
        x = EqualDense(cmap.shape[1], name="out")(x)
        return (x * cmap).sum(1, keepdims=True) / math.sqrt(cmap.shape[1])


class Discriminator(nn.Module):
    """Pictures [N,R,R,channels] and labels -> logits[N,1], float32.

    With classes, the logit is the projection of the features on the label's mapping (Miyato & Koyama 2018,
    arXiv:1802.05637).

    Attributes:
      resolution, channels, classes, channel_base, channel_max, num_low_precision_res, low_precision, clamp: as in
        `Generator`.
      architecture: "resnet", "skip" or "orig" (cifar).
      mapping_layers: of the label's mapping; 8 whatever the generator's, as in the published code.
      cmap_dim: width of the label's mapping; 0: as many as feature maps at 4x4.
      mbstd_group: images per group of the minibatch standard deviation, None: the batch.
      mbstd_features: maps it appends, 0: none.
    """

    resolution: int
    channels: int = 3
    classes: int = 0
    channel_base: int = 32768
    channel_max: int = 512
    architecture: Architecture = "resnet"
    num_low_precision_res: int = 0
    low_precision: str = "bfloat16"
    clamp: float = 256.0
    mapping_layers: int = 8
    cmap_dim: int = 0
    mbstd_group: int | None = 4
    mbstd_features: int = 1

    @nn.compact
    def __call__(self, img: jax.Array, label: jax.Array | None = None) -> jax.Array:
        _one_of("architecture", self.architecture, ("skip", "resnet", "orig"))
        if img.shape[1:] != (self.resolution, self.resolution, self.channels):
            raise UserError(f"the discriminator takes pictures [N,{self.resolution},{self.resolution},"
                            f"{self.channels}], got {tuple(img.shape)}")
        clamp = self.clamp if self.num_low_precision_res else None
        x = None
        for r in reversed(sizes(self.resolution)[1:]):
            maps, features = (min(self.channel_base // s, self.channel_max) for s in (r, r // 2))
            dtype = _dtype(r, self.resolution, self.num_low_precision_res, self.low_precision)
            block = DiscriminatorBlock(maps, features, x is None, self.architecture, clamp, dtype, name=f"b{r}")
            x, img = block(x, img)
        cmap = None
        if self.classes:
            cmap = Mapping(None, 0, self.cmap_dim or x.shape[3], self.mapping_layers, self.classes, name="mapping")(
                None, label)
        return DiscriminatorEpilogue(self.mbstd_group, self.mbstd_features, self.architecture, clamp, name="b4")(
            x, img, cmap)
