"""GRAF: patches and their places, sizes of the networks, a step, and pictures that are whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.core import config as config_lib
from genjax.core.optim import rmsprop
from genjax.errors import UserError
from genjax.fields.graf import Generator, Graf, PatchDiscriminator, PatchPrior, Shot, bilinear
from genjax.fields.radiance import RadianceField
from genjax.fields.task import CameraPrior
from genjax.ops.camera import image_plane, look_at


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


def test_without_directions_colours_still_depend_on_the_appearance():
    p, d, z = jnp.zeros((1, 1, 1, 3)), jnp.ones((1, 1, 3)), jnp.ones((1, 128))

    def count(net):
        made = jax.eval_shape(lambda k: net.init(k, p, d, z, z), jax.random.key(0))
        return sum(x.size for x in jax.tree.leaves(made))

    assert count(RadianceField()) == 677_764
    assert count(RadianceField(view_directions=False)) == 677_764 - 27 * 128


def test_depths_follow_a_camera_whose_radius_varies():
    """Along parallel rays the same space is seen from near and from far."""
    class Coloured(RadianceField):
        def __call__(self, p, d, z_s=None, z_a=None):
            return jax.nn.sigmoid(p), jnp.ones(p.shape[:-1])

    eye = jnp.array([[11.0, 0, 0], [9.0, 0, 0]])
    shot = Shot(jnp.ones((2, 4)), jnp.ones((2, 4)), eye, look_at(eye), jnp.full(2, 1e6), jnp.ones(2), jnp.zeros((2, 2)),
                jnp.zeros(2))

    def draw(radius):
        return Generator(field=Coloured(), size=2, samples=3, radius=radius).apply({}, shot, train=False)

    near, fixed = draw(11.0), draw(0.0)
    np.testing.assert_allclose(near[0], near[1], atol=1e-5)
    np.testing.assert_allclose(near[0], fixed[0], atol=1e-5)
    assert np.abs(fixed[0] - fixed[1]).max() > 0.1


def test_patches_are_mirrored_at_random_while_training():
    d = PatchDiscriminator(features=2, mirrored=True)
    x = jnp.broadcast_to(jax.random.normal(jax.random.key(0), (1, 32, 32, 3)), (16, 32, 32, 3))
    keys = {"params": jax.random.key(1), "noise": jax.random.key(2)}
    a, variables = d.init_with_output(keys, x)
    both = d.apply(variables, jnp.stack([x[0], x[0, :, ::-1]]), train=False)
    found = np.abs(np.asarray(a)[:, None] - both) < 1e-5 * np.abs(both).max()
    assert found.any(1).all() and found.any(0).all(), "each as it is or mirrored, and both occur"


def test_the_configs_of_the_authors():
    found = {}
    for data in ("carla", "celeba", "celebahq", "cats", "cub"):
        c = config_lib.load(f"fields/graf:data={data}")
        found[data] = (c.task.generator.white, tuple(c.task.camera.radius), c.task.discriminator.mirrored, c.data.flip,
                       c.data.center_crop, c.data.image_size)
        assert (c.data.fit, c.data.resample, c.task.generator.size) == ("centre", "bilinear", c.data.image_size)
        assert tuple(c.task.patches[k] for k in ("least", "anneal")) == (
            (0.125, 0.0019) if data == "celebahq" else (0.25, 0.0025))
    for arg, every in (("", 0), ("features=lenet", 5000), ("data=celebahq,features=lenet", 10_000)):
        c = config_lib.load(f"fields/graf:{arg}" if arg else "fields/graf")
        assert (c.train.eval_every, c.train.keep_best) == (every, "frechet" if every else "")
    assert found == {"carla": (True, (10, 10), False, False, 0, 128),
                     "celeba": (False, (9.5, 10.5), False, True, 108, 64),
                     "celebahq": (False, (9.5, 10.5), False, True, 650, 256),
                     "cats": (False, (10, 10), False, True, 0, 64), "cub": (True, (9, 11), True, False, 0, 64)}


@pytest.mark.parametrize("bad, says", [
    ({"samples": 1}, "samples must be at least 2"), ({"size": 0}, "size must be at least 2"),
    ({"near": 3.0, "far": 3.0}, "rays go from near to far"), ({"near": -1.0}, "rays go from near to far"),
])
def test_refused_generators(bad, says):
    with pytest.raises(UserError, match=says):
        Generator(**bad)


def test_a_near_plane_behind_the_nearest_camera():
    with pytest.raises(UserError, match="near=1.0 at radius 10.0 would lie behind a camera at 8.0"):
        make(generator=Generator(near=1.0, radius=10.0), camera=CameraPrior(radius=(8.0, 10.0)))


@pytest.mark.parametrize("bad, says", [({"patches": PatchPrior(size=64)}, "patch=32 is not"), ({"code": 0}, "code")])
def test_refusals(bad, says):
    with pytest.raises(UserError, match=says):
        make(**bad)
    with pytest.raises(UserError, match="shares of the image"):
        PatchPrior(least=2.0)
