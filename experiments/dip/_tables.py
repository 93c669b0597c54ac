"""What the tables of Deep Image Prior share: pictures and their names in the paper, columns, rows and the sheet.

A table has a row per picture and a column per method. A column comes from a classical method (`Baseline`) or from a run
(`Run`); `draw` trains what is missing, scores everything with one rule, records got against expected for every picture
the paper names too, and the averages, and draws the restored pictures side by side.

At small scale up to four pictures, resampled to equal size, train as ONE batch of independent networks; at paper scale
each trains alone, at its own size, so that an interrupted table goes on with the next picture.
"""

import dataclasses
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from genjax.core.figure import FigureRun
from genjax.data.images import list_images
from genjax.dip import baselines
from genjax.errors import UserError
from genjax.viz.atomic import write_file
from genjax.viz.grid import Panel, sheet

TOGETHER = 4  # pictures per batch at small scale
SHOWN = 16  # rows of the sheet
CUT = "data.crop_multiple=32"  # the pictures of the papers' tables are cut so


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture of a table: its spec (file or builtin), a name of its own, its name in the paper or "", and overrides
    of the config for it where it trains alone."""

    spec: str
    name: str
    known: str = ""
    overrides: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A column made by `genjax.dip.baselines`.

    Attributes:
      title: of the column.
      method: key of `baselines.METHODS`.
      expected: the paper's numbers, by the paper's names of the pictures.
      tolerance: allowed difference for one picture, in dB; 0 shows the expected number without judging.
    """

    title: str
    method: str
    expected: Mapping[str, float] = dataclasses.field(default_factory=dict)
    tolerance: float = 0.0


@dataclasses.dataclass(frozen=True)
class Run:
    """Columns made by training: `config` and `overrides` (the same at every scale), the output it shows per title.

    Attributes:
      case: name of the run folders.
      config: without its structural argument `small`, which the scale decides.
      outputs: column title -> key of `DeepImagePrior.outputs`.
      overrides: of the config.
      expected, tolerance: as for `Baseline`, for the first title.
      unjudged: names whose expected number is shown but not judged.
    """

    case: str
    config: str
    outputs: Mapping[str, str]
    overrides: tuple[str, ...] = ()
    expected: Mapping[str, float] = dataclasses.field(default_factory=dict)
    tolerance: float = 0.0
    unjudged: tuple[str, ...] = ()

    def spec(self, fig: FigureRun) -> str:
        """The config with its argument: the preset `small` below paper scale."""
        if fig.scale == "paper":
            return self.config
        return self.config + ("," if ":" in self.config else ":") + "small"


@dataclasses.dataclass
class _Column:
    """A column's expectations, and what was found: picture name -> (image, dB)."""

    expected: Mapping[str, float]
    tolerance: float
    unjudged: tuple[str, ...] = ()
    found: dict[str, tuple[np.ndarray, float]] = dataclasses.field(default_factory=dict)

    def average(self, pictures: Sequence[Picture]) -> float:
        return float(np.mean([self.found[p.name][1] for p in pictures]))


def one_picture(fig: FigureRun, default: str) -> str:
    """The picture of a figure that draws only one: --images when it names a file, or the default.

    Raises:
      UserError: --images names a folder.
    """
    if fig.images and Path(fig.images).is_dir():
        raise UserError(f"{fig.name} draws one picture, but --images {fig.images} is a folder; name a file in it")
    return fig.images or default


def paper_name(name: str, known: Iterable[str], aliases: Mapping[str, str]) -> str:
    """The name a picture has in the paper's table, or "".

    Case, punctuation and endings such as _GT, 512 or color do not matter: "Lena512_GT" is "lena".

    Args:
      name: file name without its suffix.
      known: the paper's names.
      aliases: other usual names -> the paper's.
    """
    def bare(text):
        return re.sub(r"[^a-z0-9]", "", text.lower())

    names = {bare(k): k for k in known} | {bare(a): k for a, k in aliases.items()}
    text = bare(name)
    while text not in names:
        shorter = re.sub(r"(gt|hr|256|512|colou?r|gr[ae]y)$", "", text)
        if shorter in ("", text):
            return ""
        text = shorter
    return names[text]


def pictures(fig: FigureRun, builtin: Sequence[str], known: Iterable[str] = (),
             aliases: Mapping[str, str] | None = None) -> list[Picture]:
    """The table's pictures: the file or folder --images names, else builtin photographs (no paper has numbers on them).

    At smoke scale the first: alone it shares its compiled program with the other figures.
    """
    if not fig.images:
        found = [Picture(f"builtin:photos/{n}", n) for n in builtin]
    else:
        folder = Path(fig.images).is_dir()
        files = [str(p) for p in list_images(fig.images)] if folder else [fig.images]
        taken: set[str] = set()
        found = []
        for file in files:
            stem = Path(file).stem
            name = next(n for n in (stem, *(f"{stem}-{i}" for i in range(2, 10**6))) if n not in taken)
            taken.add(name)
            found.append(Picture(file, name, paper_name(stem, known, aliases or {})))
    return found[:1] if fig.scale == "smoke" else found


def batches(fig: FigureRun, found: Sequence[Picture]) -> list[list[Picture]]:
    """Pictures that train together; a path with a comma cannot stand in a list, so it stays alone."""
    together = fig.by_scale(TOGETHER, TOGETHER, 1)
    plain, alone = [p for p in found if "," not in p.spec], [p for p in found if "," in p.spec]
    return [plain[i:i + together] for i in range(0, len(plain), together)] + [[p] for p in alone]


