"""Encodings, samples and volume rendering against closed forms and slow references."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.fields import sampling, volume
from genjax.fields.encoding import gaussian, gaussian_directions, octaves


def test_encodings_by_hand():
    x = jnp.array([0.25, -0.5, 0.1])
    y = octaves(x, 2)
    want = [np.sin(np.pi * x), np.cos(np.pi * x), np.sin(2 * np.pi * x), np.cos(2 * np.pi * x)]
    np.testing.assert_allclose(y, np.concatenate(want), atol=1e-6)
    assert octaves(x, 10).shape == (60,) and octaves(x, 4).shape == (24,)
    nerf = octaves(x, 10, pi=False, include_input=True)
    assert nerf.shape == (63,)
    np.testing.assert_allclose(nerf[:6], np.concatenate([x, np.sin(x)]), atol=1e-6)
    b = gaussian_directions(10)
    assert gaussian(x, jnp.asarray(b)).shape == (60,) and abs(b.std() / 4 - 1) < 0.2


@pytest.mark.parametrize("pi", [True, False])
def test_encodings_are_exact_at_high_octaves(pi):
    x = np.random.default_rng(0).uniform(-4, 4, (500, 3)).astype(np.float32)
    a = x.astype(np.float64)[:, None] * (2.0 ** np.arange(10))[:, None] * (np.pi if pi else 1.0)
    y = octaves(jnp.asarray(x), 10, pi)
    np.testing.assert_allclose(y, np.concatenate([np.sin(a), np.cos(a)], -1).reshape(500, 60), atol=3e-7)
    got = jax.grad(lambda x: (octaves(x, 10, pi) * np.linspace(1, 2, 60)).sum())(jnp.asarray(x))
    slope = np.concatenate([np.cos(a), -np.sin(a)], -1) * (2.0 ** np.arange(10))[:, None] * (np.pi if pi else 1.0)
    want = (slope.reshape(500, 60) * np.linspace(1, 2, 60)).reshape(500, 20, 3).sum(1)
    np.testing.assert_allclose(got, want, atol=2e-5 * abs(want).max())


def test_constant_density():
    t = sampling.even(0.5, 6.0, 64)
    w = volume.weights(jnp.ones(64), t, jnp.float32(1))
    np.testing.assert_allclose([w[0], w[63], w.sum(), volume.depth(w, t)],
                               [0.0835993209, 0.0040867715, 1.0, 1.4530732833], rtol=2e-6)
    np.testing.assert_allclose(volume.weights(jnp.ones(64), t, jnp.float32(1), last=0.0).sum(), 0.9959132297, rtol=1e-6)


def test_weights_against_a_loop():
    rng = np.random.default_rng(0)
    sigma, t, length = rng.normal(size=(3, 9)) * 2, np.sort(rng.random((3, 9)), -1), 1 + rng.random(3)
    got = volume.weights(*(jnp.asarray(v, jnp.float32) for v in (sigma, t, length)))
    for r in range(3):
        through = 1.0
        for i in range(9):
            step = (t[r, i + 1] - t[r, i] if i < 8 else 1e10) * length[r]
            alpha = 1 - np.exp(-max(sigma[r, i], 0) * step)
            assert abs(got[r, i] - through * alpha) < 1e-6
            through *= 1 - alpha


def test_a_sphere_of_constant_density_hides_as_much_as_its_chord_says():
    t = sampling.even(0.0, 4.0, 2001)
    for offset in (0.0, 0.5, 0.9):
        inside = np.square(t - 2) + offset**2 < 1
        w = volume.weights(1.5 * inside, t, jnp.float32(1), last=0.0)
        chord = 2 * np.sqrt(1 - offset**2)
        assert abs(float(w.sum()) - (1 - np.exp(-1.5 * chord))) < 3e-3


def test_composition():
    sigma, f = jnp.array([1.0, 3.0]), jnp.array([[2.0, 0.0], [0.0, 4.0]])
    s, g = volume.compose(sigma, f)
    assert float(s) == 4 and np.allclose(g, [0.5, 3.0])
    s, g = volume.compose(sigma, f, "max")
    assert float(s) == 3 and np.allclose(g, [0, 4])
    s, g = volume.compose(jnp.zeros((2, 5)), jnp.ones((2, 5, 3)))
    assert not s.any() and not g.any()


def test_shares_and_what_is_behind():
    sigma = jnp.array([[1.0, 0, 2], [3.0, 0, 2]])
    for how, want, total in (("sum", [[0.25, 0, 0.5], [0.75, 0, 0.5]], [4, 0, 4]),
                             ("max", [[0, 1, 1], [1, 0, 0]], [3, 0, 2])):  # of equals the first, once
        got, share = volume.shares(sigma, how)
        np.testing.assert_allclose(share, want)
        np.testing.assert_allclose(got, total)
    w, c = jnp.array([[0.25, 0.5]]), jnp.array([[[1.0, 0], [0, 1.0]]])
    np.testing.assert_allclose(volume.colour(w, c), [[0.25, 0.5]])
    np.testing.assert_allclose(volume.colour(w, c, 1.0), [[0.5, 0.75]])


def test_depths_are_jittered_and_shifted():
    of = types.SimpleNamespace(near=1.0, far=3.0, samples=5)
    np.testing.assert_allclose(sampling.depths(of, (2, 3), shift=jnp.array([[[0.0]], [[2.0]]]))[:, 1],
                               [np.linspace(1, 3, 5), np.linspace(3, 5, 5)])
    t = sampling.depths(of, (2, 3), jax.random.key(0))
    np.testing.assert_array_equal(t, sampling.stratified(jax.random.key(0), sampling.depths(of, (2, 3))))
    assert t.shape == (2, 3, 5) and len(np.unique(t)) == 30


@pytest.mark.parametrize("sigma", [0.0, 1e8])
def test_gradients_are_finite_at_the_edges(sigma):
    def loss(s):
        w = volume.weights(s, sampling.even(0.5, 6.0, 16), jnp.float32(1))
        total, f = volume.compose(jnp.stack([s, s]), jnp.ones((2, 16, 3)))
        return w.sum() + (w[:, None] * f).sum() + total.mean()

    assert np.isfinite(jax.grad(loss)(jnp.full(16, sigma))).all()


def test_jitter_stays_in_its_cell():
    t = sampling.even(1.0, 3.0, 9)
    x = np.asarray(sampling.stratified(jax.random.key(0), jnp.broadcast_to(t, (4000, 9))))
    assert (np.diff(x, axis=-1) >= 0).all() and x.min() >= 1 and x.max() <= 3
    np.testing.assert_allclose(x[:, 1:-1].mean(0), t[1:-1], atol=0.01)
    np.testing.assert_allclose([x[:, 0].mean(), x[:, -1].mean()], [1.0625, 2.9375], atol=0.01)


def test_importance_sampling_follows_the_weights():
    edges = jnp.array([0.0, 1.0, 3.0, 4.0])
    w = jnp.array([1.0, 0.0, 3.0])
    u = jnp.linspace(0, 1, 4001)[:-1]
    t = np.asarray(sampling.importance(u, edges, w, floor=0.0))
    np.testing.assert_allclose([(t < 1).mean(), (t > 3).mean()], [0.25, 0.75], atol=1e-3)
    assert (np.diff(t) >= -1e-6).all() and t.min() >= 0 and t.max() <= 4
    even = sampling.importance(u[::1000], edges, jnp.zeros(3))  # an empty ray: each cell alike
    np.testing.assert_allclose(even, [0, 0.75, 2.0, 3.25], atol=1e-5)
    slow = np.interp(u, [0, 0.25, 0.25, 1], [0, 1, 3, 4])
    np.testing.assert_allclose(t[u != 0.25], slow[u != 0.25], atol=1e-4)
