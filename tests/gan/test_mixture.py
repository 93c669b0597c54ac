"""Points in the plane: counts of covered modes, the networks, pictures and metrics of the task."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.core import config as config_lib
from genjax.data.mixtures import Grid, Ring
from genjax.errors import UserError
from genjax.gan.mixture import Discriminator, Generator, Plane, coverage
from genjax.metrics.evaluation import Evaluation

RING = Ring(batch_size=16)


def tiny(**kwargs):
    return Plane(**{"generator": Generator(hidden=(8,)), "discriminator": Discriminator(hidden=(8,)), "latent_dim": 3,
                    "g_optimizer": optax.sgd(0.1), "d_optimizer": optax.sgd(0.1), "preview_images": 20,
                    "eval_samples": 50, "picture_size": 120, **kwargs})


@pytest.fixture(scope="module")
def trained():
    """A task and the variables after a step."""
    task = tiny()
    state = task.init(jax.random.key(0), RING.element_spec)
    new, metrics = jax.jit(task.step)(state, RING.batch(0), jax.random.key(1))
    assert np.isfinite(metrics["loss"])
    return task, task.export(new)


def test_coverage_of_the_mixture_itself():
    for data in (Ring(), Grid()):
        x = np.concatenate([data.batch(i)["image"] for i in range(40)])
        found = coverage(x, data.centres, data.sigma)
        assert found["modes"] == len(data.centres)
        assert found["high_quality"] == pytest.approx(1 - math.exp(-4.5), abs=0.005)
        assert 0 <= found["reverse_kl"] < 0.002


def test_coverage_counts():
    centres, sigma = np.asarray([[0.0, 0], [10, 0], [0, 10], [10, 10]]), 1.0
    x = np.asarray([[0, 2.9], [0, 0], [9, 0], [0, 13.1]])  # the last is nearest to the third mode, and too far
    found = coverage(x, centres, sigma)
    q = np.asarray([0.5, 0.25, 0.25])
    assert found["modes"] == 2 and found["high_quality"] == 0.75
    assert found["reverse_kl"] == pytest.approx((q * np.log(4 * q)).sum())
    one = coverage(np.zeros((7, 2)), centres, sigma)
    assert one == {"modes": 1, "high_quality": 1, "reverse_kl": pytest.approx(math.log(4))}
    lost = coverage(np.full((7, 2), np.nan), centres, sigma)
    assert lost["modes"] == 0 and lost["high_quality"] == 0


def test_networks():
    """Orthogonal kernels times .8, the plane divided by 4, and as many parameters as the paper's."""
    g = jax.eval_shape(Generator().init, jax.random.key(0), jnp.zeros((2, 256)))["params"]
    d = jax.eval_shape(Discriminator().init, jax.random.key(0), jnp.zeros((2, 2)))["params"]
    count = [sum(x.size for x in jax.tree.leaves(p)) for p in (g, d)]
    assert count == [256 * 128 + 128 + 128 * 128 + 128 + 128 * 2 + 2, 2 * 128 + 128 + 128 + 1]
    net = Generator(hidden=(6,))
    z = jax.random.normal(jax.random.key(1), (4, 6))
    p = net.init(jax.random.key(0), z)["params"]
    k = p["hidden0"]["kernel"]
    assert np.allclose(k.T @ k, 0.64 * np.eye(6), atol=1e-5)
    assert np.allclose(net.apply({"params": p}, z), jax.nn.relu(z @ k) @ p["output"]["kernel"], atol=1e-5)
    net, x = Discriminator(hidden=()), jnp.asarray([[4.0, -8.0]])
    p = net.init(jax.random.key(0), x)["params"]
    w = p["output"]["kernel"][:, 0]
    assert net.apply({"params": p}, x)[0] == pytest.approx(float(w[0] - 2 * w[1]), rel=1e-5)


def test_a_point_depends_on_its_number_alone(trained):
    task, variables = trained
    key = jax.random.key(2)
    few, many = task.points(variables, key, 5), task.points(variables, key, 9)
    assert many.shape == (9, 2) and np.allclose(few, many[:5], atol=1e-6)


def test_pictures_and_metrics(trained):
    task, variables = trained
    key = jax.random.key(2)
    batch = RING.batch(0)
    pictures = {"preview": task.preview(variables, batch, key)["samples"],
                "sample": task.sample(variables, key, 30)["samples"],
                "results": task.results(variables, RING, key)["samples"][None]}
    for name, x in pictures.items():
        assert x.shape == (1, 180, 180, 3) and 0 <= x.min() and x.max() <= 1 and x.std() > 0.02, name
    assert not np.array_equal(pictures["preview"], task.preview(variables, RING.batch(1), key)["samples"]), "shows data"
    found = task.evaluate(variables, RING, key)
    assert found == coverage(task.points(variables, key, 50), RING.centres, RING.sigma)


def test_points_have_no_walks_and_no_metrics_of_pictures(trained):
    task, _ = trained
    assert not task.controls()
    with pytest.raises(UserError, match="metrics of their own.*leave --metrics"):
        tiny(evaluation=Evaluation())


def test_bad_settings():
    with pytest.raises(UserError, match="extent must be positive"):
        tiny(extent=0.0)
    with pytest.raises(UserError, match="kind of mixture 'rnig'.*ring"):
        config_lib.load("gan/mixture:kind=rnig")


@pytest.mark.parametrize(("arg", "modes", "gp"), [("kind=ring", 8, 0.0), ("kind=grid,loss=wasserstein", 25, 0.1),
                                                  ("kind=spiral,loss=hinge", 200, 0.0)])
def test_config(arg, modes, gp):
    """Everything the data holds is within the pictures."""
    built = config_lib.build(config_lib.load(f"gan/mixture:{arg}"))
    assert len(built.data.centres) == modes and built.task.gp_weight == gp
    assert built.task.extent >= np.abs(built.data.centres).max() + 3 * built.data.sigma


def test_the_mixture_is_learnt_by_a_penalised_critic():
    """Two modes, a small net, 400 steps: both are found, which the metric sees."""
    data = Ring(modes=2, radius=1.0, sigma=0.2, batch_size=64)
    opt = optax.adam(3e-3, b1=0.0, b2=0.9)
    task = Plane(generator=Generator(hidden=(32,)), discriminator=Discriminator(hidden=(32,), shrink=1.0), latent_dim=4,
                 g_optimizer=opt, d_optimizer=opt, r1_gamma=0.1, eval_samples=500)
    state = task.init(jax.random.key(0), data.element_spec)
    x = jnp.asarray(np.stack([data.batch(i)["image"] for i in range(400)]))

    @jax.jit
    def train(state, x):
        def body(state, x):
            state, _ = task.step(state, {"image": x}, jax.random.fold_in(jax.random.key(1), state.step))
            return state, None

        return jax.lax.scan(body, state, x)[0]

    measure = functools.partial(task.evaluate, data=data, rng=jax.random.key(2))
    before, after = measure(task.export(state)), measure(task.export(train(state, x)))
    assert after["modes"] == 2 and after["reverse_kl"] < 0.2
    assert after["high_quality"] > max(0.5, before["high_quality"])
