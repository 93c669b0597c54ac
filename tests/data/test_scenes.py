"""Drawn scenes: geometry against slow references, purity in (seed, i), maps and words that agree with pictures."""

import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data import scenes_shapes as shapes
from genjax.data.pipeline import Pipeline
from genjax.data.scenes import (
    CLASSES,
    MAPS,
    PRESETS,
    Scenes,
    camera_at,
    caption,
    draw_scene,
    open_scenes,
    render,
    views,
)
from genjax.data.scenes_geometry import FAR, Vec, lit, nearest, vec
from genjax.data.scenes_priors import Prior
from genjax.data.scenes_render import _net, _offsets
from genjax.data.scenes_scene import primitives
from genjax.data.sources import open_source
from genjax.errors import UserError
from genjax.ops.camera import image_plane, rays

SIZE = 24
ALL = (*MAPS, "objects", "camera")


def make(**kwargs):
    return Scenes(**{"preset": "two_to_five", "batch_size": 6, "image_size": SIZE, "maps": ALL, "samples": 1,
                     "prefetch": 0} | kwargs)


@pytest.fixture(scope="module")
def batch():
    return make().batch(0)


@pytest.fixture(scope="module")
def drawn():
    """500 scenes of some presets, without pictures: {preset: (Scene, Camera)} with a first axis."""
    def many(name):
        return jax.jit(jax.vmap(PRESETS[name].sample))(jax.random.split(jax.random.key(0), 500))

    return {name: many(name) for name in ("two_to_five", "rooms")}


def pixels(size, camera):
    """Origin and directions [size^2,3] of the pixels' rays in float64, by the camera module's own function."""
    p = image_plane(size, size).reshape(-1, 2)
    o, d = rays(p, *(jnp.asarray(x) for x in (camera.focal, camera.rotation, camera.eye)))
    return np.asarray(o, np.float64), np.asarray(d, np.float64)


# ---------------------------------------------------------------- geometry


def first_hit(o, d, shape, half, position, angle):
    """t of one ray and one solid by the textbook, float64: inf where it misses."""
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    o, d = turn @ (o - position), turn @ d
    found = []
    if shape == "sphere":
        roots = np.roots([d @ d, 2 * o @ d, o @ o - half[0] ** 2])
        found = [r.real for r in roots if abs(r.imag) < 1e-12]
    if shape == "cylinder":
        roots = np.roots([d[:2] @ d[:2], 2 * o[:2] @ d[:2], o[:2] @ o[:2] - half[0] ** 2])
        found = [r.real for r in roots if abs(r.imag) < 1e-12 and abs(o[2] + r.real * d[2]) <= half[2]]
    for axis in {"box": (0, 1, 2), "cylinder": (2,), "sphere": ()}[shape]:
        for sign in (-1, 1):
            t = (sign * half[axis] - o[axis]) / d[axis]
            p = o + t * d
            others = [k for k in range(3) if k != axis]
            inside = (np.hypot(p[0], p[1]) <= half[0] if shape == "cylinder" else
                      all(abs(p[k]) <= half[k] for k in others))
            found += [t] if inside else []
    return min([t for t in found if t > 0], default=np.inf)


