"""StyleGAN2's training: the order of a step, lazy penalties, ADA's controller, the average; presets and schedules."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.gan import stylegan2 as presets
from genjax.core import config as config_lib
from genjax.core.checkpoint import flat
from genjax.errors import UserError
from genjax.gan.augment import Pipe
from genjax.gan.style_task import StyleAdversarial, finite
from genjax.gan.stylegan2 import Discriminator, Generator
from genjax.losses import adversarial as losses

SPEC = {"image": jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.float32)}
SMALL = {"resolution": 8, "channels": 1, "channel_base": 32, "channel_max": 4}
FLIP = Pipe(xflip=1.0)


def task(**kwargs):
    return StyleAdversarial(**{
        "generator": Generator(z_dim=4, w_dim=4, mapping_layers=1, **SMALL), "discriminator": Discriminator(**SMALL),
        "g_optimizer": optax.sgd(1e-3), "d_optimizer": optax.sgd(1e-3), "latent_dim": 4, "preview_images": 4,
        "augment": FLIP, "ada_target": 0.6, "ada_kimg": 0.1, "ada_every": 2, "reg_every": 2, "pl_every": 3,
        "ema_kimg": 0.01, **kwargs})


def batch(i):
    return {"image": jax.random.uniform(jax.random.fold_in(jax.random.key(7), i), (4, 8, 8, 1), minval=-1)}


@pytest.fixture(scope="module")
def run():
    """The task, its states before and after each of six steps, and the steps' metrics."""
    t = task()
    step = jax.jit(t.step)
    states, metrics = [jax.jit(lambda k: t.init(k, SPEC))(jax.random.key(0))], []
    for i in range(6):
        state, m = step(states[-1], batch(i), jax.random.fold_in(jax.random.key(1), i))
        states.append(state)
        metrics.append({k: float(v) for k, v in m.items()})
    return t, states, metrics


def test_penalties_come_when_they_are_due(run):
    _, states, metrics = run
    assert [m["r1_penalty"] > 0 for m in metrics] == [True, False] * 3
    assert [m["pl_penalty"] > 0 for m in metrics] == [True, False, False] * 2
    means = [float(s.extra["path_length"]) for s in states]
    assert means[0] == 0 < means[1] == means[2] == means[3] != means[4]
    assert all(np.isfinite(list(m.values())).all() for m in metrics)


def test_the_controller_moves_p_by_a_constant_amount(run):
    """4 images x 2 steps of 100: .08 up where the mean sign is above .6, else down, never below 0."""
    _, states, metrics = run
    p = 0.0
    for i in range(0, 6, 2):
        assert states[i + 1].extra["augment"]["p"] == pytest.approx(p), "not at odd steps"
        # R1's pass at the first of the two steps counts as a third: the kept sum has it.
        kept = states[i + 1].extra["augment"]["signs"]
        assert abs(kept - metrics[i]["real_sign"]) <= 1
        sign = (kept + metrics[i + 1]["real_sign"]) / 3
        p = max(0.0, p + np.sign(sign - 0.6) * 0.08)
        assert states[i + 2].extra["augment"]["p"] == pytest.approx(p) == metrics[i + 1]["augment_p"]
        assert states[i + 2].extra["augment"]["signs"] == 0


@pytest.mark.parametrize("target,before,signs,want", [
    (0.6, 2.0, 0.5, 0.5 + 5.12e-4), (0.6, 1.8, 0.7, 0.5 + 5.12e-4), (0.6, 0.0, -1.0, 0.5 - 5.12e-4),
    (0.6, 1.7, 0.6, 0.5 - 5.12e-4),
    (0.625, 1.75, 0.75, 0.5)])  # binary fractions: the mean is exactly the target, and p stays
def test_controller_at_the_papers_settings(run, target, before, signs, want):
    """Batch 64, every 4 steps, 500 thousand images: 5.12e-4 a time (0.6 * 4 = 2.4 is the sum it waits for)."""
    t = task(ada_every=4, ada_kimg=500.0, ada_target=target, r1_gamma=0.0)
    state = run[1][0]
    state = state.replace(step=jnp.int32(3), extra={"augment": {"p": jnp.float32(0.5), "signs": jnp.float32(before)}})
    got = t._controlled(state, signs, 64)
    assert got["p"] == pytest.approx(want, abs=1e-6) and got["signs"] == 0
    low = state.replace(extra={"augment": {"p": jnp.float32(1e-5), "signs": jnp.float32(-4)}})
    assert t._controlled(low, -1.0, 64)["p"] == 0


@pytest.mark.parametrize("target, up", [(0.19, True), (0.21, False)])
def test_the_controller_counts_the_signs_of_r1_steps(run, target, up):
    """Recorded from NVlabs/stylegan2-ada-pytorch: the mean of "Loss/signs/real" over four StyleGAN2Loss phases Dmain of
    mean sign 0 and one phase Dreg of mean sign 1 is .2."""
    state = run[1][0].replace(extra={"augment": {"p": jnp.float32(0.5), "signs": jnp.float32(1)}})
    for step in (3, 19):  # R1 at steps 0 and 16
        t = task(ada_every=4, reg_every=16, ada_target=target)
        got = t._controlled(state.replace(step=jnp.int32(step)), 0.0, 4)
        assert (got["p"] > 0.5) == up
    later = t._controlled(state.replace(step=jnp.int32(7)), 0.0, 4)  # none since step 3: a mean of 1/4
    assert later["p"] > 0.5


