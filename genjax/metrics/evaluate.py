"""All metrics of a generator in one pass: features once for all of them, those of the real images once and for all.

    values = evaluate(("frechet", "recall"), network, Reals.of_pipeline(data), draw, key, 10_000, args=(params,))
    print(values["fd_lenet"], values["fd_lenet"].recipe)
"""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from genjax.errors import UserError, at_least, unknown
from genjax.metrics import ndb as ndb_lib
from genjax.metrics.frechet import frechet_distance, sifid
from genjax.metrics.inception_score import inception_score
from genjax.metrics.kernel import kernel_distance
from genjax.metrics.ms_ssim import WEIGHTS, pair_similarity
from genjax.metrics.precision_recall import manifold_metrics
from genjax.metrics.reals import Reals
from genjax.metrics.recipe import ALONE, Recipe, Value, resolution_of
from genjax.metrics.statistics import (
    Collected,
    FeatureNetwork,
    cache_folder,
    collect,
    generate,
    load_statistics,
    save_statistics,
)

log = logging.getLogger("genjax")

# What each metric needs to be kept of the generated images, of the real ones, and whether it has reals at all.
NEEDS = {"frechet": ((), (), True), "kernel": (("features",), ("features",), True),
         "inception_score": (("logits",), (), False), "precision": (("features",), ("features",), True),
         "recall": (("features",), ("features",), True), "density": (("features",), ("features",), True),
         "coverage": (("features",), ("features",), True), "ndb": (("features",), ("features",), True),
         "ms_ssim": ((), (), False), "sifid": ((), (), True)}
PUBLISHED = {"fid": "frechet", "kid": "kernel", "is": "inception_score"}  # names that only one network may use
CHOICES = 2**32 - 1  # folded into the key for what is not a sample: no image has this number
PATHS = tuple(f"ppl_{space}{sampling}" for space in "zw" for sampling in ("full", "end"))  # see `Evaluation`
MOVES = "disentanglement"  # see `Evaluation`
SIFID_LAYER = "conv3"
UNBIASED = "logits_unbiased"  # what a network has for the Inception score, if its published form is without a bias
LONG = 2000  # images from which progress is shown


@dataclasses.dataclass(frozen=True)
class Settings:
    """The metrics' own parameters; each goes into the recipe of its metric. Defaults are the papers'.

    Attributes:
      subsets, subset_size: of the kernel distance; the size is lowered to the number of images.
      splits: of the Inception score.
      k: neighbour of precision and recall. k_density: of density and coverage.
      bins, significance: of NDB, here over features.
      ssim_images, ssim_pairs: MS-SSIM is taken over random pairs of the first so many samples.
      sifid_images: the first so many samples are compared with the one real picture.
      move_scenes, move_steps: disentanglement is measured on so many scenes, with objects moved by these shares of
        their prior's range.
      allow_few: Frechet distances of fewer images than features, which are no results.
    """

    subsets: int = 100
    subset_size: int = 1000
    splits: int = 10
    k: int = 3
    k_density: int = 5
    bins: int = 100
    significance: float = 0.05
    ssim_images: int = 1000
    ssim_pairs: int = 10000
    sifid_images: int = 50
    move_scenes: int = 256
    move_steps: tuple[float, ...] = (0.15, 0.3)
    allow_few: bool = False

    def __post_init__(self):
        at_least(self, subsets=1, subset_size=2, splits=1, k=1, k_density=1, bins=1, ssim_images=2, ssim_pairs=1,
                 sifid_images=1, move_scenes=2)
        if not self.move_steps or not all(0 < s <= 0.5 for s in self.move_steps):
            raise UserError(f"move_steps={self.move_steps}: objects move by shares of a range, above 0 and up to .5")


