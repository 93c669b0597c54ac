"""Verbs that look without running: list, diff, status."""

import contextlib
from pathlib import Path
from typing import Any

from genjax.core import config as config_lib
from genjax.core import config_file, made_by
from genjax.core.run import RunFolder
from genjax.errors import UserError, unknown
from genjax.viz import jsonl

EXPERIMENTS = config_lib.ROOT / "experiments"


def figures() -> list[str]:
    """Every figure as `family/name`; `bench/` holds benchmarks, `_`-files are shared parts."""
    return [n for n in _experiments() if not n.startswith("bench/")]


def benchmarks() -> list[str]:
    """Every benchmark's name."""
    return [n.removeprefix("bench/") for n in _experiments() if n.startswith("bench/")]


def check_figure(name: str) -> tuple[str, str]:
    """"family/name:arguments", as it may be written, as name and arguments.

    Raises:
      UserError: no such figure; names the nearest.
    """
    name, _, arg = name.partition(":")
    name = name.removesuffix(".py").removeprefix("experiments/")
    if name not in figures():
        raise unknown("figure", name, figures())
    return name, arg


def check_benchmark(name: str) -> tuple[str, str]:
    """"name:arguments" as name and arguments.

    Raises:
      UserError: no such benchmark; names the nearest.
    """
    name, _, arg = name.partition(":")
    if name not in benchmarks():
        raise unknown("benchmark", name, benchmarks())
    return name, arg


def _experiments() -> list[str]:
    found = (p.relative_to(EXPERIMENTS).with_suffix("") for p in EXPERIMENTS.rglob("*.py"))
    return sorted(str(p) for p in found if not p.name.startswith("_"))


def listing() -> list[dict[str, str]]:
    """Rows `{kind, name, about}` for every config, figure and benchmark."""
    rows = [("config", n, config_lib.ROOT / "configs" / f"{n}.py") for n in config_lib.list_configs()]
    rows += [("figure", n, EXPERIMENTS / f"{n}.py") for n in figures()]
    rows += [("bench", n, EXPERIMENTS / "bench" / f"{n}.py") for n in benchmarks()]
    return [{"kind": kind, "name": name, "about": config_file.describe(file)} for kind, name, file in rows]


def listing_text(rows: list[dict[str, str]]) -> str:
    """The listing for people."""
    wide = max(len(r["name"]) for r in rows)
    verbs = {"config": ("configs", "train --config"), "figure": ("figures", "reproduce"),
             "bench": ("benchmarks", "bench")}
    lines = []
    for kind, (plural, command) in verbs.items():
        lines.append(f"{plural} (python launch.py {command} NAME)")
        lines += [f"  {r['name']:{wide}}  {r['about']}" for r in rows if r["kind"] == kind]
    return "\n".join(lines)


def _from_root(file: Path) -> Path:
    return file.relative_to(config_lib.ROOT) if file.is_relative_to(config_lib.ROOT) else file


def documents(name: str) -> str:
    """The notebooks and structural arguments of the configs, figures and benchmarks of a name, for people.

    Args:
      name: `family/name`, a config's file, or a run folder, which kept its config's notebook.

    Raises:
      UserError: there is nothing of that name; names the nearest.
    """
    if (Path(name) / "config.json").exists():
        return made_by.read(name).get("notebook") or "(this run kept no notebook: its config had none, or it is older)"
    name = name.partition(":")[0].removesuffix(".py").removeprefix("experiments/")
    found = []
    with contextlib.suppress(UserError):
        file, _ = config_file.find_config(name if name in config_lib.list_configs() else f"{name}.py")
        found.append(("config", f"train --config {name}", file))
    if name in figures():
        found.append(("figure", f"reproduce {name}", EXPERIMENTS / f"{name}.py"))
    if name.removeprefix("bench/") in benchmarks():
        name = name.removeprefix("bench/")
        found.append(("benchmark", f"bench {name}", EXPERIMENTS / "bench" / f"{name}.py"))
    if not found:
        raise unknown("config, figure or benchmark", name, {r["name"] for r in listing()})
    return "\n\n".join(f"{kind} {name} (python launch.py {verb}; {_from_root(file)})\n\n"
                       + config_file.document(file, name) for kind, verb, file in found)


def _config_of(name: str):
    return RunFolder(name).config() if Path(name).is_dir() else config_lib.load(name)


def diff_text(a: str, b: str) -> str:
    """Keys that differ between two configs or run folders, one per line."""
    found = config_lib.diff(_config_of(a), _config_of(b))
    if not found:
        return "no difference"
    wide = max(map(len, found))
    return "\n".join(f"{k:{wide}}  {old!r} -> {new!r}" for k, (old, new) in found.items())


def run_folders(names: list[str]) -> list[str]:
    """The run folders meant by names on a command line: a folder of runs stands for all below it, and of several names
    those that are files (the logs beside the runs, in `runs/*`) are passed over."""
    folders = [n for n in names if not Path(n).is_file()] if len(names) > 1 else names
    found = []
    for name in folders or names:
        path = Path(name)
        below = sorted(str(p.parent) for p in path.rglob("config.json"))
        found += [name] if (path / "config.json").exists() or not below else below
    return found


def status(run: str) -> dict[str, Any]:
    """State, step, digest of the newest checkpoint and last metrics of a run: {run, state, step, digest, metrics}; with
    `error`, one line, where something of it cannot be read.

    The state is done, failed, preempted (a signal ended it), running, interrupted (no mark, and its process is gone) or
    unreadable. The digest is sha256 over every array of the state: equal digests mean equal bits.
    """
    folder, error = RunFolder(run), {}
    if why := folder.unreadable():
        return {"run": str(run), "state": "unreadable", "step": None, "digest": None, "metrics": {}, "error": why}
    state, info = folder.standing()
    try:
        rows = jsonl.read(folder.metrics_file) if folder.metrics_file.exists() else []
    except (UserError, OSError) as e:
        rows, error = [], {"error": str(e)}
    metrics = {k: v for kind in ("train", "eval") for r in rows[-50:] if r.get("kind") == kind
               for k, v in r.items() if k not in ("step", "kind")}
    step, found = info.get("step", 0), None
    steps = sorted(int(p.name) for p in folder.checkpoints.glob("*") if p.name.isdigit())
    if steps:
        from genjax.core.checkpoint import digest, read_arrays

        step = steps[-1]
        try:
            found = digest(read_arrays(folder.checkpoints, step))
        except Exception as e:  # a damaged checkpoint is a finding, not an error
            found = f"unreadable: {str(e).splitlines()[0][:80]}"
    return {"run": str(run), "state": state, "step": step, "digest": found, "metrics": metrics, **error}


def status_text(rows: list[dict[str, Any]]) -> str:
    """The statuses for people."""
    if not rows:
        raise UserError("no runs given")
    lines = []
    for r in rows:
        metrics = "  ".join(f"{k} {v:.4g}" for k, v in r["metrics"].items() if isinstance(v, (int, float)))
        if r["state"] == "unreadable":
            lines.append(f"{r['run']}: unreadable: {r['error']}")
            continue
        metrics += f"  ({r['error']})" if "error" in r else ""
        lines.append(f"{r['run']}: {r['state']} at step {r['step']}  digest {str(r['digest'])[:16]}  {metrics}")
    return "\n".join(lines)
