"""The original GAN: parameter counts, initial bias, optimiser, dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.core import config as config_lib
from genjax.gan import goodfellow


def test_parameters():
    task = config_lib.build(config_lib.load("gan/goodfellow")).task
    key = jax.random.key(0)
    g = jax.eval_shape(lambda: task.generator.init(key, jnp.zeros((1, 100))))
    d = jax.eval_shape(lambda: task.discriminator.init({"params": key, "dropout": key}, jnp.zeros((1, 28, 28, 1))))
    assert [sum(np.prod(x.shape) for x in jax.tree.leaves(v)) for v in (g, d)] == [2_503_984, 1_231_441]


def test_it_starts_at_the_mean_picture():
    experiment = config_lib.build(config_lib.load("gan/goodfellow:small"))
    state = experiment.task.init(jax.random.key(0), experiment.data.element_spec)
    data = experiment.data
    mean = np.mean([data.batch(i)["image"] for i in range(-(-len(data) // 100))], (0, 1))
    bias = state.params["generator"]["output"]["bias"]
    assert np.allclose(jax.nn.sigmoid(bias).reshape(8, 8, 1), mean, atol=1e-5)


def test_optimiser_against_the_rule_written_out():
    tx = goodfellow.momentum_sgd(0.1, 1.5, 0.03, 0.5, 0.7, 4)
    p, v = 1.0, 0.0
    state = tx.init(jnp.float32(p))
    for t in range(6):
        g = np.float32(np.cos(t))
        rate, m = max(0.1 / 1.5**t, 0.03), 0.5 + 0.2 * min(t / 4, 1)
        v = m * v - rate * g
        update, state = tx.update(g, state)
        assert update == pytest.approx(v, rel=1e-5)


def test_maxout_takes_the_largest_piece_and_dropout_only_trains():
    d = goodfellow.Discriminator(units=(3,), pieces=2, keep_input=0.5)
    x = jax.random.normal(jax.random.key(0), (2, 4))
    key = jax.random.key(1)
    v = d.init({"params": key, "dropout": key}, x)
    h = (x @ v["params"]["hidden0"]["kernel"]).reshape(2, 3, 2).max(-1)
    want = h @ v["params"]["output"]["kernel"]
    assert np.allclose(d.apply(v, x, train=False), want[:, 0], atol=1e-6)
    a, b = (d.apply(v, x, train=True, rngs={"dropout": jax.random.key(k)}) for k in (0, 1))
    assert not np.allclose(a, b)
