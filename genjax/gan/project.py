"""Projection: the style and the noise that make a given picture, by optimisation. Karras et al. 2020, appendix D.

Letters: w styles, W (one for all layers) or W+ (one per layer, [L,W]); n noise pictures, one [r,r] per layer; t is
step / steps. Each step adds noise of deviation .05 sigma_w max(0, 1 - t/.75)^2 to w, paints with the noise pictures n,
and minimises distance(picture, target) + 1e5 * `noise_penalty`(n) with Adam; then every n is brought back to mean 0,
mean square 1. The learning rate is .1, risen linearly over the first twentieth, fallen with a half cosine over the last
quarter. Start: w = mean of w over 10 000 latents, n normal; sigma_w^2 is the mean square distance from it. Pictures
above 256 x 256 are averaged down before the distance.

Source: arXiv:1912.04958, appendix D; the published projector. The paper's distance is LPIPS with VGG16.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from genjax.errors import UserError, at_least, unknown
from genjax.metrics.lpips import LPIPS
from genjax.ops.resample import resize

LARGEST = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The projection's constants, see the module.

    Attributes:
      space: "w", or "w+": every layer a style of its own (closer, but less of what the generator knows).
      steps, learning_rate, ramp_up, ramp_down: of Adam; the ramps as shares of the steps.
      w_noise, w_noise_until: strength of the noise on w in units of sigma_w, and the share of the steps after which
        there is none.
      noise_weight: of the penalty on the noise pictures.
      w_samples: latents for the mean and deviation of w.
    """

    space: Literal["w", "w+"] = "w"
    steps: int = 1000
    learning_rate: float = 0.1
    ramp_up: float = 0.05
    ramp_down: float = 0.25
    w_noise: float = 0.05
    w_noise_until: float = 0.75
    noise_weight: float = 1e5
    w_samples: int = 10_000

    def __post_init__(self):
        if self.space not in ("w", "w+"):
            raise unknown("space", self.space, ("w", "w+"))
        at_least(self, steps=1, learning_rate=0, ramp_up=1e-9, ramp_down=1e-9, w_noise=0, w_noise_until=1e-9,
                 noise_weight=0, w_samples=1)


class Projection(NamedTuple):
    """What was found.

    Attributes:
      ws: styles [L,W] float32 after the last step.
      variables: the generator's, with the noise pictures found in "buffers": paint with noise="const".
      image: [R,R,C] of both.
      distance, penalty: [steps], before each step's update and with that step's noise on w.
      path: w after each step, [steps,1,W] or [steps,L,W], for a film.
    """

    ws: jax.Array
    variables: dict[str, Any]
    image: jax.Array
    distance: jax.Array
    penalty: jax.Array
    path: jax.Array


def learning_rate(t: jax.Array | float, s: Settings) -> jax.Array:
    """The rate at t = step / steps in [0,1)."""
    ramp = 0.5 - 0.5 * jnp.cos(jnp.pi * jnp.minimum(1.0, (1.0 - t) / s.ramp_down))
    return s.learning_rate * ramp * jnp.minimum(1.0, t / s.ramp_up)


def w_noise(t: jax.Array | float, s: Settings) -> jax.Array:
    """The deviation of the noise on w at t, in units of sigma_w."""
    return s.w_noise * jnp.maximum(0.0, 1.0 - t / s.w_noise_until) ** 2


