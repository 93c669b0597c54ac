"""Points in the plane with a known density: rings, grids and spirals of Gaussians. Batch i is a function of (seed, i).

Letters: B the batch, K the components ("modes"), all equally likely, with centres c[K,2] and one standard deviation
sigma; x[...,2] points. A batch is {"image": [B,2] float32}: to a task a point is a very small picture. Sources: the
ring of Metz et al. 2017 (arXiv:1611.02163, appendix A), the grid of Srivastava et al. 2017 (VEEGAN, 1705.07761,
section 5).
"""

import dataclasses
import functools
import math

import numpy as np

from genjax.data.summary import Summary
from genjax.errors import UserError, at_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture:
    """What all of them share; a subclass says where the centres are.

    Attributes:
      batch_size: B.
      sigma: standard deviation of every component, on both axes.
      size: points that count as one epoch; there is no end of them.
      seed: of the points.
    """

    batch_size: int = 512
    sigma: float = 0.02
    size: int = 50_000
    seed: int = 0

    constant = False

    def __post_init__(self):
        at_least(self, batch_size=1, size=1)
        if not 0 < self.sigma < math.inf:
            raise UserError(f"sigma must be positive, got {self.sigma}")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed={self.seed}: a data seed lies between 0 and 2**32-1")

    def __len__(self) -> int:
        return self.size

    def summary(self) -> Summary:
        """What every run logs of its data."""
        return Summary(count=self.size, what="points an epoch", place=f"a {type(self).__name__.lower()} of"
                       f" {len(self._centres)} Gaussians, seed {self.seed}, none drawn twice")

    @property
    def centres(self) -> np.ndarray:
        """c, float64 [K,2]."""
        raise TypeError(f"{type(self).__name__} has no centres: take Ring, Grid or Spiral")

    @property
    def element_spec(self) -> dict:
        """Shape and dtype of a batch."""
        import jax  # not at the top: looking at data needs no JAX

        return {"image": jax.ShapeDtypeStruct((self.batch_size, 2), np.float32)}

    def batch(self, i: int, lo: int | None = None, hi: int | None = None) -> dict[str, np.ndarray]:
        """Batch i, or its rows lo..hi-1: {"image": float32 [hi-lo,2]}."""
        rng = np.random.default_rng((self.seed, i))
        at = self._centres[rng.integers(len(self._centres), size=self.batch_size)]
        x = at + self.sigma * rng.standard_normal((self.batch_size, 2))
        return {"image": x.astype(np.float32)[lo:hi]}

    @functools.cached_property
    def _centres(self):
        return np.asarray(self.centres, np.float64)

    def density(self, x: np.ndarray) -> np.ndarray:
        """The exact probability density at x [...,2]: float64 [...]."""
        x = np.asarray(x, np.float64)
        total = np.zeros(x.shape[:-1])
        for c in self._centres:  # one by one: a picture of many components would not fit in memory
            total += np.exp(-np.square(x - c).sum(-1) / (2 * self.sigma**2))
        return total / (len(self._centres) * 2 * math.pi * self.sigma**2)

    @property
    def extent(self) -> float:
        """Half the side of a square around 0 that shows everything with a margin."""
        return 1.2 * float(np.abs(self._centres).max() + 3 * self.sigma)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ring(Mixture):
    """K components on a circle, the first on the positive x axis.

    Attributes:
      modes: K.
      radius: of the circle.
    """

    modes: int = 8
    radius: float = 2.0

    def __post_init__(self):
        super().__post_init__()
        at_least(self, modes=1, radius=0)

    @property
    def centres(self):
        """c [K,2], anticlockwise."""
        angle = 2 * np.pi * np.arange(self.modes) / self.modes
        return self.radius * np.stack([np.cos(angle), np.sin(angle)], 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid(Mixture):
    """side x side components around 0, 25 as published.

    Attributes:
      side: components per row; K = side^2.
      spacing: between neighbours.
    """

    sigma: float = 0.05
    side: int = 5
    spacing: float = 2.0

    def __post_init__(self):
        super().__post_init__()
        at_least(self, side=1, spacing=0)

    @property
    def centres(self):
        """c [K,2], row by row from below."""
        along = self.spacing * (np.arange(self.side) - (self.side - 1) / 2)
        return np.stack(np.meshgrid(along, along), -1).reshape(-1, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spiral(Mixture):
    """An Archimedean spiral, r proportional to the angle: one curve, drawn by K components at equal arc lengths.

    With the defaults neighbours are less than sigma apart, so the density along the arm is smooth.

    Attributes:
      modes: K.
      turns: how often it goes round.
      radius: where it ends; it starts at 0.
    """

    sigma: float = 0.1
    modes: int = 200
    turns: float = 2.0
    radius: float = 2.0

    def __post_init__(self):
        super().__post_init__()
        at_least(self, modes=2, turns=0, radius=0)

    @property
    def centres(self):
        """c [K,2], from the inside out."""
        fine = np.linspace(0, 1, 20 * self.modes)
        angle = 2 * np.pi * self.turns * fine
        curve = self.radius * fine[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
        even = np.linspace(0, length[-1], self.modes)
        return np.stack([np.interp(even, length, curve[:, k]) for k in (0, 1)], 1)
