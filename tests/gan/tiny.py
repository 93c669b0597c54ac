"""Tiny networks and tasks for the tests of adversarial training."""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from genjax.gan.task import Adversarial
from genjax.nn.batch_norm import BatchNorm

SPEC = {"image": jax.ShapeDtypeStruct((4, 2, 2, 1), jnp.float32), "label": jax.ShapeDtypeStruct((4,), jnp.int32)}


class G(nn.Module):
    """Linear, with batch statistics."""

    classes: int = 0

    @nn.compact
    def __call__(self, z, labels=None, train=True):
        if self.classes:
            z = jnp.concatenate([z, jax.nn.one_hot(labels, self.classes)], -1)
        return BatchNorm(name="norm")(nn.Dense(4, name="dense")(z), train).reshape(-1, 2, 2, 1)


class D(nn.Module):
    """Two layers, smooth."""

    classes: int = 0

    @nn.compact
    def __call__(self, x, labels=None, train=True):
        x = x.reshape(x.shape[0], -1)
        if self.classes:
            x = jnp.concatenate([x, jax.nn.one_hot(labels, self.classes)], -1)
        return nn.Dense(1, name="out")(jnp.tanh(nn.Dense(5, name="hidden")(x)))[:, 0]


def task(classes=0, **kwargs):
    """An adversarial task with plain gradient descent."""
    return Adversarial(**{"generator": G(classes), "discriminator": D(classes), "g_optimizer": optax.sgd(0.1),
                          "d_optimizer": optax.sgd(0.2), "latent_dim": 3, "preview_images": 4, **kwargs})


def batch(i=0):
    """Random pictures with labels."""
    key = jax.random.fold_in(jax.random.key(5), i)
    return {"image": jax.random.uniform(key, (4, 2, 2, 1), minval=-1), "label": jnp.arange(4) % 2}