def baseline(fig: FigureRun, method: str, data, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """A classical restoration, kept under baselines/ because some take minutes; [H,W,C].

    The file's name is a digest of everything the result depends on, the source of the methods too.
    """
    digest = hashlib.sha256(Path(baselines.__file__).read_bytes())
    digest.update(f"{method} {data.problem} {data.factor} {data.sigma} {arrays['observed'].shape}".encode())
    digest.update(arrays["observed"].tobytes() + arrays["mask"].tobytes())
    file = fig.workdir / "baselines" / f"{method}-{digest.hexdigest()[:20]}.npy"
    if file.exists():
        return np.load(file)
    sigma = data.sigma if data.problem == "denoise" else None
    made = baselines.run(method, arrays["observed"], mask=arrays["mask"], problem=data.problem, factor=data.factor,
                         sigma=sigma)
    out = io.BytesIO()
    np.save(out, made)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_file(file, out.getvalue())
    return made


def draw(fig: FigureRun, name: str, found: Sequence[Picture], methods: Sequence[Baseline | Run], *,
         score: Callable[[np.ndarray, np.ndarray], float], metric: str, source: str, title: str,
         beat: tuple[str, str, float], average_tolerance: float = 0.5,
         paper_average: tuple[float, float, str] | None = None) -> None:
    """Fills one table and draws its sheet.

    Args:
      fig: the figure.
      name: of the PNG, and start of the run folders' names.
      found: its pictures.
      methods: its columns, from left to right; at least one `Run`.
      score: (restored, clean) -> dB, both [H,W,C] in [0,1].
      metric: what `score` gives, for the rows.
      source: where the expected numbers come from.
      title: headline of the sheet.
      beat: (column, other column, dB): the first's average must exceed the other's by so much.
      average_tolerance: of the averages, in dB.
      paper_average: (dB, tolerance, source) the first run's average is held against, when exactly the paper's pictures
        are there (for fewer the mean of their expected numbers is shown, not judged); None judges the mean.
    """
    columns: dict[str, _Column] = {}
    clean: dict[str, np.ndarray] = {}

    def fill(column, picture, image):
        columns[column].found[picture.name] = (image, float(score(image, clean[picture.name])))

    runs = [m for m in methods if isinstance(m, Run)]
    for m in methods:  # the order of the sheet
        if isinstance(m, Run):
            for i, text in enumerate(m.outputs):
                columns[text] = _Column(*((m.expected, m.tolerance, m.unjudged) if i == 0 else ({}, 0.0)))
        else:
            columns[m.title] = _Column(m.expected, m.tolerance)
    for number, group in enumerate(batches(fig, found), 1):
        specs = ",".join(p.spec for p in group)
        for run in runs:
            case = f"{name} {run.case} {group[0].name}" + (f" and {len(group) - 1} more, batch {number}"
                                                           if len(group) > 1 else "")
            own = group[0].overrides if len(group) == 1 else ()
            result = fig.train(case, run.spec(fig), [f"image={specs}", CUT, *run.overrides, *own])
            data = result.experiment.data
            batch = data.batch(0)
            restored = result.experiment.task.outputs(result.variables)
            for i, picture in enumerate(group):
                clean[picture.name] = batch["clean"][i]
                for text, key in run.outputs.items():
                    fill(text, picture, restored[key][i])
        for i, picture in enumerate(group):
            arrays = {k: v[i] for k, v in batch.items()}
            for m in methods:
                if isinstance(m, Baseline):
                    fill(m.title, picture, baseline(fig, m.method, data, arrays))
    _rows(fig, found, columns, metric, source, average_tolerance, paper_average, list(runs[0].outputs)[0])
    better, worse, gain = beat
    fig.row(f"{title}: {better} against {worse}", f"average {metric}", columns[better].average(found),
            columns[worse].average(found) + gain, relation="at_least",
            source=f"{worse}, measured here" + (f", plus {gain:g} dB" if gain else ""))
    fig.picture(name, _sheet(fig, found, columns, clean, title), title)


def _rows(fig, found, columns, metric, source, average_tolerance, paper_average, first_run) -> None:
    """A row per picture and column, then the averages."""
    comparable = fig.scale == "paper"
    if not comparable:
        source += f", at full size; not judged at {fig.scale} scale"
    for p in found:
        for text, column in columns.items():
            expected = column.expected.get(p.known)
            judge = comparable and column.tolerance > 0 and p.known not in column.unjudged
            fig.row(f"{p.name}, {text}", metric, column.found[p.name][1], expected, column.tolerance,
                    source if expected is not None else "", judge=judge)
    for text, column in columns.items():
        known = {p.known for p in found} & set(column.expected)
        expected = np.mean([column.expected[k] for k in known]) if len(known) == len(found) else None
        tolerance, from_where, judge = average_tolerance, source, comparable and column.tolerance > 0
        if paper_average and text == first_run:
            if expected is not None and known == set(column.expected):
                expected, tolerance, from_where = paper_average
            else:
                judge = False
        fig.row(f"average of {len(found)}, {text}", metric, column.average(found), expected, tolerance,
                from_where if expected is not None else "", judge=judge)


def _sheet(fig, found, columns, clean, title) -> np.ndarray:
    """The restored pictures, a row each, with dB below and averages above."""
    def caption(column, p):
        expected = column.expected.get(p.known) if fig.scale == "paper" else None
        return f"{column.found[p.name][1]:.2f} dB" + (f" (paper {expected:.2f})" if expected is not None else "")

    rows = [[Panel(clean[p.name], "", p.name)] + [Panel(c.found[p.name][0], "", caption(c, p))
                                                   for c in columns.values()] for p in found[:SHOWN]]
    labels = ["truth"] + [f"{text}\naverage {c.average(found):.2f} dB" for text, c in columns.items()]
    return sheet(rows, title=title, column_labels=labels, panel_height=fig.by_scale(128, 192, 256))
