"""GRAF: patches and their places, sizes of the networks, a step, and pictures that are whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.core.optim import rmsprop
from genjax.errors import UserError
from genjax.fields.graf import Generator, Graf, PatchDiscriminator, PatchPrior, bilinear
from genjax.fields.radiance import RadianceField
from genjax.ops.camera import image_plane


def make(**kw):
    return Graf(**{"generator": Generator(field=RadianceField(hidden=4, layers=2, skips=()), size=8, samples=3),
                   "discriminator": PatchDiscriminator(features=2), "g_optimizer": rmsprop(1e-3), "code": 4,
                   "d_optimizer": rmsprop(1e-3), "preview_images": 4, **kw})


def test_bilinear_places():
    x = np.random.default_rng(0).random((2, 5, 7, 3), np.float32)
    whole = np.stack(np.meshgrid(np.linspace(-1, 1, 7), np.linspace(1, -1, 5)), -1)
    np.testing.assert_allclose(bilinear(x, jnp.asarray(np.stack([whole] * 2))), x, atol=1e-5)
    between = jnp.array([[[-1 + 1 / 6, 1.0]], [[1.0, -1 + 1 / 4]]])
    want = [[(x[0, 0, 0] + x[0, 0, 1]) / 2], [(x[1, 4, 6] + x[1, 3, 6]) / 2]]
    np.testing.assert_allclose(bilinear(x, between), want, atol=1e-5)


def test_patches_lie_in_the_image_and_shrink():
    prior = PatchPrior(size=4)
    np.testing.assert_allclose([prior.current(jnp.int32(s)) for s in (0, 14_000, 100_000, 300_000)],
                               [0.9, 0.9, np.exp(-0.75), 0.25], rtol=1e-5)
    keys = jax.random.split(jax.random.key(0), 400)
    scale, shift = prior.draw(keys, jnp.int32(300_000))
    u = np.asarray(prior.places(scale, shift))
    assert np.abs(u).max() <= 1 + 1e-6 and scale.min() < 0.3 and scale.max() > 0.95
    assert np.abs(shift).max() > 0.5 and abs(float(shift.mean())) < 0.05
    np.testing.assert_allclose(PatchPrior(size=4, least=1.0).places(jnp.ones(1), jnp.zeros((1, 2)))[0],
                               image_plane(4, 4, corners=True))


def test_weights_of_the_discriminator():
    d = jax.eval_shape(lambda k: PatchDiscriminator().init(k, jnp.zeros((1, 32, 32, 3))), jax.random.key(0))["params"]
    assert sum(x.size for x in jax.tree.leaves(d)) == 2_635_776


def test_a_step_on_patches_and_whole_pictures():
    task = make()
    spec = {"image": jax.ShapeDtypeStruct((2, 40, 40, 3), jnp.float32)}
    state = jax.jit(lambda k: task.init(k, spec))(jax.random.key(0))
    x = np.random.default_rng(0).random((2, 40, 40, 3), np.float32)
    after, metrics = jax.jit(task.step)(state, {"image": x}, jax.random.key(1))
    assert all(np.isfinite(v).all() for v in metrics.values()) and metrics["penalty"] > 0
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.params, after.params)
    assert all(jax.tree.leaves(moved["discriminator"])) and any(jax.tree.leaves(moved["generator"]))
    u = jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).any()), state.extra, after.extra))
    assert sum(u) >= len(u) - 1 > 4, "the spectral norms' vectors follow (one has a single entry)"
    samples = task.sample(task.export(after), jax.random.key(2), 2)["samples"]
    assert samples.shape == (2, 8, 8, 3) and np.abs(samples).max() <= 1 + 1e-5
    again = jax.jit(task.step)(after.replace(step=jnp.int32(5000)), {"image": x}, jax.random.key(1))[1]
    assert np.isfinite(again["loss"])


@pytest.mark.parametrize("bad, says", [({"patches": PatchPrior(size=64)}, "patch=32 is not"), ({"code": 0}, "code")])
def test_refusals(bad, says):
    with pytest.raises(UserError, match=says):
        make(**bad)
    with pytest.raises(UserError, match="shares of the image"):
        PatchPrior(least=2.0)
