"""Deep Image Prior's networks: parameters of every published setting, outputs of the published code, gradients."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.dip import inputs
from genjax.dip.networks import Skip, crop_to_smallest, hourglass
from genjax.dip.other_networks import DeepDecoder, Pixels, ResNet, UNet
from genjax.errors import UserError
from genjax.nn.layers import InstanceNorm
from genjax.ops.conv import conv2d
from genjax.ops.resample import max_pool2x

KEY = jax.random.key(0)
JPEG = (8, 16, 32, 64, 128)
LIBRARY5 = (16, 32, 64, 128, 128)
LIBRARY6 = (16, 32, 64, 128, 128, 128)
INVERSION = dict(
    channels_down=LIBRARY6, channels_up=LIBRARY6, channels_skip=4, kernel_down=(7, 7, 5, 5, 3, 3),
    kernel_up=(7, 7, 5, 5, 3, 3), upsample="nearest", downsample="avg", pad="zero",
)  # fmt: skip
ACTIVATION = dict(
    channels_down=LIBRARY6, channels_up=LIBRARY6, channels_skip=(0, 4, 4, 4, 4, 4), kernel_down=(5, 3, 5, 5, 3, 5),
    kernel_up=(5, 3, 5, 3, 5, 3), downsample="avg",
)  # fmt: skip

# name: (network, channels of z, parameters). Counts were taken from the published code, run.
PUBLISHED = {
    "denoise, super-resolution": (Skip(), 32, 2_217_831),
    "JPEG": (Skip(channels_down=JPEG, channels_up=JPEG, channels_skip=(0, 0, 0, 4, 4)), 3, 572_827),
    "super-resolution priors": (Skip(), 3, 2_184_307),
    "flash": (Skip(upsample=("nearest", "nearest", "bilinear", "bilinear", "bilinear")), 3, 2_184_307),
    "vase": (Skip(channels_skip=0, upsample="nearest"), 2, 2_157_955),
    "text": (Skip(channels_skip=128, upsample="nearest"), 32, 3_002_627),
    "library depth 6": (hourglass(6), 1, 2_996_467),
    "library depth 4": (hourglass(4), 1, 1_060_339),
    "library depth 2": (hourglass(2), 1, 59_635),
    "library U-Net": (UNet(), 1, 1_616_315),
    "library ResNet": (ResNet(), 1, 158_979),
    "half missing, grey": (Skip(out_channels=1), 32, 2_217_573),
    "98 % missing": (
        Skip(channels_down=LIBRARY5, channels_up=LIBRARY5, channels_skip=0, downsample="avg"), 32, 1_027_379
    ),
    "inversion": (Skip(**INVERSION), 32, 2_606_763),
    "inversion, appendix": (Skip(**INVERSION), 2, 2_583_123),
    "activation": (Skip(**ACTIVATION), 32, 2_948_567),
    "Deep Decoder": (DeepDecoder(), 128, 100_224),
    "no prior": (Pixels(), 3, 256 * 256 * 3),
}  # fmt: skip


def shapes(net, *shape):
    return jax.eval_shape(net.init, KEY, jax.ShapeDtypeStruct(shape, jnp.float32))


def small_skip(**kwargs):
    defaults = dict(channels_down=(4, 6), channels_up=(5, 4), channels_skip=(2, 3))
    return Skip(**{**defaults, **kwargs})


TINY = Skip(channels_down=(4,), channels_up=(5,), channels_skip=2, pad="zero", need1x1_up=False)

# name: (network, channels of z); made small so that each compiles in a second or two.
SMALL = {
    "skip": (small_skip(), 3),
    "hourglass": (hourglass(1), 1),
    "unet": (UNet(feature_scale=32, more_layers=0), 2),
    "unet bilinear": (
        UNet(feature_scale=16, more_layers=1, concat_x=True, upsample="bilinear", norm="batch", pad="reflection"), 2
    ),
    "resnet": (ResNet(blocks=1, channels=4), 1),
    "decoder": (DeepDecoder(channels=(6, 5)), 6),
    "pixels": (Pixels(need_sigmoid=True), 1),
}  # fmt: skip


def drawn(net, z, seed=0, dtype=np.float32):
    """Parameters drawn with numpy (compiling an initialisation takes longer than these tests): kernels N(0, 2/fan)."""
    rng = np.random.default_rng(seed)

    def draw(path, p):
        scale = {"scale": 0.2, "kernel": math.sqrt(2 / max(1, math.prod(p.shape[:-1])))}.get(path[-1].key, 0.1)
        return (rng.normal(0, scale, p.shape) + (path[-1].key == "scale")).astype(dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes(net, *z.shape))


def noise_for(name, height=64, width=64):
    net, channels = SMALL[name]
    return np.random.default_rng(1).uniform(size=(1, height // net.reduction, width // net.reduction, channels))


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_of_the_published_settings(name):
    net, channels, want = PUBLISHED[name]
    side = 256 // net.reduction
    assert sum(math.prod(p.shape) for p in jax.tree.leaves(shapes(net, 1, side, side, channels))) == want


@pytest.mark.parametrize("name", ["skip", "resnet"])
def test_outputs_of_the_published_code(name):
    """Random weights through the published PyTorch module (042e0d4, torch 2.13) and through ours.

    The file holds z and the output as NHWC, and the weights as one vector, leaves in the order of their sorted paths,
    kernels HWIO. The skip network sees an odd size, a scale without side branch and three ways to halve.
    """
    net = {
        "skip": Skip(
            channels_down=(3, 4, 4), channels_up=(4, 3, 4), channels_skip=(2, 0, 2), kernel_down=(5, 3, 3),
            upsample=("nearest", "bilinear", "bilinear"), downsample=("stride", "avg", "lanczos2"),
        ),
        "resnet": ResNet(blocks=1, channels=4),
    }[name]  # fmt: skip
    with np.load(Path(__file__).parent / "data" / "official_outputs.npz") as f:
        z, want, flat = (f[f"{name}/{k}"] for k in ("z", "out", "params"))
    leaves, tree = jax.tree.flatten(shapes(net, *z.shape))
    sizes = [math.prod(p.shape) for p in leaves]
    assert sum(sizes) == len(flat)
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    variables = jax.tree.unflatten(tree, [p.reshape(v.shape) for p, v in zip(parts, leaves, strict=True)])
    np.testing.assert_allclose(jax.jit(net.apply)(variables, z), want, atol=1e-5)


@pytest.mark.parametrize("name", ["skip", "resnet", "decoder"])
def test_compiled_gradients_are_difference_quotients(name):
    """Every kernel and scale, in float64, at an odd width."""
    with jax.enable_x64(True):
        net = SMALL[name][0].clone(dtype="float64")
        if name == "skip":
            net = TINY.clone(downsample="max", dtype="float64")
        z = noise_for(name, 36, 44)[:, :-1]
        v = drawn(net, z, dtype=np.float64)
        weights = np.random.default_rng(2).normal(size=jax.eval_shape(net.apply, v, z).shape)

        def loss(v, z, weights):
            return jnp.sum(net.apply(v, z) * weights)

        run = jax.jit(jax.value_and_grad(loss))
        grads = run(v, z, weights)[1]
        leaves, tree = jax.tree.flatten(v)
        for i, (path, g) in enumerate(jax.tree_util.tree_leaves_with_path(grads)):
            assert np.isfinite(g).all(), path
            if path[-1].key == "bias":  # of no effect in front of a normalisation
                continue
            norm = float(jnp.linalg.norm(g))
            assert norm > 1e-6, path

            def along(t, i=i, g=g, norm=norm):
                moved = [p + t * g / norm if j == i else p for j, p in enumerate(leaves)]
                return float(run(jax.tree.unflatten(tree, moved), z, weights)[0])

            # 1e-7 keeps clear of the corners of ReLU and max pooling
            np.testing.assert_allclose((along(1e-7) - along(-1e-7)) / 2e-7, norm, rtol=1e-5, err_msg=str(path))


def test_gradient_of_a_map_both_pooled_and_cropped():
    """As in a U-Net of odd size. A max whose gradient asks "x == max(x)" fails here: compiled, x is computed twice."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, pooled, cropped = (rng.normal(size=(1, h, w, 16)) for h, w in ((17, 19), (8, 9), (16, 18)))
        first, second = rng.normal(scale=0.1, size=(2, 3, 3, 16, 16))

        def loss(w):
            y = jax.nn.relu(InstanceNorm().apply({}, conv2d(x, w)))
            a, b = conv2d(max_pool2x(y), second), conv2d(crop_to_smallest(y, cropped)[0], second)
            return jnp.sum(a * pooled) + jnp.sum(b * cropped)

        run = jax.jit(jax.value_and_grad(loss))
        g = run(first)[1]
        norm = jnp.linalg.norm(g)
        quotient = (run(first + 1e-6 * g / norm)[0] - run(first - 1e-6 * g / norm)[0]) / 2e-6
        np.testing.assert_allclose(quotient, norm, rtol=1e-6)


