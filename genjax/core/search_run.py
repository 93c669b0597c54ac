"""Runs a search: Optuna proposes points and judges them, each is a run folder trained by a process of its own.

Optuna's storage holds the trials, the run folders hold the runs; a trial knows its workdir by the `owner` attribute.
Started again, a search takes up the trials its killed predecessor left running, each in its own folder, and goes on to
the same total. Several machines share one search by `--storage URL`, each with a workdir of its own.
"""

import argparse
import datetime
import itertools
import json
import logging
import sys
import threading
import uuid
import warnings
import zlib
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from genjax.core import launchers, sweep
from genjax.core.experiment import to_steps
from genjax.core.launchers import PREEMPTED, Options, launch
from genjax.core.search import Search
from genjax.core.sweep_points import PointRun, Target, default_workdir
from genjax.core.sweep_run import alone, choose, finish, print_table
from genjax.core.sweep_table import LiveTable, Row
from genjax.errors import UserError, unknown

log = logging.getLogger("genjax")

POLL = 0.5  # seconds between two looks at the runs
LOST_AFTER = datetime.timedelta(hours=1)  # a trial of a shared storage that nobody took on


class Stop(Exception):
    """Ends the process of one trial; the launcher hands SIGTERM on, and the run saves."""


def load_optuna() -> ModuleType:
    """The optuna module.

    Raises:
      UserError: it is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError:
        raise UserError("a search needs Optuna: pip install -r requirements-search.txt") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


@dataclass
class OpenTrial:
    """A trial that is not told yet, with its run."""

    trial: Any
    run: PointRun
    again: bool  # a failed run is to be tried once more
    future: Future | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    pruned: bool = False
    reported: set[int] = field(default_factory=set)
    slot: int = 0

    def start(self, pool: ThreadPoolExecutor, target: Target, options: Options, slot: int) -> None:
        """Trains the point in a process, in a thread that waits for it; `slot`: its number among those at once."""
        self.slot, options = slot, replace(options, slot=slot)

        def tick(states: dict[str, str]) -> None:
            if self.stop.is_set():
                raise Stop

        def work() -> int:
            try:
                return launch([target.job(self.run.point, options.processes)], options, tick)[self.run.name]
            except Stop:
                return PREEMPTED

        self.run.process = "running"
        self.future = pool.submit(work)


class Seeker:
    """One search in one workdir."""

    def __init__(self, made: Search, target: Target, options: Options, study: Any, owner: str, shared: bool,
                 retry_failed: bool, live: LiveTable):
        self.optuna = load_optuna()
        self.made, self.target, self.options, self.study = made, target, options, study
        self.owner, self.shared, self.retry_failed, self.live = owner, shared, retry_failed, live
        self.open: list[OpenTrial] = []
        self.told: dict[int, Row] = {}
        self.interrupted: set[int] = set()  # trials whose process somebody else ended; not started again here

    # Points and trials.

    def _suggest(self, trial: Any) -> sweep.Point:
        """The point of a trial: what it was given before a kill, else Optuna's choice."""
        point = {}
        for key, d in self.made.space.items():
            if isinstance(d, sweep.Choice):
                trial.suggest_categorical(key, [_stored(o) for o in d.options])
            elif isinstance(d, sweep.Integers):
                trial.suggest_int(key, int(d.low), int(d.high))
            else:
                trial.suggest_float(key, d.low, d.high, log=d.log)
            point[key] = self._value(key, trial.params[key])
        return point

    def _value(self, key: str, stored: Any) -> Any:
        d = self.made.space[key]
        if isinstance(d, sweep.Choice):
            return next(sweep.plain(o, key) for o in d.options if _stored(o) == stored)
        return stored

    def _open(self, trial: Any, again: bool) -> None:
        point = self._suggest(trial)
        run = PointRun(point, self.target.load(point), self.target.folder(point))
        trial.set_user_attr("owner", self.owner)
        opened = OpenTrial(trial, run, again)
        opened.reported = set(self.study.trials[trial.number].intermediate_values)
        self.open.append(opened)

    def _trials(self) -> list[Any]:
        """The trials that count: not those that were tried again, nor those nobody took on."""
        state = self.optuna.trial.TrialState
        trials = self.study.get_trials(deepcopy=False)
        again = {t.user_attrs.get("retries") for t in trials}
        return [t for t in trials if t.number not in again and t.state != state.WAITING
                and not (t.state == state.FAIL and "owner" not in t.user_attrs)]

    def take_up(self) -> None:
        """Opens the trials that this workdir's killed search left running, and enqueues failed ones to retry."""
        state = self.optuna.trial.TrialState
        for t in self._trials():
            owner = t.user_attrs.get("owner")
            if t.state == state.RUNNING and (owner == self.owner or owner is None and not self.shared):
                # The constructor is the way to a trial that `ask` did not return just now.
                self._open(self.optuna.trial.Trial(self.study, t._trial_id), "retries" in t.user_attrs)
            elif t.state == state.RUNNING and owner is None and datetime.datetime.now() - t.datetime_start > LOST_AFTER:
                self.study.tell(t.number, state=state.FAIL)
            elif t.state == state.FAIL and owner == self.owner and self.retry_failed:
                self.study.enqueue_trial(t.params, user_attrs={"retries": t.number})

    # The loop.

    def work(self) -> int:
        """Runs trials to the total; returns how many were started here.

        Raises:
          Preempted: a signal came; the runs have saved.
        """
        from genjax.core.train import Preempted

        started = 0
        got: list[int] = []
        with launchers.remembering(got), ThreadPoolExecutor(self.options.max_parallel) as pool:
            try:
                self.take_up()
                while True:
                    for opened in list(self.open):
                        started += self._look(opened, pool, bool(got))
                    while not got and len(self.open) < self.options.max_parallel and (
                            len(self._trials()) < self.made.trials):
                        trial = self.study.ask()
                        self._open(trial, "retries" in self.study.trials[trial.number].user_attrs)
                        started += self._look(self.open[-1], pool, False)
                    busy = [o.future for o in self.open if o.future]
                    if not self.open or got and not busy:
                        break
                    self.live.update(self.rows())
                    wait(busy, timeout=POLL, return_when=FIRST_COMPLETED)
            finally:  # an error of ours ends the processes too; leaving the pool waits for them
                for opened in self.open:
                    opened.stop.set()
        if got:
            raise Preempted("interrupted")
        return started

    def _look(self, opened: OpenTrial, pool: ThreadPoolExecutor, stopping: bool) -> int:
        """Takes one trial as far as it goes now; returns 1 when it started a process."""
        state, run, ran = self.optuna.trial.TrialState, opened.run, False
        if opened.future:
            if not opened.future.done():
                self._report(opened)
                if stopping or opened.pruned:
                    opened.stop.set()
                return 0
            run.ended(opened.future.result())
            opened.future, ran = None, run.code is not None
        stands = run.state()
        if stands == "done":
            self._tell_value(opened)
        elif stands == "failed" and (ran or not opened.again):
            self._close(opened, state=state.FAIL)
        elif opened.pruned:
            self._close(opened, state=state.PRUNED)
        elif stands == "running" or stopping:
            pass  # a process that outlived its search; or nothing is started any more
        elif ran:
            self.interrupted.add(opened.trial.number)
            self.open.remove(opened)
        elif any(o.future and o.run.name == run.name for o in self.open):
            pass  # two trials of one point: the second waits, and finds the first one's run
        elif sum(o.future is not None for o in self.open) < self.options.max_parallel:
            self._report(opened)
            if opened.pruned:
                self._close(opened, state=state.PRUNED)
            else:
                taken = {o.slot for o in self.open if o.future}
                opened.start(pool, self.target, self.options, next(i for i in itertools.count() if i not in taken))
                return 1
        return 0

    def _report(self, opened: OpenTrial) -> None:
        """Hands new evaluations to Optuna, and asks whether the trial is worth going on."""
        new = [(step, metrics[self.made.metric]) for step, metrics in opened.run.follow.look().evals.items()
               if step not in opened.reported and self.made.metric in metrics]
        for step, value in sorted(new):
            opened.trial.report(value, step)
            opened.reported.add(step)
        if opened.reported and (new or not opened.future):
            opened.pruned = self.made.pruner != "none" and opened.trial.should_prune()

    def _tell_value(self, opened: OpenTrial) -> None:
        metrics = {**opened.run.follow.look().logged(), **(opened.run.folder.state()[1].get("metrics") or {})}
        if self.made.metric not in metrics:
            raise unknown(f"metric of the search {self.target.name}:", self.made.metric, metrics)
        value = float(metrics[self.made.metric])
        if value - value:  # NaN and the infinities
            self._close(opened, state=self.optuna.trial.TrialState.FAIL)
        else:
            self._close(opened, values=value)

    def _close(self, opened: OpenTrial, **result: Any) -> None:
        self.study.tell(opened.trial, **result)
        self.open.remove(opened)

    # What is shown.

    def rows(self) -> list[Row]:
        """Every trial as it stands, those of other machines by what the storage knows."""
        keys, running = list(self.made.space), {o.trial.number: o for o in self.open}
        found = []
        for t in self._trials():
            if t.number in running:
                found.append(replace(running[t.number].run.row(keys), trial=t.number))
                continue
            if t.number not in self.told or not t.state.is_finished():
                self.told[t.number] = self._row(t)
            found.append(self.told[t.number])
        return found

    def _row(self, t: Any) -> Row:
        point = {k: self._value(k, v) for k, v in t.params.items() if k in self.made.space}
        folder, mine = self.target.folder(point), t.user_attrs.get("owner") == self.owner
        state = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed"}.get(
            t.state.name, "preempted" if mine else "running")
        value = t.value if t.state.is_finished() else None
        base = Row(sweep.point_id(point), state, t.last_step or 0, point,
                   {} if value is None else {self.made.metric: value}, {}, folder.path, trial=t.number)
        if not mine or not folder.config_file.exists():
            return base
        row = PointRun(point, folder.config(), folder).row(list(self.made.space))
        logged = self.made.metric if self.made.metric in row.logged and self.made.metric not in row.metrics else ""
        return replace(row, from_log=logged, state=state, trial=t.number, metrics={**row.metrics, **base.metrics},
                       reason=row.reason or ("the metric is no finite number" if state == "failed" else ""))


