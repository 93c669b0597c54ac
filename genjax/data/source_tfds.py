"""`tfds:NAME[/CONFIG]`: TensorFlow Datasets through its random-access reader, without TensorFlow.

`tfds.data_source` reads sets prepared as array_record with `importlib_resources` and Pillow alone. Preparing one
may need TensorFlow (its generators often call tf.io); then the error says how to prepare it elsewhere, once.
"""

import dataclasses
import functools
import importlib.util
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np

from genjax import errors
from genjax.data import summary
from genjax.data.source_array import Listing, file_listing

_HOST = "storage.googleapis.com"  # what every tfds download asks first
_PREPARE = ("run, on a machine with a network and TensorFlow, python -c \"import tensorflow_datasets as tfds;"
            " tfds.builder('{name}', data_dir='DIR')"
            ".download_and_prepare(file_format='array_record')\" and pass that DIR as data_dir")


@dataclasses.dataclass(frozen=True, eq=False)
class TfdsSource:
    """A tfds data source as a `Source`: keeps "image" and an integer "label", drops the other features; `folder` is
    where the set is prepared, `undecoded` gives the same examples with pictures as bytes."""

    data: Any
    labelled: bool
    name: str
    classes: tuple[str, ...]
    folder: str = ""
    split: str = ""
    undecoded: Any = None

    @functools.cached_property
    def labels(self) -> np.ndarray | None:
        """[N] integers, read with no picture decoded: about 50 microseconds each."""
        if not self.labelled:
            return None
        rows = self.data if self.undecoded is None else self.undecoded
        return np.fromiter((rows[i]["label"] for i in range(len(rows))), np.int64, len(rows))

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        try:
            row = self.data[int(i)]
        except (OSError, ValueError, RuntimeError) as e:
            raise errors.UserError(f"{self.name}: cannot read example {i} ({e}); prepare the set again") from e
        image = np.asarray(row["image"])
        if image.dtype == np.uint16:
            image = image.astype(np.float32) / 65535.0
        if image.shape[-1] == 4:  # over white, as `images.load_image` does
            x = image.astype(np.float32) / 255.0
            image = np.round(255.0 * (x[..., :3] * x[..., 3:] + 1.0 - x[..., 3:])).astype(np.uint8)
        element = {"image": image}
        if self.labelled:
            element["label"] = np.int32(row["label"])
        return element

    def listing(self) -> Listing:
        """See `Source`: the name and number, and every file of the prepared set."""
        root = Path(self.folder)
        files = sorted(p for p in root.iterdir() if p.is_file()) if self.folder and root.is_dir() else ()
        return ((f"{self.name} {len(self)}", 0), *file_listing(files, root))

    def summary(self, first: int = 0, end: int | None = None) -> summary.Summary:
        """See `Source`; sizes of some examples only, each has to be read, and of a large set no numbers of classes."""
        end = len(self) if end is None else end
        few = self.labelled and len(self) <= summary.MOST_LABELS
        classes = summary.class_counts(self.labels[first:end], self.classes) if few else summary.uncounted(self.classes)
        return summary.Summary(count=end - first, classes=classes, split=self.split,
                               **summary.sizes(first, end, lambda i: self[i]["image"].shape[:2]),
                               place=os.path.abspath(self.folder) if self.folder else self.name)


def _network() -> bool:
    """Whether a download has a chance: asked first, because tfds itself retries for more than three minutes."""
    if any(os.environ.get(v) or os.environ.get(v.upper()) for v in ("https_proxy", "http_proxy", "all_proxy")):
        return True  # the proxy resolves names
    try:
        socket.getaddrinfo(_HOST, 443)
    except OSError:
        return False
    return True


def _builder(tfds: Any, name: str, data_dir: str) -> Any:
    try:
        return tfds.builder(name, data_dir=data_dir or None)
    except Exception as e:
        if type(e).__name__ == "DatasetNotFoundError":
            base = name.split("/")[0]
            try:
                names = tfds.list_builders(with_community_datasets=False)
            except Exception:  # the list is only for the hint
                names = []
            if base not in names:
                where = data_dir or "the default data folder"
                near = errors.nearest(base, names)
                hint = f"did you mean {near!r}?" if near else f"no such set is registered or prepared in {where}"
                raise errors.UserError(f"unknown tfds data set {name!r}; {hint}") from e
        raise errors.UserError(f"tfds cannot open {name!r}: {_first_line(e)}; check name, config and data_dir") from e


def _first_line(e: BaseException) -> str:
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    return (lines[0] if lines else type(e).__name__)[:200]


def _prepare(builder: Any, name: str) -> None:
    """Downloads and writes the set as array_record."""
    elsewhere = _PREPARE.format(name=name)
    if not _network():
        raise errors.UserError(
            f"tfds:{name} is not prepared in {builder.data_dir} and no network is reachable; {elsewhere}")
    try:
        builder.download_and_prepare(file_format="array_record")
    except ImportError as e:
        raise errors.UserError(f"preparing tfds:{name} needs a missing package ({_first_line(e)}); {elsewhere}") from e
    except Exception as e:  # tfds passes on whatever requests, the generator or the disk raise
        raise errors.UserError(
            f"preparing tfds:{name} failed ({type(e).__name__}: {_first_line(e)}); {elsewhere}") from e


def open_tfds(name: str, split: str, data_dir: str = "", download: bool = True) -> TfdsSource:
    """A TensorFlow Datasets set.

    Args:
      name: NAME, NAME/CONFIG or NAME/CONFIG:VERSION.
      split: a tfds split, slices allowed ("train[:90%]").
      data_dir: where sets are prepared; "" = tfds's own (TFDS_DATA_DIR or ~/tensorflow_datasets).
      download: False to fail rather than download a set that is not prepared.

    Raises:
      UserError: unknown set or split, not prepared and not downloadable, prepared as tfrecord only, no "image".
    """
    for module in ("tensorflow_datasets", "importlib_resources", "array_record"):
        if importlib.util.find_spec(module) is None:
            raise errors.UserError(f"tfds:{name} needs the package {module}; pip install {module}")
    import tensorflow_datasets as tfds

    if not name:
        raise errors.UserError("tfds: needs the name of a data set, e.g. tfds:mnist")
    builder = _builder(tfds, name, os.path.expanduser(data_dir))
    if not builder.is_prepared():  # info.splits may be filled from the network before anything is on disk
        if not download:
            raise errors.UserError(f"tfds:{name} is not prepared in {builder.data_dir}; set download=True or data_dir")
        _prepare(builder, name)
    features = builder.info.features
    if "image" not in features:
        raise errors.UserError(f"tfds:{name} has no feature 'image' (only {', '.join(features)}); choose an image set")
    try:
        data = builder.as_data_source(split=split)
        undecoded = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
    except RuntimeError as e:  # tfds: no random access in the formats that are there
        raise errors.UserError(
            f"tfds:{name} is prepared as {builder.info.file_format.value} in {builder.data_dir}, which has no random"
            " access; for array_record " + _PREPARE.format(name=name)) from e
    except Exception as e:
        raise errors.unknown(f"split of tfds:{name}", split, builder.info.splits) from e
    label = features["label"] if "label" in features else None
    classes = tuple(getattr(label, "names", None) or ())
    labelled = label is not None and label.shape == () and np.issubdtype(label.np_dtype, np.integer)
    return TfdsSource(data, labelled, f"tfds:{name} ({split})", classes, str(builder.data_dir), split, undecoded)
