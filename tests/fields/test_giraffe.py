"""GIRAFFE's networks: sizes, the authors' own output, and windows that leave nothing out."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genjax.core import config as config_lib
from genjax.errors import UserError
from genjax.fields.boxes import Boxes, BoxPrior
from genjax.fields.decoder import FeatureField
from genjax.fields.encoding import gaussian_directions
from genjax.fields.giraffe import Generator, Scene
from genjax.fields.official import generator_params
from genjax.fields.renderer import Discriminator, NeuralRenderer
from tests.fields.tables import differences

SPAN = BoxPrior(scale_min=(0.2,) * 3, scale_max=(0.3, 0.25, 0.2)).span()
FILE = Path(__file__).parent / "giraffe_official.npz"


@pytest.fixture(scope="module")
def recorded():
    """Random weights, a scene, and the authors' image and object masks of it (their module, PyTorch 2.13)."""
    with np.load(FILE) as z:
        flat = dict(z)
    state = {k[6:]: v for k, v in flat.items() if k.startswith("state/")}
    s = {k[6:]: v for k, v in flat.items() if k.startswith("scene/")}
    boxes = Boxes(s.pop("scale"), s.pop("centre"), s.pop("angle"), np.ones((1, 2), bool))
    return {"params": generator_params(state)}, Scene(boxes=boxes, **s), flat["image"], flat["alpha"]


def small(**kw):
    return Generator(**{"decoder": FeatureField(hidden=16, blocks=6, skips=(3,), features=64), "size": 32,
                        "background": FeatureField(hidden=8, blocks=4, skips=(), downscale=12.0, features=64),
                        "renderer": NeuralRenderer(size=32, features=64), "samples": 24, **kw})


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def scene(k=1, z=256, zb=128):
    f = np.float32
    return Scene(np.zeros((1, k, z), f), np.zeros((1, k, z), f), np.zeros((1, zb), f), np.zeros((1, zb), f),
                 BoxPrior(boxes=k).place([[0.5] * 3] * k, [[0.5] * 3] * k, [0.5] * k), np.zeros((1, 3), f),
                 np.eye(3, dtype=f)[None], np.ones((1,), f), np.zeros((1,), f))


def test_parameter_counts():
    shapes = jax.eval_shape(lambda k: Generator().init({"params": k, "noise": k}, scene()), jax.random.key(0))["params"]
    assert {k: count(v) for k, v in shapes.items()} == {"decoder": 266_241, "background": 47_041, "renderer": 98_313}
    d = jax.eval_shape(lambda k: Discriminator().init(k, jnp.zeros((1, 64, 64, 3))), jax.random.key(0))
    assert count(d) == 2_763_776


@pytest.mark.parametrize("span", [0.0, SPAN])
def test_the_authors_image(recorded, span):
    params, what, image, alpha = recorded
    g = small(span=span)
    assert g.window == (6 if span else 24)
    out = jax.jit(lambda p, s: g.apply(p, s, None, False))(params, what)
    np.testing.assert_allclose(out, image, atol=1e-5)
    assert image.std() > 0.005
    seen = jax.jit(lambda p, s: g.apply(p, s, False, method="volume"))(params, what)
    np.testing.assert_allclose(seen.objects, alpha, atol=3e-4)
    assert alpha.max() > 0.1


def test_the_authors_renderer_without_images_at_every_size():
    """Recorded from autonomousvision/giraffe, im2scene/giraffe/models/neural_renderer.py: NeuralRenderer(n_feat=8,
    input_dim=4, min_feat=2, img_size=64, use_rgb_skip=False), kernels sin(1), sin(2), ..., biases sin(2), ..."""
    net = NeuralRenderer(size=64, features=8, least=2, rgb_skip=False)
    x = jnp.asarray(np.cos(0.7 * np.arange(16 * 16 * 4)).reshape(1, 16, 16, 4), jnp.float32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), x)
    params = jax.tree.map(lambda s: np.sin((1.0 if len(s.shape) == 4 else 2.0) + np.arange(s.size)).reshape(s.shape)
                          .astype(np.float32), shapes)
    out = net.apply(params, x)
    np.testing.assert_allclose([out[0, 0, 0], out[0, 31, 17], out[0, 63, 40]], [
        [0.9644141, 0.9009341, 0.2861862], [0.9315330, 0.8814371, 0.3911058], [0.9755682, 0.9574666, 0.4201569]],
        atol=1e-5)
    np.testing.assert_allclose([out.mean(), out.std()], [0.6625268, 0.2730800], atol=1e-5)
    last = params["params"]["conv_rgb"]  # runs from before have 3 x 3, which still draw the same
    wide = {**last, "kernel": np.pad(last["kernel"], ((1, 1), (1, 1), (0, 0), (0, 0)))}
    np.testing.assert_allclose(net.apply({"params": {**params["params"], "conv_rgb": wide}}, x), out, atol=1e-6)


