"""PyTorch's default initialisation of convolutions, which several of the published systems rely on silently.

Letters: k kernel size, Ci and Co input and output channels, fan the number of inputs PyTorch divides by.
Kernels are HWIO, [k, k, Ci, Co].
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp


def _uniform(key: jax.Array, shape: tuple[int, ...], dtype, bound: float) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def torch_fan(shape: tuple[int, ...], transposed: bool = False) -> int:
    """The fan PyTorch computes for a kernel [..., Ci, Co].

    PyTorch takes axis 1 of its own weight for the input channels. That is Ci for a convolution (its weight is
    [Co, Ci, k, k]) but Co for a transposed one (its weight is [Ci, Co, k, k]).
    """
    *window, ci, co = shape
    return (co if transposed else ci) * math.prod(window)


def torch_kernel(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Kernel [k, k, Ci, Co] (or [Ci, Co]) of a fresh `torch.nn.Conv2d` (or `Linear`): U(-b, b), b = 1/sqrt(fan).

    Source: PyTorch's kaiming_uniform with a = sqrt 5 (He et al. 2015, arXiv:1502.01852): sqrt(6 / (1 + a^2) /
    fan).
    """
    return _uniform(key, shape, dtype, 1 / math.sqrt(torch_fan(shape)))


def torch_transposed_kernel(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Kernel [k, k, Ci, Co] of a fresh `torch.nn.ConvTranspose2d`: U(-b, b), b = 1/sqrt(fan) with fan = Co k^2."""
    return _uniform(key, shape, dtype, 1 / math.sqrt(torch_fan(shape, transposed=True)))


def torch_bias(fan: int) -> Callable[..., jax.Array]:
    """Initialiser of the bias that goes with a kernel of that fan: U(-b, b), b = 1/sqrt(fan)."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        return _uniform(key, shape, dtype, 1 / math.sqrt(fan))

    return init