def _stored(option: Any) -> Any:
    """An option as Optuna's storage holds it: tuples as text."""
    option = sweep.plain(option)
    return sweep.text(option) if isinstance(option, tuple) else option


def _pruner(optuna: ModuleType, made: Search) -> Any:
    if made.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=made.startup, n_warmup_steps=made.warmup)
    if made.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner()
    return optuna.pruners.NopPruner()


def _study(optuna: ModuleType, made: Search, target: Target, url: str | None, owner: str, parallel: bool) -> Any:
    """Opens the study, or makes it.

    Raises:
      UserError: the storage cannot be reached, or holds another search under this name.
    """
    name = default_workdir(target.spec, target.name, target.overrides, target.smoke).name
    local = f"sqlite:///{(target.workdir / 'study.db').resolve()}"
    try:
        storage = optuna.storages.RDBStorage(url or local)
        study = optuna.create_study(study_name=name, storage=storage, load_if_exists=True,
                                    direction={"max": "maximize", "min": "minimize"}[made.mode])
        # Another seed after every start: the same one would propose the first start's random points again.
        seed = zlib.crc32(f"{made.seed} {owner if url else ''} {len(study.trials)}".encode())
        study.pruner = _pruner(optuna, made)
        study.sampler = optuna.samplers.RandomSampler(seed) if made.sampler == "random" else (
            optuna.samplers.TPESampler(seed=seed, constant_liar=parallel))
        held = study.user_attrs.get("search")
        if held is None:
            study.set_user_attr("search", made.describe())
    except Exception as e:  # SQLAlchemy's, the database driver's or its absence: all are about the storage
        where = "--storage" if url else local.removeprefix("sqlite:///")
        raise UserError(f"{where}: {str(e).splitlines()[0] if str(e) else type(e).__name__}; give a URL such as"
                        " sqlite:///file.db or postgresql://user@host/name") from None
    if held not in (None, made.describe()):
        raise UserError(f"the storage holds another search {name} (space, metric or mode differ); use another"
                        " --workdir or --storage")
    return study