@pytest.mark.parametrize("name", ["hourglass", "unet", "resnet", "decoder", "pixels"])
def test_pictures_have_size_range_and_type(name):
    net, z = SMALL[name][0], noise_for(name)
    y = jax.jit(net.apply)(drawn(net, z), z)
    assert y.shape == (1, 64, 64, 3) and y.dtype == jnp.float32
    assert 0 <= float(y.min()) < float(y.max()) <= 1 and np.isfinite(y).all()


def test_bfloat16_is_close_to_float32_and_trains():
    z = noise_for("skip").astype(np.float32)
    wide, net = TINY, TINY.clone(dtype="bfloat16")
    v = drawn(net, z)

    def loss(v):
        y = net.apply(v, z)
        return jnp.mean(jnp.square(y)), y

    (_, got), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(v)
    want = jax.jit(wide.apply)(v, z)
    assert got.dtype == jnp.float32 and all(g.dtype == jnp.float32 for g in jax.tree.leaves(grads))
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))
    assert 1e-5 < float(jnp.sqrt(jnp.mean((got - want) ** 2))) < 0.1 * float(want.std())


def test_one_program_for_many_parameter_sets():
    """vmap over parameters, as when several pictures are fitted at once, equals one network after the other."""
    net, z = TINY, noise_for("skip", 16, 16).astype(np.float32)
    each = [drawn(net, z, seed) for seed in range(3)]

    def loss(v):
        y = net.apply(v, z)
        return jnp.sum(jnp.square(y - 0.3)), y

    step = jax.value_and_grad(loss, has_aux=True)
    (_, pictures), grads = jax.jit(jax.vmap(step))(jax.tree.map(lambda *p: np.stack(p), *each))
    assert float(jnp.abs(pictures[0] - pictures[1]).max()) > 0.01
    step = jax.jit(step)
    for i, v in enumerate(each):
        (_, picture), grad = step(v)
        np.testing.assert_allclose(pictures[i], picture, atol=5e-5)
        for (path, g), many in zip(jax.tree_util.tree_leaves_with_path(grad), jax.tree.leaves(grads), strict=True):
            np.testing.assert_allclose(many[i], g, atol=1e-3 * float(jnp.abs(g).max()) + 1e-4, err_msg=str(path))


