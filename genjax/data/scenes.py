"""Drawn scenes as data: pictures with their depth, normals, semantic and instance maps, objects, camera and caption.

    open_source("builtin:scenes/two", "train", size=64)   a data set of a fixed number of pictures
    Scenes(preset="two", maps=("depth", "instance"))      endless batches with whatever is known of them
    draw_scene("two", i)                                  a scene and its camera, to be changed by hand and drawn:
    render(scene, camera, 64), views(scene, cameras, 64)

Letters: i the number of a scene, B the batch, S the picture's side, N the most objects of a preset. Scene i is a pure
function of (seed, i): the same bits in any batch on one kind of device (another kind rounds differently). The scenes of
the test split have other numbers, from 2^31 on.
"""

import functools
import threading

import jax
import jax.numpy as jnp
import numpy as np

from genjax import errors
from genjax.data import scenes_shapes as shapes
from genjax.data.prefetch import Prefetched
from genjax.data.scenes_priors import PRESETS, Prior, Rooms
from genjax.data.scenes_render import MAPS, render, views
from genjax.data.scenes_scene import Camera, Scene, camera_at
from genjax.data.summary import MOST_LABELS, Summary, class_counts, uncounted

__all__ = ["CLASSES", "MAPS", "PRESETS", "Camera", "Prior", "Rooms", "Scene", "Scenes", "ScenesSource", "camera_at",
           "caption", "draw_scene", "open_scenes", "render", "views"]

CLASSES = shapes.CLASSES
OBJECTS = ("shape", "present", "position", "rotation", "size", "colour", "rgb", "material")
CAMERA = ("eye", "rotation", "focal")
EXTRAS = (*MAPS, "objects", "camera")
SPLITS = {"train": 0, "test": 2**31}
COUNTS = {"train": 10_000, "test": 1_000}
LARGEST = 2048
_KEPT_BYTES = 2**29  # pictures that a source keeps once they are drawn


def _known(preset: str, split: str = "train") -> Prior | Rooms:
    if preset not in PRESETS:
        if not preset:
            raise errors.UserError(f"builtin:scenes needs a preset: builtin:scenes/ and one of {', '.join(PRESETS)}")
        raise errors.unknown("preset of builtin:scenes", preset, PRESETS)
    if split not in SPLITS:
        raise errors.unknown(f"split of builtin:scenes/{preset}", split, SPLITS)
    return PRESETS[preset]


def _check(size: int, samples: int, seed: int, name: str) -> None:
    if not 4 <= size <= LARGEST or size != int(size):
        raise errors.UserError(f"{name}={size}: scenes are drawn at 4 to {LARGEST} pixels a side")
    if samples not in (1, 2, 3, 4):
        raise errors.UserError(f"samples={samples}: sub-pixels along a side are 1 to 4")
    if not 0 <= seed < 2**32 or seed != int(seed):
        raise errors.UserError(f"seed={seed}: a data seed lies between 0 and 2**32-1")


def _sample(preset: str, seed: jax.Array, i: jax.Array) -> tuple[Scene, Camera]:
    return PRESETS[preset].sample(jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), i))


_sample_jit = jax.jit(_sample, static_argnums=0)


def draw_scene(preset: str, i: int, seed: int = 0, split: str = "train") -> tuple[Scene, Camera]:
    """Scene i of a preset and its camera, as `Scenes` and the source draw it (up to rounding, in another program)."""
    _known(preset, split)
    return _sample_jit(preset, np.uint32(seed), np.uint32(SPLITS[split] + i))


def _elements(preset: str, size: int, maps: tuple[str, ...], samples: int, seed, i) -> dict[str, jax.Array]:
    """Everything that was asked for of one scene."""
    scene, camera = _sample(preset, seed, i)
    out = {"label": scene.label}
    if size:
        out |= render(scene, camera, size, tuple(m for m in maps if m in MAPS), samples)
    if "objects" in maps:
        out |= {f"object_{k}": getattr(scene, k) for k in OBJECTS}
    if "camera" in maps:
        out |= {f"camera_{k}": getattr(camera, k) for k in CAMERA}
    return out


