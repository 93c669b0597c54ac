"""The points of a sweep: what the config file asks for, the run folder of each, and how far that is."""

import dataclasses
import functools
import hashlib
import inspect
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from genjax.core import config as config_lib
from genjax.core import record, sweep
from genjax.core.launchers import PREEMPTED, Job, last_words
from genjax.core.run import FREE, RunFolder
from genjax.core.search import Search
from genjax.core.sweep_table import Follow, Row, brief, short_names
from genjax.errors import UserError, unknown
from genjax.viz.atomic import write_file

SWEEP = "sweep.json"
NAME_LENGTH = 80  # of what the overrides take of a folder's name
_NAME = re.compile(r"(?:.*-)?([0-9a-f]{8})")


def folder_name(point: sweep.Point) -> str:
    """`learning_rate=0.0001,seed=2-<id>`: the last parts of the keys, letters, digits and `=,._+-` only, the overrides
    cut at 80 characters; the id tells apart what the cut, rounding or other characters make alike."""
    short = short_names(sorted(point))
    words = ",".join(f"{short[k]}={brief(point[k])}" for k in short)
    words = re.sub(r"[^A-Za-z0-9=,._+-]+", "-", words)[:NAME_LENGTH].strip("-,. ")
    return "-".join(filter(None, (words, sweep.point_id(point))))


def point_of(name: str) -> str | None:
    """The id in the name of a point's folder, of any version of genjax; None: the name of something else."""
    found = _NAME.fullmatch(name)
    return found and found[1]


@dataclasses.dataclass(frozen=True)
class Target:
    """What a sweep is run on.

    Attributes:
      spec: config file with structural argument, as on the command line.
      name: of the sweep or search.
      overrides: `key=value` for all points.
      smoke: every point in the config's smoke form.
      workdir: the sweep's folder.
      deterministic: of every point, see `genjax.core.backend`.
      extra: what else makes two sweeps differ.
    """

    spec: str
    name: str
    overrides: tuple[str, ...]
    smoke: bool
    workdir: Path
    deterministic: bool = False
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def load(self, point: sweep.Point) -> ConfigDict:
        """The resolved config of a point.

        Raises:
          UserError: a key that is not there, a value of another type, or a key the command line sets too.
        """
        twice = {o.partition("=")[0] for o in self.overrides} & set(point)
        if twice:
            raise UserError(f"--config.{min(twice)} is what the sweep {self.name} varies; drop it from the command")
        items = [*self.overrides, *sweep.overrides(point)]
        if self.smoke:
            return config_lib.override(config_lib.smoke(config_lib.load(self.spec)), items)
        return config_lib.load(self.spec, items)

    def folder(self, point: sweep.Point) -> RunFolder:
        """The run folder of a point: the one it was started in, else one that its overrides name."""
        name = self._started.get(sweep.point_id(point)) or folder_name(point)
        return RunFolder(self.workdir / "points" / name)

    @functools.cached_property
    def _started(self) -> dict[str, str]:
        """{id: folder} of the points that are here; earlier versions named folders by the id alone."""
        try:
            listed = list(json.loads((self.workdir / SWEEP).read_text())["points"])
        except (OSError, ValueError, KeyError, TypeError):  # none, a search's, or a broken one: `claim` tells
            listed = []
        there = [p.name for p in (self.workdir / "points").glob("*") if p.is_dir()]
        return {point_of(name): name for name in (*listed, *there) if point_of(name)}

    def job(self, point: sweep.Point, processes: int) -> Job:
        """The process that trains a point."""
        folder = self.folder(point).path
        args = ("train", "--config", self.spec, "--workdir", str(folder), "--quiet", *["--smoke"] * self.smoke,
                *["--deterministic"] * self.deterministic,
                *(f"--config.{o}" for o in (*self.overrides, *sweep.overrides(point))))
        return Job(sweep.point_id(point), args, folder, processes)

    def identity(self) -> dict[str, Any]:
        """What makes two sweeps the same; lengths and meshes may change, as for a single run."""
        path, arg = config_lib.find_config(self.spec)
        path = path.relative_to(config_lib.ROOT) if path.is_relative_to(config_lib.ROOT) else path
        return {"config": f"{path}:{arg}" if arg else str(path), "sweep": self.name, "smoke": self.smoke,
                "overrides": fixed(self.overrides), **self.extra}

    def command(self) -> str:
        """The command that runs the sweep, or goes on with it."""
        words = ["python", "launch.py", "sweep", "--config", self.spec, "--sweep", self.name,
                 *["--smoke"] * self.smoke, *["--deterministic"] * self.deterministic,
                 *(f"--config.{o}" for o in self.overrides), "--workdir", str(self.workdir)]
        return shlex.join(words)

    def claim(self) -> None:
        """Refuses a workdir that holds something else."""
        file = self.workdir / SWEEP
        try:
            old = json.loads(file.read_text())
            if not isinstance(old, dict):
                raise ValueError
        except FileNotFoundError:
            if self.workdir.is_dir() and any(not p.name.startswith(".") for p in self.workdir.iterdir()):
                raise UserError(f"--workdir {self.workdir} holds other files and no sweep; name an empty or new folder"
                                ) from None
            return
        except NotADirectoryError:
            raise UserError(f"--workdir {self.workdir} is a file; name a folder") from None
        except ValueError:
            raise UserError(f"{file} is not readable; move it away, the runs beside it are kept") from None
        for key, mine in self.identity().items():
            if old.get(key) != mine:
                raise UserError(f"--workdir {self.workdir} holds another sweep ({key}: {old.get(key)!r} there, {mine!r}"
                                " here); use another --workdir")

    def write(self, more: Mapping[str, Any]) -> None:
        """Keeps what is run, for people and for `claim`."""
        text = {**self.identity(), "all_overrides": list(self.overrides), **more}
        write_file(self.workdir / SWEEP, json.dumps(text, indent=2) + "\n")


