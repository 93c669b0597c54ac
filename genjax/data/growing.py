"""Progressive growing as a schedule of the data: batch i has the resolution and the size that step i trains at.

Letters: R the final resolution, k = 0, 1, ..., K the stage, r_k = start 2^k its resolution, B_k its batch size; T and F
the images of a stable period and of a fade. Stage 0 is stable for T images; every later one fades in during F, then is
stable during T; the last has no end. LOD is the published measure, K - k + (1 - alpha): 0 at full size, a fraction in
fades. Source: Karras et al. 2018 (arXiv:1710.10196), section 2 and appendix A; the counting is that of the authors'
code, which looks at its schedule only every `repeats` minibatches.
"""

import bisect
import copy
import dataclasses
import functools
import math
from typing import NamedTuple

import numpy as np

from genjax.data import images
from genjax.data.pipeline import Pipeline
from genjax.data.sources import Source
from genjax.errors import UserError, at_least

NEVER = 2**62  # the step at which the last stage ends


class Stage(NamedTuple):
    """What one resolution needs to know; integers are exact counts.

    Attributes:
      resolution: r_k.
      batch: B_k.
      rate: factor of the learning rates.
      first: the first step of the stage.
      images: images seen before that step.
      offset: of these, how many belong to the fade already (a batch overshoots the end of a period).
      fade: steps until alpha is 1.
    """

    resolution: int
    batch: int
    rate: float
    first: int
    images: int
    offset: int
    fade: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrowthSchedule:
    """When networks and pictures grow.

    Attributes:
      resolution: R, a power of two.
      start: the first resolution, a power of two up to R.
      stable_kimg, fade_kimg: T and F in thousands of images.
      batch_sizes: B_k from the first resolution on; the last one stands for all that follow.
      rates: factors of the learning rates, likewise.
      repeats: alpha, batch and rate change only every so many steps (`minibatch_repeats`).
    """

    resolution: int = 1024
    start: int = 4
    stable_kimg: float = 600.0
    fade_kimg: float = 600.0
    batch_sizes: tuple[int, ...] = (16,)
    rates: tuple[float, ...] = (1.0,)
    repeats: int = 4

    def __post_init__(self):
        for name in ("resolution", "start"):
            value = getattr(self, name)
            if value < 4 or value & (value - 1):
                raise UserError(f"{name} must be a power of two and at least 4, got {value}")
        if self.start > self.resolution:
            raise UserError(f"start={self.start} is larger than resolution={self.resolution}; it grows from start")
        at_least(self, stable_kimg=0, fade_kimg=0, batch_sizes=1, rates=0, repeats=1)
        count = (self.resolution // self.start).bit_length()
        for name in ("batch_sizes", "rates"):
            if not 1 <= len(getattr(self, name)) <= count:
                raise UserError(f"{name} needs 1 to {count} entries, one per resolution from {self.start} on (the last"
                                f" stands for the rest), got {getattr(self, name)}")
        if max(self.stable_kimg, self.fade_kimg) * 1000 * count > 2**31:
            raise UserError(f"stable_kimg={self.stable_kimg:g} and fade_kimg={self.fade_kimg:g} are thousands of"
                            " images; these are too many")

    @functools.cached_property
    def stages(self) -> tuple[Stage, ...]:
        """All of them, the smallest first."""
        stable, fade = round(self.stable_kimg * 1000), round(self.fade_kimg * 1000)
        out, first, images, begins = [], 0, 0, 0  # begins: the image at which the stage's fade is due
        for k in range((self.resolution // self.start).bit_length()):
            batch = self.batch_sizes[min(k, len(self.batch_sizes) - 1)]
            rate = self.rates[min(k, len(self.rates) - 1)]
            block = self.repeats * batch
            steps = self.repeats * max(0, -(-(fade - (images - begins)) // block)) if k else 0
            out.append(Stage(self.start << k, batch, rate, first, images, images - begins, steps))
            begins += stable + (fade if k else 0)
            # The next resolution comes with the first look at the schedule after more than that many images.
            blocks = max(1, (begins - images) // block + 1)
            first, images = first + blocks * self.repeats, images + blocks * block
        return tuple(out)

    @functools.cached_property
    def _firsts(self) -> list[int]:
        return [s.first for s in self.stages]

    def index(self, step: int) -> int:
        """k at a step."""
        return bisect.bisect_right(self._firsts, step) - 1

    def stage(self, step: int) -> Stage:
        """The stage a step belongs to."""
        return self.stages[self.index(step)]

    def images(self, step: int) -> int:
        """Images seen before a step, exactly."""
        s = self.stage(step)
        return s.images + (step - s.first) * s.batch

    def steps_of(self, images: float) -> int:
        """The number of steps after which at least so many images are seen."""
        s = [s for s in self.stages if s.images <= images][-1]
        return s.first + math.ceil((images - s.images) / s.batch - 1e-9)

    def next_change(self, step: int) -> int:
        """The next step at which the resolution changes; `NEVER` in the last stage."""
        k = self.index(step)
        return self.stages[k + 1].first if k + 1 < len(self.stages) else NEVER

    def fade(self, step: int) -> float:
        """alpha: the share of the new resolution at a step, 1 outside fades."""
        s, k = self.stage(step), self.index(step)
        if k == 0 or not self.fade_kimg:
            return 1.0
        done = min((step - s.first) // self.repeats * self.repeats, s.fade)
        return min(1.0, (s.offset + done * s.batch) / round(self.fade_kimg * 1000))

    def lod(self, step: int) -> float:
        """The published level of detail at a step: R is 2^lod times what is trained."""
        return len(self.stages) - 1 - self.index(step) + (1 - self.fade(step))

    def resets(self) -> tuple[int, ...]:
        """The steps that begin with fresh optimisers: those where new layers come, and those where their fade is over
        (the authors' code resets whenever the floor or the ceiling of LOD changes)."""
        return tuple(sorted({n for s in self.stages[1:] for n in (s.first, s.first + s.fade)}))


def shrink(x: np.ndarray, factor: int) -> np.ndarray:
    """Means over squares of `factor` x `factor` pixels: [...,H,W,C] -> [...,H/factor,W/factor,C] in x's dtype."""
    if factor == 1:
        return x
    *n, h, w, c = x.shape
    return x.reshape(*n, h // factor, factor, w // factor, factor, c).mean((-4, -2), dtype=np.float64).astype(x.dtype)


class _Rows:
    """The rows of a stage: those of the whole from its first image on, reduced."""

    def __init__(self, rows, first: int, factor: int):
        self.rows, self.first, self.factor = rows, first, factor

    def __getitem__(self, r: int) -> dict:
        row = self.rows[self.first + r]
        return {**row, "image": shrink(row["image"], self.factor)}


class GrowingPipeline(Pipeline):
    """A `Pipeline` whose batch i has the resolution and the batch size of step i.

    Pictures are made at full size, as by `Pipeline`, and reduced by means over squares. The rows of all steps together
    are the same endless sequence: none is dropped or doubled where the batch size changes.

    Args:
      schedule: when what changes.
      source, split, random_crop, flip, channels, value_range, labels, crops, data_dir, shuffle, seed, prefetch,
        center_crop, resample: as in `Pipeline`; pictures are resampled to the schedule's full resolution first.

    Attributes:
      batch_size, element_spec: those of the last stage, the largest.
    """

    def __init__(self, schedule: GrowthSchedule, source: str | Source = "builtin:digits", split: str = "train",
                 random_crop: int = 0, flip: bool = False, channels: int = 0,
                 value_range: tuple[float, float] = (-1.0, 1.0), labels: bool = True, crops: int = 0,
                 data_dir: str = "", shuffle: bool = True, seed: int = 0, prefetch: int = 2, center_crop: int = 0,
                 resample: images.Method = "lanczos"):
        super().__init__(source, split, schedule.stages[-1].batch, schedule.resolution, random_crop, flip, channels,
                         value_range, labels, crops, data_dir, shuffle, seed, prefetch, center_crop, resample)
        self._stages = [self._stage(s, schedule.resolution // s.resolution) for s in schedule.stages]
        self.schedule = schedule

    def _stage(self, s: Stage, factor: int) -> Pipeline:
        """The plain pipeline that a stage is; threads start when it is used."""
        stage = copy.copy(self)
        stage.__class__, stage.batch_size, stage.rows = Pipeline, s.batch, _Rows(self.rows, s.images, factor)
        stage._first = s.images
        return stage

    def next_change(self, step: int) -> int:
        """The next step whose batch has another shape."""
        return self.schedule.next_change(step)

    def steps_of(self, images: float) -> int:
        """The number of steps, from the run's first one, after which at least so many images are seen."""
        return self.schedule.steps_of(images)

    def spec_at(self, step: int) -> dict:
        """`element_spec` of the batch of a step."""
        return self._stages[self.schedule.index(step)].element_spec

    def batch(self, i: int, lo: int | None = None, hi: int | None = None) -> dict[str, np.ndarray]:
        """Batch i or its rows lo..hi-1: {"image": [hi-lo, r, r, C], ...} at the step's resolution r."""
        if i < 0:
            raise ValueError(f"batch({i}) of a pipeline")
        return self._stages[self.schedule.index(i)].batch(i - self.schedule.stage(i).first, lo, hi)
