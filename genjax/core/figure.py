"""The figure runner: `reproduce FAMILY/NAME` runs what a figure needs, draws it, and holds it against the paper.

A figure is a file under experiments/ with a docstring and `run(fig)`. `fig.train` trains a config in a run folder of
its own (and goes on with what an interrupted call left), `fig.row` records expected against got, `fig.picture` keeps a
PNG. Further parameters of `run`, with defaults, are its structural arguments: `reproduce gan/peers:data=idx:FOLDER`.
A figure that can be drawn of the user's own pictures (`fig.images`, `fig.source`) says so by `IMAGES = True`.
Afterwards the folder holds the PNGs, `figure.json` (the rows) and one self-contained `report.html`.
"""

import dataclasses
import hashlib
import json
import logging
import re
import shlex
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from genjax.core import config as config_lib
from genjax.core import config_file, inspect
from genjax.core import train as train_lib
from genjax.core.experiment import Experiment
from genjax.core.made_by import MadeBy
from genjax.core.run import RunFolder, environment
from genjax.core.snapshot import OpenedRun
from genjax.errors import UserError
from genjax.viz import jsonl
from genjax.viz.atomic import write_file
from genjax.viz.grid import Panel, save_png
from genjax.viz.report import Report, number
from genjax.viz.waiting import waiting

log = logging.getLogger("genjax")

Scale = Literal["smoke", "small", "paper"]
Relation = Literal["within", "at_least", "at_most"]


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished run: its folder, experiment, snapshot variables, last evaluation, and wall seconds."""

    folder: RunFolder
    experiment: Experiment
    variables: dict[str, Any]
    metrics: dict[str, float]
    seconds: float

    def curves(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Every training metric as (steps, values)."""
        rows = [r for r in jsonl.read(self.folder.metrics_file) if r.get("kind") == "train"]
        return jsonl.columns(rows)


class FigureRun:
    """What a figure's `run` works with.

    Attributes:
      scale: "smoke" | "small" | "paper".
      images: the user's own picture file or folder, or a "builtin:" name, or None.
      workdir: where runs and results go.
      rows: what was recorded so far.
    """

    def __init__(self, name: str, scale: Scale, workdir: Path, images: str | None, quiet: bool):
        self.name, self.scale, self.workdir, self.images, self.quiet = name, scale, workdir, images, quiet
        self.rows: list[dict[str, Any]] = []
        self.report: Path | None = None
        self._pictures: list[tuple[str, Path]] = []
        self._notes: list[str] = []
        self._runs: list[tuple[str, float, int]] = []
        self._planned = 0

    @property
    def so_far(self) -> str:
        """What there is already, in words; "" for nothing."""
        there = {"run": len(self._runs), "picture": len(self._pictures), "row": len(self.rows)}
        return ", ".join(f"{n} {what}{'s' * (n > 1)}" for what, n in there.items() if n)

    @property
    def passed(self) -> bool:
        """Whether every judged row holds; nothing is judged at smoke scale."""
        return all(r["pass"] is not False for r in self.rows)

    def by_scale(self, smoke: Any, small: Any, paper: Any) -> Any:
        """One of three values, by the scale."""
        return {"smoke": smoke, "small": small, "paper": paper}[self.scale]

    def source(self) -> list[str]:
        """The override that makes --images a config's data, for figures that train on a set of pictures; [] without.

        Raises:
          UserError: one picture is no set.
        """
        if not self.images:
            return []
        if self.images.startswith("builtin:"):
            return [f"data.source={self.images}"]
        if not Path(self.images).is_dir():
            raise UserError(f"{self.name} trains on a set of pictures and --images {self.images} is one file; give a"
                            " folder of pictures, builtin:photos or builtin:digits")
        return [f"data.source=folder:{self.images}"]

    def plan(self, runs: int) -> None:
        """Says how many runs are to come, for the "run 2 of 5" lines."""
        self._planned = runs

    def train(self, case: str, config: str, overrides: Iterable[str] = ()) -> Result:
        """Trains `config` with `overrides` in `runs/<case>`, or takes up what is there.

        At smoke scale the config's smoke form is trained.

        Raises:
          Preempted: a signal ended the run; it is saved, and the same command goes on.
        """
        loaded = config_lib.load(config)
        overrides = list(overrides)
        if self.scale == "smoke":
            keep = [o for o in overrides if not o.startswith(("train.", "data.size"))]
            loaded = config_lib.smoke(config_lib.override(loaded, keep))
            overrides = keep
        else:
            loaded = config_lib.override(loaded, overrides)
        folder = RunFolder(self.workdir / "runs" / re.sub(r"[^\w.=-]+", "_", case))
        number = f"run {len(self._runs) + 1}" + (f" of {self._planned}" if self._planned else "")
        log.info("%s: %s (%s)", number, case, config)
        words = ["python", "launch.py", "train", "--config", config]
        words += ["--smoke"] if self.scale == "smoke" else []
        by = MadeBy(shlex.join(words + [f"--config.{o}" for o in overrides]), config)
        outcome = train_lib.train(loaded, str(folder.path), self.quiet, by=by)
        if outcome.preempted:
            raise train_lib.Preempted(f"{case}: interrupted and saved at step {outcome.step}")
        self._runs.append((case, outcome.seconds, outcome.step))
        opened = OpenedRun(folder.path, tell=False)
        return Result(folder, opened.experiment, opened.variables, outcome.metrics, outcome.seconds)

    def row(self, case: str, metric: str, got: float, expected: float | None, tolerance: float = 0.0,
            source: str = "", relation: Relation = "within", judge: bool = True) -> None:
        """Records expected against got.

        Args:
          case: picture and setting.
          metric: name and unit, e.g. "PSNR [dB]".
          got: what this run reached.
          expected: the number to compare with; None records without comparing.
          tolerance: allowed difference, in the metric's unit.
          source: where the expected number comes from.
          relation: "within" the tolerance, or "at_least" / "at_most" the expected value (less or plus the tolerance).
          judge: False shows the expected number without passing or failing.
        """
        ok = None
        if expected is not None and judge and self.scale != "smoke":
            ok = {"within": abs(got - expected) <= tolerance, "at_least": got >= expected - tolerance,
                  "at_most": got <= expected + tolerance}[relation] and bool(np.isfinite(got))
        self.rows.append({"case": case, "metric": metric, "got": float(got),
                          "expected": None if expected is None else float(expected), "tolerance": float(tolerance),
                          "relation": relation, "pass": None if ok is None else bool(ok), "source": source})

    def picture(self, name: str, image: np.ndarray | bytes, caption: str = "") -> Path:
        """Keeps a PNG (an array [H,W,C], or PNG bytes) as `name`.png."""
        path = self.workdir / f"{name}.png"
        if isinstance(image, bytes):
            write_file(path, image)
        else:
            save_png(path, image)
        self._pictures.append((caption or name, path))
        return path

    def note(self, text: str) -> None:
        """A sentence for the report: what was run, what is smaller than the paper."""
        self._notes.append(text)

    def finish(self, about: str, seconds: float) -> None:
        """Writes figure.json and report.html."""
        rows = [{k: (None if isinstance(v, float) and not np.isfinite(v) else v) for k, v in r.items()}
                for r in self.rows]
        write_file(self.workdir / "figure.json", json.dumps(
            {"figure": self.name, "scale": self.scale, "seconds": seconds, "environment": environment(),
             "rows": rows}, indent=2) + "\n")
        verdict = "done" if not any(r["pass"] is not None for r in rows) else "pass" if self.passed else "fail"
        page = Report(self.name, f"python launch.py reproduce {self.name} --scale {self.scale}", status=verdict)
        page.notebook(about)
        page.text("\n\n".join(self._notes))
        for caption, path in self._pictures:
            page.images([Panel(path.read_bytes(), caption=caption)], columns=1)
        for film in sorted(self.workdir.glob("*.gif")):
            page.images([Panel(film.read_bytes(), caption=film.name)], columns=1)
        if rows:
            page.section("Expected against got").rows(rows)
        if self._runs:
            page.section("Runs").table([[c, f"{s:.1f}", n] for c, s, n in self._runs], ["run", "seconds", "steps"])
        page.section("Environment").table(environment().items(), ["what", "value"])
        self.report = page.save(self.workdir / "report.html")


