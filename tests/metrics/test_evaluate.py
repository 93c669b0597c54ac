"""One call for all metrics: names, recipes, the cache of real statistics, independence of the batch size."""

import dataclasses
import logging
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.images import save_image
from genjax.data.pipeline import Pipeline
from genjax.data.sources import ArraySource
from genjax.errors import UserError
from genjax.metrics.evaluate import NEEDS, Settings, evaluate, real_statistics
from genjax.metrics.frechet import frechet_distance, sifid
from genjax.metrics.reals import Reals
from genjax.metrics.statistics import collect, generate, to_uint8
from tests.metrics.tiny_network import Tiny, draw

KEY = jax.random.key(1)
SETTINGS = Settings(subsets=5, subset_size=40, splits=2, bins=6)
NAMES = tuple(n for n in NEEDS if n not in ("ms_ssim", "sifid"))  # images of 8 x 8 have not five scales


@pytest.fixture(scope="module")
def reals():
    images = np.concatenate(list(generate(draw, jax.random.key(99), 60, 60)))
    return Reals(ArraySource(images, name="folder:/somewhere/drawn"), "train")


def measured(reals, cache, names=NAMES, network=None, n=50, batch=16, **more):
    return evaluate(names, network or Tiny(), reals, draw, KEY, n, batch, settings=SETTINGS, cache=cache, **more)


def test_all_metrics_in_one_pass(reals, tmp_path):
    net = Tiny()
    found = measured(reals, tmp_path, network=net)
    assert list(found) == ["fd_tiny", "kd_x1000_tiny", "cs_tiny", "precision_tiny", "recall_tiny", "density_tiny",
                           "coverage_tiny", "ndb_tiny"]
    assert len(net.calls) == 4 + 4  # 60 reals, 50 samples, 16 at a time: once for all metrics
    assert all(np.isfinite(float(v)) for v in found.values()) and found["kd_x1000_tiny"].std > 0
    assert found["precision_tiny"].value > 0.7 and found["recall_tiny"].value > 0.7  # the same distribution
    recipe = found["fd_tiny"].recipe
    assert (recipe.n_real, recipe.n_fake, recipe.dtype) == (60, 50, "float32")
    assert recipe.reals.startswith("folder:drawn train #") and "somewhere" not in recipe.json()
    assert dict(found["kd_x1000_tiny"].recipe.parameters) == {"subsets": 5, "subset_size": 40}
    assert found["cs_tiny"].recipe.n_real == 0
    sides = (collect(net, x, m).moments for x, m in ((reals.batches(), 60), (generate(draw, KEY, 50), 50)))
    by_hand = frechet_distance(*sides)
    assert float(found["fd_tiny"]) == pytest.approx(by_hand, rel=1e-5)

    again = measured(reals, tmp_path, batch=50)  # other batches, reals from the file
    assert {k: v.recipe.id for k, v in again.items()} == {k: v.recipe.id for k, v in found.items()}
    for k, v in found.items():
        assert float(again[k]) == pytest.approx(float(v), rel=1e-4, abs=1e-4), k
    worse = measured(reals, tmp_path, ("frechet", "recall"), args=(jnp.float32(0.1),))
    assert worse["fd_tiny"] > found["fd_tiny"] and worse["recall_tiny"] < found["recall_tiny"]
    fewer = measured(reals, tmp_path, ("frechet",), n=40)
    with pytest.raises(UserError, match="n_fake: 50 / 40"):
        assert found["fd_tiny"] < fewer["fd_tiny"]


def test_reals_are_measured_once(reals, tmp_path, caplog):
    net = Tiny()
    with caplog.at_level(logging.INFO, "genjax"):
        first = real_statistics(net, reals, 60, cache=tmp_path)
        calls = len(net.calls)
        again = real_statistics(net, reals, 60, cache=tmp_path)
    assert len(net.calls) == calls == 1 and len(caplog.records) == 1
    np.testing.assert_array_equal(first.moments.covariance, again.moments.covariance)
    assert real_statistics(net, reals, 60, ("features",), tmp_path).features.shape == (60, 12)  # measured again
    assert len(net.calls) == 2 and len(list(tmp_path.iterdir())) == 1
    for other in (dataclasses.replace(net, weights_id="11"), dataclasses.replace(net, resize="clean")):
        real_statistics(other, reals, 60, cache=tmp_path)
    changed = ArraySource(255 - reals.source.images, name=reals.source.name)
    assert real_statistics(net, Reals(changed), 60, cache=tmp_path).pixels != first.pixels
    assert len(list(tmp_path.iterdir())) == 4


