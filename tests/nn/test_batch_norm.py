"""Batch normalisation with running statistics, against flax's and the definition."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from genjax.nn.batch_norm import BatchNorm

X = jax.random.normal(jax.random.key(0), (4, 5, 3, 6)) * 2 + 1


def test_training_normalises_and_moves_the_statistics():
    net = BatchNorm(momentum=0.9)
    variables = net.init(jax.random.key(0), X)
    assert float(variables["batch_stats"]["mean"].max()) == 0, "initialisation is no step"
    y, new = net.apply(variables, X, mutable=["batch_stats"])
    want, theirs = nn.BatchNorm(use_running_average=False, momentum=0.9).init_with_output(jax.random.key(0), X)
    assert np.allclose(y, want, atol=1e-5)
    x = np.asarray(X, np.float64).reshape(-1, 6)
    assert np.allclose(new["batch_stats"]["mean"], 0.1 * x.mean(0), atol=1e-6)
    assert np.allclose(new["batch_stats"]["var"], 0.9 + 0.1 * x.var(0, ddof=1), atol=1e-5), "unbiased, as in PyTorch"


def test_afterwards_each_sample_is_for_itself():
    net = BatchNorm(slope=0.2)
    stats = {"mean": jnp.arange(6.0), "var": jnp.arange(1.0, 7.0)}
    params = {"scale": jnp.full(6, 2.0), "bias": jnp.full(6, 0.5)}
    y = net.apply({"params": params, "batch_stats": stats}, X, train=False)
    z = (X - stats["mean"]) / jnp.sqrt(stats["var"] + 1e-5) * 2 + 0.5
    assert np.allclose(y, jnp.where(z >= 0, z, 0.2 * z), atol=1e-5)
    assert np.allclose(net.apply({"params": params, "batch_stats": stats}, X[:1], train=False), y[:1], atol=1e-6)


def test_statistics_carry_no_gradient_and_stay_where_they_are_not_mutable():
    net = BatchNorm()
    variables = net.init(jax.random.key(0), X)

    def moved(x):
        _, new = net.apply(variables, x, mutable=["batch_stats"])
        return sum(v.sum() for v in jax.tree.leaves(new))

    assert not jax.grad(moved)(X).any()
    assert net.apply(variables, X).shape == X.shape


def test_gain_starts_around_one():
    scale = BatchNorm(scale_std=0.02).init(jax.random.key(0), jnp.zeros((2, 4000)))["params"]["scale"]
    assert abs(float(scale.mean()) - 1) < 2e-3 and abs(float(scale.std()) - 0.02) < 2e-3
