"""StyleGAN2: published sizes, names, noise, truncation, the running average of w, mixing, low precision, penalties."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.gan.stylegan2 import Discriminator, Generator, mix_styles, mixing_cutoff, num_ws

SMALL = dict(resolution=16, channel_base=128, channel_max=8)
LATENT = dict(z_dim=8, w_dim=8, mapping_layers=2)


def count(net, *args):
    shapes = jax.eval_shape(net.init, jax.random.key(0), *args)["params"]
    return sum(math.prod(v.shape) for v in jax.tree.leaves(shapes))


def fill(net, *args, dtype=np.float32, **kwargs):
    """Variables of `net` as N(0, 1), without compiling its initialisation."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), *args, **kwargs))
    return jax.tree.map(lambda s: jnp.asarray(rng.standard_normal(s.shape), dtype), shapes)


@pytest.mark.parametrize("of,common,mapping,arch,want", [
    ("1024", dict(resolution=1024), 8, "resnet", (30_370_060, 29_012_513)),
    ("paper256", dict(resolution=256, channel_base=16384), 8, "resnet", (24_767_458, 24_001_089)),
    ("cifar", dict(resolution=32), 2, "orig", (19_947_539, 20_720_641)),
    ("cifar, conditional", dict(resolution=32, classes=10), 2, "orig", (20_215_315, 23_089_664)),
])
def test_parameter_counts(of, common, mapping, arch, want):
    label = jnp.zeros((2,), int)
    r = common["resolution"]
    g = count(Generator(mapping_layers=mapping, **common), jnp.zeros((2, 512)), label)
    d = count(Discriminator(architecture=arch, **common), jnp.zeros((2, r, r, 3)), label)
    assert (g, d) == want, of


def test_number_of_layers():
    assert [num_ws(r) for r in (32, 256, 1024)] == [8, 14, 18]


@pytest.fixture(scope="module")
def generator():
    net = Generator(**SMALL, **LATENT, classes=3)
    z, label = jax.random.normal(jax.random.key(1), (4, 8)), jnp.asarray([0, 1, 2, 0])
    return net, jax.jit(net.init)(jax.random.key(0), z, label), z, label


def test_names_of_the_published_code(generator):
    _, v, _, _ = generator
    p, b = v["params"], v["buffers"]
    assert set(p) == {"mapping", "synthesis"} and set(p["mapping"]) == {"embed", "fc0", "fc1"}
    assert set(p["synthesis"]) == {"b4", "b8", "b16"}
    assert set(p["synthesis"]["b4"]) == {"const", "conv1", "torgb"}
    assert set(p["synthesis"]["b8"]) == {"conv0", "conv1", "torgb"}
    assert set(p["synthesis"]["b8"]["conv0"]) == {"affine", "kernel", "bias", "noise_strength"}
    assert b["mapping"]["w_avg"].shape == (8,) and b["synthesis"]["b8"]["conv0"]["noise_const"].shape == (8, 8)
    np.testing.assert_array_equal(p["synthesis"]["b8"]["conv0"]["affine"]["bias"], 1)


def test_noise_labels_and_truncation(generator):
    net, v, z, label = generator
    # noise starts with strength 0: give it some
    v = jax.tree_util.tree_map_with_path(lambda path, a: a + ("noise_strength" in str(path)), v)

    @jax.jit
    def pictures(v, z, label, key):
        ws = net.apply(v, z, label, method="map")
        draw = lambda noise, k=key: net.apply(v, ws, noise, method="synthesize", rngs={"noise": k})  # noqa: E731
        return dict(none=draw("none"), const=draw("const"), a=draw("random", key), again=draw("random", key),
                    b=draw("random", jax.random.fold_in(key, 1)), ws=ws,
                    other=net.apply(v, z, label[::-1], method="map"))

    out = pictures(v, z, label, jax.random.key(7))
    assert out["none"].shape == (4, 16, 16, 3) and out["none"].dtype == jnp.float32
    np.testing.assert_array_equal(out["a"], out["again"])
    for x, y in (("a", "b"), ("a", "const"), ("const", "none"), ("ws", "other")):
        assert float(jnp.abs(out[x] - out[y]).max()) > 1e-3, (x, y)
    hot = net.apply(v, z, jax.nn.one_hot(label, 3), method="map")
    np.testing.assert_allclose(hot, out["ws"], atol=1e-6)
    v = {**v, "buffers": {**v["buffers"], "mapping": {"w_avg": jnp.arange(8.0)}}}
    near = net.apply(v, z, label, psi=0.7, cutoff=2, method="map")
    np.testing.assert_allclose(near[:, :2], 0.7 * out["ws"][:, :2] + 0.3 * np.arange(8), atol=1e-5)
    np.testing.assert_allclose(near[:, 2:], out["ws"][:, 2:], atol=1e-6)
    everywhere = net.apply(v, z, label, psi=0.0, method="map")
    np.testing.assert_allclose(everywhere, np.broadcast_to(np.arange(8.0), everywhere.shape), atol=1e-5)


