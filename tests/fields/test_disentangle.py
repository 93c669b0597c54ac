"""Disentanglement: the ray tracer's scenes reach what can be reached, other scenes do not; GIRAFFE's are measured."""

import math

import jax
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.fields.disentangle import DrawnWorld, GiraffeWorld, Shuffled, measure
from genjax.metrics.evaluate import Settings
from genjax.metrics.evaluation import Evaluation
from genjax.metrics.recipe import Value, rank
from tests.fields.test_giraffe_task import make
from tests.gan.tiny import task as plain_task

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def drawn():
    return DrawnWorld("two", 16, 32)


def test_drawn_scenes_are_the_yardstick_and_other_scenes_are_chance(drawn):
    right, wrong = measure(drawn, KEY), measure(Shuffled(drawn), KEY)
    assert right["motion_slope"] == pytest.approx(1, abs=0.1) and right["motion_found"] >= 0.9
    assert right["motion_error"] < 0.5 and right["objects_seen"] == 1
    assert 0 < right["move_outside"] < 0.005 < 0.1 < right["move_inside"], "shadows and mirrors, not more"
    assert right["appearance_colour"] > 0.05 and right["appearance_silhouette"] < 0.1
    assert right["shape_silhouette"] > right["appearance_silhouette"] and right["shape_colour"] < 0.1
    assert wrong["motion_found"] < 0.3 and wrong["motion_error"] > 2
    for name in ("move", "appearance", "shape"):
        assert wrong[f"{name}_outside"] > 5 * right[f"{name}_outside"]


class Lame(DrawnWorld):
    """Objects go half as far as they should."""

    def draw(self, centre=None, swap=""):
        if centre is not None:
            rows = np.arange(len(centre))
            centre = (centre + self.poses.centre[rows, self.poses.chosen]) / 2
        return super().draw(centre, swap)


def test_objects_that_go_half_as_far():
    assert measure(Lame("two", 16, 32), KEY)["motion_slope"] == pytest.approx(0.5, abs=0.15)


def test_where_a_camera_sees_the_middles(drawn):
    """Objects on the ground: where they are in the instance map is where their middles are projected."""
    _, region = drawn.draw()
    at = (np.arange(32) - 15.5)
    total = region.sum((1, 2))
    seen = np.stack([(region * at).sum((1, 2)), (region * at[:, None]).sum((1, 2))], -1) / total[:, None]
    expected = drawn.poses.project(drawn.poses.centre)[0][np.arange(16), drawn.poses.chosen]
    assert np.median(np.abs(seen - expected)) < 0.4


def test_giraffes_region_lies_where_its_poses_say():
    """A box that is filled, with nothing behind it: its share of what is seen is around the projected middle."""
    task = make(evaluation=Evaluation(metrics=("disentanglement",), settings=Settings(move_scenes=8)))
    scene = jax.eval_shape(task.draw, jax.random.split(KEY, 2))
    shapes = jax.eval_shape(lambda k, s: task.generator.init({"params": k, "noise": k}, s), KEY, scene)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: rng.normal(0, 0.3, s.shape).astype(np.float32), shapes["params"])
    params["decoder"]["sigma_out"]["bias"] += 50.0
    params["background"]["sigma_out"]["bias"] -= 50.0
    world = GiraffeWorld(task, {"params": params, "extra": {}}, jax.random.key(4), 8)
    _, region = world.draw()
    at = np.arange(32) - 15.5
    seen = np.stack([(region * at).sum((1, 2)), (region * at[:, None]).sum((1, 2))], -1)
    seen /= np.maximum(region.sum((1, 2)), 1e-6)[:, None]
    expected = world.poses.project(world.poses.centre)[0][np.arange(8), 0]
    assert np.median(np.abs(seen - expected)) < 1.0
    values = task.evaluate({"params": params, "extra": {}}, None, KEY)
    assert all(isinstance(v, Value) and math.isfinite(v) for v in values.values()) and len(values) == 14
    assert float(values["objects_seen"]) > 0.5
    slope = values["motion_slope"].recipe
    assert slope.n_fake == 8 and dict(slope.parameters)["steps"] == (0.15, 0.3) and not slope.lower_is_better
    assert values["move_outside"].recipe.lower_is_better and "motion slope" in str(slope)
    with pytest.raises(UserError, match="cannot compare"):
        rank({k: values[k] for k in ("motion_slope", "move_outside")})


def test_refusals():
    with pytest.raises(UserError, match="no objects to move"):
        plain_task(evaluation=Evaluation(metrics=("disentanglement",))).evaluate({}, None, KEY)
    with pytest.raises(UserError, match="move_steps"):
        Settings(move_steps=(0.7,))
    with pytest.raises(UserError, match="rooms have no prior"):
        DrawnWorld("rooms", 2, 16)
