"""GIRAFFE's neural renderer: from a small map of features, rendered from the volume, to the image.

Source: Niemeyer and Geiger 2021 (arXiv:2011.12100) section 3.3, figure 3, and the authors' code.
"""

import math
from typing import Literal

import jax
from flax import linen as nn

from genjax.errors import UserError, at_least
from genjax.fields.encoding import Dtype
from genjax.nn.layers import Conv, Dense, InstanceNorm, activation
from genjax.ops.pad import pad2d
from genjax.ops.resample import upsample2x
from genjax.ops.upfirdn import filter2d

Upsampling = Literal["nearest", "bilinear"]


def smooth_upsample(x: jax.Array) -> jax.Array:
    """Bilinear enlargement by 2 and a normalised [1,2,1] blur, reflected at the border: [N,H,W,C] -> [N,2H,2W,C]."""
    x = pad2d(upsample2x(x, "bilinear"), ((1, 1), (1, 1)), "reflect")
    return filter2d(x, (1.0, 2.0, 1.0), pad=-1)


def _enlarge(x, how):
    return upsample2x(x, "nearest") if how == "nearest" else smooth_upsample(x)


class NeuralRenderer(nn.Module):
    """Features [N,h,h,M] to images [N,S,S,3] in (0,1): convolutions at each doubling, and an image that they add to.

    Attributes:
      size: S; (S / h) is a power of two.
      features: width at h x h; halved at each doubling, down to `least`.
      least: the smallest width.
      channels: of the image.
      rgb_skip: an image is made at each size and added to the enlarged last one; else only from the last features, by
        a 1x1 convolution (3x3 in parameters that already hold one).
      upsample, upsample_rgb: how features and images are enlarged (bilinear with a blur).
      norm: instance normalisation after each convolution (not used by the paper).
      sigmoid: at the end; without, images are unbounded.
      dtype: of the arithmetic.

    Raises:
      UserError: a width below 1, a size that is not the map's times a power of two.
    """

    size: int = 64
    features: int = 128
    least: int = 32
    channels: int = 3
    rgb_skip: bool = True
    upsample: Upsampling = "nearest"
    upsample_rgb: Upsampling = "bilinear"
    norm: bool = False
    sigmoid: bool = True
    dtype: Dtype = "float32"

    def __post_init__(self):
        at_least(self, features=1, least=1, channels=1)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        doublings = math.log2(self.size / x.shape[1])
        if doublings < 1 or doublings != int(doublings) or x.shape[1] != x.shape[2]:
            raise UserError(f"the neural renderer enlarges a square map by powers of two, got {x.shape[1:3]} for"
                            f" size={self.size}")

        def conv(n, k, name):
            return Conv(n, kernel=k, dtype=self.dtype, name=name)

        net, rgb = x, None
        if x.shape[-1] != self.features:
            net = conv(self.features, 1, "conv_in")(x)
        if self.rgb_skip:
            rgb = _enlarge(conv(self.channels, 3, "conv_rgb_0")(x), self.upsample_rgb)
        for i in range(int(doublings)):
            width = max(self.features // 2 ** (i + 1), self.least if i else 1)
            net = conv(width, 3, f"conv_{i}")(_enlarge(net, self.upsample))
            if self.norm:
                net = InstanceNorm()(net)
            net = activation("leaky_relu")(net)
            if self.rgb_skip:
                if i:
                    rgb = _enlarge(rgb, self.upsample_rgb)
                rgb = rgb + conv(self.channels, 3, f"conv_rgb_{i + 1}")(net)
        if not self.rgb_skip:
            stored = self.variables.get("params", {}).get("conv_rgb")
            rgb = conv(self.channels, stored["kernel"].shape[0] if stored else 1, "conv_rgb")(net)
        rgb = rgb.astype("float32")
        return nn.sigmoid(rgb) if self.sigmoid else rgb


class Discriminator(nn.Module):
    """GIRAFFE's: 4x4 convolutions of stride 2 without bias or normalisation, [N,S,S,3] -> logits [N].

    Attributes:
      features: width of the last hidden layer; halved towards the image.
      dtype: of the arithmetic.
    """

    features: int = 512
    dtype: Dtype = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array | None = None, train: bool = True) -> jax.Array:
        layers = math.log2(x.shape[1]) - 2
        if layers < 1 or layers != int(layers) or x.shape[1] != x.shape[2]:
            raise UserError(f"the discriminator takes squares of a power of two, at least 8, got {x.shape[1:3]}")
        if self.features < 2 ** (layers - 1):
            raise UserError(f"the discriminator of {x.shape[1]} x {x.shape[1]} pictures needs features of at least"
                            f" {2 ** int(layers - 1)}, got {self.features}: they are halved {int(layers - 1)} times")
        for i in range(int(layers)):
            width = int(self.features / 2 ** (layers - 1 - i))
            x = Conv(width, kernel=4, stride=2, use_bias=False, dtype=self.dtype, name=f"conv_{i}")(x)
            x = activation("leaky_relu")(x)
        x = Dense(1, use_bias=False, dtype=self.dtype, name="conv_out")(x.reshape(len(x), -1))  # 4x4, valid
        return x[:, 0].astype("float32")
