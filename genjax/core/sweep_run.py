"""Runs a sweep: each point a run folder of its own, `WORKDIR/points/<overrides>-<id>`, trained by a process of its own.

The run folders are the state. Started again, a sweep trains what is missing, preempted or, when asked, failed, and
waits for points whose processes outlived an earlier sweep; what is done is never started again.
"""

import argparse
import contextlib
import fcntl
import json
import logging
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from genjax.core import launcher_slurm, launchers, sweep, sweep_report
from genjax.core.launchers import PREEMPTED, Options, launch
from genjax.core.search import Search
from genjax.core.sweep_points import SWEEP, PointRun, Target, default_workdir, find, point_of
from genjax.core.sweep_table import (
    LiveTable,
    Mode,
    Row,
    counts,
    guess_mode,
    lines,
    logged_names,
    metric_names,
    origin,
    promoted,
    ranked,
    unranked,
)
from genjax.errors import UserError, unknown
from genjax.viz.atomic import write_file
from genjax.viz.report import number

log = logging.getLogger("genjax")

QUEUE = "queue.json"  # {point: SLURM's job, or its token} as last submitted


@contextlib.contextmanager
def alone(workdir: Path) -> Iterator[None]:
    """Keeps a second sweep out of the workdir while this one runs.

    Raises:
      UserError: another one runs, or the folder cannot be made.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = open(workdir / ".sweep.lock", "w")
    except OSError as e:
        raise UserError(f"cannot write {workdir}: {e.strerror or e}; choose another --workdir") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another sweep runs in {workdir}; wait for it, or look with --status") from None
        except OSError as e:  # a file system without locks
            log.warning("cannot lock %s (%s): start no second sweep there", workdir, e.strerror or e)
        yield


def _submitted(workdir: Path) -> set[str]:
    """The SLURM jobs whose files submitit keeps beside the points."""
    found = (workdir / "points" / "slurm").glob("*_submitted.pkl")
    return {p.name.removesuffix("_submitted.pkl") for p in found}


def submitted(workdir: Path) -> dict[str, str]:
    """The points that were handed over to SLURM, and how to find their jobs there."""
    file = workdir / QUEUE
    try:
        return dict(json.loads(file.read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError):
        raise UserError(f"{file} is not readable; when `squeue --me` shows no job of this sweep, remove it") from None


def queued(workdir: Path, points: Iterable[str]) -> dict[str, str]:
    """Those of the points whose SLURM jobs wait or run: {point: job}.

    Raises:
      UserError: some were submitted, and SLURM does not say how they stand.
    """
    jobs = {point: job for point, job in submitted(workdir).items() if point in set(points)}
    if not jobs:
        return {}
    try:
        alive = launcher_slurm.alive()
    except UserError as e:
        raise UserError(f"{e}; which of {len(jobs)} submitted points wait there is not known. Try again, or, when none"
                        f" does, remove {workdir / QUEUE}") from None
    return {point: job for point, job in jobs.items() if job in alive or job in alive.values()}


class Board:
    """All points of a sweep together: rows, and what is left to start."""

    def __init__(self, runs: list[PointRun], retry_failed: bool, live: LiveTable):
        self.runs, self.retry_failed, self.live = runs, retry_failed, live
        self.queued: dict[str, str] = {}  # points that wait in SLURM's queue, with their jobs
        self.keys = list(dict.fromkeys(k for run in runs for k in run.point))
        self._tried: set[str] = set()
        jobs = submitted(runs[0].folder.path.parents[1])
        for run in runs:
            run.submitted = run.name in jobs

    def rows(self) -> list[Row]:
        """Every point as it stands."""
        return [run.row(self.keys) for run in self.runs]

    def tick(self, states: dict[str, str]) -> None:
        """What the launcher calls about once a second with the states of its processes."""
        for run in self.runs:
            said = states.get(run.name, run.process)
            if said.startswith("exit ") and run.process != said:
                run.ended(int(said.removeprefix("exit ")))
            run.process = said
        self.live.update(self.rows())

    def left(self) -> list[PointRun]:
        """The points to start: each at most once in the life of this process."""
        wanted = ("waiting", "preempted") + ("failed",) * self.retry_failed
        return [run for run in self.runs if run.name not in self._tried and run.name not in self.queued
                and run.state() in wanted]

    def run(self, target: Target, options: Options) -> int:
        """Runs what is left, and waits for what an earlier sweep left running; returns how many were started.

        Raises:
          Preempted: a signal came; the processes were told and have saved.
        """
        try:
            self.queued = queued(target.workdir, [run.name for run in self.left()])
        except UserError as e:
            if not options.dry_run:
                raise
            log.warning("%s; this dry run takes them as not waiting there", str(e).partition(";")[0])
        if self.queued:
            log.info("%d points are in SLURM's queue and are left to it", len(self.queued))
        while True:
            survivors = [run for run in self.runs if run.state() == "running"]
            if survivors and options.on == "local" and not options.dry_run:
                log.info("waiting for %d points that an earlier sweep left running", len(survivors))
                self._wait(survivors)
            left = self.left()
            if not left:
                return len(self._tried)
            self._tried |= {run.name for run in left}
            before, starts = _submitted(target.workdir), [target.job(run.point, options.processes) for run in left]
            if options.on == "slurm" and not options.dry_run:  # a kill after the submission must not forget it
                token = launcher_slurm.token(starts)
                self._note(target, {run.name: f"{token}:{i}" for i, run in enumerate(left)})
            codes = launch(starts, options, self.tick)
            if options.on != "local" or options.dry_run:
                jobs = sorted(_submitted(target.workdir) - before, key=lambda j: [int(n) for n in j.split("_")])
                if len(jobs) == len(left):
                    self._note(target, {run.name: job for run, job in zip(left, jobs, strict=True)})
                return len(left)
            for run in left:
                if run.process != f"exit {codes[run.name]}":  # the last tick has not said so
                    run.ended(codes[run.name])
                run.process = ""
                if run.code is None:
                    self._tried.discard(run.name)
            self.live.update(self.rows())

    def _note(self, target: Target, jobs: dict[str, str]) -> None:
        """Keeps which jobs SLURM was given: these, and those before."""
        write_file(target.workdir / QUEUE, json.dumps({**submitted(target.workdir), **jobs}, indent=2) + "\n")
        for run in self.runs:
            if run.name in jobs:
                run.submitted = False  # what its log says is of an earlier job

    def _wait(self, runs: list[PointRun]) -> None:
        from genjax.core.train import Preempted

        got: list[int] = []
        with launchers.remembering(got):
            while any(run.folder.busy() for run in runs):
                if got:
                    raise Preempted(f"interrupted while {len(runs)} points of an earlier sweep run on")
                self.live.update(self.rows())
                time.sleep(0.5)


def run(args: argparse.Namespace, overrides: list[str]) -> tuple[int, list[dict[str, Any]]]:
    """The verb `sweep`: returns its exit code and the rows for `--json`."""
    made = find(args.config, args.sweep)
    workdir = Path(args.workdir) if args.workdir else default_workdir(args.config, args.sweep, tuple(overrides),
                                                                      args.smoke)
    target = Target(args.config, args.sweep, tuple(overrides), args.smoke, workdir, args.deterministic)
    if args.max_parallel is not None and args.max_parallel < 1:
        raise UserError(f"--max-parallel must be at least 1, got {args.max_parallel}")
    options = launchers.options(args, args.max_parallel)
    if isinstance(made, Search):
        from genjax.core import search_run  # knows this file

        return search_run.run(made, target, options, args)
    if args.storage:
        raise UserError(f"--storage goes with a search_NAME() function; {args.sweep} is a sweep")
    runs = [PointRun(point, target.load(point), target.folder(point)) for point in made]
    board = Board(runs, args.retry_failed, LiveTable(args.metric))
    target.claim()
    if args.status or options.dry_run:
        if options.dry_run and not board.run(target, options):
            print("nothing is left to start", file=sys.stderr)
        rows = board.rows()
        if args.status and args.json != "-":
            print_table(*choose(rows, args.metric, args.mode))
        return 0, [row.json() for row in rows]
    with alone(workdir):
        target.write({"points": {run.folder.path.name: run.point for run in runs}})
        return finish(target, options, args, board.rows, lambda: board.run(target, options), board.live)


def finish(target: Target, options: Options, args: argparse.Namespace, rows_now: Callable[[], list[Row]],
           work: Callable[[], int], live: LiveTable) -> tuple[int, list[dict[str, Any]]]:
    """Does the work, then shows the table and writes the report, or says how to go on."""
    from genjax.core.train import Preempted

    stopped = None
    try:
        started = work()
    except Preempted as e:
        stopped = e
    finally:
        live.clear()
    rows = rows_now()
    found = [row.json() for row in rows]
    if stopped:
        print(f"{stopped} ({counts(rows)}); run the same command again to go on", file=sys.stderr)
        return PREEMPTED, found
    if options.on != "local" and started:
        print(f"{started} points handed over to {options.on}; the same command with --status shows how they stand",
              file=sys.stderr)
        return 0, found
    rows, metric, mode = choose(rows, args.metric, args.mode)
    page, notes = _report(target, rows, metric, mode)
    if args.json != "-":
        print_table(rows, metric, mode)
        print(*notes, f"report: {page}", sep="\n")
    states = {row.state for row in rows}
    if "failed" in states:
        reason = "" if args.retry_failed else "; --retry-failed runs failed points again"
        print(f"{counts(rows)}{reason}", file=sys.stderr)
        return 1, found
    if states & {"preempted", "waiting"} and options.on == "local":
        print(f"{counts(rows)}; run the same command again to go on", file=sys.stderr)
        return PREEMPTED, found
    return 0, found


def _report(target: Target, rows: list[Row], metric: str | None, mode: Mode) -> tuple[Path, list[str]]:
    """Writes the page; returns its path and what is said below the table."""
    ids = {row.point for row in rows}
    gone = sorted(p.name for p in (target.workdir / "points").glob("*")
                  if p.is_dir() and point_of(p.name) and point_of(p.name) not in ids)
    notes = [f"{len(gone)} runs of points no longer asked for stay in points/: {', '.join(gone)}."] * bool(gone)
    return sweep_report.write(target.workdir, rows, metric, mode, target.command(), notes), notes


def report(workdir: Path) -> Path:
    """Writes the report of a sweep's folder again; returns its path.

    Raises:
      UserError: it holds a search, whose trials are in its storage, or a sweep its config file no longer has.
    """
    try:
        held = json.loads((workdir / SWEEP).read_text())
        target = Target(held["config"], held["sweep"], tuple(held["all_overrides"]), held["smoke"], workdir)
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{workdir / SWEEP} is not readable; start the sweep again, which writes both") from None
    made = find(target.spec, target.name)
    if isinstance(made, Search):
        raise UserError(f"{workdir} holds a search, which writes its report itself: {target.command()}")
    rows = Board([PointRun(p, target.load(p), target.folder(p)) for p in made], False, LiveTable()).rows()
    return _report(target, *choose(rows, None, None))[0]


def choose(rows: list[Row], metric: str | None, mode: Mode | None) -> tuple[list[Row], str | None, Mode]:
    """The rows with the metric that ranks them, and its better end: as asked for, else the first that was evaluated,
    else, where nothing was, what was logged in training (`loss` where there is one)."""
    names = [*metric_names(rows), *logged_names(rows)]
    if metric and names and metric not in names:
        log.warning("%s", unknown("metric", metric, names))
        metric = None
    metric = metric or (names[0] if names else None)
    return promoted(rows, metric), metric, mode or (guess_mode(metric, rows) if metric else "max")


def print_table(rows: list[Row], metric: str | None, mode: Mode) -> None:
    """The points, best first, with the best one's overrides; or by state, with why there is no best."""
    rows = ranked(rows, metric, mode)
    print("\n".join(lines(rows, [metric] if metric else [])))
    if said := origin(rows, metric):
        print(said)
    if why := unranked(rows, metric):
        print(why)
        return
    best = rows[0]
    if best.values:
        print(f"best {metric} {number(best.metrics[metric])}: "
              + " ".join(f"--config.{k}={shlex.quote(sweep.text(v))}" for k, v in best.values.items()))
