"""Layers several networks share: convolutions as in PyTorch, normalisation by batch or instance statistics.

Letters: x[N,H,W,C] feature maps, k kernel size, s stride, p padding. Parameters are float32. `dtype` is the
dtype of the arithmetic ("float32", "bfloat16"; None: that of x): x and the parameters are cast to it, the
output has it. Statistics of a normalisation are always taken in float32.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.errors import UserError, unknown
from genjax.nn import init
from genjax.ops.conv import conv2d, conv_transpose2d
from genjax.ops.norm import batch_norm, batch_norm_leaky_relu

PadMode = Literal["zero", "reflect", "edge", "circular"]
Activation = Literal["leaky_relu", "relu", "elu", "swish", "none"]

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "leaky_relu": lambda x: jnp.where(x >= 0, x, 0.2 * x),
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "swish": jax.nn.swish,
    "none": lambda x: x,
}


def activation(name: Activation) -> Callable[[jax.Array], jax.Array]:
    """The elementwise function of that name; leaky_relu has slope 0.2, elu alpha 1."""
    if name not in _ACTIVATIONS:
        raise unknown("activation", name, _ACTIVATIONS)
    return _ACTIVATIONS[name]


def _parts(x: jax.Array | Sequence[jax.Array]) -> tuple[jax.Array, ...]:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def _split(v: jax.Array, parts: Sequence[jax.Array], axis: int) -> list[jax.Array]:
    """`v` cut along `axis` into pieces as wide as the channels of `parts`."""
    ends, at = [], 0
    for p in parts[:-1]:
        at += p.shape[-1]
        ends.append(at)
    return jnp.split(v, ends, axis)


def rows_times(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [...,Ci] times kernel [Ci,Co]: [...,Co].

    As one matrix: XLA's CPU backend takes up to twice as long for the gradients of a product with more axes. Not where
    x may be split over devices along several of its axes, which one axis of all could not say.
    """
    if jax.sharding.get_abstract_mesh().size > 1 or x.ndim < 3:
        return x @ kernel
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


class Dense(nn.Module):
    """Linear layer with PyTorch's initialisation: [...,Ci] -> [...,Co].

    Parameters: kernel[Ci,Co], bias[Co]; both U(-b, b) with b = 1/sqrt(Ci).

    Attributes:
      features: Co.
      use_bias: add a bias.
      dtype: dtype of the arithmetic; None: that of x.
    """

    features: int
    use_bias: bool = True
    dtype: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (x.shape[-1], self.features)
        dtype = self.dtype or x.dtype
        y = rows_times(x.astype(dtype), self.param("kernel", init.torch_kernel, shape).astype(dtype))
        if self.use_bias:
            y += self.param("bias", init.torch_bias(shape[0]), (self.features,)).astype(dtype)
        return y


