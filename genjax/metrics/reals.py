"""The real images a metric compares with: which ones, in which order, at which size, without augmentation."""

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from genjax.data import images
from genjax.data.source_array import Part
from genjax.data.sources import ArraySource, Source, open_source
from genjax.errors import UserError
from genjax.metrics.statistics import to_uint8

ORDER_SEED = 0  # of the choice among more images than are asked for: the same for everybody


@dataclasses.dataclass(frozen=True, eq=False)
class Reals:
    """n images of a data source, brought to the generator's size; never mirrored, never cut at random.

    Of a source with more than n images a fixed random choice is taken (sources are often sorted by class).

    Attributes:
      source: a `Source`, or its spec for `open_source`.
      split: for a spec: its split; for a `Source` only a part of the name, "" for none.
      n: how many images; 0 = all.
      image_size, channels: as for `genjax.data.pipeline.Pipeline`.
      crop: side of a square cut from the middle before `image_size`; 0 = none.
      resample: how `image_size` resamples.
      squash: all of a picture that is no square is resampled to one, not its middle square.

    Raises:
      UserError: more images asked for than there are.
    """

    source: str | Source
    split: str = "train"
    n: int = 0
    image_size: int = 0
    channels: int = 0
    crop: int = 0
    resample: images.Method = "lanczos"
    squash: bool = False

    def __post_init__(self):
        if isinstance(self.source, str):
            object.__setattr__(self, "source", open_source(self.source, self.split))
        if not 0 <= self.n <= len(self.source):
            raise UserError(f"n_real={self.n} of {self.source.name}, which has {len(self.source)} images; use at most"
                            " that, or 0 for all")
        if self.n == 0:
            object.__setattr__(self, "n", len(self.source))

    @classmethod
    def of_pipeline(cls, pipeline: Any, n: int = 0, split: str = "") -> "Reals":
        """What a training pipeline draws from, before its random crops (the middle instead), mirroring and order.

        Args:
          n: see above; more than there are is all.
          split: another one of the pipeline's source, such as all of a set of which training sees a part; "": its own.
        """
        source = pipeline.another(split) if split and split != pipeline.split else pipeline.source
        return cls(source, split or pipeline.split, min(n, len(source)), pipeline.image_size, pipeline.channels,
                   pipeline.random_crop or pipeline.center_crop, pipeline.resample,
                   pipeline.fit == "squash")

    @property
    def name(self) -> str:
        """Source and split, folders but the data set's own left out, e.g. "folder:ffhq train, 32 pixels": the same on
        every machine."""
        by = ("" if self.resample == "lanczos" else f" by {self.resample}") + " squashed" * self.squash
        sizes = [f"{self.crop} cut" if self.crop else "", f"{self.image_size} pixels{by}" if self.image_size else "",
                 f"{self.channels} channels" if self.channels else ""]
        return ", ".join(filter(None, [_name(self.source, self.split), *sizes]))

    def indices(self) -> np.ndarray:
        """Which images of the source, ascending."""
        total = len(self.source)
        if self.n == total:
            return np.arange(total)
        return np.sort(np.random.default_rng(ORDER_SEED).permutation(total)[: self.n])

    def image(self, i: int) -> np.ndarray:
        """Image i of the source as the metric sees it, uint8 [H,W,C]."""
        x = self.source[int(i)]["image"]
        if self.channels:
            x = images.to_channels(x, self.channels)
        if self.crop:
            x = images.center_crop(x, size=self.crop)
        if self.image_size:
            x = images.square(x, self.image_size, self.resample, self.squash)
        return to_uint8(x, (0, 1))

    def batches(self, size: int = 256) -> Iterator[np.ndarray]:
        """All n images, uint8 [<= size,H,W,C]."""
        order = self.indices()
        for first in range(0, len(order), size):
            rows = [self.image(i) for i in order[first : first + size]]
            shapes = {x.shape for x in rows}
            if len(shapes) > 1:
                raise UserError(f"{self.source.name} has pictures of shapes {sorted(shapes)[0]} and"
                                f" {sorted(shapes)[-1]}; set image_size (or channels)")
            yield np.stack(rows)

    def identity(self) -> str:
        """A digest that another choice of images or a changed one changes: over every pixel of what is in memory,
        names, sizes and times of what is in files. Of other sources `probe` and the number have to do."""
        digest = hashlib.sha256(f"{len(self.source)} {self.probe()}".encode())
        for text in _contents(self.source, self.indices()):
            digest.update(text)
        return digest.hexdigest()[:16]

    def probe(self, n: int = 16) -> str:
        """A digest of a few images: tells a changed source from an unchanged one without reading all of it."""
        digest = hashlib.sha256()
        for i in self.indices()[np.linspace(0, self.n - 1, min(n, self.n)).astype(int)]:
            x = self.image(i)
            digest.update(str(x.shape).encode() + np.ascontiguousarray(x).tobytes())
        return digest.hexdigest()[:16]


def _name(source: Source, split: str) -> str:
    """A source's name without folders, but with the data set's."""
    if isinstance(source, Part):  # its name is the whole's and the cut
        return _name(source.source, split.partition("[")[0]) + source.name.removeprefix(source.source.name)
    kind, colon, rest = source.name.partition(":")
    if source.name.endswith(")"):  # these say their split themselves
        return source.name
    path = Path(rest)
    if kind == "folder":  # .../ffhq/train: the set is called ffhq
        rest = path.parent.name if split and path.name == split and path.parent.name else path.name
    elif kind == "idx":  # .../mnist/t10k-images-idx3-ubyte, whichever split was asked for
        return f"idx:{path.parent.name}/{path.name}".replace(":/", ":")
    else:
        rest = path.name
    return f"{kind}{colon}{rest if colon else ''} {split}".strip()


def _contents(source: Source, indices: np.ndarray) -> Iterator[bytes]:
    """What tells one set of pictures from another without decoding any."""
    if isinstance(source, Part):
        yield from _contents(source.source, indices + source.first)
    elif isinstance(source, ArraySource):
        for i in indices:
            x = np.ascontiguousarray(source.images[i])
            yield f"{x.shape}{x.dtype}".encode()
            yield x.tobytes()
    elif paths := getattr(source, "paths", None):
        for i in indices:
            found = paths[i].stat()
            yield f"{paths[i].parent.name}/{paths[i].name} {found.st_size} {found.st_mtime_ns}".encode()