def test_windows_leave_out_nothing_while_training_and_its_gradients_are_the_same(recorded):
    params, what, *_ = recorded
    def loss(params, span, **how):
        g = small(span=span, noise=0.0, **how)
        return g.apply(params, what, True, rngs={"noise": jax.random.key(3)}, method="volume").features.std()

    full = jax.jit(jax.value_and_grad(lambda p: loss(p, 0.0)))(params)
    part = jax.jit(jax.value_and_grad(lambda p: loss(p, SPAN, remat=True)))(params)
    for a, b in zip(jax.tree.leaves(full), jax.tree.leaves(part), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 + 1e-4 * np.abs(a).max())
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(full[1]["params"]["decoder"]))


def test_rays_in_parts_are_the_same_image_noise_included(recorded):
    params, what, *_ = recorded

    def value(params, chunk):
        v = small(span=SPAN, chunk=chunk).apply(params, what, True, rngs={"noise": jax.random.key(3)}, method="volume")
        return v.features.std() + v.depth.mean(), v

    whole, parts = (jax.jit(jax.value_and_grad(value, has_aux=True), static_argnums=1)(params, c) for c in (0, 64))
    for x, y in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-3 * np.abs(x).max())
    with pytest.raises(UserError, match="chunk=60 must divide the 256 rays"):
        small(chunk=60).apply(params, what, False, method="volume")


def test_what_is_absent_is_not_seen(recorded):
    params, what, *_ = recorded
    gone = what.replace(boxes=what.boxes.replace(present=np.array([[True, False]])))
    v = jax.jit(lambda p, s: small().apply(p, s, False, method="volume"))(params, gone)
    assert v.objects[0, 0].max() > 0 and v.objects[0, 1].max() == 0
    assert (v.seen.sum(1) <= 1 + 1e-5).all() and v.seen[0, 1].max() == 0


def test_bfloat16_is_close_and_has_gradients(recorded):
    params, what, image, _ = recorded
    g, low = small(span=SPAN), {"dtype": "bfloat16"}
    g = g.clone(decoder=g.decoder.clone(**low), background=g.background.clone(**low), renderer=g.renderer.clone(**low))

    def loss(params):
        x = g.apply(params, what, None, False)
        return jnp.square(x - 0.3).mean(), x

    (_, x), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    off = np.abs(x - image)
    assert x.dtype == jnp.float32 and 0 < off.max() < 0.01 and off.mean() < 0.1 * image.std()
    assert all(v.dtype == jnp.float32 and np.isfinite(v).all() for v in jax.tree.leaves(grads))
    assert all(np.abs(v).max() > 0 for v in jax.tree.leaves(grads["params"]["decoder"]))


def test_the_configs_bfloat16_reaches_every_network():
    low, full = (config_lib.load(f"fields/giraffe:{arg}") for arg in ("bf16", ""))
    changed = config_lib.diff(full, low)
    assert sorted(changed) == [f"task.{name}.dtype" for name in (
        "discriminator", "generator.background", "generator.decoder", "generator.renderer")]


def test_gaussian_encodings_are_the_authors():
    """Their directions of views are drawn after those of points, by one generator."""
    rng = np.random.RandomState(42)
    points, views = 4 * rng.randn(1, 30, 3), 4 * rng.randn(1, 12, 3)
    np.testing.assert_allclose(gaussian_directions(10), points[0], rtol=1e-6)
    np.testing.assert_allclose(gaussian_directions(4, after=10), views[0], rtol=1e-6)
    field = FeatureField(hidden=4, blocks=2, skips=(), features=3, encoding="gauss")
    p, d, z = np.ones((1, 1, 2, 3), np.float32), np.array([[[0, 0, 2.0]]], np.float32), np.zeros((1, 4), np.float32)
    params = field.init(jax.random.key(0), p, d, z, z)["params"]
    assert params["fc_in"]["kernel"].shape == (60, 4) and params["fc_view"]["kernel"].shape == (24, 4)
    b = np.pi * views[0] @ [0, 0, 0.5]  # of the unit direction, divided by 2
    want = nn.relu(params["feat_view"]["bias"] + params["fc_z_view"]["bias"] + params["fc_view"]["bias"]
                   + np.concatenate([np.sin(b), np.cos(b)]) @ params["fc_view"]["kernel"])
    silent = {**params, "feat_view": {**params["feat_view"], "kernel": np.zeros((4, 4), np.float32)}}
    hidden, _ = field.apply({"params": silent}, p, d, z, z, method="hidden_features")
    np.testing.assert_allclose(hidden[0, 0, 0], want, atol=1e-5)


