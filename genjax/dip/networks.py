"""The hourglass networks of Deep Image Prior: Ulyanov, Vedaldi & Lempitsky, CVPR 2018 (arXiv:1711.10925).

Every network of this family maps an input z[N,h,w,Cz], usually fixed noise (`genjax.dip.inputs`), to a
picture [N,H,W,Co] float32, in [0,1] when it ends in a sigmoid. All have two properties a task needs before it
builds z: `multiple`, the number H and W should be divisible by for the picture to come out at the asked size,
and `reduction`, H / h (1 but for the Deep Decoder). Normalisation is by batch statistics in training and
output alike: there is no evaluation mode, and a network is a pure function of (parameters, z).

Letters: S number of scales, scale i works at H / 2^i; k kernel sizes.
"""

import typing
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.errors import UserError, at_least, unknown
from genjax.nn.layers import Activation, BatchStatNorm, Conv
from genjax.ops.resample import avg_pool2x, downsample, downsampling_kernel, max_pool2x, upsample2x

Pad = Literal["zero", "reflection"]
Upsample = Literal["bilinear", "nearest"]
Downsample = Literal["stride", "avg", "max", "lanczos2", "lanczos3"]
Dtype = Literal["float32", "bfloat16"]  # linen does not check; tests of gradients take "float64"

PAD_MODES = {"zero": "zero", "reflection": "reflect"}


def per_scale(value: int | str | tuple, scales: int, what: str) -> tuple:
    """`value` repeated for every scale, or as it is when it already has one entry per scale."""
    if not isinstance(value, (tuple, list)):
        return (value,) * scales
    if len(value) != scales:
        raise UserError(f"{what} has {len(value)} entries for {scales} scales; give one per scale, or a single value")
    return tuple(value)


def one_of(net: nn.Module, **choices: object) -> None:
    """Refuses attributes, or entries of tuples, that are no name of their `Literal`."""
    for what, names in choices.items():
        value = getattr(net, what)
        for name in value if isinstance(value, (tuple, list)) else (value,):
            if name not in typing.get_args(names):
                raise unknown(what, str(name), typing.get_args(names))


def pad_mode(pad: str) -> str:
    """The layers' name of a padding."""
    if pad not in PAD_MODES:
        raise unknown("pad", pad, PAD_MODES)
    return PAD_MODES[pad]


def centre_crop(x: jax.Array, height: int, width: int) -> jax.Array:
    """The middle [N,height,width,C] of x; the odd pixel is left over at the bottom and right."""
    top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
    return x[:, top : top + height, left : left + width]


def crop_to_smallest(*maps: jax.Array) -> tuple[jax.Array, ...]:
    """Centre crops of the maps to the smallest height and the smallest width among them."""
    height, width = min(m.shape[1] for m in maps), min(m.shape[2] for m in maps)
    return tuple(centre_crop(m, height, width) for m in maps)


class Picture(nn.Module):
    """The last layer: a convolution to the picture's channels and, if asked for, a sigmoid.

    It works in float32 even when the maps are bfloat16: that costs next to nothing and keeps the picture free
    of bfloat16's steps of 1/256.
    """

    features: int
    kernel: int = 1
    pad: Pad = "zero"
    use_bias: bool = True
    need_sigmoid: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        x = Conv(self.features, self.kernel, 1, pad_mode(self.pad), self.use_bias, name="conv")(x)
        return jax.nn.sigmoid(x) if self.need_sigmoid else x


class ConvNorm(nn.Module):
    """Convolution at stride 1 or 2, batch normalisation, activation: the unit the networks are made of.

    Attributes:
      features: output channels.
      kernel: kernel size.
      pad: what lies beyond the border.
      use_bias: the convolution adds a bias (the normalisation takes it out again).
      act: activation.
      downsample: None keeps the size; "stride" halves it by the convolution's stride, the others by pooling
      or
        a fixed Lanczos blur after a convolution at full size.
    """

    features: int
    kernel: int = 3
    pad: Pad = "zero"
    use_bias: bool = True
    act: Activation = "leaky_relu"
    downsample: Downsample | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        stride = 2 if self.downsample == "stride" else 1
        x = Conv(self.features, self.kernel, stride, pad_mode(self.pad), self.use_bias, name="conv")(x)
        if self.downsample == "avg":
            x = avg_pool2x(x)
        elif self.downsample == "max":
            x = max_pool2x(x)
        elif self.downsample in ("lanczos2", "lanczos3"):
            x = downsample(x, downsampling_kernel(2, self.downsample, phase=0.5), 2, preserve_size=True)
        elif self.downsample not in (None, "stride"):
            raise unknown("downsample", self.downsample, ["stride", "avg", "max", "lanczos2", "lanczos3"])
        return BatchStatNorm(self.act, name="norm")(x)


