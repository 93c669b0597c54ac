"""VGG-16 and VGG-19 (Simonyan & Zisserman 2015, arXiv:1409.1556, configurations D and E), torchvision's weights.

Keras' files hold the authors' own weights, for BGR minus a mean; `from_keras` folds that input into the first layer, so
both kinds take the same input here.
"""

from collections.abc import Mapping

import jax
import numpy as np
from flax import linen as nn

from genjax.errors import UserError
from genjax.metrics.features.architecture import IMAGENET_MEAN, IMAGENET_STD, Architecture, imagenet_scale
from genjax.metrics.features.layers import Conv, Dense, adaptive_avg_pool
from genjax.metrics.weights import Published
from genjax.ops.resample import max_pool2x

DEPTHS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # convolutions per block
WIDTHS = (64, 128, 256, 512, 512)
CAFFE_MEAN = (123.68, 116.779, 103.939)  # RGB, of [0,255]


class VGG(nn.Module):
    """x[N,224,224,3] normalised -> {"relu1_1" ... "relu5_3", "pool5", "fc1", "fc2", features, logits}.

    "features" [N,4096] is fc2 after its ReLU (precision and recall use it). Other sizes from 32 pixels are brought
    to 7 x 7 by torchvision's adaptive pool.

    Attributes:
      depth: 16 or 19.
      classify: with the dense layers; without, only the convolutions' layers are there, at any size from 16.
    """

    depth: int = 16
    classify: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        taps, at = {}, 0
        for block, (count, width) in enumerate(zip(DEPTHS[self.depth], WIDTHS, strict=True), 1):
            for i in range(1, count + 1):
                taps[f"relu{block}_{i}"] = x = nn.relu(Conv(width, padding=1, name=f"features_{at}")(x))
                at += 2
            if block < 5 or self.classify:
                x, at = max_pool2x(x), at + 1
        if self.classify:
            taps["pool5"] = x
            x = adaptive_avg_pool(x, 7).reshape(len(x), -1)
            taps["fc1"] = x = nn.relu(Dense(4096, name="classifier_0")(x))
            taps["fc2"] = taps["features"] = x = nn.relu(Dense(4096, name="classifier_3")(x))
            taps["logits"] = Dense(1000, name="classifier_6")(x)
        return taps


def from_keras(arrays: Mapping[str, np.ndarray], depth: int) -> dict[str, np.ndarray]:
    """Arrays of `keras.applications` VGG under torchvision's names, in its layout, for torchvision's input.

    Keras' first layer sees k = BGR - m (values to 255), torchvision's t = (x - mean) / std (values to 1): channel by
    channel k = 255 std t + 255 mean - m. The constant goes into the bias; where the picture is padded with zeros that
    is off by less than 0.2 of 255 levels.
    """
    layers: dict[str, dict[int, np.ndarray]] = {}
    for name, a in arrays.items():
        layers.setdefault(name.split("/")[0], {})[min(np.ndim(a), 2)] = np.asarray(a)
    at, names = 0, {}
    for block, count in enumerate(DEPTHS[depth], 1):
        for i in range(1, count + 1):
            names[f"block{block}_conv{i}"] = f"features.{at}"
            at += 2
        at += 1
    names |= {"fc1": "classifier.0", "fc2": "classifier.3", "predictions": "classifier.6"}
    if set(layers) != set(names) or any(set(arrays) != {1, 2} for arrays in layers.values()):
        odd = ", ".join(sorted(set(layers) ^ set(names))) or "a layer without kernel and bias"
        raise UserError(f"these weights are not of Keras' VGG{depth}: {odd}")
    out = {}
    for keras, torch in names.items():
        kernel, bias = layers[keras][2], layers[keras][1]
        if keras == "block1_conv1":
            mean, std, caffe = (np.array(v) for v in (IMAGENET_MEAN, IMAGENET_STD, CAFFE_MEAN))
            kernel = kernel[:, :, ::-1]
            bias = bias + np.einsum("klio,i->o", kernel, 255 * mean - caffe)
            kernel = kernel * (255 * std)[:, None]
        if keras == "fc1":
            kernel = kernel.reshape(7, 7, 512, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
        out[f"{torch}.weight"] = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
        out[f"{torch}.bias"] = bias
    return out


def _vgg(depth: int, classify: bool, sha256: str) -> Architecture:
    file = f"vgg{depth}-{sha256[:8]}.pth"
    return Architecture(
        module=VGG(depth, classify), size=224, least=32 if classify else 16, channels=3, scale=imagenet_scale,
        resize="legacy",
        published=Published(f"https://download.pytorch.org/models/{file}", sha256, file),
        rename=lambda path: path.replace("_", "."),
        flattened={"classifier.0.weight": (512, 7, 7)},
        from_keras=lambda arrays: from_keras(arrays, depth),
    )


_SHA16 = "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"
VGG16 = _vgg(16, True, _SHA16)
VGG16_TRUNK = _vgg(16, False, _SHA16)
VGG19 = _vgg(19, True, "dcbb9e9d")
