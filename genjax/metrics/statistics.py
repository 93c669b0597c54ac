"""From images to features to statistics: generated 8-bit images, network features, mean and covariance, files of them.

Letters: N images, d features, k classes, D local devices, B images per device and call.

Features are computed in float32 on all local devices; sums are formed on the host in numpy float64. jax's own float64
is a switch of the whole process and slow or absent on accelerators, while d x d sums of a few thousand features are
little work beside the network. Rows are summed in blocks of `BLOCK` however they arrive, so the batch size leaves no
trace in the sums; the network sees batches of D B rows, the last one padded, so one program serves all.

Only local devices take part: in a run of several processes each may evaluate without waiting for the others.
"""

import dataclasses
import functools
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from genjax.errors import UserError
from genjax.metrics.recipe import Recipe
from genjax.viz.atomic import replacing
from genjax.viz.progress import Progress

BLOCK = 1024  # rows summed at once


class FeatureNetwork(Protocol):
    """What the metrics ask of a network; it compiles itself and brings images to its own size and channels.

    Attributes:
      name, weights_id, resize: see `Recipe`.
    """

    name: str
    weights_id: str
    resize: str

    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        """uint8 [N,H,W,C] -> {"features": [N,d] float32, "logits": [N,k] where it classifies, "logits_unbiased" where
        its attribute `layers` has it}."""


# ---------------------------------------------------------------- images


def to_uint8(x, value_range=(-1.0, 1.0)):
    """The one rule from floats to 8 bits: floor(clip(255 y + 0.5, 0, 255)) with y in [0,1], half rounds up.

    The other rules in use (truncation in GIRAFFE's code) shift every image by half a level and every distance with it;
    this one is StyleGAN2's x 127.5 + 128 and torchvision's, and gives 8-bit images back unchanged.

    Args:
      x: numpy or jax floats; uint8 is returned as it is.
      value_range: where black and white are, (-1, 1) or (0, 1).

    Returns:
      uint8 of the same shape and kind of array. NaN gives any value: `generate` refuses them before.
    """
    xp = jnp if isinstance(x, jax.Array) else np
    if x.dtype == np.uint8:
        return x
    if tuple(value_range) not in ((-1, 1), (0, 1)):
        raise UserError(f"images to be rounded lie in (-1, 1) or (0, 1), not {tuple(value_range)}")
    x = x.astype(np.float32)
    x = x * 127.5 + 128.0 if value_range[0] == -1 else x * 255.0 + 0.5
    return xp.floor(xp.clip(x, 0.0, 255.0)).astype(np.uint8)


def generate(sample_fn: Callable[..., jax.Array], key: jax.Array, n: int, batch: int = 64, *, args: tuple = (),
             value_range: tuple[float, float] = (-1.0, 1.0)) -> Iterator[np.ndarray]:
    """Images 0 .. n-1 as 8-bit batches; image i depends on `key` and i alone.

    Image i is drawn from `fold_in(key, i)`, whatever the batch size and however many devices there are: the same
    latent, the same noise. (The arithmetic of another batch size may round the last bit of a float differently, which
    now and then moves a pixel by one of 255 levels.)

    Args:
      sample_fn: (keys [b], *args) -> float images [b,H,W,C], row i from keys[i] alone, e.g.
        `lambda keys, p: net.apply(p, jax.vmap(lambda k: jax.random.normal(k, (128,)))(keys))`. Compiled once for each
        function: hand over the same hashable one at every evaluation (a method of a frozen task), not a new lambda.
      key: of the samples.
      n: images altogether.
      batch: images per device and call.
      args: arrays for `sample_fn`, such as the weights; as arguments they are not folded into the program.
      value_range: of `sample_fn`'s images.

    Yields:
      uint8 [<= D batch,H,W,C] on the host.

    Raises:
      UserError: n or batch below 1; an image that is not finite.
    """
    _check(n, batch)
    value_range = tuple(map(float, value_range))
    size, waiting = rows_per_call(n, batch), None
    for first in range(0, n, size):
        index = np.minimum(np.arange(first, first + size), n - 1).astype(np.int32)
        drawn = first, _draw(sample_fn, value_range, key, place(index), args)
        if waiting:
            yield _fetched(*waiting, n)
        waiting = drawn  # the device works on it while the batch before is used
    yield _fetched(*waiting, n)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _draw(sample_fn, value_range, key, index, args):
    images = sample_fn(jax.vmap(lambda i: jax.random.fold_in(key, i))(index), *args)
    if images.ndim != 4 or len(images) != len(index):
        raise UserError(f"sample_fn made {list(images.shape)} of {len(index)} keys; it must be [{len(index)},H,W,C]")
    return to_uint8(images, value_range), jnp.isfinite(images).all((1, 2, 3))


def _fetched(first, drawn, n):
    images, finite = (np.asarray(x)[: n - first] for x in drawn)
    if not finite.all():
        raise UserError(f"sample {first + int(np.argmin(finite))} is not finite; metrics need a generator that is")
    return images