def _hidden(url: str | None) -> str:
    """A storage's URL without its password."""
    if url is None:
        return "study.db"
    load_optuna()  # which brings SQLAlchemy, or is the one line that says what to install
    from sqlalchemy.engine import make_url

    try:
        return make_url(url).render_as_string(hide_password=True)
    except Exception as e:
        raise UserError(f"--storage: {str(e).splitlines()[0]}; give a URL such as sqlite:///file.db or"
                        " postgresql://user@host/name") from None


def _check(made: Search, target: Target, options: Options) -> None:
    """Everything that can be wrong before the first trial."""
    if options.on != "local":
        raise UserError(f"a search runs its trials where it is started, not on {options.on}; for many machines start"
                        " the same command on each, with --storage URL and a --workdir of its own")
    config = target.load(made.typical())
    for point in made.corners():
        target.load(point)
    if made.pruner != "none" and to_steps(config.train.eval_every, 1, 1, "config.train.eval_every") == 0:
        raise UserError(f"pruner={made.pruner!r} judges runs on their way: add --config.train.eval_every=N, or set"
                        f" pruner=\"none\" in search_{target.name}()")


def run(made: Search, target: Target, options: Options, args: argparse.Namespace) -> tuple[int, list[dict[str, Any]]]:
    """The verb `sweep` for a search: returns its exit code and the rows for `--json`."""
    optuna = None if options.dry_run else load_optuna()
    _check(made, target, options)
    target = replace(target, extra={**made.describe(), "storage": _hidden(args.storage)})
    args.metric, args.mode = args.metric or made.metric, args.mode or made.mode
    target.claim()
    if options.dry_run:
        print(f"a search of {made.trials} trials, {options.max_parallel} at a time; it chooses the values of "
              + ", ".join(made.space) + " in this command:", file=sys.stderr)
        launch([target.job(made.typical(), options.processes)], options)
        return 0, []
    file = target.workdir / "sweep.json"
    if args.status and not file.exists():
        raise UserError(f"{target.workdir} holds no search yet; leave --status out to start it")
    owner = json.loads(file.read_text()).get("owner") if file.exists() else uuid.uuid4().hex

    def seeker() -> Seeker:
        study = _study(optuna, made, target, args.storage, owner, options.max_parallel > 1 or bool(args.storage))
        return Seeker(made, target, options, study, owner, bool(args.storage), args.retry_failed,
                      LiveTable(args.metric, made.trials))

    if args.status:
        rows = seeker().rows()
        if args.json != "-":
            print_table(*choose(rows, args.metric, args.mode))
        return 0, [row.json() for row in rows]
    shared = seeker() if args.storage else None  # a database that cannot be reached leaves nothing behind
    with alone(target.workdir):
        one = shared or seeker()
        target.write({"owner": owner, "trials": made.trials})
        return finish(target, options, args, one.rows, one.work, one.live)
