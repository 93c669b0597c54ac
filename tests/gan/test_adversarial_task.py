"""Adversarial training: a step against the same step written out, turns, lazy penalties, labels, samples."""

import contextlib
import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genjax.core import rng as rng_lib
from genjax.core import snapshot
from genjax.data.pipeline import Pipeline
from genjax.data.source_array import ArraySource, Part
from genjax.errors import UserError
from genjax.losses import adversarial as losses
from genjax.metrics.evaluation import Evaluation
from genjax.viz.grid import image_grid
from tests.gan.tiny import SPEC, batch, task

KEY = jax.random.key(3)


def run(t, steps=1, state=None):
    """The state and metrics after some steps."""
    state = t.init(jax.random.key(0), SPEC) if state is None else state
    step = jax.jit(t.step)
    for i in range(steps):
        state, metrics = step(state, batch(i), jax.random.fold_in(KEY, i))
    return state, metrics


def same(a, b, **kwargs):
    return all(np.allclose(x, y, **kwargs) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_a_step_is_the_discriminators_then_the_generators():
    """Written out with plain gradients, the generator against the discriminator that has just moved."""
    t = task(share_latents=True)
    old = t.init(jax.random.key(0), SPEC)
    new, metrics = run(t)
    z = t._latents(jax.random.split(jax.random.fold_in(KEY, 0), 4)[0], 4)
    real, params, extra = batch()["image"], old.params, old.extra["generator"]

    def fake(g):
        return t.generator.apply({"params": g, **extra}, z, mutable=["batch_stats"])

    def d_loss(d):
        on = functools.partial(t.discriminator.apply, {"params": d})
        return losses.discriminator_loss("non_saturating", on(real), on(fake(params["generator"])[0]))

    loss, grads = jax.value_and_grad(d_loss)(params["discriminator"])
    d = jax.tree.map(lambda p, g: p - 0.2 * g, params["discriminator"], grads)
    assert same(new.params["discriminator"], d, atol=1e-6) and metrics["d_loss"] == pytest.approx(float(loss), rel=1e-5)

    def g_loss(g):
        return losses.generator_loss("non_saturating", t.discriminator.apply({"params": d}, fake(g)[0]))

    loss, grads = jax.value_and_grad(g_loss)(params["generator"])
    g = jax.tree.map(lambda p, g: p - 0.1 * g, params["generator"], grads)
    assert same(new.params["generator"], g, atol=1e-6) and metrics["g_loss"] == pytest.approx(float(loss), rel=1e-5)
    assert same(new.extra["generator"], fake(params["generator"])[1], atol=1e-6), "statistics moved once"


def test_the_generator_waits_for_its_turn():
    t = task(d_steps=3)
    old = t.init(jax.random.key(0), SPEC)
    two, _ = run(t, 2)
    three, _ = run(t, 3)
    assert same(two.params["generator"], old.params["generator"], atol=0)
    assert not same(two.params["discriminator"], old.params["discriminator"])
    assert not same(three.params["generator"], old.params["generator"])


def test_two_generator_updates_move_it_twice():
    """The second is one more gradient step where the first ended, on the same latents and discriminator."""
    state = task().init(jax.random.key(0), SPEC)
    once, _ = run(task(share_latents=True), state=state)
    t = task(share_latents=True, g_steps=2)
    twice, metrics = run(t, state=state)
    assert same(once.params["discriminator"], twice.params["discriminator"], atol=0)
    z = t._latents(jax.random.split(jax.random.fold_in(KEY, 0), 4)[0], 4)

    def loss(g):
        x, new = t.generator.apply({"params": g, **once.extra["generator"]}, z, mutable=["batch_stats"])
        a = t.discriminator.apply({"params": once.params["discriminator"]}, x)
        return jnp.log(1 + jnp.exp(-a)).mean(), new

    (value, new), grads = jax.value_and_grad(loss, has_aux=True)(once.params["generator"])
    want = jax.tree.map(lambda p, g: p - 0.1 * g, once.params["generator"], grads)
    assert same(twice.params["generator"], want, atol=1e-6) and not same(want, once.params["generator"], atol=1e-4)
    assert same(twice.extra["generator"], new, atol=1e-6), "statistics moved twice"
    assert metrics["g_loss"] == pytest.approx(float(value), rel=1e-5)


@pytest.fixture(scope="module")
def plain():
    """A first state, and the discriminator's kernel after a step without penalties."""
    state = task().init(jax.random.key(0), SPEC)
    return state, run(task(), state=state)[0].params["discriminator"]["hidden"]["kernel"]


@pytest.mark.parametrize("penalty", [{"r1_gamma": 2.0}, {"r2_gamma": 2.0}, {"gp_weight": 3.0}])
def test_lazy_penalties_come_every_k_steps_k_times_as_strong(penalty, plain):
    state, without = plain
    eager, lazy = (task(reg_every=k, **penalty) for k in (1, 4))
    once, at_0 = run(eager, state=state)
    step = jax.jit(lazy.step)
    first, lazy_0 = step(state, batch(0), jax.random.fold_in(KEY, 0))
    _, lazy_1 = step(first, batch(0), jax.random.fold_in(KEY, 1))
    assert lazy_0["penalty"] == pytest.approx(float(at_0["penalty"]), rel=1e-5) and at_0["penalty"] > 0
    assert lazy_1["penalty"] == 0

    moved = [np.asarray(s.params["discriminator"]["hidden"]["kernel"] - without) for s in (first, once)]
    assert np.allclose(moved[0], 4 * moved[1], rtol=1e-3, atol=1e-7)


def test_wasserstein_drift_is_part_of_the_loss():
    """A rate of .2 takes the critic .2 of the gradient of .5 E D(x)^2 further; its output's bias by .2 E D(x)."""
    t = task(loss="wasserstein", drift=0.5)
    state = t.init(jax.random.key(0), SPEC)
    without, with_drift = (run(x, state=state)[0].params["discriminator"] for x in (task(loss="wasserstein"), t))

    def critic(d):
        return t.discriminator.apply({"params": d}, batch()["image"])

    old = state.params["discriminator"]
    grads = jax.grad(lambda d: 0.5 * (critic(d) ** 2).mean())(old)
    moved = jax.tree.map(lambda a, b: b - a, without, with_drift)
    assert same(moved, jax.tree.map(lambda g: -0.2 * g, grads), rtol=1e-3, atol=1e-6)
    assert float(moved["out"]["bias"][0]) == pytest.approx(-0.2 * float(critic(old).mean()), rel=1e-4)
    assert abs(float(critic(old).mean())) > 0.01, "there is something to pull back"


def test_labels_reach_both_networks():
    t = task(classes=2, conditional=True)
    state = t.init(jax.random.key(0), SPEC)
    assert state.params["generator"]["dense"]["kernel"].shape == (5, 4)
    state, _ = run(t, 5)
    z = t._latents(KEY, 4)
    a, b = (t.images(t.export(state), z, np.full(4, k)) for k in (0, 1))
    assert not np.allclose(a, b)
    assert np.array_equal(t.images(t.export(state), z)[1], b[1]), "classes in turn"
    with pytest.raises(UserError, match="labels"):
        t.init(jax.random.key(0), {"image": SPEC["image"]})
    with pytest.raises(UserError, match="classes"):
        task(conditional=True)


def test_the_average_is_what_samples():
    t = task(ema_decay=0.5)
    one, _ = run(t, 1)
    first = t.init(jax.random.key(0), SPEC)
    want = jax.tree.map(lambda a, b: (a + b) / 2, first.params["generator"], one.params["generator"])
    assert same(one.ema, want, atol=1e-6) and t.export(one)["params"] is one.ema


def test_samples_do_not_depend_on_how_many_there_are():
    t = task()
    state, _ = run(t, 3)
    variables = t.export(state)
    few, many = (t.sample(variables, KEY, n)["samples"] for n in (3, 7))
    assert np.allclose(few, many[:3], atol=1e-6)
    assert np.allclose(t.images(variables, t._latents(KEY, 7), batch=2), many, atol=1e-6)
    sheet = t.results(variables, None, KEY)["samples"]
    assert sheet.ndim == 3 and 0 <= sheet.min() and sheet.max() <= 1


@pytest.mark.parametrize("prior,bound", [("uniform", 3**0.5), ("normal", 1.0)])
def test_latents_have_variance_one(prior, bound):
    z = task(prior=prior, prior_bound=bound, latent_dim=50)._latents(KEY, 400)
    assert abs(float(z.std()) - 1) < 0.02 and (prior == "normal") == bool(jnp.abs(z).max() > 2)


def test_bad_settings_are_one_line():
    with pytest.raises(UserError, match="ema_decay"):
        task(ema_decay=1.0)
    with pytest.raises(UserError, match="the generator makes images"):
        task().init(jax.random.key(0), {"image": jax.ShapeDtypeStruct((4, 3, 3, 1), jnp.float32)})


@pytest.mark.parametrize("source", [
    ArraySource(np.zeros((5, 2, 2, 1), np.uint8), np.array([0, 4, 1, 3, 2])),
    Part(ArraySource(np.zeros((6, 2, 2, 1), np.uint8), np.array([0, 4, 1, 2, 3, 5])), 0, 5, "part"),
    types.SimpleNamespace()])
def test_labels_beyond_the_classes_are_one_line(source):
    """Labels in memory, in a part of such a source, or only the names of the classes."""
    data = types.SimpleNamespace(constant=False, batch_size=4, element_spec=SPEC, batch=batch, source=source,
                                 classes=tuple("abcde"), __len__=lambda: 3)
    task(classes=5, conditional=True).check_data(data)
    task().check_data(data)
    with pytest.raises(UserError, match=r"labels 0 to 4, the generator 3 classes; set config.task.generator.classes=5"):
        task(classes=3, conditional=True).check_data(data)


def labelled(*numbers, **kwargs):
    """A data set with these labels."""
    source = ArraySource(np.zeros((len(numbers), 2, 2, 1), np.uint8), np.array(numbers), "mine", **kwargs)
    return Pipeline(source, batch_size=2)


@pytest.mark.parametrize(("numbers", "says"), [
    ((0, 2, -1, 1), r"mine has the label -1 \(picture 2, counted from 0\)"),
    ((0, 1), r"labels 0 to 1, the generator 3 classes, of which 1 would never be seen; set"
             r" config.task.generator.classes=2 and config.task.discriminator.classes=2 \(.* argument classes=2\), or"
             r" config.task.unseen_classes=True"),
    ((0, 2, 2), r"labels 0 to 2, but no picture of class 1 \(1 such classes\).*config.task.unseen_classes=True"),
    ((0, 0, 1, 2, 3), "labels 0 to 3, the generator 3 classes"),
])
def test_every_label_is_checked_and_every_class_has_to_occur(numbers, says):
    with pytest.raises(UserError, match=says):
        task(classes=3, conditional=True).check_data(labelled(*numbers))
    task(classes=3).check_data(labelled(*numbers))
    wrong = min(numbers) < 0 or max(numbers) > 2
    with pytest.raises(UserError, match=says) if wrong else contextlib.nullcontext():
        task(classes=3, conditional=True, unseen_classes=True).check_data(labelled(*numbers))


def test_measured_samples_have_the_classes_of_the_data(monkeypatch):
    """As often as there, always the same ones, and the recipe says so; what is compared with decides, not what is
    trained on."""
    t = task(classes=3, conditional=True, evaluation=Evaluation(metrics=("ms_ssim",), n=600))
    state = t.init(jax.random.key(0), SPEC)
    seen = {}
    monkeypatch.setattr(Evaluation, "__call__", lambda self, draw, key, data, args, range, how, *_: seen.update(
        args=args, how=dict(how)) or {})
    recipes = []
    for numbers in ((0,) * 7 + (2,) * 3, (0,) * 3 + (2,) * 7, (0, 0, 2, 2)):
        t.evaluate(t.export(state), labelled(*numbers), KEY)
        drawn = []
        draw = t._drawing(lambda variables, z, labels, keys, drawn=drawn: drawn.append(labels) or labels)
        for _ in range(2):
            draw(jax.random.split(KEY, 600), *seen["args"])
        assert np.array_equal(*drawn)
        share = np.bincount(drawn[0], minlength=3) / 600
        np.testing.assert_allclose(share, np.bincount(numbers, minlength=3) / len(numbers), atol=0.06)
        assert share[1] == 0 and seen["how"]["classes"] == "as often as in the data"
        recipes.append(seen["how"]["class_counts"])
    assert len(set(recipes)) == 3
    with pytest.raises(UserError, match="mine has the label 3, and the generator the classes 0 to 2"):
        t.evaluate(t.export(state), labelled(0, 3), KEY)
    part = labelled(0, 1, 2)
    part.another = lambda split: labelled(2, 2, 2).source
    dataclasses.replace(t, evaluation=Evaluation(metrics=("ms_ssim",), reference_split="test")).evaluate(
        t.export(state), part, KEY)
    assert np.asarray(seen["args"][1]).tolist() == [0, 0, 3]
    part.classes, other = ("a", "b", "c"), dataclasses.replace(
        labelled(0, 1, 1).source, classes=("b", "c"))  # numbers of its own, as a folder without pictures of a has
    part.another = lambda split: other
    dataclasses.replace(t, evaluation=Evaluation(metrics=("ms_ssim",), reference_split="test")).evaluate(
        t.export(state), part, KEY)
    assert np.asarray(seen["args"][1]).tolist() == [0, 1, 2]


def test_classes_are_shown_as_rows(monkeypatch, tmp_path):
    """Previews, and `sample RUN --classes`: n of each, every row one class; a class that is not there is one line."""
    t = task(classes=3, conditional=True, preview_images=12)
    state = t.init(jax.random.key(0), SPEC)
    x, labels = t._shown(t.export(state), KEY)
    assert x.shape == (12, 2, 2, 1) and labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    few = dataclasses.replace(t, preview_images=4)._shown(t.export(state), KEY)[1]
    assert few.tolist() == [0, 0, 1, 1], "not all classes where there are too few pictures for rows"
    sheet = t.preview(t.export(state), None, KEY)["samples"]
    assert sheet.shape[0] == 1 and np.array_equal(sheet[0], t.results(t.export(state), None, KEY)["samples"])
    monkeypatch.setattr(snapshot, "OpenedRun", lambda *_: types.SimpleNamespace(
        task=t, variables=t.export(state)))
    path = snapshot.sample("run", None, 5, 0, str(tmp_path / "s.png"), "2,0-1")
    key = rng_lib.stream(0, "sample")
    want = t.sample(t.export(state), key, 15, np.repeat([2, 0, 1], 5))["samples"]
    want = image_grid((want + 1) / 2, 5, row_labels=["2", "0", "1"])
    assert np.array_equal(np.asarray(Image.open(path)), want)
    for classes, message in (("3", "has the classes 0 to 2"), ("1-", "--classes 1-"), ("2-0", "--classes 2-0")):
        with pytest.raises(UserError, match=message):
            snapshot.sample("run", None, 1, 0, str(tmp_path / "s.png"), classes)
    with pytest.raises(UserError, match="takes no classes"):
        task().sample(None, KEY, 1, [0])
