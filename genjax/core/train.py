"""The one training loop.

The order is law: at step i, first evaluate, preview and save the OLD state (i updates made), then fetch batch i, then
step, then log. Keys are `fold_in(root, i)` and batch i is a pure function of (seed, i), so a checkpoint holds the state
alone and N steps equal k steps + kill + resume + (N - k) steps, bit for bit on the same topology.
"""

import contextlib
import dataclasses
import logging
import signal
import threading
import time
from collections import Counter, deque
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from genjax.core import config as config_lib
from genjax.core import rng as rng_lib
from genjax.core.checkpoint import Checkpoints, save_snapshot
from genjax.core.experiment import Experiment, Programs
from genjax.core.record import Recorder, save_previews
from genjax.core.run import RunFolder, environment, log_to
from genjax.errors import UserError
from genjax.viz.grid import save_png

log = logging.getLogger("genjax")

PREEMPTED_EXIT = 75  # EX_TEMPFAIL: "run the same command again and it goes on"


class Preempted(Exception):
    """A signal ended a run inside a longer job (a figure); the run is saved and goes on when started again."""


class TrainingFailure(UserError):
    """The run cannot go on (NaN or Inf); the last good checkpoint stays."""


@dataclasses.dataclass
class Outcome:
    """How a run ended: `state` at `step`, `preempted` when a signal ended it, the last evaluation's metrics."""

    state: Any
    step: int
    preempted: bool
    metrics: dict[str, Any]
    seconds: float


class _Signals:
    """Remembers SIGTERM/SIGINT instead of dying of it, so that the loop can save first."""

    def __init__(self):
        self.got: int | None = None
        self._old: dict[int, Any] = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for sig in (signal.SIGTERM, signal.SIGINT):
                self._old[sig] = signal.signal(sig, self._handle)
        return self

    def _handle(self, sig, frame):
        if self.got is not None:  # a second signal means now
            raise KeyboardInterrupt
        self.got = sig

    def __exit__(self, *_):
        for sig, old in self._old.items():
            signal.signal(sig, old)


