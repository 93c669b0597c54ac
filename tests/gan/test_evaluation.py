"""A run that measures its samples: the values, and how they were measured."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import launch
from genjax.core import best, report, snapshot
from genjax.core import config as config_lib
from genjax.core.checkpoint import load_snapshot
from genjax.core.run import RunFolder
from genjax.core.train import train
from genjax.data.pipeline import Pipeline
from genjax.errors import UserError
from genjax.gan.style_task import StyleAdversarial
from genjax.gan.stylegan2 import Discriminator, Generator
from genjax.metrics import features, lpips
from genjax.metrics.evaluate import Settings
from genjax.metrics.evaluation import Evaluation, Paths
from genjax.viz import jsonl
from tests.core.toy import ToyData
from tests.gan import tiny


@pytest.fixture
def network(monkeypatch, tmp_path):
    """LeNet with random weights in the place of a file, and a cache of its own."""
    monkeypatch.setenv("GENJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(features, "load", lambda name, path, resize: features.random(name, 0))


@pytest.fixture
def quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def test_values_and_their_recipes_are_kept(network, tmp_path, capsys):
    config = config_lib.override(config_lib.smoke(config_lib.load("gan/goodfellow:small,features=lenet")), [
        "task.evaluation.n=8", "task.evaluation.n_real=16", "task.evaluation.batch=8",
        "task.evaluation.settings.allow_few=True", "train.eval_every=2", "train.keep_best=frechet"])
    out = train(config, str(tmp_path / "run"), quiet=True)
    assert set(out.metrics) == {"fd_lenet"} and out.metrics["fd_lenet"] > 0
    kept = json.loads((tmp_path / "run" / "recipes.json").read_text())["fd_lenet"]
    assert kept["value"] == pytest.approx(out.metrics["fd_lenet"]) and kept["name"] == "Frechet distance (lenet)"
    assert kept["recipe"]["n_fake"] == 8 and kept["recipe"]["n_real"] == 16
    assert best.kept(RunFolder(tmp_path / "run"))["best"] == {
        "metric": "fd_lenet", "value": out.metrics["fd_lenet"], "asked": "frechet", "recipe": kept["id"]}
    (row,) = [r for r in jsonl.read(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "eval"]
    assert row["recipes"] == {"fd_lenet": kept["id"]}
    run = str(tmp_path / "run")
    again = snapshot.evaluate(run, None)
    assert again["fd_lenet"] == pytest.approx(out.metrics["fd_lenet"], rel=1e-6), "the same key, the same samples"
    # Another measurement, from the command line: what the run says of its own metrics stays.
    assert launch.main(["eval", run, "--metrics=recall", "--config.task.evaluation.n=6",
                        "--config.task.evaluation.settings.k=2",
                        "--config.task.evaluation.reference_split=test", "--json=-"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"step", "recall_lenet"}
    assert json.loads((tmp_path / "run" / "recipes.json").read_text())["fd_lenet"] == kept
    page = report.write(run).read_text()
    for text in ("Frechet distance (lenet)", kept["id"], "recall (lenet)", "k 2", "builtin:digits (train), 8 pixels",
                 "builtin:digits (test), 8 pixels"):
        assert text in page, text
    for wrong, line in ((["--metrics=recal"], "did you mean 'recall'"),
                        (["--metrics=fid"], "InceptionV3 with the published weights alone"),
                        (["--metrics=ppl_wend"], "has no styles; measure ppl_zfull|prior|normal"),
                        (["--config.task.latent_dim=3"], "eval takes --config.task.evaluation.KEY alone"),
                        (["--metrics=precision", "--config.task.evaluation.pat=x"], "did you mean 'path'")):
        assert launch.main(["eval", run, *wrong]) == 2
        said = capsys.readouterr().err
        assert re.search(line, said) and said.count("\n") == 1, said


TINY = "gan/goodfellow:small,features=lenet"


@pytest.mark.parametrize(("items", "says"), [
    ("metrics=frechett", "unknown metric 'frechett'; did you mean 'frechet'?"),
    ("network=lennet", "unknown feature network 'lennet'; did you mean 'lenet'?"),
    ("resize=clear", "unknown resize 'clear'; did you mean 'clean'?"),
    ("metrics=fid", "InceptionV3 with the published weights alone"),
    ("metrics=ppl_zend", r"which this run has not \(uniform\)"),
    ("metrics=disentanglement", "has no objects to move"),
    ("metrics=ms_ssim", "at least 16x16 pixels, not 8x8"),
    ("reference_split=tset", "did you mean 'test'?"),
    ("n=50", "84 features: set config.task.evaluation.n and n_real to at least that"),
    ("n_real=50", "84 features: set config.task.evaluation.n and n_real to at least that"),
    ("metrics=recall n=5 settings.k=5", "set config.task.evaluation.settings.k to at most 4"),
    ("metrics=inception_score n=5", "settings.splits to at most 5"),
    ("network=resnet20 resize=none", "resnet20 takes .*32x32.* got 8x8"),
    ("path={other}", "lenet: .*missing .*config.task.evaluation.path=FILE"),
])
def test_a_wrong_setting_is_refused_before_a_run_is_trained(monkeypatch, tmp_path, capsys, items, says):
    monkeypatch.setenv("GENJAX_CACHE", str(tmp_path / "cache"))
    np.savez(tmp_path / "other.npz", **{"conv1.weight": np.zeros((3, 3), np.float32)})
    load = features.load
    monkeypatch.setattr(features, "load", lambda name, path, resize: (
        load(name, path, resize) if path else features.random(name, 0, resize)))
    argv = [f"--config.task.evaluation.{i.format(other=tmp_path / 'other.npz')}" for i in items.split()]
    assert launch.main(["train", "--config", TINY, "--workdir", str(tmp_path / "run"), "--quiet",
                        "--config.train.steps=2", *argv]) == 2
    said = capsys.readouterr().err
    assert re.search(says, said) and said.count("\n") == 1, said
    assert ("path=FILE" in said) == ("path=" in items), "a name is not mended by a file"
    assert not (tmp_path / "run").exists()


def test_what_was_trained_is_kept_where_measuring_fails_and_the_mended_command_goes_on(network, monkeypatch, tmp_path):
    def config(*items):
        return config_lib.override(config_lib.smoke(config_lib.load(TINY)), [
            "task.evaluation.n=8", "task.evaluation.settings.allow_few=True", "train.eval_every=0", *items])

    def fails(self, *a, **k):
        raise UserError("no room for features")

    run, now = tmp_path / "run", Evaluation.__call__
    monkeypatch.setattr(Evaluation, "__call__", fails)
    with pytest.raises(UserError, match="no room for features"):
        train(config(), str(run), quiet=True)
    assert RunFolder(run).state()[0] == "failed" and RunFolder(run).newest_snapshot().name == "step_00000002.npz"
    trained = load_snapshot(RunFolder(run).newest_snapshot())[0]
    assert launch.main(["sample", str(run), "-n", "2", "--out", str(tmp_path / "x.png")]) == 0
    monkeypatch.setattr(Evaluation, "__call__", now)
    out = train(config("task.evaluation.n=6", "task.evaluation.metrics=recall"), str(run), quiet=True)
    again, meta = load_snapshot(RunFolder(run).newest_snapshot())
    assert RunFolder(run).state()[0] == "done" and list(out.metrics) == ["recall_lenet"]
    assert meta["metrics"] == out.metrics
    jax.tree.map(np.testing.assert_array_equal, trained, again)


def test_what_is_measured_may_change_until_it_has_chosen_a_best_snapshot(tmp_path):
    def config(features="lenet", best="", **items):
        return config_lib.load(f"gan/goodfellow:small,features={features}", [
            f"train.keep_best={best}", *(f"task.evaluation.{k}={v}" for k, v in items.items())])

    folder = RunFolder(tmp_path / "run")
    folder.create(config())
    for best_of in ("", "frechet"):
        folder.create(config(n=90, metrics="recall", network="resnet20", best=best_of))
    folder.create(config(features=""))
    (folder.snapshots / "best.npz").touch()
    folder.create(config(n=90))
    folder.create(config(path="elsewhere.npz", lpips_trunk="x.npz", best="frechet"))
    with pytest.raises(UserError, match="another config .*config.task.evaluation.n: 50000 there, 90 here"):
        folder.create(config(n=90, best="frechet"))
    with pytest.raises(UserError, match="another config .*config.task.latent_dim"):
        folder.create(config_lib.load(TINY, ["task.latent_dim=7"]))


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
        metrics=("ppl_wend", "ppl_zend"), lpips="squeeze", n=4, batch=4, ppl_epsilon=1e-3))
    keys = dict(zip(("params", "noise"), jax.random.split(jax.random.key(0)), strict=True))
    params = jax.jit(g.init)(keys, jnp.zeros((1, 4)))
    variables = {"params": params["params"], "extra": {"buffers": params["buffers"]}}
    found = t.evaluate(variables, None, jax.random.key(1))
    assert list(found) == ["ppl_wend_lpips_squeeze", "ppl_zend_lpips_squeeze"]
    assert all(np.isfinite(float(v)) and float(v) > 0 for v in found.values())
    recipe = found["ppl_wend_lpips_squeeze"].recipe
    parameters = dict(recipe.parameters)
    assert recipe.weights == "random-0" and "of the generator alone" in str(recipe)
    assert (parameters["resolution"], parameters["epsilon"], parameters["crop"]) == ("32x32x1", 1e-3, False)
    z, w = (t.paths(variables)(space) for space in "zw")
    ws = jax.eval_shape(w.mapping, jnp.zeros((2, 4)), *w.args)
    assert ws.shape == (2, 8, 4) and z.mapping is None and z.width == w.width == 4


def test_data_without_a_source_is_refused(network):
    with pytest.raises(UserError, match="ToyData has none"):
        Evaluation(network="lenet", n=8)(lambda k: k, None, ToyData(), (), (0, 1))


def test_every_measured_picture_has_noise_of_its_own_and_truncation_is_in_the_recipe(network, quick_compilation):
    """Picture i is a function of its key alone, not the fixed noise of previews; psi 1 and .3 are not compared."""
    small = {"resolution": 8, "channels": 1, "channel_base": 32, "channel_max": 4}
    g = Generator(z_dim=4, w_dim=4, mapping_layers=1, **small)
    keys = dict(zip(("params", "noise"), jax.random.split(jax.random.key(0)), strict=True))
    params = jax.jit(g.init)(keys, jnp.zeros((1, 4)))
    noisy = jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.ones_like(x) if path[-1].key == "noise_strength" else x, params["params"])
    variables = {"params": noisy, "extra": {"buffers": params["buffers"]}}
    ask = Evaluation(network="lenet", n=6, n_real=8, batch=3, settings=Settings(allow_few=True))
    t = {psi: StyleAdversarial(generator=g, discriminator=Discriminator(**small), g_optimizer=optax.sgd(1.0),
                               d_optimizer=optax.sgd(1.0), latent_dim=4, psi=psi, evaluation=ask) for psi in (1.0, 0.3)}
    draw = jax.jit(t[1.0]._draw)
    some = jax.random.split(jax.random.key(1), 4)
    x = draw(some, variables)
    np.testing.assert_allclose(draw(some[::-1], variables)[::-1], x, atol=1e-5)
    fixed = t[1.0]._images(variables, t[1.0].draw(some), None)
    assert np.abs(x - fixed).max(axis=(1, 2, 3)).min() > 1e-2
    data = Pipeline(source="builtin:digits", prefetch=0)
    whole, near = (t[psi].evaluate(variables, data, jax.random.key(1))["fd_lenet"] for psi in (1.0, 0.3))
    assert dict(whole.recipe.parameters)["noise"] == "random" and "psi" not in dict(whole.recipe.parameters)
    with pytest.raises(UserError, match="cannot compare.*psi: none / 0.3"):
        whole - near


def test_growing_networks_with_styles_are_measured_with_noise_too(quick_compilation):
    small = {"resolution": 8, "channels": 1, "fmap_base": 32, "fmap_max": 4}
    experiment = config_lib.build(config_lib.load("gan/stylegan:small,res=8", [
        "task.latent_dim=4", "task.generator.z_dim=4", "task.generator.w_dim=4", "task.generator.mapping_layers=1",
        *(f"task.{n}.{k}={small[k]}" for n in ("generator", "discriminator") for k in ("fmap_base", "fmap_max"))]))
    t = experiment.task
    params = jax.jit(lambda k: t.generator.init({"params": k, "noise": k}, jnp.zeros((1, 4))))(jax.random.key(0))
    noisy = jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.ones_like(x) if path[-1].key == "noise_weight" else x, params["params"])
    variables = {"params": noisy, "extra": {"buffers": params["buffers"]}, "resolution": 4, "alpha": jnp.float32(1)}
    assert t.how(variables) == (("enlarged_from", 4), ("noise", "random"))
    keys = jax.random.split(jax.random.key(1), 4)
    draw = jax.jit(t._draws[4])
    x = draw(keys, variables)
    fixed = t._full(t._images(variables, t.draw(keys), None))
    assert x.shape == fixed.shape == (4, 8, 8, 1) and np.abs(x - fixed).max(axis=(1, 2, 3)).min() > 1e-2
    np.testing.assert_allclose(draw(keys[::-1], variables)[::-1], x, atol=1e-5)
    plain = t._full(t._images({**variables, "params": params["params"]}, t.draw(keys), None))
    np.testing.assert_allclose(draw(keys, {**variables, "params": params["params"]}), plain, atol=1e-4)


def test_path_lengths_take_their_crop_and_step_from_the_config():
    class Difference:
        name, weights_id = "difference", "none"

        def __call__(self, a, b):
            return jnp.square(a - b).mean((1, 2, 3))

    def decode(z, keys):
        return jnp.zeros((len(z), 8, 8, 1)).at[:, 0].set(1e3 * z[:, :1, None]) + z[:, :1, None, None]

    found = {}
    for crop in (False, True):
        ask = Evaluation(metrics=("ppl_zend",), n=4, batch=4, ppl_crop=crop, ppl_epsilon=1e-2)
        ask.__dict__["_distance"] = Difference()
        (found[crop],) = ask(None, jax.random.key(0), None, (), (-1, 1), (("psi", 0.5),),
                             lambda space: Paths(decode, 3, None, ())).values()
    assert float(found[True]) < 1e-3 * float(found[False]), "the first row is cut off"
    assert dict(found[True].recipe.parameters)["epsilon"] == 1e-2
    assert "psi" not in dict(found[True].recipe.parameters), "walks are not truncated"
    with pytest.raises(UserError, match="crop: none / True"):
        found[False] - found[True]
    with pytest.raises(UserError, match="is positive"):
        Evaluation(ppl_epsilon=0)


@pytest.mark.parametrize(("metric", "items", "says"), [
    ("kernel", {"n_real": 1}, "kernel needs at least 2 pictures on both sides"),
    ("frechet", {"n_real": 1, "settings": Settings(allow_few=True)}, "frechet needs at least 2 pictures"),
    ("sifid", {"n_real": 1}, "inception's conv3, which lenet has not"),
])
def test_too_few_pictures_are_told_before_a_run_is_trained(network, metric, items, says):
    with pytest.raises(UserError, match=says):
        Evaluation(metrics=(metric,), network="lenet", n=4, **items).check(Pipeline("builtin:digits"))
