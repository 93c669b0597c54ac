"""Projection: schedules, noise regularisation, recovery of a picture the generator made."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.gan import project as p
from genjax.gan.stylegan2 import Generator
from genjax.metrics import lpips


def test_schedules_of_the_paper():
    s = p.Settings()
    got = [float(p.learning_rate(t, s)) for t in (0, 0.025, 0.05, 0.5, 0.75, 0.875, 1)]
    np.testing.assert_allclose(got, [0, 0.05, 0.1, 0.1, 0.1, 0.05, 0], atol=1e-7)
    got = [float(p.w_noise(t, s)) for t in (0, 0.375, 0.75, 0.9)]
    np.testing.assert_allclose(got, [0.05, 0.0125, 0, 0], atol=1e-8)
    assert (s.steps, s.noise_weight, s.w_samples) == (1000, 1e5, 10_000)


def test_noise_penalty_against_loops():
    n = np.random.default_rng(0).standard_normal((32, 32))
    want, x = 0.0, n
    for size in (32, 16, 8):
        right = sum(x[i, j] * x[i, (j - 1) % size] for i in range(size) for j in range(size)) / size**2
        below = sum(x[i, j] * x[(i - 1) % size, j] for i in range(size) for j in range(size)) / size**2
        want += right**2 + below**2
        x = (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4
    assert float(p.noise_penalty(jnp.asarray(n, jnp.float32))) == pytest.approx(want, rel=1e-4)
    flat = jnp.ones((4, 4))  # a single level below 8
    assert float(p.noise_penalty(flat)) == pytest.approx(2)
    same = p.normalized(jnp.asarray(3 * n + 2, jnp.float32))
    assert abs(float(same.mean())) < 1e-5 and float(jnp.square(same).mean()) == pytest.approx(1, rel=1e-5)


@pytest.fixture(scope="module")
def made():
    """A generator and a picture of its own."""
    net = Generator(resolution=8, channels=1, channel_base=64, channel_max=8, z_dim=8, w_dim=8, mapping_layers=2)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((1, 8))))

    def fill(path, s):  # as initialised, without compiling that; the noise is heard
        name = jax.tree_util.keystr(path)
        scale = 0.05 if "noise_strength" in name else 100 if "fc" in name and "kernel" in name else 1
        ones = "affine" in name and "bias" in name
        x = np.ones(s.shape) if ones else scale * rng.standard_normal(s.shape) * ("bias" not in name)
        return jnp.asarray(x, jnp.float32)

    variables = jax.tree_util.tree_map_with_path(fill, shapes)
    target = jax.jit(lambda v, z: net.apply(v, z, noise="const"))(variables, rng.standard_normal((1, 8)))[0]
    return net, variables, target


@pytest.mark.parametrize("space", ["w", "w+"])
def test_a_generated_picture_is_found_again(made, space):
    net, variables, target = made
    s = p.Settings(space=space, steps=150, w_samples=256, noise_weight=10.0)
    found = p.project(net, {"params": variables["params"], "extra": {"buffers": variables["buffers"]}}, target,
                      jax.random.key(2), p.pixel_distance, s)
    assert found.ws.shape == (4, 8) and found.path.shape == (150, 4 if space == "w+" else 1, 8)
    assert (np.ptp(np.asarray(found.ws), axis=0).max() > 1e-3) == (space == "w+")
    error = float(jnp.square(found.image - target).mean())
    assert error < 0.02 * float(found.distance[0])
    again = net.apply(found.variables, found.ws[None], noise="const", method="synthesize")[0]
    np.testing.assert_allclose(again, found.image, atol=1e-5)
    for name, layer in (("b4", "conv1"), ("b8", "conv0"), ("b8", "conv1")):
        n = found.variables["buffers"]["synthesis"][name][layer]["noise_const"]
        assert abs(float(n.mean())) < 1e-5 and float(jnp.square(n).mean()) == pytest.approx(1, rel=1e-4)
        assert abs(n - variables["buffers"]["synthesis"][name][layer]["noise_const"]).max() > 0.1
    np.testing.assert_array_equal(found.variables["buffers"]["mapping"]["w_avg"],
                                  variables["buffers"]["mapping"]["w_avg"])


def test_mistakes_and_lpips(made):
    net, variables, target = made
    with pytest.raises(UserError, match="the target is"):
        p.project(net, variables, target[:4], jax.random.key(0), p.pixel_distance)
    with pytest.raises(UserError, match="space"):
        p.Settings(space="z")
    distance = p.lpips_distance(lpips.random("squeeze"))
    grey = jax.random.uniform(jax.random.key(3), (2, 32, 32, 1), minval=-1)
    apart = distance(grey[:1], grey[1:])
    assert apart.shape == (1,) and float(apart[0]) > 0
    assert any(leaf.ndim == 4 for leaf in jax.tree.leaves(distance))  # its weights are arguments, not constants
