"""LPIPS, the learned perceptual distance of Zhang et al. 2018 (arXiv:1801.03924), version 0.1, linear heads.

    d(a, b) = Σ_l mean_hw Σ_c w_lc (f_lc(a) - f_lc(b))²

f_l are the channels of layer l of a network trained on ImageNet, divided by their length sqrt(Σ_c f_lc²) + 1e-10 at
every pixel; w_l >= 0 are heads fitted to human judgements. Variants "alex" (the authors' choice for judging), "vgg"
(for optimising) and "squeeze".

The networks were fitted to pictures in [-1,1]; pictures in [0,1] give plausible but wrong numbers, the commonest
mistake with LPIPS. So `value_range` has no default: it says what the pictures are; values outside it are an error.

Letters: a, b [N,H,W,3] pictures; l layer, c channel.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genjax.errors import UserError, unknown
from genjax.metrics import weights
from genjax.metrics.features.alexnet import ALEXNET_TRUNK
from genjax.metrics.features.architecture import Architecture
from genjax.metrics.features.squeezenet import SQUEEZENET_TRUNK
from genjax.metrics.features.vgg import VGG16_TRUNK

# The authors' input layer, for values in [-1,1].
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
EPS = 1e-10

Net = Literal["alex", "vgg", "squeeze"]
_HEADS = ("https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/082bb24f84c091ea94de2867d34c4544f68e0963/"
          "lpips/weights/v0.1")


class _Variant(NamedTuple):
    trunk: Architecture
    layers: tuple[str, ...]
    sha256: str  # of the heads' file
    dense: str  # published names of the trunk's file that are not used

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each layer, which is the length of its head."""
        return tuple(self.trunk.outputs[1][layer].shape[-1] for layer in self.layers)


VARIANTS: dict[str, _Variant] = {
    "alex": _Variant(ALEXNET_TRUNK, ("relu1", "relu2", "relu3", "relu4", "relu5"),
                     "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0", r"classifier\..*"),
    "vgg": _Variant(VGG16_TRUNK, ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"),
                    "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868", r"classifier\..*"),
    "squeeze": _Variant(SQUEEZENET_TRUNK, ("relu1", "fire4", "fire7", "fire9", "fire10", "fire11", "fire12"),
                        "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76", r"classifier\..*"),
}


@functools.partial(jax.tree_util.register_dataclass, data_fields=["variables", "heads"],
                   meta_fields=["net", "weights_id"])
@dataclasses.dataclass(frozen=True, eq=False)
class LPIPS:
    """The distance with its weights; a pytree: pass it to a jitted function as an argument, so nothing is folded.

    Attributes:
      net: "alex", "vgg" or "squeeze".
      weights_id: 12 hex digits that name network and heads together, or "random-SEED".
      variables: of the network's convolutions.
      heads: w_l, one vector per layer.
    """

    net: Net
    weights_id: str
    variables: Any = dataclasses.field(repr=False)
    heads: tuple[jax.Array, ...] = dataclasses.field(repr=False)

    def __call__(self, a, b, *, value_range: tuple[float, float]) -> jax.Array:
        """Distance of each pair.

        Differentiable in both pictures (reverse mode) and jittable; called outside a jit it is jitted here.

        Args:
          a, b: [N,H,W,3], equal shapes; floats, or uint8 with value_range (0, 255). RGB.
          value_range: the values that stand for black and white: (-1, 1), (0, 1) or (0, 255); any (lo, hi) works.

        Returns:
          [N] float32, 0 for equal pictures.

        Raises:
          UserError: shapes that do not fit, pictures too small for the network, a bad range, or, where values can be
            looked at (not inside a jit), values more than 1 % outside the range or not finite.
        """
        lo, hi = _check(a, b, value_range, self.net)
        return _distance(self.variables, self.heads, jnp.asarray(a), jnp.asarray(b), jnp.float32(lo), jnp.float32(hi),
                         self.net)


@functools.partial(jax.jit, static_argnums=6)
def _distance(variables, heads, a, b, lo, hi, net):
    variant = VARIANTS[net]
    x = jnp.concatenate([a, b]).astype(jnp.float32)
    x = (x - lo) * (2 / (hi - lo)) - 1
    x = (x - jnp.array(SHIFT)) / jnp.array(SCALE)
    with jax.default_matmul_precision("highest"):
        taps = variant.trunk.module.apply(variables, x)
    total = 0.0
    for layer, head in zip(variant.layers, heads, strict=True):
        f = _unit(taps[layer])
        fa, fb = jnp.split(f, 2)
        total += jnp.mean(jnp.sum(jnp.square(fa - fb) * head, -1), (1, 2))
    return total


def _unit(f):
    """f / (sqrt(Σ_c f²) + eps); where all channels are 0 (a dead pixel) the gradient is 0 and not NaN."""
    square = jnp.sum(jnp.square(f), -1, keepdims=True)
    alive = square > 0
    length = jnp.where(alive, jnp.sqrt(jnp.where(alive, square, 1)), 0)
    return f / (length + EPS) * alive


