"""A run's `report.html`: one self-contained file that says what was run, how it went and what came out."""

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from genjax.core import best as best_lib
from genjax.core import config as config_lib
from genjax.core import made_by, origin, record, snapshot
from genjax.core import run as run_lib
from genjax.core.run import RunFolder
from genjax.errors import UserError
from genjax.metrics.recipe import Value
from genjax.viz import jsonl
from genjax.viz.grid import Panel
from genjax.viz.report import Report, number

_SHOWN_IMAGES = 8
_SHOWN_OUTPUTS = 24
_SHOWN_EVALUATIONS = 12


def changes(config: ConfigDict) -> list[tuple[str, Any, Any]]:
    """What a config sets against the defaults of its own targets: (key, default, value); None where required."""
    found = []
    for key, value in config_lib.flatten(config).items():
        *path, last = key.split(".")
        here = config
        for p in path:
            here = here[p]
        field = config_lib.schema(here.target).get(last) if "target" in here else None
        if field is None:
            continue
        required = field.default is inspect.Parameter.empty
        if required or value != field.default:
            found.append((key, None if required else repr(field.default), repr(value)))
    return found


def _environment(folder: RunFolder) -> dict[str, Any]:
    """What the finished run trained on; before there is a snapshot, what this process runs on."""
    try:
        with np.load(folder.newest_snapshot(), allow_pickle=False) as file:
            return json.loads(bytes(file["__meta__"]))["environment"]
    except Exception:  # no snapshot, or whatever zip, numpy and json raise on a damaged one
        return run_lib.environment()


def _measured(page: Report, folder: RunFolder, rows: list[dict[str, Any]], info: dict[str, Any]) -> None:
    """The metrics that say how they were measured: the run's last ones, the last ones of recipes before, and what the
    verb `eval` found later."""
    last = info.get("metrics") or next((r for r in reversed(rows) if r.get("kind") == "eval"), {})
    step = info.get("step", last.get("step"))
    newest = record.recipes(folder, last)
    table = [_provenance(step, v) for v in newest.values()]
    table += [_provenance(at, v) for at, v in record.by_recipe(folder) if v not in newest.values()]
    later = folder.path / snapshot.EVALUATIONS
    plain = [{"step": r.get("step"), "snapshot": r.get("snapshot")} | {
        k: v for k, v in r.items() if isinstance(v, float) and k not in ("step", "seconds", *(r.get("recipes") or {}))}
        for r in (jsonl.read(later)[-_SHOWN_EVALUATIONS:] if later.exists() else ())]
    if any(len(r) > 2 for r in plain):
        page.section("Evaluated afterwards").text("By `launch.py eval`: a row for each metric.")
        page.table([{"metric": k, "value": v, "step": r["step"], "snapshot": r["snapshot"]}
                    for r in plain for k, v in r.items() if k not in ("step", "snapshot")])
    for row in jsonl.read(later)[-_SHOWN_EVALUATIONS:] if later.exists() else ():
        table += [_provenance(row.get("step"), v) for v in record.values(row.get("recipes") or {}).values()]
    if table:
        page.section("Metrics").text("Only numbers of one recipe are comparable.")
        page.table(list({json.dumps(row): row for row in table}.values()))


def evaluations(rows: list[dict[str, Any]]) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """{metric: {recipe: (steps, values)}} of those evaluated more than once: a line for each recipe, which has a gap
    where another one came between its values."""
    found = {}
    for name, (steps, values) in jsonl.columns(rows).items():
        of = [str((r.get("recipes") or {}).get(name, "")) for r in rows if isinstance(r.get(name), (int, float))]
        if len(steps) > 1 and len(of) == len(steps):
            found[name] = {f"{name} [{i}]" if i else name: (steps, np.where([i == o for o in of], values, np.nan))
                           for i in dict.fromkeys(of)}
    return found


def _provenance(step: int | None, value: Value) -> dict[str, Any]:
    r = value.recipe
    spread = {} if value.std is None else {"±": value.std}
    own = ", ".join(f"{k} {v}" for k, v in r.parameters)
    return {"metric": r.name, "value": float(value), **spread, "at step": step, "network": r.network or "none",
            "weights": r.weights[:12], "resize": r.resize if r.network else "", "generated": r.n_fake, "real": r.n_real,
            "of": r.reals, "arithmetic": r.dtype, "8 bits": r.uint8, "parameters": own, "recipe": r.id}


