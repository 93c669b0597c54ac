"""Where a run comes from: the data it reads (RUN/data.json) and the run whose state it began with (RUN/from.json).

A run goes on only with the data that it was started with: told apart by the number of elements, a digest over the
names and sizes of the files, and another over a few bytes of some of them (see `genjax.data.fingerprint`). Their
absolute path is kept as a note: the same files may lie elsewhere.
"""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from genjax.core import config as config_lib
from genjax.core.checkpoint import Checkpoints
from genjax.core.run import RunFolder
from genjax.data import fingerprint, summary
from genjax.data.sources import listing
from genjax.errors import UserError
from genjax.viz.atomic import write_file

log = logging.getLogger("genjax")

OTHER_DATA = "--other-data"  # of `train`
Identity = dict[str, Any]  # {"count", "files", "digest", "content"}
KEYS = ("count", "digest", "content")  # that tell data apart


def identity(data: Any) -> Identity:
    """What data are: {"count": elements, "files": how many rows `listing` has, "digest": of their names and sizes,
    "content": of some of their bytes, "" where they have no files}.

    Raises:
      UserError: a file is gone.
    """
    rows = listing(data)
    digest = hashlib.sha256("\n".join(f"{name}\t{size}" for name, size in rows).encode(errors="surrogateescape"))
    return {"count": len(data), "files": len(rows), "digest": digest.hexdigest()[:16],
            "content": fingerprint.content(data)}


def other(before: dict[str, Any], now: Identity) -> list[str]:
    """Which of `KEYS` differ; what an older record lacks does not."""
    return [k for k in KEYS if k in before and before[k] != now[k]]


def _read(file: Path) -> dict[str, Any]:
    """A JSON file of a run folder; {} where there is none, or a damaged one."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(folder: RunFolder, file: Path, content: dict[str, Any]) -> None:
    try:
        write_file(file, json.dumps(content, indent=1) + "\n")
    except OSError as e:
        raise folder.unwritable(e) from None


def check_data(folder: RunFolder, data: Any, now: Identity, allow_other: bool = False) -> None:
    """Refuses to go on with a run that was started with other data. A run from before there was such a record goes on.

    Args:
      folder: of a new or an existing run.
      data: what its config builds.
      now: its `identity`.
      allow_other: go on with other data; `record_data` notes it.

    Raises:
      UserError: other data.
    """
    before = _read(folder.data_file)
    differs = other(before, now)
    if allow_other or "digest" not in before or not differs:
        return
    place = summary.summarize(data).place
    what = (f"{before.get('count')} elements then, {now['count']} now" if "count" in differs else
            f"{now['count']} elements both times, of other " + ("names or sizes" if "digest" in differs else
                                                                "content under the same names and sizes"))
    where = f"{before.get('place')}" + (f", now {place}" if place != before.get("place") else "")
    raise UserError(f"--workdir {folder.path} holds a run on other data ({what}; {where}): give it back its data, use"
                    f" another --workdir, or go on with these by train {OTHER_DATA}")


def record_data(folder: RunFolder, data: Any, now: Identity, step: int = 0) -> str:
    """Writes what the data of a run was found to be into its folder; returns the line that says so.

    Args:
      folder, data: the run's.
      now: of `check_data`.
      step: the run goes on from; where its data were others up to there, that is kept in "before".

    Raises:
      UserError: the folder cannot be written.
    """
    found, old = summary.summarize(data), _read(folder.data_file)
    before = list(old.get("before") or [])
    differs = "digest" in old and bool(other(old, now))
    moved = bool(old.get("content")) and not differs and old.get("place") not in (None, found.place)
    if differs or moved:
        kept = {k: old[k] for k in ("line", "place", "files", *KEYS) if k in old}
        before.append({"until": step, **kept, **({"moved": True} if moved else {})})
    _write(folder, folder.data_file, found.to_dict() | now | ({"before": before} if before else {}))
    return found.line() + (f"; the same files as before, then at {old['place']}" if moved else "")


def data_lines(folder: RunFolder) -> list[str]:
    """What the run reads, and what it read before that; [] in a folder without a record (an older run's, damaged)."""
    found = _read(folder.data_file)
    before = [f"Until step {b.get('until')} the same files, at {b.get('place')}" if b.get("moved") else
              f"Until step {b.get('until')} other data: {b.get('line')}" for b in found.get("before") or ()]
    return [str(found["line"]), *before] if "line" in found else []


def plan(run: str | Path, folder: RunFolder, config: ConfigDict, abstract: Any, data: Any,
         now: Identity) -> dict[str, Any]:
    """What a new run in `folder` that begins with the state of another one is to be: the content of its from.json.

    Args:
      run: the other run's folder; its newest checkpoint is taken.
      folder: of the new run, or of one that was begun so.
      config, abstract, data, now: the new run's config, the shapes of its state, its data and their `identity`.

    Returns:
      {"run": absolute path, "step": N, "differs": {config key: [there, here]}, "data": "the same", "other" or
      "unknown"}.

    Raises:
      UserError: no run, no checkpoint, a state that does not fit; a folder that holds another run; a run that would
        be over at once.
    """
    source, known = RunFolder(run), _read(folder.from_file)
    place = os.path.abspath(source.path)
    if os.path.realpath(source.path) == os.path.realpath(folder.path):
        raise UserError(f"--from {run} is the folder of the new run itself; leave --from away to go on with it, or name"
                        " a new --workdir")
    if known or folder.checkpoints.exists():  # else none was begun, or it was killed before it had a state
        if known.get("run") != place:
            begun = f"began from {known['run']}" if known else "did not begin from another one"
            raise UserError(f"--workdir {folder.path} holds a run that {begun}; leave --from away to go on with it, or"
                            " name a new --workdir")
        return known
    theirs = source.config()
    if source.busy():
        raise UserError(f"--from {run} is being trained; wait for it or stop it, so that its newest checkpoint stays")
    with Checkpoints.to_read(source.checkpoints) as saved:
        steps = saved.steps()
        if not steps:
            raise UserError(f"--from {run} has no checkpoint; a converted run, or one that never saved, has none")
        saved.fits(steps[-1], abstract)
    _same_stage(theirs, data, steps[-1])
    old = _read(source.data_file)
    kinds = "unknown" if "digest" not in old or (now["content"] and "content" not in old) else (
        "other" if other(old, now) else "the same")
    return {"run": place, "step": steps[-1], "data": kinds,
            "differs": {k: [_plain(v) for v in pair] for k, pair in config_lib.diff(theirs, config).items()}}


def _same_stage(theirs: ConfigDict, data: Any, step: int) -> None:
    """Where pictures grow during a run, those of the next step are as large as the other run's would have been."""
    if not hasattr(data, "spec_at"):
        return
    there, here = (list(d.spec_at(step)["image"].shape[1:3]) for d in (config_lib.build(theirs).data, data))
    if there != here:
        raise UserError(f"at step {step} the run of --from trains pictures of {there[0]}x{there[1]} pixels and this"
                        f" config {here[0]}x{here[1]}: keep its schedule as it was there")


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, float, str, bool, type(None))) else repr(value)


