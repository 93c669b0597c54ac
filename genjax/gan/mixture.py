"""Adversarial training on points in the plane, where what a generator misses can be seen and counted.

Letters: z[N,Z] latents, x[N,2] points, a = D(x) logits [N]; K modes with centres c[K,2] and standard deviation sigma
(`genjax.data.mixtures`). Networks: Metz et al. 2017 (Unrolled GAN, arXiv:1611.02163, appendix A). Counts: Srivastava et
al. 2017 (VEEGAN, 1705.07761, section 5) and Lin et al. 2018 (PacGAN, 1712.04086, section 4).
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from genjax.errors import UserError, at_least
from genjax.gan.task import Adversarial
from genjax.viz import plots


def _layers(h: jax.Array, hidden: tuple[int, ...], features: int, gain: float) -> jax.Array:
    """Linear maps with ReLU between them, orthogonal kernels times `gain`, biases 0."""
    init = nn.initializers.orthogonal(gain)
    for i, width in enumerate(hidden):
        h = jax.nn.relu(nn.Dense(width, kernel_init=init, name=f"hidden{i}")(h))
    return nn.Dense(features, kernel_init=init, name="output")(h)


class Generator(nn.Module):
    """z [N,Z] -> x [N,2], a perceptron.

    Attributes:
      hidden: units of the hidden layers.
      gain: of the initial orthogonal kernels.
    """

    hidden: tuple[int, ...] = (128, 128)
    gain: float = 0.8

    @nn.compact
    def __call__(self, z: jax.Array, labels: jax.Array | None = None, train: bool = True) -> jax.Array:
        return _layers(z, self.hidden, 2, self.gain)


class Discriminator(nn.Module):
    """x [N,2] -> logits [N], a perceptron.

    Attributes:
      hidden: units of the hidden layers.
      gain: of the initial orthogonal kernels.
      shrink: what x is divided by first, which brings it to about (-1,1).
    """

    hidden: tuple[int, ...] = (128,)
    gain: float = 0.8
    shrink: float = 4.0

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array | None = None, train: bool = True) -> jax.Array:
        return _layers(x / self.shrink, self.hidden, 1, self.gain)[:, 0]


def coverage(x: np.ndarray, centres: np.ndarray, sigma: float) -> dict[str, float]:
    """How well points x [N,2] cover a mixture's modes.

    Returns:
      "high_quality": the fraction of points within 3 sigma of the nearest centre (the mixture itself: .9889);
      "modes": how many centres have such a point; "reverse_kl": sum_k q_k log(K q_k) in nats with q_k the fraction of
      all points whose nearest centre is k: 0 when all modes are equally frequent, log K when there is only one.
    """
    x, centres = np.asarray(x, np.float64), np.asarray(centres, np.float64)
    squared = np.square(x[:, None] - centres).sum(-1)
    nearest = squared.argmin(1)
    good = squared.min(1) <= (3 * sigma) ** 2  # NaN is not good
    q = np.bincount(nearest, minlength=len(centres)) / len(x)
    return {"modes": float(len(np.unique(nearest[good]))), "high_quality": float(good.mean()),
            "reverse_kl": float(max(0, (q[q > 0] * np.log(len(centres) * q[q > 0])).sum()))}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plane(Adversarial):
    """`Adversarial` for points: its pictures are scatter plots, its metrics `coverage`.

    Attributes:
      preview_images: points in a picture.
      eval_samples: points for the metrics.
      extent: pictures show the square from -extent to extent.
      picture_size: its side in CSS pixels.
    """

    latent_dim: int = 256
    preview_images: int = 512
    eval_samples: int = 2500
    extent: float = 2.5
    picture_size: int = 320
    value_range: tuple[float, float] = (0.0, 1.0)  # of the pictures; points have none

    def __post_init__(self):
        super().__post_init__()
        at_least(self, eval_samples=1, picture_size=100)
        if self.evaluation is not None:
            raise UserError("points in the plane have metrics of their own (modes, high_quality, reverse_kl); leave"
                            " --metrics and config.task.evaluation away")
        if not self.extent > 0:
            raise UserError(f"extent must be positive, got {self.extent}")

    def points(self, variables: dict[str, Any], rng: jax.Array, n: int) -> np.ndarray:
        """x [n,2], point i a function of `rng` and i."""
        return self.images(variables, self._latents(rng, n), batch=n)

    def controls(self):
        """None: points are no pictures to walk through."""
        return {}

    def evaluate(self, variables, data, rng):
        """`coverage` of the data's modes by `eval_samples` points."""
        return coverage(self.points(variables, rng, self.eval_samples), data.centres, data.sigma)

    def _picture(self, x, real=None, shade=None):
        # The data lie on top: there are fewer of them to be seen where samples are.
        series = {"samples": tuple(x.T), **({} if real is None else {"data": tuple(np.asarray(real)[:256].T)})}
        limits = (-self.extent, self.extent)
        png = plots.scatter(series, xlim=limits, ylim=limits, area=5, shade=shade, legend=False,
                            size=(self.picture_size, self.picture_size), scale=1.5)
        return plots.image_of(png)[None] / np.float32(255)

    def sample(self, variables, rng, n, cond=None):
        """{"samples"}: one scatter plot of n points, [1,H,W,3]."""
        return {"samples": self._picture(self.points(variables, rng, n))}

    def preview(self, variables, batch, rng):
        """{"samples"}: points of the same latents at every preview (blue), and the batch's (orange)."""
        return {"samples": self._picture(self.points(variables, rng, self.preview_images), batch["image"])}

    def results(self, variables, data, rng):
        """{"samples"}: points over the data's density."""
        along = np.linspace(-self.extent, self.extent, 400)
        density = data.density(np.stack(np.meshgrid(along, along), -1))
        return {"samples": self._picture(self.points(variables, rng, self.preview_images),
                                         shade=(along, along, density))[0]}
