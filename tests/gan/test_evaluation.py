"""A run that measures its samples: the values, and how they were measured."""

import json

import pytest

from genjax.core import config as config_lib
from genjax.core import snapshot
from genjax.core.train import train
from genjax.errors import UserError
from genjax.metrics import features
from genjax.metrics.evaluation import Evaluation
from tests.core.toy import ToyData


@pytest.fixture
def network(monkeypatch, tmp_path):
    """LeNet with random weights in the place of a file, and a cache of its own."""
    monkeypatch.setenv("GENJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(features, "load", lambda name, path, resize: features.random(name, 0))


def test_values_and_their_recipes_are_kept(network, tmp_path):
    config = config_lib.override(config_lib.smoke(config_lib.load("gan/goodfellow:small,features=lenet")), [
        "task.evaluation.n=8", "task.evaluation.n_real=16", "task.evaluation.batch=8",
        "task.evaluation.settings.allow_few=True", "train.eval_every=0"])
    out = train(config, str(tmp_path / "run"), quiet=True)
    assert set(out.metrics) == {"fd_lenet"} and out.metrics["fd_lenet"] > 0
    kept = json.loads((tmp_path / "run" / "recipes.json").read_text())["fd_lenet"]
    assert kept["value"] == pytest.approx(out.metrics["fd_lenet"]) and kept["name"] == "Frechet distance (lenet)"
    assert kept["recipe"]["n_fake"] == 8 and kept["recipe"]["n_real"] == 16
    again = snapshot.evaluate(str(tmp_path / "run"), None)
    assert again["fd_lenet"] == pytest.approx(out.metrics["fd_lenet"], rel=1e-6), "the same key, the same samples"


def test_data_without_a_source_is_refused(network):
    with pytest.raises(UserError, match="ToyData has none"):
        Evaluation(network="lenet", n=8)(lambda k: k, None, ToyData(), (), (0, 1))