def evaluate(metrics: Iterable[str], network: FeatureNetwork, reals: Reals | None,
             sample_fn: Callable[..., jax.Array], key: jax.Array, n: int, batch: int = 64, *, args: tuple = (),
             value_range: tuple[float, float] = (-1.0, 1.0), settings: Settings | None = None,
             cache: str | Path | None = None, how: tuple[tuple[str, Any], ...] = ()) -> dict[str, Value]:
    """Draws n images and measures them.

    Args:
      metrics: names among `NEEDS`; "fid", "kid" and "is" too, where the network is the published Inception.
      network: see `FeatureNetwork`.
      reals: the real images; None where no metric needs any.
      sample_fn, args, value_range: the generator, see `genjax.metrics.statistics.generate`.
      key: of the samples and of the metrics' random choices; they do not share numbers.
      n: images to draw.
      batch: images per device and call.
      settings: the metrics' own parameters; None for the papers'.
      cache: folder of reference statistics; None is `cache_folder()`.
      how: further parameters of the recipes, where the pictures were not simply drawn.

    Returns:
      {recipe.key: Value}, e.g. {"fid": ...} or {"fd_lenet": ...}; `float(value)` is the number.

    Raises:
      UserError: see there; an unknown metric; a published name with another network.
    """
    settings = settings or Settings()
    names = list(dict.fromkeys(suits(name, network) for name in metrics))
    if not names:
        return {}
    if reals is None and any(NEEDS[name][2] for name in names):
        raise UserError(f"{', '.join(m for m in names if NEEDS[m][2])} compares with real images; give `reals`")
    if "sifid" in names and (reals.n != 1 or SIFID_LAYER not in getattr(network, "layers", ())):
        raise UserError(f"sifid compares samples with the one picture they learned, by inception's {SIFID_LAYER},"
                        f" not with {reals.n} by {network.name}; take n_real=1, or leave it out")
    reference = None
    if any(NEEDS[name][2] for name in names if name != "sifid"):
        reference = real_statistics(network, reals, batch, {k for m in names for k in NEEDS[m][1]}, cache)
    shown: list[np.ndarray] = []
    drawn = generate(sample_fn, key, n, batch, args=args, value_range=value_range)
    watched = {"ms_ssim": settings.ssim_images, "sifid": settings.sifid_images, "inception_score": 1}
    if set(watched) & set(names):
        drawn = _watched(drawn, shown, max(watched[name] for name in names if name in watched))
    keep = {k for m in names for k in NEEDS[m][0]}
    if UNBIASED in getattr(network, "layers", ()):
        keep = {UNBIASED if k == "logits" else k for k in keep}
    keep = tuple(sorted(keep))
    if set(names) <= {"ms_ssim", "sifid"}:  # no features: only the images
        found = None
        for _ in drawn:
            pass
    else:
        found = collect(network, drawn, n, batch, keep=keep, desc="generated images" if n >= LONG else "")
    measured = _measure(names, reference, found, shown, jax.random.fold_in(key, CHOICES), settings)
    if "sifid" in names:
        measured["sifid"] = _sifid(network, reals, np.concatenate(shown)[: settings.sifid_images], settings)
    values = {}
    for name, (value, std, parameters) in measured.items():
        if name in ALONE:
            parameters = {**parameters, "resolution": resolution_of(shown[0])}
        recipe = _recipe(name, network, reals, reference, n, {**parameters, **dict(how)})
        values[recipe.key] = Value(float(value), recipe, std)
    return values


def real_statistics(network: FeatureNetwork, reals: Reals, batch: int = 64, keep: Iterable[str] = (),
                    cache: str | Path | None = None) -> Collected:
    """The reals' statistics, from the cache where they are; else measured and written there.

    A file is found by its recipe: network, weights, resize, arithmetic, source, number, and a digest of the images (see
    `Reals.identity`), so another source under the same name is measured anew. Where features are wanted and the file
    has none, it is measured again and replaced.
    """
    keep = tuple(sorted(keep))
    recipe = Recipe(metric="statistics", **_of_network(network), reals=reals.name, n_real=reals.n,
                    parameters=(("identity", reals.identity()),))
    path = Path(cache or cache_folder()) / f"{network.name}-{recipe.id}.npz"
    if path.exists():
        found, _ = load_statistics(path, recipe)
        if all(getattr(found, k) is not None for k in keep):
            return found
    found = collect(network, reals.batches(), reals.n, batch, keep=keep,
                    desc="real images" if reals.n >= LONG else "")
    save_statistics(path, found, recipe)
    log.info("statistics of %d real images are in %s", reals.n, path)
    return found


