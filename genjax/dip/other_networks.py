"""The networks Deep Image Prior is compared with: U-Net, ResNet, Deep Decoder, and the pixels themselves.

Same contract and letters as `genjax.dip.networks`.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.dip.networks import Dtype, Pad, Picture, crop_to_smallest, one_of, pad_mode
from genjax.errors import UserError, at_least, unknown
from genjax.nn.layers import Activation, BatchStatNorm, Conv, ConvTranspose, InstanceNorm, activation
from genjax.ops.resample import avg_pool2x, max_pool2x, upsample2x

Norm = Literal["instance", "batch", "none"]


class DoubleConv(nn.Module):
    """Twice: 3x3 convolution, normalisation, ReLU."""

    features: int
    norm: Norm = "none"
    pad: Pad = "zero"
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for name in ("a", "b"):
            x = Conv(self.features, 3, 1, pad_mode(self.pad), self.use_bias, name=f"conv_{name}")(x)
            if self.norm == "instance":
                x = InstanceNorm(name=f"norm_{name}")(x)
            elif self.norm == "batch":
                x = BatchStatNorm(name=f"norm_{name}")(x)
            elif self.norm != "none":
                raise unknown("norm", self.norm, ["instance", "batch", "none"])
            x = jax.nn.relu(x)
        return x


class UNet(nn.Module):
    """U-Net as Deep Image Prior's large-hole inpainting uses it (Ronneberger et al. 2015 with InstanceNorm).

    Five widths 64..1024 / feature_scale, halved by max pooling, then `more_layers` further halvings at the
    last width; doubled by a 4x4 transposed convolution (without normalisation on the way up) and joined with
    the map of the same size. Max pooling as in the authors' models/unet.py, though some descriptions of it say
    average (which only halves the input that concat_x joins).

    Attributes:
      out_channels: channels of the picture.
      feature_scale: divides the widths 64, 128, 256, 512, 1024; 1 to 64.
      more_layers: halvings beyond the four; 0 to 12.
      concat_x: join the average-pooled input to the maps of every scale, inside the same widths.
      upsample: "deconv", or "bilinear" / "nearest" followed by a 3x3 convolution.
      norm: normalisation on the way down.
      pad: padding of the convolutions.
      need_sigmoid: end in a sigmoid.
      need_bias: convolutions add a bias.
      dtype: dtype of the arithmetic, "float32" or "bfloat16".
    """

    out_channels: int = 3
    feature_scale: int = 8
    more_layers: int = 1
    concat_x: bool = False
    upsample: Literal["deconv", "bilinear", "nearest"] = "deconv"
    norm: Norm = "instance"
    pad: Pad = "zero"
    need_sigmoid: bool = True
    need_bias: bool = True
    dtype: Dtype = "float32"

    def __post_init__(self):
        at_least(self, out_channels=1, feature_scale=1, more_layers=0)
        one_of(self, pad=Pad)
        for what, most in (("feature_scale", 64), ("more_layers", 12)):
            if getattr(self, what) > most:
                raise UserError(f"{what} must be at most {most}, got {getattr(self, what)}")
        super().__post_init__()

    @property
    def multiple(self) -> int:
        """Sides that are multiples of this come out as they went in."""
        return 2 ** (4 + self.more_layers)

    @property
    def reduction(self) -> int:
        """Picture size over input size."""
        return 1

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """z [N,H,W,Cz] -> picture [N,H,W,out_channels] float32."""
        widths = [w // self.feature_scale for w in (64, 128, 256, 512, 1024)]
        widths += widths[-1:] * self.more_layers
        taken = z.shape[-1] if self.concat_x else 0
        if taken >= widths[0]:
            raise UserError(f"concat_x leaves no room: {taken} input channels of {widths[0]}; lower feature_scale")

        x = pooled = z.astype(self.dtype)
        maps = []
        for i, width in enumerate(widths):
            x = max_pool2x(x) if i else x
            x = DoubleConv(width - taken, self.norm, self.pad, self.need_bias, name=f"down{i}")(x)
            if self.concat_x:
                pooled = avg_pool2x(pooled) if i else pooled
                x = jnp.concatenate((x, pooled), axis=-1)
            maps.append(x)

        for i in reversed(range(len(widths) - 1)):
            if self.upsample == "deconv":
                x = ConvTranspose(widths[i], name=f"double{i}")(x)
            else:
                x = upsample2x(x, self.upsample)
                x = Conv(widths[i], 3, 1, pad_mode(self.pad), self.need_bias, name=f"double{i}")(x)
            x = jnp.concatenate(crop_to_smallest(x, maps[i]), axis=-1)
            x = DoubleConv(widths[i], "none", self.pad, self.need_bias, name=f"up{i}")(x)

        return Picture(self.out_channels, 1, "zero", self.need_bias, self.need_sigmoid, name="out")(x)


class ResNet(nn.Module):
    """Residual blocks at full resolution: the network without scales of the large-hole inpainting figure.

    A 3x3 convolution and activation, `blocks` times x + BN(conv(act(BN(conv x)))), convolution and BN, and
    the convolution that draws the picture. The first and last convolution pad as `pad` says, the others with
    zeros; those inside the blocks have no bias.

    Attributes:
      out_channels: channels of the picture.
      blocks: residual blocks.
      channels: maps.
      need_residual: add x around a block.
      pad: padding of the first and last convolution.
      act: activation.
      need_sigmoid: end in a sigmoid.
      dtype: dtype of the arithmetic, "float32" or "bfloat16".
    """

    out_channels: int = 3
    blocks: int = 8
    channels: int = 32
    need_residual: bool = True
    pad: Pad = "reflection"
    act: Activation = "leaky_relu"
    need_sigmoid: bool = True
    dtype: Dtype = "float32"

    def __post_init__(self):
        at_least(self, out_channels=1, blocks=0, channels=1)
        one_of(self, pad=Pad, act=Activation)
        super().__post_init__()

    @property
    def multiple(self) -> int:
        """Every size comes out as it went in."""
        return 1

    @property
    def reduction(self) -> int:
        """Picture size over input size."""
        return 1

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """z [N,H,W,Cz] -> picture [N,H,W,out_channels] float32."""
        x = Conv(self.channels, pad_mode=pad_mode(self.pad), name="first")(z.astype(self.dtype))
        x = activation(self.act)(x)
        for i in range(self.blocks):
            y = Conv(self.channels, use_bias=False, name=f"block{i}_conv_a")(x)
            y = BatchStatNorm(self.act, name=f"block{i}_norm_a")(y)
            y = Conv(self.channels, use_bias=False, name=f"block{i}_conv_b")(y)
            y = BatchStatNorm(name=f"block{i}_norm_b")(y)
            x = x + y if self.need_residual else y
        x = Conv(self.channels, name="last")(x)
        x = BatchStatNorm(name="last_norm")(x)
        return Picture(self.out_channels, 3, self.pad, True, self.need_sigmoid, name="out")(x)


class DeepDecoder(nn.Module):
    """Deep Decoder: under-parameterised, only 1x1 convolutions and bilinear doubling (Heckel & Hand, ICLR 2019).

    One layer per entry of `channels`: convolution, doubling, ReLU, batch normalisation; one more layer
    without doubling; a 1x1 convolution to the picture. No biases. The paper's 5 layers of 128 maps have
    100,224 parameters for a colour picture. z is the coarsest map: [N, H / 2^L, W / 2^L, channels[0]] for L
    layers.

    Attributes:
      out_channels: channels of the picture.
      channels: maps of every layer.
      upsample: how maps are doubled.
      need_sigmoid: end in a sigmoid.
      dtype: dtype of the arithmetic, "float32" or "bfloat16".
    """

    out_channels: int = 3
    channels: tuple[int, ...] = (128, 128, 128, 128, 128)
    upsample: Literal["bilinear", "nearest"] = "bilinear"
    need_sigmoid: bool = True
    dtype: Dtype = "float32"

    def __post_init__(self):
        if not self.channels:
            raise UserError("channels is empty; give the maps of at least one layer")
        at_least(self, out_channels=1, channels=1)
        super().__post_init__()

    @property
    def multiple(self) -> int:
        """The sides of the picture are multiples of this."""
        return self.reduction

    @property
    def reduction(self) -> int:
        """Picture size over input size."""
        return 2 ** len(self.channels)

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """z [N,h,w,channels[0]] -> picture [N, h 2^L, w 2^L, out_channels] float32."""
        widths = (*self.channels[1:], self.channels[-1], self.channels[-1])
        if z.shape[-1] != self.channels[0]:
            raise UserError(f"z has {z.shape[-1]} channels; this Deep Decoder wants channels[0] = {self.channels[0]}")
        x = z.astype(self.dtype)
        for i, width in enumerate(widths):
            x = Conv(width, 1, use_bias=False, name=f"conv{i}")(x)
            if i < len(self.channels):
                x = upsample2x(x, self.upsample)
            x = BatchStatNorm(name=f"norm{i}")(jax.nn.relu(x))
        return Picture(self.out_channels, 1, "zero", False, self.need_sigmoid, name="out")(x)


class Pixels(nn.Module):
    """No prior at all: the parameters are the picture. z only tells its size.

    Parameter: pixels[N,H,W,out_channels], from U(low, high). The paper's comparison of priors takes U(0, 0.1)
    without a sigmoid and adds a total-variation penalty in its second column; activation maximisation takes
    U(0.5, 0.6).

    Attributes:
      out_channels: channels of the picture.
      low: least starting value (before the sigmoid, if any).
      high: greatest starting value.
      need_sigmoid: end in a sigmoid.
    """

    out_channels: int = 3
    low: float = 0.0
    high: float = 0.1
    need_sigmoid: bool = False

    def __post_init__(self):
        at_least(self, out_channels=1)
        if not (self.low <= self.high and math.isfinite(self.low) and math.isfinite(self.high)):
            raise UserError(f"pixels start between low and high: low={self.low} must not exceed high={self.high}")
        super().__post_init__()

    @property
    def multiple(self) -> int:
        """Every size comes out as it went in."""
        return 1

    @property
    def reduction(self) -> int:
        """Picture size over input size."""
        return 1

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """z [N,H,W,any] -> picture [N,H,W,out_channels] float32."""

        def init(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            return jax.random.uniform(key, shape, jnp.float32, self.low, self.high)

        pixels = self.param("pixels", init, (*z.shape[:3], self.out_channels))
        return jax.nn.sigmoid(pixels) if self.need_sigmoid else pixels
