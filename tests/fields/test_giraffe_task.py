"""GIRAFFE's training and controls, tiny: scenes are functions of their keys, pictures do not depend on the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.core import rng as rng_lib
from genjax.core.optim import rmsprop
from genjax.errors import UserError
from genjax.fields import controls
from genjax.fields import stage as stage_lib
from genjax.fields.boxes import BoxPrior
from genjax.fields.decoder import FeatureField
from genjax.fields.giraffe import Generator, Volume
from genjax.fields.renderer import Discriminator, NeuralRenderer
from genjax.fields.task import CameraPrior, Giraffe


def make(**kw):
    field = {"features": 4, "octaves": 3, "view_octaves": 2}
    return Giraffe(**{
        "generator": Generator(decoder=FeatureField(hidden=8, blocks=3, skips=(1,), **field), size=32, samples=8,
                               background=FeatureField(hidden=4, blocks=2, skips=(), downscale=12.0, **field),
                               renderer=NeuralRenderer(size=32, features=4, least=2)),
        "discriminator": Discriminator(features=8), "g_optimizer": rmsprop(5e-4), "d_optimizer": rmsprop(1e-4),
        "code": 4, "background_code": 3, "preview_images": 4, "camera": CameraPrior(v=(0.3, 0.5)),
        "boxes": BoxPrior(boxes=2, scale_min=(0.2,) * 3, scale_max=(0.3,) * 3, centre_min=(-0.6, -0.6, 0.0),
                          centre_max=(0.6, 0.6, 0.0), padding=0.0), **kw})


@pytest.fixture(scope="module")
def trained():
    """A task, its state after two steps, and their metrics."""
    task = make()
    spec = {"image": jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)}
    state = jax.jit(lambda k: task.init(k, spec))(jax.random.key(0))
    step = jax.jit(task.step)
    rows = []
    for i in range(2):
        x = np.random.default_rng(i).random((2, 32, 32, 3), np.float32)
        state, metrics = step(state, {"image": x}, jax.random.key(i))
        rows.append(metrics)
    return task, state, rows


def test_steps(trained):
    _, state, rows = trained
    assert all(np.isfinite(v).all() for row in rows for v in row.values()) and rows[0]["penalty"] > 0
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), state.params["generator"], state.ema)
    assert all(v > 0 for v in jax.tree.leaves(moved)), "every parameter is trained, and the average follows"


@pytest.mark.slow
def test_bfloat16_trains():
    low = {"dtype": "bfloat16"}
    g = make().generator
    g = g.clone(decoder=g.decoder.clone(**low), background=g.background.clone(**low), renderer=g.renderer.clone(**low))
    task = make(generator=g, discriminator=Discriminator(features=8, **low))
    spec = {"image": jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)}
    state = jax.jit(lambda k: task.init(k, spec))(jax.random.key(0))
    step = jax.jit(task.step)
    for i in range(5):
        x = np.random.default_rng(i).random((2, 32, 32, 3), np.float32)
        state, metrics = step(state, {"image": x}, jax.random.key(i))
        assert all(np.isfinite(v).all() for v in metrics.values()) and metrics["penalty"] > 0
    assert all(v.dtype == jnp.float32 and np.isfinite(v).all() for v in jax.tree.leaves(state.params))


def test_scenes_and_pictures_do_not_depend_on_the_batch(trained):
    task, state, _ = trained
    variables = task.export(state)
    a, b = (task.sample(variables, jax.random.key(5), n)["samples"] for n in (3, 2))
    assert a.shape == (3, 32, 32, 3) and a.min() >= 0 and a.max() <= 1
    np.testing.assert_allclose(a[:2], b, atol=1e-6)
    assert np.abs(a[0] - a[1]).max() > 1e-4


def test_the_generators_window_is_that_of_the_prior():
    assert make().generator.window < 8 == make(boxes=BoxPrior(1, (0.2,) * 3, (1.5,) * 3),
                                               camera=CameraPrior(radius=(9.0, 9.0))).generator.window


def test_controls(trained):
    task, state, _ = trained
    offered = task.controls()
    assert set(offered) == {"object_rotation", "camera_elevation", "appearance", "shape", "background", "layers",
                            "depth_translation", "horizontal_translation", "circular", "add_objects"}
    variables = task.export(state)
    for name in ("object_rotation", "add_objects", "layers", "appearance"):
        few = {"steps": 2} if "steps" in offered[name].func.__kwdefaults__ else {}
        made = offered[name](variables, jax.random.key(0), n=2, **few)
        assert made[name].ndim == 3 and all(np.isfinite(v).all() for v in made.values())
        assert all(v.ndim == 4 for k, v in made.items() if k.endswith("_film"))
    still = make(boxes=BoxPrior(scale_min=(0.2,) * 3, scale_max=(0.2,) * 3, centre_min=(0,) * 3, centre_max=(0,) * 3,
                                rotation=(0.0, 0.0)), camera=CameraPrior()).controls()
    assert not {"object_rotation", "camera_elevation", "depth_translation", "circular", "add_objects"} & set(still)
    with pytest.raises(UserError, match="steps must be at least 2"):
        offered["circular"](variables, jax.random.key(0), steps=1)
    with pytest.raises(UserError, match="temperature must be above 0"):
        offered["appearance"](variables, jax.random.key(0), temperature=0.0)


STILL = {"boxes": BoxPrior(scale_min=(0.2,) * 3, scale_max=(0.2,) * 3, centre_min=(0.0, -0.2, 0.0),
                           centre_max=(0.0, 0.2, 0.0), rotation=(0.0, 0.0)), "camera": CameraPrior()}


def test_controls_that_are_not_offered_say_why():
    task = make(**STILL)
    why = task.withheld()
    assert set(why) == {"object_rotation", "camera_elevation", "depth_translation", "circular", "add_objects"}
    assert not set(why) & set(task.controls()) and "camera has one elevation" in why["camera_elevation"]
    assert not make().withheld()


def scenes_of(monkeypatch, name, task, **options):
    """The scenes that a control draws, without drawing them."""
    seen = []
    monkeypatch.setattr(controls, "film", lambda task, variables, frames: seen.extend(frames) or np.zeros(
        (len(frames), len(frames[0].eye), 8, 8, 3)))
    task.controls()[name](None, jax.random.key(0), n=2, **options)
    return seen


def many(k):
    return make(boxes=BoxPrior(boxes=k, scale_min=(0.05,) * 3, scale_max=(0.1,) * 3, centre_min=(-0.6, -0.6, 0.0),
                               centre_max=(0.6, 0.6, 0.0), padding=0.0))


def test_one_of_many_goes_round_and_the_others_stay_where_they_were_drawn(monkeypatch):
    task = many(3)
    frames = scenes_of(monkeypatch, "circular", task, steps=5)
    drawn = np.asarray(task.draw(rng_lib.per_item(jax.random.key(0), 2)).boxes.centre)
    for f, (x, y) in zip(frames, ((0.6, 0), (0, 0.6), (-0.6, 0), (0, -0.6), (0.6, 0)), strict=True):
        np.testing.assert_array_equal(f.boxes.centre[:, :2], drawn[:, :2])
        np.testing.assert_allclose(f.boxes.centre[:, 2], [[x, y, 0]] * 2, atol=1e-6)
        assert f.boxes.present.all()


def test_objects_are_added_two_at_a_time_and_to_more_boxes_than_places(monkeypatch):
    frames = scenes_of(monkeypatch, "add_objects", make(), layout="clevr10")
    assert [int(f.boxes.present[0].sum()) for f in frames] == [2, 4, 6, 8, 10, 12]
    share = (frames[0].boxes.centre[0, :, :2] + 0.6) / 1.2
    want = [(x, y + more) for y in (0, 0.8) for x in (0, 0.5, 1) for more in (0, 0.4)]
    np.testing.assert_allclose(share, want, atol=1e-6)
    frames = scenes_of(monkeypatch, "add_objects", many(8))
    assert len(frames) == 6 and frames[0].shape.shape[1] == frames[0].boxes.scale.shape[1] == 6


def test_what_a_ray_leaves_the_scene_with_is_far(monkeypatch):
    """Two pixels see an object at depth 2, two nothing: the empty ones are dark in the depth panel."""
    task = make()
    task = make(generator=task.generator.clone(background=None))
    seen = np.zeros((1, 2, 2, 2), np.float32)
    seen[:, 0, :, 0] = 1
    found = Volume(np.zeros((1, 2, 2, 4)), 2 * seen[:, 0], seen, seen)
    monkeypatch.setattr(Giraffe, "volumes", lambda self, variables, scene: found)
    monkeypatch.setattr(controls, "film", lambda task, variables, frames: np.zeros((1, 1, 2, 2, 3)))
    shown = []
    monkeypatch.setattr(controls, "image_grid", lambda images, *_, **__: shown.extend(images))
    task.controls()["layers"](None, jax.random.key(0), n=1)
    np.testing.assert_allclose(shown[1][..., 0], [[1, 0], [1, 0]], atol=1e-6)


@pytest.mark.parametrize("bad, says", [
    ({"boxes": BoxPrior(scale_min=(2.0,) * 3, scale_max=(3.0,) * 3)}, "may lie inside a box"),
    ({"boxes": BoxPrior(scale_min=(0.9,) * 3, scale_max=(0.9,) * 3, centre_min=(0,) * 3, centre_max=(0,) * 3),
      "camera": CameraPrior(v=(0.5, 0.5), radius=(1.2, 1.2))}, "may lie inside a box"),  # only when it is turned
    ({"boxes": BoxPrior(scale_min=(0.5, 0.1, 0.1), scale_max=(0.5, 0.1, 0.1), centre_min=(0,) * 3, rotation=(0.0, 0.0),
                        centre_max=(0,) * 3), "generator": Generator(padding=0.0),
      "camera": CameraPrior(u=(0.2, 0.8), v=(0.5, 0.5), radius=(0.3, 0.3))}, "may lie inside a box"),  # half way round
    ({"conditional": True}, "classes"),
    ({"code": 0}, "code must be at least 1"),
])
def test_refusals(bad, says):
    with pytest.raises(UserError, match=says):
        make(**bad)


@pytest.mark.parametrize("make, bad, says", [
    (Generator, {"chunk": -1}, "chunk must be at least 0"),
    (Generator, {"volume_size": 1}, "volume_size must be at least 2"),
    (Generator, {"padding": -1.0}, "padding=-1.0 must be above -1"),
    *((FeatureField, {name: 0}, f"{name} must be at least 1")
      for name in ("octaves", "view_octaves", "hidden", "features", "blocks")),
    (FeatureField, {"downscale": 0.0}, "downscale=0.0 must be above 0"),
])
def test_refused_networks(make, bad, says):
    with pytest.raises(UserError, match=says):
        make(**bad)


def test_a_discriminator_too_narrow_for_its_pictures():
    with pytest.raises(UserError, match="features of at least 4, got 3: they are halved 2 times"):
        jax.eval_shape(Discriminator(features=3).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def test_refused_cameras():
    for bad, says in (({"v": (0.5, 0.2)}, "v goes from"), ({"v": (0.5, 1.1)}, "between 0 .above. and 1"),
                      ({"v": (-0.1, 0.5)}, "between 0 .above. and 1"), ({"fov": 180.0}, "between 0 and 180")):
        with pytest.raises(UserError, match=says):
            CameraPrior(**bad)


def test_the_stage_of_play(trained):
    task, state, _ = trained
    variables = jax.tree.map(np.array, task.export(state))
    variables["params"]["background"]["sigma_out"]["bias"] += 1.0  # a background that is seen
    stage = task.stage(variables)
    names = [d.name for d in stage.dials]
    assert {"objects", "elevation", "depth_0", "azimuth", "turn_3"} <= set(names)
    x = stage.draw(stage.values({}))
    assert x.shape == (32, 32, 3) and 0 <= x.min() and x.max() <= 1
    for changed in ({"shape_0": "5"}, {"sideways_1": "1.2"}, {"background": "3"}, {"objects": "0"}, {"elevation": "1"},
                    {"azimuth": "1"}):
        assert np.abs(stage.draw(stage.values(changed)) - x).max() > 1e-5, changed
    np.testing.assert_array_equal(stage.draw(stage.values({})), x)


@pytest.mark.parametrize("v, first, ends, values", [
    ((1 / 3, 1 / 3), 0.5, (0, 1), (1 / 3 - 0.05, 1 / 3 + 0.05)), ((0.0, 0.0), 0.0, (0, 1), (0, 0.05)),
    ((0.05, 0.5), 0.5, (-0.11, 1.25), (0.0005, 0.6125)), ((0.0, 1.0), 0.5, (0, 1), (0, 1)),
])
def test_the_camera_always_has_dials(v, first, ends, values):
    prior = CameraPrior(v=v)
    camera, (azimuth, elevation) = stage_lib.around(prior)
    assert (azimuth.low, azimuth.value, azimuth.high) == (0, 0.5, 1) and camera.u == (-0.05, 0.05)
    assert (elevation.low, elevation.high) == ends and elevation.value == first
    at = [float((1 - camera.at(0.5, s, 0.5)[0][2] / 2.732) / 2) for s in ends]
    np.testing.assert_allclose(at, values, atol=1e-5)
    np.testing.assert_allclose(camera.at(0.5, first, 0.5)[0], prior.at(0.5, 0.5, 0.5)[0], atol=1e-5)
