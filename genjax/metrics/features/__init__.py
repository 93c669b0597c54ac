"""Feature networks: what FID, KID, precision/recall and their kin look at pictures through.

`load(name)` opens a published network by name, `random(name, seed)` one with random weights. Both give a
`FeatureNetwork`, which maps uint8 pictures to a vector each and says which weights and which resize made it, so that a
metric can write both into its recipe.

| name        | features | logits | weights                          |
| inception   | 2048     | 1008   | pytorch-fid (TensorFlow's, 2015) |
| vgg16 vgg19 | 4096     | 1000   | torchvision, ImageNet            |
| alexnet     | 4096     | 1000   | torchvision, ImageNet            |
| squeezenet  | 512      | 1000   | torchvision 1.1, ImageNet        |
| lenet       | 84       | 10     | csinva, MNIST                    |
| resnet20    | 64       | 10     | akamaster, CIFAR-10              |
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.errors import UserError, unknown
from genjax.metrics import weights
from genjax.metrics.features.alexnet import ALEXNET
from genjax.metrics.features.architecture import Architecture, Resize
from genjax.metrics.features.inception import INCEPTION
from genjax.metrics.features.lenet import LENET
from genjax.metrics.features.resnet_cifar import RESNET20
from genjax.metrics.features.squeezenet import SQUEEZENET
from genjax.metrics.features.vgg import VGG16, VGG19

NETWORKS: dict[str, Architecture] = {"inception": INCEPTION, "vgg16": VGG16, "vgg19": VGG19, "alexnet": ALEXNET,
                                     "squeezenet": SQUEEZENET, "lenet": LENET, "resnet20": RESNET20}
RESIZES = ("legacy", "clean", "none")


@functools.partial(jax.tree_util.register_dataclass, data_fields=["variables"],
                   meta_fields=["name", "weights_id", "resize", "dtype"])
@dataclasses.dataclass(frozen=True, eq=False)
class FeatureNetwork:
    """A feature network with its weights; a pytree, so it may be an argument of a jitted function.

    Attributes:
      name: one of `NETWORKS`.
      weights_id: the first 12 hex digits of the sha256 of the published file, where the weights came from that very
        file ("6726825d0af5" is FID's Inception); else `weights.identity`, over the arrays; "random-SEED" if random.
      resize: how pictures of another size are brought to the network's: "legacy" bilinear without antialiasing
        (align_corners False), as pytorch-fid; "clean" PIL's antialiased bicubic in float, as clean-fid (Inception then
        takes (x - 128) / 128, as there); "none" not at all.
      variables: {"params": ..., "batch_stats": ...}, float32.
      dtype: dtype of the network's arithmetic; resizing and what comes out are float32.
    """

    name: str
    weights_id: str
    resize: Resize
    variables: Any = dataclasses.field(repr=False)
    dtype: str = "float32"

    @property
    def layers(self) -> tuple[str, ...]:
        """Names that `__call__` takes for `layers`."""
        return tuple(NETWORKS[self.name].outputs[1])

    @property
    def width(self) -> int:
        """d, the length of a feature vector."""
        return NETWORKS[self.name].outputs[1]["features"].shape[-1]

    def __call__(self, images: jax.Array | np.ndarray, layers: Sequence[str] = ()) -> dict[str, jax.Array]:
        """Features of pictures, jitted; one compilation per shape.

        Args:
          images: uint8 [N,H,W,3], or [N,H,W,1], which stands for three equal channels where the network wants colour.
          layers: names of further layers to return, see `layers`.

        Returns:
          {"features": [N,d] float32, "logits": [N,k] float32, for inception "logits_unbiased" too (see there), and each
          of `layers`}.

        Raises:
          UserError: another dtype or shape, pictures too small to go unresized, or an unknown layer.
        """
        arch = NETWORKS[self.name]
        if getattr(images, "dtype", None) != np.uint8:
            raise UserError(f"{self.name} takes uint8 pictures (0 to 255), got "
                            f"{getattr(images, 'dtype', type(images))}; round and clip them first, as a PNG file would")
        if images.ndim != 4 or images.shape[-1] not in {1, arch.channels}:
            want = "[N,H,W,1]" if arch.channels == 1 else "[N,H,W,3] or [N,H,W,1]"
            raise UserError(f"{self.name} takes pictures {want}, got {tuple(images.shape)}" + (
                "; take another network, e.g. config.task.evaluation.network=inception" if arch.channels == 1 else ""))
        self.check_size(images.shape[1], images.shape[2])
        for layer in layers:
            if layer not in self.layers:
                raise unknown(f"layer of {self.name}", layer, self.layers)
        return _apply(self.variables, images, self.name, self.resize, self.dtype, tuple(layers))

    def check_size(self, height: int, width: int) -> None:
        """Refuses pictures that the network cannot look at as they are (`resize="none"`)."""
        arch = NETWORKS[self.name]
        only = arch.size == arch.least
        if self.resize == "none" and ((height, width) != (arch.size, arch.size) if only
                                      else min(height, width) < arch.least):
            raise UserError(f"{self.name} takes pictures of {'' if only else 'at least '}{arch.least}x{arch.least}"
                            f" pixels, got {height}x{width}; open it with resize='legacy' or 'clean'"
                            " (config.task.evaluation.resize)")

    def place(self, sharding) -> "FeatureNetwork":
        """The same network with its weights on these devices, e.g. replicated over a mesh."""
        return dataclasses.replace(self, variables=jax.device_put(self.variables, sharding))


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _apply(variables, images, name, how, dtype, layers):
    arch = NETWORKS[name]
    # "highest": a GPU would otherwise multiply in TF32, and features would depend on the device.
    with jax.default_matmul_precision("highest"):
        taps = arch.module.apply(variables, arch.prepare(images, how).astype(dtype))
    always = ("features", "logits", *(["logits_unbiased"] if "logits_unbiased" in taps else ()))
    return {k: taps[k].astype(jnp.float32) for k in (*always, *layers)}


def _architecture(name: str, resize: str | None) -> tuple[Architecture, Resize]:
    if name not in NETWORKS:
        raise unknown("feature network", name, NETWORKS)
    if resize not in (None, *RESIZES):
        raise unknown("resize", resize, RESIZES)
    return NETWORKS[name], resize or NETWORKS[name].resize


def load(name: str, path: str | Path | None = None, resize: Resize | None = None,
         dtype: str = "float32") -> FeatureNetwork:
    """Opens a published network.

    Args:
      name: one of `NETWORKS`.
      path: a file of its weights (see `weights.read` for formats); None: from the cache, else by download.
      resize: see `FeatureNetwork`; None: as published.
      dtype: see `FeatureNetwork`.

    Raises:
      UserError: unknown name, weights that cannot be had (names the URL and where to put the file), or weights of
        another network.
    """
    arch, resize = _architecture(name, resize)
    path = weights.download(*arch.published) if path is None else path
    try:
        variables = arch.convert(weights.read(path))
    except UserError as e:
        raise UserError(f"{name}: {e}") from None
    found = weights.file_sha256(Path(path).expanduser())
    found = found[:12] if found.startswith(arch.published.sha256) else weights.identity(variables)
    return FeatureNetwork(name, found, resize, jax.tree.map(jnp.asarray, variables), dtype)


def random(name: str, seed: int = 0, resize: Resize | None = None, dtype: str = "float32") -> FeatureNetwork:
    """The network with random weights, for tests: no file is needed. Its weights_id is "random-SEED"."""
    arch, resize = _architecture(name, resize)
    return FeatureNetwork(name, f"random-{seed}", resize, jax.tree.map(jnp.asarray, arch.random(seed)), dtype)
