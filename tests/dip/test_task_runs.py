"""Deep Image Prior through the loop: exact resume, end by early stopping, NaN, snapshots, pictures without truth."""

import jax
import numpy as np
import pytest

from genjax.core import config as config_lib
from genjax.core import snapshot
from genjax.core import train as train_lib
from genjax.core.checkpoint import digest, load_snapshot
from genjax.data.images import save_image
from genjax.viz import jsonl

PIXELS = ("task.network.target=genjax.dip.other_networks.Pixels",)  # compiles in no time
TINY = ("task.network.channels_down=4", "task.network.channels_up=4", "task.network.need1x1_up=False", "data.size=16")


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """Runs of one config share their programs through the compilation cache, as a user's do."""
    keys = {"jax_compilation_cache_dir": str(tmp_path_factory.mktemp("xla")),
            "jax_persistent_cache_min_compile_time_secs": 0.0}
    before = {k: getattr(jax.config, k) for k in keys}
    for k, v in keys.items():
        jax.config.update(k, v)
    yield
    for k, v in before.items():
        jax.config.update(k, v)


def smoke(*items, spec="dip/denoise", network=PIXELS):
    config = config_lib.smoke(config_lib.load(spec))
    return config_lib.override(config, ["data.size=16", "train.save_every=0", "train.preview_every=0",
                                        "train.eval_every=0", *network, *items])


@pytest.mark.parametrize(("calls", "cut", "steps", "network"), [(1, 5, 8, PIXELS), (3, 7, 11, TINY)])
def test_resume_is_exact(tmp_path, calls, cut, steps, network):
    def config(steps):
        return smoke(f"train.steps={steps}", f"train.steps_per_call={calls}", "task.es_window=3", "task.es_patience=2",
                     "task.backtrack_every=2", "task.backtrack_drop=0", "task.ema_decay=0.5", "train.save_every=4",
                     network=network)

    whole = train_lib.train(config(steps), tmp_path / "whole", quiet=True)
    train_lib.train(config(cut), tmp_path / "cut", quiet=True)
    again = train_lib.train(config(steps), tmp_path / "cut", quiet=True)
    assert digest(again.state) == digest(whole.state) and again.metrics == whole.metrics
    rows = [[r for r in jsonl.read(tmp_path / n / "metrics.jsonl") if r["kind"] == "train"] for n in ("whole", "cut")]
    assert rows[0] == rows[1] and len(rows[0]) == steps
    assert np.isfinite(whole.state.extra["early"]["variance"]).all()


def test_early_stopping_ends_the_run(tmp_path):
    still = "optimizer.learning_rate=0"  # nothing moves: the first full window has no variance, none later has less
    config = smoke("train.steps=60", "task.es_window=3", "task.es_patience=2", "task.es_ends_run=True", still)
    out = train_lib.train(config, tmp_path / "run", quiet=True)
    stops = [r["step"] for r in jsonl.read(tmp_path / "run" / "metrics.jsonl") if r.get("stop", 0) > 0]
    assert stops[0] == 4 and out.step - stops[0] <= 2 and (tmp_path / "run" / "DONE").exists()
    assert next(iter(out.metrics)) == "psnr_result"  # what tables show first and sweeps rank by
    assert {"psnr_early", "psnr_ema", "psnr_last", "psnr_best", "psnr_input"} <= set(out.metrics)
    going_on = config_lib.override(config, ["task.es_ends_run=False", "train.steps=12"])
    assert train_lib.train(going_on, tmp_path / "all", quiet=True).step == 12


@pytest.mark.parametrize("calls", [1, 4])
def test_nan_stops_the_run_though_backtracking_is_on(tmp_path, calls):
    config = smoke("train.steps=20", f"train.steps_per_call={calls}", "task.backtrack_every=1",
                   "optimizer.learning_rate=1e30")
    with pytest.raises(train_lib.TrainingFailure, match="at step 1"):
        train_lib.train(config, tmp_path / "run", quiet=True)


def test_a_snapshot_evaluates_as_the_run_did(tmp_path):
    out = train_lib.train(smoke("train.steps=5", "task.es_window=3"), tmp_path / "run", quiet=True)
    row = snapshot.evaluate(str(tmp_path / "run"), None)
    assert row["step"] == 5
    for name, value in out.metrics.items():
        assert row[name] == pytest.approx(value, rel=1e-5), name
    variables, _ = load_snapshot(tmp_path / "run" / "snapshots" / "step_00000005.npz")
    assert set(variables["extra"]) == {"z", "ema", "early", "best"}
    assert snapshot.sample(str(tmp_path / "run"), None, 3, 0, None).stat().st_size > 500


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_without_truth_grey_or_colour(tmp_path, channels):
    save_image(tmp_path / "noisy.png", np.random.default_rng(0).uniform(size=(20, 24, channels)))
    config = smoke(f"image={tmp_path / 'noisy.png'}", "data.clean=False", f"data.channels={channels}",
                   f"task.network.out_channels={channels}", "task.es_window=2")
    out = train_lib.train(config, tmp_path / "run", quiet=True)
    assert out.metrics == {}
    rows = [r for r in jsonl.read(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "train"]
    assert len(rows) == 2 and all({"loss", "psnr_observed", "variance"} <= set(r) for r in rows)
    assert not any(k.startswith("psnr") and k != "psnr_observed" for r in rows for k in r)
    assert snapshot.evaluate(str(tmp_path / "run"), None)["step"] == 2
    assert out.state.extra["ema"].shape == (1, 16, 16, channels)


def test_several_pictures_report_each(tmp_path):
    config = smoke("image=builtin:photos/astronaut,builtin:photos/chelsea")
    out = train_lib.train(config, tmp_path / "run", quiet=True)
    assert out.state.params["pixels"].shape == (2, 1, 16, 16, 3)
    assert out.metrics["psnr_last"] > 0 and (tmp_path / "run" / "DONE").exists()
