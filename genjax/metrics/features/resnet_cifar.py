"""ResNet-20 for CIFAR-10 (He et al. 2016, arXiv:1512.03385, section 4.2); weights of akamaster.

For distances between sets of 32 x 32 pictures; they are never called FID. It classifies 91.7 % of CIFAR-10's test set.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.metrics.features.architecture import Architecture, imagenet_scale
from genjax.metrics.features.layers import Conv, Dense, FixedNorm
from genjax.metrics.weights import Published


class _Block(nn.Module):
    """Two 3 x 3 convolutions beside the identity; where the size halves, option A: every other pixel, zero channels."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x):
        y = Conv(self.features, 3, self.stride, 1, use_bias=False, name="conv1")(x)
        y = nn.relu(FixedNorm(name="bn1")(y))
        y = FixedNorm(name="bn2")(Conv(self.features, 3, 1, 1, use_bias=False, name="conv2")(y))
        if self.stride > 1:
            side = (self.features - x.shape[-1]) // 2
            x = jnp.pad(x[:, :: self.stride, :: self.stride], ((0, 0), (0, 0), (0, 0), (side, side)))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """x[N,32,32,3] normalised -> {"layer1" [N,32,32,16], "layer2", "layer3", features [N,64], logits [N,10]}.

    Attributes:
      blocks: per stage; the network has 6 blocks + 2 layers.
    """

    blocks: int = 3

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        taps = {}
        x = nn.relu(FixedNorm(name="bn1")(Conv(16, 3, 1, 1, use_bias=False, name="conv1")(x)))
        for stage, width in enumerate((16, 32, 64), 1):
            for i in range(self.blocks):
                x = _Block(width, 2 if stage > 1 and i == 0 else 1, name=f"layer{stage}_{i}")(x)
            taps[f"layer{stage}"] = x
        taps["features"] = x = x.mean((1, 2))
        taps["logits"] = Dense(10, name="linear")(x)
        return taps


RESNET20 = Architecture(
    module=ResNet(), size=32, least=32, channels=3, scale=imagenet_scale, resize="none",
    published=Published(
        "https://raw.githubusercontent.com/akamaster/pytorch_resnet_cifar10/d5489e8995e81e91ce6b1d69dcc98ad579b0b153/"
        "pretrained_models/resnet20-12fca82f.th",
        "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8", "resnet20-12fca82f.th"),
    rename=lambda path: path.replace("_", "."),
)