def noise_penalty(n: jax.Array) -> jax.Array:
    """How far a noise picture [r,r], r a power of two, is from white: the squared correlations with its neighbours to
    the right and below, at r and at each half of it down to 8."""
    total = jnp.float32(0)
    while True:
        total += jnp.mean(n * jnp.roll(n, 1, 1)) ** 2 + jnp.mean(n * jnp.roll(n, 1, 0)) ** 2
        if n.shape[0] <= 8:
            return total
        n = n.reshape(n.shape[0] // 2, 2, n.shape[1] // 2, 2).mean((1, 3))


def normalized(n: jax.Array) -> jax.Array:
    """n with mean 0 and mean square 1."""
    n = n - n.mean()
    return n * jax.lax.rsqrt(jnp.square(n).mean())


def _lpips(lpips: LPIPS, a, b):
    if a.shape[-1] == 1:
        a, b = jnp.repeat(a, 3, -1), jnp.repeat(b, 3, -1)
    return lpips(a, b, value_range=(-1, 1))


def lpips_distance(lpips: LPIPS) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """LPIPS as the distance of `project` for pictures in [-1,1], grey or colour; its weights stay arguments."""
    return jax.tree_util.Partial(_lpips, lpips)


def pixel_distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """Mean squared difference [N] of pictures [N,H,W,C]; for pictures too small for a feature network."""
    return jnp.square(a - b).mean((1, 2, 3))


def _split(buffers):
    """Paths of the noise pictures and their values; the other leaves stay where they are."""
    found = jax.tree_util.tree_flatten_with_path(buffers)[0]
    return {jax.tree_util.keystr(path): x for path, x in found if path[-1].key == "noise_const"}


def _with_noise(buffers, noise):
    return jax.tree_util.tree_map_with_path(lambda p, x: noise.get(jax.tree_util.keystr(p), x), buffers)


def w_statistics(network: nn.Module, variables: dict[str, Any], key: jax.Array, n: int,
                 label: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """Mean [W] of w over n latents, and sigma_w, the root of the mean square distance from it."""
    z = jax.random.normal(key, (n, network.z_dim))
    w = network.apply(variables, z, None if label is None else jnp.full((n,), label), method="map")[:, 0]
    mean = w.mean(0)
    return mean, jnp.sqrt(jnp.square(w - mean).sum(1).mean())


def project(network: nn.Module, variables: dict[str, Any], target: jax.Array, key: jax.Array,
            distance: Callable[[jax.Array, jax.Array], jax.Array], settings: Settings | None = None,
            label: int | None = None, growth: dict[str, Any] | None = None) -> Projection:
    """Finds w and noise pictures with which the generator paints `target`.

    Args:
      network: a generator of `genjax.gan.stylegan2` or `genjax.gan.stylegan`.
      variables: {"params", "buffers"}, or a snapshot's {"params", "extra"}.
      target: [R,R,C] in [-1,1], of the generator's size.
      key: of latents, first noise pictures and the noise on w.
      distance: (a, b) [1,H,W,C] -> [1]; a function, or a `jax.tree_util.Partial` whose arguments are arrays, such as
        `lpips_distance(lpips.load("vgg"))`.
      settings: None: the paper's.
      label: class of the picture, where the generator is conditional.
      growth: of a generator that grows, the `size` and `alpha` it paints at.

    Raises:
      UserError: a target of another size.
    """
    s = settings or Settings()
    growth = growth or {}
    side = growth.get("size", network.resolution)
    if target.shape != (side, side, network.channels):
        raise UserError(f"the generator paints pictures {(side, side, network.channels)}, the target is"
                        f" {tuple(target.shape)}")
    variables = {"params": variables["params"], "buffers": variables.get("extra", variables)["buffers"]}
    if not isinstance(distance, jax.tree_util.Partial):
        distance = jax.tree_util.Partial(distance)
    return _project(network, s, variables, jnp.asarray(target, jnp.float32), key, distance,
                    None if label is None else jnp.int32(label), tuple(growth.items()))


@functools.partial(jax.jit, static_argnums=(0, 1, 7))
def _project(network, s, variables, target, key, distance, label, growth):
    k_stats, k_noise, k_steps = jax.random.split(key, 3)
    mean, sigma = w_statistics(network, variables, k_stats, s.w_samples, label)
    layers = network.num_ws
    noise = _split(variables["buffers"])
    noise = {name: jax.random.normal(k, x.shape) for (name, x), k in zip(
        sorted(noise.items()), jax.random.split(k_noise, len(noise)), strict=True)}
    params = {"w": jnp.broadcast_to(mean, (layers if s.space == "w+" else 1, mean.shape[0])), "noise": noise}
    adam = optax.scale_by_adam(0.9, 0.999, 1e-8)
    factor = max(target.shape[0] // LARGEST, 1)

    def seen(x):
        return resize(x, (x.shape[1] // factor, x.shape[2] // factor), "area") if factor > 1 else x

    def paint(w, noise):
        found = {"params": variables["params"], "buffers": _with_noise(variables["buffers"], noise)}
        return network.apply(found, jnp.broadcast_to(w, (layers, w.shape[1]))[None], noise="const", method="synthesize",
                             **dict(growth))

    def loss(params, push):
        apart = distance(seen(paint(params["w"] + push, params["noise"])), seen(target[None]))[0]
        penalty = sum(noise_penalty(n) for n in params["noise"].values())
        return apart + s.noise_weight * penalty, (apart, penalty)

    def step(carry, i):
        params, state = carry
        t = i / s.steps
        push = jax.random.normal(jax.random.fold_in(k_steps, i), params["w"].shape) * (sigma * w_noise(t, s))
        grads, found = jax.grad(loss, has_aux=True)(params, push)
        updates, state = adam.update(grads, state)
        rate = learning_rate(t, s)
        params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
        params["noise"] = jax.tree.map(normalized, params["noise"])
        return (params, state), (*found, params["w"])

    (params, _), (apart, penalty, path) = jax.lax.scan(step, (params, adam.init(params)), jnp.arange(s.steps))
    ws = jnp.broadcast_to(params["w"], (layers, mean.shape[0]))
    found = {"params": variables["params"], "buffers": _with_noise(variables["buffers"], params["noise"])}
    return Projection(ws, found, paint(params["w"], params["noise"])[0], apart, penalty, path)
