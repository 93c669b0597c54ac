"""NeRF: sizes, pictures by hand, that it fits a scene, and its samples where the density is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from genjax.core import config as config_lib
from genjax.data.posed import PosedImages
from genjax.errors import UserError
from genjax.fields.nerf import Nerf
from genjax.fields.radiance import Beside, RadianceField
from genjax.nn.layers import Dense
from tests.fields.tables import differences


class Slab(nn.Module):
    """Opaque and red where x < 0, empty elsewhere."""

    def __call__(self, p, d):
        sigma = jnp.where(p[..., 0] < 0, 50.0, -20.0)
        return jnp.broadcast_to(jnp.array([1.0, 0.0, 0.0]), p.shape), sigma


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def test_parameter_counts():
    p, d = jnp.zeros((1, 1, 1, 3)), jnp.zeros((1, 1, 3))
    f = RadianceField()
    assert count(jax.eval_shape(lambda k: f.init(k, p, d), jax.random.key(0))) == 595_844
    z = jnp.zeros((1, 128))
    assert count(jax.eval_shape(lambda k: f.init(k, p, d, z, z), jax.random.key(0))) == 677_764, "GRAF's table 1"


def test_parts_multiplied_apart_are_one_layer_of_all_side_by_side():
    shapes = (2, 3, 4, 5), (2, 3, 1, 2), (2, 1, 1, 3)
    a, b, c = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes))
    layer = Beside(7)
    params = layer.init(jax.random.key(0), a, b, c)
    whole = jnp.concatenate([jnp.broadcast_to(v, (2, 3, 4, v.shape[-1])) for v in (a, b, c)], -1)
    np.testing.assert_allclose(layer.apply(params, a, b, c), Dense(7).apply(params, whole), atol=1e-5)
    glorot = Beside(70, start="glorot").init(jax.random.key(0), whole)["params"]
    assert abs(float(glorot["kernel"].std()) * np.sqrt(80 / 2) - 1) < 0.05 and (glorot["bias"] == 0).all()


@pytest.mark.parametrize("how", [{}, {"union": False}, {"union": False, "density": "softplus"}])
def test_a_slab_is_seen_where_it_is(how):
    task = Nerf(coarse=Slab(), fine=None, optimizer=optax.sgd(0.1), samples=32, importance=64, background=1.0, **how)
    o = jnp.array([[3.0, 0, 0], [3.0, 0, 0]])
    d = jnp.array([[-1.0, 0, 0], [0.0, 1.0, 0]])
    out = jax.jit(lambda: task.render({"coarse": {}}, o, d))()
    np.testing.assert_allclose(out["rgb"], [[1, 0, 0], [1, 1, 1]], atol=1e-4)
    np.testing.assert_allclose(out["alpha"], [1, 0], atol=1e-4)
    assert abs(out["depth"][0] - 3) < 0.06, "finer than the coarse samples' .13"


@pytest.fixture(scope="module")
def ball(tmp_path_factory):
    """A grey ball, lit from above, seen from eight places around it at 8 x 8: computed here by hand."""
    n, s = 8, 8
    poses, pictures = np.tile(np.eye(4, dtype=np.float32), (n, 1, 1)), np.full((n, s, s, 3), 255, np.uint8)
    for i, a in enumerate(np.linspace(0, 2 * np.pi, n, endpoint=False)):
        back = np.array([np.cos(a), np.sin(a), 0.0])
        right = np.cross([0, 0, 1.0], back)
        R = np.stack([right, [0, 0, 1], back], -1)
        poses[i, :3, :3], poses[i, :3, 3] = R, 4 * back
        g = (2 * np.arange(s) + 1) / s - 1
        x, y = np.meshgrid(g, -g)
        d = np.stack([x / 3, y / 3, -np.ones_like(x)], -1) @ R.T
        d /= np.linalg.norm(d, axis=-1, keepdims=True)
        b = (d * 4 * back).sum(-1)
        disc = b * b - 16 + 1
        hit = disc > 0
        p = 4 * back + (-b - np.sqrt(np.maximum(disc, 0)))[..., None] * d
        shade = 255 * (0.3 + 0.5 * (p[..., 2] + 1) / 2)
        pictures[i][hit] = shade[hit, None].astype(np.uint8)
    path = tmp_path_factory.mktemp("ball") / "ball.npz"
    np.savez(path, images=pictures, poses=poses, focal=np.float32(12))
    return PosedImages(f"npz:{path}", batch_size=64, holdout=4)


def test_it_fits_a_ball_and_shows_it_from_where_it_was_not_seen(ball):
    net = RadianceField(hidden=24, layers=2, skips=(), octaves=3, view_octaves=1)
    task = Nerf(coarse=net, fine=None, optimizer=optax.adam(1e-2), samples=12, importance=8, chunk=32,
                noise=1.0)  # without it a small network may start without any density, and stay so
    state = jax.jit(lambda k: task.init(k, ball.element_spec))(jax.random.key(0))
    step = jax.jit(task.step)
    before = task.evaluate(task.export(state), ball, None)["psnr_test"]
    for i in range(150):
        state, metrics = step(state, ball.batch(i), jax.random.fold_in(jax.random.key(1), i))
    after = task.evaluate(task.export(state), ball, None)["psnr_test"]
    assert np.isfinite(float(metrics["loss"])) and after > max(before + 6, 17), (before, after)
    picture = task.results(task.export(state), ball, None)["views"]
    assert picture.ndim == 3 and 0 <= picture.min() and picture.max() <= 1


@pytest.mark.parametrize("bad, says", [({"samples": 0}, "samples must be at least 2"),
                                       ({"near": 9.0}, "from near to far")])
def test_refusals(bad, says):
    with pytest.raises(UserError, match=says):
        Nerf(optimizer=optax.sgd(0.1), **bad)


@pytest.mark.parametrize("override, says", [
    ("coarse.hidden=0", "hidden must be at least 2"), ("fine.hidden=1", "hidden must be at least 2"),
    ("coarse.layers=0", "layers must be at least 1"), ("coarse.skips=99", "99 is not one of the layers 0 to 7"),
    ("coarse.octaves=-1", "octaves must be at least 0"), ("fine.dtype=float8", "did you mean 'float32'"),
])
def test_refused_configs(override, says):
    with pytest.raises(UserError, match=says):
        config_lib.build(config_lib.load("fields/nerf", [f"task.{override}"]))


def test_the_config_is_the_authors():
    """Section 5.3 and appendix A of the paper, settings of the authors' code for the synthetic scenes."""
    want = {**{f"task.{net}.{k}": v for net in ("coarse", "fine") for k, v in {
                "hidden": 256, "layers": 8, "skips": (4,), "octaves": 10, "view_octaves": 4, "view_directions": True,
                "start": "glorot"}.items()},
            **{f"task.{k}": v for k, v in {
                "near": 2.0, "far": 6.0, "samples": 64, "importance": 128, "union": True, "density": "relu",
                "noise": 0.0, "background": 1.0}.items()},
            **{f"data.{k}": v for k, v in {
                "batch_size": 1024, "solid": 0.0, "background": 1.0, "middle_steps": 500, "image_size": 0}.items()},
            **{f"optimizer.{k}": v for k, v in {
                "target": "genjax.core.optim.adam", "learning_rate": 5e-4, "b1": 0.9, "b2": 0.999, "eps": 1e-7,
                "schedule": "exponential", "decay_steps": 500_000, "end_factor": 0.1, "weight_decay": 0.0}.items()},
            "train.steps": 500_000}
    assert differences(config_lib.load("fields/nerf"), want) == {}
    tiny = config_lib.load("fields/nerf:tiny")
    assert (tiny.task.coarse.start, tiny.data.middle_steps, tiny.train.steps) == ("glorot", 0, 4500)
