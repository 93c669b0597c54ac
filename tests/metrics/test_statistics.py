"""Images, features and sums: the same bits however the work is cut."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.metrics.recipe import Recipe
from genjax.metrics.statistics import (
    BLOCK,
    Moments,
    cache_folder,
    collect,
    generate,
    load_statistics,
    save_statistics,
    to_uint8,
)
from tests.metrics.tiny_network import Tiny, draw, ruined

KEY = jax.random.key(7)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (70, 8, 8, 3), dtype=np.uint8)
RECIPE = Recipe(metric="statistics", network="tiny", n_real=70, reals="random")


@pytest.mark.parametrize("asarray", [np.asarray, jax.numpy.asarray])
def test_every_level_survives_and_halves_round_up(asarray):
    levels = np.arange(256, dtype=np.uint8)
    for low in (0, -1):
        x = asarray(levels.astype(np.float32) / np.float32(255 / (1 - low)) + np.float32(low))
        np.testing.assert_array_equal(to_uint8(x, (low, 1)), levels)
    halves = asarray(np.float32([-9, -1, -254.01 / 255, 0.0, 1, 9]))
    np.testing.assert_array_equal(to_uint8(halves), [0, 0, 0, 128, 255, 255])
    np.testing.assert_array_equal(to_uint8(asarray(np.float32([0.25, 0.5])), (0, 1)), [64, 128])
    with pytest.raises(UserError, match=r"\(-1, 1\) or \(0, 1\)"):
        to_uint8(asarray(np.zeros(3, np.float32)), (0, 255))


def test_moments_are_those_of_numpy_far_from_the_origin():
    x = RNG.normal(size=(2 * BLOCK + 37, 5)) @ RNG.normal(size=(5, 5)) + 1e5
    found = Moments.of(x)
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(x, rowvar=False), rtol=1e-9)
    left, right = Moments.of(x[:700]), Moments.of(x[700:])
    left.merge(right)
    np.testing.assert_allclose(left.covariance, found.covariance, rtol=1e-9)
    assert left.n == found.n == len(x)


def test_moments_do_not_depend_on_the_cut():
    x = RNG.normal(size=(BLOCK + 300, 4)).astype(np.float32)
    cut = Moments()
    for part in np.split(x, [1, 90, 1000, 1100]):
        cut.add(part)
    np.testing.assert_array_equal(cut.scatter, Moments.of(x).scatter)
    np.testing.assert_array_equal(cut.mean, Moments.of(x).mean)
    with pytest.raises(UserError, match="at least 2 images"):
        Moments.of(x[:1]).covariance  # noqa: B018


def test_features_do_not_depend_on_batches():
    net = Tiny()
    whole = collect(net, [IMAGES], 67, 67, keep=("features", "logits"))
    assert whole.features.shape == (67, 12) and whole.logits.shape == (67, 4) and whole.features.dtype == np.float32
    again = collect(net, np.array_split(IMAGES, 9), 67, 67, keep=("features",))
    np.testing.assert_array_equal(again.features, whole.features)
    net.calls.clear()
    other = collect(net, np.array_split(IMAGES, 4), 67, 16, keep=("features",))
    assert set(net.calls) == {(16, 8, 8, 3)}  # one program, the last batch padded
    np.testing.assert_allclose(other.features, whole.features, rtol=1e-6, atol=1e-6 * whole.features.max())
    np.testing.assert_allclose(other.moments.covariance, whole.moments.covariance, rtol=1e-5, atol=1e-5)
    assert other.n == 67 and other.pixels == whole.pixels == again.pixels
    assert collect(net, [IMAGES[::-1]], 67, 16).pixels != whole.pixels
    np.testing.assert_allclose(whole.moments.covariance, np.cov(whole.features, rowvar=False), rtol=1e-5, atol=1e-8)


def test_collect_refuses_what_it_cannot_measure():
    with pytest.raises(UserError, match="only 70 images, 71 were asked for"):
        collect(Tiny(), [IMAGES], 71)
    with pytest.raises(UserError, match="uint8 images"):
        collect(Tiny(), [IMAGES / 255], 7)
    with pytest.raises(UserError, match="bring them to one size"):
        collect(Tiny(), [IMAGES[:4], IMAGES[:4, :4]], 7)
    with pytest.raises(UserError, match="tiny gives no logits"):
        collect(Tiny(classifies=False), [IMAGES], 7, keep=("logits",))
    with pytest.raises(UserError, match="at least 1 image"):
        collect(Tiny(), [IMAGES], 0)


def test_sample_i_is_a_function_of_key_and_i():
    whole = np.concatenate(list(generate(draw, KEY, 20, 20)))
    parts = list(generate(draw, KEY, 11, 4))
    assert [len(p) for p in parts] == [4, 4, 3] and whole.dtype == np.uint8
    np.testing.assert_array_equal(np.concatenate(parts), whole[:11])
    alone = to_uint8(draw(jax.random.fold_in(KEY, 5)[None]))
    np.testing.assert_array_equal(alone[0], whole[5])
    assert len({x.tobytes() for x in whole}) == 20
    assert not np.array_equal(np.concatenate(list(generate(draw, jax.random.key(8), 11, 4))), whole[:11])


def test_generate_names_the_sample_that_is_not_finite():
    bits = [int(jax.random.bits(jax.random.fold_in(KEY, i))) for i in range(40)]
    first = next(i for i, b in enumerate(bits) if b % 5 == 0)
    with pytest.raises(UserError, match=f"sample {first} is not finite"):
        list(generate(ruined, KEY, 40, 8))
    with pytest.raises(UserError, match=r"must be \[2,H,W,C\]"):
        list(generate(lambda keys: draw(keys)[0], KEY, 2, 2))


def test_statistics_on_disk(tmp_path):
    found = collect(Tiny(), [IMAGES], 70, keep=("features",))
    path = save_statistics(tmp_path / "a" / "reals.npz", found, RECIPE)
    back, recipe = load_statistics(path, RECIPE)
    assert recipe == RECIPE and back.pixels == found.pixels and back.n == 70 and back.logits is None
    np.testing.assert_array_equal(back.moments.covariance, found.moments.covariance)
    np.testing.assert_array_equal(back.features, found.features)
    assert [p.name for p in path.parent.iterdir()] == ["reals.npz"]
    with pytest.raises(UserError, match="another recipe: resize: clean / none"):
        load_statistics(path, dataclasses.replace(RECIPE, resize="clean"))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="delete it and measure"):
        load_statistics(path)
    with pytest.raises(UserError, match="no statistics at"):
        load_statistics(tmp_path / "none.npz")


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("GENJAX_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "metrics"


FOUR = """
import json, sys, jax
from genjax.metrics.precision_recall import manifold_metrics
from genjax.metrics.statistics import collect, generate
from tests.metrics.tiny_network import Tiny, draw
samples = [x for x in generate(draw, jax.random.key(7), 37, 4)]
found = collect(Tiny(), samples, 37, 4, keep=("features",))
print(json.dumps([len(jax.devices()), [len(s) for s in samples], found.pixels, found.moments.covariance.tolist(),
                  manifold_metrics(found.features[:20], found.features[20:], 3, 4)]))
"""


def test_four_devices_measure_what_one_does(root):
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", FOUR], cwd=root, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    devices, sizes, pixels, covariance, manifold = json.loads(done.stdout.splitlines()[-1])
    assert devices == 4 and sizes == [16, 16, 5]
    here = collect(Tiny(), generate(draw, KEY, 37, 4), 37, 4, keep=("features",))
    assert pixels == here.pixels
    np.testing.assert_allclose(covariance, here.moments.covariance, rtol=1e-5, atol=1e-5)
    from genjax.metrics.precision_recall import manifold_metrics
    assert manifold == manifold_metrics(here.features[:20], here.features[20:], 3)