class Skip(nn.Module):
    """Encoder-decoder with skip connections: the network of nearly all of the paper's figures.

    Going down, scale i halves the map and convolves twice, while a side branch of channels_skip[i] maps
    leaves it at its input size (none where that is 0). Going up, the map is doubled, cropped to the side
    branch's size (or the reverse), both are normalised, convolved together and, with need1x1_up, once more by
    a 1x1 convolution. Sides that are no multiple of 2^S come out as they went in where channels_skip[0] is
    above 0 and `downsample` "stride" (an odd map is halved upwards, doubled, and cropped to the side branch);
    a few pixels smaller with the other ways to halve, or larger without a side branch: crop those first.

    The published code makes the Lanczos filters of `downsample` dense and learnable by accident; here they
    are fixed.

    Attributes:
      out_channels: channels of the picture.
      channels_down: maps of every scale on the way down; its length is the number of scales S.
      channels_up: maps of every scale on the way up.
      channels_skip: maps of every scale's side branch, 0 for none; one number for all scales, or one each.
      kernel_down: kernel sizes on the way down (odd); one number, or one per scale.
      kernel_up: kernel sizes on the way up (odd); one number, or one per scale.
      kernel_skip: kernel sizes of the side branches (odd); one number, or one per scale.
      pad: padding of every convolution.
      upsample: how maps are doubled; one name, or one per scale, finest first.
      downsample: how maps are halved; one name, or one per scale, finest first.
      act: activation after every normalised convolution.
      need_sigmoid: end in a sigmoid, so that the picture is in (0,1).
      need_bias: convolutions add a bias.
      need1x1_up: the second, 1x1 convolution of every scale on the way up.
      dtype: dtype of the arithmetic, "float32" or "bfloat16"; parameters, statistics and picture are float32.

    Source: paper, section 3 and supplementary figure 1; parameter counts per task in
    tests/dip/test_networks.py.
    """

    out_channels: int = 3
    channels_down: tuple[int, ...] = (128, 128, 128, 128, 128)
    channels_up: tuple[int, ...] = (128, 128, 128, 128, 128)
    channels_skip: int | tuple[int, ...] = 4
    kernel_down: int | tuple[int, ...] = 3
    kernel_up: int | tuple[int, ...] = 3
    kernel_skip: int | tuple[int, ...] = 1
    pad: Pad = "reflection"
    upsample: Upsample | tuple[str, ...] = "bilinear"
    downsample: Downsample | tuple[str, ...] = "stride"
    act: Activation = "leaky_relu"
    need_sigmoid: bool = True
    need_bias: bool = True
    need1x1_up: bool = True
    dtype: Dtype = "float32"

    def __post_init__(self):
        scales = len(self.channels_down)
        if scales < 1:
            raise UserError("channels_down is empty; give the channels of at least one scale")
        one_of(self, upsample=Upsample, downsample=Downsample, pad=Pad, act=Activation)
        at_least(self, out_channels=1, channels_down=1, channels_up=1, channels_skip=0, kernel_down=1, kernel_up=1,
                 kernel_skip=1)
        for what in ("channels_up", "channels_skip", "kernel_down", "kernel_up", "kernel_skip",
                     "upsample", "downsample"):  # fmt: skip
            per_scale(getattr(self, what), scales, what)
        for what in ("kernel_down", "kernel_up", "kernel_skip"):
            if any(k % 2 == 0 for k in per_scale(getattr(self, what), scales, what)):
                raise UserError(f"{what} {getattr(self, what)} has an even kernel size; use odd ones")
        super().__post_init__()

    @property
    def multiple(self) -> int:
        """Sides that are multiples of this come out as they went in."""
        return 2 ** len(self.channels_down)

    @property
    def reduction(self) -> int:
        """Picture size over input size."""
        return 1

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """z [N,H,W,Cz] -> picture [N,H,W,out_channels] float32."""
        scales = range(len(self.channels_down))

        def of(what: str) -> tuple:
            return per_scale(getattr(self, what), len(scales), what)

        skip, up, halve, double = of("channels_skip"), of("channels_up"), of("downsample"), of("upsample")
        k_skip, k_down, k_up = of("kernel_skip"), of("kernel_down"), of("kernel_up")

        def unit(name: str, features: int, kernel: int, downsample: str | None = None) -> ConvNorm:
            return ConvNorm(features, kernel, self.pad, self.need_bias, self.act, downsample, name=name)

        x, sides = z.astype(self.dtype), []
        for i in scales:
            sides.append(unit(f"skip{i}", skip[i], k_skip[i])(x) if skip[i] else None)
            x = unit(f"down{i}a", self.channels_down[i], k_down[i], halve[i])(x)
            x = unit(f"down{i}b", self.channels_down[i], k_down[i])(x)

        for i in reversed(scales):
            x = upsample2x(x, double[i])
            parts = (x,) if sides[i] is None else crop_to_smallest(sides[i], x)
            # Normalised one by one and then joined: the raw concatenation is never stored.
            x = jnp.concatenate(BatchStatNorm(name=f"join{i}")(parts), axis=-1)
            x = unit(f"up{i}a", up[i], k_up[i])(x)
            if self.need1x1_up:
                x = unit(f"up{i}b", up[i], 1)(x)

        return Picture(self.out_channels, 1, "zero", self.need_bias, self.need_sigmoid, name="out")(x)


def hourglass(
    depth: Literal[1, 2, 3, 4, 5, 6] = 6, out_channels: int = 3, need_sigmoid: bool = True, dtype: Dtype = "float32"
) -> Skip:
    """The encoder-decoder without skip connections of the large-hole inpainting figure, at one of its depths.

    16, 32, 64, 128, 128, 128 maps, the first `depth` of them; 5x5 kernels down, 3x3 up, nearest up-sampling,
    no 1x1 convolutions. The figure compares depths 2, 4 and 6. Source: paper, figure "inpainting of a large
    region".
    """
    widths = (16, 32, 64, 128, 128, 128)
    if not 1 <= depth <= len(widths):
        raise UserError(f"depth is {depth}; choose one from 1 to {len(widths)}")
    return Skip(
        out_channels=out_channels, channels_down=widths[:depth], channels_up=widths[:depth], channels_skip=0,
        kernel_down=5, kernel_up=3, upsample="nearest", need1x1_up=False, need_sigmoid=need_sigmoid, dtype=dtype,
    )  # fmt: skip
