"""Progressive GAN's networks: parameter counts, a slow reference, what the fade means, the two heads."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.gan.progressive import Discriminator, Generator, fade_images, upscale
from genjax.nn.equalized import SQRT2, pixel_norm
from genjax.ops.resample import avg_pool2x

KEY = jax.random.key(1)
TINY = dict(resolution=8, fmap_base=32, fmap_max=6)  # 6 maps at 4 x 4 and at 8 x 8


def count(tree):
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(("resolution", "g", "d"), [(1024, 23_079_115, 23_087_249), (128, 22_933_394, 22_941_313)])
def test_published_parameter_counts(resolution, g, d):
    assert count(jax.eval_shape(Generator(resolution).init, KEY, jnp.zeros((2, 512)))) == g
    x = jax.ShapeDtypeStruct((2, resolution, resolution, 3), jnp.float32)
    assert count(jax.eval_shape(Discriminator(resolution).init, KEY, x)) == d
    assert np.allclose(pixel_norm(jnp.array([3.0, 4.0])), [0.8485281, 1.1313709], atol=1e-7)


def conv(x, p, gain=SQRT2):
    """Equalised convolution written out, "SAME", correlation."""
    w = p["kernel"] * gain / math.sqrt(np.prod(p["kernel"].shape[:3]))
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) + p["bias"]


def flipped(p):
    return {**p, "kernel": p["kernel"][::-1, ::-1]}


def act(x):
    return jnp.where(x > 0, x, 0.2 * x)


@pytest.fixture(scope="module")
def generator():
    g = Generator(**TINY)
    z = jax.random.normal(KEY, (2, 6))
    return g, jax.jit(g.init)(KEY, z), z


@pytest.fixture(scope="module")
def discriminator():
    d = Discriminator(**TINY, mbstd_group=2)
    x = jax.random.uniform(KEY, (2, 8, 8, 3), minval=-1)
    return d, jax.jit(d.init)(KEY, x), x


def test_the_generator_is_its_definition(generator):
    g, variables, z = generator
    p = jax.tree.map(lambda x: x + 0.1, variables["params"])  # biases that are not 0

    h = pixel_norm(z) @ (p["b4_dense"]["kernel"] * math.sqrt(2) / 4 / math.sqrt(6))
    h = h.reshape(2, 6, 4, 4).transpose(0, 2, 3, 1) + p["b4_dense_bias"]
    h = pixel_norm(act(conv(pixel_norm(act(h)), p["b4_conv1"])))
    small = conv(h, p["b4_torgb"], 1)
    # A transposed convolution acts with its kernel turned round.
    h = pixel_norm(act(conv(upscale(h), flipped(p["b8_conv0"]))))
    h = pixel_norm(act(conv(h, p["b8_conv1"])))
    big = conv(h, p["b8_torgb"], 1)
    assert np.allclose(g.apply({"params": p}, z, size=4), small, atol=1e-5)
    assert np.allclose(g.apply({"params": p}, z), big, atol=1e-5)
    assert np.allclose(g.apply({"params": p}, z, alpha=0.3), 0.7 * upscale(small) + 0.3 * big, atol=1e-5)


@pytest.mark.parametrize("blur", [False, True])
def test_the_discriminator_is_its_definition(discriminator, blur):
    _, variables, x = discriminator
    d = Discriminator(**TINY, mbstd_group=2, blur=blur)
    p = jax.tree.map(lambda x: x + 0.1, variables["params"])
    row = np.array([1.0, 2.0, 1.0]) / 4
    kernel = np.zeros((3, 3, 6, 6))
    kernel[:, :, range(6), range(6)] = np.outer(row, row)[..., None]
    filtered = {"kernel": jnp.asarray(kernel, jnp.float32) * math.sqrt(54), "bias": 0.0}

    h = act(conv(act(conv(x, p["b8_fromrgb"])), p["b8_conv0"]))
    h = conv(h, filtered, 1) if blur else h
    h = act(avg_pool2x(conv(h, p["b8_conv1"])))
    h = 0.3 * h + 0.7 * act(conv(avg_pool2x(x), p["b4_fromrgb"]))
    std = jnp.sqrt(jnp.square(h - h.mean(0)).mean(0) + 1e-8).mean()
    h = act(conv(jnp.concatenate([h, jnp.full((2, 4, 4, 1), std)], -1), p["b4_conv"]))
    h = h.transpose(0, 3, 1, 2).reshape(2, -1)
    h = act(h @ (p["b4_dense"]["kernel"] * math.sqrt(2 / 96)) + p["b4_dense"]["bias"])
    a = h @ (p["output"]["kernel"] / math.sqrt(6)) + p["output"]["bias"]
    assert np.allclose(d.apply({"params": p}, x, alpha=0.3), a[:, 0], atol=1e-4)


def test_alpha_0_is_the_smaller_network(generator, discriminator):
    g, variables, z = generator
    assert np.allclose(g.apply(variables, z, size=8, alpha=0.0), upscale(g.apply(variables, z, size=4)), atol=1e-6)
    d, variables, x = discriminator
    assert np.allclose(d.apply(variables, x, alpha=0.0), d.apply(variables, avg_pool2x(x)), atol=1e-6)
    assert np.allclose(fade_images(x, 0.0), upscale(avg_pool2x(x)), atol=1e-6)
    assert np.array_equal(fade_images(x, 1.0), x)


def test_larger_layers_have_no_gradient(generator):
    g, variables, z = generator
    grads = jax.grad(lambda p: jnp.square(g.apply({"params": p}, z, size=4)).sum())(variables["params"])
    moved = {k for k, v in grads.items() if any(np.abs(x).max() > 0 for x in jax.tree.leaves(v))}
    assert moved == {"b4_dense", "b4_dense_bias", "b4_conv1", "b4_torgb"}


def test_heads():
    x, y = jnp.ones((2, 4, 4, 3)), jnp.array([2, 0])
    both = {}
    for head, width in (("acgan", 4), ("switch", 3)):
        d = Discriminator(4, classes=3, head=head, fmap_base=8, fmap_max=4)
        variables = jax.jit(d.init)(KEY, x, y)
        assert variables["params"]["output"]["kernel"].shape == (4, width)
        both[head] = d, variables
    d, variables = both["acgan"]
    a, logits = d.apply(variables, x, method="classify")
    assert logits.shape == (2, 3) and np.array_equal(a, d.apply(variables, x, y))
    d, variables = both["switch"]
    a = d.apply(variables, x, y)
    assert np.array_equal(a[::-1], d.apply(variables, x[::-1], y[::-1])) and abs(float(a[0] - a[1])) > 1e-6
    with pytest.raises(UserError, match="labels"):
        d.apply(variables, x)


def test_sizes_are_refused_in_one_line(discriminator):
    d, variables, _ = discriminator
    with pytest.raises(UserError, match=r"works at \[4, 8\] pixels, not at 16"):
        d.apply(variables, jnp.zeros((2, 16, 16, 3)))
    with pytest.raises(UserError, match="power of two"):
        Generator(12).init(KEY, jnp.zeros((1, 512)))
    with pytest.raises(UserError, match="head"):
        Discriminator(4, head="acgam", fmap_base=8, fmap_max=4).init(KEY, jnp.zeros((2, 4, 4, 3)))