def test_running_average_of_w(generator):
    net, v, z, label = generator
    np.testing.assert_array_equal(v["buffers"]["mapping"]["w_avg"], 0)
    ws, new = net.apply(v, z, label, update_w_avg=True, method="map", mutable=["buffers"])
    np.testing.assert_allclose(new["buffers"]["mapping"]["w_avg"], 0.005 * ws[:, 0].mean(0), rtol=1e-4)
    _, same = net.apply(v, z, label, method="map", mutable=["buffers"])
    np.testing.assert_array_equal(same["buffers"]["mapping"]["w_avg"], 0)


def test_style_mixing():
    keys = jax.random.split(jax.random.key(0), 4000)
    cut = np.asarray(jax.vmap(lambda k: mixing_cutoff(k, 8, 0.9))(keys))
    share = np.bincount(cut, minlength=9) / 4000
    assert share[0] == 0 and abs(share[8] - 0.1) < 0.02
    np.testing.assert_allclose(share[1:8], 0.9 / 7, atol=0.025)
    a, b = jnp.zeros((2, 8, 3)), jnp.ones((2, 8, 3))
    np.testing.assert_array_equal(mix_styles(a, b, cut[0])[0, :, 0], np.arange(8) >= cut[0])


@pytest.mark.parametrize("g_arch,d_arch", [("skip", "resnet"), pytest.param("resnet", "skip", marks=pytest.mark.slow),
                                           pytest.param("orig", "orig", marks=pytest.mark.slow)])
def test_low_precision_is_near_and_only_where_asked(g_arch, d_arch):
    g, d = Generator(**SMALL, **LATENT, architecture=g_arch), Discriminator(**SMALL, architecture=d_arch)
    low, z = dict(num_low_precision_res=1), jax.random.normal(jax.random.key(1), (4, 8))
    v, q = fill(g, z), fill(d, jnp.zeros((4, 16, 16, 3)))

    @jax.jit
    def run(v, q, z):
        img = g.apply(v, z, noise="const")
        return (img, d.apply(q, img)), (g.clone(**low).apply(v, z, noise="const"), d.clone(**low).apply(q, img))

    exact, near = run(v, q, z)
    assert {x.dtype for x in jax.tree.leaves(near)} == {jnp.dtype("float32")}
    for a, b in zip(exact, near, strict=True):
        assert 0 < float(jnp.abs(a - b).max()) < 0.05 * max(1.0, float(jnp.abs(a).max()))
    text = str(jax.make_jaxpr(lambda v, z: g.clone(**low).apply(v, z, noise="const"))(v, jnp.zeros((4, 8))))
    assert "bf16[4,16,16,8]" in text and (g_arch == "resnet" or "bf16[4,8,8,8] = add" not in text)


def test_regularisers_reach_second_order():
    """Gradients of R1 and of path length against finite differences along a direction, in float64."""
    with jax.enable_x64(True):
        g = Generator(resolution=8, channel_base=32, channel_max=4, z_dim=4, w_dim=4, mapping_layers=1)
        d = Discriminator(resolution=8, channel_base=32, channel_max=4, mbstd_group=2)
        z, img = (jax.random.normal(jax.random.key(i), s, jnp.float64) for i, s in ((1, (2, 4)), (2, (2, 8, 8, 3))))
        gv, dv = fill(g, z, dtype=np.float64), fill(d, img, dtype=np.float64)

        def path_length(p):
            v = {**gv, "params": p}
            ws = g.apply(v, z, method="map")
            grads = jax.grad(lambda ws: (g.apply(v, ws, "const", method="synthesize") * jnp.cos(img)).sum())(ws)
            return jnp.sqrt(jnp.square(grads).sum(2).mean(1)).mean()

        def r1(p):
            return jnp.square(jax.grad(lambda x: d.apply({"params": p}, x).sum())(img)).sum()

        for f, p in ((path_length, gv["params"]), (r1, dv["params"])):
            leaves, tree = jax.tree.flatten(p)
            way = jax.tree.unflatten(tree, [jnp.sin(1 + jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape)
                                            for a in leaves])
            move = lambda t: jax.tree.map(lambda a, b: a + t * b, p, way)  # noqa: E731, B023
            both = jax.jit(jax.value_and_grad(f))
            slopes = jax.tree.map(lambda a, b: (a * b).sum(), both(p)[1], way)
            finite = (both(move(1e-6))[0] - both(move(-1e-6))[0]) / 2e-6
            assert abs(float(finite)) > 1e-3
            np.testing.assert_allclose(sum(jax.tree.leaves(slopes)), finite, rtol=1e-4)


def test_errors():
    def shapes(net, *args):
        return jax.eval_shape(net.init, jax.random.key(0), *args)

    with pytest.raises(UserError, match="power of two"):
        shapes(Generator(resolution=24), jnp.zeros((1, 512)))
    net = Discriminator(**SMALL)
    with pytest.raises(UserError, match="takes pictures"):
        shapes(net, jnp.zeros((4, 8, 8, 3)))
    with pytest.raises(UserError, match="needs labels"):
        shapes(Discriminator(**SMALL, classes=2), jnp.zeros((4, 16, 16, 3)))
    with pytest.raises(UserError, match="resnet"):
        shapes(Discriminator(**SMALL, architecture="resne"), jnp.zeros((4, 16, 16, 3)))
