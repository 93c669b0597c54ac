"""Runs killed by SIGKILL at random moments, several times each, end with the bits of a run left alone.

A short training (the smoke form of dip/denoise, 40 steps, a checkpoint every 8) is run once in peace and then again and
again, each run killed five times: as its folder appears, while it starts and compiles, at a random step, between two
saves, in the middle of a save, as it ends. After every kill its files are read as they lie; then it goes on to its end,
where the digest of its state, its metrics, snapshot and pictures must be those of the run left alone. 100 kills at
scale paper, 30 at small, 3 at smoke. The same command goes on where it was interrupted.
"""

import dataclasses
import logging
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.reliability import _short
from genjax.core.figure import FigureRun
from genjax.core.verify import Run
from genjax.errors import UserError
from genjax.viz.plots import bars

log = logging.getLogger("genjax")

SEED = 0
PER_RUN = 5
# Seconds after the moment, at most: the start of a process, a save and the end of a run last about so long.
DELAYS = {"folder": 0.0, "config": 3.0, "start": 5.0, "step": 0.03, "between": 0.005, "save": 0.3, "end": 1.5}
PHASES = ("starting or compiling", "between saves", "in a save", "ending")


@dataclasses.dataclass(frozen=True)
class Moment:
    """When to kill: `delay` seconds after `what` is first seen, at or after step `step`."""

    what: str
    step: int
    delay: float


def moments(index: int, count: int) -> list[Moment]:
    """The moments at which run `index` is killed: the first is early, the last late, the steps spread over the run."""
    rng = random.Random(f"{SEED} {index}")
    middle = rng.choices(("save", "between", "step", "start"), (3, 2, 3, 2), k=max(0, count - 2))
    late = rng.choice(("end", "end", "save", "between"))
    whats = [rng.choice(("folder", "config", "start", "step")), *middle, late][:count]
    return [Moment(what, int(_short.STEPS * (i + rng.random()) / count), rng.uniform(0, DELAYS[what]))
            for i, what in enumerate(whats)]


def seen(folder: Path, moment: Moment, steps: Callable[[], int]) -> Callable[[], bool]:
    """Whether the moment has come in the start that is about to be made."""
    before = len(_short.started(folder))

    def going() -> bool:
        return len(_short.started(folder)) > before and steps() >= moment.step

    return {
        "folder": folder.exists,
        "config": (folder / "config.json").exists,
        "start": lambda: True,
        "step": going,
        "between": lambda: going() and not _short.saving(folder),
        "save": lambda: going() and _short.saving(folder),
        "end": lambda: going() and steps() >= _short.STEPS,
    }[moment.what]


def phase(folder: Path, starts_before: int, steps: int) -> tuple[str, int]:
    """What a killed process was doing, and at which step, from the files it left.

    Args:
      folder: the run folder.
      starts_before: starts that had come to their first step's compilation before the killed one.
      steps: rows of metrics.
    """
    starts = _short.started(folder)
    if (folder / "DONE").exists():
        return "ending", _short.STEPS
    if len(starts) == starts_before:  # what lies there is an earlier start's
        return "starting or compiling", max(_short.checkpoints(folder), default=0)
    if _short.saving(folder):
        return "in a save", steps
    if steps >= _short.STEPS:
        return "ending", steps
    return ("between saves" if steps > starts[-1] else "starting or compiling"), steps


def kill(run: Run, moment: Moment) -> dict[str, Any] | None:
    """Starts the run and kills it at the moment; what it was doing, and None where it had ended before.

    Raises:
      UserError: it failed by itself.
    """
    before = len(_short.started(run.folder))
    if not run.interrupt(seen(run.folder, moment, run.steps), moment.delay):
        return None
    doing, step = phase(run.folder, before, run.steps())
    return {"aim": moment.what, "phase": doing, "step": step, "unreadable": _short.unreadable(run.folder)}