def test_depth_and_instances_are_those_of_a_slow_reference(batch):
    for k in range(3):
        scene, camera = draw_scene("two_to_five", k)
        o, d = pixels(SIZE, camera)
        ground = np.where(d[:, 2] < 0, -o[:, 2] / np.minimum(d[:, 2], -1e-9), np.inf)
        times = [[first_hit(a, b, shapes.NAMES[s], *at) if there else np.inf for s, *at, there in zip(
            batch["object_shape"][k], batch["object_size"][k], batch["object_position"][k],
            batch["object_rotation"][k], batch["object_present"][k], strict=True)] for a, b in zip(o, d, strict=True)]
        t = np.concatenate([ground[:, None], times], 1)
        t[t > 24] = np.inf
        best, which = t.min(1), t.argmin(1)
        sky = np.isinf(best)
        got = {m: batch[m][k].reshape(SIZE * SIZE, -1)[:, 0] for m in ("depth", "instance", "semantic")}
        assert (got["instance"] != which).mean() < 0.004 and len(set(which)) > 1  # an edge may fall either way
        agree = (got["instance"] == which) & ~sky
        np.testing.assert_allclose(got["depth"][agree], best[agree], rtol=2e-5)
        assert (got["depth"][sky] == 0).all() and (batch["normals"][k].reshape(-1, 3)[sky] == 0).all()
        semantic = np.where(sky, 0, np.where(which == 0, 1, 2 + batch["object_shape"][k][which - 1]))
        assert (got["semantic"] != semantic).mean() < 0.004
        np.testing.assert_allclose(np.linalg.norm(batch["normals"][k].reshape(-1, 3)[~sky], axis=-1), 1, atol=1e-5)


def test_a_sphere_from_all_sides_and_the_ground():
    scene, _ = draw_scene("one", 0)
    scene = dataclasses.replace(scene, shape=jnp.zeros(1, jnp.int32), size=jnp.full((1, 3), 0.4),
                                position=jnp.asarray([[0.3, -0.2, 0.1]]), ground=jnp.float32(-0.3))
    at = jnp.asarray([0.3, -0.2, 0.1])
    cameras = jax.vmap(lambda u, v: camera_at(u, v, 40.0, at=at))(*jnp.array([[0.1, 0.6, 0.9], [0.1, 0.3, 0.45]]))
    seen = views(scene, cameras, 9, ("depth", "normals", "instance"), samples=0)
    assert set(seen) == {"depth", "normals", "instance"}
    away = np.asarray(cameras.eye - at)
    distance = np.linalg.norm(away, axis=-1)
    np.testing.assert_allclose(seen["depth"][:, 4, 4], distance - 0.4, rtol=1e-5)
    np.testing.assert_allclose(seen["normals"][:, 4, 4], away / distance[:, None], atol=1e-4)
    assert (np.asarray(seen["instance"])[:, 4, 4] == 1).all()
    for k in range(3):
        ground = (np.asarray(seen["instance"][k]) == 0) & (np.asarray(seen["depth"][k]) > 0)
        assert ground.any()
        np.testing.assert_array_equal(np.asarray(seen["normals"][k])[ground], np.tile([0.0, 0, 1], (ground.sum(), 1)))
        o, d = pixels(9, jax.tree.map(lambda x, k=k: x[k], cameras))
        at_depth = (o + d * np.asarray(seen["depth"][k]).reshape(-1, 1)).reshape(9, 9, 3)
        np.testing.assert_allclose(at_depth[ground][:, 2], -0.3, atol=2e-5)


@pytest.mark.parametrize("preset", ["cars", "rooms"])
def test_unions_of_primitives_are_solid(preset):
    """What rays meet is where a point first lies in a part, walking along the ray in small steps."""
    scene, camera = draw_scene(preset, 3)
    prims = jax.jit(primitives)(scene)
    o, d = pixels(24, camera)
    t, k = jax.jit(nearest)(prims, Vec(*o.T.astype(np.float32)), Vec(*d.T.astype(np.float32)))
    steps = np.linspace(1.2, 4.2, 1500)
    p = o[:, None] + d[:, None] * steps[:, None]
    first = np.full(len(o), np.inf)
    for n in np.flatnonzero(scene.present):
        c, s = np.cos(scene.rotation[n]), np.sin(scene.rotation[n])
        turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        local = (p - np.asarray(scene.position[n])) @ turn.T / np.asarray(scene.size[n])
        for part in shapes.SHAPES[shapes.NAMES[int(scene.shape[n])]].parts:
            x, y, z = np.moveaxis((local - part.centre) / part.half, -1, 0)
            if part.kind == "box":
                a, b = (1 - taper * (1 + z) / 2 for taper in part.taper)
                inside = (abs(x) <= a) & (abs(y) <= b) & (abs(z) <= 1)
            elif part.kind == "ball":
                inside = x * x + y * y + z * z <= 1
            else:
                z, y = (y, z) if part.kind == "wheel" else (z, y)
                inside = (x * x + y * y <= 1) & (abs(z) <= 1)
            first = np.minimum(first, np.where(inside.any(1), steps[inside.argmax(1)], np.inf))
    got, hit = np.where(np.asarray(t) >= FAR, np.inf, t), np.asarray(k) >= 0
    assert (np.isfinite(first) == hit).mean() > 0.97 and 20 < hit.sum() < 500  # steps jump over thin edges
    both = np.isfinite(first) & hit
    assert np.mean(np.abs(first[both] - got[both]) < 0.004) > 0.95