def fixed(overrides: tuple[str, ...]) -> list[str]:
    """The overrides that change what is computed, the last of each key."""
    return sorted({o.partition("=")[0]: o for o in overrides if not o.startswith(FREE)}.values())


def default_workdir(spec: str, name: str, overrides: tuple[str, ...], smoke: bool) -> Path:
    """runs/sweeps/<config>-<sweep>, with six digits of what overrides change for all points."""
    path, arg = config_lib.find_config(spec)
    base = next((b for b in (config_lib.ROOT / "configs", config_lib.ROOT) if path.is_relative_to(b)), path.parent)
    words = [str(path.relative_to(base).with_suffix("")), arg, name, "smoke" if smoke else ""]
    changes = fixed(overrides)
    words.append(hashlib.sha1("\n".join(changes).encode()).hexdigest()[:6] if changes else "")
    return Path("runs") / "sweeps" / "-".join(re.sub(r"[^\w.=]+", "-", w) for w in words if w)


def find(spec: str, name: str) -> sweep.Sweep | Search:
    """What `sweep_NAME()` or `search_NAME()` of a config file returns.

    Raises:
      UserError: no such function (names the nearest), or one that returns something else.
    """
    path, _ = config_lib.find_config(spec)
    if path.suffix != ".py":
        raise UserError(f"{path} is a resolved config; a sweep needs the config file with its sweep_{name}()")
    found = {}
    for kind in ("sweep", "search"):
        for key, value in vars(config_lib.load_module(path)).items():
            if key.startswith(f"{kind}_") and inspect.isfunction(value):
                short = key.removeprefix(f"{kind}_")
                if short in found:
                    raise UserError(f"{path} defines sweep_{short} and search_{short}; rename one")
                found[short] = (key, value)
    if name not in found:
        if not found:
            raise UserError(f"{path} offers no sweep; define sweep_{name}() in it")
        raise unknown("sweep", name, found)
    key, function = found[name]
    with config_lib.mistakes_in(path):
        made = function()
    if key.startswith("search_"):
        if not isinstance(made, Search):
            raise UserError(f"{path}: {key}() must return genjax.core.search.search(...)")
        return made
    points = sweep.chain(made)
    if not points:
        raise UserError(f"{path}: {key}() has no points")
    ids = [sweep.point_id(p) for p in points]
    if len(set(ids)) < len(ids):
        raise UserError(f"{path}: two points of {key}() share an id; change a value a little")
    return points