def load_figure(name: str, arg: str = "") -> tuple[Callable[[FigureRun], None], bool, list[str]]:
    """The `run` function of a figure, with its structural arguments filled in; whether it takes --images; the names of
    its arguments.

    Raises:
      UserError: no such figure or argument; names the nearest.
    """
    inspect.check_figure(name)
    module = config_lib.load_module(inspect.EXPERIMENTS / f"{name}.py")
    draw = config_file.with_arguments(module.run, arg)
    return draw, getattr(module, "IMAGES", False), list(draw.keywords)


def reproduce(name: str, scale: Scale, workdir: str | None, images: str | None, quiet: bool) -> FigureRun:
    """Runs a figure, "family/name" or "family/name:key=value,...", and returns the finished `FigureRun`; `text` says
    where its report is."""
    name, arg = inspect.check_figure(name)
    draw, takes_images, more = load_figure(name, arg)
    builtin = images is not None and images.startswith("builtin:")
    if images is not None and not builtin and not Path(images).exists():
        raise UserError(f"--images {images} does not exist; give a picture or a folder of pictures, or"
                        " builtin:photos/NAME")
    if images is not None and not takes_images:
        known = f" (its arguments: {', '.join(more)})" if more else ""
        raise UserError(f"{name} does not read --images; leave it away{known}")
    # Pictures of one's own, and arguments, have a folder of their own: a run never goes on with another picture.
    own = "-" + re.sub(r"[^\w.=-]+", "_", images if builtin else Path(images).resolve().stem) if images else ""
    own += "-" + hashlib.sha1(arg.encode()).hexdigest()[:6] if arg else ""
    folder = Path(workdir) if workdir else Path("runs") / "figures" / f"{name.replace('/', '-')}-{scale}{own}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"cannot write {folder}: {e.strerror or e}; choose another --workdir") from None
    began = time.time()
    fig = FigureRun(f"{name}:{arg}" if arg else name, scale, folder, images, quiet)
    with waiting(lambda: f"drawing {fig.name}" + (f" (so far {fig.so_far})" if fig.so_far else "")):
        draw(fig)
    fig.finish(config_file.notebook(inspect.EXPERIMENTS / f"{name}.py"), time.time() - began)
    return fig


def text(fig: FigureRun) -> str:
    """The rows for people, and where the report is."""
    lines = []
    if fig.rows:
        wide = max(len(f"{r['case']} {r['metric']}") for r in fig.rows)
        for r in fig.rows:
            expected, verdict = "", {True: "pass", False: "FAIL", None: ""}[r["pass"]]
            if r["expected"] is not None:
                text = {"within": f"{number(r['expected'])} +-{r['tolerance']:g}",
                        "at_least": f"at least {number(r['expected'] - r['tolerance'])}",
                        "at_most": f"at most {number(r['expected'] + r['tolerance'])}"}[r["relation"]]
                expected, verdict = f"expected {text}", verdict or "not judged"
            name = f"{r['case']} {r['metric']}"
            lines.append(f"{name:{wide}}  got {number(r['got'])}  {expected}  {verdict}".rstrip())
    lines.append(f"report: {fig.report.resolve()}")
    return "\n".join(lines)
