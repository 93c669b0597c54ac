"""What a finished Deep Image Prior hands out: pictures by name, metrics of each; and several pictures under vmap."""

import functools

import jax
import numpy as np
import pytest

from genjax.core import config as config_lib
from genjax.core import train as train_lib
from genjax.data.images import save_image
from genjax.data.restoration import RestorationSet
from genjax.dip import batching
from genjax.dip.other_networks import Pixels, ResNet
from genjax.metrics.image import psnr
from tests.dip import tiny


@pytest.fixture
def folder(tmp_path):
    """Two pictures of one stem."""
    for i, name in enumerate(("a.png", "a.bmp")):
        save_image(tmp_path / name, tiny.pictures(seed=i)["clean"][0])
    return tmp_path


def finished(data, **kwargs):
    """`(task, variables)` after three steps."""
    task = tiny.make(Pixels(), **kwargs)
    state, batch, root = tiny.begin(task, data.batch(0))
    return task, task.export(tiny.many(task, state, batch, root, 3)[0])


def test_results_are_the_outputs_by_name(folder):
    data = RestorationSet(images=str(folder), crop_multiple=4)
    task, variables = finished(data, es_window=2)
    found, kept = task.results(variables, data, jax.random.key(0)), task.outputs(variables)
    assert set(found) == {f"{n}_{k}" for n in ("a", "a-2") for k in ("result", "ema", "last", "early", "best")}
    for k, images in kept.items():
        np.testing.assert_array_equal(found[f"a_{k}"], images[0])
        np.testing.assert_array_equal(found[f"a-2_{k}"], images[1])
    assert all(x.shape == (16, 16, 3) and 0 <= x.min() <= x.max() <= 1 for x in found.values())
    assert (found["a_ema"] != found["a-2_ema"]).any()


@pytest.mark.parametrize("clean", [True, False])
def test_a_composite_keeps_what_was_observed(folder, clean):
    mask = save_image(folder.parent / "mask.png", np.random.default_rng(0).uniform(size=(16, 16)) < 0.6)
    data = RestorationSet(images=str(folder / "a.png"), problem="inpaint", mask=str(mask), clean=clean)
    task, variables = finished(data)
    found = task.results(variables, data, None)
    assert set(found) == {"result", *(f"a_{k}" for k in ("ema", "last", "composite", *(["best"] if clean else [])))}
    known = data.batch(0)["mask"][0, ..., 0] == 1
    assert 0.4 < known.mean() < 0.8
    for name in ("result", "a_composite"):
        np.testing.assert_array_equal(found[name][known], data.batch(0)["observed"][0][known])
    np.testing.assert_array_equal(found["a_composite"][~known], found["a_ema"][~known])


def test_copies_are_the_pictures(folder):
    data = RestorationSet(images=str(folder), crop_multiple=4)
    assert tiny.make().copies(data.element_spec) == 2


def test_every_picture_has_its_own_metric(folder):
    data = RestorationSet(images=str(folder), crop_multiple=4)
    task, variables = finished(data)
    found, images, clean = task.evaluate(variables, data, None), task.outputs(variables)["ema"], data.batch(0)["clean"]
    for i, name in enumerate(("a", "a-2")):
        assert found[f"psnr_ema/{name}"] == pytest.approx(psnr(images[i], clean[i]), rel=1e-6)
    assert found["psnr_ema"] == pytest.approx((found["psnr_ema/a"] + found["psnr_ema/a-2"]) / 2, rel=1e-6)
    alone = RestorationSet(images=str(folder / "a.png"), crop_multiple=4)
    assert not any("/" in k for k in task.evaluate(finished(alone)[1], alone, None))


@pytest.mark.parametrize("size", [8, 12])
def test_pictures_below_the_window_of_ssim_end_well(tmp_path, size):
    config = config_lib.smoke(config_lib.load("dip/denoise"))
    config = config_lib.override(config, ["task.network.target=genjax.dip.other_networks.Pixels", f"data.size={size}",
                                          "train.preview_every=0", "train.eval_every=0", "task.es_window=0"])
    out = train_lib.train(config, tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / "DONE").exists() and out.metrics["psnr_ema"] > 0
    assert ("ssim_ema" in out.metrics) == (size >= 11)


def test_under_vmap_a_batch_is_its_pictures_one_by_one(monkeypatch):
    """What accelerators run; the CPU, where these tests run, takes the pictures in a loop."""
    net = ResNet(blocks=0, channels=4)  # few convolutions: it is compiled twice
    task, batch = tiny.make(net, backtrack_every=2, backtrack_drop=0.0, es_window=3), tiny.pictures(n=2)
    state, device, root = tiny.begin(task, batch)

    @functools.partial(jax.jit, compiler_options=tiny.FAST)  # of its own: `tiny.many` may know the other way already
    def four(state, batch, root):
        return jax.lax.scan(lambda s, _: task.step(s, batch, jax.random.fold_in(root, s.step)), state, None, 4)

    def loops():
        made = jax.make_jaxpr(lambda x: batching.per_picture(lambda row: row * 2, (x,)))(np.ones((2, 3)))
        return str(made).count("scan")

    assert loops() == 1
    with monkeypatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: "gpu")
        assert loops() == 0
        both, rows = four(state, device, root)
    alone, rest, root = tiny.begin(task, {k: v[:1] for k, v in batch.items()})
    one, row = tiny.many(task, alone, rest, root, 4)
    np.testing.assert_allclose(rows["psnr_each"][:, 0], row["psnr"], atol=1e-3)
    for kept in (lambda e: e["ema"], lambda e: e["best"]["output"], lambda e: e["early"]["output"],
                 lambda e: e["saved"]["ema"]):
        np.testing.assert_allclose(kept(both.extra)[:1], kept(one.extra), atol=1e-4)
    assert np.abs(both.extra["ema"][0] - both.extra["ema"][1]).max() > 1e-2