@dataclasses.dataclass
class PointRun:
    """One point and how far its run folder is; its name is its id."""

    point: sweep.Point
    config: ConfigDict
    folder: RunFolder
    code: int | None = None  # exit code of the process this sweep started
    process: str = ""  # what the launcher says of it
    submitted: bool = False  # SLURM was given it

    def __post_init__(self):
        self.name = sweep.point_id(self.point)
        self.follow = Follow(self.folder.metrics_file)
        self._values = config_lib.flatten(self.config)
        self._same = False  # a done run was found to be of this config

    def state(self) -> str:
        """waiting | running | done | failed | preempted; failed too where its folder cannot be read.

        Raises:
          UserError: the folder holds a run of another config.
        """
        mark, _ = self._mark()
        if self.process == "running":
            return "running"
        if mark in ("done", "failed"):
            if mark == "done" and not self._same and self.folder.unreadable(resolve=True):
                return "failed"
            return "waiting" if mark == "done" and self._changed() else mark
        if not self.folder.config_file.exists():
            ended = self.submitted and last_words(self.log_file).startswith("error: ")  # before it had a folder
            return "failed" if broke(self.code) or ended else "waiting"
        if self.folder.busy():  # looked at only here: asking takes the lock for a moment
            return "running"
        return "failed" if broke(self.code) else "preempted"  # without any mark it was killed

    def _mark(self) -> tuple[str, dict[str, Any]]:
        try:
            return self.folder.state()
        except OSError:  # a run that begins took its mark away just now
            return "running", {}

    def _changed(self) -> bool:
        """Whether a done run is shorter than asked for now; refuses a run of another config."""
        if self._same:
            return False
        changed = config_lib.diff(self.folder.config(), self.config)
        for key, (old, new) in changed.items():
            if not key.startswith(FREE):
                raise UserError(f"{self.folder.path} holds a run of another config (config.{key}: {old!r} there,"
                                f" {new!r} here); the config file has changed: use another --workdir")
        had, wanted = changed.get("train.steps", (0, 0))
        self._same = isinstance(had, int) and isinstance(wanted, int) and wanted <= had  # other durations: train knows
        return not self._same

    def row(self, keys: list[str]) -> Row:
        """The point as it stands, read from its folder."""
        state, (mark, info) = self.state(), self._mark()
        metrics, live, step = info.get("metrics") or {}, {}, int(info.get("step") or 0)
        last = self.follow.look().last
        if mark != "done":
            metrics = {k: v for k, v in last.get("eval", {}).items() if k != "step"}
            live = {**last.get("speed", {}), **last.get("train", {})}
            step = max(step, int(live.get("step", -1)) + 1)
        reason, logged = "", self.follow.logged()
        if state == "failed":
            reason = str(info.get("reason") or self.last_words())
            if mark == "done" and (why := self.folder.unreadable(resolve=True)):  # nor are its numbers
                reason = f"{why}; move {self.folder.path} away to train this point again"
                metrics, live, logged = {}, {}, {}
        values = {k: self.point.get(k, self._values.get(k)) for k in keys if k in self._values or k in self.point}
        how = {k: v.recipe for k, v in record.recipes(self.folder, metrics).items()}
        return Row(self.name, state, step, values, metrics, live, self.folder.path, reason, recipes=how,
                   logged=logged)

    @property
    def log_file(self) -> Path:
        """What its process printed."""
        return Job(self.name, (), self.folder.path).log()

    def last_words(self) -> str:
        """The error line of a process that ended without leaving a mark."""
        return last_words(self.log_file).removeprefix("error: ").strip() or f"exit code {self.code}"

    def ended(self, code: int) -> None:
        """Takes a process's exit code; a run that broke down without a mark gets one, so that it stays failed."""
        self.code, self.process = code, ""
        mark, _ = self._mark()
        if mark == "running" and self.folder.config_file.exists():
            if self.folder.busy():  # another process has the run: ours only came too late
                self.code = None
            elif broke(code):
                step = int(self.follow.look().last.get("train", {}).get("step", -1)) + 1
                self.folder.mark("FAILED", step=step, reason=self.last_words(), exit_code=code)


def broke(code: int | None) -> bool:
    """Whether an exit code means a failure, not an interruption (75, or 128 + signal)."""
    return code is not None and 0 < code < 128 and code != PREEMPTED
