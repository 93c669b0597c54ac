"""AlexNet in the form of Krizhevsky 2014 (arXiv:1404.5997), torchvision's weights."""

import jax
from flax import linen as nn

from genjax.metrics.features.architecture import Architecture, imagenet_scale
from genjax.metrics.features.layers import Conv, Dense, adaptive_avg_pool, max_pool3
from genjax.metrics.weights import Published


class AlexNet(nn.Module):
    """x[N,224,224,3] normalised -> {"relu1" ... "relu5", "pool5", "fc6", "fc7", features, logits}.

    "features" [N,4096] is fc7 after its ReLU. Other sizes from 63 pixels are brought to 6 x 6 by torchvision's adaptive
    pool.

    Attributes:
      classify: with the dense layers; without, only relu1 to relu5 are there, at any size from 31.
    """

    classify: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        taps = {}
        taps["relu1"] = x = nn.relu(Conv(64, 11, 4, 2, name="features_0")(x))
        taps["relu2"] = x = nn.relu(Conv(192, 5, padding=2, name="features_3")(max_pool3(x)))
        taps["relu3"] = x = nn.relu(Conv(384, 3, padding=1, name="features_6")(max_pool3(x)))
        taps["relu4"] = x = nn.relu(Conv(256, 3, padding=1, name="features_8")(x))
        taps["relu5"] = x = nn.relu(Conv(256, 3, padding=1, name="features_10")(x))
        if self.classify:
            taps["pool5"] = x = max_pool3(x)
            x = adaptive_avg_pool(x, 6).reshape(len(x), -1)
            taps["fc6"] = x = nn.relu(Dense(4096, name="classifier_1")(x))
            taps["fc7"] = taps["features"] = x = nn.relu(Dense(4096, name="classifier_4")(x))
            taps["logits"] = Dense(1000, name="classifier_6")(x)
        return taps


def _alexnet(classify: bool) -> Architecture:
    file = "alexnet-owt-7be5be79.pth"
    return Architecture(
        module=AlexNet(classify), size=224, least=63 if classify else 31, channels=3, scale=imagenet_scale,
        resize="legacy",
        published=Published(f"https://download.pytorch.org/models/{file}",
                            "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02", file),
        rename=lambda path: path.replace("_", "."),
        flattened={"classifier.1.weight": (256, 6, 6)},
    )


ALEXNET = _alexnet(True)
ALEXNET_TRUNK = _alexnet(False)
