"""Layers of the published feature networks, at inference: convolution, dense, fixed batch normalisation, pooling.

Letters: x[N,H,W,C]. Parameters are float32 and are cast to the dtype of x, which is the dtype of the arithmetic.
Pooling is made of shifted slices: the same values as `reduce_window`, whose gradients crawl on the CPU.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from genjax.ops.conv import conv2d


class Conv(nn.Module):
    """Convolution with a rectangular kernel: kernel[k,l,Ci,Co], bias[Co].

    Attributes:
      features: Co.
      kernel: (k, l), or k for both.
      stride: step in input pixels.
      padding: zeros on every side, p or (vertical, horizontal).
      use_bias: add a bias.
    """

    features: int
    kernel: int | tuple[int, int] = 3
    stride: int = 1
    padding: int | tuple[int, int] = 0
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        k, l = (self.kernel,) * 2 if isinstance(self.kernel, int) else self.kernel
        p, q = (self.padding,) * 2 if isinstance(self.padding, int) else self.padding
        w = self.param("kernel", nn.initializers.he_normal(), (k, l, x.shape[-1], self.features))
        y = conv2d(x, w.astype(x.dtype), stride=self.stride, padding=((p, p), (q, q)))
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)
        return y


class Dense(nn.Module):
    """x[N,I] -> [N,O]: kernel[I,O], bias[O]."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, biased: bool = True) -> jax.Array:
        """`biased=False`: x @ kernel alone."""
        w = self.param("kernel", nn.initializers.he_normal(), (x.shape[-1], self.features))
        b = self.param("bias", nn.initializers.zeros, (self.features,))
        y = x @ w.astype(x.dtype)
        return y + b.astype(x.dtype) if biased else y


class FixedNorm(nn.Module):
    """Batch normalisation by running statistics: scale (x - mean) / sqrt(var + eps) + bias."""

    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, c)
        bias = self.param("bias", nn.initializers.zeros, c)
        mean = self.variable("batch_stats", "mean", jnp.zeros, c).value
        var = self.variable("batch_stats", "var", jnp.ones, c).value
        a = scale * jax.lax.rsqrt(var + self.eps)
        return x * a.astype(x.dtype) + (bias - mean * a).astype(x.dtype)


def _window(x, axis, size, stride, out, combine):
    y = None
    for i in range(size):
        piece = jax.lax.slice_in_dim(x, i, i + (out - 1) * stride + 1, stride, axis)
        y = piece if y is None else combine(y, piece)
    return y


def max_pool3(x: jax.Array, stride: int = 2, padding: int = 0, ceil: bool = False) -> jax.Array:
    """Maximum over 3 x 3 windows, as torch's `MaxPool2d(3, stride, padding, ceil_mode=ceil)`."""
    for axis in (1, 2):
        n = x.shape[axis] + 2 * padding
        out = (math.ceil if ceil else math.floor)((n - 3) / stride) + 1
        after = max((out - 1) * stride + 3 - n, 0)
        if padding or after:
            pads = [(0, 0, 0)] * 4
            pads[axis] = (padding, padding + after, 0)
            x = jax.lax.pad(x, jnp.array(-jnp.inf, x.dtype), pads)
        x = _window(x, axis, 3, stride, out, lambda a, b: jnp.where(b > a, b, a))
    return x


def avg_pool3(x: jax.Array) -> jax.Array:
    """Mean over 3 x 3 windows at stride 1, same size; a window at the border is the mean of what lies inside."""
    for axis in (1, 2):
        n = x.shape[axis]
        pads = [(0, 0, 0)] * 4
        pads[axis] = (1, 1, 0)
        count = np.minimum(np.arange(n) + 2, n) - np.maximum(np.arange(n) - 1, 0)
        shape = [1] * 4
        shape[axis] = n
        x = _window(jax.lax.pad(x, jnp.zeros((), x.dtype), pads), axis, 3, 1, n, jnp.add)
        x = x / count.reshape(shape).astype(x.dtype)
    return x


def adaptive_avg_pool(x: jax.Array, size: int) -> jax.Array:
    """[N,H,W,C] -> [N,size,size,C], mean over the pixels floor(i H/size) to ceil((i+1) H/size), as torch's."""
    for axis in (1, 2):
        n = x.shape[axis]
        if n != size:
            i, j = np.arange(size)[:, None], np.arange(n)[None]
            inside = (j >= i * n // size) & (j < -(-(i + 1) * n // size))
            r = jnp.asarray(inside / inside.sum(1, keepdims=True), x.dtype)
            x = jnp.moveaxis(jnp.tensordot(r, x, ((1,), (axis,)), precision="highest"), 0, axis)
    return x
