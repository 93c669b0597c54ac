"""Pipeline: batch i is a pure function of (seed, i), whoever asks, in whatever order, from however many processes."""

import pickle

import numpy as np
import pytest
from PIL import Image

from genjax.data.pipeline import Pipeline
from genjax.data.sources import ArraySource
from genjax.errors import UserError
from genjax.metrics.reals import Reals

N = 10
X = np.random.default_rng(0).integers(0, 256, (N, 12, 16, 3), np.uint8)
SOURCE = ArraySource(X, np.arange(N))


def same(a, b):
    assert a.keys() == b.keys()
    for k in a:
        np.testing.assert_array_equal(a[k], b[k])
        assert a[k].dtype == b[k].dtype


def make(**kwargs):
    return Pipeline(**{"source": SOURCE, "batch_size": 4, "image_size": 8, "flip": True, "random_crop": 10} | kwargs)


@pytest.mark.parametrize("prefetch", [0, 3])
def test_pure_in_seed_and_step(prefetch):
    forward = [make(prefetch=prefetch, seed=5).batch(i) for i in range(7)]
    other = make(prefetch=prefetch, seed=5)
    for i in (6, 0, 3, 3, 5, 1, 2, 4):  # any order, any repetition, another object
        same(other.batch(i), forward[i])
    assert (make(seed=6).batch(0)["label"] != forward[0]["label"]).any()
    far = 10**9  # a step far away costs nothing and is as determined
    same(make(seed=5).batch(far), make(seed=5, prefetch=0).batch(far))