class Conv(nn.Module):
    """Convolution (cross-correlation) with PyTorch's padding and initialisation.

    Pads p = (k-1)//2 on every side, also at stride 2, so [N,H,W,Ci] -> [N,(H+2p-k)//s+1,(W+2p-k)//s+1,Co].
    Parameters: kernel[k,k,Ci,Co], bias[Co]; both U(-b, b) with b = 1/sqrt(Ci k^2).

    Attributes:
      features: output channels Co.
      kernel: kernel size k.
      stride: step s of the output grid in input pixels.
      pad_mode: what lies beyond the border.
      use_bias: add a bias.
      dtype: dtype of the arithmetic; None: that of x.

    Raises:
      UserError: an image too small for reflection padding.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    pad_mode: PadMode = "zero"
    use_bias: bool = True
    dtype: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        k, pad = self.kernel, (self.kernel - 1) // 2
        if self.pad_mode == "reflect" and min(x.shape[1:3]) <= pad:
            raise UserError(
                f"reflection padding by {pad} needs more than {pad} pixels a side, a {k}x{k} convolution got "
                f"{x.shape[1]}x{x.shape[2]}; use a larger picture, fewer scales, or zero padding"
            )
        shape = (k, k, x.shape[-1], self.features)
        w = self.param("kernel", init.torch_kernel, shape)
        dtype = self.dtype or x.dtype
        y = conv2d(
            x.astype(dtype), w.astype(dtype), stride=self.stride, padding=pad, pad_mode=self.pad_mode
        )
        if self.use_bias:
            y += self.param("bias", init.torch_bias(init.torch_fan(shape)), (self.features,)).astype(dtype)
        return y


class ConvTranspose(nn.Module):
    """Transposed convolution as `torch.nn.ConvTranspose2d`: [N,H,W,Ci] -> [N,(H-1)s-2p+k,(W-1)s-2p+k,Co].

    Parameters: kernel[k,k,Ci,Co], bias[Co]; both U(-b, b) with b = 1/sqrt(Co k^2) (PyTorch's fan, see
    `init`).

    Attributes:
      features: output channels Co.
      kernel: kernel size k.
      stride: output pixels per input pixel s.
      padding: rows and columns p cut off every side of the output.
      use_bias: add a bias.
      dtype: dtype of the arithmetic; None: that of x.
    """

    features: int
    kernel: int = 4
    stride: int = 2
    padding: int = 1
    use_bias: bool = True
    dtype: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        w = self.param("kernel", init.torch_transposed_kernel, shape)
        dtype = self.dtype or x.dtype
        y = conv_transpose2d(x.astype(dtype), w.astype(dtype), stride=self.stride, padding=self.padding)
        if self.use_bias:
            fan = init.torch_fan(shape, transposed=True)
            y += self.param("bias", init.torch_bias(fan), (self.features,)).astype(dtype)
        return y


class BatchStatNorm(nn.Module):
    """Batch normalisation that always uses the statistics of its own input (no running averages), then `act`.

    y = act(scale (x - mean) / sqrt(var + eps) + bias), mean and biased variance over N,H,W. Ioffe & Szegedy
    2015. Given several feature maps, normalises what would be their concatenation, but part by part:
    statistics are per channel, so the numbers are the same and the concatenation need not exist. Parameters:
    scale[C] = 1, bias[C] = 0 over all channels together.

    Attributes:
      act: activation after the normalisation.
      eps: added to the variance.
    """

    act: Activation = "none"
    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array | Sequence[jax.Array]) -> jax.Array | tuple[jax.Array, ...]:
        parts = _parts(x)
        if min(p.shape[0] * p.shape[1] * p.shape[2] for p in parts) < 2:
            raise UserError("batch statistics need more than one pixel; use a larger picture or fewer scales")
        width = sum(p.shape[-1] for p in parts)
        scales = _split(self.param("scale", nn.initializers.ones, (width,)), parts, 0)
        biases = _split(self.param("bias", nn.initializers.zeros, (width,)), parts, 0)
        out = tuple(self._one(*args) for args in zip(parts, scales, biases, strict=True))
        return out if isinstance(x, (tuple, list)) else out[0]

    def _one(self, x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        if self.act == "leaky_relu":
            return batch_norm_leaky_relu(x, scale, bias, eps=self.eps)
        return activation(self.act)(batch_norm(x, scale, bias, eps=self.eps))


class InstanceNorm(nn.Module):
    """Normalises every channel of every image by its own mean and biased variance over H,W. Ulyanov et al. 2016.

    Attributes:
      affine: learn scale[C] (starts at 1) and bias[C] (at 0); off, as in PyTorch, there are no parameters.
      eps: added to the variance.
    """

    affine: bool = False
    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if x.shape[1] * x.shape[2] < 2:
            raise UserError("instance statistics need more than one pixel; use a larger picture or fewer scales")
        v = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        v -= v.mean((1, 2), keepdims=True)
        v *= jax.lax.rsqrt(jnp.square(v).mean((1, 2), keepdims=True) + self.eps)
        if self.affine:
            v *= self.param("scale", nn.initializers.ones, (x.shape[-1],))
            v += self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return v.astype(x.dtype)