def _check(n, batch):
    if n < 1 or batch < 1:
        raise UserError(f"at least 1 image in batches of at least 1 is needed, not n={n}, batch={batch}")


def rows_per_call(n: int, batch: int) -> int:
    """Rows of one call for n in all: `batch` on each local device, fewer when n is less."""
    devices = len(jax.local_devices())
    return min(batch, -(-n // devices)) * devices


def place(x: np.ndarray) -> jax.Array:
    """Rows of x split over the local devices (their number must divide the rows)."""
    devices = jax.local_devices()
    return jnp.asarray(x) if len(devices) == 1 else jax.device_put(x, _layout("rows"))


def spread(x: np.ndarray) -> jax.Array:
    """x whole on every local device, to meet what `place` split."""
    return jnp.asarray(x) if len(jax.local_devices()) == 1 else jax.device_put(x, _layout())


def _layout(*axes):
    mesh = Mesh(np.array(jax.local_devices()), ("rows",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec(*axes))


def host_rng(key: jax.Array) -> np.random.Generator:
    """A numpy generator that is a function of a jax key, for choices made on the host."""
    data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return np.random.default_rng(np.asarray(data).ravel().tolist())


# ---------------------------------------------------------------- mean and covariance


class Moments:
    """Mean and covariance of rows [N,d] that come in pieces, in float64.

    Each block of rows is centred by its own mean before squares are summed, and blocks are merged by the parallel form
    of Chan, Golub and LeVeque 1979: no large numbers cancel, wherever the data lies.
    """

    def __init__(self):
        self._n, self._mean, self._scatter = 0, None, None  # scatter: sum of (x - mean)(x - mean)^T, [d,d]
        self._rows: list[np.ndarray] = []  # of the block being filled
        self._waiting = 0

    def add(self, x: np.ndarray) -> None:
        """Takes rows [m,d]; how rows are cut into calls does not change a bit of the result."""
        x = np.asarray(x)
        while len(x):
            taken = x[: BLOCK - self._waiting]
            x = x[len(taken):]
            self._rows.append(taken)
            self._waiting += len(taken)
            if self._waiting == BLOCK:
                self._fold()

    def merge(self, other: "Moments") -> None:
        """Takes over the rows of another, e.g. of another part of a data set."""
        self._fold()
        self._join(other.n, other.mean, other.scatter)

    def _fold(self):
        if self._waiting:
            x = np.concatenate(self._rows).astype(np.float64)
            mean = x.mean(0)
            x -= mean
            self._rows, self._waiting = [], 0
            self._join(len(x), mean, x.T @ x)

    def _join(self, n, mean, scatter):
        if not self._n:
            self._n, self._mean, self._scatter = n, np.array(mean), np.array(scatter)
            return
        shift, total = mean - self._mean, self._n + n
        self._scatter += scatter + np.outer(shift, shift) * (self._n * n / total)
        self._mean += shift * (n / total)
        self._n = total

    @property
    def n(self) -> int:
        return self._n + self._waiting

    @property
    def mean(self) -> np.ndarray:
        """[d] float64."""
        self._fold()
        return self._mean

    @property
    def scatter(self) -> np.ndarray:
        """[d,d] float64: (n - 1) times the covariance."""
        self._fold()
        return self._scatter

    @property
    def covariance(self) -> np.ndarray:
        """[d,d] float64, unbiased (divided by n - 1), as the published FID takes it.

        Raises:
          UserError: fewer than 2 rows.
        """
        if self.n < 2:
            raise UserError(f"a covariance needs at least 2 images, not {self.n}")
        return self.scatter / (self.n - 1)

    @classmethod
    def of(cls, x: np.ndarray) -> "Moments":
        """Of all rows of x [N,d]."""
        found = cls()
        found.add(x)
        return found

    @classmethod
    def restored(cls, n: int, mean: np.ndarray, scatter: np.ndarray) -> "Moments":
        """From saved sums."""
        found = cls()
        found._join(int(n), mean, scatter)
        return found


# ---------------------------------------------------------------- features


@dataclasses.dataclass(frozen=True, eq=False)
class Collected:
    """What a network saw in a set of images.

    Attributes:
      moments: of the features.
      features: [N,d] float32, or None when not kept.
      logits: [N,k] float32, or None; logits_unbiased: the same without the classifier's bias.
      pixels: sha256 over all images in order, the beginning: which images these were.
    """

    moments: Moments
    features: np.ndarray | None = None
    logits: np.ndarray | None = None
    pixels: str = ""
    logits_unbiased: np.ndarray | None = None

    @property
    def n(self) -> int:
        return self.moments.n


def collect(network: FeatureNetwork, batches: Iterable[np.ndarray], n: int, batch: int = 64, *,
            keep: tuple[str, ...] = (), desc: str = "") -> Collected:
    """Runs the first n images of `batches` through a network.

    Args:
      network: see `FeatureNetwork`.
      batches: uint8 [any,H,W,C], all of one H, W, C; they are cut anew, so their sizes do not matter.
      n: images to take.
      batch: images per device and call.
      keep: what to keep of every image, of "features", "logits" and "logits_unbiased". Moments always are.
      desc: a name for progress lines; "" for none.

    Returns:
      `Collected`, independent of how `batches` are cut, of `batch` and of the number of devices up to the rounding of
      the network's own arithmetic.

    Raises:
      UserError: fewer than n images, images that are no uint8 [N,H,W,C], a network without logits that are wanted.
    """
    _check(n, batch)
    moments, kept, digest = Moments(), {k: [] for k in keep}, hashlib.sha256()

    def take(out, count):
        for name in {"features", *keep}:
            if name not in out:
                raise UserError(f"{network.name} gives no {name}; take a metric or a network that fits")
        features = np.asarray(out["features"], np.float32)[:count]
        moments.add(features)
        for name in keep:
            kept[name].append(features if name == "features" else np.asarray(out[name], np.float32)[:count])

    size, waiting = rows_per_call(n, batch), None
    progress = Progress(n, desc, unit="image") if desc else None
    try:
        for images, count in _blocks(batches, n, size):
            digest.update(np.ascontiguousarray(images[:count]))
            found = network(place(images)), count
            if waiting:
                take(*waiting)
            waiting = found
            if progress:
                progress.update(count)
        take(*waiting)
    finally:
        if progress:
            progress.close()
    digest.update(str(images.shape[1:]).encode())
    arrays = {k: np.concatenate(v) for k, v in kept.items()}
    return Collected(moments, pixels=digest.hexdigest()[:16], **arrays)


def _blocks(batches, n, size):
    """(uint8 [size,H,W,C], how many of them count): the first n images, the last block padded with its last image."""
    left, parts, shape = n, [], None
    for x in batches:
        x = np.asarray(x)
        if x.dtype != np.uint8 or x.ndim != 4:
            raise UserError(f"features are taken of uint8 images [N,H,W,C], not {x.dtype} {list(x.shape)};"
                            " see genjax.metrics.statistics.to_uint8")
        shape = x.shape[1:] if shape is None else shape
        if x.shape[1:] != shape:
            raise UserError(f"images of {list(shape)} and {list(x.shape[1:])} in one set; bring them to one size")
        parts.append(x[:left])
        left -= len(parts[-1])
        while (have := sum(map(len, parts))) >= size or (not left and have):
            whole = np.concatenate(parts) if len(parts) > 1 else parts[0]
            block, parts = whole[:size], [whole[size:]]
            count = len(block)
            if count < size:
                block = np.concatenate([block, np.repeat(block[-1:], size - count, 0)])
            yield block, count
        if not left:
            return
    raise UserError(f"only {n - left} images, {n} were asked for; ask for fewer or give more")


# ---------------------------------------------------------------- reference statistics on disk


def cache_folder() -> Path:
    """Where reference statistics are kept: metrics/ in $GENJAX_CACHE, else in ~/.cache/genjax."""
    return Path(os.environ.get("GENJAX_CACHE") or Path.home() / ".cache" / "genjax") / "metrics"


def save_statistics(path: str | Path, found: Collected, recipe: Recipe) -> Path:
    """Writes moments and whatever else was kept, with the recipe inside; the whole file or none.

    Args:
      path: a .npz file.
    """
    arrays = {"n": np.int64(found.n), "mean": found.moments.mean, "scatter": found.moments.scatter,
              "pixels": np.str_(found.pixels), "recipe": np.str_(recipe.json())}
    arrays |= {k: v for k in ("features", "logits") if (v := getattr(found, k)) is not None}
    with replacing(path) as temporary:
        np.savez(temporary, **arrays)
    return Path(path)


def load_statistics(path: str | Path, recipe: Recipe | None = None) -> tuple[Collected, Recipe]:
    """Reads what `save_statistics` wrote.

    Args:
      recipe: the one that is needed; None takes any.

    Returns:
      The statistics and their recipe.

    Raises:
      UserError: no such file, a damaged one, or statistics of another recipe.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {k: file[k] for k in file.files}
        theirs = Recipe.from_json(str(arrays["recipe"]))
        moments = Moments.restored(arrays["n"], arrays["mean"], arrays["scatter"])
        found = Collected(moments, arrays.get("features"), arrays.get("logits"), str(arrays["pixels"]))
    except FileNotFoundError:
        raise UserError(f"no statistics at {path}; name a file that save_statistics wrote") from None
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as e:
        raise UserError(f"{path} holds no statistics that can be read ({type(e).__name__}); delete it and measure"
                        " again") from None
    if recipe is not None and theirs != recipe:
        raise UserError(f"{path} holds statistics of another recipe: {'; '.join(recipe.differences(theirs))};"
                        " delete it or name another file")
    return found, theirs