class _Loop:
    """One run of an experiment in a folder; `run` reads from top to bottom."""

    def __init__(self, config: ConfigDict, programs: Programs, folder: RunFolder, quiet: bool):
        self.config, self.programs, self.folder = config, programs, folder
        self.experiment: Experiment = programs.experiment
        self.total, self.every = self.experiment.lengths()
        self.saver = Checkpoints(folder.checkpoints, self.experiment.train.keep)
        state = self.saver.restore(self.programs.abstract)
        self.resumed = state is not None
        self.state = state if self.resumed else self.programs.init()
        self.start = self.step = int(self.state.step)
        self.quiet = quiet
        self.pending: deque = deque()
        self.metrics: dict[str, Any] = {}
        self.stopped = False
        self.stopping = False  # the call before the first one had the `stop`

    def run(self, signals: _Signals) -> Outcome:
        """Trains to the end, a signal, a `stop` metric or a failure."""
        began = time.time()
        # Opened here: it drops the rows after the restored step, and a finished run keeps all of them.
        self.record = Recorder(self.folder, self.total, self.start, self.quiet)
        kinds = ", ".join(f"{n} x {kind}" for kind, n in Counter(
            d.device_kind for d in self.programs.mesh.devices.flat).items())
        log.info("%s %s at step %d of %d on %s; the first step compiles", "resuming" if self.resumed else "starting",
                 self.folder.path, self.step, self.total, kinds)
        while True:
            self._old_state_events()
            if self.step >= self.total or self.stopped:
                return self._end(began, preempted=False)
            if signals.got is not None:
                return self._end(began, preempted=True)
            count = self._until_next_event()
            batch = self.programs.put(self.step, count)
            self.state, metrics = self.programs.step(self.state, batch, count)
            self.pending.append((self.step, count, metrics))
            self.step += count
            # One call stays in flight while the one before it is fetched: the device never waits for the log.
            self._drain(keep=1)
            self.stopped = self.stopped or self.stopping

    def _due(self, name: str) -> bool:
        every = self.every[name]
        return bool(every) and self.step % every == 0 and self.step < self.total

    def _until_next_event(self) -> int:
        ends = [self.total] + [(self.step // e + 1) * e for n, e in self.every.items() if e and n != "log"]
        # Calls end at multiples of their length, so that wherever a run is cut, it is cut into the same ones.
        calls = self.experiment.train.steps_per_call
        return min(calls - self.step % calls, min(ends) - self.step)

    def _old_state_events(self) -> None:
        if self._due("eval") and self.step > 0:
            self._evaluate()
        if self._due("preview") and self.step > 0:
            self._preview()
        if self._due("save") and self.step > 0:
            self._drain()
            self.saver.save(self.state)

    def _drain(self, keep: int = 0) -> None:
        while len(self.pending) > keep:
            first, count, metrics = self.pending.popleft()
            rows = {k: np.asarray(v)[:count] for k, v in jax.device_get(metrics).items()}
            if "loss" in rows:
                bad = np.flatnonzero(~np.isfinite(rows["loss"].reshape(count, -1)).all(axis=1))
                if bad.size:
                    self._fail(first + int(bad[0]), rows["loss"][bad[0]])
            self.record.steps(first, rows, self.every["log"])
            self.stopped = self.stopped or ("stop" in rows and bool((rows["stop"] > 0).any()))

    def _fail(self, step: int, value: Any) -> None:
        self.saver.close()
        self.record.close()
        good = self.saver.steps()
        message = (f"the loss is {np.ravel(value)[0]} at step {step}; last good checkpoint:"
                   f" {good[-1] if good else 'none'}; lower config.optimizer.learning_rate or clip gradients")
        self.folder.mark("FAILED", step=step, reason=message)
        raise TrainingFailure(message)

    def _rng(self, name: str) -> jax.Array:
        return rng_lib.stream(self.experiment.seed, name)

    def _variables(self) -> dict[str, Any]:
        return self.experiment.task.export(self.state)

    def _evaluate(self) -> None:
        self._drain()
        found = self.experiment.task.evaluate(self._variables(), self.experiment.data, self._rng("eval"))
        self.metrics = {k: float(v) for k, v in found.items()}
        self.record.row(self.step, "eval", self.metrics)

    def _preview(self) -> None:
        self._drain()
        batch = self.programs.put(self.step, 1)
        if not self.programs.constant and self.programs.calls > 1:
            batch = jax.tree.map(lambda x: x[0], batch)
        images = self.experiment.task.preview(self._variables(), batch, self._rng("preview"))
        if images:
            images = {k: np.asarray(v) for k, v in images.items()}
            save_previews(self.folder.samples / f"step_{self.step:08d}.png", images)
            self.record.images(self.step, images)

    def _end(self, began: float, preempted: bool) -> Outcome:
        self._drain()
        seconds = time.time() - began
        if self.step > self.start or self.step not in self.saver.steps():
            self.saver.save(self.state)
        if preempted:
            self.saver.close()
            self.record.close()
            # A stop seen only now, in the call in flight, ends the run after one more call, as it would have.
            self.folder.mark("PREEMPTED", step=self.step, seconds=seconds, stopped=self.stopped)
            return Outcome(self.state, self.step, True, self.metrics, seconds)
        self._evaluate()
        self._preview()
        save_snapshot(
            self.folder.snapshots / f"step_{self.step:08d}.npz", jax.device_get(self._variables()),
            {"step": self.step, "config": self.config.to_dict(), "environment": environment(),
             "metrics": self.metrics})
        found = self.experiment.task.results(self._variables(), self.experiment.data, self._rng("results"))
        for name, image in found.items():
            save_png(self.folder.outputs / f"{name}.png", np.asarray(image))
        self.saver.close()
        self.record.close()
        taken = self.step - self.start
        self.folder.mark("DONE", step=self.step, seconds=seconds, metrics=self.metrics,
                         steps_per_second=taken / seconds, stopped=self.stopped)
        return Outcome(self.state, self.step, False, self.metrics, seconds)


def train(config: ConfigDict, workdir: str, quiet: bool = False) -> Outcome:
    """Trains a finalized config in `workdir`; a workdir that holds this run is resumed, a finished one returns at once.

    Args:
      config: from `genjax.core.config.load`.
      workdir: the run folder, made if missing.
      quiet: no progress on the terminal.

    Raises:
      UserError: anything the user can mend, before or during the run (`TrainingFailure` on NaN or Inf).
    """
    folder = RunFolder(workdir)
    experiment = config_lib.build(config)
    experiment.lengths()  # the config's own errors come before anything is written
    programs = Programs(experiment)
    was, info = folder.state()
    folder.create(config)
    handler = log_to(folder)
    try:
        with _Signals() as signals:  # from here on: restoring and compiling take seconds
            loop = _Loop(config, programs, folder, quiet)
            stopped = bool(info.get("stopped")) and info.get("step") == loop.step
            if was == "done" and (loop.step >= loop.total or stopped):
                log.info("%s is already done (%d steps)", folder.path, loop.step)
                loop.saver.close()
                return Outcome(loop.state, loop.step, False, info.get("metrics", {}), info.get("seconds", 0.0))
            loop.stopping = was == "preempted" and stopped
            folder.begin(config)
            return loop.run(signals)
    except UserError as e:
        log.error("%s", e)
        if not isinstance(e, TrainingFailure):  # that one left its mark
            with contextlib.suppress(UserError):  # a full disk has no room for the mark either
                folder.mark("FAILED", reason=str(e))
        raise
    finally:
        logging.getLogger("genjax").removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()
