"""A full disk, a folder that cannot be written, damaged files and a wrong clock: one clear line, and nothing is lost.

Every fault meets a short training of its own (the smoke form of dip/denoise), most of them one that was killed in the
middle. What cannot go on must say so in one line with exit code 2, what can must go on, with a warning at most. Then
the fault is mended, the same command given again, and the run must go on from its newest whole checkpoint and end like
the run left alone: state, metrics, snapshot and pictures. Full disks are small file systems that root mounts; what this
machine refuses is skipped, and the report says why.

The clock: the machine's own stays as it is; the run goes on under a Python whose clock (time.time, time.time_ns) is a
year back and falls back by another day every second, and on files whose dates are reversed: the newest checkpoint is
from 1970, the one before from 2100. That shows that nothing is ordered by time.
"""

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from experiments.reliability import _short
from genjax.core.figure import FigureRun
from genjax.errors import UserError
from genjax.viz.plots import bars

log = logging.getLogger("genjax")

PATIENCE = 180  # seconds until a process counts as hung
PAGE = 4096
CLOCK = """
import runpy, sys, time
now, began = time.time, time.monotonic()
time.time = lambda: now() - 86400 * (365 + time.monotonic() - began)
time.time_ns = lambda: int(time.time() * 1e9)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Skipped(Exception):
    """A fault that cannot be made here, and why."""


class Case:
    """One fault and its run: `half` is a run killed in the middle, `whole` one that was left alone."""

    def __init__(self, folder: Path, half: Path, whole: Path):
        self.half, self.whole = half, whole
        self.codes: list[int] = []
        self.said: list[list[str]] = []
        self.place(folder)

    def place(self, folder: Path) -> None:
        """Names the run folder."""
        self.folder = folder
        self.run = _short.short(folder)
        self.good: int | None = None

    def take_up(self) -> None:
        """The run is the one killed in the middle."""
        shutil.copytree(self.half, self.folder)

    def arrays(self, step: int | None = None) -> Path:
        """The largest file of a checkpoint (None: the newest): its arrays."""
        folder = self.folder / "checkpoints" / str(_short.checkpoints(self.folder)[-1] if step is None else step)
        return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)

    def start(self, when: Callable[[], bool] | None = None, do: Callable[[], None] | None = None) -> None:
        """Runs the command to its end, calling `do` as soon as `when` holds, and keeps what it said."""
        process = self.run.start()
        if when:
            while process.poll() is None and not when():
                time.sleep(0.002)
            do()
        try:
            _, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            _, err = process.communicate()
            err += f"hung for {PATIENCE} s"
        self.codes.append(process.returncode)
        self.said.append([line.replace(str(self.folder), "RUN") for line in err.splitlines() if line.strip()])

    def going(self, more: int) -> Callable[[], bool]:
        """Whether the start about to be made has gone so many steps."""
        before = len(_short.started(self.folder))
        return lambda: (len(starts := _short.started(self.folder)) > before
                        and self.run.steps() >= starts[-1] + more)


def _command(*argv: str | Path) -> None:
    found = subprocess.run([str(a) for a in argv], capture_output=True, text=True)
    if found.returncode:
        raise Skipped(f"{argv[0]} was refused: {found.stderr.strip() or found.returncode}")


@contextlib.contextmanager
def _small_disk(case: Case, kilobytes: int) -> Iterator[Callable[[int], None]]:
    """Moves the run to a file system of this size until it has ended; yields what sets another size."""
    if os.geteuid() != 0:
        raise Skipped("only root may mount a small file system")
    kept, disk = case.folder, case.folder.parent.parent / f"disk_{case.folder.name}"
    disk.mkdir(exist_ok=True)
    _release(disk)
    try:
        _command("mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", disk)
        case.place(disk / "run")
        yield lambda size: _command("mount", "-o", f"remount,size={size}k", disk)
        shutil.copytree(case.folder, kept)
    finally:
        _release(disk)
        disk.rmdir()


def _release(folder: Path) -> None:
    """Ends what an interrupted call may have left: a mount, or a folder that not even root may change."""
    if os.geteuid() == 0 and folder.is_dir():
        subprocess.run(["umount", "-l", str(folder)], capture_output=True)
        subprocess.run(["chattr", "-i", str(folder / "checkpoints")], capture_output=True)


def _kilobytes(files: Iterator[Path]) -> int:
    return sum(-(-p.stat().st_size // PAGE) * PAGE for p in files if p.is_file()) // 1024


@contextlib.contextmanager
def full_from_the_start(case: Case) -> Iterator[None]:
    """There is room for the config and little else."""
    with _small_disk(case, 16) as resize:
        case.start()
        resize(65536)
        yield


@contextlib.contextmanager
def full_between_saves(case: Case) -> Iterator[None]:
    """Something else fills the disk after the second step."""
    with _small_disk(case, 4096):
        filler = case.folder.parent / "filler"

        def fill() -> None:
            with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as f:
                while f.write(bytes(PAGE)):
                    pass

        case.start(case.going(2), fill)
        filler.unlink()
        yield


@contextlib.contextmanager
def full_in_a_save(case: Case) -> Iterator[None]:
    """The first checkpoint fits, the second does not."""
    one = _kilobytes((case.whole / "checkpoints" / str(_short.STEPS)).rglob("*"))
    with _small_disk(case, one * 3 // 2 + 100) as resize:
        case.start()
        if _short.checkpoints(case.folder) != [_short.SAVE_EVERY]:
            raise UserError(f"the disk was not full in the second checkpoint: {_short.checkpoints(case.folder)}")
        resize(65536)
        yield


@contextlib.contextmanager
def file_in_the_way(case: Case) -> Iterator[None]:
    """The run folder's name is taken by a file."""
    case.folder.write_text("mine")
    case.start()
    if case.folder.read_text() != "mine":
        raise UserError(f"{case.folder} was written over")
    case.folder.unlink()
    yield


