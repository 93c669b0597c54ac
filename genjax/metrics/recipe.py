"""What a number was measured with. Two numbers of different recipes are not comparable, and refuse to be compared.

A Frechet distance moves with the network, its weights, the resizing before it, the number of images on both sides, the
choice of real images and the rounding to 8 bits, often by more than papers differ by. So a `Value` is a float together
with its `Recipe`, and only the published network gives the published name: with any other, "FID" is
"Frechet distance (NETWORK)".
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from genjax.errors import UserError, unknown

UINT8_RULE = "floor(clip(255 x + 0.5, 0, 255)), x in [0,1]"  # see `genjax.metrics.statistics.to_uint8`
INCEPTION = "inception"  # its name in `genjax.metrics.features`
# sha256 prefixes of files that hold the TF-2015 Inception weights of Heusel et al. 2017: pytorch-fid's and
# torch-fidelity's `…inception-2015-12-05-6726825d.pth` (the name carries the hash).
PUBLISHED = ("6726825d",)

# metric: (key and name with the published Inception, key prefix and name otherwise, whether lower is better)
_NAMES = {
    "frechet": ("fid", "FID", "fd", "Frechet distance", True),
    "kernel": ("kid_x1000", "KID x 10^3", "kd_x1000", "kernel distance x 10^3", True),
    "inception_score": ("is", "IS", "cs", "classifier score", False),
    "precision": (None, None, "precision", "precision", False),
    "recall": (None, None, "recall", "recall", False),
    "density": (None, None, "density", "density", False),
    "coverage": (None, None, "coverage", "coverage", False),
    "sifid": (None, None, "sifid", "single-image Frechet distance", True),
    "ndb": (None, None, "ndb", "share of different bins", True),
    "ms_ssim": ("ms_ssim", "mean MS-SSIM of pairs", "ms_ssim", "mean MS-SSIM of pairs", True),
    "path_length": (None, None, "ppl", "path length", True),
    "disentanglement": (None, None, "disentanglement", "disentanglement", True),
    "statistics": (None, None, "statistics", "statistics", True),
}
METRICS = tuple(name for name in _NAMES if name != "statistics")
# Of the generator alone: no real image is looked at.
ALONE = ("inception_score", "ms_ssim", "path_length", "disentanglement")
# Of the measures of disentanglement those that should be large: the others say how much went wrong.
MORE_IS_BETTER = ("motion_slope", "motion_correlation", "motion_found", "move_inside", "appearance_colour",
                  "shape_silhouette", "objects_seen")


def names(metric: str, network: str) -> tuple[str, ...]:
    """What a metric's value over a network may be called: the metric, the beginning of its key, its possible keys."""
    key, _, prefix, _, _ = _NAMES[metric]
    if key == prefix:  # looks at no network
        return (key,)
    official = (key, f"{key}_clean", f"{key}_none") if key and network == INCEPTION else ()
    return tuple(dict.fromkeys((metric, *official, prefix, f"{prefix}_{network}")))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything a metric's value depends on, but the model.

    Attributes:
      metric: one of `METRICS`.
      network: the feature network's name; "" where there is none (MS-SSIM).
      weights: what its weights are known by, a sha256 or its beginning.
      resize: how images are brought to its input size: "legacy", "clean" or "none".
      dtype: the network's arithmetic.
      reals: where the real images come from and what they are: source, split, digest of the pixels; "" for none, as for
        `ALONE`, whose parameters hold the generator's "resolution".
      n_real, n_fake: how many images.
      uint8: how generated floats became 8 bits.
      parameters: the metric's own, e.g. (("k", 3),), sorted by name; and how the pictures were drawn where there was a
        choice: "classes" and "class_counts" (a digest) say how often each class was; of a network with classes, a
        recipe without them is of values from before they were recorded, with classes equally often.

    Raises:
      UserError: an unknown metric.
    """

    metric: str
    network: str = ""
    weights: str = ""
    resize: str = "none"
    dtype: str = "float32"
    reals: str = ""
    n_real: int = 0
    n_fake: int = 0
    uint8: str = UINT8_RULE
    parameters: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self):
        if self.metric not in _NAMES:
            raise unknown("metric", self.metric, METRICS)
        plain = {str(k): tuple(v) if isinstance(v, list) else v for k, v in dict(self.parameters).items()}
        object.__setattr__(self, "parameters", tuple(sorted(plain.items())))

    @property
    def published(self) -> bool:
        """Whether the network is the one that FID, KID and IS are defined with."""
        return self.network == INCEPTION and is_published(self.weights)

    @property
    def key(self) -> str:
        """The column's name in metrics.jsonl, e.g. "fid", "fid_clean", "fd_lenet"."""
        key, _, prefix, _, _ = _NAMES[self.metric]
        if self._official and key:
            return key + (f"_{self.resize}" if self.network and self.resize != "legacy" else "")
        if self.metric == "path_length":  # ppl_wend_lpips_vgg
            prefix += "_" + "".join(str(v) for k, v in reversed(self.parameters) if k in ("space", "sampling"))
        if self.metric == "disentanglement":
            return dict(self.parameters).get("of", prefix)  # motion_slope
        return "_".join(filter(None, (prefix, self.network)))

    @property
    def name(self) -> str:
        """The name in tables, e.g. "FID", "FID (clean resize)", "Frechet distance (lenet)"."""
        _, official, _, plain, _ = _NAMES[self.metric]
        if self._official and official:
            return official + (f" ({self.resize} resize)" if self.network and self.resize != "legacy" else "")
        if self.metric == "disentanglement":
            plain = f"{plain}: {self.key.replace('_', ' ')}"
        return plain + (f" ({self.network})" if self.network else "")

    @property
    def _official(self) -> bool:
        return self.published or not self.network

    @property
    def lower_is_better(self) -> bool:
        return _NAMES[self.metric][4] and self.key not in MORE_IS_BETTER

    @property
    def id(self) -> str:
        """Ten hexadecimal digits that change with every field."""
        return hashlib.sha256(self.json().encode()).hexdigest()[:10]

    def json(self) -> str:
        """All fields as one line of JSON; `from_json` reads it."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        fields = json.loads(text)
        return cls(**{**fields, "parameters": tuple((k, v) for k, v in fields["parameters"])})

    def differences(self, other: "Recipe") -> list[str]:
        """One text "field: mine / theirs" for each field in which two recipes differ."""
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        a, b = dict(mine.pop("parameters")), dict(theirs.pop("parameters"))
        mine |= {f"parameters.{k}": a.get(k, "none") for k in {*a, *b}}
        theirs |= {f"parameters.{k}": b.get(k, "none") for k in {*a, *b}}
        return [f"{k}: {mine[k] or 'none'} / {theirs[k] or 'none'}" for k in sorted(mine) if mine[k] != theirs[k]]

    def __str__(self) -> str:
        parts = [self.name, f"weights {self.weights[:12]}" if self.weights else "",
                 f"{self.resize} resize" if self.network else "", self.dtype,
                 f"{self.n_fake} generated" if self.n_fake else "",
                 f"{self.n_real} real of {self.reals}" if self.n_real else "",
                 "of the generator alone" if self.metric in ALONE else "",
                 *(f"{k} {v}" for k, v in self.parameters), f"recipe {self.id}"]
        return ", ".join(filter(None, parts))


def resolution_of(images: Any) -> str:
    """"HxWxC" of images [...,H,W,C]."""
    return "x".join(map(str, images.shape[-3:]))


def is_published(weights: str) -> bool:
    """Whether a weights id is that of the published Inception weights."""
    return weights.removeprefix("sha256:").startswith(PUBLISHED)


@functools.total_ordering
@dataclasses.dataclass(frozen=True)
class Value:
    """A measured number and how it was measured. `float(value)` is the number alone.

    `<`, `>`, `-`, `rank` and `sorted` work between values of one recipe; anything else is refused, plain numbers too.
    `==` is true only for the same number and recipe.

    Attributes:
      value: the number.
      recipe: how it was measured.
      std: standard deviation over the metric's own subsets or splits, or None.
    """

    value: float
    recipe: Recipe
    std: float | None = dataclasses.field(default=None, compare=False)

    def __float__(self) -> float:
        return float(self.value)

    def __lt__(self, other: "Value") -> bool:
        return self.value < self._comparable(other).value

    def __sub__(self, other: "Value") -> float:
        """The difference of two values of one recipe, a plain float."""
        return self.value - self._comparable(other).value

    def __rsub__(self, other: object) -> float:
        raise self._refusal(other)

    def __truediv__(self, other: "Value") -> float:
        """The ratio of two values of one recipe, a plain float."""
        return self.value / self._comparable(other).value

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else str(self)

    def __str__(self) -> str:
        spread = "" if self.std is None else f" +- {self.std:.2g}"
        return f"{self.recipe.name} {self.value:.5g}{spread} [{self.recipe.id}]"

    def _comparable(self, other: object) -> "Value":
        if not isinstance(other, Value) or other.recipe != self.recipe:
            raise self._refusal(other)
        return other

    def _refusal(self, other: object) -> UserError:
        if not isinstance(other, Value):
            return UserError(f"{other!r} has no recipe; compare it with float(value), not with {self}")
        return UserError(f"cannot compare {self.recipe.name} [{self.recipe.id}] with {other.recipe.name}"
                         f" [{other.recipe.id}]: {'; '.join(self.recipe.differences(other.recipe))};"
                         " measure both with one recipe")


def rank(values: Mapping[str, Value]) -> list[str]:
    """The names of `values`, best first.

    Raises:
      UserError: they are not all of one recipe.
    """
    names = list(values)
    for name in names[1:]:
        values[names[0]]._comparable(values[name])
    return sorted(names, key=lambda n: float(values[n]) * (1 if values[n].recipe.lower_is_better else -1))


def rows(values: Mapping[str, Value]) -> dict[str, dict[str, Any]]:
    """Values with everything that is known of them, for a JSON file: {key: {value, std, name, id, recipe: {...}}}."""
    return {k: {"value": float(v), "std": v.std, "name": v.recipe.name, "id": v.recipe.id,
                "recipe": json.loads(v.recipe.json())} for k, v in values.items()}
