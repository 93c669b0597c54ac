"""verify-resume: proves on this machine that a config, killed and started again, ends with the bits of one left alone.

Every run is a process of its own, `launch.py train`, killed from outside as a cluster would.
"""

import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from genjax.core import config as config_lib
from genjax.core import inspect
from genjax.core.run import RunFolder, take_lock
from genjax.errors import UserError
from genjax.viz import jsonl
from genjax.viz.waiting import waiting

PREEMPTED = 75


class Run:
    """One run folder and the command that starts it and goes on with it; `env` is its environment (None: this one)."""

    def __init__(self, folder: Path, argv: Iterable[str], env: Mapping[str, str] | None = None):
        self.folder, self.env = folder, env
        self.argv = [sys.executable, str(config_lib.ROOT / "launch.py"), "train", *argv, "--workdir", str(folder),
                     "--quiet"]
        self.starts = 0

    def start(self) -> subprocess.Popen:
        """Starts or goes on."""
        self.starts += 1
        return subprocess.Popen(self.argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.env)

    def steps(self) -> int:
        """Steps whose metrics are written."""
        file = self.folder / "metrics.jsonl"
        return file.read_bytes().count(b'"kind": "train"') if file.exists() else 0

    def _so_far(self) -> str:
        return f"{self.folder.name}: start {self.starts}, {self.steps()} steps"

    def interrupt(self, when: Callable[[], bool], delay: float = 0.0, sig: int = signal.SIGKILL) -> bool:
        """Starts the run and sends `sig` so long after `when()` first holds; False when it ended before.

        Raises:
          UserError: it failed by itself.
        """
        process = self.start()
        with waiting(self._so_far):
            while process.poll() is None and not when():
                time.sleep(0.002)
            if process.poll() is None and delay:
                time.sleep(delay)
            process.send_signal(sig)
            out, err = process.communicate()
        if process.returncode not in (0, -sig, PREEMPTED):
            raise UserError(self._failure(process.returncode, err or out))
        return process.returncode != 0

    def finish(self) -> str:
        """Goes on to the end; the digest of the last state.

        Raises:
          UserError: it fails.
        """
        process = self.start()
        with waiting(self._so_far):
            out, err = process.communicate()
        if process.returncode != 0:
            raise UserError(self._failure(process.returncode, err or out))
        return inspect.status(str(self.folder))["digest"]

    def _failure(self, code: int, said: str) -> str:
        lines = [line for line in said.splitlines() if line.strip()]
        return f"{self.folder}: the run failed with exit code {code}: {lines[-1][:300] if lines else 'it said nothing'}"

    def losses(self) -> list[Any]:
        """Every written training row but its time."""
        return [r for r in jsonl.read(self.folder / "metrics.jsonl") if r.get("kind") == "train"]


def verify(config: str, overrides: list[str], smoke: bool, steps: int, kills: int, seed: int, workdir: str,
           tell: Callable[[str], None] = print, deterministic: bool = False) -> list[dict[str, Any]]:
    """Trains `steps` steps left alone, killed `kills` times (SIGKILL), and stopped once (SIGTERM).

    Args:
      config: as for `train`.
      overrides: `key=value`, as for `train`.
      smoke: the config's smoke form (with `steps` steps).
      steps: length of every run; a checkpoint is written every quarter of it.
      kills: how often the killed run is killed, at random steps; with 0 no run needs to be interrupted.
      seed: of these.
      workdir: emptied first if it holds an earlier verification.
      tell: takes a line for every run.
      deterministic: of every run, see `genjax.core.backend`.

    Returns:
      Rows `{run, interrupted_at, starts, digest, equal}`; `equal` compares state and written metrics with the run left
      alone.

    Raises:
      UserError: a run fails, or ends before it could be interrupted; `workdir` holds something else, or is in use.
    """
    for name, value, least in (("--steps", steps, 4), ("--kills", kills, 0)):
        if value < least:
            raise UserError(f"{name} must be at least {least}, got {value}")
    folder = Path(workdir)
    with _emptied(folder) as note:
        note.write(json.dumps({"config": config, "overrides": overrides}) + "\n")
        note.flush()
        return _verify(config, overrides, smoke, steps, kills, seed, folder, tell, deterministic)


@contextlib.contextmanager
def _emptied(folder: Path) -> Iterator[TextIO]:
    """The folder, empty but for its note, which is locked while this process works there."""
    note = folder / "verify.json"
    try:
        if folder.exists() and any(folder.iterdir()) and not note.exists():
            raise UserError(f"--workdir {folder} holds other files; name an empty or new folder")
        folder.mkdir(parents=True, exist_ok=True)
        file = note.open("a")
    except OSError as e:
        raise UserError(f"cannot write {folder}: {e.strerror or e}; choose another --workdir") from None
    with file:
        # The runs of a call that was killed live on.
        if not take_lock(file) or any(RunFolder(p).busy() for p in folder.iterdir() if p.is_dir()):
            raise UserError(f"another verify-resume, or a run of one, works in {folder}; wait for it, or choose another"
                            " --workdir")
        for p in folder.iterdir():
            if p != note:
                shutil.rmtree(p) if p.is_dir() else p.unlink()
        file.truncate(0)
        yield file


def _verify(config: str, overrides: list[str], smoke: bool, steps: int, kills: int, seed: int, folder: Path,
            tell: Callable[[str], None], deterministic: bool) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    lengths = [f"train.steps={steps}", f"train.save_every={max(1, steps // 4)}", "train.log_every=1",
               "train.preview_every=0", "train.eval_every=0", "train.keep_best="]
    argv = ["--config", config, *["--smoke"] * smoke, *["--deterministic"] * deterministic,
            *(f"--config.{o}" for o in [*overrides, *lengths])]

    def row(name: str, run: Run, at: list[int]) -> dict[str, Any]:
        digest = run.finish()
        reference = rows[0] if rows else None
        equal = reference is None or (digest == reference["digest"] and run.losses() == alone.losses())
        tell(f"{name:12} interrupted at {', '.join(map(str, at)) or '-':12} {run.starts} starts  digest {digest[:16]}"
             + ("" if reference is None else "  equal" if equal else "  DIFFERS"))
        return {"run": name, "interrupted_at": at, "starts": run.starts, "digest": digest, "equal": equal}

    rows: list[dict[str, Any]] = []
    alone = Run(folder / "alone", argv)
    rows.append(row("left alone", alone, []))
    for name, sig, times in (("killed", signal.SIGKILL, kills), ("stopped", signal.SIGTERM, 1)):
        run, at = Run(folder / name, argv), []
        for target in sorted(rng.sample(range(1, steps), min(times, steps - 1))):
            if not run.interrupt(lambda run=run, target=target: run.steps() >= target, rng.uniform(0, 0.05), sig) or (
                    RunFolder(run.folder).state()[0] == "done"):
                break  # it was faster
            at.append(run.steps())
        if kills and not at:
            raise UserError(f"the run to be {name} ended before the signal came: {steps} steps of this config are over"
                            f" too soon to prove anything; give more --steps, e.g. --steps {10 * steps}")
        rows.append(row(name, run, at))
    return rows
