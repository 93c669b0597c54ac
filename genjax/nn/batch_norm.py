"""Batch normalisation with running statistics, for networks that are used one image at a time after training."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.ops.norm import batch_norm, batch_norm_leaky_relu, moments


def gain_around_one(std: float) -> Callable[..., jax.Array]:
    """Initialiser N(1, std^2) of a normalisation's gain."""
    return lambda key, shape, dtype=jnp.float32: 1 + std * jax.random.normal(key, shape, dtype)


class BatchNorm(nn.Module):
    """y = act(scale (x - mean) / sqrt(var + eps) + bias) over all axes but the last. Ioffe and Szegedy 2015.

    In training mean and biased variance are the batch's own (of the global batch under a sharded jit), and the
    collection "batch_stats" {mean[C], var[C]}, where it is mutable, moves towards them:
    s <- momentum s + (1 - momentum) s_batch, with the unbiased variance, as in PyTorch. Otherwise mean and variance are
    the collection's. Parameters: scale[C], bias[C]. Statistics are float32 whatever x is.

    Attributes:
      slope: of the activation below zero: 1 for none, 0 for ReLU, .2 for the usual LeakyReLU.
      momentum: of the running statistics; PyTorch's .1 is .9 here.
      eps: added to the variance.
      scale_std: standard deviation of the initial scale around 1 (DCGAN: .02).
    """

    slope: float = 1.0
    momentum: float = 0.9
    eps: float = 1e-5
    scale_std: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        width = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, width)
        var = self.variable("batch_stats", "var", jnp.ones, width)
        scale = self.param("scale", gain_around_one(self.scale_std), width)
        bias = self.param("bias", nn.initializers.zeros, width)
        if not train:
            wide = x.astype(mean.value.dtype)
            y = (wide - mean.value) * (jax.lax.rsqrt(var.value + self.eps) * scale) + bias
            return (y if self.slope == 1 else jnp.where(y >= 0, y, self.slope * y)).astype(x.dtype)
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            n = x.size // x.shape[-1]
            # Taken in the pass that the normalisation needs anyway: XLA merges the two.
            m, v = jax.lax.stop_gradient(moments(jax.lax.stop_gradient(x)))
            mean.value += (1 - self.momentum) * (m - mean.value)
            var.value += (1 - self.momentum) * (v * (n / max(n - 1, 1)) - var.value)
        if self.slope == 1:
            return batch_norm(x, scale, bias, eps=self.eps)
        return batch_norm_leaky_relu(x, scale, bias, negative_slope=self.slope, eps=self.eps)
