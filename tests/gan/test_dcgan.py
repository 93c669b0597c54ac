"""DCGAN: the three published networks' parameters, geometry against lax, labels, presets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from configs.gan.dcgan import VARIANTS, get_config
from genjax.core import config as config_lib
from genjax.core.checkpoint import flat
from genjax.gan import dcgan
from genjax.ops.conv import conv2d, conv_transpose2d

COUNTS = {"paper": (18_885_760, 17_232_768), "tensorflow": (5_135_363, 4_316_545), "pytorch": (3_576_704, 2_765_568)}


def sizes(variables):
    return sum(np.prod(x.shape) for x in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_and_shapes_of_the_published_networks(variant):
    task = config_lib.build(config_lib.load(f"gan/dcgan:variant={variant}")).task
    z, key = jnp.zeros((2, 100)), jax.random.key(0)
    x, g = jax.eval_shape(lambda: task.generator.init_with_output(key, z))
    a, d = jax.eval_shape(lambda: task.discriminator.init_with_output(key, jnp.zeros(x.shape)))
    assert x.shape == (2, 64, 64, 3) and a.shape == (2,)
    assert (sizes(g), sizes(d)) == COUNTS[variant]
    assert {task.generator.norm_eps, task.discriminator.norm_eps} == {1e-8 if variant == "paper" else 1e-5}
    assert task.g_steps == (2 if variant == "tensorflow" else 1)


@pytest.mark.parametrize("kernel,padding", [(4, "half"), (5, "half"), (5, "same"), (4, "same"), (3, "same")])
def test_doubling_is_the_gradient_of_halving(kernel, padding):
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 3))
    w = jax.random.normal(jax.random.key(1), (kernel, kernel, 3, 4))
    y = conv2d(x, w, stride=2, padding=dcgan._pads(kernel, padding))
    assert y.shape == (2, 3, 3, 4)
    if padding == "same":
        want = lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        assert np.allclose(y, want, atol=1e-4), "TensorFlow's"
    dy = jax.random.normal(jax.random.key(2), y.shape)
    (dx,) = jax.vjp(lambda x: conv2d(x, w, stride=2, padding=dcgan._pads(kernel, padding)), x)[1](dy)
    up = conv_transpose2d(dy, w.swapaxes(2, 3), **dcgan._doubled(kernel, padding))
    assert up.shape == x.shape and np.allclose(up, dx, atol=1e-4)


def test_initial_values_are_the_papers():
    g = jax.jit(dcgan.Generator(widths=(1024, 4)).init)(jax.random.key(0), jnp.zeros((2, 100)))["params"]
    assert abs(float(g["project_kernel"].std()) - 0.02) < 1e-4 and not any("bias" in k for k in g)
    gain = g["project_norm"]["scale"]
    assert gain.shape == (16384,) and abs(float(gain.std()) - 0.02) < 1e-3 and abs(float(gain.mean()) - 1) < 1e-3
    d = jax.jit(dcgan.Discriminator(widths=(8, 16), bias=True, truncated=True).init)(
        jax.random.key(0), jnp.zeros((2, 16, 16, 1)))["params"]
    assert "down1_norm" not in d and "down2_norm" in d and d["score_bias"].shape == (1,)
    largest = {k: float(jnp.abs(v).max()) for k, v in flat(d).items() if k.endswith("kernel")}
    assert len(largest) == 3 and 0.039 < largest["down2_kernel"] <= 0.04, "cut at two standard deviations"
    assert largest["score_kernel"] > 0.045, "carpedm20's linear layers are not cut"


def test_labels_are_joined_to_every_layer():
    key, labels = jax.random.key(0), jnp.arange(2)
    g = dcgan.Generator(widths=(8, 4), image_channels=1, classes=3)
    x, v = jax.jit(g.init_with_output)(key, jnp.ones((2, 5)), labels)
    assert x.shape == (2, 16, 16, 1)
    assert [v["params"][f"{n}_kernel"].shape[-2] for n in ("project", "up1", "up2")] == [8, 11, 7]
    d = dcgan.Discriminator(widths=(4, 8), classes=3)
    v = jax.eval_shape(d.init, key, x, labels)
    assert [v["params"][f"{n}_kernel"].shape[-2] for n in ("down1", "down2", "score")] == [4, 7, 16 * 8 + 3]


def test_presets_follow_the_resolution():
    for res in (16, 32, 128):
        c = get_config(f"res={res},small")
        assert len(c.task.generator.widths) == len(c.task.discriminator.widths) == res.bit_length() - 3
