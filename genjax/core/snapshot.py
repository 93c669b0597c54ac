"""A run opened with what it saved, a snapshot or a checkpoint, and the verbs on it: sample and eval."""

import functools
import json
import logging
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
from genjax.core.checkpoint import flat, layout, load_snapshot, read_checked, said, unflatten
from genjax.core.experiment import Experiment
from genjax.core.record import measured, save_previews
from genjax.core.run import MEASURED, RunFolder, environment, step_of
from genjax.core.sharding import path_str
from genjax.errors import UserError
from genjax.viz import jsonl
from genjax.viz.atomic import short_name
from genjax.viz.grid import image_grid, save_png

log = logging.getLogger("genjax")

EVALUATIONS = "metric-eval.jsonl"
_EVALUATION = f"{MEASURED}."


class OpenedRun:
    """A run folder for whoever draws or measures with what it trained: config, task, experiment and weights, each read
    or built when it is first asked for. The task and the weights need no data, unless the config hands them to the
    task; the experiment does.

    Args:
      run: the folder.
      snapshot: in the place of the newest snapshot or checkpoint: a snapshot's file, a checkpoint's folder, or a step.
      change: of the config, before anything is built.
      tell: log in one line which weights were taken.

    Attributes:
      folder, config: the folder and its (changed) config.

    Raises:
      UserError: no run folder; later no such snapshot, or one that does not fit the config.
    """

    def __init__(self, run: str | Path, snapshot: str | None = None,
                 change: Callable[[ConfigDict], ConfigDict] = lambda config: config, tell: bool = True):
        self.folder = RunFolder(run)
        self.config = change(self.folder.config())
        self._snapshot, self._tell = snapshot, tell

    @functools.cached_property
    def experiment(self) -> Experiment:
        """What the config builds, with its data."""
        return config_lib.build(self.config)

    @functools.cached_property
    def task(self) -> Any:
        """The config's task, built without the data."""
        if "experiment" in self.__dict__:
            return self.experiment.task
        return config_lib.build(self.config.task, self.config, "config.task")

    @property
    def snapshot(self) -> Path:
        """The snapshot's file, or the checkpoint's folder."""
        return self._taken[0]

    @property
    def variables(self) -> dict[str, Any]:
        """What the task exports (`Task.export`), of the snapshot or the checkpoint."""
        return self._taken[1]

    @property
    def meta(self) -> dict[str, Any]:
        """What the snapshot says of itself: step, config, environment, metrics; of a checkpoint step and config."""
        return self._taken[2]

    @functools.cached_property
    def _taken(self) -> tuple[Path, dict[str, Any], dict[str, Any]]:
        path, arrays, meta = self._found()  # that there is none is said before anything is built
        spec = self._spec(meta)
        if path.is_dir():
            state = fitted(arrays, jax.eval_shape(lambda: self._init(spec)), path)
            variables = jax.tree.map(jax.numpy.asarray, self.task.export(state))
        else:
            variables = fitted(arrays, jax.eval_shape(lambda: self.task.export(self._init(spec))), path)
        if self._tell:
            kind = "checkpoint" if path.is_dir() else "snapshot"
            log.info("taking the weights of step %s, %s %s", meta.get("step", "unknown"), kind, path)
        return path, variables, meta

    def _init(self, spec: Any) -> Any:
        return self.task.init(rng_lib.stream(0, "init"), spec)

    def _found(self) -> tuple[Path, dict[str, Any], dict[str, Any]]:
        """The path, arrays and meta of the snapshot or checkpoint asked for, else of the newest that can be read."""
        unreadable: dict[Path, str] = {}
        while True:  # a run that trains meanwhile deletes its old checkpoints and writes new ones
            saved = [named(self.folder, self._snapshot)] if self._snapshot else self.folder.saved()
            path = next((p for p in saved if p not in unreadable), None)
            if path is None:
                break
            if not path.is_dir():
                return path, *load_snapshot(path)
            try:
                arrays = read_checked(path.parent, int(path.name))
                return path, arrays, {"step": int(path.name), "config": self.config.to_dict()}
            except Exception as e:  # whatever the storage layer raises on damaged files
                unreadable[path] = said(e)
                if path.exists() and not self._snapshot:
                    log.warning("checkpoint %s is unreadable (%s); looking for the one before", path, said(e))
        if unreadable:
            path, why = next(iter(unreadable.items()))
            raise UserError(f"checkpoint {path} is unreadable ({why}); put its files back, or give another --snapshot")
        raise UserError(f"{self.folder.path} has no snapshot or checkpoint yet; train it, or give --snapshot FILE")

    def _spec(self, meta: dict[str, Any]) -> Any:
        """Shapes and dtypes of a batch: as the snapshot or the folder say, else (older ones do not) of the data, else
        as the config says."""
        kept = meta.get("element_spec") or self.folder.spec()
        if kept:
            return unflatten({k: jax.ShapeDtypeStruct(s, jax.numpy.dtype(d)) for k, (s, d) in kept.items()})
        try:
            return self.experiment.data.element_spec
        except UserError as e:
            told = told_spec(self.config)
            if told:
                return told
            raise UserError(f"{e} ({self.folder.path} is of a version that did not keep its data's shapes, so it opens"
                            f" only with its data: put them back, or change config.data in {self.folder.config_file} to"
                            " where they are)") from None


