"""StyleGAN's generator: parameter counts, table 1, a slow reference, mixing, truncation, noise."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.gan.stylegan import TABLE
from genjax.errors import UserError
from genjax.gan import progressive
from genjax.gan.stylegan import Generator, instance_norm
from genjax.nn.equalized import SQRT2, pixel_norm
from tests.gan.test_progressive import act, conv, count, flipped

KEY = jax.random.key(2)
Z = jax.random.normal(KEY, (3, 5))
G = Generator(resolution=8, channels=1, z_dim=5, w_dim=7, mapping_layers=2, fmap_base=32, fmap_max=6)


@pytest.fixture(scope="module")
def variables():
    """Parameters moved off their special first values."""
    v = jax.jit(G.init)({"params": KEY, "noise": KEY}, Z)
    return {"params": jax.tree.map(lambda x: x + 0.1, v["params"]), "buffers": v["buffers"]}


def test_published_parameter_counts():
    shapes = jax.eval_shape(Generator(1024).init, KEY, jnp.zeros((2, 512)))["params"]
    assert count(shapes) == 26_219_627 and count(shapes["mapping"]) == 2_101_248
    assert count([v for k, v in shapes["synthesis"].items() if k.endswith("torgb")]) == 7_659
    assert count(jax.eval_shape(Generator(256).init, KEY, jnp.zeros((2, 512)))["params"]) == 26_086_229


def test_table_1_from_the_tuned_baseline_to_mixing():
    """Each row adds what it says; B has exactly Progressive GAN's parameters."""
    rows = {k: jax.eval_shape(Generator(1024, **v).init, KEY, jnp.zeros((2, 512)))["params"] for k, v in TABLE.items()}
    n = {k: count(v) for k, v in rows.items()}
    assert n["b"] == count(jax.eval_shape(progressive.Generator(1024).init, KEY, jnp.zeros((2, 512))))
    layers = [512] * 8 + [256] * 2 + [128] * 2 + [64] * 2 + [32] * 2 + [16] * 2
    assert n["c"] - n["b"] == 2_101_248 + sum(513 * 2 * c for c in layers)
    assert n["d"] - n["c"] == 16 * 512 - 512 * 16 * 512
    assert n["e"] - n["d"] == sum(layers) and n["f"] == n["e"] and TABLE["e"]["mixing"] == 0


def test_the_generator_is_its_definition(variables):
    p, noise = variables["params"]["synthesis"], variables["buffers"]["synthesis"]
    w = pixel_norm(Z)
    for layer in ("fc0", "fc1"):
        q = variables["params"]["mapping"][layer]
        w = act(w @ (q["kernel"] * 0.01 * math.sqrt(2 / w.shape[1])) + 0.01 * q["bias"])

    def end(h, name):
        q = p[f"{name}_end"]
        h = h + noise[f"{name}_end"]["noise_const"][None, :, :, None] * q["noise_weight"]
        h = act(h + q["bias"])
        h = (h - h.mean((1, 2), keepdims=True)) / jnp.sqrt(h.var((1, 2), keepdims=True) + 1e-8)
        y = w @ (q["style"]["kernel"] / math.sqrt(7)) + q["style"]["bias"]
        return h * (1 + y[:, None, None, :6]) + y[:, None, None, 6:]

    def plain(h, q, gain=SQRT2):
        return conv(h, {"bias": 0.0, **q}, gain)

    row = np.array([1.0, 2.0, 1.0]) / 4
    kernel = np.zeros((3, 3, 6, 6))
    kernel[:, :, range(6), range(6)] = np.outer(row, row)[..., None]
    h = end(jnp.broadcast_to(p["const"], (3, 4, 4, 6)), "b4_const")
    h = end(plain(h, p["b4_conv1"]), "b4_conv1")
    small = plain(h, p["b4_torgb"], 1)
    h = plain(progressive.upscale(h), flipped(p["b8_conv0"]))
    h = end(plain(h, {"kernel": jnp.asarray(kernel, jnp.float32) * math.sqrt(54)}, 1), "b8_conv0")
    h = end(plain(h, p["b8_conv1"]), "b8_conv1")
    big = plain(h, p["b8_torgb"], 1)
    want = 0.4 * big + 0.6 * progressive.upscale(small)
    assert np.allclose(G.apply(variables, Z, train=False, alpha=0.4), want, atol=1e-3)
    assert np.allclose(G.apply(variables, Z, train=False, size=4), small, atol=1e-3)
    x = jax.random.normal(KEY, (2, 4, 4, 3)) * 5 + 2
    assert np.allclose(instance_norm(x).mean((1, 2)), 0, atol=1e-5)
    assert np.allclose(instance_norm(x).std((1, 2)), 1, atol=1e-5)