def disturbed(run: Run, aims: list[Moment], expected: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Kills a run at every moment, lets it end, and says how it compares."""
    kills: list[dict[str, Any]] = []
    digest = None
    try:
        for moment in aims:
            found = kill(run, moment)
            if found is None:
                break  # it had ended
            kills.append(found)
        digest = run.finish()
        differs = _short.differences(run.folder, expected())
    except UserError as e:
        differs = [str(e)]
    bad = [k["unreadable"] for k in kills if k["unreadable"]]
    # A checkpoint that was set aside when the run went on could not be read either.
    bad += [f"checkpoint {p.name} was set aside" for p in (run.folder / "corrupt").glob("*")]
    return {"kills": kills, "starts": run.starts, "digest": digest, "equal": digest == expected()["state"],
            "differs": differs, "unreadable": bad}


def run(fig: FigureRun) -> None:
    """Kills the runs, compares their ends, and draws where the kills fell."""
    fig.note(__doc__.partition("\n\n")[2])
    wanted = fig.by_scale(3, 30, 100)
    (fig.workdir / "runs").mkdir(exist_ok=True)
    journal = _short.Journal(fig.workdir / "kills.jsonl")
    alone = _short.left_alone(fig)
    rows: list[dict[str, Any]] = []
    done = 0
    while done < wanted and len(rows) < 2 * wanted:  # a run that ended before its last kill is made up for by another
        new = range(len(rows), len(rows) + -(-(wanted - done) // PER_RUN))
        counts = {f"killed_{i}": min(PER_RUN, wanted - done - PER_RUN * n) for n, i in enumerate(new)}

        def do(name: str, counts=counts) -> dict[str, Any]:
            fresh = _short.short(_short.fresh(fig.workdir / "runs" / name))
            row = disturbed(fresh, moments(int(name.split("_")[1]), counts[name]), alone.result)
            log.info("%s: killed %s; %s", name, ", ".join(f"at step {k['step']} ({k['phase']})" for k in row["kills"]),
                     "the same end" if not row["differs"] else f"DIFFERS: {row['differs']}")
            return row

        rows += journal.fill(counts, do)
        done = sum(len(r["kills"]) for r in rows)
    report(fig, rows, done, wanted)


def report(fig: FigureRun, rows: list[dict[str, Any]], done: int, wanted: int) -> None:
    """The rows, the histogram and what there is to say."""
    fig.row("SIGKILL", "kills of a living run", done, wanted, source="asked for")
    fig.row("SIGKILL", "runs", len(rows), None)
    fig.row("SIGKILL", "runs that end with the digest of the run left alone", sum(r["equal"] for r in rows), len(rows),
            source="sha256 over every array of the state")
    fig.row("SIGKILL", "runs that end with its metrics, snapshot and pictures too", sum(not r["differs"] for r in rows),
            len(rows), source="compared value by value")
    fig.row("SIGKILL", "unreadable runs", sum(bool(r["unreadable"]) for r in rows), 0,
            source="read after every kill; no checkpoint set aside")
    kills = [k for r in rows for k in r["kills"]]
    wide = _short.SAVE_EVERY
    bins = {f"steps {lo} to {lo + wide - 1}" if lo < _short.STEPS else f"all {lo} steps": lo
            for lo in range(0, _short.STEPS + 1, wide)}
    found = Counter((k["step"] // wide * wide, k["phase"]) for k in kills)
    fig.picture("kills", bars({name: {p: found[lo, p] or float("nan") for p in PHASES} for name, lo in bins.items()},
                              title=f"{done} kills by SIGKILL", ylabel="kills", size=(860, 420)),
                f"Steps at which the kills fell, and what was going on (a checkpoint every {wide} steps)")
    shares = Counter(k["phase"] for k in kills)
    fig.note("What was going on: " + ", ".join(f"{p} {shares[p]}" for p in PHASES) + ".")
    for r in rows:
        if r["differs"] or r["unreadable"]:
            fig.note(f"`{r['name']}`: {'; '.join([*r['differs'], *r['unreadable']])}")
    _short.insist(fig, [f"{r['name']}: {why}" for r in rows for why in [*r["differs"], *r["unreadable"]]])

