"""What a published feature network is besides its layers: input, file, names of its arrays."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from genjax.errors import UserError
from genjax.metrics import weights
from genjax.ops.resample import resize

Resize = Literal["legacy", "clean", "none"]

# torchvision's statistics of ImageNet, for values in [0,1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def imagenet_scale(x: jax.Array, how: Resize) -> jax.Array:
    """[0,255] -> (x / 255 - mean) / std, channel by channel."""
    return (x / 255 - jnp.asarray(IMAGENET_MEAN, x.dtype)) / jnp.asarray(IMAGENET_STD, x.dtype)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network as it was published.

    Attributes:
      module: takes x[N,H,W,C] and returns {layer: array}, among them "features" and, where it classifies, "logits".
      size: side of its published input in pixels.
      least: the smallest side its layers take, where pictures are not resized.
      channels: of its input.
      scale: (pixels in [0,255], resize) -> what the network expects.
      resize: the resize it was published with.
      published: the file of its weights.
      rename: module path joined by "." -> published name of the layer.
      flattened: see `weights.convert`.
      from_keras: {Keras name: array} -> the arrays under torch's names and layout.
    """

    module: nn.Module
    size: int
    least: int
    channels: int
    scale: Callable[[jax.Array, Resize], jax.Array]
    resize: Resize
    published: weights.Published
    rename: Callable[[str], str]
    flattened: Mapping[str, tuple[int, int, int]] = dataclasses.field(default_factory=dict)
    from_keras: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]] | None = None

    @functools.cached_property
    def outputs(self) -> tuple[dict, dict]:
        """Shapes of the variables, and of all layers for one picture of the published size."""
        x = jax.ShapeDtypeStruct((1, self.size, self.size, self.channels), jnp.float32)
        layers, variables = jax.eval_shape(lambda x: self.module.init_with_output(jax.random.key(0), x), x)
        return variables, layers

    @property
    def template(self) -> dict:
        """Shapes of the variables."""
        return self.outputs[0]

    def convert(self, arrays: Mapping[str, np.ndarray], ignore: str = "") -> dict:
        """Published arrays as variables; see `weights.convert`. `ignore` names arrays that may be there unused."""
        if arrays and not any(name.endswith(".weight") for name in arrays):
            if self.from_keras:
                arrays = self.from_keras(arrays)
            elif all("/" in name for name in arrays):  # layer/kernel:0
                raise UserError("these are Keras' arrays, which are read for vgg16 and vgg19 alone; give PyTorch's,"
                                f" {self.published.url}")
        return weights.convert(arrays, self.template, self.rename, flattened=self.flattened, ignore=ignore)

    def random(self, seed: int) -> dict:
        """Random variables (numpy, float32): He normal kernels, small biases, statistics near 0 and 1."""
        rng, out = np.random.default_rng(seed), {}
        for path, leaf in weights.flatten(self.template).items():
            a = rng.standard_normal(leaf.shape, np.float32)
            if path[-1] == "kernel":
                a *= np.sqrt(2 / np.prod(leaf.shape[:-1]), dtype=np.float32)
            elif path[-1] in ("scale", "var"):
                a = 1 + 0.5 * np.tanh(a)
            else:
                a *= np.float32(0.1)
            out[path] = a
        return weights.unflatten(out)

    def prepare(self, images: jax.Array, how: Resize) -> jax.Array:
        """uint8 [N,H,W,1 or 3] -> what `module` takes, float32."""
        x = images.astype(jnp.float32)
        if x.shape[-1] < self.channels:
            x = jnp.broadcast_to(x, (*x.shape[:-1], self.channels))
        if how != "none" and x.shape[1:3] != (self.size, self.size):
            clean = how == "clean"
            x = resize(x, (self.size, self.size), "bicubic" if clean else "bilinear", antialias=clean)
            x = jnp.clip(x, 0, 255)  # a cubic overshoots
        return self.scale(x, how)