@pytest.mark.parametrize("bad, says", [({"samples": 0}, "samples must be at least 2"),
                                       ({"near": 7.0}, "from near to far"), ({"size": 32}, "renderer.size=64"),
                                       ({"decoder": FeatureField(features=64)}, "background.features=128")])
def test_refusals(bad, says):
    with pytest.raises(UserError, match=says):
        Generator(**bad)


@pytest.mark.parametrize("override, says", [
    ("generator.renderer.features=0", "features must be at least 1"), ("generator.renderer.least=0", "least must be"),
    ("generator.decoder.dtype=float8", "did you mean 'float32'"), ("generator.background.skips=3", "layers 1 to 2"),
    ("generator.decoder.skips=99", "99 is not one of the layers 1 to 6"), ("generator.size=64", "renderer.size=32"),
    ("generator.background.features=32", "they are added"), ("background_rotation=1,0", "must not be the larger"),
    ("generator.decoder.skips=0,4", "skips=.0, 4.: 0 is not"), ("generator.renderer.dtype=int8", "dtype"),
    ("discriminator.dtype=x", "dtype"),
])
def test_refused_configs(override, says):
    with pytest.raises(UserError, match=says):
        config_lib.build(config_lib.load("fields/giraffe:small", [f"task.{override}"]))


@pytest.mark.parametrize("arg, size, every", [
    ("", 64, 0), ("small", 32, 0), ("small,res=64", 64, 0), ("res=256,features=lenet", 256, 10_000),
    ("data=cats,features=lenet", 64, 5000),
])
def test_the_configs_sizes_and_evaluations(arg, size, every):
    c = config_lib.load(f"fields/giraffe:{arg}" if arg else "fields/giraffe")
    sizes = c.task.generator.size, c.task.generator.renderer.size, c.data.image_size
    assert sizes == (size,) * 3 and c.train.eval_every == every
    assert c.train.keep_best == ("frechet" if every else "")
    assert c.g_optimizer.learning_rate == (2.5e-4 if size == 256 else 5e-4)


@pytest.mark.parametrize("data, middle, fit, resample", [
    ("two", 0, "centre", "lanczos"), ("compcars", 0, "random", "bilinear"), ("celeba", 108, "centre", "bilinear"),
    ("celebahq", 650, "centre", "bilinear"), ("ffhq", 0, "squash", "bilinear"), ("church", 0, "squash", "bilinear"),
])
def test_pictures_are_loaded_as_by_the_authors(data, middle, fit, resample):
    c = config_lib.load(f"fields/giraffe:data={data}").data
    assert (c.center_crop, c.fit, c.resample, c.flip) == (middle, fit, resample, True)


