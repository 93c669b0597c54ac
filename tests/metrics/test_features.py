"""Feature networks: parameter counts, agreement with slow versions in the published layout, resizing, misuse."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genjax.errors import UserError
from genjax.metrics import features, weights
from genjax.metrics.features import layers, vgg
from genjax.metrics.features.architecture import IMAGENET_MEAN, IMAGENET_STD

sys.path.insert(0, str(Path(__file__).parent))
import published_layout as slow  # noqa: E402


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write(path, shapes):
    arrays = slow.arrays(shapes)
    np.savez(path, **arrays)
    return arrays


# Inception: torchvision's without auxiliary head and with 1008 classes; with 34 432 running statistics 23 885 392.
@pytest.mark.parametrize("name, count", [("inception", 23_850_960), ("vgg16", 138_357_544), ("vgg19", 143_667_240),
                                         ("alexnet", 61_100_840), ("squeezenet", 1_235_496), ("lenet", 61_706),
                                         ("resnet20", 269_722)])
def test_parameter_counts(name, count):
    template, outputs = features.NETWORKS[name].outputs
    assert sum(leaf.size for leaf in jax.tree.leaves(template["params"])) == count
    if name == "inception":
        assert sum(leaf.size for leaf in jax.tree.leaves(template)) == 23_885_392
        assert {k: v.shape[1:] for k, v in outputs.items()} == {
            "conv3": (147, 147, 64), "pool1": (73, 73, 64), "pool2": (35, 35, 192), "mixed6": (17, 17, 768),
            "mixed7": (8, 8, 2048), "features": (2048,), "logits": (1008,), "logits_unbiased": (1008,)}


def test_lenet_from_a_file(tmp_path):
    p, x = write(tmp_path / "lenet.npz", slow.LENET), pictures(2, 32, 32, 1)
    net = features.load("lenet", tmp_path / "lenet.npz")
    got = net(x, layers=("c5",))
    for i in range(2):
        f, logits = slow.lenet(x[i].transpose(2, 0, 1) / 255, p)
        np.testing.assert_allclose(got["features"][i], f, atol=1e-5)
        np.testing.assert_allclose(got["logits"][i], logits, atol=1e-5)
    assert got["c5"].shape == (2, 1, 1, 120) and got["features"].dtype == jnp.float32 and net.width == 84
    small = pictures(1, 28, 28, 1)
    large = np.asarray(Image.fromarray(small[0, :, :, 0].astype(np.float32), "F").resize((32, 32), Image.BILINEAR))
    np.testing.assert_allclose(net(small)["features"][0], slow.lenet(large[None] / 255, p)[0], atol=1e-4)


def test_resnet_from_a_file(tmp_path):
    p, x = write(tmp_path / "resnet.npz", slow.RESNET20), pictures(1, 32, 32, 3)
    got = features.load("resnet20", tmp_path / "resnet.npz")(x)
    f, logits = slow.resnet20(((x[0] / 255 - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1), p)
    np.testing.assert_allclose(got["features"][0], f, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got["logits"][0], logits, rtol=1e-4, atol=1e-4)


def test_average_pool_does_not_count_the_padding_and_maximum_pool_is_torchs():
    x = np.random.default_rng(0).normal(size=(2, 5, 8, 3)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    np.testing.assert_allclose(layers.avg_pool3(x), np.nanmean(windows, (4, 5)), atol=1e-6)
    np.testing.assert_array_equal(layers.max_pool3(x, 1, 1), np.nanmax(windows, (4, 5)))
    inside = windows[:, 1:-1, 1:-1].max((4, 5))
    np.testing.assert_array_equal(layers.max_pool3(x), inside[:, ::2, ::2])
    for i, image in enumerate(x):
        want = slow.max_pool(image.transpose(2, 0, 1), 3, 2, ceil=True).transpose(1, 2, 0)
        np.testing.assert_array_equal(layers.max_pool3(x, ceil=True)[i], want)
    # a window's gradient goes to one place, also where values are equal
    grad = jax.grad(lambda x: layers.max_pool3(x).sum())(jnp.ones((1, 7, 7, 1)))
    assert float(grad.sum()) == 9


def test_adaptive_average_pool():
    x = np.random.default_rng(0).normal(size=(1, 5, 2, 1)).astype(np.float32)
    want = [[x[0, a:b, c:d, 0].mean() for c, d in ((0, 1), (0, 2), (1, 2))] for a, b in ((0, 2), (1, 4), (3, 5))]
    np.testing.assert_allclose(layers.adaptive_avg_pool(jnp.asarray(x), 3)[0, :, :, 0], want, atol=1e-6)


def test_resizes():
    """clean: PIL's bicubic in float, clipped, (x - 128) / 128; legacy: bilinear without antialiasing, 2x - 1."""
    arch, x = features.NETWORKS["inception"], pictures(1, 400, 320, 3)
    planes = [Image.fromarray(v, "F").resize((299, 299), Image.BICUBIC) for v in x[0].transpose(2, 0, 1).astype("f4")]
    want = (np.clip(np.stack(planes, -1), 0, 255) - 128) / 128
    np.testing.assert_allclose(arch.prepare(x, "clean")[0], want, atol=1e-4)
    grey = np.arange(0, 256, 51, dtype=np.uint8).reshape(1, 1, 6, 1)
    got = np.asarray(arch.prepare(grey, "legacy"))
    assert got.shape == (1, 299, 299, 3) and (np.ptp(got, axis=(1, 3)) == 0).all()
    at = (np.arange(299) + 0.5) * 6 / 299 - 0.5
    np.testing.assert_allclose(got[0, 0, :, 0], 2 * np.interp(at, np.arange(6), grey.ravel() / 255) - 1, atol=1e-5)


