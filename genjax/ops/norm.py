"""Batch normalisation with batch statistics (first version; the ops room replaces it with the fused form)."""

import jax
import jax.numpy as jnp


def batch_norm(x, scale, bias, eps=1e-5):
    """Normalise [N,H,W,C] by its own mean and biased variance over N,H,W, then scale[C], bias[C]."""
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axes, keepdims=True)
    var = jnp.mean(jnp.square(x - mean), axes, keepdims=True)
    return (x - mean) * (jax.lax.rsqrt(var + eps) * scale) + bias


def batch_norm_leaky_relu(x, scale, bias, negative_slope=0.2, eps=1e-5):
    """leaky_relu(batch_norm(x))."""
    y = batch_norm(x, scale, bias, eps)
    return jnp.where(y >= 0, y, negative_slope * y)