def test_the_first_values():
    v = jax.jit(G.init)({"params": KEY, "noise": KEY}, Z)
    p = v["params"]["synthesis"]
    assert np.all(p["const"] == 1) and not np.any(p["b4_const_end"]["noise_weight"])
    assert np.std(v["params"]["mapping"]["fc1"]["kernel"]) == pytest.approx(100, rel=0.3)
    assert not np.any(v["buffers"]["w_avg"])


def test_training_moves_the_average_w_and_mixes_styles(variables):
    w = G.apply(variables, Z, method="map")[:, 0]
    rngs = {"noise": KEY}
    x, new = G.apply(variables, Z, rngs=rngs, mutable=["buffers"])
    assert np.allclose(new["buffers"]["w_avg"], 0.005 * w.mean(0), atol=1e-6)
    assert jax.tree.structure(new["buffers"]) == jax.tree.structure(variables["buffers"])
    _, at_4 = G.apply(variables, Z, rngs=rngs, mutable=["buffers"], size=4)
    assert jax.tree.structure(at_4["buffers"]) == jax.tree.structure(variables["buffers"]), "all sizes stay"

    plain, mixed = (G.clone(mixing=m).apply(variables, Z, rngs=rngs, mutable=["buffers"])[0] for m in (0.0, 1.0))
    assert float(jnp.abs(plain - mixed).max()) > 1e-3 and x.shape == plain.shape


def test_truncation_draws_the_first_layers_to_the_average(variables):
    v = {**variables, "buffers": {**variables["buffers"], "w_avg": jnp.arange(7.0)}}
    full = G.apply(v, Z, method="map")
    near = G.apply(v, Z, method="map", psi=0.7, cutoff=3)
    assert full.shape == (3, 4, 7) and np.array_equal(near[:, 3], full[:, 3])
    assert np.allclose(near[:, :3], jnp.arange(7.0) + 0.7 * (full[:, :3] - jnp.arange(7.0)), atol=1e-5)
    a, b = (G.apply(v, z, train=False, psi=0.0) for z in (Z, -Z))
    assert np.allclose(a, b, atol=1e-5), "at psi 0 all pictures are one"
    assert np.array_equal(G.apply(v, full, method="synthesize"), G.apply(v, Z, train=False))


def test_noise_is_random_in_training_and_fixed_else(variables):
    ws = G.apply(variables, Z, method="map")
    a, b = (G.apply(variables, ws, "random", method="synthesize", rngs={"noise": jax.random.key(i)}) for i in (0, 1))
    fixed = G.apply(variables, ws, method="synthesize")
    none = G.apply(variables, ws, "none", method="synthesize")
    pairs = [(a, b), (a, fixed), (fixed, none)]
    assert all(float(jnp.abs(s - t).max()) > 1e-3 for s, t in pairs)
    with pytest.raises(UserError, match="noise"):
        G.apply(variables, ws, "randem", method="synthesize")
    with pytest.raises(UserError, match="mixing"):
        G.clone(mixing=1.5).init(KEY, Z)


def test_labels_enter_the_mapping():
    g = Generator(resolution=4, classes=3, z_dim=5, w_dim=7, mapping_layers=1, fmap_base=8, fmap_max=4)
    v = jax.jit(g.init)(KEY, Z, jnp.arange(3))
    a, b = (g.apply(v, Z, jnp.full((3,), y), method="map") for y in (0, 1))
    assert v["params"]["mapping"]["embed"].shape == (3, 5) and not np.allclose(a, b)
