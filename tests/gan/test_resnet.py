"""The residual GAN that GIRAFFE is compared with: the authors' parameters, their pooling, one block written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from genjax.core import config as config_lib
from genjax.errors import UserError
from genjax.gan import resnet
from tests.fields.tables import differences

COUNTS = {32: (687_539, 163_377), 64: (1_689_267, 640_945), 256: (9_362_611, 7_265_969)}  # of the authors' modules


def sizes(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("size", COUNTS)
def test_parameters_of_the_published_networks(size):
    task = config_lib.build(config_lib.load(f"gan/resnet:res={size}")).task
    x, g = jax.eval_shape(lambda k: task.generator.init_with_output(k, jnp.zeros((2, 256))), jax.random.key(0))
    a, d = jax.eval_shape(lambda k: task.discriminator.init_with_output(k, jnp.zeros(x.shape)), jax.random.key(0))
    assert x.shape == (2, size, size, 3) and a.shape == (2,)
    assert (sizes(g), sizes(d)) == COUNTS[size]


def test_halving_is_pytorchs_average():
    x = jax.random.normal(jax.random.key(0), (2, 8, 6, 3))
    want = lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0))) / 9
    np.testing.assert_allclose(resnet.halve(x), want, atol=1e-6)


def test_a_block_is_its_input_and_a_tenth():
    block, x = resnet.Block(4), jax.random.normal(jax.random.key(0), (1, 4, 4, 6))
    p = jax.tree.map(np.asarray, block.init(jax.random.key(1), x)["params"])
    assert p["conv_0"]["kernel"].shape == (3, 3, 6, 4) and "bias" not in p["conv_s"]

    def conv(x, p):
        return lax.conv_general_dilated(x, p["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
                                        ) + p.get("bias", 0)

    def leaky(x):
        return jnp.maximum(x, 0.2 * x)

    want = conv(x, p["conv_s"]) + 0.1 * conv(leaky(conv(leaky(x), p["conv_0"])), p["conv_1"])
    np.testing.assert_allclose(block.apply({"params": p}, x), want, atol=1e-5)
    assert "conv_s" not in resnet.Block(6).init(jax.random.key(1), x)["params"]


def test_refusals():
    for bad in (4, 48):
        with pytest.raises(UserError, match="power of two, at least 8"):
            resnet.Discriminator().init(jax.random.key(0), jnp.zeros((1, bad, bad, 3)))
    for bad, says in (("filters=0", "filters must be"), ("most=0", "most must be"), ("dtype=float8", "'float32'")):
        for name in ("generator", "discriminator"):
            with pytest.raises(UserError, match=says):
                config_lib.build(config_lib.load("gan/resnet", [f"task.{name}.{bad}"]))


def test_the_config_is_that_of_giraffes_authors():
    want = {**{f"task.{net}.{k}": v for net in ("generator", "discriminator") for k, v in {
                "filters": 16, "most": 512}.items()},
            **{f"task.{k}": v for k, v in {
                "latent_dim": 256, "prior": "normal", "r1_gamma": 10.0, "r1_convention": "whole", "ema_decay": 0.999,
                "loss": "non_saturating", "d_steps": 1, "g_steps": 1, "reg_every": 1, "value_range": (-1.0, 1.0),
                "evaluation.n": 20_000, "g_optimizer": "@optimizer", "d_optimizer": "@optimizer"}.items()},
            "data.batch_size": 64, "data.flip": True, "data.value_range": (-1.0, 1.0), "train.eval_every": 10_000,
            "train.keep_best": "frechet", **{f"optimizer.{k}": v for k, v in {
                "target": "genjax.core.optim.rmsprop", "learning_rate": 1e-4, "decay": 0.99, "momentum": 0.0,
                "schedule": "constant", "halve_at": ()}.items()}}
    for size in (64, 256):
        found = config_lib.load(f"gan/resnet:res={size},features=lenet")
        assert differences(found, {**want, "task.generator.size": size, "data.image_size": size}) == {}