def test_inception_stem_and_names():
    """The first layers' value; names and layout are pytorch-fid's (the rest is compared with it outside the suite)."""
    net = features.random("inception", 3, resize="none")
    names = {".".join(p[1:-1]) for p in weights.flatten(net.variables)}
    assert {"Conv2d_1a_3x3.conv", "Mixed_5b.branch3x3dbl_3.bn", "Mixed_6e.branch7x7dbl_5.conv",
            "Mixed_7a.branch7x7x3_4.bn", "Mixed_7c.branch3x3_2b.conv", "fc"} <= names
    x = pictures(1, 15, 15, 3)
    p, s = net.variables["params"], net.variables["batch_stats"]
    got = features.INCEPTION.scale(x.astype(np.float32), "none")[0].transpose(2, 0, 1)
    want = got
    for name, stride, pad in (("Conv2d_1a_3x3", 2, 0), ("Conv2d_2a_3x3", 1, 0), ("Conv2d_2b_3x3", 1, 1)):
        n = {"bn.weight": p[name]["bn"]["scale"], "bn.bias": p[name]["bn"]["bias"],
             "bn.running_mean": s[name]["bn"]["mean"], "bn.running_var": s[name]["bn"]["var"]}
        n = {k: np.asarray(v) for k, v in n.items()}
        w = np.asarray(p[name]["conv"]["kernel"]).transpose(3, 2, 0, 1)
        want = slow.relu(slow.norm(slow.conv(want, w, stride=stride, padding=pad), n, "bn", 1e-3))
        unit = features.inception._Unit(w.shape[0], 3, stride, pad)
        got = unit.apply({"params": p[name], "batch_stats": s[name]}, jnp.asarray(got).transpose(1, 2, 0)[None])
        got = np.asarray(got)[0].transpose(2, 0, 1)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_dense_without_its_bias():
    x, p = jnp.ones((1, 2)), {"kernel": jnp.array([[1.0], [2.0]]), "bias": jnp.array([5.0])}
    assert [float(layers.Dense(1).apply({"params": p}, x, biased)[0, 0]) for biased in (True, False)] == [8, 3]


@pytest.mark.slow
def test_inception_whole():
    """It runs from end to end, and every picture has features of its own."""
    net = features.random("inception", 0)
    got = net(pictures(2, 64, 64, 3))
    bias = np.asarray(net.variables["params"]["fc"]["bias"])
    np.testing.assert_allclose(got["logits"] - got["logits_unbiased"], np.stack([bias] * 2), atol=1e-4)
    assert np.abs(bias).max() > 0.1
    assert got["features"].shape == (2, 2048) and got["logits"].shape == (2, 1008)
    assert bool(jnp.isfinite(got["features"]).all()) and float(got["features"].std(0).max()) > 0


def test_keras_vgg():
    """Keras' VGG under torchvision's names: first convolution on torchvision's input, fc1's order of inputs."""
    rng, arrays, at = np.random.default_rng(0), {}, 3
    for block, (count, width) in enumerate(zip(vgg.DEPTHS[16], vgg.WIDTHS, strict=True), 1):
        for i in range(1, count + 1):
            if block > 1 or i > 1:  # only the first layer needs its real size here
                at, width = 1, 1
            arrays[f"block{block}_conv{i}/block{block}_conv{i}_W_1:0"] = rng.normal(size=(3, 3, at, width))
            arrays[f"block{block}_conv{i}/block{block}_conv{i}_b_1:0"] = rng.normal(size=width)
    for name, shape in (("fc1", (25088, 2)), ("fc2", (2, 2)), ("predictions", (2, 3))):
        arrays |= {f"{name}/kernel:0": rng.normal(size=shape), f"{name}/bias:0": rng.normal(size=shape[1])}
    got = vgg.from_keras(arrays, 16)
    x = rng.integers(0, 256, (3, 9, 9)).astype(float)  # RGB
    theirs = x[::-1] - np.array([103.939, 116.779, 123.68])[:, None, None]
    ours = (x / 255 - np.array(IMAGENET_MEAN)[:, None, None]) / np.array(IMAGENET_STD)[:, None, None]
    w = arrays["block1_conv1/block1_conv1_W_1:0"].transpose(3, 2, 0, 1)
    np.testing.assert_allclose(slow.conv(ours, got["features.0.weight"], got["features.0.bias"]),
                               slow.conv(theirs, w, arrays["block1_conv1/block1_conv1_b_1:0"]), atol=1e-9)
    h = rng.normal(size=(512, 7, 7))
    np.testing.assert_allclose(got["classifier.0.weight"] @ h.ravel(),
                               h.transpose(1, 2, 0).ravel() @ arrays["fc1/kernel:0"], atol=1e-9)
    assert set(got) == {f"{weights_name}.{k}" for k in ("weight", "bias") for weights_name in
                        {".".join(p[1:-1]).replace("_", ".") for p in weights.flatten(features.VGG16.template)}}
    del arrays["fc2/bias:0"]
    with pytest.raises(UserError, match="not of Keras' VGG16"):
        vgg.from_keras(arrays, 16)


