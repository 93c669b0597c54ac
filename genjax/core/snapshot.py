"""A run opened with a snapshot, and the verbs on it: sample and eval."""

import functools
import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from genjax.core import config as config_lib
from genjax.core import rng as rng_lib
from genjax.core.checkpoint import flat, layout, load_snapshot
from genjax.core.experiment import Experiment
from genjax.core.record import measured, save_previews
from genjax.core.run import MEASURED, RunFolder, environment
from genjax.core.sharding import path_str
from genjax.errors import UserError
from genjax.viz import jsonl
from genjax.viz.grid import image_grid, save_png

EVALUATIONS = "metric-eval.jsonl"
_EVALUATION = f"{MEASURED}."


class OpenedRun:
    """A run folder for whoever draws or measures with what it trained: config, experiment and a snapshot's variables,
    each read or built when it is first asked for.

    Args:
      run: the folder.
      snapshot: a snapshot's file in the place of the newest.
      change: of the config, before anything is built.

    Attributes:
      folder, config: the folder and its (changed) config.

    Raises:
      UserError: no run folder; later no such snapshot, or one that does not fit the config.
    """

    def __init__(self, run: str | Path, snapshot: str | None = None,
                 change: Callable[[ConfigDict], ConfigDict] = lambda config: config):
        self.folder = RunFolder(run)
        self.config = change(self.folder.config())
        self._snapshot = snapshot

    @functools.cached_property
    def experiment(self) -> Experiment:
        """What the config builds."""
        return config_lib.build(self.config)

    @functools.cached_property
    def snapshot(self) -> Path:
        """The snapshot's file."""
        return Path(self._snapshot) if self._snapshot else self.folder.newest_snapshot()

    @functools.cached_property
    def _read(self) -> tuple[dict[str, Any], dict[str, Any]]:
        found, meta = load_snapshot(self.snapshot)  # that there is none is said before anything is built
        return fitted(found, self.experiment, self.snapshot), meta

    @property
    def variables(self) -> dict[str, Any]:
        """What the task exports (`Task.export`), of the snapshot."""
        return self._read[0]

    @property
    def meta(self) -> dict[str, Any]:
        """What the snapshot says of itself: step, config, environment, metrics."""
        return self._read[1]


def fitted(found: dict[str, Any], experiment: Any, path: Path) -> dict[str, Any]:
    """The snapshot's arrays in the structure the task exports (an npz keeps neither tuples nor empty parts)."""
    spec = experiment.data.element_spec  # a source that draws its pictures cannot do so while JAX traces
    wanted = jax.eval_shape(lambda: experiment.task.export(experiment.task.init(rng_lib.stream(0, "init"), spec)))
    saved, needed = layout(found), layout(wanted)
    for name in sorted(saved | needed):
        if saved.get(name) != needed.get(name):
            raise UserError(f"{path} does not fit this run's config: {name} is {saved.get(name, 'absent')} there,"
                            f" {needed.get(name, 'absent')} here; give a snapshot of this run")
    arrays = flat(found)
    return jax.tree_util.tree_map_with_path(lambda p, _: jax.numpy.asarray(arrays[path_str(p)]), wanted)


def sample(run: str, snapshot: str | None, n: int, seed: int, out: str | None, classes: str | None = None) -> Path:
    """Draws `n` samples and writes them as one grid; image i depends on the seed and i alone. Returns the path.

    With `classes` ("3" or "0,3,7" or "0-9") there are n of each, one row per class.
    """
    if n < 1:
        raise UserError(f"-n must be at least 1, got {n}")
    if out and Path(out).suffix.lower() != ".png":
        raise UserError(f"--out {out}: samples are written as PNG; name a file that ends in .png")
    rng_lib.check_seed(seed, "--seed")
    rows = None if classes is None else _classes(classes)
    opened, key = OpenedRun(run, snapshot), rng_lib.stream(seed, "sample")
    variables, task = opened.variables, opened.experiment.task
    if rows is None:
        images = task.sample(variables, key, n)
    else:
        images = task.sample(variables, key, n * len(rows), np.repeat(np.asarray(rows, np.int32), n))
    if not images:
        raise UserError(f"{type(task).__name__} draws no samples")
    name = f"sample_seed{seed}" + ("" if rows is None else "_classes" + re.sub(r"\W+", "_", classes))
    path = Path(out) if out else opened.folder.samples / f"{name}.png"
    low, high = task.value_range
    images = {k: (np.asarray(v) - low) / (high - low) for k, v in images.items()}
    if rows is None:
        return save_previews(path, images)
    return save_png(path, image_grid(next(iter(images.values())), n, row_labels=[str(c) for c in rows]))


def _classes(text: str) -> list[int]:
    """"0,3,5-7" as [0, 3, 5, 6, 7]."""
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise UserError(f"--classes {text}: write numbers and ranges, e.g. 3 or 0,3,7 or 0-9")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return found


def evaluate(run: str, snapshot: str | None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The task's metrics of a snapshot, also appended to RUN/metric-eval.jsonl with how they were measured.

    Args:
      run: its folder.
      snapshot: a snapshot's file in the place of the newest.
      overrides: `task.evaluation.KEY=VALUE`, what to measure instead of what the run does.

    Raises:
      UserError: other overrides; a task that measures no samples.
    """
    opened = OpenedRun(run, snapshot, lambda config: _measuring(config, overrides))
    variables, experiment = opened.variables, opened.experiment
    experiment.check_evaluation()
    began = time.time()
    found = experiment.task.evaluate(variables, experiment.data, rng_lib.stream(experiment.seed, "eval"))
    row = {"step": opened.meta["step"], **{k: float(v) for k, v in found.items()}}
    with jsonl.MetricsWriter(opened.folder.path / EVALUATIONS) as writer:
        writer.write({**row, "snapshot": opened.snapshot.name, "seconds": time.time() - began,
                      "environment": json.dumps(environment()), "recipes": measured(found)})
    return row


def _measuring(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """The run's config with another evaluation."""
    if not overrides:
        return config
    for item in overrides:
        if not item.startswith(_EVALUATION):
            raise UserError(f"eval takes --config.{_EVALUATION}KEY alone, not --config.{item.partition('=')[0]}: a run"
                            " stays what it was trained as")
    if "evaluation" not in config.task:
        raise UserError(f"{config.task.target} measures no samples; leave --metrics and --config.{_EVALUATION}* away")
    if config.task.evaluation is None:
        with config.unlocked():
            config.task.evaluation = config_lib.node("genjax.metrics.evaluation.Evaluation")
        config = config_lib.finalize(config)
    return config_lib.override(config, overrides)