def test_shadow_rays_see_what_other_rays_see():
    scene, _ = draw_scene("cars", 1)
    prims = jax.jit(primitives)(scene)
    rng = np.random.default_rng(0)
    p = vec(np.float32(rng.uniform(-0.5, 0.5, (3, 400))))
    light = vec(np.float32(rng.uniform(-1, 1, (3, 1)) + [[0], [0], [2]]))
    seen = np.asarray(jax.jit(lit)(prims, p, light, jnp.float32(1)))
    t, k = jax.jit(nearest)(prims, p, light - p)
    t_back, back = jax.jit(nearest)(prims, light, p - light)
    outside = (np.asarray(t) < 1) == (np.asarray(t_back) < 1)  # the others start inside of the car
    np.testing.assert_array_equal(seen[outside] == 0, np.asarray(t)[outside] < 1)
    assert 0.02 < (seen == 0).mean() < 0.9 and outside.mean() > 0.9


def test_samples_are_stratified():
    for n in (4, 16):
        cells = np.floor((_net(n) + 1) / 2 * n)  # a (0,2)-sequence: one per row, column and square of side 1/sqrt(n)
        assert len(set(cells[:, 0])) == len(set(cells[:, 1])) == n
        side = round(n**0.5)
        assert len({tuple(c) for c in cells // side}) == n
        assert np.abs(_net(n)).max() < 1
    for samples in (1, 2, 3):
        x = _offsets(samples)
        assert len({tuple(c) for c in np.floor((x + 1) / 2 * samples)}) == samples**2 == len(set(x[:, 0].round(6)))
        np.testing.assert_allclose(x.mean(0), 0, atol=1e-6)


# ---------------------------------------------------------------- priors


def test_nothing_collides_and_priors_are_kept(drawn):
    scene, camera = drawn["two_to_five"]
    place, there = np.asarray(scene.position), np.asarray(scene.present)
    apart = np.linalg.norm(place[:, :, None, :2] - place[:, None, :, :2], axis=-1)
    other = there[:, :, None] & there[:, None] & ~np.eye(5, dtype=bool)
    prior = PRESETS["two_to_five"]
    assert apart[other].min() >= prior.spacing
    widest = np.hypot(*np.asarray(scene.size)[..., :2].transpose(2, 0, 1))  # of a box: half its diagonal
    round_ = np.asarray(scene.shape) != shapes.index("box")
    assert 2 * np.where(round_, np.asarray(scene.size)[..., 0], widest).max() < prior.spacing
    np.testing.assert_allclose(place[..., 2], np.asarray(scene.size)[..., 2])  # they stand on z = 0
    assert np.abs(place[..., :2]).max() <= 0.7 and np.abs(place[..., :2]).max() > 0.68
    share = np.bincount(there.sum(1), minlength=6)[2:] / 500
    np.testing.assert_allclose(share, prior.counts[1:], atol=0.06)
    assert (np.asarray(scene.label) == there.sum(1) - 2).all()
    colour = np.asarray(scene.colour)
    assert all(len(set(c)) == 5 for c in colour) and set(colour.ravel()) == set(range(8))
    np.testing.assert_allclose(camera.eye, np.tile([2.732 * 8**0.5 / 3, 0, 2.732 / 3], (500, 1)), atol=1e-5)
    np.testing.assert_allclose(camera.focal, 2.1877193, rtol=1e-6)


def test_the_grid_finds_a_place_when_chance_does_not(monkeypatch):
    """Only one random try each: still none collide."""
    monkeypatch.setattr("genjax.data.scenes_priors.TRIES", 1)
    scene, _ = jax.jit(jax.vmap(PRESETS["two_to_five"].sample))(jax.random.split(jax.random.key(1), 500))
    place = np.asarray(scene.position)[..., :2]
    apart = np.linalg.norm(place[:, :, None] - place[:, None], axis=-1) + 9 * np.eye(5)
    assert apart.min() >= 0.39


def test_rooms_hold_their_furniture(drawn):
    scene, camera = drawn["rooms"]
    position, there = np.asarray(scene.position), np.asarray(scene.present)
    c, s = np.abs(np.cos(scene.rotation)), np.abs(np.sin(scene.rotation))
    half = np.asarray(scene.size)
    round_ = np.isin(scene.shape, [shapes.index("plant"), shapes.index("rug")])
    x, y = (np.where(round_, np.hypot(a, b), a + b) for a, b in
            ((c * half[..., 0], s * half[..., 1]), (s * half[..., 0], c * half[..., 1])))
    assert (position[..., 0] - x)[there].min() > -1.16 and (np.abs(position[..., 1]) + y)[there].max() < 1.21
    np.testing.assert_allclose((position[..., 2] - half[..., 2]), -0.38, atol=1e-6)
    assert (np.abs(np.asarray(camera.eye)[:, 1]) < 1.2).all() and there.sum(1).min() >= 1
    gap = np.maximum(*(np.abs(position[:, :, None, k] - position[:, None, :, k]) - v[:, :, None] - v[:, None]
                       for k, v in ((0, x), (1, y))))
    name = np.asarray(shapes.NAMES)[np.asarray(scene.shape)]
    table, chair, rug = (name == n for n in ("table", "chair", "rug"))
    tucked = table[:, :, None] & chair[:, None]  # chairs are pushed under tables, rugs lie under everything
    fine = rug[:, :, None] | rug[:, None] | tucked | tucked.swapaxes(1, 2) | np.eye(8, dtype=bool)
    apart = there[:, :, None] & there[:, None] & ~fine
    assert gap[apart].min() > -0.01


def test_objects_are_where_their_attributes_say(batch):
    """An object's middle is drawn with its number, unless another stands in front; and in its own colour."""
    found = hidden = 0
    for k in range(len(batch["image"])):
        local = (batch["object_position"][k] - batch["camera_eye"][k]) @ batch["camera_rotation"][k]
        x = local[:, :2] / -local[:, 2:] * batch["camera_focal"][k]
        column, row = np.floor((x[:, 0] + 1) / 2 * SIZE), np.floor((1 - x[:, 1]) / 2 * SIZE)
        for n in np.flatnonzero(batch["object_present"][k]):
            seen = batch["instance"][k, int(row[n]), int(column[n])]
            nearer = seen and seen != n + 1 and -local[seen - 1, 2] < -local[n, 2]
            assert seen == n + 1 or nearer
            assert batch["semantic"][k, int(row[n]), int(column[n])] == 2 + batch["object_shape"][k][(seen or 1) - 1]
            found, hidden = found + (seen == n + 1), hidden + bool(nearer)
            mask = batch["instance"][k] == n + 1
            rgb = batch["object_rgb"][k, n]
            if mask.sum() > 3 and np.ptp(rgb) > 0.2:  # not grey
                assert np.argmax((batch["image"][k][mask] + 1).mean(0)) == np.argmax(rgb)
    assert found > 10 * max(hidden, 1) or (found > 8 and hidden < found)
    absent = ~batch["object_present"]
    assert absent.any() and (batch["instance"].max((1, 2)) <= batch["object_present"].sum(1)).all()


# ---------------------------------------------------------------- purity


def test_pure_in_seed_and_number(batch):
    for other in (make().batch(0), make(prefetch=2).batch(0)):
        for k, v in batch.items():
            np.testing.assert_array_equal(other[k], v)
    parts = [make(batch_size=12).batch(0, lo, hi) for lo, hi in ((0, 1), (1, 6), (6, 12))]  # as three processes would
    again = [make(batch_size=3).batch(i) for i in range(4)]
    for k, v in batch.items():
        np.testing.assert_array_equal(np.concatenate([p[k] for p in parts])[:6], v)
        np.testing.assert_array_equal(np.concatenate([p[k] for p in parts]), np.concatenate([p[k] for p in again]))
    for changed in (make(seed=1), make(split="test")):
        assert not (changed.batch(0)["object_position"] == batch["object_position"])[..., :2].any()
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        k: (v.shape, v.dtype) for k, v in make().element_spec.items()}
    assert batch["image"].min() >= -1 and batch["image"].max() <= 1 and batch["image"].std() > 0.1


def test_a_scene_of_its_own_is_the_one_drawn(batch):
    scene, camera = draw_scene("two_to_five", 2)
    np.testing.assert_allclose(scene.position, batch["object_position"][2], atol=1e-6)
    np.testing.assert_allclose(camera.rotation, batch["camera_rotation"][2], atol=1e-6)
    assert int(scene.label) == batch["label"][2]


def test_source_and_pipeline():
    source = open_source("builtin:scenes/two_to_five", size=SIZE, count=20, samples=1)
    direct = Scenes("two_to_five", batch_size=20, image_size=SIZE, samples=1, prefetch=0)
    rows = source.rows(np.arange(20))
    np.testing.assert_allclose(rows["image"] / 127.5 - 1, direct.batch(0)["image"], atol=1e-6)
    np.testing.assert_array_equal(source[7]["image"], rows["image"][7])
    assert source[7]["label"] == rows["label"][7] and len(source) == 20 and source.classes == direct.classes
    np.testing.assert_array_equal(source.labels[:10], source.rows(np.arange(10))["label"])
    fresh = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(fresh[19]["image"], rows["image"][19])
    assert fresh.captions(np.asarray([3])) == direct.captions(0, 3, 4)
    np.testing.assert_array_equal(open_source("builtin:scenes/two_to_five", "train[5:]", size=SIZE, count=20,
                                              samples=1).rows(np.asarray([1]))["image"][0], rows["image"][6])
    with pytest.raises(IndexError):
        source[20]

    class OneByOne:
        """The same without `rows`."""

        name, labelled, classes = "plain", True, source.classes

        def __len__(self):
            return 20

        def __getitem__(self, i):
            return source[i]

    quick, slow = (Pipeline(s, batch_size=8, image_size=SIZE, flip=True, random_crop=20, prefetch=p, seed=3)
                   for s, p in ((fresh, 2), (OneByOne(), 0)))
    for i in (0, 1, 2, 5):
        a, b, c = quick.batch(i), slow.batch(i), quick.batch(i, 2, 5)
        for k in a:
            np.testing.assert_array_equal(a[k], b[k])
            np.testing.assert_array_equal(a[k][2:5], c[k])
    assert pickle.loads(pickle.dumps(quick)).batch(1)["label"].tolist() == quick.batch(1)["label"].tolist()


# ---------------------------------------------------------------- words and errors


def test_captions():
    def one(preset, *things, label=0):
        shape, colour, material, size = (np.asarray(c) for c in zip(*things, strict=True))
        shape = np.asarray([shapes.index(s) for s in shape])
        return caption(preset, {
            "object_shape": shape, "object_present": np.asarray([True] * len(shape)),
            "object_colour": np.asarray([shapes.COLOURS.index(c) for c in colour]),
            "object_material": np.asarray([shapes.MATERIALS.index(m) for m in material]),
            "object_size": size[:, None] * shapes.ASPECT[shape]}, label)

    red, blue = ("sphere", "red", "metal", 0.17), ("box", "blue", "rubber", 0.17)
    assert one("two", red, blue) == "a red metal sphere and a blue rubber box"
    assert one("two_to_five", red, blue, red) == "a red metal sphere, a blue rubber box and a red metal sphere"
    assert one("one", ("cylinder", "gray", "rubber", 0.37)) == "a small gray rubber cylinder"
    assert one("cars", ("van", "green", "paint", 0.2)) == "a green van"
    assert one("rooms", ("bed", "blue", "rubber", 1), ("plant", "red", "rubber", 1),
               label=1) == "a bedroom with a blue bed and a plant in a red pot"


@pytest.mark.parametrize(("spec", "options", "says"), [
    ("builtin:scenes/tow", {}, "did you mean 'two'"), ("builtin:scenes", {}, "builtin:scenes/"),
    ("builtin:scenes/two", {"split": "valid"}, "split"), ("builtin:scenes/two", {"size": 3}, "size=3"),
    ("builtin:scenes/two", {"colour": 1}, "option"), ("builtin:scenes/two", {"count": -1}, "count=-1"),
    ("builtin:scenes/two", {"seed": -1}, "seed=-1"), ("builtin:scene", {}, "scenes/PRESET")])
def test_bad_sources(spec, options, says):
    with pytest.raises(UserError, match=says) as e:
        open_source(spec, **options)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(("kwargs", "says"), [
    ({"maps": ("dept",)}, "did you mean 'depth'"), ({"image_size": 5000}, "image_size=5000"),
    ({"batch_size": 0}, "batch_size=0"), ({"samples": 5}, "samples=5"), ({"value_range": (0, 255)}, "value_range"),
    ({"preset": "car"}, "did you mean 'cars'"), ({"split": "trian"}, "did you mean 'train'")])
def test_bad_batches(kwargs, says):
    with pytest.raises(UserError, match=says):
        make(**kwargs)


def test_every_preset_has_what_is_promised():
    for name in ("cars", "rooms"):
        prior = PRESETS[name]
        spec = Scenes(name, batch_size=2, image_size=8, maps=ALL).element_spec
        assert spec["depth"].shape == (2, 8, 8) and spec["object_shape"].shape == (2, prior.objects)
        assert spec["semantic"].dtype == np.uint8 and prior.about and len(prior.classes) > 1
        assert set(prior.shapes) <= set(CLASSES) and len(open_scenes(name, "test")) == 1000
    assert isinstance(PRESETS["two"], Prior) and CLASSES[:2] == ("sky", "ground")


@pytest.mark.slow
def test_views_are_single_pictures():
    scene, _ = draw_scene("two", 0)
    cameras = jax.vmap(lambda u: camera_at(u, 0.3, 40.0))(jnp.array([0.0, 0.3]))
    draw = jax.jit(lambda scene, camera: render(scene, camera, 16, ("depth",)))
    both = views(scene, cameras, 16, ("depth",))
    for k in range(2):
        one = draw(scene, jax.tree.map(lambda x, k=k: x[k], cameras))
        np.testing.assert_allclose(both["depth"][k], one["depth"], rtol=1e-5)
        assert np.abs(np.asarray(both["image"][k], int) - np.asarray(one["image"], int)).max() <= 2
    far = dataclasses.replace(scene, position=scene.position + jnp.asarray([0, 0.3, 0]))  # moved, drawn again
    assert (draw(far, jax.tree.map(lambda x: x[0], cameras))["image"] != both["image"][0]).any()


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_pictures_are_neither_dark_nor_blown_out_nor_flat(preset):
    x = Scenes(preset, batch_size=12, image_size=32, value_range=(0, 1), prefetch=0).batch(0)["image"]
    assert 0.25 < x.mean() < 0.8 and (x > 0.995).mean() < 0.03 and (x < 0.01).mean() < 0.03
    assert x.std((1, 2)).mean() > 0.04 and len({im.tobytes() for im in x}) == 12