@pytest.mark.parametrize("kwargs,want", [
    ({}, (61, 45)),  # the side branch at full size decides
    ({"channels_skip": 0}, (64, 48)),  # nothing to crop to: the next multiple of 4
    ({"downsample": "avg"}, (60, 44)),  # pooling drops the odd pixel
])  # fmt: skip
def test_sizes_of_odd_pictures(kwargs, want):
    net = small_skip(**kwargs)
    z = jax.ShapeDtypeStruct((1, 61, 45, 3), jnp.float32)
    out = jax.eval_shape(lambda z: net.init_with_output(KEY, z)[0], z)
    assert out.shape == (1, *want, 3)


def test_multiple_is_the_size_that_survives():
    nets = SMALL | {"deeper unet": (UNet(more_layers=2), 1)}
    for name, (net, channels) in nets.items():
        h, w = 3 * net.multiple * 16 // math.gcd(net.multiple, 16), 5 * net.multiple * 16 // math.gcd(net.multiple, 16)
        z = jax.ShapeDtypeStruct((1, h // net.reduction, w // net.reduction, channels), jnp.float32)
        out = jax.eval_shape(lambda z, net=net: net.init_with_output(KEY, z)[0], z)
        assert out.shape == (1, h, w, 3), name


def test_lanczos_halving_has_no_parameters():
    plain, lanczos = small_skip(downsample="avg"), small_skip(downsample="lanczos2")
    # The published code's are dense convolutions among the parameters, 8 * 8 * C * C + C each.
    want, got = shapes(plain, 1, 16, 16, 3), shapes(lanczos, 1, 16, 16, 3)
    assert jax.tree.map(jnp.shape, got) == jax.tree.map(jnp.shape, want)


def test_skip_options_have_their_parameters():
    params = shapes(small_skip(channels_skip=(0, 3), need_bias=False, need1x1_up=False), 1, 16, 16, 3)["params"]
    assert "skip0" not in params and "skip1" in params and "up0b" not in params
    assert "bias" not in params["down0a"]["conv"] and "bias" not in params["out"]["conv"]
    assert params["join1"]["scale"].shape == (3 + 6,)
    raw, z = TINY.clone(need_sigmoid=False), noise_for("skip", 16, 16)
    v = drawn(raw, z)
    y, squashed = jax.jit(lambda v, z: (raw.apply(v, z), TINY.apply(v, z)))(v, z)
    assert float(jnp.abs(y - 0.5).max()) > 0.5
    np.testing.assert_allclose(jax.nn.sigmoid(y), squashed, atol=1e-5)


def test_pixels_are_the_picture():
    z = jnp.zeros((1, 5, 7, 9))
    v = Pixels(low=0.5, high=0.6).init(KEY, z)
    pixels = v["params"]["pixels"]
    assert pixels.shape == (1, 5, 7, 3) and 0.5 <= float(pixels.min()) < float(pixels.max()) < 0.6
    np.testing.assert_array_equal(Pixels().apply(v, z), pixels)
    np.testing.assert_allclose(Pixels(need_sigmoid=True).apply(v, z), jax.nn.sigmoid(pixels))


@pytest.mark.parametrize("make,message", [
    (lambda: small_skip(channels_up=(4,)), "channels_up has 1 entries for 2 scales"),
    (lambda: small_skip(upsample=("nearest",) * 3), "upsample has 3 entries for 2 scales"),
    (lambda: small_skip(kernel_up=(3, 4)), "even kernel"),
    (lambda: hourglass(7), "depth is 7"),
    (lambda: shapes(small_skip(pad="reflect"), 1, 16, 16, 3), "did you mean 'reflection'"),
    (lambda: shapes(small_skip(downsample="average"), 1, 16, 16, 3), "unknown downsample"),
    (lambda: shapes(small_skip(), 1, 4, 4, 3), "use a larger picture"),
    (lambda: shapes(UNet(feature_scale=32, concat_x=True), 1, 64, 64, 2), "concat_x leaves no room"),
    (lambda: shapes(DeepDecoder(), 1, 8, 8, 32), "wants channels"),
])  # fmt: skip
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_noise_is_a_function_of_its_key():
    z = inputs.make_input("noise", KEY, 40, 50, 32)
    assert z.shape == (1, 40, 50, 32) and z.dtype == jnp.float32
    assert 0 <= float(z.min()) and float(z.max()) < 0.1
    np.testing.assert_allclose([z.mean(), z.std()], [0.05, 0.1 / math.sqrt(12)], rtol=0.02)
    np.testing.assert_array_equal(z, inputs.noise(KEY, 40, 50))
    assert float(jnp.abs(z - inputs.noise(jax.random.key(1), 40, 50)).max()) > 0.01
    normal = inputs.make_input("normal", KEY, 40, 50, 32, scale=0.5)
    np.testing.assert_allclose([normal.mean(), normal.std()], [0, 0.5], atol=0.01)


def test_meshgrid_runs_from_zero_to_one():
    z = inputs.make_input("meshgrid", KEY, 3, 5, 2)
    np.testing.assert_allclose(z[0, :, :, 0], np.tile([0, 0.25, 0.5, 0.75, 1], (3, 1)))
    np.testing.assert_allclose(z[0, :, :, 1], np.tile([[0], [0.5], [1]], (1, 5)))


def test_guide_is_the_picture_itself():
    image = jax.random.uniform(KEY, (6, 4, 3))
    np.testing.assert_array_equal(inputs.make_input("image", KEY, 6, 4, image=image), image[None])


@pytest.mark.parametrize("args,kwargs,message", [
    (("nois", KEY, 8, 8), {}, "did you mean 'noise'"),
    (("meshgrid", KEY, 8, 8, 32), {}, "2 channels, not 32"),
    (("image", KEY, 8, 8), {}, "needs a guide image"),
    (("image", KEY, 8, 8), {"image": jnp.zeros((8, 9, 3))}, "8x9"),
])  # fmt: skip
def test_wrong_inputs_are_named(args, kwargs, message):
    with pytest.raises(UserError, match=message):
        inputs.make_input(*args, **kwargs)