def check_length(found: dict[str, Any], steps: int) -> None:
    """Refuses a run that would be over where it begins."""
    if steps <= found["step"]:
        raise UserError(f"--from {found['run']} is at step {found['step']} and config.train.steps makes {steps} steps:"
                        " steps are counted on, set config.train.steps to more")


def record(folder: RunFolder, found: dict[str, Any]) -> None:
    """Writes from.json.

    Raises:
      UserError: the folder cannot be written.
    """
    _write(folder, folder.from_file, found)


def begun_from(folder: RunFolder) -> dict[str, Any]:
    """The content of from.json; {} of a run that began from nothing."""
    return _read(folder.from_file)


def state(found: dict[str, Any], abstract: Any) -> Any:
    """The state that a run begins with, on the shardings of `abstract`.

    Raises:
      UserError: the other run's checkpoint is gone, damaged or does not fit.
    """
    source = RunFolder(found["run"])
    with Checkpoints.to_read(source.checkpoints) as saved:
        if found["step"] not in saved.steps():
            raise UserError(f"the checkpoint of step {found['step']} in {source.checkpoints}, which this run begins"
                            " with, is gone; begin again in a new --workdir")
        return saved.restore(abstract, found["step"])


def text(found: dict[str, Any]) -> str:
    """"continued from RUN at step N, ...": what the log and the report say."""
    differs = "; ".join(f"{k} {a!r} -> {b!r}" for k, (a, b) in found["differs"].items())
    data = {"the same": "on the same data", "other": "on other data"}.get(found["data"], "")
    return ", ".join(filter(None, (f"continued from {found['run']} at step {found['step']}",
                                   f"differs in {differs}" if differs else "with the same config", data)))
