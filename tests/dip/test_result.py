"""The picture a finished fit hands out: chosen without the truth, never behind the others in what can be known."""

import numpy as np
import pytest

from genjax.data.images import save_image
from genjax.data.restoration import RestorationSet
from genjax.dip import forward, result
from genjax.dip.other_networks import Pixels
from genjax.metrics.image import psnr
from tests.dip import tiny

RNG = np.random.default_rng(0)
TRUTH = tiny.pictures(size=32)["clean"][0]
WHOLE = np.ones((32, 32, 1), np.float32)
TEXT = (RNG.uniform(size=(32, 32, 1)) < 0.7).astype(np.float32)


def near(off, seed=1):
    """The truth, off by so much."""
    return np.clip(TRUTH + off * np.random.default_rng(seed).normal(size=TRUTH.shape), 0, 1).astype(np.float32)


@pytest.mark.parametrize(("behind", "ahead"), [(0.2, 0.02), (0.02, 0.2), (0.1, 0.1)])
@pytest.mark.parametrize("problem", ["inpaint", "super_resolution"])
def test_where_nothing_is_noisy_it_explains_the_observation_best(problem, behind, ahead):
    average, last = near(behind), near(ahead, 2)
    factor, mask = (4, WHOLE) if problem == "super_resolution" else (1, TEXT)
    seen = lambda x: np.asarray(forward.observe(x, factor)) if factor > 1 else x * mask  # noqa: E731
    observed = seen(TRUTH)
    got, text = result.choose(average, last, observed, mask, factor=factor)
    shares = np.linspace(0, 1, 101, dtype=np.float32)
    misses = {a: np.mean((seen(average + a * (last - average)) - observed) ** 2) for a in shares}
    share = min(misses, key=misses.get)
    want = np.where(mask > 0, TRUTH, average + share * (last - average)) if factor == 1 else (
        average + share * (last - average))
    np.testing.assert_allclose(got, want, atol=0.02)
    assert (f"{share:.0%} of the last" in text) or share in (0, 1) or abs(misses[share] - min(misses.values())) < 1e-6
    if factor == 1:
        composites = [psnr(np.where(mask > 0, observed, x), TRUTH) for x in (average, last)]
        assert psnr(got, TRUTH) > max(composites) - 0.3 and "known pixels as observed" in text


def test_the_inside_of_a_deep_hole_is_the_averages():
    mask = WHOLE.copy()
    mask[8:20, 8:20] = 0
    average, last = near(0.1), near(0.01, 2)
    got, text = result.choose(average, last, TRUTH * mask, mask)
    np.testing.assert_array_equal(got, np.where(mask > 0, TRUTH, average))
    assert "last" not in text


@pytest.mark.parametrize(("off", "share"), [(0.3, 0.5), (0.0, 0.0)])
def test_noise_that_the_last_output_has_learned_is_left_out(off, share):
    noisy = np.clip(TRUTH + 0.1 * RNG.normal(size=TRUTH.shape), 0, 1).astype(np.float32)
    average, last = near(0.4), np.clip(noisy + off * RNG.normal(size=TRUTH.shape), 0, 1).astype(np.float32)
    got, text = result.choose(average, last, noisy, WHOLE)
    np.testing.assert_allclose(got, average + share * (last - average), atol=1e-6)
    assert ("50% of the last" in text) == (share > 0)
    early = near(0.05, 3)
    assert result.choose(average, last, noisy, WHOLE, early=early)[0] is early


def test_an_average_that_is_nearer_than_the_last_output_is_not_mixed_with_half_of_it():
    noisy = np.clip(TRUTH + 0.05 * RNG.normal(size=TRUTH.shape), 0, 1).astype(np.float32)
    average, last = near(0.1), near(0.4, 2)
    got, _ = result.choose(average, last, noisy, WHOLE)
    assert np.mean((got - noisy) ** 2) <= np.mean((average - noisy) ** 2)
    assert psnr(got, TRUTH) > psnr(0.5 * average + 0.5 * last, TRUTH)


def test_in_a_short_run_the_average_is_not_the_blurriest():
    """Outputs that come nearer with every step, as in the first hundreds of a fit."""
    batch = tiny.pictures()

    def average(**kwargs):
        task = tiny.make(Pixels(), **kwargs)
        state, device, root = tiny.begin(task, batch)
        state, rows = tiny.many(task, state, device, root, 40)
        return psnr(np.asarray(state.extra["ema"][0]), batch["clean"][0]), float(rows["psnr"][-1])

    plain, last = average(ema_warmup=0)
    warmed, _ = average(ema_warmup=10)
    assert warmed > plain + 2 and warmed > last - 1.5


def test_a_run_says_which_picture_to_take(tmp_path):
    from genjax.core import config as config_lib
    from genjax.core import report
    from genjax.core import train as train_lib
    from genjax.core.run import RunFolder

    for i in (0, 1):
        save_image(tmp_path / f"p{i}.png", tiny.pictures(seed=i)["clean"][0])
    config = config_lib.override(config_lib.smoke(config_lib.load("dip/denoise:size=16")), [
        f"image={tmp_path / 'p0.png'}", "task.network.target=genjax.dip.other_networks.Pixels", "task.es_window=0",
        "train.preview_every=0"])
    folder = RunFolder(tmp_path / "run")
    out = train_lib.train(config, folder.path, quiet=True)
    assert [p.name for p in folder.results()] == ["result.png"] and out.metrics["psnr_result"] > 0
    log, page = (folder.path / "log.txt").read_text(), report.write(folder.path).read_text()
    for text in (log, page):
        assert "result.png, chosen without knowing the truth: the average over outputs" in text
        assert f"it has {out.metrics['psnr_result']:.2f} dB" in text
    assert page.index("result.png</figcaption>") < page.index("p0_best.png")
    two = config_lib.override(config, [f"image={tmp_path / 'p0.png'},{tmp_path / 'p1.png'}"])
    train_lib.train(two, tmp_path / "two", quiet=True)
    assert [p.name for p in RunFolder(tmp_path / "two").results()] == ["p0_result.png", "p1_result.png"]


def test_without_truth_no_dB_is_claimed(tmp_path):
    picture = save_image(tmp_path / "p.png", tiny.pictures()["observed"][0])
    data = RestorationSet(images=str(picture), clean=False)
    task = tiny.make(Pixels())
    state, batch, root = tiny.begin(task, data.batch(0))
    variables = task.export(tiny.many(task, state, batch, root, 3)[0])
    (line,) = task.remarks(variables, data)
    assert line.startswith("result.png, chosen") and "dB" not in line


def test_runs_from_before_go_on_as_they_were():
    """Their config.json holds no key for what was added, and none of it may change what they compute."""
    from ml_collections import ConfigDict

    from genjax.core import config as config_lib

    saved = ConfigDict(config_lib.load("dip/inpaint_text:small").to_dict())
    for node, keys in {"task": ("ema_warmup",), "data": ("mask_threshold", "mask_dilate")}.items():
        for key in keys:
            del saved[node][key]
    saved.data.crop_multiple = 64
    opened = config_lib.build(config_lib.finalize(config_lib.from_json(config_lib.to_json(saved))))
    assert opened.task.ema_warmup == 0 and opened.data.mask_threshold == 0.5 and opened.data.mask_dilate == 0
    assert opened.data.crop_multiple == 64
