"""GIRAFFE's training and controls, tiny: scenes are functions of their keys, pictures do not depend on the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.core.optim import rmsprop
from genjax.errors import UserError
from genjax.fields.boxes import BoxPrior
from genjax.fields.decoder import FeatureField
from genjax.fields.giraffe import Generator
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
    assert not {"object_rotation", "camera_elevation", "depth_translation"} & set(still)
    with pytest.raises(UserError, match="steps must be at least 2"):
        offered["circular"](variables, jax.random.key(0), steps=1)


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
    assert {"objects", "elevation", "depth_0", "turn_3"} <= set(names) and "azimuth" not in names
    x = stage.draw(stage.values({}))
    assert x.shape == (32, 32, 3) and 0 <= x.min() and x.max() <= 1
    for changed in ({"shape_0": "5"}, {"sideways_1": "1.2"}, {"background": "3"}, {"objects": "0"}, {"elevation": "1"}):
        assert np.abs(stage.draw(stage.values(changed)) - x).max() > 1e-5, changed
    np.testing.assert_array_equal(stage.draw(stage.values({})), x)
