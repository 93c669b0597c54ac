"""The walks of GIRAFFE's controls by the numbers of the authors' renderings: values, frames, what moves, what stays."""

import dataclasses

import jax
import numpy as np
import pytest

from genjax.core import config as config_lib
from genjax.core import rng as rng_lib
from genjax.fields import controls

KEY, N = jax.random.key(0), 2
TURNS = {"compcars": (0.0, 1.0), "celeba": (0.40278, 0.59722), "two": (0.0, 1.0), "clevr2": (0.0, 0.0)}


@pytest.fixture
def walk(monkeypatch):
    """(data, control, options) -> (task, the scenes it draws, frames of its film), without drawing them."""
    def run(data, name, overrides=(), **options):
        task = config_lib.build(config_lib.load(f"fields/giraffe:data={data}", overrides)).task
        seen = []
        monkeypatch.setattr(controls, "film", lambda task, variables, frames: seen.extend(frames) or np.zeros(
            (len(frames), N, 2, 2, 3)))
        made = task.controls()[name](None, KEY, n=N, **options)
        return task, seen, len(made[f"{name}_film"])

    return run


def parts(scene):
    """Everything a scene is made of, by name."""
    found = {f.name: getattr(scene, f.name) for f in dataclasses.fields(scene)}
    boxes = found.pop("boxes")
    return found | {f.name: getattr(boxes, f.name) for f in dataclasses.fields(boxes)}


def column(frames, name, *moving):
    """[T,n,...] of one part; all but it and `moving` are the same in every frame."""
    first = parts(frames[0])
    for frame in frames[1:]:
        for other, x in parts(frame).items():
            if other not in (name, *moving):
                np.testing.assert_array_equal(x, first[other], err_msg=other)
    return np.stack([parts(f)[name] for f in frames])


def each(values, shape):
    """values [T,...] for all scenes: [T,n,...]."""
    values = np.asarray(values)
    return np.broadcast_to(values[:, None], (len(values), N, *shape))


def share(task, name, x):
    """Where x lies in the prior's range of the centre, as shares along x and y."""
    low, high = (np.asarray(getattr(task.boxes, f"{name}_{end}")[:2]) for end in ("min", "max"))
    return (x[..., :2] - low) / (high - low)


def stands(task, frames, angle=0.5, v=0.5):
    """Boxes at their smallest and all there, turned by a share of their range, seen from a share of the elevations."""
    s = parts(frames[0])
    np.testing.assert_allclose(s["scale"], np.broadcast_to(task.boxes.scale_min, s["scale"].shape), atol=1e-6)
    low, high = task.boxes.rotation
    np.testing.assert_allclose(s["angle"], low + angle * (high - low), atol=1e-6)
    assert s["present"].all()
    low, high = task.camera.v
    np.testing.assert_allclose(s["eye"][:, 2], 2.732 * (1 - 2 * (low + v * (high - low))), atol=1e-5)


def test_codes_are_those_of_the_samples_times_the_temperature(walk):
    task, frames, _ = walk("compcars", "depth_translation", steps=2)
    drawn = task.draw(rng_lib.per_item(KEY, N))
    for name in ("shape", "appearance", "background_shape", "background_appearance"):
        np.testing.assert_allclose(parts(frames[0])[name], 0.65 * getattr(drawn, name), rtol=1e-6)


@pytest.mark.parametrize("data, count, ends, film", [("compcars", 64, (0.0, 1.0), 64), ("celeba", 32, (0.1, 0.9), 64)])
def test_object_rotation(walk, data, count, ends, film):
    """A full circle in twice the steps; else from .1 to .9 of the range, and back."""
    task, frames, length = walk(data, "object_rotation")
    low, high = TURNS[data]
    want = low + np.linspace(*ends, count) * (high - low)
    np.testing.assert_allclose(column(frames, "angle"), each(want[:, None], (1,)), atol=1e-6)
    stands(task, frames, ends[0])
    np.testing.assert_allclose(parts(frames[0])["centre"], 0.0, atol=1e-6)
    assert length == film


def test_camera_elevation(walk):
    task, frames, length = walk("compcars", "camera_elevation")
    v = 0.41667 + np.linspace(0.1, 0.9, 32) * (0.5 - 0.41667)
    eye = column(frames, "eye", "rotation")
    np.testing.assert_allclose(eye[..., 2], each(2.732 * (1 - 2 * v), ()), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(eye, axis=-1), 2.732, rtol=1e-5)
    stands(task, frames, v=0.1)
    np.testing.assert_allclose(parts(frames[0])["centre"], 0.0, atol=1e-6)
    assert length == 32, "as the authors': not back again"


T = np.linspace(0, 1, 32)
ROUND = [0.5 + 0.5 * np.cos(2 * np.pi * T), 0.5 + 0.5 * np.sin(2 * np.pi * T)]