def told_spec(config: ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a batch of pictures as far as a config says them: {"image": [B, S, S, C] float32}, {} where
    it does not. Whether there are labels only the data tell; no network's shapes depend on it (`classes` does)."""
    data = config.data
    if data.get("target") != "genjax.data.pipeline.Pipeline":
        return {}
    b, side, channels = (data.get(k, 0) for k in ("batch_size", "image_size", "channels"))
    if not all(isinstance(v, int) and v > 0 for v in (b, side, channels)):
        return {}
    return {"image": jax.ShapeDtypeStruct((b, side, side, channels), np.float32)}


def named(folder: RunFolder, text: str) -> Path:
    """What `--snapshot` names: a snapshot's file, a checkpoint's folder, a folder of either, or a step of the run.

    Raises:
      UserError: a step or a folder that holds none.
    """
    path, saved = Path(text), folder.saved()
    if text.isdigit() and not path.exists():
        found = next((p for p in saved if step_of(p) == int(text)), None)
        if found is None:
            steps = ", ".join(str(s) for s in sorted({step_of(p) for p in saved})) or "none"
            raise UserError(f"--snapshot {text}: {folder.path} has kept no weights of step {text}; it has of: {steps}")
        return found
    if path.is_dir() and not (path / "state").is_dir():
        found = max((p for p in path.iterdir() if step_of(p) is not None), key=step_of, default=None)
        if found is None:
            raise UserError(f"--snapshot {text} holds no snapshot and no checkpoint; give a .npz of RUN/snapshots, a"
                            " folder of RUN/checkpoints, or a step")
        return found
    return path


def fitted(found: dict[str, Any], wanted: Any, path: Path) -> Any:
    """Saved arrays in the structure wanted (files keep neither tuples nor empty parts).

    Args:
      found: arrays by path, nested or flat.
      wanted: a tree of `jax.ShapeDtypeStruct`.
      path: for the message.

    Raises:
      UserError: arrays are missing, superfluous or of another shape or dtype.
    """
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
    variables, task = opened.variables, opened.task
    if rows is None:
        images = task.sample(variables, key, n)
    else:
        images = task.sample(variables, key, n * len(rows), np.repeat(np.asarray(rows, np.int32), n))
    if not images:
        raise UserError(f"{type(task).__name__} draws no samples")
    name = f"sample_seed{seed}" + ("" if rows is None else "_classes" + re.sub(r"\W+", "_", classes))
    path = Path(out) if out else opened.folder.samples / f"{short_name(name)}.png"
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
