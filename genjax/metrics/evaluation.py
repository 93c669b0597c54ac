"""What a run measures of its samples, as a config says it."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from genjax.errors import UserError, at_least, unknown
from genjax.metrics import features, ms_ssim, recipe
from genjax.metrics import lpips as lpips_lib
from genjax.metrics.evaluate import CHOICES, MOVES, NEEDS, PATHS, PUBLISHED, SIFID_LAYER, Settings, evaluate, suits
from genjax.metrics.perceptual_path import PathSettings, perceptual_path_length, shown
from genjax.metrics.reals import Reals
from genjax.metrics.recipe import Value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Distances between a generator's samples and real pictures, see `genjax.metrics.evaluate`.

    The network's weights are read (or downloaded) when they are first needed: by `check`, before a run is trained.

    Attributes:
      metrics: "frechet" ("fid" with the published Inception), "kernel", "inception_score", "precision", "recall",
        "density", "coverage", "ndb", "ms_ssim"; "sifid", where the data is one picture; path lengths by LPIPS,
        "ppl_zfull", "ppl_zend", "ppl_wfull", "ppl_wend"; "disentanglement", of generators with objects to move.
      network: of `genjax.metrics.features`: inception, vgg16, vgg19, alexnet, squeezenet, lenet, resnet20.
      path: its weights file; "" for the cache or a download.
      resize: "legacy", "clean" or "none"; "" for the network's own.
      n: samples drawn.
      n_real: pictures compared with; 0 for all there are.
      reference_split: the split of the data's source that is compared with; "" for the one that is trained on. A run
        on 1000 of 70 000 pictures (`data.split=train[:1000]`) is comparable with others only against all, "train".
      batch: pictures per device and call.
      settings: the metrics' own parameters.
      ppl_epsilon, ppl_crop: the step of path lengths, and whether they look at the face alone (as published for FFHQ),
        see `PathSettings`.
      lpips: the network of path lengths, "vgg" as published, "alex" or "squeeze"; lpips_trunk and lpips_heads are files
        of its weights and of its linear heads, "" for the cache or a download.
    """

    metrics: tuple[str, ...] = ("frechet",)
    network: str = "inception"
    path: str = ""
    resize: str = ""
    n: int = 50_000
    n_real: int = 0
    reference_split: str = ""
    batch: int = 64
    settings: Settings = Settings()
    ppl_epsilon: float = 1e-4
    ppl_crop: bool = False
    lpips: lpips_lib.Net = "vgg"
    lpips_trunk: str = ""
    lpips_heads: str = ""

    def __post_init__(self):
        at_least(self, n=2, n_real=0, batch=1)
        if self.ppl_epsilon <= 0:
            raise UserError(f"ppl_epsilon={self.ppl_epsilon}: the step of path lengths is positive, e.g. 1e-4")
        known = (*NEEDS, *PUBLISHED, *PATHS, MOVES)
        for what, names, valid in (("metric", self.metrics, known),
                                   ("feature network", (self.network,), features.NETWORKS),
                                   ("resize", (self.resize,) if self.resize else (), features.RESIZES),
                                   ("LPIPS network", (self.lpips,), lpips_lib.VARIANTS)):
            for name in names:
                if name not in valid:
                    raise unknown(what, name, valid)

    @property
    def names(self) -> tuple[str, ...]:
        """What the values may be asked for by (`train.keep_best`); () where only measuring says it."""
        if MOVES in self.metrics or set(PATHS) & set(self.metrics):
            return ()
        return tuple(n for m in self.metrics for n in recipe.names(PUBLISHED.get(m, m), self.network))

    @property
    def _lengths(self) -> list[str]:
        return [name for name in dict.fromkeys(self.metrics) if name in PATHS]

    @property
    def _others(self) -> list[str]:
        return [name for name in dict.fromkeys(self.metrics) if name not in (*PATHS, MOVES)]

    @property
    def _looks(self) -> bool:
        """Path lengths and MS-SSIM need no features: their weights are asked for when something does."""
        return bool(set(self._others) - {"ms_ssim"})

    @functools.cached_property
    def _features(self) -> features.FeatureNetwork:
        with _or("path"):
            return features.load(self.network, self.path or None, self.resize or None)

    @functools.cached_property
    def _distance(self) -> "_Seen":
        with _or("lpips_trunk", "lpips_heads"):
            return _Seen(lpips_lib.load(self.lpips, self.lpips_trunk or None, self.lpips_heads or None))

    def check(self, data: Any, paths: Callable[[str], "Paths"] | None = None, moves: Any = None) -> None:
        """Refuses now what would be refused when a trained run is measured, after hours: opens the weights and the
        pictures, and compares their numbers and sizes.

        Args:
          data, paths, moves: as for a measurement; of a task without weights.

        Raises:
          UserError: what a measurement would raise, as far as it is known without samples.
        """
        self._suits(paths, moves)
        for space in dict.fromkeys(name[4] for name in self._lengths):
            # The weights it asks for are not there yet; what it refuses for other reasons it refuses first.
            with contextlib.suppress(LookupError, TypeError, AttributeError):
                paths(space)
        reals = self._reals(data) if self._others or self._lengths and hasattr(data, "source") else None
        shape = None if reals is None else reals.image(reals.indices()[0]).shape  # the generator's too
        # Networks are only traced: they refuse pictures of a shape that they do not take.
        if self._lengths:
            distance = self._distance
            if reals is not None:
                x = jax.ShapeDtypeStruct((1, *shape), np.float32)
                jax.eval_shape(lambda x: distance(x, x), jax.eval_shape(lambda x: shown(x, self.ppl_crop), x))
        if self._looks:
            network = self._features
            for name in self._others:
                suits(name, network)
            jax.eval_shape(lambda x: network(x), jax.ShapeDtypeStruct((1, *shape), np.uint8))
        for name in self._others:
            self._enough(PUBLISHED.get(name, name), reals.n, shape)

    def _enough(self, name: str, n_real: int, shape: tuple[int, ...]) -> None:
        s, key = self.settings, "config.task.evaluation"
        both = f"{self.n} generated and {n_real} real pictures (n, n_real)"
        few = min(self.n, n_real)
        least = 2 ** (len(ms_ssim.WEIGHTS) - 1)
        if name in ("frechet", "kernel") and few < 2:
            raise UserError(f"{name} needs at least 2 pictures on both sides, not {both}: train on more, set"
                            f" {key}.n_real or {key}.reference_split, or leave it out of {key}.metrics")
        if name == "frechet" and not s.allow_few and few < (width := getattr(self._features, "width", 0)):
            raise UserError(f"{both} are too few for a covariance of {self.network}'s {width} features: set {key}.n"
                            f" and n_real to at least that, or {key}.settings.allow_few=True for a number that is no"
                            " result")
        for names, setting, most in ((("precision", "recall"), "k", few - 1),
                                     (("density", "coverage"), "k_density", few - 1),
                                     (("ndb",), "bins", n_real), (("inception_score",), "splits", self.n)):
            if name in names and getattr(s, setting) > most:
                raise UserError(f"{name}: {setting}={getattr(s, setting)} is too many for {both}: set"
                                f" {key}.settings.{setting} to at most {most}, or compare more pictures")
        if name == "ms_ssim" and min(shape[:2]) < least:
            raise UserError(f"ms_ssim needs pictures of at least {least}x{least} pixels, not {shape[0]}x{shape[1]};"
                            f" leave it out of {key}.metrics")
        if name == "sifid" and SIFID_LAYER not in getattr(self._features, "layers", ()):
            raise UserError(f"sifid looks at inception's {SIFID_LAYER}, which {self.network} has not: set"
                            f" {key}.network=inception, or leave it out of {key}.metrics")
        if name == "sifid" and n_real != 1:
            raise UserError(f"sifid compares with the one picture that was learned, not with {n_real}: set"
                            f" {key}.n_real=1, or leave it out of {key}.metrics")

    def _suits(self, paths, moves) -> None:
        if self._lengths and paths is None:
            raise UserError(f"{', '.join(self._lengths)}: this task has no latent space to walk in; leave them out")
        if MOVES in self.metrics and moves is None:
            raise UserError(f"{MOVES}: this task has no objects to move; leave it out")

    def source(self, data: Any) -> Any:
        """The source of the pictures that are compared with, of a run's data set."""
        return Reals.of_pipeline(data, 0, self.reference_split).source

    def _reals(self, data: Any) -> Reals:
        if not hasattr(data, "source"):
            raise UserError(f"config.task.evaluation compares with a data source's pictures; {type(data).__name__} has"
                            " none: set config.task.evaluation to None")
        return Reals.of_pipeline(data, self.n_real, self.reference_split)

    def __call__(self, sample: Callable[..., jax.Array], key: jax.Array, data: Any, args: tuple,
                 value_range: tuple[float, float], how: tuple[tuple[str, Any], ...] = (),
                 paths: Callable[[str], "Paths"] | None = None,
                 moves: Callable[[jax.Array, Settings], dict[str, Value]] | None = None) -> dict[str, Value]:
        """The values by their recipes' keys, such as {"fid": ...}.

        Args:
          sample: (keys [b], *args) -> pictures [b,H,W,C], picture i from key i alone; always the same function.
          key: of the samples.
          data: the run's data set, a `Pipeline`.
          args: the generator's weights.
          value_range: of the pictures.
          how: parameters for the recipes of all but path lengths, where the pictures were not simply drawn.
          paths: "z" or "w" -> how pictures are made from those latents, for path lengths; None where they cannot be.
          moves: (key, settings) -> measures of disentanglement; None where there are no objects.
        """
        self._suits(paths, moves)
        found = {}
        for i, name in enumerate(self._lengths):
            made = paths(name[4])
            value = perceptual_path_length(
                made.decode, self._distance, jax.random.fold_in(key, CHOICES - 1 - i), self.n, width=made.width,
                mapping=made.mapping, args=made.args, batch=self.batch,
                settings=PathSettings(space=name[4], sampling=name[5:], epsilon=self.ppl_epsilon, crop=self.ppl_crop))
            found[value.recipe.key] = value
        if MOVES in self.metrics:
            found |= moves(jax.random.fold_in(key, CHOICES - 1 - len(PATHS)), self.settings)
        if not self._others:
            return found
        reals = self._reals(data)
        network = self._features if self._looks else None
        return found | evaluate(self._others, network, reals, sample, key, self.n, self.batch, args=args,
                                value_range=value_range, settings=self.settings, how=how)


@dataclasses.dataclass(frozen=True)
class Paths:
    """What `genjax.metrics.perceptual_path.path_distances` asks of a generator, see there."""

    decode: Callable[..., jax.Array]
    width: int
    mapping: Callable[..., jax.Array] | None
    args: tuple


class _Seen:
    """LPIPS of pictures as a generator in (-1, 1) makes them, beyond the range too, of one channel or three."""

    def __init__(self, distance: lpips_lib.LPIPS):
        self._lpips, self.name, self.weights_id = distance, f"lpips_{distance.net}", distance.weights_id

    def __call__(self, a, b):
        return _seen(self._lpips, a, b)


@jax.jit
def _seen(distance, a, b):
    a, b = (x.repeat(3, -1) if x.shape[-1] == 1 else x for x in (a, b))
    return distance(a, b, value_range=(-1, 1))


@contextlib.contextmanager
def _or(*keys: str) -> Iterator[None]:
    """Weights that cannot be had: the line names the keys for files too."""
    try:
        yield
    except UserError as e:
        flags = " and ".join(f"--config.task.evaluation.{key}=FILE" for key in keys)
        raise UserError(f"{e} ({flags})") from None