def _check(a, b, value_range, net):
    if len(value_range) != 2 or not value_range[0] < value_range[1]:
        raise UserError(f"value_range must be (black, white), for example (-1, 1), got {value_range!r}")
    lo, hi = (float(v) for v in value_range)
    for x in (a, b):
        if np.ndim(x) != 4 or np.shape(x)[-1] != 3 or np.shape(x) != np.shape(a):
            raise UserError(f"LPIPS takes two arrays [N,H,W,3] of one shape, got {np.shape(a)} and {np.shape(b)}")
        if min(np.shape(x)[1:3]) < VARIANTS[net].trunk.least:
            raise UserError(_too_small(net, *np.shape(x)[1:3]))
        if jnp.issubdtype(x.dtype, jnp.integer) and hi - lo < 2:
            raise UserError(f"pictures of {x.dtype} need value_range=(0, 255), got {value_range!r}")
        if not isinstance(x, jax.core.Tracer) and np.size(x):
            least, most, slack = float(x.min()), float(x.max()), 0.01 * (hi - lo)
            if not (lo - slack <= least and most <= hi + slack):
                raise UserError(f"pictures have values from {least:.4g} to {most:.4g}, which is not in value_range "
                                f"{value_range!r}; say what they are, e.g. value_range=(0, 255), or clip them")
    return lo, hi


def _too_small(net, height, width):
    least = {n: v.trunk.least for n, v in VARIANTS.items()}
    fit = [n for n in sorted(least, key=least.get) if least[n] <= min(height, width)]
    keys = "--config.task.evaluation.lpips, --control.distance"
    fix = (f"take {' or '.join(fit)} ({keys})" if fit else f"no network of LPIPS looks at less than"
           f" {min(least.values())}: leave it out (--control.distance=pixels), or compare larger pictures")
    return f"LPIPS {net} takes pictures of at least {least[net]}x{least[net]} pixels, got {height}x{width}; {fix}"


def load(net: Net = "alex", trunk: str | Path | None = None, heads: str | Path | None = None) -> LPIPS:
    """LPIPS with the published weights.

    Args:
      net: "alex", "vgg" or "squeeze".
      trunk: file of torchvision's network; None: cache or download.
      heads: file of the linear heads, "lin0.model.1.weight" ..., as the authors publish them, or an archive of all
        of them with the names "v0.1/NET/lin0.model.1.weight"; None: cache or download.

    Raises:
      UserError: see `weights.download`, `weights.read`, `weights.convert`; heads of another network.
    """
    variant = _variant(net)
    trunk = weights.download(*variant.trunk.published) if trunk is None else trunk
    if heads is None:
        heads = weights.download(f"{_HEADS}/{net}.pth", variant.sha256, f"lpips-{net}-{variant.sha256[:8]}.pth")
    try:
        variables = variant.trunk.convert(weights.read(trunk), ignore=variant.dense)
        w = _heads(weights.read(heads), net, variant.widths)
    except UserError as e:
        raise UserError(f"LPIPS {net}: {e}") from None
    identity = weights.identity({"trunk": variables, "heads": {f"{i}": h for i, h in enumerate(w)}})
    return LPIPS(net, identity, jax.tree.map(jnp.asarray, variables), tuple(jnp.asarray(h) for h in w))


def random(net: Net = "alex", seed: int = 0) -> LPIPS:
    """LPIPS with random weights, for tests."""
    variant, rng = _variant(net), np.random.default_rng(seed)
    heads = tuple(jnp.asarray(rng.random(n, np.float32)) for n in variant.widths)
    return LPIPS(net, f"random-{seed}", jax.tree.map(jnp.asarray, variant.trunk.random(seed)), heads)


def _variant(net: str) -> _Variant:
    if net not in VARIANTS:
        raise unknown("LPIPS network", net, VARIANTS)
    return VARIANTS[net]


def _heads(arrays: dict[str, np.ndarray], net: str, widths: tuple[int, ...]) -> list[np.ndarray]:
    archive = f"v0.1/{net}/"
    if any(name.startswith(archive) for name in arrays):
        arrays = {name.removeprefix(archive): a for name, a in arrays.items() if name.startswith(archive)}
    names = [f"lin{i}.model.1.weight" for i in range(len(widths))]
    if set(names) != set(arrays):
        raise UserError(f"these are not its linear heads: {', '.join(sorted(set(names) ^ set(arrays))[:6])}")
    out = [np.asarray(arrays[name]).astype(np.float32).reshape(-1) for name in names]
    if tuple(len(w) for w in out) != widths:
        raise UserError(f"these linear heads have {[len(w) for w in out]} channels, it has {list(widths)}")
    if min(w.min() for w in out) < 0:
        raise UserError("these linear heads have negative weights")
    return out
