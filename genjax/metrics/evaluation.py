"""What a run measures of its samples, as a config says it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from genjax.errors import UserError, at_least
from genjax.metrics import features
from genjax.metrics.evaluate import Settings, evaluate
from genjax.metrics.reals import Reals
from genjax.metrics.recipe import Value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Distances between a generator's samples and the training pictures, see `genjax.metrics.evaluate`.

    The network's weights are read (or downloaded) when they are first needed.

    Attributes:
      metrics: "frechet" ("fid" with the published Inception), "kernel", "inception_score", "precision", "recall",
        "density", "coverage", "ndb", "ms_ssim".
      network: of `genjax.metrics.features`: inception, vgg16, vgg19, alexnet, squeezenet, lenet, resnet20.
      path: its weights file; "" for the cache or a download.
      resize: "legacy", "clean" or "none"; "" for the network's own.
      n: samples drawn.
      n_real: pictures compared with; 0 for all of the training split.
      batch: pictures per device and call.
      settings: the metrics' own parameters.
    """

    metrics: tuple[str, ...] = ("frechet",)
    network: str = "inception"
    path: str = ""
    resize: str = ""
    n: int = 50_000
    n_real: int = 0
    batch: int = 64
    settings: Settings = Settings()

    def __post_init__(self):
        at_least(self, n=2, n_real=0, batch=1)

    @functools.cached_property
    def _features(self) -> features.FeatureNetwork:
        return features.load(self.network, self.path or None, self.resize or None)

    def __call__(self, sample: Callable[..., jax.Array], key: jax.Array, data: Any, args: tuple,
                 value_range: tuple[float, float], how: tuple[tuple[str, Any], ...] = ()) -> dict[str, Value]:
        """The values by their recipes' keys, such as {"fid": ...}.

        Args:
          sample: (keys [b], *args) -> pictures [b,H,W,C], picture i from key i alone; always the same function.
          key: of the samples.
          data: the run's data set, a `Pipeline`.
          args: the generator's weights.
          value_range: of the pictures.
          how: parameters for the recipes, where the pictures were not simply drawn.
        """
        if not hasattr(data, "source"):
            raise UserError(f"config.task.evaluation compares with a data source's pictures; {type(data).__name__} has"
                            " none: set config.task.evaluation to None")
        reals = Reals.of_pipeline(data, min(self.n_real, len(data)))
        return evaluate(self.metrics, self._features, reals, sample, key, self.n, self.batch, args=args,
                        value_range=value_range, settings=self.settings, how=how)
