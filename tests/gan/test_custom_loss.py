"""A loss registered by a module outside the package, of pairs of logits: in every task, and through the command."""

import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import launch
from genjax.losses import adversarial as losses
from tests.gan import test_growing as growing
from tests.gan import test_style_task as style
from tests.gan.tiny import SPEC, batch, task

LOSS = """
    import jax.numpy as jnp
    from genjax.losses.adversarial import register

    register("relativistic", lambda real, fake: jnp.logaddexp(0, fake - real).mean(),
             lambda real, fake: jnp.logaddexp(0, real - fake).mean(), paired=True)
"""
CONFIG = """
    from genjax.core.config import experiment, node

    def get_config(arg=""):
        return experiment(
            task=node("genjax.gan.mixture.Plane", generator=node("genjax.gan.mixture.Generator", hidden=(4,)),
                      discriminator=node("genjax.gan.mixture.Discriminator", hidden=(4,)), g_optimizer="@optimizer",
                      d_optimizer="@optimizer", latent_dim=2, preview_images=16, eval_samples=16,
                      loss="losses_of_mine.relativistic"),
            data=node("genjax.data.mixtures.Ring", batch_size=8),
            optimizer=node("genjax.core.optim.adam", learning_rate=1e-3),
            train=node("genjax.core.experiment.TrainOptions", steps=2, log_every=1, save_every=2))
"""


@pytest.fixture
def seen(monkeypatch):
    """Shapes of (real, fake) logits that a paired loss "pairs" was given for the generator."""
    found = []

    def generator(real, fake):
        found.append((real.shape, fake.shape))
        return jnp.logaddexp(0, real - fake).mean()

    monkeypatch.setattr(losses, "_LOSSES", dict(losses._LOSSES))
    losses.register("pairs", lambda real, fake: jnp.logaddexp(0, fake - real).mean(), generator, paired=True)
    return found


@pytest.mark.parametrize("share", [True, False])
def test_the_generators_step_written_out(seen, share):
    """Against the discriminator that has just moved, on the batch's real pictures."""
    t = task(loss="pairs", share_latents=share, d_optimizer=optax.sgd(0.0))
    state, key = t.init(jax.random.key(0), SPEC), jax.random.key(3)
    new, metrics = jax.jit(t.step)(state, batch(), key)
    keys = jax.random.split(key, 4)
    z = t._latents(keys[0] if share else jax.random.fold_in(keys[3], 0), 4)

    def loss(g):
        x, _ = t.generator.apply({"params": g, **state.extra["generator"]}, z, mutable=["batch_stats"])
        real, fake = (t.discriminator.apply({"params": state.params["discriminator"]}, v)
                      for v in (batch()["image"], x))
        return jnp.log1p(jnp.exp(-(fake - real))).mean()

    value, grads = jax.value_and_grad(loss)(state.params["generator"])
    assert metrics["g_loss"] == pytest.approx(float(value), rel=1e-5)
    want = jax.tree.map(lambda p, g: p - 0.1 * g, state.params["generator"], grads)
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(jax.tree.leaves(new.params["generator"]),
                                                            jax.tree.leaves(want), strict=True))


def test_every_task_gives_both_players_the_pairs(seen):
    def traced(t, spec):
        state = jax.eval_shape(lambda k: t.init(k, spec), jax.random.key(0))
        before = len(seen)
        jax.eval_shape(t.step, state, spec, jax.random.key(0))
        return seen[before:]

    assert ((4,), (4,)) in traced(task(loss="pairs", d_steps=2, g_steps=2), SPEC)
    assert ((4,), (4,)) in traced(style.task(loss="pairs"), style.SPEC)
    classed = growing.task(loss="pairs", classes=2, conditional=True, class_weight=1.0)
    spec = {"image": jax.ShapeDtypeStruct((8, 8, 8, 1), jnp.float32), "label": jax.ShapeDtypeStruct((8,), jnp.int32)}
    assert ((8,), (8,)) in traced(classed, spec)


def test_a_loss_and_a_config_of_ones_own_train_and_are_drawn_from(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(losses, "_LOSSES", dict(losses._LOSSES))
    (tmp_path / "losses_of_mine.py").write_text(textwrap.dedent(LOSS))
    (tmp_path / "mine.py").write_text(textwrap.dedent(CONFIG))
    config, run = str(tmp_path / "mine.py"), tmp_path / "run"
    assert launch.main(["train", "--config", config, "--workdir", str(run), "--quiet"]) == 0
    assert (run / "DONE").exists()
    assert launch.main(["sample", str(run), "-n", "1"]) == 0
    capsys.readouterr()
    for name, says in (("losses_of_mine.relativistik", "did you mean 'relativistic'"),
                       ("losses_of_yours.relativistic", "no module named 'losses_of_yours'"),
                       ("hing", "did you mean 'hinge'? One of your own: call genjax.losses.adversarial.register(")):
        for verb in (["train", "--workdir", str(tmp_path / "other")], ["show"]):
            assert launch.main([*verb, "--config", config, f"--config.task.loss={name}"]) == 2
            err = capsys.readouterr().err
            assert err.startswith("error: config.task.loss: ") and err.count("\n") == 1 and says in err, err
    assert not (tmp_path / "other").exists()