def test_weights_id(tmp_path, monkeypatch):
    write(tmp_path / "a.npz", slow.LENET)
    a = features.load("lenet", tmp_path / "a.npz")
    np.savez_compressed(tmp_path / "b.npz", **dict(reversed(slow.arrays(slow.LENET).items())))
    assert a.weights_id == features.load("lenet", tmp_path / "b.npz").weights_id
    assert features.random("lenet", 5).weights_id == "random-5"
    # the published file itself is known by its sha256, which is in its name
    sha = weights.file_sha256(tmp_path / "a.npz")
    published = weights.Published((tmp_path / "a.npz").as_uri(), sha[:8], "lenet.npz")
    monkeypatch.setitem(features.NETWORKS, "lenet", features.dataclasses.replace(features.LENET, published=published))
    monkeypatch.setenv("GENJAX_WEIGHTS", str(tmp_path / "cache"))
    assert features.load("lenet").weights_id == sha[:12]
    assert (tmp_path / "cache" / "lenet.npz").exists()


def test_a_network_is_an_argument_of_a_jitted_function():
    net, x = features.random("lenet", 1), pictures(2, 32, 32, 1)
    jitted = jax.jit(lambda net, x: net(x)["features"].sum(0))
    np.testing.assert_allclose(jitted(net, x), net(x)["features"].sum(0), rtol=1e-5)
    np.testing.assert_allclose(jitted(net.place(jax.devices()[0]), x), jitted(net, x))
    low = features.random("lenet", 1, dtype="bfloat16")(x)["features"]
    assert low.dtype == jnp.float32 and 0 < float(jnp.abs(low - net(x)["features"]).max()) < 0.1


@pytest.mark.parametrize("name", features.NETWORKS)
def test_the_smallest_pictures(name):
    """`least` is what the layers take, and pictures below it are refused in one line with the fix."""
    arch = features.NETWORKS[name]

    def sides(n):
        x = jax.ShapeDtypeStruct((1, n, n, arch.channels), jnp.float32)
        return min(min(v.shape) for v in jax.eval_shape(arch.module.apply, arch.template, x).values())

    net = features.FeatureNetwork(name, "none", "none", None)
    assert sides(arch.least) > 0
    with pytest.raises(UserError, match=f"{arch.least}x{arch.least} pixels.*evaluation.resize"):
        net(pictures(1, arch.least - 1, arch.least + 9, arch.channels))
    if arch.least == arch.size:  # these two have a size of their own
        return
    with pytest.raises((TypeError, ValueError)):
        sides(arch.least - 1)
    net.check_size(arch.least, arch.least)
    features.FeatureNetwork(name, "none", "legacy", None).check_size(1, 1)


def test_misuse_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("GENJAX_WEIGHTS", str(tmp_path))
    net, x = features.random("resnet20"), pictures(1, 32, 32, 3)
    write(tmp_path / "lenet.npz", slow.LENET)
    monkeypatch.setattr(weights.urllib.request, "urlopen", lambda *a, **k: (_ for _ in ()).throw(OSError("no network")))
    for call, message in ((lambda: net(x.astype(np.float32)), "uint8"), (lambda: net(x[0]), r"\[N,H,W,3\]"),
                          (lambda: net(x[:, :16]), "32x32.*evaluation.resize"),
                          (lambda: net(x, layers=("layer4",)), "layer3|layer1"),
                          (lambda: features.random("lenet")(x), r"\[N,H,W,1\], got.*evaluation.network"),
                          (lambda: features.LENET.convert({"dense/dense/kernel:0": np.eye(2)}),
                           "read for vgg16 and vgg19 alone; give PyTorch's, https"),
                          (lambda: features.random("incepton"), "did you mean 'inception'"),
                          (lambda: features.random("lenet", resize="cleen"), "did you mean 'clean'"),
                          (lambda: features.load("resnet20", tmp_path / "lenet.npz"), "resnet20: .*superfluous conv"),
                          (lambda: features.load("inception"), "https://.*no network.*put it at .*pt_inception")):
        with pytest.raises(UserError, match=message) as e:
            call()
        assert "\n" not in str(e.value)
