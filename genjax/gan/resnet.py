"""The residual networks of Mescheder, Geiger and Nowozin 2018 (arXiv:1801.04406) as GIRAFFE's authors take them: a GAN
of pictures alone, to compare GIRAFFE with (Niemeyer and Geiger 2021, table 1, "2D GAN").

Letters: z[N,Z] latents, x[N,S,S,3] images in [-1,1], S = 4 * 2^n; F filters at the picture's size, doubled at each
halving up to a largest width. No normalisation anywhere. Parameters start as PyTorch's.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.errors import UserError, at_least, unknown
from genjax.nn.layers import Conv, Dense, activation
from genjax.nn.sharding import BATCH, constrain
from genjax.ops.resample import upsample2x

DTYPES = ("float32", "bfloat16", "float16")
act = activation("leaky_relu")


def _check(net):
    """Refuses a network's widths below 1, and arithmetic that it is not made for."""
    at_least(net, filters=1, most=1)
    if net.dtype not in (None, *DTYPES):
        raise unknown("dtype", net.dtype, DTYPES)


def _halvings(size: int) -> int:
    if size < 8 or size & (size - 1):
        raise UserError(f"residual networks are for pictures whose side is a power of two, at least 8, got {size}")
    return int(math.log2(size)) - 2


def halve(x: jax.Array) -> jax.Array:
    """Means of 3 x 3 pixels at every other one, zeros beyond the border counted too: [N,H,W,C] -> [N,H/2,W/2,C]."""
    n, h, w, c = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = sum(x[:, i:i + h:2] for i in range(3))
    return sum(x[:, :, i:i + w:2] for i in range(3)) / 9


class Block(nn.Module):
    """x + .1 * (two convolutions after an activation each); where the width changes, a linear map of x.

    Attributes:
      features: output width; between the convolutions the smaller one of input and output.
      dtype: of the arithmetic; None: that of x.
    """

    features: int
    dtype: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        y = Conv(min(width, self.features), dtype=self.dtype, name="conv_0")(act(x))
        y = Conv(self.features, dtype=self.dtype, name="conv_1")(act(y))
        if width != self.features:
            x = Conv(self.features, kernel=1, use_bias=False, dtype=self.dtype, name="conv_s")(x)
        return constrain(x + 0.1 * y, BATCH, None, None, "tensor")


class Generator(nn.Module):
    """z[N,Z] -> x[N,S,S,3] in (-1,1): a linear map to 4 x 4, a block and a doubling by repetition at each size.

    Attributes:
      size: S.
      filters: F; `most` the largest width.
      dtype: of the arithmetic; None: that of z.
    """

    size: int = 64
    filters: int = 16
    most: int = 512
    dtype: str | None = None

    def __post_init__(self):
        _check(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, z: jax.Array, labels: jax.Array | None = None, train: bool = True) -> jax.Array:
        widths = [min(self.filters << i, self.most) for i in range(_halvings(self.size), -1, -1)]
        x = Dense(16 * widths[0], dtype=self.dtype, name="fc")(z).reshape(-1, 4, 4, widths[0])
        for i, width in enumerate(widths[1:]):
            x = upsample2x(Block(width, self.dtype, name=f"block_{i}")(x), "nearest")
        x = Block(self.filters, self.dtype, name=f"block_{len(widths) - 1}")(x)
        return jnp.tanh(Conv(3, dtype=self.dtype, name="conv_img")(act(x)).astype(z.dtype))


class Discriminator(nn.Module):
    """x[N,S,S,3] -> logits [N]: a block at each size, means in between, a linear map at 4 x 4.

    Attributes:
      filters: F; `most` the largest width.
      dtype: of the arithmetic; None: that of x.
    """

    filters: int = 16
    most: int = 512
    dtype: str | None = None

    def __post_init__(self):
        _check(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array | None = None, train: bool = True) -> jax.Array:
        y = Conv(self.filters, dtype=self.dtype, name="conv_img")(x)
        y = Block(self.filters, self.dtype, name="block_0")(y)
        for i in range(1, _halvings(x.shape[1]) + 1):
            y = Block(min(self.filters << i, self.most), self.dtype, name=f"block_{i}")(halve(y))
        y = Dense(1, dtype=self.dtype, name="fc")(act(y).reshape(len(y), -1))
        return y[:, 0].astype(x.dtype)
