"""Walks through latent spaces: interpolation, style mixing, truncation, noise, arithmetic, nearest neighbours.

Letters: z[N,Z] latents, w[N,L,W] one style per layer, x[N,H,W,C] pictures in the generator's range, psi truncation.
Codes are arrays and the functions on them pure; `decode` is any function codes -> pictures, such as
`functools.partial(task.images, variables)`, a `Style`, or its `paint`.

Sources: Radford et al. 2016 (DCGAN, arXiv:1511.06434), section 6; Karras et al. 2019 (StyleGAN, 1812.04948), figures 3,
4, 5, 8; Goodfellow et al. 2014 (1406.2661), figure 2.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from genjax.core import rng as rng_lib
from genjax.errors import UserError, unknown
from genjax.gan.task import Prior, draw_latents
from genjax.ops.interpolate import lerp, slerp

PSI = (1.0, 0.7, 0.5, 0.0, -0.5, -1.0)  # StyleGAN's figure 8
CURVES = {"lerp": lerp, "slerp": slerp}
Decode = Callable[[Any], Any]


def codes_of_seeds(seeds: Sequence[int], dim: int, prior: Prior = "normal", bound: float = 1.0) -> np.ndarray:
    """z [n,Z], each a function of its own seed alone, so that a picture keeps its number in every grid."""
    for seed in seeds:
        rng_lib.check_seed(seed, "seed")
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
    return np.asarray(draw_latents(keys, dim, prior, bound))


# ---------------------------------------------------------------- style-based generators


def has_styles(network: nn.Module) -> bool:
    """Whether a generator maps latents to styles, one per layer, and paints those (StyleGAN without its styles reads
    one w alone, and only at the start)."""
    return hasattr(network, "map") and hasattr(network, "synthesize") and getattr(network, "styles", True)


class Style:
    """A style-based generator bound to its variables; pictures come in calls of one size, so one program serves all.

    Args:
      network: with methods "map" and "synthesize", such as `genjax.gan.stylegan2.Generator`.
      variables: a snapshot's {"params", "extra": {"buffers"}}, or the network's own {"params", "buffers"}.
      batch: pictures per call.
      growth: of a generator that grows: the `size` and `alpha` it paints at.

    Attributes:
      size: of the pictures.
      growth: as given, {} for none.
    """

    def __init__(self, network: nn.Module, variables: dict[str, Any], batch: int = 32,
                 growth: dict[str, Any] | None = None):
        if not has_styles(network):
            raise UserError(f"{type(network).__name__} has no styles; give StyleGAN's or StyleGAN2's generator")
        self.network, self.batch, self.growth = network, batch, growth or {}
        self.size = self.growth.get("size", network.resolution)
        self.variables = {"params": variables["params"], **variables.get("extra", {})} | {
            k: v for k, v in variables.items() if k == "buffers"}
        self._map = jax.jit(lambda v, z, y: network.apply(v, z, y, method="map"))

        def paint(v, ws, keys, noise):
            if noise != "random":
                return network.apply(v, ws, noise=noise, method="synthesize", **self.growth)
            one = lambda w, key: network.apply(v, w[None], noise=noise, method="synthesize", **self.growth,  # noqa: E731
                                               rngs={"noise": key})[0]
            return jax.vmap(one)(ws, keys)  # so that a picture's noise is a function of its key alone

        self._paint = jax.jit(paint, static_argnums=3)

    @property
    def w_avg(self) -> np.ndarray:
        """The average style [W]."""
        found = [x for path, x in jax.tree_util.tree_flatten_with_path(self.variables["buffers"])[0]
                 if path[-1].key == "w_avg"]
        return np.asarray(found[0])

    def map(self, z: Any, labels: Any = None) -> np.ndarray:
        """w [N,L,W], not truncated; L are the layers in use."""
        ws = self._calls(lambda v, z, y: self._map(v, z, None if labels is None else y), np.asarray(z),
                         np.zeros(len(z), np.int32) if labels is None else np.asarray(labels))
        return ws[:, :2 * int(math.log2(self.size)) - 2]

    def paint(self, ws: Any, noise: str = "const", key: jax.Array | None = None,
              variables: dict[str, Any] | None = None) -> np.ndarray:
        """x [N,H,W,C] for w [N,L,W].

        Args:
          ws: the styles.
          noise: "const", the fixed pictures; "none"; "random", picture i's noise a function of `key` and i.
          key: for "random".
          variables: in the place of the generator's own, such as `without_noise` gives.
        """
        if noise == "random" and key is None:
            raise UserError("random noise needs a key")
        keys = rng_lib.per_item(jax.random.key(0) if key is None else key, len(ws))
        return self._calls(lambda v, w, k: self._paint(v, w, k, noise), np.asarray(ws), keys, variables=variables)

    def _calls(self, f, *rows, variables=None):
        n, out = len(rows[0]), []
        for first in range(0, n, self.batch):
            at = np.minimum(np.arange(first, first + self.batch), n - 1)
            out.append(np.asarray(f(variables or self.variables, *(r[at] for r in rows))))
        return np.concatenate(out)[:n]

    def __call__(self, z: Any, labels: Any = None, psi: float = 1.0, cutoff: int | None = None) -> np.ndarray:
        """x [N,H,W,C] for z [N,Z], truncated, with the fixed noise."""
        return self.paint(truncate(self.map(z, labels), self.w_avg, psi, cutoff))


def truncate(ws: Any, w_avg: Any, psi: float, cutoff: int | None = None) -> np.ndarray:
    """w_avg + psi (w - w_avg) in the first `cutoff` layers (None: all) of w [N,L,W]: StyleGAN's appendix B."""
    ws = np.asarray(ws)
    near = w_avg + np.float32(psi) * (ws - w_avg)
    return near if cutoff is None else np.where(np.arange(ws.shape[1])[:, None] < cutoff, near, ws)


