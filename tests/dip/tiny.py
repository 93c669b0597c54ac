"""A tiny Deep Image Prior for the tests of its task: 16 x 16 pixels, one scale of 4 channels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from genjax.core.optim import adam
from genjax.dip.networks import Skip
from genjax.dip.task import DeepImagePrior

SIZE = 16
FAST = {"xla_backend_optimization_level": 0}  # compile times are what these tests would wait for


def network(**kwargs):
    """The skip network at its smallest."""
    return Skip(**{"channels_down": (4,), "channels_up": (4,), "channels_skip": 2, "need1x1_up": False, **kwargs})


def make(net=None, optimizer=None, **kwargs):
    """The task, with nothing but the fit switched on unless asked for."""
    return DeepImagePrior(network=net or network(), optimizer=optimizer or adam(0.01),
                          **{"input_channels": 4, "backtrack_every": 0, **kwargs})


def pictures(n=1, channels=3, factor=1, size=SIZE, clean=True, holes=False, seed=0):
    """A batch of smooth pictures, noisy, smaller by `factor`, or with holes."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0.1, 0.9, (n, size // 4, size // 4, channels))
    truth = coarse.repeat(4, 1).repeat(4, 2).astype(np.float32)
    mask = np.ones((n, size, size, 1), np.float32)
    if holes:
        mask = (rng.uniform(size=mask.shape) < 0.7).astype(np.float32)
    observed = truth.reshape(n, size // factor, factor, size // factor, factor, channels).mean((2, 4))
    observed = np.clip(observed + rng.normal(size=observed.shape) * 0.05, 0, 1).astype(np.float32)
    batch = {"observed": observed * mask if factor == 1 else observed, "mask": mask}
    return {**batch, "clean": truth} if clean else batch


def spec(batch):
    """What `init` reads of a batch."""
    return {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batch.items()}


@functools.partial(jax.jit, static_argnums=0, compiler_options=FAST)
def step(task, state, batch, root):
    """One step with the loop's key: fold_in(root, step)."""
    return task.step(state, batch, jax.random.fold_in(root, state.step))


@functools.partial(jax.jit, static_argnums=(0, 4), compiler_options=FAST)
def many(task, state, batch, root, count):
    """`count` steps and their metrics, stacked, in one program."""
    def body(state, _):
        return task.step(state, batch, jax.random.fold_in(root, state.step))

    return jax.lax.scan(body, state, None, count)


def begin(task, batch, seed=0):
    """`(state, batch on the device, root key)`."""
    state = jax.jit(lambda k: task.init(k, spec(batch)), compiler_options=FAST)(jax.random.key(seed))
    return state, jax.tree.map(jnp.asarray, batch), jax.random.key(seed + 100)


def close(a, b, rtol=1e-5, atol=1e-6):
    """Two trees agree."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


def equal(a, b):
    """Two trees agree bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, a, b)
