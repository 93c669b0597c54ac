"""The run folder, the interface between verbs.

`config.json` (resolved), `data.json` (what the data was found to be), `from.json` (the run whose state this one began
with, see `genjax.core.origin`), `spec.json` (shapes and dtypes of a batch, by which weights open without the data),
`metrics.jsonl`, `log.txt`, TensorBoard events, `samples/`, `checkpoints/`, `snapshots/` (the last; `best.npz` where
`train.keep_best` asks for it), `outputs/` (what a task keeps, see `Task.results`), `report.html`, and `DONE`, `FAILED`
or `PREEMPTED` (JSON: step, seconds, reason; `stopped` where a `stop` metric ended the run).
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import platform
import re
import socket
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from ml_collections import ConfigDict

from genjax.core import config as config_lib
from genjax.errors import UserError, nearest
from genjax.viz.atomic import write_file

LOCK = ".lock"
MARKS = ("DONE", "FAILED", "PREEMPTED")
# Keys that may change between a run and its resumption without changing what is computed up to there.
FREE = ("train.steps", "train.log_every", "train.save_every", "train.preview_every", "train.eval_every",
        "train.keep", "train.steps_per_call", "mesh.", "sharding", "task.unseen_classes")
MEASURED = "task.evaluation"  # what is measured of the samples: may change too, until it has chosen a best snapshot
FILES = tuple(f"{MEASURED}.{name}" for name in ("path", "lpips_trunk", "lpips_heads"))  # may lie elsewhere at any time
BEST = "best.npz"


class RunFolder:
    """Paths and marks of one run."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.data_file = self.path / "data.json"
        self.from_file = self.path / "from.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.samples = self.path / "samples"
        self.checkpoints = self.path / "checkpoints"
        self.snapshots = self.path / "snapshots"
        self.outputs = self.path / "outputs"
        self.spec_file = self.path / "spec.json"
        self.report = self.path / "report.html"

    def create(self, config: ConfigDict) -> None:
        """Makes the folder with its config; the config of an existing run stays (`begin` writes the new one), and must
        agree with this one except for lengths and, while it has not chosen a best snapshot, for what is measured.

        Raises:
          UserError: not writable, not a run folder, or a run of another config.
        """
        try:
            if self.path.exists() and not self.path.is_dir():
                raise UserError(f"--workdir {self.path} is a file; name a folder")
            if self.path.is_dir() and not self.config_file.exists():
                # A run killed while it wrote its first file leaves that file's temporary.
                if any(not p.name.startswith(".config-") for p in self.path.iterdir()):
                    raise UserError(f"--workdir {self.path} holds other files and no run; name an empty or new folder")
            self._room_for_names()
            self.path.mkdir(parents=True, exist_ok=True)
            if self.config_file.exists():
                changed = config_lib.diff(self.config(), config)
                fixed = [k for k in changed if not k.startswith(FREE) and not self._may_measure(k, config)]
                if fixed:
                    old, new = changed[fixed[0]]
                    raise UserError(
                        f"--workdir {self.path} holds a run of another config ({len(fixed)} keys differ, first"
                        f" config.{fixed[0]}: {old!r} there, {new!r} here): go on as it was by --config"
                        f" {self.config_file} and this --workdir, or with these settings in another --workdir by --from"
                        f" {self.path}")
            else:
                write_file(self.config_file, config_lib.to_json(config))
            for folder in (self.path, self.samples, self.snapshots):
                folder.mkdir(exist_ok=True)
        except OSError as e:
            raise self.unwritable(e) from None

    def _room_for_names(self) -> None:
        """Refuses a folder whose path is so long that a finished run could not write its files below it."""
        try:
            os.lstat(self.path.resolve() / ("x" * 100) / ("x" * 100))
        except OSError as e:
            if e.errno == errno.ENAMETOOLONG:
                raise UserError(f"--workdir {str(self.path)[:60]}… is too long a path ({e.strerror}); choose a shorter"
                                " one") from None

    def _may_measure(self, key: str, config: ConfigDict) -> bool:
        """Whether a key says what is measured of the samples, and another value of it changes nothing that is kept."""
        if key in FILES:
            return True
        chosen = config_lib.flatten(config).get("train.keep_best") and (self.snapshots / BEST).exists()
        return (key == MEASURED or key.startswith(f"{MEASURED}.")) and not chosen

    def unwritable(self, e: OSError) -> UserError:
        """What to tell where the folder refuses a file."""
        return UserError(f"cannot write the run folder {self.path}: {e.strerror or e}; mend that and run the same"
                         " command again, or choose another --workdir")

    def begin(self, config: ConfigDict, spec: dict[str, list] | None = None) -> None:
        """The run, locked, goes on with this config: no mark stands any more, then it is written. A kill between the
        two leaves a run to go on with, never the mark of a shorter one beside this config.

        Args:
          config: finalized.
          spec: {name: [shape, dtype]} of a batch, where it is known.
        """
        for folder in (self.path, self.samples, self.snapshots):
            for litter in folder.glob(".*-????????*"):  # temporaries of a killed run
                if litter.is_file():
                    litter.unlink(missing_ok=True)
        self._unmark()
        if spec is not None:
            write_file(self.spec_file, json.dumps(spec) + "\n")
        write_file(self.config_file, config_lib.to_json(config))

    def _unmark(self, *but: str) -> None:
        for mark in set(MARKS) - set(but):
            (self.path / mark).unlink(missing_ok=True)

    def check(self) -> None:
        """Refuses a folder that holds no run.

        Raises:
          UserError: names a run beside it, where one is called like it.
        """
        if not self.config_file.is_file():
            if self.path.exists():
                raise UserError(f"{self.path} is not a run folder: it has no config.json")
            beside = [p.name for p in self.path.parent.glob("*") if p.is_dir()]
            near = nearest(self.path.name, beside)
            raise UserError(f"no folder {self.path}" + (f"; did you mean {self.path.parent / near}?" if near else
                                                        "; name the folder of a run, e.g. runs/dip/denoise-small"))

    def config(self) -> ConfigDict:
        """The resolved config of the run, finalized and locked."""
        self.check()
        return config_lib.read_json(self.config_file)

    def mark(self, name: str, **info: Any) -> None:
        """Writes DONE, FAILED or PREEMPTED, in the place of another."""
        write_file(self.path / name, json.dumps({**info, "time": time.time()}) + "\n")
        self._unmark(name)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps the run to this process: two in one folder would write over each other.

        The system lets the lock go when the process dies, however it dies. The file stays: if it were deleted, a third
        process could lock another one of that name.

        Raises:
          UserError: a living process has it, or the folder cannot be written.
        """
        try:
            f = open(self.path / LOCK, "ab+", buffering=0)  # closing writes nothing more
        except OSError as e:
            raise self.unwritable(e) from None
        with f:
            tries = 20
            while not take_lock(f):
                if tries := tries - 1:
                    time.sleep(0.05)  # `busy` elsewhere holds it for a moment
                    continue
                f.seek(0)
                holder = f.read().decode(errors="replace").strip()
                raise UserError(f"--workdir {self.path} is in use{f' by {holder}' if holder else ''}; wait for it, stop"
                                " it, or use another --workdir")
            try:
                f.truncate(0)
                f.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            except OSError as e:
                raise self.unwritable(e) from None
            yield

    def busy(self) -> bool:
        """Whether a living process trains here."""
        for mode in ("r+", "r"):  # a network's file system locks what may be written, another user's run may be read
            try:
                with open(self.path / LOCK, mode) as f:
                    return not take_lock(f)
            except OSError:
                continue
        return False

    def state(self) -> tuple[str, dict[str, Any]]:
        """`(done|failed|preempted|running, the mark's content)`; "running": no mark yet, see `standing`."""
        for name in MARKS:
            file = self.path / name
            if file.exists():
                try:
                    info = json.loads(file.read_text())
                except ValueError:
                    info = {}
                known = isinstance(info, dict) and isinstance(info.get("step", 0), int) and isinstance(
                    info.get("metrics") or {}, dict)
                return name.lower(), info if known else {}
        return "running", {}

    def standing(self) -> tuple[str, dict[str, Any]]:
        """`state`, but "interrupted" for a run without a mark whose process is gone: nobody holds its lock."""
        state, info = self.state()
        return "interrupted" if state == "running" and not self.busy() else state, info

    def unreadable(self, resolve: bool = False) -> str:
        """Why its config or its mark cannot be read, one line; "" where both can. Who shows many runs asks this first,
        so that one that cannot be read is a row that says so and the others are shown all the same.

        Args:
          resolve: the config builds something with this version of genjax, too (imports what it names).
        """
        try:
            self.check()
            self.state()
            if resolve:
                self.config()
            elif config_lib.from_json(self.config_file.read_text()).get("target") != config_lib.EXPERIMENT:
                return f"{self.config_file} is not the config of a run"
        except UserError as e:
            return str(e) if str(self.path) in str(e) else f"{self.config_file}: {e}"
        except (OSError, ValueError, AttributeError) as e:
            return f"{self.config_file} cannot be read ({e})"
        return ""

    def results(self) -> list[Path]:
        """The kept pictures that are the run's results, where its task says which (see `Task.results`)."""
        return sorted(p for p in self.outputs.glob("*.png") if p.stem == "result" or p.stem.endswith("_result"))

    def newest_snapshot(self) -> Path:
        """The snapshot with the highest step."""
        found = sorted(self.snapshots.glob("step_*.npz"))
        if not found:
            raise UserError(f"{self.path} has no snapshot yet; train it, or give --snapshot FILE")
        return found[-1]

    def saved(self) -> list[Path]:
        """Every snapshot's file and checkpoint's folder, the highest step first; of one step the snapshot first."""
        found = [p for p in (*self.snapshots.glob("step_*.npz"), *self.checkpoints.glob("*")) if step_of(p) is not None]
        return sorted(found, key=lambda p: (step_of(p), p.suffix), reverse=True)

    def spec(self) -> dict[str, list]:
        """{name: [shape, dtype]} of a batch, as `begin` wrote it; {} where that is missing or damaged."""
        try:
            found = json.loads(self.spec_file.read_text())
            return found if isinstance(found, dict) else {}
        except (OSError, ValueError):
            return {}