# The authors' settings. Sides of pictures, boxes, half sides from .. to, centre (reach along x, y; height), degrees of
# turn, field of view, v; the last two sets are ours, for the scenes of the ray tracer.
EDGE, FACE, LOW = (0.2, 0.16, 0.16), (145, 215), (0.41667, 0.5)
AUTHORS = {
    "compcars": ((64, 256), 1, EDGE, (0.25, 0.2, 0.2), (0.22, 0.12, 0), (0, 360), 10, LOW),
    "cats": ((64,), 1, (0.21,) * 3, (0.21,) * 3, (0, 0, 0), FACE, 10, LOW),
    "celeba": ((64,), 1, (0.21,) * 3, (0.21,) * 3, (0, 0, 0), FACE, 10, LOW),
    "celebahq": ((256,), 1, (0.21,) * 3, (0.21,) * 3, (0, 0, 0), (135, 225), 10, LOW),
    "ffhq": ((256,), 1, (0.21,) * 3, (0.21,) * 3, (0, 0, 0), FACE, 10, LOW),
    "chairs": ((64,), 1, (0.5,) * 3, (0.5,) * 3, (0, 0, 0), (0, 360), 49.13, (0.05, 0.5)),
    "church": ((64, 256), 1, (0.45,) * 3, (0.55,) * 3, (0.15, 0.15, 0), (0, 360), 30, (0.5, 0.5)),
    "clevr2": ((256,), 2, (0.17,) * 3, (0.17,) * 3, (0.713, 0.713, 0.1665), (0, 0), 49.13, (0.33333, 0.33333)),
    "clevr2345": ((256,), 5, (0.17,) * 3, (0.17,) * 3, (0.71, 0.71, 0.1665), (0, 0), 49.13, (0.33333, 0.33333)),
    "two": ((64,), 2, (0.17,) * 3, (0.17,) * 3, (0.7, 0.7, 0.17), (0, 360), 49.13, (0.33333, 0.33333)),
    "cars": ((64,), 1, EDGE, (0.25, 0.2, 0.2), (0.22, 0.12, 0), (0, 360), 17, (0.4, 0.48)),
}
ALWAYS = {
    **{f"task.generator.{k}": v for k, v in {
        "near": 0.5, "far": 6.0, "samples": 64, "volume_size": 16, "noise": 1.0, "padding": 0.1, "composition": "sum",
        "decoder.blocks": 8, "decoder.skips": (4,), "decoder.downscale": 2.0, "background.blocks": 4,
        "background.skips": (), "background.downscale": 12.0, "renderer.least": 32, "renderer.upsample": "nearest",
        "renderer.upsample_rgb": "bilinear", "renderer.rgb_skip": True, "renderer.norm": False,
        "renderer.sigmoid": True, **{f"{net}.{k}": v for net in ("decoder", "background") for k, v in {
            "octaves": 10, "view_octaves": 4, "encoding": "normal", "view_directions": True}.items()}}.items()},
    "task.discriminator.features": 512, "task.r1_gamma": 10.0, "task.r1_convention": "whole", "task.ema_decay": 0.999,
    "task.loss": "non_saturating", "task.d_steps": 1, "task.g_steps": 1, "task.reg_every": 1,
    "task.value_range": (0.0, 1.0), "task.boxes.one_scale": True, "task.camera.radius": (2.732, 2.732),
    "task.camera.u": (0.0, 0.0), "task.evaluation.n": 20_000, "data.batch_size": 32, "data.flip": True,
    "data.value_range": (0.0, 1.0), **{f"{o}_optimizer.{k}": v for o in "gd" for k, v in {
        "target": "genjax.core.optim.rmsprop", "decay": 0.99, "momentum": 0.0, "halve_at": (),
        "schedule": "constant"}.items()},
    "d_optimizer.learning_rate": 1e-4, "train.keep_best": "frechet",
}


@pytest.mark.parametrize("data", AUTHORS)
def test_the_configs_are_the_authors(data):
    sizes, k, low, high, (x, y, z), turn, fov, v = AUTHORS[data]
    few = data == "clevr2345"  # with codes and fields half as large and more, and one rate at any size
    for size in sizes:
        wide = 256 if size == 256 and not few else 128
        want = {
            "task.boxes.boxes": k, "task.boxes.scale_min": low, "task.boxes.scale_max": high,
            "task.boxes.centre_min": (-x, -y, z), "task.boxes.centre_max": (x, y, z),
            "task.boxes.rotation": tuple(a / 360 for a in turn), "task.camera.fov": fov, "task.camera.v": v,
            "task.boxes.padding": 0.05 if k > 1 else -1.0,  # ours: theirs reads places without collisions from a file
            "task.boxes.existence": (0.0, 0.19456788, 0.24355003, 0.25269547, 0.30918661) if few else (),
            "task.code": 64 if few else 256, "task.background_code": 32 if few else 128,
            "task.generator.decoder.hidden": 64 if few else 128, "task.generator.background.hidden": 32 if few else 64,
            "task.background_rotation": (0.0, 0.25 if data == "church" else 0.0),
            **{f"task.generator.{net}.features": wide for net in ("decoder", "background", "renderer")},
            "task.generator.size": size, "task.generator.renderer.size": size, "data.image_size": size,
            "g_optimizer.learning_rate": 2.5e-4 if size == 256 and not few else 5e-4,
            "train.eval_every": 5000 if data == "cats" else 10_000,
        }
        found = config_lib.load(f"fields/giraffe:data={data},features=lenet" + (f",res={size}" if size > 64 else ""))
        assert differences(found, {**ALWAYS, **want}) == {}