@pytest.mark.parametrize("name, data, path, other, angle, film", [
    ("depth_translation", "compcars", [T, 0.5 + 0 * T], None, 0.5, 64),
    ("depth_translation", "two", [T, 0.2 + 0 * T], (0.4, 0.8), 0.5, 64),
    ("horizontal_translation", "compcars", [0.5 + 0 * T, T], None, 0.5, 64),
    ("horizontal_translation", "clevr2", [1 + 0 * T, T], (0.5, 0.5), 0.5, 64),
    ("circular", "compcars", ROUND, None, 0.0, 32), ("circular", "two", ROUND, (0.5, 0.5), 0.0, 32),
])
def test_the_last_object_moves_and_the_other_stays(walk, name, data, path, other, angle, film):
    task, frames, length = walk(data, name)
    centre = column(frames, "centre")
    at = share(task, "centre", centre)
    np.testing.assert_allclose(at[:, :, -1], each(np.stack(path, -1), (2,)), atol=1e-5)
    assert (centre[..., 2] == np.float32(task.boxes.centre_min[2])).all()
    if other:
        np.testing.assert_allclose(at[:, :, 0], np.broadcast_to(other, (32, N, 2)), atol=1e-5)
    stands(task, frames, angle)
    assert length == film and at.shape[2] == (2 if other else 1)


@pytest.mark.parametrize("name, field", [("appearance", "appearance"), ("shape", "shape"),
                                         ("background", "background_appearance")])
def test_codes_walk_through_six_on_great_circles(walk, name, field):
    task, frames, length = walk("compcars", name)
    z = column(frames, field).astype(np.float64).reshape(6, 32, N, -1)
    assert length == 6 * 32
    np.testing.assert_array_equal(z[:, -1], np.roll(z[:, 0], -1, 0), err_msg="each leg ends where the next begins")
    assert abs(z[:, 0].std() - 0.65) < 0.05
    for leg in z:
        a, b = leg[0], leg[-1]
        cos = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
        between = np.arccos(cos)[:, None]
        for t, got in zip(T, leg, strict=True):
            want = (np.sin((1 - t) * between) * a + np.sin(t * between) * b) / np.sin(between)
            np.testing.assert_allclose(got, want, atol=1e-4)
    stands(task, frames)
    np.testing.assert_allclose(parts(frames[0])["centre"], 0.0, atol=1e-6)


CARS = [(-0.7, -0.8), (-0.7, 0.5), (-0.7, 1.8), (1.5, -0.8), (1.5, 0.5), (1.5, 1.8)]
CLEVR = [(0.2, 0), (0.8, 0), (0.2, 0.5), (0.8, 0.5), (0.2, 1), (0.8, 1)]


@pytest.mark.parametrize("data, places, scale, angle", [("compcars", CARS, -1.0, 0.5), ("two", CLEVR, 0.0, 0.0)])
def test_objects_are_added(walk, data, places, scale, angle):
    """One to six, each frame of them for a sixth of 128 frames, and away again; seen from the highest elevation."""
    task, frames, length = walk(data, "add_objects")
    present = column(frames, "present")
    np.testing.assert_array_equal(present, each(np.tril(np.ones((6, 6), bool)), (6,)))
    s, low, high = parts(frames[0]), *(np.asarray(v) for v in (task.boxes.scale_min, task.boxes.scale_max))
    np.testing.assert_allclose(share(task, "centre", s["centre"]), np.broadcast_to(places, (N, 6, 2)), atol=1e-5)
    np.testing.assert_allclose(s["scale"], np.broadcast_to(low + scale * (high - low), (N, 6, 3)), atol=1e-6)
    np.testing.assert_allclose(s["angle"], TURNS[data][0] + angle * np.diff(TURNS[data])[0], atol=1e-6)
    np.testing.assert_allclose(s["eye"][:, 2], 2.732 * (1 - 2 * task.camera.v[0]), atol=1e-5)
    assert abs(s["shape"].std() - 0.65) < 0.05 and abs(s["appearance"].std() - 0.65) < 0.05
    assert s["shape"].shape[1] == 6 and length == 2 * 6 * (128 // 6)


@pytest.mark.parametrize("low, high, scale", [(0.15, 0.3, 0.15), (0.1, 0.3, 0.1), (0.2, 0.3, 0.1)])
def test_objects_that_are_added_have_a_size(walk, low, high, scale):
    """The authors' share of -1 would leave nothing of boxes whose largest are twice the smallest."""
    overrides = [f"task.boxes.{k}={v},{v},{v}" for k, v in (("scale_min", low), ("scale_max", high))]
    _, frames, _ = walk("compcars", "add_objects", [*overrides, "task.camera.fov=20"])
    np.testing.assert_allclose(parts(frames[0])["scale"], scale, rtol=1e-5)
