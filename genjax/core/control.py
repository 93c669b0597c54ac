"""`sample RUN --control NAME`: samples steered the way the run's task offers.

A task's `controls()` names functions `f(variables, rng, *, n=4, ...)`. `variables` are a snapshot's, `rng` is the key
that `Task.sample` gets for the same seed, so that picture i is sample i. The keywords are the options of the command
line, `--control.KEY=VALUE`: plain values whose annotations and defaults are the schema, as in a config; a keyword
without default must be given. `n` is `-n`. The first line of the docstring says what is shown. They return named
arrays in [0,1]: [H,W,C] becomes NAME.png, [T,H,W,C] NAME.mp4, or NAME.gif where imageio-ffmpeg is not installed.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genjax.core import rng as rng_lib
from genjax.core.coerce import coerce
from genjax.core.snapshot import OpenedRun
from genjax.core.task import TaskBase
from genjax.errors import UserError, unknown
from genjax.viz.grid import save_png
from genjax.viz.video import save_film

FPS = 20.0
Control = Callable[..., dict[str, np.ndarray]]


def parameters(control: Control) -> dict[str, inspect.Parameter]:
    """The options of a control."""
    found = inspect.signature(control, eval_str=True).parameters
    return {k: p for k, p in found.items() if p.kind is p.KEYWORD_ONLY}


def options(name: str, control: Control, given: Sequence[str]) -> dict[str, Any]:
    """Keyword arguments from `KEY=VALUE` texts, checked.

    Raises:
      UserError: an unknown key, a value of another type, a missing one.
    """
    known, out = parameters(control), {}
    for item in given:
        key, _, value = item.partition("=")
        if key == "n" and key not in known:
            raise UserError(f"--control {name} takes no -n; its options are {', '.join(known) or 'none'}")
        if key not in known:
            raise unknown(f"option of --control {name}:", key, known)
        out[key] = coerce(value, known[key].annotation, f"--control.{key}", text=True)
    for key, p in known.items():
        if p.default is p.empty and key not in out:
            raise UserError(f"--control {name} needs --control.{key}=VALUE")
    if "n" in out and out["n"] < 1:
        raise UserError(f"-n must be at least 1, got {out['n']}")
    return out


def instead(opened: OpenedRun) -> str:
    """What else shows pictures of a run, as the end of an error's line: "; ..." or nothing."""
    task = type(opened.task)
    if task.sample is not TaskBase.sample:
        return f"; `sample {opened.folder.path}` draws its samples"
    return f"; its pictures are in {opened.folder.outputs}" if task.results is not TaskBase.results else ""


def _offered(opened: OpenedRun) -> Mapping[str, Control]:
    """The controls of a run's task."""
    task = opened.task
    found = task.controls()
    if not found:
        raise UserError(f"{type(task).__name__} has no controls{instead(opened)}")
    return found


def listing(run: str) -> str:
    """Every control of a run's task with its line and its options, for people."""
    lines = [f"controls of {run} (--control NAME [-n N] [--seed SEED] [--control.OPTION=VALUE])"]
    for name, control in _offered(OpenedRun(run)).items():
        about = (inspect.getdoc(getattr(control, "func", control)) or "").split("\n")[0]
        shown = (f"{k}={'VALUE' if p.default is p.empty else _text(p.default)}" for k, p in parameters(control).items())
        lines += [f"  {name:14} {about}", f"  {'':14}   {' '.join(shown)}"]
    return "\n".join(lines)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def sample(run: str, name: str, given: Sequence[str], snapshot: str | None, seed: int, out: str | None) -> list[Path]:
    """Calls a control and writes what it returns; returns the files.

    Args:
      run: the run folder.
      name: of the control.
      given: texts `KEY=VALUE`.
      snapshot: a snapshot's file in the place of the newest.
      seed: of the samples.
      out: folder to write into; None: RUN/samples/NAME_seedSEED.

    Raises:
      UserError: anything the user can mend.
    """
    rng_lib.check_seed(seed, "--seed")
    if out and Path(out).suffix:
        raise UserError(f"--out {out}: a control may write several files; name a folder")
    opened = OpenedRun(run, snapshot)
    offered, task = _offered(opened), opened.task
    if why := task.withheld().get(name):
        raise UserError(f"--control {name} has nothing to do: {why}; there are {', '.join(offered)}")
    if name not in offered:
        raise unknown(f"control of {type(task).__name__}", name, offered)
    arguments = options(name, offered[name], given)
    made = offered[name](opened.variables, rng_lib.stream(seed, "sample"), **arguments)
    target = Path(out) if out else opened.folder.samples / f"{name}_seed{seed}"
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"cannot write {target}: {e.strerror or e}; choose another --out") from None
    return [save_film(target / key, x, FPS) if np.ndim(x) == 4 else save_png(target / f"{key}.png", x)
            for key, x in made.items()]