@contextlib.contextmanager
def read_only_folder(case: Case) -> Iterator[None]:
    """The folder of an interrupted run can be read, not written."""
    case.take_up()
    if os.geteuid() == 0:  # whom modes do not bind
        _command("mount", "--bind", case.folder, case.folder)
        try:
            _command("mount", "-o", "remount,bind,ro", case.folder)
            case.start()
        finally:
            _release(case.folder)
    else:
        case.folder.chmod(0o555)
        try:
            case.start()
        finally:
            case.folder.chmod(0o755)
    yield


@contextlib.contextmanager
def checkpoints_read_only(case: Case) -> Iterator[None]:
    """While the run goes on, its folder of checkpoints stops taking new ones."""
    case.take_up()
    folder, root = case.folder / "checkpoints", os.geteuid() == 0
    if root:
        _command("chattr", "+i", folder)  # where that works at all
        _command("chattr", "-i", folder)
    try:
        case.start(case.going(2), lambda: _command("chattr", "+i", folder) if root else folder.chmod(0o555))
    finally:
        _command("chattr", "-i", folder) if root else folder.chmod(0o755)
    yield


@contextlib.contextmanager
def truncated_checkpoint(case: Case) -> Iterator[None]:
    """The newest checkpoint's arrays are cut in the middle."""
    case.take_up()
    file = case.arrays()
    os.truncate(file, file.stat().st_size // 2)
    case.good = _short.checkpoints(case.folder)[-2]
    yield
    _set_aside(case)


@contextlib.contextmanager
def all_truncated(case: Case) -> Iterator[None]:
    """Every checkpoint's arrays are cut in the middle, until they are put back from a copy."""
    case.take_up()
    copy = shutil.copytree(case.folder / "checkpoints", case.folder.parent / f"copy_{case.folder.name}",
                           dirs_exist_ok=True)
    for step in _short.checkpoints(case.folder):
        file = case.arrays(step)
        os.truncate(file, file.stat().st_size // 2)
    case.start()
    if (case.folder / "corrupt").exists():
        raise UserError(f"{case.folder}: a damaged checkpoint was moved, with none to go on from")
    shutil.copytree(copy, case.folder / "checkpoints", dirs_exist_ok=True)
    shutil.rmtree(copy)
    yield


@contextlib.contextmanager
def flipped_bits(case: Case) -> Iterator[None]:
    """Eight bytes in the middle of the newest checkpoint's arrays are inverted."""
    case.take_up()
    file = case.arrays()
    data = bytearray(file.read_bytes())
    at = len(data) // 2
    data[at:at + 8] = bytes(255 - b for b in data[at:at + 8])
    file.write_bytes(data)
    case.good = _short.checkpoints(case.folder)[-2]
    yield
    _set_aside(case)


def _set_aside(case: Case) -> None:
    if not any((case.folder / "corrupt").iterdir()):
        raise UserError(f"{case.folder} does not keep its damaged checkpoint")


@contextlib.contextmanager
def torn_metrics(case: Case) -> Iterator[None]:
    """The last line of metrics.jsonl is half-written."""
    case.take_up()
    file = case.folder / "metrics.jsonl"
    data = file.read_bytes()
    last = data.rstrip(b"\n").rfind(b"\n") + 1
    os.truncate(file, (last + len(data)) // 2)
    yield


@contextlib.contextmanager
def falling_clock(case: Case) -> Iterator[None]:
    """The clock falls back, and the files' dates are in the wrong order."""
    case.take_up()
    *_, older, newest = (case.folder / "checkpoints" / str(s) for s in _short.checkpoints(case.folder))
    for folder, date in ((newest, 86400), (older, 4102444800)):
        for p in (*folder.rglob("*"), folder):
            os.utime(p, (date, date))
    case.run.argv = [sys.executable, "-c", CLOCK, *case.run.argv[1:]]
    yield


# What it is, and the exit codes it must lead to; the first two, neither for root alone nor slow, are the smoke form.
FAULTS: dict[str, tuple[Callable[[Case], contextlib.AbstractContextManager[None]], list[int]]] = {
    "newest checkpoint truncated": (truncated_checkpoint, [0]),
    "clock falling back, dates reversed": (falling_clock, [0]),
    "last metrics line half-written": (torn_metrics, [0]),
    "a file in the folder's way": (file_in_the_way, [2, 0]),
    "newest checkpoint, bits flipped": (flipped_bits, [0]),
    "every checkpoint truncated": (all_truncated, [2, 0]),
    "folder read-only": (read_only_folder, [2, 0]),
    "checkpoints read-only from a step on": (checkpoints_read_only, [2, 0]),
    "disk full from the start": (full_from_the_start, [2, 0]),
    "disk full between two saves": (full_between_saves, [2, 0]),
    "disk full in the second save": (full_in_a_save, [2, 0]),
}
SMOKE = 2


def strike(name: str, case: Case, expected: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Lets one fault happen, mends it, lets the run end, and says how that went."""
    make, codes = FAULTS[name]
    problems: list[str] = []
    reached, good, went_on = 0, 0, -1
    try:
        with make(case):
            reached = case.run.steps()
            good = max(_short.checkpoints(case.folder), default=0) if case.good is None else case.good
            case.start()
            went_on = (_short.started(case.folder) or [-1])[-1]
            problems += [f"differs from the run left alone: {d}" for d in _short.differences(case.folder, expected())]
    except Skipped as e:
        return {"skipped": str(e)}
    except (UserError, OSError) as e:
        problems.append(str(e))
    if case.codes != codes:
        problems.append(f"exit codes {case.codes}, not {codes}")
    for code, lines in zip(case.codes, case.said, strict=True):
        if len(lines) > 1 or code and not lines:
            problems.append(f"it said {len(lines)} lines")
    if went_on != good:
        problems.append(f"it went on from step {went_on}, not {good}")
    said = "; ".join(line for lines in case.said for line in lines)
    return {"codes": case.codes, "said": said, "reached": reached, "went_on": went_on, "problems": problems}


def run(fig: FigureRun) -> None:
    """Makes every fault that can be made here, and lists what was said."""
    fig.note(__doc__.partition("\n\n")[2])
    (fig.workdir / "runs").mkdir(exist_ok=True)
    journal = _short.Journal(fig.workdir / "faults.jsonl")
    alone = _short.left_alone(fig)
    half = interrupted(fig)
    names = list(FAULTS)[:SMOKE] if fig.scale == "smoke" else list(FAULTS)

    def do(name: str) -> dict[str, Any]:
        folder = fig.workdir / "runs" / name.replace(" ", "_").replace(",", "").replace("'", "")
        _release(folder)
        alone.result()  # its sizes and its end are needed
        row = strike(name, Case(_short.fresh(folder), half, fig.workdir / "runs" / "left_alone"), alone.result)
        log.info("%s: %s", name, row.get("skipped") or f"exit codes {row['codes']}; it said: {row['said'] or 'nothing'}"
                 + "".join(f"; FAILED: {p}" for p in row["problems"]))
        return row

    rows = journal.fill(names, do)
    made = [r for r in rows if "skipped" not in r]
    for r in made:
        fig.row(r["name"], "one line at most, nothing lost, the same end", not r["problems"], 1,
                source="the run left alone")
        fig.rows[-1] |= {"exit codes": ", ".join(map(str, r["codes"])), "said": r["said"] or "nothing",
                         "went on from step": r["went_on"]}
        for problem in r["problems"]:
            fig.note(f"`{r['name']}`: {problem}.")
    fig.picture("faults", bars({r["name"]: {"had gone": r["reached"], "went on from": r["went_on"]} for r in made},
                               title="Steps made before the fault, and kept", ylabel="step", size=(1000, 460)),
                "What every fault cost: the steps since the last whole checkpoint")
    for r in rows:
        if "skipped" in r:
            fig.note(f"Skipped: {r['name']} ({r['skipped']}).")
    _short.insist(fig, [f"{r['name']}: {p}" for r in made for p in r["problems"]])


def interrupted(fig: FigureRun) -> Path:
    """A run killed once two checkpoints are whole; every fault takes a copy."""
    folder = fig.workdir / "interrupted"
    if len(_short.checkpoints(folder)) < 2:
        run = _short.short(_short.fresh(folder))
        if not run.interrupt(lambda: len(_short.checkpoints(folder)) >= 2):
            raise UserError(f"{folder} ended before it could be killed; run the same command again")
    return folder