def step_of(path: Path) -> int | None:
    """The step of a snapshot's file or a checkpoint's folder, by its name; None for any other path."""
    match = re.fullmatch(r"step_(\d+)\.npz|(\d+)", path.name)
    return int(match[1] or match[2]) if match else None


def take_lock(f: IO) -> bool:
    """Takes the file's lock, until it is closed, if nobody has it."""
    try:
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


@contextlib.contextmanager
def log_to(folder: RunFolder) -> Iterator[None]:
    """Sends the genjax log to `log.txt` as well as the terminal.

    Raises:
      UserError: it cannot be written.
    """
    try:
        handler = logging.FileHandler(folder.path / "log.txt")
    except OSError as e:
        raise folder.unwritable(e) from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("genjax")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()


def environment() -> dict[str, Any]:
    """Versions, platform and devices, for the report and for snapshots."""
    import jax

    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "ml-collections", "grain", "numpy")
    devices = jax.devices()
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "commit": git_commit(),
        **{p: metadata.version(p) for p in packages},
    }


def git_commit() -> str:
    """The checkout's commit, read without running git; "unknown" outside a checkout."""
    git = config_lib.ROOT / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        ref = git / head[5:]
        if ref.exists():
            return ref.read_text().strip()
        for line in (git / "packed-refs").read_text().splitlines():
            if line.endswith(head[5:]):
                return line.split()[0]
    except OSError:
        pass
    return "unknown"
