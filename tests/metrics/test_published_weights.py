"""Published weights reproduce what is known of them; skipped where they are not at hand, beside the checkout."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genjax.metrics import features, lpips, weights
from tests.conftest import ROOT

DATA = ROOT.parent / "shared" / "data"
WEIGHTS = DATA / "weights"


def needs(*files: Path):
    return pytest.mark.skipif(not all(f.exists() for f in files), reason=f"needs {', '.join(f.name for f in files)}")


SQUEEZE, HEADS = WEIGHTS / "squeezenet1_1_torchvision_fp16.npz", WEIGHTS / "lpips_linear_heads.npz"
LENET, RESNET = WEIGHTS / "lenet_mnist.npz", WEIGHTS / "cifar10_resnet20.npz"
MNIST = [DATA / "mnist" / f"train-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
CIFAR, LABELS = DATA / "cifar10" / "cifar10_batch_00.png", DATA / "cifar10" / "labels_batches_00_09.npy"


@needs(SQUEEZE, HEADS)
def test_lpips_of_the_documented_pair():
    """torchmetrics documents .1024 and .0938 for torch.rand(2, 3, 100, 100) twice after manual_seed(42), which numpy's
    generator draws too.
    """
    squeeze = lpips.load("squeeze", SQUEEZE, HEADS)
    raw = np.random.RandomState(42)._bit_generator.random_raw(4 * 30_000)
    a, b = ((raw & (2**24 - 1)) / 2**24).astype(np.float32).reshape(2, 2, 3, 100, 100).transpose(0, 1, 3, 4, 2)
    found = squeeze(2 * a - 1, 2 * b - 1, value_range=(-1, 1))
    np.testing.assert_allclose(found, [0.10235835, 0.09377207], atol=2e-6)
    np.testing.assert_array_equal(squeeze(a, b, value_range=(0, 1)), found)


@needs(HEADS)
@pytest.mark.parametrize(("net", "sums", "total"), [
    ("alex", (2.3495, 16.1430, 39.2684, 27.1972, 20.3172), 1152),
    ("vgg", (6.9260, 8.8583, 17.5150, 51.5213, 47.0348), 1472),
    ("squeeze", (5.6901, 1.1853, 16.3266, 71.0126, 37.3707, 24.2629, 17.5906), 2240)])
def test_the_heads_are_those_of_version_0_1(net, sums, total):
    """Sums of each layer's weights; version 0.0, in the same archive, has others."""
    found = lpips._heads(weights.read(HEADS), net, lpips._variant(net).widths)
    assert np.allclose([np.sum(w, dtype=np.float64) for w in found], sums, rtol=0, atol=6e-5)
    assert sum(len(w) for w in found) == total


@needs(LENET, *MNIST)
def test_lenet_reads_digits():
    with gzip.open(MNIST[0]) as x, gzip.open(MNIST[1]) as y:
        images = np.frombuffer(x.read(16 + 2000 * 784)[16:], np.uint8).reshape(-1, 28, 28, 1)
        labels = np.frombuffer(y.read(8 + 2000)[8:], np.uint8)
    found = np.asarray(features.load("lenet", LENET)(images)["logits"]).argmax(1)
    assert (found == labels).mean() > 0.985


@needs(RESNET, CIFAR, LABELS)
def test_resnet20_knows_cifar10():
    images = np.asarray(Image.open(CIFAR).convert("RGB")).reshape(-1, 32, 32, 3)[:500]
    found = np.asarray(features.load("resnet20", RESNET)(images)["logits"]).argmax(1)
    assert (found == np.load(LABELS).reshape(-1)[:500]).mean() > 0.97  # of its training images
