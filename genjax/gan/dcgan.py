"""DCGAN: the convolutional generator and discriminator of Radford, Metz and Chintala 2016 (arXiv:1511.06434).

Letters: z[N,Z] latents, x[N,H,W,C] images in [-1,1], H = W = 4 * 2^len(widths), y class labels [N] int32.
Three published variants differ in detail; the attributes' defaults are the paper's code (faces), presets of
`configs/gan/dcgan.py` the other two (carpedm20's TensorFlow, pytorch/examples).
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.errors import UserError
from genjax.nn.batch_norm import BatchNorm
from genjax.nn.sharding import BATCH, constrain
from genjax.ops.conv import conv2d, conv_transpose2d

Padding = Literal["half", "same"]
Pads = tuple[tuple[int, int], tuple[int, int]]


def _pads(kernel: int, padding: Padding) -> Pads:
    """Zero padding of a stride-2 convolution: on both sides alike, or TensorFlow's, less at the top and left."""
    if padding == "half":
        return (((kernel - 1) // 2,) * 2,) * 2
    lo = (kernel - 2) // 2
    return ((lo, kernel - 2 - lo),) * 2


def _doubled(kernel: int, padding: Padding) -> dict:
    """`conv_transpose2d`'s arguments for twice the size."""
    pads = _pads(kernel, padding)
    return {"stride": 2, "padding": pads, "output_padding": 2 + sum(pads[0]) - kernel}


def _with_labels(h: jax.Array, y: jax.Array | None) -> jax.Array:
    """One-hot labels [N,K] as K more channels, constant over the pixels."""
    if y is None:
        return h
    y = y.astype(h.dtype).reshape(y.shape[0], *(1,) * (h.ndim - 2), -1)
    return jnp.concatenate([h, jnp.broadcast_to(y, (*h.shape[:-1], y.shape[-1]))], -1)


class _Layers(nn.Module):
    """What both networks share: kernels N(0, std^2), optional biases, one-hot labels.

    Attributes:
      kernel: size of the (transposed) convolutions.
      padding: "half" (Theano, PyTorch) or "same" (TensorFlow).
      bias: biases beside the normalisation and at the output.
      classes: labels joined to every layer's input (the paper's conditional MNIST model); 0 for none.
      std: standard deviation of initial kernels.
      truncated: initial kernels of convolutions from a normal cut at two standard deviations.
      gain_std: of the normalisation's initial gain around 1.
      momentum: of the normalisation's running statistics. norm_eps: added to its variances.
      dtype: of the arithmetic; None: that of the input.
    """

    kernel: int = 5
    padding: Padding = "half"
    bias: bool = False
    classes: int = 0
    std: float = 0.02
    truncated: bool = False
    gain_std: float = 0.02
    momentum: float = 0.9
    norm_eps: float = 1e-8
    dtype: str | None = None

    def _kernel(self, name: str, shape: tuple[int, ...], dtype) -> jax.Array:
        cut = self.truncated and len(shape) == 4
        init = nn.initializers.truncated_normal(self.std) if cut else nn.initializers.normal(self.std)
        return self.param(f"{name}_kernel", init, shape).astype(dtype)

    def _biased(self, name: str, h: jax.Array) -> jax.Array:
        if not self.bias:
            return h
        return h + self.param(f"{name}_bias", nn.initializers.zeros, (h.shape[-1],)).astype(h.dtype)

    def _one_hot(self, labels: jax.Array | None) -> jax.Array | None:
        if not self.classes:
            return None
        if labels is None:
            raise UserError(f"{type(self).__name__} has {self.classes} classes and got no labels; set"
                            " config.task.conditional=True")
        return jax.nn.one_hot(labels, self.classes)

    def _norm(self, name: str, h: jax.Array, slope: float, train: bool) -> jax.Array:
        return BatchNorm(slope, self.momentum, self.norm_eps, self.gain_std, name=f"{name}_norm")(h, train)


class Generator(_Layers):
    """z[N,Z] -> x[N,H,W,C] in (-1,1): a projection to 4 x 4, then a transposed convolution with stride 2 per width.

    Batch normalisation and ReLU after every layer but the last, which has tanh.

    Attributes:
      widths: channels at 4 x 4, 8 x 8, ..., before the image.
      image_channels: C.
      norm_per_unit: normalise each of the 16 * widths[0] projected units by itself, as the paper's code does; else
        each channel.
      kernel, padding, bias, classes, std, truncated, gain_std, momentum, norm_eps, dtype: as in `_Layers`.
    """

    widths: tuple[int, ...] = (1024, 512, 256, 128)
    image_channels: int = 3
    norm_per_unit: bool = True

    @nn.compact
    def __call__(self, z: jax.Array, labels: jax.Array | None = None, train: bool = True) -> jax.Array:
        h, y = z.astype(self.dtype or z.dtype), self._one_hot(labels)
        h = _with_labels(h, y)
        width = self.widths[0]
        h = self._biased("project", h @ self._kernel("project", (h.shape[-1], 16 * width), h.dtype))
        if self.norm_per_unit:
            h = self._norm("project", h, 0.0, train).reshape(-1, 4, 4, width)
        else:
            h = self._norm("project", h.reshape(-1, 4, 4, width), 0.0, train)
        for i, width in enumerate((*self.widths[1:], self.image_channels), 1):
            h = _with_labels(h, y)
            w = self._kernel(f"up{i}", (self.kernel, self.kernel, h.shape[-1], width), h.dtype)
            h = self._biased(f"up{i}", conv_transpose2d(h, w, **_doubled(self.kernel, self.padding)))
            if i < len(self.widths):
                h = constrain(self._norm(f"up{i}", h, 0.0, train), BATCH, None, None, "tensor")
        return jnp.tanh(h.astype(z.dtype))


class Discriminator(_Layers):
    """x[N,H,W,C] -> logits [N]: a convolution with stride 2 per width, then one linear unit.

    LeakyReLU .2 everywhere, batch normalisation in all layers but the first and the last. It mixes the samples of a
    batch, so real and generated images are given in batches of their own.

    Attributes:
      widths: channels of the convolutions.
      kernel, padding, bias, classes, std, truncated, gain_std, momentum, norm_eps, dtype: as in `_Layers`.
    """

    widths: tuple[int, ...] = (128, 256, 512, 1024)

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array | None = None, train: bool = True) -> jax.Array:
        h, y = x.astype(self.dtype or x.dtype), self._one_hot(labels)
        for i, width in enumerate(self.widths, 1):
            h = _with_labels(h, y)
            w = self._kernel(f"down{i}", (self.kernel, self.kernel, h.shape[-1], width), h.dtype)
            h = self._biased(f"down{i}", conv2d(h, w, stride=2, padding=_pads(self.kernel, self.padding)))
            h = jnp.where(h >= 0, h, 0.2 * h) if i == 1 else self._norm(f"down{i}", h, 0.2, train)
            h = constrain(h, BATCH, None, None, "tensor")
        h = _with_labels(h.reshape(h.shape[0], -1), y)
        return self._biased("score", h @ self._kernel("score", (h.shape[-1], 1), h.dtype))[:, 0].astype(x.dtype)
