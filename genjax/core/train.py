"""The one training loop.

The order is law: at step i, first evaluate, preview and save the OLD state (i updates made), then fetch batch i, then
step, then log. Keys are `fold_in(root, i)` and batch i is a pure function of (seed, i), so a checkpoint holds the state
alone and N steps equal k steps + kill + resume + (N - k) steps, bit for bit on the same topology.
"""

import contextlib
import dataclasses
import functools
import logging
import os
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from genjax.core import config as config_lib
from genjax.core import distributed, made_by, origin, watch
from genjax.core import rng as rng_lib
from genjax.core.best import Best, column
from genjax.core.checkpoint import Checkpoints, layout, save_snapshot
from genjax.core.experiment import Experiment, Programs
from genjax.core.made_by import MadeBy
from genjax.core.pace import Pace
from genjax.core.record import Recorder, Silent, ids, numbers, save_previews
from genjax.core.run import FREE, RunFolder, environment, log_to
from genjax.errors import UserError
from genjax.viz.atomic import short_name
from genjax.viz.grid import save_png
from genjax.viz.waiting import waiting

log = logging.getLogger("genjax")

PREEMPTED_EXIT = 75  # EX_TEMPFAIL: "run the same command again and it goes on"


class Preempted(Exception):
    """A signal ended a run inside a longer job (a figure); the run is saved and goes on when started again."""


class TrainingFailure(UserError):
    """The run cannot go on (NaN or Inf); the last good checkpoint stays."""


@dataclasses.dataclass
class Outcome:
    """How a run ended: `state` at `step` (None: a finished run whose data are gone), `preempted` when a signal ended
    it, the last evaluation's metrics."""

    state: Any
    step: int
    preempted: bool
    metrics: dict[str, Any]
    seconds: float