def test_published_names_need_the_published_network(reals, tmp_path):
    for name, generic in (("fid", "frechet"), ("kid", "kernel"), ("is", "inception_score")):
        with pytest.raises(UserError, match=f"'{name}' is a name for InceptionV3.*not for tiny.*ask for '{generic}'"):
            measured(reals, tmp_path, (name,))
    inception = Tiny(name="inception", weights_id="6726825d" + "0" * 56, resize="legacy")
    assert list(measured(reals, tmp_path, ("fid", "kid", "is", "frechet"), inception)) == ["fid", "kid_x1000", "is"]
    untrained = Tiny(name="inception", weights_id="random")
    assert list(measured(reals, tmp_path, ("frechet",), untrained)) == ["fd_inception"]


def test_refusals(reals, tmp_path):
    with pytest.raises(UserError, match="did you mean 'frechet'"):
        measured(reals, tmp_path, ("frechett",))
    with pytest.raises(UserError, match="too few for a covariance of 64"):
        measured(reals, tmp_path, ("frechet",), Tiny(d=64))
    with pytest.raises(UserError, match="give `reals`"):
        measured(None, tmp_path, ("frechet",))
    with pytest.raises(UserError, match="n_real=61 of folder:/somewhere/drawn, which has 60"):
        Reals(reals.source, n=61)
    assert measured(None, tmp_path, ()) == {}
    few = evaluate(("frechet",), Tiny(d=64), reals, draw, KEY, 50, cache=tmp_path, settings=Settings(allow_few=True))
    assert dict(few["fd_tiny"].recipe.parameters) == {"allow_few": True}


def large(keys):
    return jnp.tile(draw(keys), (1, 3, 3, 1))


def test_diversity_needs_no_network_numbers(tmp_path):
    settings = Settings(ssim_images=6, ssim_pairs=8)
    found = evaluate(("ms_ssim",), Tiny(), None, large, KEY, 9, 4, settings=settings, cache=tmp_path)
    value = found["ms_ssim"]
    assert 0 < float(value) < 1 and value.recipe.n_fake == 6 and value.recipe.network == ""
    assert dict(value.recipe.parameters)["resolution"] == "24x24x1" and "of the generator alone" in str(value.recipe)


class Mapped(Tiny):
    """With a feature map of the layer that SIFID takes: brightness and its square at each pixel."""

    layers = ("conv3",)

    def __call__(self, images, layers=()):
        x = images.astype(jnp.float32)[..., :1] / 255
        return {"conv3": jnp.concatenate([x, x**2], -1)}


class Crowded(Mapped):
    """With more maps than places."""

    def __call__(self, images, layers=()):
        x = super().__call__(images)["conv3"]
        return {"conv3": jnp.concatenate([x**k for k in range(1, 36)], -1)}


def test_sifid_is_the_mean_over_samples_of_one_picture(tmp_path):
    images = np.concatenate(list(generate(draw, KEY, 6, 6)))
    one = Reals(ArraySource(images[3:4], name="npz:one"), "train")
    found = evaluate(("sifid",), Mapped(), one, draw, KEY, 6, 4, settings=Settings(sifid_images=5), cache=tmp_path)
    value = found["sifid_tiny"]
    maps = np.asarray(Mapped()(images)["conv3"], np.float64)
    each = sifid(maps[[3] * 5], maps[:5])
    assert float(value) == pytest.approx(each.mean()) and each[3] == pytest.approx(0, abs=1e-9)
    assert (value.recipe.n_real, value.recipe.n_fake) == (1, 5) and dict(value.recipe.parameters)["layer"] == "conv3"
    assert "allow_few" not in dict(value.recipe.parameters)
    few = evaluate(("sifid",), Crowded(), one, draw, KEY, 2, 4, settings=Settings(allow_few=True), cache=tmp_path)
    assert dict(few["sifid_tiny"].recipe.parameters)["allow_few"] is True
    two = Reals(ArraySource(images[:2], name="npz:two"), "train")
    for reals, network in ((two, Mapped()), (one, Tiny())):
        with pytest.raises(UserError, match="one picture they learned"):
            evaluate(("sifid",), network, reals, draw, KEY, 6, 4, cache=tmp_path)