@functools.lru_cache(maxsize=16)
def _program(preset: str, size: int, maps: tuple[str, ...], samples: int, platform: str):
    """(how many scenes at most, compiled (seed, numbers, count) -> their elements).

    One program draws batches of any size, piece by piece, so a scene has the same bits in each of them. On a CPU scenes
    are drawn one after another, which keeps what is being calculated in its cache; elsewhere all at once.
    """
    one = functools.partial(_elements, preset, size, maps, samples)
    most = max(1, min(8 if platform == "cpu" else 128, 2**20 // max(size, 1) ** 2))

    def in_turn(seed, numbers, count):
        spec = jax.eval_shape(one, seed, numbers[0])
        out = jax.tree.map(lambda s: jnp.zeros((most, *s.shape), s.dtype), spec)
        return jax.lax.fori_loop(0, count, lambda k, out: jax.tree.map(
            lambda a, x: a.at[k].set(x), out, one(seed, numbers[k])), out)

    def at_once(seed, numbers, count):
        return jax.vmap(one, (None, 0))(seed, numbers)

    return most, jax.jit(in_turn if platform == "cpu" else at_once)


def _draw(preset: str, seed: int, numbers: np.ndarray, size: int, maps: tuple[str, ...] = (),
          samples: int = 2) -> dict[str, np.ndarray]:
    """The elements of scenes with these numbers, each with a first axis; size 0: without pictures."""
    device = jax.local_devices()[0]
    most, program = _program(preset, size, maps, samples, device.platform)
    numbers = np.asarray(numbers, np.uint32)
    parts = []
    with jax.set_mesh(jax.sharding.Mesh(np.asarray([device]), ("scenes",))):  # whatever mesh the caller trains on
        for first in range(0, len(numbers), most):
            part = numbers[first:first + most]
            padded = np.concatenate([part, np.zeros(most - len(part), np.uint32)])
            parts.append((program(*jax.device_put((np.uint32(seed), padded, np.int32(len(part))), device)), len(part)))
    parts = [{k: np.asarray(v)[:n] for k, v in part.items()} for part, n in parts]
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}


def caption(preset: str, objects: dict[str, np.ndarray], label: int = 0) -> str:
    """One scene in words: "a small red metal sphere and a large blue rubber box".

    Args:
      preset: its name.
      objects: "object_shape", "object_present", "object_size", "object_colour", "object_material", [N,...] each.
      label: of the scene; names the kind of a room.
    """
    prior, things = PRESETS[preset], []
    for k in np.flatnonzero(objects["object_present"]):
        shape, words = int(objects["object_shape"][k]), []
        if len(prior.sizes) > 1:
            size = objects["object_size"][k, 0] / shapes.ASPECT[shape, 0]
            words.append(min(prior.sizes, key=lambda s: abs(s[1] - size))[0])
        words.append(shapes.COLOURS[int(objects["object_colour"][k])])
        if isinstance(prior, Prior) and len(prior.materials) > 1:
            words.append(shapes.MATERIALS[int(objects["object_material"][k])])
        name = shapes.NAMES[shape]
        things.append(f"a plant in a {words[-1]} pot" if name == "plant" else " ".join(["a", *words, name]))
    text = " and ".join(filter(None, [", ".join(things[:-1]), things[-1] if things else ""])) or "nothing"
    return f"a {prior.classes[int(label)]} with {text}" if isinstance(prior, Rooms) else text


def _captions(preset: str, seed: int, numbers: np.ndarray) -> list[str]:
    found = _draw(preset, seed, numbers, 0, ("objects",))
    return [caption(preset, {k: v[n] for k, v in found.items()}, found["label"][n]) for n in range(len(numbers))]


class Scenes(Prefetched):
    """Endless batches of scenes, none twice; row r of the whole sequence is scene r.

    Args:
      preset: a key of `PRESETS`.
      batch_size: B, over all processes.
      image_size: S.
      maps: of "depth", "normals", "semantic", "instance" (see `render`), "objects" and "camera".
      split: "train" or "test": other scenes.
      value_range: (-1, 1) or (0, 1): where black and white go.
      samples: sub-pixels along a pixel's side.
      size: scenes that count as one epoch.
      seed: 0 to 2**32-1.
      prefetch: batches drawn ahead, each by its own thread; 0 = none.

    Attributes:
      constant: False, each batch is another.
      element_spec: {"image": [B,S,S,3] float32, "label": [B] int32, "depth": [B,S,S] float32, 0 for sky, "normals":
        [B,S,S,3] float32, "semantic" and "instance": [B,S,S] uint8, "object_shape", ...: [B,N,...] and "camera_eye",
        ...: [B,...] as in `Scene` and `Camera`} as `jax.ShapeDtypeStruct`.
      classes: names of the labels.
    """

    constant, labelled = False, True

    def __init__(self, preset: str = "two", batch_size: int = 32, image_size: int = 64, maps: tuple[str, ...] = (),
                 split: str = "train", value_range: tuple[float, float] = (-1.0, 1.0), samples: int = 2,
                 size: int = 10_000, seed: int = 0, prefetch: int = 2):
        for name, value, least in (("batch_size", batch_size, 1), ("prefetch", prefetch, 0), ("size", size, 1)):
            if value < least or value != int(value):
                raise errors.UserError(f"{name}={value}: a whole number of at least {least} is needed")
        self.classes = _known(preset, split).classes
        _check(image_size, samples, seed, "image_size")
        maps = (maps,) if isinstance(maps, str) else tuple(maps)
        for name in maps:
            if name not in EXTRAS:
                raise errors.unknown("map of scenes", name, EXTRAS)
        if tuple(value_range) not in ((-1, 1), (0, 1)):
            raise errors.UserError(f"value_range={tuple(value_range)}: pictures go to (-1, 1) or (0, 1)")
        super().__init__(batch_size, prefetch)
        self.preset, self.image_size, self.split, self.samples = preset, int(image_size), split, int(samples)
        self.maps = tuple(m for m in EXTRAS if m in maps)  # in one order: fewer programs
        self.value_range, self.size, self.seed = tuple(map(float, value_range)), int(size), int(seed)

    def __len__(self) -> int:
        """Scenes that count as one epoch."""
        return self.size

    @functools.cached_property
    def element_spec(self) -> dict:
        """Shape and dtype of a batch."""
        one = jax.eval_shape(functools.partial(_elements, self.preset, self.image_size, self.maps, self.samples),
                             np.uint32(0), np.uint32(0))
        return {k: jax.ShapeDtypeStruct((self.batch_size, *s.shape), np.float32 if k == "image" else s.dtype)
                for k, s in one.items()}

    def summary(self) -> Summary:
        """What every run logs of its data."""
        side = (self.image_size, self.image_size)
        return Summary(count=self.size, what="scenes an epoch", sizes=((side, self.size),), looked=self.size,
                       classes=uncounted(self.classes), split=self.split,
                       place=f"builtin:scenes/{self.preset}, seed {self.seed}, none drawn twice")

    def listing(self) -> tuple[tuple[str, int], ...]:
        """See `genjax.data.source_array.Source`."""
        return ((f"builtin:scenes/{self.preset} ({self.split}) of {self.image_size} pixels, seed {self.seed}, samples"
                 f" {self.samples}, maps {', '.join(self.maps)}", 0),)

    def _numbers(self, i: int, lo: int, hi: int) -> np.ndarray:
        return SPLITS[self.split] + (i * self.batch_size + np.arange(lo, hi)) % 2**31

    def _make(self, i: int, lo: int, hi: int) -> dict[str, np.ndarray]:
        found = _draw(self.preset, self.seed, self._numbers(i, lo, hi), self.image_size, self.maps, self.samples)
        low, high = self.value_range
        found["image"] = found["image"].astype(np.float32) / np.float32(255.0 / (high - low)) + np.float32(low)
        return found

    def captions(self, i: int, lo: int | None = None, hi: int | None = None) -> list[str]:
        """The captions of batch i, or of its rows lo..hi-1."""
        return _captions(self.preset, self.seed, self._numbers(i, lo or 0, self.batch_size if hi is None else hi))


class ScenesSource:
    """A fixed number of scenes as a `Source`; pictures are kept once drawn, up to half a gigabyte of them."""

    labelled = True

    def __init__(self, preset: str, split: str, size: int, count: int, seed: int, samples: int):
        self.preset, self.split, self.size, self.count = preset, split, size, count
        self.seed, self.samples = seed, samples
        self.name, self.classes = f"builtin:scenes/{preset} ({split})", _known(preset, split).classes
        self._lock, self._kept = threading.Lock(), None

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k not in ("_lock", "_kept")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _lock=threading.Lock(), _kept=None)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """[N] int32, drawn without pictures."""
        return _draw(self.preset, self.seed, SPLITS[self.split] + np.arange(self.count), 0)["label"]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        if not 0 <= i < self.count:
            raise IndexError(i)
        found = self.rows(np.asarray([i]))
        return {"image": found["image"][0], "label": np.int32(found["label"][0])}

    def _keep(self) -> dict[str, np.ndarray] | None:
        """Where pictures are kept: None where they would be too many. Memory is taken as it fills."""
        with self._lock:
            if self._kept is None and self.count * self.size**2 * 3 <= _KEPT_BYTES:
                self._kept = {"image": np.empty((self.count, self.size, self.size, 3), np.uint8),
                              "label": np.empty(self.count, np.int32), "there": np.zeros(self.count, bool)}
            return self._kept

    def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """{"image": [n,S,S,3] uint8, "label": [n] int32} of these scenes."""
        kept = self._keep()
        new = indices if kept is None else indices[~kept["there"][indices]]
        if len(new):
            found = _draw(self.preset, self.seed, SPLITS[self.split] + new, self.size, (), self.samples)
            if kept is None:
                return found
            kept["image"][new], kept["label"][new] = found["image"], found["label"]
            kept["there"][new] = True  # last, for other threads: what two of them draw is the same
        return {k: kept[k][indices] for k in ("image", "label")}

    def listing(self) -> tuple[tuple[str, int], ...]:
        """See `genjax.data.source_array.Source`."""
        return ((f"{self.name} {self.count} of {self.size} pixels, seed {self.seed}, samples {self.samples}", 0),)

    def summary(self, first: int = 0, end: int | None = None) -> Summary:
        """See `Source`; classes are counted where there are not too many scenes to draw their labels."""
        end = self.count if end is None else end
        classes = (class_counts(self.labels[first:end], self.classes) if self.count <= MOST_LABELS
                   else uncounted(self.classes))
        return Summary(count=end - first, what="scenes", sizes=(((self.size, self.size), end - first),),
                       looked=end - first, classes=classes, split=self.split,
                       place=f"builtin:scenes/{self.preset}, seed {self.seed}")

    def captions(self, indices: np.ndarray) -> list[str]:
        """Captions of these scenes."""
        return _captions(self.preset, self.seed, SPLITS[self.split] + np.asarray(indices))


def open_scenes(preset: str, split: str, size: int = 64, count: int = 0, seed: int = 0,
                samples: int = 2) -> ScenesSource:
    """`builtin:scenes/PRESET`.

    Args:
      preset: a key of `PRESETS`.
      split: "train" or "test".
      size: S, the side of the pictures.
      count: how many there are; 0 = 10,000 for training, 1,000 for testing.
      seed: of the scenes.
      samples: sub-pixels along a pixel's side.
    """
    _known(preset, split)
    _check(size, samples, seed, "size")
    count = count or COUNTS[split]
    if not 1 <= count <= 2**31 or count != int(count):
        raise errors.UserError(f"count={count}: how many scenes, 1 to 2**31")
    return ScenesSource(preset, split, int(size), int(count), int(seed), int(samples))