def suits(name: str, network: FeatureNetwork) -> str:
    """The metric that a name asks for; a published name belongs to the published network.

    Raises:
      UserError: an unknown metric; a published name with another network.
    """
    if name not in PUBLISHED:
        if name not in NEEDS:
            raise unknown("metric", name, [*NEEDS, *PUBLISHED, *PATHS, MOVES])
        return name
    if not Recipe(metric="frechet", **_of_network(network)).published:
        raise UserError(f"{name!r} is a name for InceptionV3 with the published weights alone, not for"
                        f" {network.name} ({network.weights_id[:12]}); ask for {PUBLISHED[name]!r}")
    return PUBLISHED[name]


def _of_network(network):
    return {"network": network.name, "weights": network.weights_id, "resize": network.resize,
            "dtype": jax.numpy.dtype(getattr(network, "dtype", None) or "float32").name}


def _recipe(name, network, reals, reference, n, parameters):
    fields = {} if name == "ms_ssim" else _of_network(network)
    if NEEDS[name][2]:
        pixels = reals.probe() if reference is None else reference.pixels
        fields |= {"reals": f"{reals.name} #{pixels}", "n_real": reals.n}
    count = min(n, parameters.get("images", n))
    return Recipe(metric=name, n_fake=count, parameters=tuple(parameters.items()), **fields)


def _sifid(network, reals, images, s):
    """Mean over samples, their standard deviation, parameters."""
    maps = [np.asarray(network(jax.numpy.asarray(x[None]), layers=(SIFID_LAYER,))[SIFID_LAYER], np.float64)
            for x in (reals.image(reals.indices()[0]), *images)]
    each = np.array([sifid(maps[0], x, s.allow_few)[0] for x in maps[1:]])
    few = {"allow_few": True} if min(x[..., 0].size for x in maps) < maps[0].shape[-1] else {}
    return each.mean(), float(each.std()), {"images": len(images), "layer": SIFID_LAYER, **few}


def _watched(batches: Iterator[np.ndarray], shown: list[np.ndarray], n: int) -> Iterator[np.ndarray]:
    """`batches`, keeping the first n images in `shown`."""
    for x in batches:
        if n > 0:
            shown.append(x[:n])
            n -= len(shown[-1])
        yield x


def _measure(names, reference, found, shown, key, s) -> dict[str, tuple[float, float | None, dict]]:
    """{metric: (value, standard deviation, parameters)}."""
    out = {}
    if "frechet" in names:
        few = {"allow_few": True} if min(reference.n, found.n) < found.moments.mean.size else {}
        out["frechet"] = frechet_distance(reference.moments, found.moments, s.allow_few), None, few
    if "kernel" in names:
        size = min(s.subset_size, reference.n, found.n)
        mean, std = kernel_distance(reference.features, found.features, jax.random.fold_in(key, 0), s.subsets, size)
        out["kernel"] = 1e3 * mean, 1e3 * std, {"subsets": s.subsets, "subset_size": size}
    if "inception_score" in names:
        plain = found.logits_unbiased is None
        score = inception_score(found.logits if plain else found.logits_unbiased, s.splits)
        out["inception_score"] = *score, {"splits": s.splits, "logits": "with bias" if plain else "without bias"}
    for pair, k in ((("precision", "recall"), s.k), (("density", "coverage"), s.k_density)):
        if wanted := [m for m in pair if m in names]:
            four = manifold_metrics(reference.features, found.features, k)
            out |= {m: (four[m], None, {"k": k}) for m in wanted}
    if "ndb" in names:
        # The bins belong to the reals: the same for every generator and seed.
        bins = ndb_lib.make_bins(reference.features, jax.random.key(0), s.bins)
        share = ndb_lib.ndb(bins, found.features, s.significance)["share"]
        out["ndb"] = share, None, {"bins": s.bins, "significance": s.significance}
    if "ms_ssim" in names:
        images = np.concatenate(shown)[: s.ssim_images]
        value = pair_similarity(images, jax.random.fold_in(key, 1), s.ssim_pairs)
        out["ms_ssim"] = value, None, {"images": s.ssim_images, "pairs": s.ssim_pairs, "scales": len(WEIGHTS)}
    return {name: out[name] for name in names if name in out}
