"""A run's `report.html`: one self-contained file that says what was run, how it went and what came out."""

from pathlib import Path

from genjax.core import config as config_lib
from genjax.core import run as run_lib
from genjax.core.run import RunFolder
from genjax.viz import jsonl
from genjax.viz.report import Report

_SHOWN_IMAGES = 8


def _parent(folder: RunFolder):
    """The defaults of the experiment's own targets: what the run's config changes against them is its story."""
    config = folder.config()
    bare = {k: v for k, v in config_lib.flatten(config).items()}
    changed = {}
    for key, value in bare.items():
        *path, last = key.split(".")
        node = config
        for p in path:
            node = node[p]
        if "target" not in node or last == "target":
            continue
        field = config_lib.schema(node.target).get(last)
        if field is not None and field.default is not field.default.__class__ and value != field.default:
            required = not isinstance(field.default, (bool, int, float, str, tuple, type(None)))
            changed[key] = ("(required)" if required else repr(field.default), repr(value))
    return changed


def write(run: str | Path) -> Path:
    """Assembles the report of a run folder; returns its path."""
    folder = RunFolder(run)
    config = folder.config()
    state, info = folder.state()
    page = Report(folder.path.name)
    rows = jsonl.read(folder.metrics_file) if folder.metrics_file.exists() else []
    speeds = [r["steps_per_second"] for r in rows if r.get("kind") == "speed"]
    facts = [["state", f"{state} at step {info.get('step', '?')}"], ["task", config.task.target]]
    if info.get("seconds"):
        facts.append(["seconds", f"{info['seconds']:.1f}"])
    if speeds:
        facts.append(["throughput", f"{sorted(speeds)[len(speeds) // 2]:.3g} steps/s (median)"])
    page.table(["what", "value"], facts)
    if info.get("reason"):
        page.text(f"Reason: {info['reason']}")
    if info.get("metrics"):
        page.section("Metrics at the end")
        page.table(["metric", "value"], [[k, f"{v:.4f}"] for k, v in info["metrics"].items()])
    pictures = sorted(folder.samples.glob("*.png"))
    if pictures:
        page.section("Samples")
        step = max(1, len(pictures) // _SHOWN_IMAGES)
        shown = pictures[::-1][::step][:_SHOWN_IMAGES]
        page.images([(p.stem, p.read_bytes()) for p in shown])
    curves = jsonl.columns([r for r in rows if r.get("kind") == "train"])
    if curves:
        page.section("Curves")
        page.curves(curves)
    page.section("Config: what differs from the defaults")
    changed = _parent(folder)
    page.table(["key", "default", "this run"], [[k, a, b] for k, (a, b) in changed.items()])
    page.section("Config, resolved")
    page.code(config_lib.to_json(config))
    page.section("Environment")
    page.table(["what", "value"], [[k, str(v)] for k, v in run_lib.environment().items()])
    return page.save(folder.report)
