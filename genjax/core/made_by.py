"""Where a run comes from, kept beside its config in RUN/made_by.json: nothing of it changes what is computed.

The file holds `command` (the first command line), `config` (file and argument), `notebook` (the config file's
docstring), `path` (folders with modules of one's own, which every verb on the run imports from) and `legs`: one
`{command, step, began, seconds}` per start of the run; a leg that was killed has no `seconds`.
"""

import contextlib
import dataclasses
import functools
import json
import time
from pathlib import Path
from typing import Any

from genjax.core import config_file, schema
from genjax.errors import UserError
from genjax.viz import jsonl
from genjax.viz.atomic import write_file

FILE = "made_by.json"


@dataclasses.dataclass(frozen=True)
class MadeBy:
    """What a caller of `train` knows: the command line that it stands for, and the config's file with its argument."""

    command: str = ""
    config: str = ""

    @functools.cached_property
    def _file(self) -> Path | None:
        with contextlib.suppress(UserError):
            return config_file.find_config(self.config)[0] if self.config else None

    def path(self) -> list[str]:
        """The folders to import the config's own modules from: its own; of a saved config those of its run."""
        if self._file is None or config_file.is_ours(self._file):
            return []
        return read(self._file.parent).get("path", []) if self._file.suffix == ".json" else [str(self._file.parent)]

    def notebook(self) -> str:
        """The config file's docstring; "" for a saved config, or none."""
        if self._file is None:
            return ""
        saved = self._file.suffix == ".json"
        return read(self._file.parent).get("notebook", "") if saved else config_file.notebook(self._file)


def read(run: str | Path) -> dict[str, Any]:
    """RUN/made_by.json; {} where there is none, or a damaged one."""
    try:
        found = json.loads((Path(run) / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def recall(run: str | Path) -> None:
    """Puts the folders that a run's own modules came from on the path of imports."""
    for folder in read(run).get("path", ()):
        schema.search(folder)


def begin(run: str | Path, by: MadeBy, step: int) -> None:
    """Notes that a leg of the run begins at a step."""
    old = read(run)
    leg = {"command": by.command, "step": step, "began": time.time()}
    path = list(dict.fromkeys([*by.path(), *old.get("path", ())]))
    write_file(Path(run) / FILE, json.dumps({
        "command": old.get("command") or by.command, "config": old.get("config") or by.config,
        "notebook": by.notebook() or old.get("notebook", ""), "path": path,
        "legs": [*old.get("legs", ()), leg]}, indent=2) + "\n")


def end(run: str | Path, seconds: float) -> None:
    """Notes how long the leg took that began last."""
    found = read(run)
    if legs := found.get("legs"):
        legs[-1]["seconds"] = seconds
        with contextlib.suppress(OSError):  # a full disk is said by what matters more
            write_file(Path(run) / FILE, json.dumps(found, indent=2) + "\n")


def seconds(run: str | Path) -> tuple[float, int] | None:
    """The time that a run took over all its legs, and how many there were; None where that was not kept.

    A leg that was killed counts up to its last row of speed in metrics.jsonl that the next leg left there.
    """
    legs = read(run).get("legs", ())
    if not legs or not any("seconds" in leg for leg in legs):
        return None
    file = Path(run) / "metrics.jsonl"
    told = [r["time"] for r in (jsonl.read(file) if file.exists() else ()) if "time" in r]
    total, until = 0.0, float("inf")
    for leg in legs[::-1]:
        inside = [t - leg["began"] for t in told if leg["began"] <= t < until]
        total += leg["seconds"] if "seconds" in leg else max(inside, default=0.0)
        until = leg["began"]
    return total, len(legs)