class _Loop:
    """One run of an experiment in a folder; `run` reads from top to bottom."""

    def __init__(self, config: ConfigDict, programs: Programs, folder: RunFolder, quiet: bool,
                 profile: tuple[int, int] | None, data: origin.Identity, begun: dict[str, Any]):
        self.config, self.programs, self.folder = config, programs, folder
        self.experiment: Experiment = programs.experiment
        self.total, self.every = self.experiment.lengths()
        self.saver = Checkpoints(folder.checkpoints, self.experiment.train.keep)
        self.data, self.begun = data, begun
        state = self.saver.restore(self.programs.abstract)
        self.resumed = state is not None
        if state is None:
            state = origin.state(begun, programs.abstract) if begun else programs.init()
            if begun:
                self.saver.save(state)  # the other run may go
        self.state = state
        self.start = self.step = int(self.state.step)
        self.quiet, self.profile, self.tracing = quiet, profile, False
        self.pending: deque = deque()
        self.metrics: dict[str, Any] = {}
        self.stopped = False
        self.stop_at: int | None = None  # the first step with a `stop`
        self.pace = Pace(self.experiment.train.steps_per_call)
        self.best = Best(folder, self.experiment.train.keep_best)

    def run(self, signals: distributed.Signals) -> Outcome:
        """Trains to the end, a signal, a `stop` metric or a failure."""
        self.signals, signals.leave = signals, self._leave
        began = time.monotonic()  # the clock on the wall may be set meanwhile
        # Opened here: it drops the rows after the restored step, and a finished run keeps all of them.
        self.record = (Recorder(self.folder, self.total, self.start, self.quiet) if distributed.main() else Silent())
        kinds = ", ".join(f"{n} x {kind}" for kind, n in Counter(
            d.device_kind for d in self.programs.mesh.devices.flat).items())
        log.info("%s %s at step %d of %d on %s; the first step compiles", "resuming" if self.resumed else "starting",
                 self.folder.path, self.step, self.total, kinds)
        if self.begun and not self.resumed:
            log.info("%s", origin.text(self.begun))
        if distributed.main():
            log.info("data: %s", origin.record_data(self.folder, self.experiment.data, self.data, self.step))
        self._check_best()
        end = self.step  # of the call; slow ones are cut into parts, see `genjax.core.pace`
        while True:
            if self.step >= end:
                with contextlib.suppress(distributed.Interrupted):
                    self._old_state_events()
                begin, end = self._call()
            if self.step >= self.total or self.stopped:
                return self._end(began, preempted=False)
            if signals.reached():
                return self._end(began, preempted=True)
            count = min(end - self.step, self.pace.most())
            self._trace(count)
            batch = self.programs.put(self.step, count)
            if self.pace.timed:
                with waiting("the first step") if self.pace.compiles else contextlib.nullcontext():
                    jax.block_until_ready(self.state)
                    called = time.monotonic()
                    self.state, metrics = self.programs.step(self.state, batch, count)
                    jax.block_until_ready(metrics)
                self.pace.took(time.monotonic() - called)
            else:
                self.state, metrics = self.programs.step(self.state, batch, count)
            self.pending.append((self.step, count, metrics))
            self.step += count
            # One call stays in flight while the one before it is fetched: the device never waits for the log.
            self._drain(keep=1)
            if self.step >= end:
                self.stopped = self.stopped or (self.stop_at is not None and self.stop_at < begin)

    def _due(self, name: str) -> bool:
        every = self.every[name]
        return bool(every) and self.step % every == 0 and self.step < self.total

    def _call(self) -> tuple[int, int]:
        """Where the call that holds this step begins and ends: at multiples of its length and at events, so that
        wherever a run is cut, its calls are the same, and so is the step at which a `stop` ends it."""
        every = [self.experiment.train.steps_per_call, *(e for n, e in self.every.items() if e and n != "log")]
        ends = [self.total] + [(self.step // e + 1) * e for e in every]
        change = getattr(self.experiment.data, "next_change", None)  # one call is one program: batches of one shape
        if change is not None:
            ends.append(change(self.step))
            if self.step > self.start and change(self.step - 1) == self.step:
                self.pace.restart()
        return max(self.step - self.step % e for e in every), min(ends)

    def _old_state_events(self) -> None:
        looks = [look for name, look in (("eval", self._evaluate), ("preview", self._preview))
                 if self._due(name) and self.step > 0]
        if looks:
            self._seen_all()
            variables = self._variables()
            for look in looks if distributed.main() else ():  # the others wait in the next step for process 0
                look(variables)
        if self._due("save") and self.step > 0:
            self._seen_all()
            self.saver.save(self.state)

    def _seen_all(self) -> None:
        """Waits for every step so far; a `stop` among them ends the run here."""
        self._drain()
        self.stopped = self.stopped or self.stop_at is not None

    def _trace(self, count: int) -> None:
        """Starts and stops the profiler, around the calls (the next is of `count` steps) that hold steps asked for."""
        if self.profile is None or not distributed.main():
            return
        first, last = self.profile
        if not self.tracing and self.step < last and first < self.step + count:
            self._drain()
            jax.profiler.start_trace(str(self.folder.path / "profile"))
            self.tracing = True
        elif self.tracing and self.step >= last:
            self._end_trace()

    def _end_trace(self) -> None:
        if self.tracing:
            self._drain()
            jax.profiler.stop_trace()
            log.info("profile of steps %d to %d: tensorboard --logdir %s", *self.profile, self.folder.path / "profile")
            self.tracing, self.profile = False, None

    def untraced(self) -> None:
        """Says so at the end where no step asked for came."""
        if self.profile is not None and distributed.main():
            trained = f"steps {self.start} to {self.step - 1}" if self.step > self.start else "no step"
            log.warning("--profile %d:%d traced nothing: this start trained %s; ask for steps that are still to come,"
                        " or train in a fresh --workdir", *self.profile, trained)

    def _drain(self, keep: int = 0) -> None:
        while len(self.pending) > keep:
            first, count, metrics = self.pending.popleft()
            rows = {k: np.asarray(v)[:count] for k, v in jax.device_get(metrics).items()}
            if "loss" in rows:
                bad = np.flatnonzero(~np.isfinite(rows["loss"].reshape(count, -1)).all(axis=1))
                if bad.size:
                    self._fail(first + int(bad[0]), rows["loss"][bad[0]])
            self.record.steps(first, rows, self.every["log"])
            if self.stop_at is None and "stop" in rows and (rows["stop"] > 0).any():
                self.stop_at = first + int(np.argmax((rows["stop"] > 0).reshape(count, -1).any(axis=1)))

    def _fail(self, step: int, value: Any) -> None:
        self.saver.close()
        self.record.close()
        good = self.saver.steps()
        cause = distributed.from_main(lambda: not_finite(self.experiment.data, step))
        message = (f"the loss is {np.ravel(value)[0]} at step {step}; last good checkpoint:"
                   f" {good[-1] if good else 'none'}; " + (f"{cause}: mend the data" if cause else
                                                           steadier(self.config)))
        if distributed.main():
            self.folder.mark("FAILED", step=step, reason=message)
        raise TrainingFailure(message)

    def _rng(self, name: str) -> jax.Array:
        return rng_lib.stream(self.experiment.seed, name)

    def _variables(self) -> dict[str, Any]:
        return distributed.gather(self.experiment.task.export(self.state))

    def _evaluate(self, variables: dict[str, Any]) -> None:
        with waiting("evaluating"), self.signals.cuts():
            found = self.experiment.task.evaluate(variables, self.experiment.data, self._rng("eval"))
        self.metrics = numbers(self.folder, found, self.step)
        self.record.row(self.step, "eval", self.metrics, ids(found))
        if self.every["eval"] and self.step % self.every["eval"] == 0:
            self.best.offer(self.step, found, functools.partial(self._snapshot, variables))

    def _check_best(self) -> None:
        """A `keep_best` that names nothing ends a new run now, also where only an evaluation says what there is."""
        task, metric = self.experiment.task, self.experiment.train.keep_best
        if metric and not self.resumed and not getattr(getattr(task, "evaluation", None), "names", ()):
            variables = self._variables()
            distributed.from_main(lambda: column(metric, task.evaluate(variables, self.experiment.data,
                                                                       self._rng("eval"))))

    def _snapshot(self, variables: dict[str, Any], path: Path, **more: Any) -> None:
        save_snapshot(path, jax.device_get(variables), {
            "step": self.step, "config": self.config.to_dict(), "environment": environment(), "metrics": self.metrics,
            "element_spec": layout(self.experiment.data.element_spec),
            **({"continued_from": self.begun} if self.begun else {}), **more})

    def _preview(self, variables: dict[str, Any]) -> None:
        with waiting("drawing a preview"), self.signals.cuts():
            images = self.experiment.task.preview(variables, self.experiment.data.batch(self.step),
                                                  self._rng("preview"))
        if images:
            images = {k: np.asarray(v) for k, v in images.items()}
            save_previews(self.folder.samples / f"step_{self.step:08d}.png", images)
            self.record.images(self.step, images)

    def _end(self, began: float, preempted: bool) -> Outcome:
        self._seen_all()
        self._end_trace()
        self.untraced()
        seconds = time.monotonic() - began
        if self.step > self.start or self.step not in self.saver.steps():
            self.saver.save(self.state)
        remarks: tuple[str, ...] = ()
        trained = not preempted
        if trained:
            variables = self._variables()
            if distributed.main():
                try:
                    remarks = self._keep(variables)
                except distributed.Interrupted:  # it measures when it is started again
                    preempted = True
                except UserError:  # what was trained is kept all the same
                    with contextlib.suppress(UserError):
                        self.saver.close()
                        self.record.close()
                    raise
        self.saver.close()
        self.record.close()
        if distributed.main():
            made_by.end(self.folder.path, seconds)
        if distributed.main() and preempted:
            # A stop seen only now, in the call in flight, ends the run after one more call, as it would have.
            self.folder.mark("PREEMPTED", step=self.step, seconds=seconds, stopped=self.stopped, stop_at=self.stop_at,
                             trained=trained)
        elif distributed.main():
            self.folder.mark("DONE", step=self.step, seconds=seconds, metrics=self.metrics, remarks=remarks,
                             steps_per_second=(self.step - self.start) / seconds, stopped=self.stopped)
        distributed.barrier("end")
        return Outcome(self.state, self.step, preempted, self.metrics, seconds)

    def _leave(self) -> None:
        """Ends the process at once where a signal waits for a compilation and nothing is lost: what is trained is in
        the newest checkpoint, or nothing is."""
        if self.step == self.start and not self.pending:
            self.folder.mark("PREEMPTED", step=self.step, seconds=0.0, stopped=self.stop_at is not None,
                             stop_at=self.stop_at, trained=self.stopped)
            _leave_untrained()

    def _keep(self, variables: dict[str, Any]) -> tuple[str, ...]:
        """Everything that a finished run leaves beside its checkpoint, and the task's remarks; what was trained comes
        first, so that nothing that goes wrong in measuring it takes it away."""
        file = self.folder.snapshots / f"step_{self.step:08d}.npz"
        self._snapshot(variables, file, metrics={})
        self._evaluate(variables)
        if self.metrics:
            self._snapshot(variables, file)
        self._preview(variables)
        with waiting("drawing the results"):
            found = self.experiment.task.results(variables, self.experiment.data, self._rng("results"))
        for name, image in found.items():
            save_png(self.folder.outputs / f"{short_name(name)}.png", np.asarray(image))
        remarks = self.experiment.task.remarks(variables, self.experiment.data)
        for line in remarks:
            log.info("%s", line)
        return remarks


def not_finite(data: Any, step: int) -> str:
    """What of a step's batch is NaN or infinite, in words; "" where nothing is."""
    for name, x in data.batch(step).items():
        if not np.isfinite(x := np.asarray(x)).all():
            bad = np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(1))
            return (f"{name!r} of that batch holds NaN or infinite values in {bad.size} of {len(x)} rows, first in"
                    f" {bad[0]}")
    return ""


def steadier(config: ConfigDict) -> str:
    """Which keys of a config to change where its training diverges."""
    keys = config_lib.flatten(config)
    rates, clips = (sorted(f"config.{k}" for k in keys if k.split(".")[-1] in names and not isinstance(keys[k], str))
                    for names in (("learning_rate",), ("clip_norm", "clip_value")))
    advice = [f"lower {' or '.join(rates)}"] if rates else []
    advice += [f"clip gradients, e.g. {clips[0]}=1"] if clips else []
    return " or ".join(advice) or "smaller steps of its optimisers may help"


def _leave_untrained() -> None:
    """Ends the process at once where this start has trained nothing: whatever a compilation or a restore is at."""
    log.warning("interrupted before the first step; run the same command again to go on")
    os._exit(PREEMPTED_EXIT)


def profile_steps(text: str | None) -> tuple[int, int] | None:
    """The steps FROM:TO (TO not among them) of `--profile`."""
    if text is None:
        return None
    first, colon, last = text.partition(":")
    if not (colon and first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise UserError(f"--profile {text} is not FROM:TO, e.g. 10:13 for steps 10, 11 and 12")
    return int(first), int(last)


def _over(folder: RunFolder, config: ConfigDict, info: dict[str, Any]) -> bool:
    """Whether this config asks no further step of a run that is done, as far as can be told without its data."""
    changed, step, steps = config_lib.diff(folder.config(), config), info.get("step"), config.train.steps
    if step is None or not all(key.startswith(FREE) for key in changed):
        return False
    return "train.steps" not in changed or bool(info.get("stopped")) or (isinstance(steps, int) and 0 < steps <= step)


def train(config: ConfigDict, workdir: str, quiet: bool = False, profile: tuple[int, int] | None = None,
          other_data: bool = False, begin_from: str | None = None,
          by: MadeBy | None = None) -> Outcome:
    """Trains a finalized config in `workdir`; a workdir that holds this run is resumed, a finished one returns at once.

    Args:
      config: from `genjax.core.config.load`.
      workdir: the run folder, made if missing.
      quiet: no progress on the terminal.
      profile: steps (from, to) to trace, see `profile_steps`.
      other_data: a run that was started with other data goes on with these.
      begin_from: the folder of a run whose newest checkpoint a new run begins with: parameters, averages, optimisers
        and step; the config may be another as far as the state fits.
      by: the command and the config's file, for the report.

    Raises:
      UserError: anything the user can mend, before or during the run (`TrainingFailure` on NaN or Inf).
    """
    folder = RunFolder(workdir)
    was, info = distributed.from_main(folder.state)  # each for itself might see another's file, or none
    try:
        with waiting("opening the data"):
            experiment = config_lib.build(config)
            experiment.lengths()  # the config's own errors come before anything is written
            experiment.check_best()
            experiment.task.check_data(experiment.data)
        programs = Programs(experiment)
    except UserError:
        if begin_from is None and was == "done" and _over(folder, config, info):  # its data may be gone
            log.info("%s is already done (%d steps)", folder.path, info["step"])
            return Outcome(None, info["step"], False, info.get("metrics", {}), info.get("seconds", 0.0))
        raise
    over = was == "done" and (info.get("stopped") or info.get("step", 0) >= experiment.steps("steps"))
    if not over:
        distributed.from_main(experiment.check_evaluation)  # which measures alone
    data = {} if over else distributed.from_main(lambda: origin.identity(experiment.data))
    begun = {}
    if begin_from is not None:
        begun = distributed.from_main(lambda: origin.plan(begin_from, folder, config, programs.abstract,
                                                            experiment.data, data))
        origin.check_length(begun, experiment.steps("steps"))
    with contextlib.ExitStack() as held:
        distributed.from_main(lambda: folder.create(config))
        if not over:
            distributed.from_main(lambda: origin.check_data(folder, experiment.data, data, other_data))
        # Where process 0 can begin, so can the others: only it writes, but for its part of a checkpoint.
        distributed.from_main(lambda: held.enter_context(folder.lock()))
        distributed.from_main(lambda: held.enter_context(log_to(folder)))
        if begun:
            distributed.from_main(lambda: origin.record(folder, begun))
        begun = distributed.from_main(lambda: origin.begun_from(folder))
        watched = watch.end_if_lost(PREEMPTED_EXIT) if distributed.several() else None
        try:
            with distributed.Signals() as signals, distributed.peers():  # from here on: compiling takes seconds
                signals.leave = _leave_untrained
                loop = _Loop(config, programs, folder, quiet, profile, data, begun)
                stopped = bool(info.get("stopped")) and info.get("step") == loop.step
                if was == "done" and (loop.step >= loop.total or stopped):
                    log.info("%s is already done (%d steps)", folder.path, loop.step)
                    loop.untraced()
                    loop.saver.close()
                    return Outcome(loop.state, loop.step, False, info.get("metrics", {}), info.get("seconds", 0.0))
                if over:  # its mark says more than its checkpoint holds: it goes on after all
                    loop.data = distributed.from_main(lambda: origin.identity(experiment.data))
                    distributed.from_main(lambda: origin.check_data(folder, experiment.data, loop.data, other_data))
                if was == "preempted" and stopped:  # an older genjax notes no `stop_at`: it was in the last call
                    loop.stop_at = loop.step - 1 if info.get("stop_at") is None else info["stop_at"]
                    loop.stopped = info.get("trained", False)  # all that is missing is what a finished run leaves
                distributed.from_main(lambda: folder.begin(config, layout(experiment.data.element_spec)))
                distributed.from_main(lambda: made_by.begin(folder.path, by or MadeBy(), loop.start))
                outcome = loop.run(signals)
            if watched:
                watched.close()
            return outcome
        except UserError as e:
            log.error("%s", e)
            # A training failure left its mark, a full disk has no room for one, and what was done before stays so.
            if distributed.main() and not isinstance(e, TrainingFailure):
                with contextlib.suppress(UserError, OSError):
                    if folder.state()[0] != "done":
                        folder.mark("FAILED", reason=str(e))
            raise
        except distributed.PeerLost:
            watched.wait()  # it knows which one, and ends this process
            raise
