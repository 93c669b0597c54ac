"""GRAF: patches and their places, sizes of the networks, a step, and pictures that are whole."""

import json

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
from genjax.ops.camera import image_plane, look_at, rays
from tests.fields.tables import differences


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


def test_the_authors_rays():
    """Recorded from autonomousvision/graf, submodules/nerf_pytorch/run_nerf_helpers_mod.py: get_rays(8, 8, 10., pose)
    at the first pixel, at row 2 and column 5, and at the last."""
    rotation, u = jnp.array([[0, 0.6, 0.8], [1, 0, 0], [0, 0.8, -0.6]]), image_plane(8, 8, corners=True)
    want = np.array([[-0.56, -0.4, 0.92], [-0.68, 0.1, 0.76], [-0.98, 0.3, 0.36]])
    for centred in (False, True):
        p = Generator(size=8, centred=centred).on_plane(u)
        _, d = rays(jnp.stack([p[0, 0], p[2, 5], p[7, 7]]), 10 / 4, rotation, jnp.zeros(3))
        half_a_pixel = 0.05 * np.asarray(rotation[:, 0] - rotation[:, 1])  # to the right and down
        np.testing.assert_allclose(d, want + centred * half_a_pixel, atol=1e-6)


def test_runs_from_before_go_on_as_they_were():
    """Their saved config says "whole" and has no `centred`."""
    saved = json.loads(config_lib.to_json(config_lib.load("fields/graf", ["task.r1_convention=whole"])))
    del saved["task"]["generator"]["centred"]
    found = config_lib.build(config_lib.finalize(config_lib.from_json(json.dumps(saved)))).task
    assert found.generator.centred and found.r1_convention == "whole"


def test_the_authors_penalty_on_real_patches():
    """Recorded from autonomousvision/graf, submodules/GAN_stability/gan_training/train.py: the regulariser that
    Trainer.discriminator_trainstep gives for rays of two whole 32 x 32 pictures, with graf/models/discriminator.py's
    Discriminator(ndf=2, imsize=32), weights sin(1), sin(2), ... over 4, and its spectral norms run until they stand."""
    task, key = make(), jax.random.key(0)
    x = jnp.asarray(np.cos(0.37 * np.arange(2 * 32 * 32 * 3)).reshape(2, 32, 32, 3), jnp.float32)

    @jax.jit
    def penalty(key):
        state = task.init(key, {"image": x})
        d = jax.tree.map(lambda w: jnp.sin(1 + jnp.arange(1.0 * w.size)).reshape(w.shape) / 4,
                         state.params["discriminator"])
        extra = jax.lax.fori_loop(0, 300, lambda i, e: task._apply("discriminator", d, e, x, None, rng=key)[1],
                                  state.extra["discriminator"])
        return task._d_loss(d, extra, x, x, None, key, True)[1][1]["penalty"]

    assert penalty(key) == pytest.approx(20.675982, rel=1e-3)


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


@pytest.mark.parametrize("override, says", [
    ("generator.field.hidden=0", "hidden must be at least 2"), ("generator.field.layers=2", "layers 0 to 1"),
    ("discriminator.features=0", "features must be at least 1"),
])
def test_refused_configs(override, says):
    with pytest.raises(UserError, match=says):
        config_lib.build(config_lib.load("fields/graf", [f"task.{override}"]))


def test_pictures_of_another_size_than_the_generators():
    for override in ("task.generator.size=64", "data.image_size=64"):
        found = config_lib.build(config_lib.load("fields/graf", [override]))
        with pytest.raises(UserError, match="pictures are (128 x 128|64 x 64), the generator's (64 x 64|128 x 128)"):
            found.task.check_data(found.data)
    found = config_lib.build(config_lib.load("fields/graf:res=64"))
    found.task.check_data(found.data)
    with pytest.raises(UserError, match="features of at least 2"):
        PatchDiscriminator(features=1).init(jax.random.key(0), jnp.zeros((1, 128, 128, 3)))


@pytest.mark.parametrize("bad, says", [({"patches": PatchPrior(size=64)}, "patch=32 is not"), ({"code": 0}, "code")])
def test_refusals(bad, says):
    with pytest.raises(UserError, match=says):
        make(**bad)
    with pytest.raises(UserError, match="shares of the image"):
        PatchPrior(least=2.0)


ALL, SIDE = (0.0, 0.45642213), (0.32898993, 0.45642213)  # 0 and 70 to 85 degrees from above
POSES = {  # radius, field of view, u, v, side of pictures
    "carla": ((10, 10), 30, (0, 1), ALL, 128), "celeba": ((9.5, 10.5), 10, (0, 0.25), SIDE, 64),
    "celebahq": ((9.5, 10.5), 10, (0, 0.25), SIDE, 256), "cats": ((10, 10), 10, (0, 0.19444), SIDE, 64),
    "cub": ((9, 11), 30, (0, 1), (0.25, 0.5436), 64)}
ALWAYS = {
    **{f"task.{k}": v for k, v in {
        "generator.centred": False, "generator.near": 7.5, "generator.far": 12.5, "generator.samples": 64,
        "generator.patch": 32,
        "generator.field.hidden": 256, "generator.field.layers": 8, "generator.field.skips": (4,),
        "generator.field.octaves": 10, "generator.field.view_octaves": 4, "generator.field.start": "torch",
        "discriminator.features": 64, "patches.size": 32, "patches.largest": 1.0, "code": 128, "noise_steps": 5000,
        "r1_gamma": 10.0, "r1_convention": "pixels", "ema_decay": 0.999, "loss": "non_saturating", "d_steps": 1,
        "g_steps": 1, "reg_every": 1, "value_range": (-1.0, 1.0), "evaluation.n": 1000}.items()},
    "data.batch_size": 8, "data.value_range": (-1.0, 1.0), "train.keep_best": "frechet",
    **{f"{name}_optimizer.{k}": v for name, rate in (("g", 5e-4), ("d", 1e-4)) for k, v in {
        "target": "genjax.core.optim.rmsprop", "learning_rate": rate, "decay": 0.99, "momentum": 0.0,
        "halve_at": (50_000, 100_000, 200_000)}.items()}}


@pytest.mark.parametrize("data", POSES)
def test_the_configs_numbers_are_the_authors(data):
    radius, fov, u, v, size = POSES[data]
    fine = data == "celebahq"
    want = {"task.camera.radius": radius, "task.camera.fov": fov, "task.camera.u": u, "task.camera.v": v,
            "task.generator.radius": radius[1], "task.generator.size": size, "data.image_size": size,
            "task.generator.white": data in ("carla", "cub"), "task.generator.field.view_directions": data != "cub",
            "task.patches.least": 0.125 if fine else 0.25, "task.patches.anneal": 0.0019 if fine else 0.0025,
            "train.eval_every": 10_000 if fine else 5000}
    assert differences(config_lib.load(f"fields/graf:data={data},features=lenet"), {**ALWAYS, **want}) == {}