def truncations(style: Style, ws: Any, psi: Sequence[float] = PSI) -> np.ndarray:
    """x [N,len(psi),H,W,C]: each w at every psi. At 0 all are the average picture, below it the opposites."""
    ws, w_avg = np.asarray(ws), style.w_avg
    x = style.paint(np.concatenate([truncate(ws, w_avg, p) for p in psi]))
    return x.reshape(len(psi), len(ws), *x.shape[1:]).swapaxes(0, 1)


def layer_groups(layers: int) -> dict[str, tuple[int, int]]:
    """{"coarse", "middle", "fine"}: first layer and the one after the last. Those of the paper, up to 8 x 8, up to 32 x
    32 and above, where there are ten layers or more; else thirds."""
    a, b = (4, 8) if layers >= 10 else (max(layers // 3, 1), max(2 * layers // 3, 2))
    return {"coarse": (0, a), "middle": (a, b), "fine": (b, layers)}


def mix(ws: Any, other: Any, first: int, last: int) -> np.ndarray:
    """w [N,L,W] with layers first .. last-1 from `other`."""
    ws, other = np.asarray(ws), np.asarray(other)
    layer = np.arange(ws.shape[-2])[:, None]
    return np.where((layer >= first) & (layer < last), other, ws)


def mixing(paint: Decode, ws: Any, source: Any, groups: Sequence[tuple[int, int]]) -> np.ndarray:
    """StyleGAN's figure 3: x [rows,1+columns,H,W,C].

    Args:
      paint: w -> x.
      ws: [rows,L,W], one per row, in the first column as they are.
      source: [columns,L,W]; the picture at (r, 1 + c) takes row r's layers from source c, the others from ws[r].
      groups: (first, last + 1) of those layers, one per row.
    """
    ws, source = np.asarray(ws), np.asarray(source)
    if len(groups) != len(ws):
        raise UserError(f"mixing needs a group of layers for each of the {len(ws)} rows, got {len(groups)}")
    mixed = [np.concatenate([w[None], mix(np.broadcast_to(w, source.shape), source, *group)])
             for w, group in zip(ws, groups, strict=True)]
    x = np.asarray(paint(np.concatenate(mixed)))
    return x.reshape(len(ws), 1 + len(source), *x.shape[1:])


def noise_detail(style: Style, w: Any, key: jax.Array, draws: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Figure 4: `draws` pictures [draws,H,W,C] of one w [L,W] under other noise, and their standard deviation at each
    pixel [H,W], averaged over channels."""
    x = style.paint(np.broadcast_to(np.asarray(w), (draws, *np.shape(w))), "random", key)
    return x, x.std(0).mean(-1)


def without_noise(variables: dict[str, Any], keep: tuple[int, int] | None = None) -> dict[str, Any]:
    """Variables whose noise is silent, but for that of resolutions keep[0] .. keep[1]: figure 5."""
    def leaf(path, x):
        names = [str(getattr(p, "key", p)) for p in path]
        if names[-1] not in ("noise_strength", "noise_weight"):
            return x
        size = int(re.search(r"\bb(\d+)", "/".join(names)).group(1))
        return x if keep and keep[0] <= size <= keep[1] else jnp.zeros_like(x)

    return {**variables, "params": jax.tree_util.tree_map_with_path(leaf, variables["params"])}


def noise_components(style: Style, ws: Any, fine_from: int) -> dict[str, np.ndarray]:
    """Figure 5: {"all", "none", "fine", "coarse"}: x [N,H,W,C] with noise in all layers, none, those of resolution
    `fine_from` and above, those below."""
    kept = {"none": None, "fine": (fine_from, 1 << 20), "coarse": (0, fine_from - 1)}
    return {"all": style.paint(ws)} | {
        name: style.paint(ws, variables=without_noise(style.variables, keep)) for name, keep in kept.items()}


# ---------------------------------------------------------------- curves


def strip(a: Any, b: Any, steps: int, curve: str = "lerp") -> np.ndarray:
    """[N,steps,...] codes from a [N,...] to b on straight lines ("lerp") or great circles ("slerp"), both ends
    included."""
    if curve not in CURVES:
        raise unknown("curve", curve, CURVES)
    if steps < 2:
        raise UserError(f"a strip needs at least 2 steps, got {steps}")
    a, b = jnp.asarray(a), jnp.asarray(b)
    t = jnp.linspace(0, 1, steps).reshape(steps, *[1] * a.ndim)
    return np.asarray(CURVES[curve](a[None], b[None], t)).swapaxes(0, 1)


def walk(codes: Any, steps: int, curve: str = "slerp", closed: bool = True) -> np.ndarray:
    """[frames,...] codes that pass through all of `codes` [N,...] and, closed, back to the first, `steps` frames from
    one to the next; a closed walk repeats without a jolt, an open one ends on the last."""
    codes = np.asarray(codes)
    if len(codes) < 2:
        raise UserError(f"a walk needs at least 2 codes, got {len(codes)}")
    ends = np.roll(codes, -1, 0) if closed else codes[1:]
    legs = strip(codes[: len(ends)], ends, steps + 1, curve)[:, :-1]
    path = legs.reshape(-1, *codes.shape[1:])
    return path if closed else np.concatenate([path, codes[-1:]])


def frames(decode: Decode, codes: Any, value_range: tuple[float, float] = (-1, 1), batch: int = 64,
           scale: int = 1) -> Iterator[np.ndarray]:
    """Frames [H,W,C] uint8 of codes, `batch` decoded at a time: for `genjax.viz.video.save_video`."""
    low, high = value_range
    for first in range(0, len(codes), batch):
        for x in np.asarray(decode(codes[first : first + batch])):
            x = np.round(np.clip((x - low) / (high - low), 0, 1) * 255).astype(np.uint8)
            yield x.repeat(scale, 0).repeat(scale, 1)


# ---------------------------------------------------------------- arithmetic


def combine(*terms: tuple[float, Any]) -> np.ndarray:
    """The sum of weight * (mean of codes [n,Z]) over (weight, codes) pairs, [Z]: DCGAN's figure 7 has three codes per
    concept, ((1, smiling women), (-1, neutral women), (1, neutral men)). Single codes are too noisy for it."""
    return np.sum([weight * np.asarray(codes).mean(0) for weight, codes in terms], 0)


def neighbourhood(z: Any, key: jax.Array, bound: float = 0.25) -> np.ndarray:
    """[9,Z] for a 3 x 3 sheet: z [Z] in the middle, around it z + uniform noise in (-bound, bound): figure 7."""
    z = np.asarray(z)
    noise = np.array(jax.random.uniform(key, (9, *z.shape), minval=-bound, maxval=bound))
    noise[4] = 0
    return z + noise


def turn(left: Any, right: Any) -> np.ndarray:
    """mean(right) - mean(left) of codes [n,Z]: DCGAN's figure 8, "turn" from four averaged faces on each side."""
    return combine((1, right), (-1, left))


def along(z: Any, direction: Any, amounts: Sequence[float]) -> np.ndarray:
    """[N,len(amounts),Z]: z [N,Z] moved along `direction` [Z]."""
    return np.asarray(z)[:, None] + np.asarray(amounts, np.float32)[:, None] * direction


# ---------------------------------------------------------------- neighbours


class Neighbours(NamedTuple):
    """The k nearest of each picture: distance [N,k] ascending, index [N,k] in the data, images [N,k,H,W,C]."""

    distance: np.ndarray
    index: np.ndarray
    images: np.ndarray


def nearest(x: Any, data: Iterable[Any], k: int = 1, embed: Decode | None = None) -> Neighbours:
    """For each of x [N,H,W,C], the k nearest pictures of `data`, an iterable of batches [n,H,W,C].

    The distance is Euclidean, between pixels or, with `embed` (pictures -> features [n,...]), between features.
    """
    def flat(x):
        return np.asarray(x if embed is None else embed(x), np.float64).reshape(len(x), -1)

    x = np.asarray(x)
    a, found, first = flat(x), None, 0
    for batch in data:
        batch = np.asarray(batch)
        b = flat(batch)
        square = np.maximum((a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1), 0)
        index = np.broadcast_to(np.arange(first, first + len(b)), square.shape)
        images = np.broadcast_to(batch, (len(x), *batch.shape))
        first += len(b)
        if found is not None:
            square, index = np.concatenate([found[0], square], 1), np.concatenate([found[1], index], 1)
        order = np.argsort(square, 1, kind="stable")[:, :k]
        # Only the pictures that stay are copied: those kept so far come first.
        kept = 0 if found is None else found[2].shape[1]
        chosen = np.stack([[found[2][i, j] if j < kept else images[i, j - kept] for j in row]
                           for i, row in enumerate(order)])
        found = np.take_along_axis(square, order, 1), np.take_along_axis(index, order, 1), chosen
    if found is None or first < k:
        raise UserError(f"{k} neighbours were asked for and the data have {first} pictures")
    return Neighbours(np.sqrt(found[0]), found[1], found[2])