def _inputs(config: ConfigDict) -> list[Panel]:
    """What a restoration began with: the degraded picture, its mask where it has holes, and the clean one if known."""
    if not config.data.target.startswith("genjax.data.restoration."):
        return []
    try:
        batch = config_lib.build(config.data, config).batch(0)
    except (UserError, OSError):  # the picture is no longer there
        return []
    names = [n for n in ("observed", "mask", "clean") if n in batch and not (n == "mask" and batch[n].min() == 1)]
    return [Panel(np.clip(np.asarray(batch[n][i]), 0, 1), caption=n) for i in range(min(4, len(batch["observed"])))
            for n in names]


def write(run: str | Path) -> Path:
    """Assembles the report of a run folder; returns its path."""
    folder = RunFolder(run)
    config = folder.config()
    state, info = folder.standing()
    rows = jsonl.read(folder.metrics_file) if folder.metrics_file.exists() else []
    speeds = [r["steps_per_second"] for r in rows if r.get("kind") == "speed"]
    if info.get("steps_per_second"):
        speeds = speeds or [info["steps_per_second"]]
    facts = {"steps": info.get("step", rows[-1]["step"] if rows else 0)}
    took = made_by.seconds(folder.path) or ((info["seconds"], 1) if info.get("seconds") else None)
    if took:
        facts["seconds" if took[1] == 1 else f"seconds in {took[1]} starts"] = took[0]
    if speeds:
        facts["steps / s (median)"] = sorted(speeds)[len(speeds) // 2]
    page = Report(folder.path.name, config.task.target, status=state)
    if best := best_lib.kept(folder):
        facts[f"best {best['best']['metric']} (step {best['step']})"] = best["best"]["value"]
    page.facts(facts | info.get("metrics", {}))
    made = made_by.read(folder.path)
    page.notebook(made.get("notebook", ""))
    said = [made.get("command"), *(leg.get("command") for leg in made.get("legs", ()))]
    commands = list(dict.fromkeys(filter(None, said)))
    if commands:
        page.code("\n".join(commands), "made by" if len(commands) == 1 else "made by, start after start")
    if info.get("reason"):
        page.text(f"Reason: {info['reason']}")
    if begun := origin.begun_from(folder):
        page.text(f"This run was {origin.text(begun)}.")
    for n, line in enumerate(origin.data_lines(folder)):
        (page if n else page.section("Data")).text(line)
    if inputs := _inputs(config):
        page.section("Input").images(inputs)
    _measured(page, folder, rows, info)
    pictures = sorted(folder.samples.glob("*.png"))
    if pictures:
        step = max(1, len(pictures) // _SHOWN_IMAGES)
        page.section("Samples")
        page.images([Panel(p.read_bytes(), caption=p.stem) for p in pictures[::-1][::step][:_SHOWN_IMAGES]], columns=1)
    results, outputs = folder.results(), sorted(folder.outputs.glob("*.png"))
    if outputs:
        page.section("Outputs").text(f"Kept pixel for pixel in `{folder.outputs}`.")
        page.text("\n\n".join(info.get("remarks", ())))
        page.images([Panel(p.read_bytes(), caption=p.name) for p in results[:_SHOWN_IMAGES]], columns=1)
        page.images([Panel(p.read_bytes(), caption=p.name) for p in outputs if p not in results[:_SHOWN_IMAGES]]
                    [:_SHOWN_OUTPUTS])
    curves = jsonl.columns([r for r in rows if r.get("kind") == "train"])
    moving = {name: xy for name, xy in curves.items() if len(set(xy[1])) > 1}
    if moving:
        page.section("Curves")
        page.curves(*[{"series": {name: xy}, "title": name, "xlabel": "step", "logy": name == "loss"}
                      for name, xy in moving.items() if name != "stop"])
    evaluated = evaluations([r for r in rows if r.get("kind") == "eval"])
    if evaluated:
        page.section("Evaluations")
        if any(r.get("recipes") for r in rows):
            page.text("A line is of one recipe, whose id it names (see Metrics); lines of two are not comparable.")
        page.curves(*[{"series": series, "title": name, "xlabel": "step", "markers": True}
                      for name, series in evaluated.items()])
    constant = {name: xy[1][0] for name, xy in curves.items() if name not in moving and name != "stop"}
    if constant:
        page.text("Constant throughout: " + ", ".join(f"{name} {number(v)}" for name, v in constant.items()) + ".")
    page.section("Config").text("What this run sets against the defaults of the classes it builds; the config file "
                                "sets most of it (`launch.py show`).")
    page.diff(changes(config), ("class default", "this run"))
    page.code(config_lib.to_json(config), "the whole config", folded=True)
    page.section("Environment").table(_environment(folder).items(), ["what", "value"])
    return page.save(folder.report)
