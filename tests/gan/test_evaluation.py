"""A run that measures its samples: the values, and how they were measured."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import launch
from genjax.core import config as config_lib
from genjax.core import report, snapshot
from genjax.core.train import train
from genjax.data.pipeline import Pipeline
from genjax.errors import UserError
from genjax.gan.stylegan2 import Generator
from genjax.metrics import features, lpips
from genjax.metrics.evaluation import Evaluation, Paths
from tests.core.toy import ToyData
from tests.gan import tiny


@pytest.fixture
def network(monkeypatch, tmp_path):
    """LeNet with random weights in the place of a file, and a cache of its own."""
    monkeypatch.setenv("GENJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(features, "load", lambda name, path, resize: features.random(name, 0))


def test_values_and_their_recipes_are_kept(network, tmp_path, capsys):
    config = config_lib.override(config_lib.smoke(config_lib.load("gan/goodfellow:small,features=lenet")), [
        "task.evaluation.n=8", "task.evaluation.n_real=16", "task.evaluation.batch=8",
        "task.evaluation.settings.allow_few=True", "train.eval_every=0"])
    out = train(config, str(tmp_path / "run"), quiet=True)
    assert set(out.metrics) == {"fd_lenet"} and out.metrics["fd_lenet"] > 0
    kept = json.loads((tmp_path / "run" / "recipes.json").read_text())["fd_lenet"]
    assert kept["value"] == pytest.approx(out.metrics["fd_lenet"]) and kept["name"] == "Frechet distance (lenet)"
    assert kept["recipe"]["n_fake"] == 8 and kept["recipe"]["n_real"] == 16
    run = str(tmp_path / "run")
    again = snapshot.evaluate(run, None)
    assert again["fd_lenet"] == pytest.approx(out.metrics["fd_lenet"], rel=1e-6), "the same key, the same samples"
    # Another measurement, from the command line: what the run says of its own metrics stays.
    assert launch.main(["eval", run, "--metrics=recall", "--config.task.evaluation.n=6",
                        "--config.task.evaluation.settings.k=2", "--json=-"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"step", "recall_lenet"}
    assert json.loads((tmp_path / "run" / "recipes.json").read_text())["fd_lenet"] == kept
    page = report.write(run).read_text()
    for text in ("Frechet distance (lenet)", kept["id"], "recall (lenet)", "k 2", "builtin:digits (train), 8 pixels"):
        assert text in page, text
    for wrong, line in ((["--metrics=recal"], "did you mean 'recall'"),
                        (["--metrics=fid"], "InceptionV3 with the published weights alone"),
                        (["--metrics=ppl_wend"], "has no styles; measure ppl_zfull|prior|normal"),
                        (["--config.task.latent_dim=3"], "eval takes --config.task.evaluation.KEY alone"),
                        (["--metrics=precision", "--config.task.evaluation.pat=x"], "did you mean 'path'")):
        assert launch.main(["eval", run, *wrong]) == 2
        said = capsys.readouterr().err
        assert re.search(line, said) and said.count("\n") == 1, said


def test_weights_that_cannot_be_had_are_one_line(monkeypatch, tmp_path):
    def no_network(*a, **k):
        raise OSError("no network here")

    monkeypatch.setenv("GENJAX_CACHE", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    for metrics, flag in ((("fid",), "evaluation.path=FILE"), (("ppl_zend",), "lpips_trunk=FILE and .*lpips_heads=")):
        with pytest.raises(UserError, match=flag) as e:
            Evaluation(metrics=metrics, n=8)(lambda k: k, jax.random.key(0), Pipeline(source="builtin:digits"), (),
                                             (-1, 1), paths=lambda space: Paths(None, 3, None, ()))
        assert "\n" not in str(e.value) and "put it at" in str(e.value)


def test_path_lengths_of_a_generator_with_styles(monkeypatch):
    """LPIPS over a real generator, in z and in w; grey pictures beyond (-1, 1) included."""
    monkeypatch.setattr(lpips, "load", lambda net, trunk, heads: lpips.random(net))
    g = Generator(z_dim=4, w_dim=4, mapping_layers=1, resolution=32, channels=1, channel_base=64, channel_max=4)
    t = tiny.task(generator=g, latent_dim=4, evaluation=Evaluation(
        metrics=("ppl_wend", "ppl_zend"), lpips="squeeze", n=4, batch=4))
    keys = dict(zip(("params", "noise"), jax.random.split(jax.random.key(0)), strict=True))
    params = jax.jit(g.init)(keys, jnp.zeros((1, 4)))
    variables = {"params": params["params"], "extra": {"buffers": params["buffers"]}}
    found = t.evaluate(variables, None, jax.random.key(1))
    assert list(found) == ["ppl_wend_lpips_squeeze", "ppl_zend_lpips_squeeze"]
    assert all(np.isfinite(float(v)) and float(v) > 0 for v in found.values())
    assert found["ppl_wend_lpips_squeeze"].recipe.weights == "random-0"
    z, w = (t.paths(variables)(space) for space in "zw")
    ws = jax.eval_shape(w.mapping, jnp.zeros((2, 4)), *w.args)
    assert ws.shape == (2, 8, 4) and z.mapping is None and z.width == w.width == 4


def test_data_without_a_source_is_refused(network):
    with pytest.raises(UserError, match="ToyData has none"):
        Evaluation(network="lenet", n=8)(lambda k: k, None, ToyData(), (), (0, 1))
