"""The short training that the figures here disturb, and what must be equal at its end."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from genjax.core import inspect
from genjax.core.checkpoint import digest, load_snapshot
from genjax.core.figure import FigureRun
from genjax.core.run import RunFolder
from genjax.core.verify import Run
from genjax.errors import UserError
from genjax.viz import jsonl

CONFIG = "dip/denoise"
STEPS, SAVE_EVERY = 40, 8
LENGTHS = (f"train.steps={STEPS}", f"train.save_every={SAVE_EVERY}", "train.log_every=1", "train.eval_every=16",
           "train.preview_every=0")
COMPILES = "the first step compiles"  # every start says so once, in log.txt


def short(folder: Path) -> Run:
    """The config's smoke form, 40 steps with five checkpoints, in processes on the CPU: this one may hold the
    accelerator."""
    return Run(folder, ["--config", CONFIG, "--smoke", *(f"--config.{o}" for o in LENGTHS)],
               env={**os.environ, "JAX_PLATFORMS": "cpu"})


def started(folder: Path) -> list[int]:
    """The steps that the starts so far began with, those that got as far."""
    log = folder / "log.txt"
    lines = [line for line in log.read_text().splitlines() if COMPILES in line] if log.exists() else []
    return [int(line.partition(" at step ")[2].split()[0]) for line in lines]


def checkpoints(folder: Path) -> list[int]:
    """Steps of the whole checkpoints, oldest first."""
    return sorted(int(p.name) for p in (folder / "checkpoints").glob("*") if p.name.isdigit())


def saving(folder: Path) -> bool:
    """Whether a checkpoint is half-written: Orbax renames its folder when it is whole."""
    return any("tmp" in p.name for p in (folder / "checkpoints").glob("*"))


def unreadable(folder: Path) -> str:
    """What a run's files say when they are read as they lie, "" when all is well."""
    try:
        if not (folder / "config.json").exists():
            return ""  # killed before there was a run
        found = inspect.status(str(folder))
        if "error" in found:
            return found["error"]
        for file in (folder / "snapshots").glob("step_*.npz"):
            load_snapshot(file)
    except UserError as e:
        return str(e)
    return found["digest"] if str(found["digest"]).startswith("unreadable") else ""


def ending(folder: Path) -> dict[str, Any]:
    """Everything a finished run leaves that must not depend on how it got there."""
    run = RunFolder(folder)
    state, info = run.state()
    variables, _ = load_snapshot(run.newest_snapshot())
    return {
        "state": inspect.status(str(folder))["digest"],
        "metrics": [r for r in jsonl.read(run.metrics_file) if r["kind"] != "speed"],
        "end": (state, info.get("step"), info.get("metrics"), run.report.exists()),
        "snapshot": digest(variables),
        "pictures": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in run.outputs.glob("*.png")},
        "checkpoints": sorted(p.name for p in run.checkpoints.iterdir()),
        "litter": sorted(p.name for p in folder.rglob(".*-????????*")),
    }


def differences(folder: Path, expected: dict[str, Any]) -> list[str]:
    """Which of the parts of `ending` differ from `expected`; one entry with the reason where they cannot be read."""
    try:
        found = ending(folder)
    except (UserError, OSError) as e:
        return [str(e)]
    return [k for k, v in expected.items() if found[k] != v]


class Journal:
    """Finished parts of a figure, by name, in a file: an interrupted call goes on with the others."""

    def __init__(self, path: Path):
        self.path = path
        self.rows = {r["name"]: r for r in jsonl.read(path)} if path.exists() else {}

    def fill(self, names: Iterable[str], do: Callable[[str], dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows of `names`, in order; `do(name)` makes those that lack, two at a time."""
        names = list(names)
        lacking = [n for n in names if n not in self.rows]
        with ThreadPoolExecutor(2) as pool, jsonl.MetricsWriter(self.path) as writer:
            try:
                for name, row in zip(lacking, pool.map(do, lacking), strict=True):
                    self.rows[name] = {"name": name, **row}
                    writer.write(self.rows[name])
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # those that have not begun
                raise
        return [self.rows[n] for n in names]


def fresh(folder: Path) -> Path:
    """An empty place for a run, whatever an interrupted call left there.

    Raises:
      UserError: a process of that call still trains there.
    """
    if RunFolder(folder).busy():
        raise UserError(f"{folder} is in use by a process of an earlier call; wait for it, or stop it")
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def left_alone(fig: FigureRun) -> Future[dict[str, Any]]:
    """Starts to train the run that nothing disturbs (unless it is done); what it leaves."""
    def train() -> dict[str, Any]:
        folder = fig.workdir / "runs" / "left_alone"
        if RunFolder(folder).state()[0] != "done":
            short(fresh(folder)).finish()
        return ending(folder)

    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(train)
    finally:
        pool.shutdown(wait=False)


def insist(fig: FigureRun, failures: list[str]) -> None:
    """Ends a smoke run that failed, whose rows nobody judges: here its numbers mean what they mean at any scale."""
    if failures and fig.scale == "smoke":
        raise UserError(f"{len(failures)} of the runs in {fig.workdir} did not end like the one left alone, first"
                        f" {failures[0]}")