def test_average_of_the_generator(run):
    """beta = .9977843871 for batch 64 and 20 thousand images; and the ramp-up makes the first one a copy."""
    t = task(ema_kimg=20.0)
    state = run[1][0]
    state = state.replace(ema={"w": jnp.ones(())})
    assert t._averaged(state, {"w": jnp.zeros(())}, 64)["w"] == pytest.approx(0.9977843871, rel=1e-6)
    ramp = task(ema_kimg=20.0, ema_rampup=0.05)
    assert ramp._averaged(state, {"w": jnp.zeros(())}, 64)["w"] == 0
    later = state.replace(step=jnp.int32(100))  # 6400 images, half-life 320
    assert ramp._averaged(later, {"w": jnp.zeros(())}, 64)["w"] == pytest.approx(0.5 ** (64 / 320), rel=1e-5)
    assert jax.eval_shape(lambda: task(ema_kimg=0).init(jax.random.key(0), SPEC)).ema == {}


def test_buffers_move_with_training_and_samples_are_truncated(run):
    t, states, _ = run
    w_avg = [flat(s.extra["generator"])["buffers/mapping/w_avg"] for s in states]
    assert not w_avg[0].any() and all((a != b).any() for a, b in zip(w_avg[:-1], w_avg[1:], strict=True))
    variables = t.export(states[-1])
    few, more = (t.sample(variables, jax.random.key(2), n)["samples"] for n in (2, 5))
    assert np.allclose(few, more[:2], atol=1e-5)
    same = task(psi=0.0).sample(variables, jax.random.key(2), 2)["samples"]
    assert np.allclose(same[0], same[1], atol=1e-6)


def test_gradients_that_are_not_numbers_are_mended():
    got = finite({"w": jnp.array([jnp.nan, jnp.inf, -jnp.inf, 2.0])})["w"]
    assert got.tolist() == [0.0, 1e5, -1e5, 2.0]


def test_what_does_not_go_together_is_refused():
    with pytest.raises(UserError, match="no d_steps"):
        task(d_steps=2)
    with pytest.raises(UserError, match="ema_kimg"):
        task(ema_decay=0.5)
    with pytest.raises(UserError, match="z_dim"):
        task(latent_dim=5)
    with pytest.raises(UserError, match="augmentation"):
        task(augment=None)


def test_presets_are_the_authors():
    assert presets.auto(256)[2:7] == (16, 4, 0.5, 0.0025, pytest.approx(2e-4 * 256**2 / 16))
    assert presets.auto(256, 2)[2] == 32 and presets.auto(256, 2)[6] == pytest.approx(0.4096)
    assert presets.auto(1024, 8)[2:6] == (32, 4, 1.0, 0.002)
    c = config_lib.load("gan/stylegan2:cfg=paper256")
    assert (c.data.batch_size, c.task.r1_gamma, c.task.ema_kimg, c.train.steps) == (64, 1.0, 20.0, "25000k images")
    assert c.task.augment.margin == 1
    assert c.g_optimizer.every == "@pl_every" and c.pl_every == 4 and c.task.reg_every == "@r1_every"
    cifar = config_lib.load("gan/stylegan2:cfg=cifar,cond")
    assert cifar.task.pl_weight == cifar.task.mixing == 0 and cifar.task.discriminator.architecture == "orig"
    assert cifar.task.generator.classes == 10 and cifar.task.ema_rampup == 0.05
    # Lazy Adam of both networks, though CIFAR has no path lengths.
    every = {k: cifar[k] for k in ("r1_every", "pl_every")}
    g, d = (losses.lazy_adam(o.learning_rate, 0.0, 0.99, every[o.every[1:]])
            for o in (cifar.g_optimizer, cifar.d_optimizer))
    assert np.allclose(g[::2], (0.002, 0.9919919678), atol=1e-9)
    assert np.allclose(d[::2], (0.0025 * 16 / 17, 0.9905854573), atol=1e-9)


@pytest.mark.parametrize("spec,want", [("cfg=paper256", (24_767_458, 24_001_089)),
                                       ("cfg=cifar", (19_947_539, 20_720_641)),
                                       ("cfg=cifar,cond", (20_215_315, 23_089_664)),
                                       ("cfg=stylegan2", (30_370_060, 29_012_513))])
def test_parameters_of_the_presets(spec, want):
    t = config_lib.build(config_lib.load(f"gan/stylegan2:{spec}")).task
    r, key = t.generator.resolution, jax.random.key(0)
    labels = jnp.zeros((2,), jnp.int32) if t.conditional else None
    g = jax.eval_shape(lambda: t.generator.init(key, jnp.zeros((2, 512)), labels, noise="const"))
    d = jax.eval_shape(lambda: t.discriminator.init(key, jnp.zeros((2, r, r, 3)), labels))
    assert tuple(sum(np.prod(x.shape) for x in jax.tree.leaves(v["params"])) for v in (g, d)) == want


def test_16_bit_presets_compute_so_and_limit_their_results():
    t = config_lib.build(config_lib.load("gan/stylegan2:cfg=cifar,aug=none,bf16")).task
    plain = config_lib.build(config_lib.load("gan/stylegan2:cfg=cifar,aug=none")).task
    key, x = jax.random.key(0), jnp.zeros((2, 32, 32, 3))

    def programs(t):
        g = jax.eval_shape(lambda: t.generator.init(key, jnp.zeros((2, 512)), noise="const"))
        d = jax.eval_shape(lambda: t.discriminator.init(key, x))
        return (str(jax.make_jaxpr(lambda v: t.generator.apply(v, jnp.zeros((2, 512)), noise="const"))(g)),
                str(jax.make_jaxpr(lambda v: t.discriminator.apply(v, x))(d)))

    for low, full in zip(programs(t), programs(plain), strict=True):
        assert "bf16" in low and "256.0" in low
        assert "bf16" not in full and "256.0" not in full
