"""Layers with an equalised learning rate, and the normalisations that go with them: Karras et al. 2018 to 2020.

Letters: x[N,H,W,C] maps or x[N,D] vectors, g `gain`, m `lr_multiplier`, fan the number of inputs of an output. A kernel
is stored as N(0, 1/m^2) and multiplied by c = g m / sqrt(fan) whenever it is used, so that Adam's steps of equal size
move every layer equally far (arXiv:1710.10196, section 4.1); a bias is stored as `bias_init` and multiplied by m.
Parameters are float32; `dtype` as in `genjax.nn.layers`. After the bias: y = clip(act_gain act(.), +-clamp).

Progressive GAN and StyleGAN put the gain of leaky ReLU into the kernel (gain=sqrt 2), StyleGAN2 behind the activation
(act_gain=sqrt 2).
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.errors import UserError
from genjax.nn.layers import Activation, activation
from genjax.ops.upfirdn import FIR, conv_resample

SQRT2 = math.sqrt(2.0)


def pixel_norm(x: jax.Array, eps: float = 1e-8) -> jax.Array:
    """x / sqrt(mean over the last axis of x^2 + eps): Karras et al. 2018, section 4.2; StyleGAN2's normalisation of z.

    In x's dtype; the mean is taken in at least float32.
    """
    v = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (v * jax.lax.rsqrt(jnp.square(v).mean(-1, keepdims=True) + eps)).astype(x.dtype)


def minibatch_std(x: jax.Array, group: int | None = 4, features: int = 1, eps: float = 1e-8) -> jax.Array:
    """Appends how much the images of a group differ: Karras et al. 2018, section 3.

    Image n belongs to group n mod (N / group). The standard deviation over the group is averaged over the pixels and
    the channels of each of `features` equal slices of channels.

    Args:
      x: [N,H,W,C].
      group: images per group, None or more than N: all.
      features: how many maps to append.

    Returns:
      [N,H,W,C+features] in x's dtype.

    Raises:
      UserError: a batch that does not divide into groups, or channels that do not divide into features.
    """
    n, h, w, c = x.shape
    size = n if group is None else min(group, n)
    if n % size:
        raise UserError(f"a batch of {n} does not divide into groups of {size}; change the batch or the group size")
    if c % features:
        raise UserError(f"{c} channels do not divide into {features} minibatch features; change their number")
    v = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    v = v.reshape(size, n // size, h, w, features, c // features)
    v = v - v.mean(0)
    std = jnp.sqrt(jnp.square(v).mean(0) + eps).mean((1, 2, 4))  # [N/size, features]
    maps = jnp.broadcast_to(jnp.tile(std, (size, 1))[:, None, None, :], (n, h, w, features))
    return jnp.concatenate([x, maps.astype(x.dtype)], -1)


def finish(x: jax.Array, bias: jax.Array | None, act: Activation = "none", gain: float = 1.0,
           clamp: float | None = None) -> jax.Array:
    """clip(gain act(x + bias), +-clamp), the end of every layer; bias[C] or None, clamp None: no limit."""
    y = activation(act)(x if bias is None else x + bias.astype(x.dtype))
    y = y if gain == 1 else y * jnp.asarray(gain, y.dtype)
    return y if clamp is None else jnp.clip(y, -clamp, clamp)


class EqualDense(nn.Module):
    """Fully connected layer with equalised learning rate: [..., D] -> [..., features].

    Parameters: kernel[D,features], bias[features].

    Attributes:
      features: outputs.
      gain: g, multiplies the kernel.
      lr_multiplier: m; 0.01 in StyleGAN's mapping.
      use_bias: add a bias.
      bias_init: the stored bias at the start; what is added is m times it.
      act: activation, with slope 0.2 for "leaky_relu".
      act_gain: factor behind the activation.
      dtype: dtype of the arithmetic; None: that of x.
    """

    features: int
    gain: float = 1.0
    lr_multiplier: float = 1.0
    use_bias: bool = True
    bias_init: float = 0.0
    act: Activation = "none"
    act_gain: float = 1.0
    dtype: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        m, fan = self.lr_multiplier, x.shape[-1]
        w = self.param("kernel", nn.initializers.normal(1 / m), (fan, self.features))
        dtype = self.dtype or x.dtype
        y = x.astype(dtype) @ (w * (self.gain * m / math.sqrt(fan))).astype(dtype)
        bias = None
        if self.use_bias:
            bias = m * self.param("bias", nn.initializers.constant(self.bias_init), (self.features,))
        return finish(y, bias, self.act, self.act_gain)


class EqualConv(nn.Module):
    """Convolution with equalised learning rate, odd kernel and zero padding, that may also resample.

    [N,H,W,C] -> [N,up H/down,up W/down,features]; see `genjax.ops.upfirdn.conv_resample`. With fir=(1, 1) it repeats
    pixels before, or averages 2x2 pixels after, an unresampled convolution in one go (the "fused" layers of Progressive
    GAN). Parameters: kernel[k,k,C,features], bias[features].

    Attributes:
      features: output channels.
      kernel: kernel size k, odd.
      up, down: resampling factors, one of them 1.
      fir: low-pass filter of the resampling.
      gain, lr_multiplier, use_bias, act, act_gain, dtype: as in `EqualDense`.
      clamp: limit of the absolute value of the result; None: none.
    """

    features: int
    kernel: int = 3
    up: int = 1
    down: int = 1
    fir: tuple[float, ...] = FIR
    gain: float = 1.0
    lr_multiplier: float = 1.0
    use_bias: bool = True
    act: Activation = "none"
    act_gain: float = 1.0
    clamp: float | None = None
    dtype: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        m, shape = self.lr_multiplier, (self.kernel, self.kernel, x.shape[-1], self.features)
        w = self.param("kernel", nn.initializers.normal(1 / m), shape)
        scale = self.gain * m / math.sqrt(self.kernel**2 * x.shape[-1])
        dtype = self.dtype or x.dtype
        y = conv_resample(x.astype(dtype), (w * scale).astype(dtype), f=self.fir, up=self.up, down=self.down)
        bias = m * self.param("bias", nn.initializers.zeros, (self.features,)) if self.use_bias else None
        return finish(y, bias, self.act, self.act_gain, self.clamp)
