"""Latent tools: seeds, mixing, truncation, noise, curves, arithmetic, neighbours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genjax.errors import UserError
from genjax.gan import latent
from genjax.gan.stylegan2 import Generator
from genjax.viz.video import save_video

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def style():
    """A generator with random variables whose noise is heard."""
    net = Generator(resolution=8, channels=1, channel_base=32, channel_max=4, z_dim=4, w_dim=4, mapping_layers=1)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((1, 4))))
    v = jax.tree.map(lambda s: jnp.asarray(RNG.standard_normal(s.shape), jnp.float32), shapes)
    return latent.Style(net, {"params": v["params"], "extra": {"buffers": v["buffers"]}}, batch=4)


def test_a_picture_keeps_its_seed():
    for prior in ("normal", "uniform"):
        z = latent.codes_of_seeds(range(5), 7, prior, 2.0)
        np.testing.assert_array_equal(z[3:], latent.codes_of_seeds([3, 4], 7, prior, 2.0))
        assert len({tuple(row) for row in z}) == 5 and (prior == "normal" or abs(z).max() <= 2)
    with pytest.raises(UserError, match="seed"):
        latent.codes_of_seeds([-1], 2)


def test_calls_of_another_size_change_nothing(style):
    ws = style.map(RNG.standard_normal((5, 4)).astype(np.float32))  # a full call and a padded one
    assert ws.shape == (5, 4, 4) and np.ptp(ws, axis=1).max() == 0
    x = style.paint(ws)
    assert x.shape == (5, 8, 8, 1)
    np.testing.assert_array_equal(x[3:], style.paint(ws[3:]))
    noisy = style.paint(ws, "random", jax.random.key(1))
    np.testing.assert_array_equal(noisy[:2], style.paint(ws[:2], "random", jax.random.key(1)))
    with pytest.raises(UserError, match="key"):
        style.paint(ws, "random")


def test_truncation(style):
    z = RNG.standard_normal((3, 4)).astype(np.float32)
    ws = style.map(z)
    np.testing.assert_array_equal(style.w_avg, style.variables["buffers"]["mapping"]["w_avg"])
    want = style.network.apply(style.variables, z, psi=0.3, cutoff=2, noise="const")
    np.testing.assert_allclose(style(z, psi=0.3, cutoff=2), want, atol=1e-4)
    half = latent.truncate(ws, style.w_avg, 0.5, cutoff=1)
    np.testing.assert_allclose(half[:, 0], (ws[:, 0] + style.w_avg) / 2, rtol=1e-5)
    np.testing.assert_array_equal(half[:, 1:], ws[:, 1:])
    x = latent.truncations(style, ws, (1.0, 0.0, -1.0))
    np.testing.assert_allclose(x[:, 0], style.paint(ws), atol=1e-4)
    np.testing.assert_allclose(x[1:, 1], x[:-1, 1], atol=1e-5)
    np.testing.assert_allclose(x[:, 2], style.paint(2 * style.w_avg - ws), atol=1e-4)


def test_layers_of_the_papers_figure():
    assert latent.layer_groups(18) == {"coarse": (0, 4), "middle": (4, 8), "fine": (8, 18)}
    assert latent.layer_groups(6) == {"coarse": (0, 2), "middle": (2, 4), "fine": (4, 6)}
    for layers in range(4, 20, 2):
        (a, b), (c, d), (e, f) = latent.layer_groups(layers).values()
        assert (a, b, d, f) == (0, c, e, layers) and a < b < d < f


def test_mixing_takes_the_named_layers_from_the_source():
    ws, source = np.zeros((2, 6, 1)), np.arange(1, 4).reshape(3, 1, 1) * np.ones((3, 6, 1))
    x = latent.mixing(lambda w: w[:, :, :, None], ws, source, [(0, 2), (4, 6)])
    assert x.shape == (2, 4, 6, 1, 1)
    np.testing.assert_array_equal(x[..., 0, 0], [[[0] * 6, *([k, k, 0, 0, 0, 0] for k in (1, 2, 3))],
                                                 [[0] * 6, *([0, 0, 0, 0, k, k] for k in (1, 2, 3))]])
    with pytest.raises(UserError, match="each of the 2 rows"):
        latent.mixing(lambda w: w, ws, source, [(0, 2)])


def test_noise_detail_and_components(style):
    ws = style.map(RNG.standard_normal((1, 4)).astype(np.float32))
    x, deviation = latent.noise_detail(style, ws[0], jax.random.key(0), 6)
    assert x.shape == (6, 8, 8, 1) and deviation.shape == (8, 8) and deviation.min() > 0
    np.testing.assert_allclose(deviation, x[..., 0].std(0), rtol=1e-6)
    found = latent.noise_components(style, ws, 8)
    np.testing.assert_allclose(found["none"], style.paint(ws, "none"), atol=1e-5)
    np.testing.assert_array_equal(found["all"], style.paint(ws))
    pairs = [(a, b) for a in found for b in found if a < b]
    assert all(abs(found[a] - found[b]).max() > 1e-3 for a, b in pairs)
    kept = latent.without_noise(style.variables, (4, 4))["params"]["synthesis"]
    assert kept["b4"]["conv1"]["noise_strength"] != 0 and kept["b8"]["conv0"]["noise_strength"] == 0


def test_strips_and_walks():
    a, b = RNG.standard_normal((2, 3, 5)).astype(np.float32)
    for curve in ("lerp", "slerp"):
        s = latent.strip(a, b, 5, curve)
        np.testing.assert_allclose(s[:, 0], a, atol=1e-5)
        np.testing.assert_allclose(s[:, -1], b, atol=1e-5)
        assert (abs(s[:, 2] - (a + b) / 2).max() < 1e-6) == (curve == "lerp")
    unit = latent.strip(np.eye(2)[:1], np.eye(2)[1:], 3, "slerp")[0, 1]
    np.testing.assert_allclose(unit, np.full(2, 0.5**0.5), atol=1e-6)
    closed = latent.walk(a, 4)
    assert closed.shape == (12, 5)
    np.testing.assert_allclose(closed[::4], a, atol=1e-5)
    path = latent.walk(a, 4, "lerp", closed=False)
    assert path.shape == (9, 5)
    np.testing.assert_array_equal(path[-1], a[-1])
    with pytest.raises(UserError, match="slerp"):
        latent.strip(a, b, 5, "slrp")
    with pytest.raises(UserError, match="2 codes"):
        latent.walk(a[:1], 4)


def test_frames_become_a_video(tmp_path):
    codes = np.linspace(-1, 1, 5, dtype=np.float32)
    shown = list(latent.frames(lambda c: np.broadcast_to(c[:, None, None, None], (len(c), 4, 4, 1)), codes, batch=2,
                               scale=2))
    assert [int(f[0, 0, 0]) for f in shown] == [0, 64, 128, 191, 255] and shown[0].shape == (8, 8, 1)
    with Image.open(save_video(tmp_path / "walk.gif", shown, 10)) as film:
        assert film.n_frames == 5 and film.size == (8, 8)


def test_arithmetic():
    z = {k: RNG.standard_normal((3, 6)) for k in "abc"}
    got = latent.combine((1, z["a"]), (-1, z["b"]), (1, z["c"]))
    np.testing.assert_allclose(got, z["a"].mean(0) - z["b"].mean(0) + z["c"].mean(0))
    nine = latent.neighbourhood(got, jax.random.key(0))
    np.testing.assert_array_equal(nine[4], got)
    away = abs(nine - got)
    assert away.max() < 0.25 and (away[[0, 1, 2, 3, 5, 6, 7, 8]].max(1) > 0.1).all()
    vector = latent.turn(z["a"], z["b"])
    moved = latent.along(z["c"], vector, (-1, 0, 1))
    np.testing.assert_allclose(moved[:, 1], z["c"])
    np.testing.assert_allclose(moved[:, 2] - moved[:, 0], np.broadcast_to(2 * vector, (3, 6)))


def test_nearest_neighbours_over_batches():
    data = RNG.standard_normal((23, 2, 2, 1))
    x = data[[5, 17]] + 1e-3
    got = latent.nearest(x, [data[:9], data[9:18], data[18:]], 3)
    far = np.linalg.norm((x[:, None] - data).reshape(2, 23, -1), axis=-1)
    want = np.argsort(far, 1)[:, :3]
    np.testing.assert_array_equal(got.index, want)
    assert want[:, 0].tolist() == [5, 17]
    np.testing.assert_allclose(got.distance, np.take_along_axis(far, want, 1), atol=1e-6)
    np.testing.assert_array_equal(got.images, data[want])
    by_sum = latent.nearest(x, [data], embed=lambda p: p.sum((1, 2, 3)))
    total = data.sum((1, 2, 3))
    np.testing.assert_array_equal(by_sum.index[:, 0], abs(x.sum((1, 2, 3))[:, None] - total).argmin(1))
    with pytest.raises(UserError, match="30 neighbours"):
        latent.nearest(x, [data], 30)