def test_reals_of_a_pipeline_are_the_plain_images():
    images = np.random.default_rng(0).integers(0, 256, (20, 12, 10, 1), dtype=np.uint8)
    source = ArraySource(images, name="npz:/a/b.npz")
    pipeline = Pipeline(source, batch_size=4, random_crop=8, flip=True, channels=3, prefetch=0)
    found = np.concatenate(list(Reals.of_pipeline(pipeline).batches(7)))
    np.testing.assert_array_equal(found, np.repeat(images[:, 2:10, 1:9], 3, -1))
    whole = Pipeline(source, batch_size=20, shuffle=False, prefetch=0)
    np.testing.assert_array_equal(to_uint8(whole.batch(0)["image"]), images)
    part = Reals.of_pipeline(Pipeline(source, split="test", prefetch=0), n=7)
    assert list(part.indices()) == sorted(set(part.indices())) != list(range(7)) and len(part.indices()) == 7
    assert part.name == "npz:b.npz test" and Reals(source, image_size=8).name == "npz:b.npz train, 8 pixels"
    assert next(Reals(source, image_size=8).batches()).shape == (20, 8, 8, 1)
    assert part.probe() == Reals(source, n=7).probe() != Reals(source, n=8).probe()


class Biased(Tiny):
    """With a classifier's bias that is not to count."""

    layers = ("logits_unbiased",)

    def __call__(self, images):
        found = super().__call__(images)
        return {**found, "logits": found["logits"] + jnp.arange(4.0) * 9, "logits_unbiased": found["logits"]}


class BiasedAlone(Biased):
    layers = ()


def test_the_inception_score_is_of_logits_without_bias(tmp_path):
    """openai/improved-gan multiplies pool_3 by the weights alone; so do NVlabs' and torch-fidelity's."""
    plain, biased = (measured(None, tmp_path, ("inception_score",), n)["cs_tiny"] for n in (Tiny(), Biased()))
    assert float(biased) == pytest.approx(float(plain), rel=1e-7) and float(plain) > 1.0001
    with_bias = float(measured(None, tmp_path, ("inception_score",), BiasedAlone())["cs_tiny"])
    assert with_bias < 1.00001, "the bias would have been seen"
    assert dict(biased.recipe.parameters) == {"logits": "without bias", "resolution": "8x8x1", "splits": 2}
    with pytest.raises(UserError, match="logits: with bias / without bias"):
        plain - biased


def test_any_changed_picture_is_measured_anew(reals, tmp_path):
    """Sixteen pictures are probed, one between them is changed."""
    images = reals.source.images.copy()
    images[1, 0, 0] ^= 1
    changed = Reals(ArraySource(images, name=reals.source.name), "train")
    assert changed.probe() == reals.probe() and changed.identity() != reals.identity()
    found = [real_statistics(Tiny(), r, 60, cache=tmp_path).pixels for r in (reals, changed)]
    assert found[0] != found[1]


def test_reals_of_files_and_of_another_split(tmp_path):
    folder = tmp_path / "somewhere" / "faces"
    for split, count in (("train", 30), ("test", 3)):
        for i in range(count):
            save_image(folder / split / f"{i:02}.png", np.random.default_rng(i).random((8, 8, 3)))
    spec = f"folder:{folder}"
    of = {split: Pipeline(spec, split=split, image_size=4, prefetch=0) for split in ("train", "test", "train[:5]")}
    names = {k: Reals.of_pipeline(p).name for k, p in of.items()}
    assert names == {"train": "folder:faces train, 4 pixels", "test": "folder:faces test, 4 pixels",
                     "train[:5]": "folder:faces train[:5], 4 pixels"}
    whole = Reals.of_pipeline(of["train[:5]"], 0, "train")
    assert whole.n == 30 and whole.name == names["train"] and whole.identity() == Reals.of_pipeline(
        of["train"]).identity() != Reals.of_pipeline(of["train[:5]"]).identity()
    with pytest.raises(UserError, match="given as arrays.*folder:PATH"):
        Reals.of_pipeline(Pipeline(whole.source, prefetch=0), 0, "test")
    before = whole.identity()
    os.utime(folder / "train" / "03.png", (1, 1))  # its pixels are as they were
    assert whole.identity() != before


def test_resampling_is_the_pipelines(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    source, found = ArraySource(x, name="npz:/a/b.npz"), {}
    for how in ("box", "lanczos"):
        pipeline = Pipeline(source, batch_size=3, image_size=4, shuffle=False, prefetch=0, resample=how)
        reals = Reals.of_pipeline(pipeline)
        found[how] = next(reals.batches())
        np.testing.assert_array_equal(to_uint8(pipeline.batch(0)["image"]), found[how])
        assert reals.name == "npz:b.npz train, 4 pixels" + (" by box" if how == "box" else "")
    means = x.reshape(3, 4, 2, 4, 2, 3).mean((2, 4))
    assert np.abs(found["box"] - means).max() <= 1 < np.abs(found["lanczos"] - means).max()
    with pytest.raises(UserError, match="did you mean 'box'"):
        Pipeline(source, resample="boxx")
