"""SqueezeNet 1.1 (Iandola et al. 2016, arXiv:1602.07360; the authors' later, smaller form), torchvision's weights."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.metrics.features.architecture import Architecture, imagenet_scale
from genjax.metrics.features.layers import Conv, max_pool3
from genjax.metrics.weights import Published

# Place among torchvision's layers -> (squeeze, expand) channels; before a place in POOLS the maps are halved.
FIRES = {3: (16, 64), 4: (16, 64), 6: (32, 128), 7: (32, 128), 9: (48, 192), 10: (48, 192), 11: (64, 256),
         12: (64, 256)}
POOLS = (3, 6, 9)


class _Fire(nn.Module):
    squeeze: int
    expand: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(Conv(self.squeeze, 1, name="squeeze")(x))
        one, three = Conv(self.expand, 1, name="expand1x1")(x), Conv(self.expand, 3, padding=1, name="expand3x3")(x)
        return nn.relu(jnp.concatenate([one, three], -1))


class SqueezeNet(nn.Module):
    """x[N,224,224,3] normalised -> {"relu1", "fire3" ... "fire12", features, logits}, any size from 17 pixels.

    A fire module is named by its place in torchvision's list. "features" [N,512] is the mean of fire12 over the
    picture, "logits" [N,1000] the mean of the rectified class maps.

    Attributes:
      classify: with features and logits.
    """

    classify: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        taps = {}
        taps["relu1"] = x = nn.relu(Conv(64, 3, 2, name="features_0")(x))
        for place, (squeeze, expand) in FIRES.items():
            if place in POOLS:
                x = max_pool3(x, ceil=True)
            taps[f"fire{place}"] = x = _Fire(squeeze, expand, name=f"features_{place}")(x)
        if self.classify:
            taps["features"] = x.mean((1, 2))
            taps["logits"] = nn.relu(Conv(1000, 1, name="classifier_1")(x)).mean((1, 2))
        return taps


def _squeezenet(classify: bool) -> Architecture:
    file = "squeezenet1_1-b8a52dc0.pth"
    return Architecture(
        module=SqueezeNet(classify), size=224, least=17, channels=3, scale=imagenet_scale, resize="legacy",
        published=Published(f"https://download.pytorch.org/models/{file}",
                            "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b", file),
        rename=lambda path: path.replace("_", "."),
    )


SQUEEZENET = _squeezenet(True)
SQUEEZENET_TRUNK = _squeezenet(False)
