"""The first adversarial nets: two multi-layer perceptrons on MNIST. Goodfellow et al. 2014 (arXiv:1406.2661).

Settings of the authors' code (goodfeli/adversarial, mnist.yaml). Letters: z[N,Z] latents, uniform with variance 1;
x[N,H,W,C] images in [0,1]; D = H W C.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from genjax.errors import at_least
from genjax.gan.task import Adversarial


def _uniform(bound: float):
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


class Generator(nn.Module):
    """z -> ReLU -> ReLU -> sigmoid -> x. Kernels U(-irange, irange), biases 0 (the output's: see `MarginalBias`).

    Attributes:
      image_shape: (H, W, C).
      hidden: units of the two hidden layers.
      irange: bound of the initial kernels.
    """

    image_shape: tuple[int, int, int] = (28, 28, 1)
    hidden: tuple[int, ...] = (1200, 1200)
    irange: float = 0.05

    @nn.compact
    def __call__(self, z: jax.Array, labels: jax.Array | None = None, train: bool = True) -> jax.Array:
        h = z
        for i, width in enumerate(self.hidden):
            h = jax.nn.relu(nn.Dense(width, kernel_init=_uniform(self.irange), name=f"hidden{i}")(h))
        x = nn.Dense(int(np.prod(self.image_shape)), kernel_init=_uniform(self.irange), name="output")(h)
        return jax.nn.sigmoid(x).reshape(-1, *self.image_shape)


class Discriminator(nn.Module):
    """x -> maxout -> maxout -> logits [N]. Goodfellow et al. 2013 (maxout: the largest of `pieces` linear maps).

    Dropout multiplies what is kept by 1/keep; it needs rngs={"dropout": key} in training.

    Attributes:
      units: maxout units per hidden layer.
      pieces: linear maps per unit.
      keep_input, keep: probabilities of keeping a pixel, and a hidden unit.
      irange: bound of the initial kernels U(-irange, irange).
    """

    units: tuple[int, ...] = (240, 240)
    pieces: int = 5
    keep_input: float = 0.8
    keep: float = 0.5
    irange: float = 0.005

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array | None = None, train: bool = True) -> jax.Array:
        h = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.units):
            h = nn.Dropout(1 - (self.keep if i else self.keep_input), deterministic=not train)(h)
            h = nn.Dense(width * self.pieces, kernel_init=_uniform(self.irange), name=f"hidden{i}")(h)
            h = h.reshape(-1, width, self.pieces).max(-1)
        h = nn.Dropout(1 - self.keep, deterministic=not train)(h)
        return nn.Dense(1, kernel_init=_uniform(self.irange), name="output")(h)[:, 0]


def momentum_sgd(learning_rate: float = 0.1, decay_factor: float = 1.000004, minimum: float = 1e-6,
                 momentum: float = 0.5, final_momentum: float = 0.7, saturate: int = 250 * 500,
                 ) -> optax.GradientTransformation:
    """Pylearn2's SGD: v <- m_t v - lr_t g, p <- p + v, with lr_t = max(lr / factor^t, minimum) and m_t rising linearly.

    Args:
      learning_rate, decay_factor, minimum: of lr_t, t in steps.
      momentum, final_momentum, saturate: m_t goes from the first to the second over `saturate` steps (250 epochs).
    """
    def init(params):
        return {"count": jnp.zeros((), jnp.int32), "velocity": jax.tree.map(jnp.zeros_like, params)}

    def update(grads, state, params=None):
        t = state["count"].astype(jnp.float32)
        rate = jnp.maximum(learning_rate * jnp.exp(-t * np.log(decay_factor)), minimum)
        m = momentum + (final_momentum - momentum) * jnp.clip(t / saturate, 0, 1)
        velocity = jax.tree.map(lambda v, g: m * v - rate * g, state["velocity"], grads)
        return velocity, {"count": state["count"] + 1, "velocity": velocity}

    return optax.GradientTransformation(init, update)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MarginalBias(Adversarial):
    """Adversarial training whose generator starts at the mean image: its output bias is logit(E x), per pixel.

    Attributes:
      data: the data set, "@data".
      bias_images: how many images the mean is taken over.
    """

    data: Any
    bias_images: int = 10_000

    def __post_init__(self):
        super().__post_init__()
        at_least(self, bias_images=1)

    def init(self, rng, spec):
        """As `Adversarial`, with that bias."""
        state = super().init(rng, spec)
        p = self._mean.ravel()
        state.params["generator"]["output"]["bias"] = jnp.asarray(np.log(p / (1 - p)), jnp.float32)
        return state

    @functools.cached_property
    def _mean(self) -> np.ndarray:
        """Read once: `init` is traced several times."""
        batches = -(-min(self.bias_images, len(self.data)) // self.data.batch_size)
        mean = np.mean([self.data.batch(i)["image"].mean(0, dtype=np.float64) for i in range(batches)], 0)
        return np.clip(mean, 1e-7, 1 - 1e-7)  # as pylearn2 does
