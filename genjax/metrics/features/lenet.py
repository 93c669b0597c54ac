"""LeNet-5 (LeCun et al. 1998) with ReLU and maximum pooling, trained on MNIST; weights of csinva.

For distances between sets of digits; they are never called FID. It classifies 99.1 % of MNIST's test set.
"""

import jax
from flax import linen as nn

from genjax.metrics.features.architecture import Architecture
from genjax.metrics.features.layers import Conv, Dense
from genjax.metrics.weights import Published
from genjax.ops.resample import max_pool2x


class LeNet(nn.Module):
    """x[N,32,32,1] in [0,1] -> {"c1", "c3", "c5" [N,1,1,120], features = f6 after ReLU [N,84], logits [N,10]}."""

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        taps = {}
        taps["c1"] = x = nn.relu(Conv(6, 5, name="convnet_c1")(x))
        taps["c3"] = x = nn.relu(Conv(16, 5, name="convnet_c3")(max_pool2x(x)))
        taps["c5"] = x = nn.relu(Conv(120, 5, name="convnet_c5")(max_pool2x(x)))
        taps["features"] = x = nn.relu(Dense(84, name="fc_f6")(x.reshape(len(x), -1)))
        taps["logits"] = Dense(10, name="fc_f7")(x)
        return taps


LENET = Architecture(
    module=LeNet(), size=32, least=32, channels=1, scale=lambda x, how: x / 255, resize="legacy",
    published=Published(
        "https://raw.githubusercontent.com/csinva/gan-vae-pretrained-pytorch/9b6401e122fa186a3a57f97c5df57e3603121fba/"
        "mnist_classifier/weights/lenet_epoch%3D12_test_acc%3D0.991.pth",
        "7b3591ba5a63752a7e728d7f7e511266556a2ec66844810da9f475e07019b85e", "lenet_mnist-7b3591ba.pth"),
    rename=lambda path: path.replace("_", "."),
)
