"""InceptionV3 (Szegedy et al. 2016, arXiv:1512.00567) as FID uses it: Google's weights of 2015-12-05.

The weights, in PyTorch's layout, are those of pytorch-fid. The graph they were trained in differs from the paper's in
three ways that change FID: the 3 x 3 average pools do not count the padding, the last block pools by maximum where all
others average, and the classifier has 1008 outputs. (NVIDIA's and clean-fid's `inception-2015-12-05.pt` is the same
network as a TorchScript program; the reader refuses programs.)

Letters: x[N,H,W,C], branches are concatenated along C. Module names are the published ones.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.metrics.features.architecture import Architecture
from genjax.metrics.features.layers import Conv, Dense, FixedNorm, avg_pool3, max_pool3
from genjax.metrics.weights import Published


class _Unit(nn.Module):
    """Convolution without bias, batch normalisation with eps 1e-3, ReLU."""

    features: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    padding: int | tuple[int, int] = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Conv(self.features, self.kernel, self.stride, self.padding, use_bias=False, name="conv")(x)
        return nn.relu(FixedNorm(1e-3, name="bn")(x))


def _cat(*branches: jax.Array) -> jax.Array:
    return jnp.concatenate(branches, -1)


class _A(nn.Module):
    """35 x 35 -> 35 x 35, 224 + pool channels."""

    pool: int

    @nn.compact
    def __call__(self, x):
        y = _Unit(64, 1, name="branch3x3dbl_1")(x)
        y = _Unit(96, 3, padding=1, name="branch3x3dbl_2")(y)
        return _cat(
            _Unit(64, 1, name="branch1x1")(x),
            _Unit(64, 5, padding=2, name="branch5x5_2")(_Unit(48, 1, name="branch5x5_1")(x)),
            _Unit(96, 3, padding=1, name="branch3x3dbl_3")(y),
            _Unit(self.pool, 1, name="branch_pool")(avg_pool3(x)),
        )


class _B(nn.Module):
    """35 x 35 x 288 -> 17 x 17 x 768."""

    @nn.compact
    def __call__(self, x):
        y = _Unit(96, 3, padding=1, name="branch3x3dbl_2")(_Unit(64, 1, name="branch3x3dbl_1")(x))
        return _cat(
            _Unit(384, 3, 2, name="branch3x3")(x),
            _Unit(96, 3, 2, name="branch3x3dbl_3")(y),
            max_pool3(x),
        )


class _C(nn.Module):
    """17 x 17 x 768 -> the same, by 1 x 7 and 7 x 1 convolutions over `width` channels."""

    width: int

    @nn.compact
    def __call__(self, x):
        row, col = {"kernel": (1, 7), "padding": (0, 3)}, {"kernel": (7, 1), "padding": (3, 0)}
        y = _Unit(self.width, name="branch7x7_1")(x)
        y = _Unit(self.width, **row, name="branch7x7_2")(y)
        z = _Unit(self.width, name="branch7x7dbl_1")(x)
        z = _Unit(self.width, **col, name="branch7x7dbl_2")(z)
        z = _Unit(self.width, **row, name="branch7x7dbl_3")(z)
        z = _Unit(self.width, **col, name="branch7x7dbl_4")(z)
        return _cat(
            _Unit(192, name="branch1x1")(x),
            _Unit(192, **col, name="branch7x7_3")(y),
            _Unit(192, **row, name="branch7x7dbl_5")(z),
            _Unit(192, name="branch_pool")(avg_pool3(x)),
        )


class _D(nn.Module):
    """17 x 17 x 768 -> 8 x 8 x 1280."""

    @nn.compact
    def __call__(self, x):
        y = _Unit(192, name="branch7x7x3_1")(x)
        y = _Unit(192, (1, 7), padding=(0, 3), name="branch7x7x3_2")(y)
        y = _Unit(192, (7, 1), padding=(3, 0), name="branch7x7x3_3")(y)
        return _cat(
            _Unit(320, 3, 2, name="branch3x3_2")(_Unit(192, name="branch3x3_1")(x)),
            _Unit(192, 3, 2, name="branch7x7x3_4")(y),
            max_pool3(x),
        )


class _E(nn.Module):
    """8 x 8 -> 8 x 8 x 2048; the last one pools by maximum."""

    last: bool

    @nn.compact
    def __call__(self, x):
        row, col = {"kernel": (1, 3), "padding": (0, 1)}, {"kernel": (3, 1), "padding": (1, 0)}
        y = _Unit(384, name="branch3x3_1")(x)
        z = _Unit(384, 3, padding=1, name="branch3x3dbl_2")(_Unit(448, name="branch3x3dbl_1")(x))
        return _cat(
            _Unit(320, name="branch1x1")(x),
            _Unit(384, **row, name="branch3x3_2a")(y),
            _Unit(384, **col, name="branch3x3_2b")(y),
            _Unit(384, **row, name="branch3x3dbl_3a")(z),
            _Unit(384, **col, name="branch3x3dbl_3b")(z),
            _Unit(192, name="branch_pool")(max_pool3(x, 1, 1) if self.last else avg_pool3(x)),
        )


class InceptionV3(nn.Module):
    """x[N,299,299,3] in [-1,1] -> {"conv3" 64 channels, "pool1" 64, "pool2" 192, "mixed6" 768, "mixed7" 2048, features,
    logits, logits_unbiased}.

    "features" [N,2048] is the mean of "mixed7" over the picture (TensorFlow's pool_3), the logits are [N,1008]; the
    others are feature maps. Any size from 75 pixels works. "logits_unbiased" are the classifier's without its bias: the
    published Inception score is of those, since its authors' code multiplies pool_3 by the weights alone.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        taps = {}
        x = _Unit(32, 3, 2, name="Conv2d_1a_3x3")(x)
        x = _Unit(32, 3, name="Conv2d_2a_3x3")(x)
        taps["conv3"] = x = _Unit(64, 3, padding=1, name="Conv2d_2b_3x3")(x)
        taps["pool1"] = x = max_pool3(x)
        x = _Unit(80, 1, name="Conv2d_3b_1x1")(x)
        x = _Unit(192, 3, name="Conv2d_4a_3x3")(x)
        taps["pool2"] = x = max_pool3(x)
        for letter, pool in zip("bcd", (32, 64, 64), strict=True):
            x = _A(pool, name=f"Mixed_5{letter}")(x)
        x = _B(name="Mixed_6a")(x)
        for letter, width in zip("bcde", (128, 160, 160, 192), strict=True):
            x = _C(width, name=f"Mixed_6{letter}")(x)
        taps["mixed6"] = x
        x = _D(name="Mixed_7a")(x)
        x = _E(False, name="Mixed_7b")(x)
        taps["mixed7"] = x = _E(True, name="Mixed_7c")(x)
        taps["features"] = x = x.mean((1, 2))
        classify = Dense(1008, name="fc")
        taps["logits"], taps["logits_unbiased"] = classify(x), classify(x, biased=False)
        return taps


def _scale(x, how):
    # pytorch-fid: 2 (x / 255) - 1. clean-fid feeds TensorFlow's graph, which has (x - 128) / 128.
    return (x - 128) / 128 if how == "clean" else 2 * (x / 255) - 1


INCEPTION = Architecture(
    module=InceptionV3(), size=299, least=75, channels=3, scale=_scale, resize="legacy",
    published=Published(
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2", "pt_inception-2015-12-05-6726825d.pth"),
    rename=lambda path: path,
)