def test_the_global_batch_does_not_depend_on_the_number_of_processes():
    whole = make(batch_size=12)
    for parts in (1, 2, 3, 4, 12):
        size = 12 // parts
        for i in range(3):
            processes = [make(batch_size=12).batch(i, k * size, (k + 1) * size) for k in range(parts)]
            same({k: np.concatenate([p[k] for p in processes]) for k in processes[0]}, whole.batch(i))


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10, 23])
def test_every_epoch_has_each_picture_once(batch_size):
    pipe = make(batch_size=batch_size)
    steps = -(-5 * N // batch_size)
    labels = np.concatenate([pipe.batch(i)["label"] for i in range(steps)])[:5 * N].reshape(5, N)
    for epoch in labels:
        assert sorted(epoch) == list(range(N))
    assert len({tuple(e) for e in labels}) == 5  # reshuffled


def test_the_middle_is_cut_first():
    """CelebA: 178 x 218, of which the authors of DCGAN for faces keep the middle 108 x 108."""
    x = np.arange(218 * 178, dtype=np.float64).reshape(1, 218, 178, 1) % 251
    source = ArraySource(x.astype(np.uint8))
    got = Pipeline(source, batch_size=1, center_crop=108, value_range=(0, 1)).batch(0)["image"][0] * 255
    np.testing.assert_allclose(got, x[0, 55:163, 35:143], atol=1e-4)
    both = Pipeline(source, batch_size=1, center_crop=108, random_crop=100, image_size=64)
    assert both.batch(0)["image"].shape == (1, 64, 64, 1)
    with pytest.raises(UserError, match="218x178"):
        Pipeline(source, batch_size=1, center_crop=200, prefetch=0).batch(0)


def test_without_shuffle_the_order_is_the_sources():
    pipe = make(batch_size=4, shuffle=False)
    labels = np.concatenate([pipe.batch(i)["label"] for i in range(5)])
    np.testing.assert_array_equal(labels, np.tile(np.arange(N), 2))


def test_values_and_spec():
    pipe = make(image_size=0, flip=False, random_crop=0, shuffle=False)
    batch = pipe.batch(0)
    np.testing.assert_allclose(batch["image"], X[:4] / 127.5 - 1, atol=1e-6)
    assert batch["image"].min() >= -1 and batch["image"].max() <= 1
    spec = pipe.element_spec
    assert {k: (v.shape, v.dtype) for k, v in spec.items()} == {k: (v.shape, v.dtype) for k, v in batch.items()}
    unit = make(image_size=0, flip=False, random_crop=0, shuffle=False, value_range=(0, 1), labels=False).batch(0)
    np.testing.assert_allclose(unit["image"], X[:4] / 255.0, atol=1e-6)
    assert "label" not in unit and len(pipe) == N and not pipe.constant
    floats = ArraySource((X / 255.0).astype(np.float32))
    got = make(source=floats, image_size=0, flip=False, random_crop=0, shuffle=False, value_range=(0, 1)).batch(0)
    np.testing.assert_allclose(got["image"], unit["image"], atol=1e-6)
    ends = ArraySource(np.array([0, 255], np.uint8).reshape(1, 1, 2, 1))  # black and white are exact
    assert list(Pipeline(ends, batch_size=1).batch(0)["image"].ravel()) == [-1, 1]


def test_flip_is_a_fair_coin_per_row_and_epoch():
    pipe = Pipeline(ArraySource(X), batch_size=400, image_size=0, flip=True, shuffle=False, value_range=(0, 1))
    got = pipe.batch(0)["image"]
    plain = np.tile(X, (40, 1, 1, 1)).astype(np.float32) / np.float32(255)
    flipped = np.array([np.allclose(g, p[:, ::-1], atol=1e-6) for g, p in zip(got, plain, strict=True)])
    straight = np.array([np.allclose(g, p, atol=1e-6) for g, p in zip(got, plain, strict=True)])
    assert (flipped ^ straight).all() and 150 < flipped.sum() < 250
    assert 0 < flipped[::N].sum() < 40  # the same picture is flipped in some epochs only


def test_random_crop_is_a_window_of_the_picture():
    pipe = Pipeline(ArraySource(X), batch_size=60, random_crop=9, shuffle=False, value_range=(0, 1))
    places = set()
    for k, got in enumerate(pipe.batch(0)["image"]):
        windows = [(t, l) for t in range(4) for l in range(8)
                   if np.allclose(got, X[k % N, t:t + 9, l:l + 9] / 255.0, atol=1e-6)]
        assert len(windows) == 1
        places |= set(windows)
    assert {t for t, _ in places} == set(range(4)) and {l for _, l in places} == set(range(8))


def test_image_size_crops_the_centre_square_and_keeps_means():
    pipe = make(image_size=6, flip=False, random_crop=0, shuffle=False, value_range=(0, 1))
    want = np.asarray(Image.fromarray(X[0][:, 2:14]).resize((6, 6), Image.Resampling.LANCZOS)) / 255.0
    np.testing.assert_allclose(pipe.batch(0)["image"][0], want, atol=1e-6)
    assert make(channels=1).batch(0)["image"].shape == (4, 8, 8, 1)


def test_squashed_pictures_keep_all_of_the_picture():
    """GIRAFFE's cats, chairs, churches: the sides are resampled each by its own factor."""
    pipe = make(image_size=6, flip=False, random_crop=0, shuffle=False, value_range=(0, 1), fit="squash",
                resample="bilinear")
    want = np.asarray(Image.fromarray(X[0]).resize((6, 6), Image.Resampling.BILINEAR)) / 255.0
    np.testing.assert_allclose(pipe.batch(0)["image"][0], want, atol=1e-6)
    reals = Reals.of_pipeline(pipe)
    np.testing.assert_array_equal(next(reals.batches())[0], np.round(want * 255))
    assert reals.name.endswith("6 pixels by bilinear squashed")


@pytest.mark.parametrize("upright", [False, True])
def test_the_shorter_side_is_resampled_and_a_square_cut_at_random(tmp_path, upright):
    """GIRAFFE's CompCars, from files: 12 x 16 becomes 6 x 8, of which a 6 x 6 is taken; nothing is cut before."""
    x = X.swapaxes(1, 2) if upright else X
    for k in range(3):
        Image.fromarray(x[k]).save(tmp_path / f"{k}.png")
    pipe = Pipeline(f"folder:{tmp_path}", batch_size=60, image_size=6, shuffle=False, value_range=(0, 1), fit="random",
                    resample="bilinear")
    resized = [np.asarray(Image.fromarray(v).resize((6, 8) if upright else (8, 6), Image.Resampling.BILINEAR)) / 255.0
               for v in x[:3]]
    places = []
    for k, got in enumerate(pipe.batch(0)["image"]):
        of = resized[k % 3]
        places.append([i for i in range(3) if np.allclose(got, of[i:i + 6] if upright else of[:, i:i + 6], atol=1e-6)])
    assert all(len(p) == 1 for p in places) and {p[0] for p in places} == {0, 1, 2}
    same(pipe.batch(0), make(source=f"folder:{tmp_path}", batch_size=60, image_size=6, shuffle=False, random_crop=0,
                             value_range=(0, 1), fit="random", resample="bilinear", flip=False, prefetch=0).batch(0))
    middle = Image.fromarray(x[0][2:14] if upright else x[0][:, 2:14]).resize((6, 6), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(next(Reals.of_pipeline(pipe).batches())[0], middle)  # metrics see the middle


def test_picklable_with_threads_running():
    pipe = make()
    want = pipe.batch(2)
    same(pickle.loads(pickle.dumps(pipe)).batch(2), want)


def test_sources_by_spec(tmp_path):
    assert Pipeline().batch(0)["image"].shape == (64, 8, 8, 1)
    photos = Pipeline("builtin:photos", batch_size=5, image_size=16, channels=1)
    assert photos.batch(0)["image"].shape == (5, 16, 16, 1)
    assert Pipeline("builtin:textures", batch_size=2, crops=64).batch(0)["image"].shape == (2, 64, 64, 1)
    for k in range(3):
        Image.fromarray(X[k]).save(tmp_path / f"{k}.png")
    folder = Pipeline(f"folder:{tmp_path}", batch_size=2, shuffle=False, value_range=(0, 1))
    np.testing.assert_allclose(folder.batch(1)["image"], X[[2, 0]] / 255.0, atol=1e-6)


def test_a_broken_picture_is_reported_by_the_batch_that_holds_it(tmp_path):
    for k in range(4):
        Image.fromarray(X[k]).save(tmp_path / f"{k}.png")
    (tmp_path / "2.png").write_bytes(b"broken")
    pipe = Pipeline(f"folder:{tmp_path}", batch_size=2, shuffle=False, prefetch=2)
    pipe.batch(0)
    for _ in range(2):
        with pytest.raises(UserError, match="2.png"):
            pipe.batch(1)


@pytest.mark.parametrize("kwargs, part", [
    (dict(batch_size=0), "batch_size=0"), (dict(image_size=-8), "image_size"), (dict(prefetch=-1), "prefetch"),
    (dict(seed=-1), "seed"), (dict(seed=2**32), "seed"), (dict(value_range=(0, 255)), "value_range"),
    (dict(channels=2), "channels"), (dict(fit="squish"), "squash"), (dict(fit="random"), "no random_crop"),
    (dict(fit="random", random_crop=0, image_size=0), "give image_size"),
    (dict(source="builtin:digits", crops=4), "random_crop"),
    (dict(source="builtin:digits", data_dir="x"), "tfds"), (dict(source="builtin:digit"), "digits"),
    (dict(source="builtin:digits", split="val"), "split")])
def test_bad_settings(kwargs, part):
    with pytest.raises(UserError, match=part) as info:
        make(**kwargs)
    assert "\n" not in str(info.value)


def test_bad_batches():
    mixed = ArraySource((X[0], X[1][:6]))
    with pytest.raises(UserError, match="image_size"):
        make(source=mixed, image_size=0, random_crop=0).batch(0)
    with pytest.raises(UserError, match="random_crop=13"):
        make(random_crop=13).batch(0)
    for bad in ((-1,), (0, 2, 2), (0, 0, 5)):
        with pytest.raises(ValueError, match="batch"):
            make().batch(*bad)


def test_pictures_that_are_not_finite_are_named(tmp_path):
    """Whatever source they come from: by number, and by file where there are files."""
    x = np.zeros((3, 4, 4, 1), np.float32)
    x[2, 0, 0] = np.inf
    np.savez(tmp_path / "a.npz", images=x)
    with pytest.raises(UserError, match=r"a.npz:images holds .* in 1 of 3 pictures, first in picture 2"):
        Pipeline(f"npz:{tmp_path / 'a.npz'}")
    source = ArraySource(x, name="mine")

    class Together:
        """A source that gives several at once."""

        name, labelled, classes, paths = "mine", False, (), [tmp_path / i for i in "abc"]

        def __len__(self):
            return 3

        def rows(self, at):
            return {"image": x[at]}

        def __getitem__(self, i):
            return {"image": x[i]}

    for of, says in ((source, "picture 2 of mine holds NaN"), (Together(), "picture 2 of mine .*/c. holds NaN")):
        data = Pipeline(of, batch_size=3, prefetch=0)
        with pytest.raises(UserError, match=says):
            data.batch(0)
