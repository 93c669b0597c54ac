"""What GIRAFFE's generator lets one do with a scene: objects turned, moved, recoloured, added; the camera; the ground.

Niemeyer and Geiger 2021 (arXiv:2011.12100), figures 1, 5, 6 and 8: nothing but unposed pictures is given, and yet
every object has a place, a shape and an appearance of its own. The rows are those of `sample RUN --control NAME`, with
the authors' settings. At small scale the generator learns two objects of the ray tracer at 32 x 32 for what two cores
give in 20 minutes; at paper scale two objects and cars at 64 x 64.

    python launch.py reproduce giraffe/controls
    python launch.py reproduce giraffe/controls:given=runs/two     # of a finished run
"""

import functools
import inspect
import logging
from typing import Any

import numpy as np

from genjax.core import rng as rng_lib
from genjax.core.figure import FigureRun
from genjax.core.snapshot import OpenedRun
from genjax.errors import UserError
from genjax.fields import disentangle
from genjax.fields.task import Giraffe
from genjax.viz.video import save_film

log = logging.getLogger("genjax")

CAPTIONS = {
    "object_rotation": "Object rotation: boxes turn about themselves",
    "camera_elevation": "Camera elevation: through the prior's range",
    "depth_translation": "Depth translation: one box comes nearer, the others stay",
    "horizontal_translation": "Horizontal translation: one box moves from left to right, the others stay",
    "appearance": "Appearance: the objects' appearance codes change, shapes and poses stay",
    "shape": "Shape: the objects' shape codes change, appearances and poses stay",
    "background": "Background: its appearance code changes, objects stay",
    "circular": "Circular translation: one box goes round, the others stay",
    "add_objects": "Adding objects: one after another, more than there ever were in training",
    "layers": "Samples taken apart: image, depth (near is bright), each object's opacity, the background's share",
}

MEASURES = {
    "motion_slope": "motion found / motion asked for",
    "motion_found": "share of motions found",
    "motion_error": "median error of the motion [pixels]",
    "move_colour": "change of the moved object's colour",
    "move_outside": "change elsewhere when an object moves",
    "appearance_colour": "change of colour with another appearance",
    "appearance_outside": "change elsewhere with another appearance",
    "shape_outside": "change elsewhere with another shape",
    "objects_seen": "share of scenes in which the object is seen",
}


def run(fig: FigureRun, given: str = "") -> None:
    """Trains on scenes of the ray tracer, or takes the run `given`, and draws every control."""
    if given:
        opened = OpenedRun(given)
        task = opened.task
        if not isinstance(task, Giraffe):
            raise UserError(f"given={given} is a run of {type(task).__name__}; name one of fields/giraffe")
        _rows(fig, "", task, opened.variables)
        _disentangled(fig, given, opened.config.data.get("source", ""), task, opened.variables)
        return
    cases = {"two": "fields/giraffe:small", "cars": "fields/giraffe:data=cars"}
    if fig.scale != "paper":
        del cases["cars"]
    else:
        cases["two"] = "fields/giraffe"
    fig.plan(len(cases))
    for name, config in cases.items():
        result = fig.train(name, config, ["train.preview_every=0"] if fig.scale == "smoke" else [])
        prefix = f"{name}_" if len(cases) > 1 else ""
        _rows(fig, prefix, result.experiment.task, result.variables)
        _disentangled(fig, name, result.folder.config().data.source, result.experiment.task, result.variables)
        sheet = result.folder.outputs / "samples.png"
        if sheet.exists():
            fig.picture(f"{prefix}samples", sheet.read_bytes(), "Uncurated samples")


def _rows(fig: FigureRun, prefix: str, task: Any, variables: dict[str, Any]) -> None:
    """Every control of the task as a strip and a film."""
    rng = rng_lib.stream(0, "sample")
    offered = task.controls()
    few = {"steps": 2, "codes": 2} if fig.scale == "smoke" else {}
    names = fig.by_scale(("horizontal_translation", "appearance", "layers"), CAPTIONS, CAPTIONS)
    for name in (n for n in names if n in offered):
        options = {k: v for k, v in few.items() if k in inspect.signature(offered[name]).parameters}
        log.info("control %s", name)
        for key, x in offered[name](variables, rng, **options).items():
            if np.ndim(x) == 3:
                fig.picture(prefix + key, x, CAPTIONS[key])
            else:
                film = save_film(fig.workdir / (prefix + key), x)
                fig.note(f"`{film.name}`: {CAPTIONS[name].split(':')[0].lower()} as a film, {len(x)} frames.")


def _disentangled(fig: FigureRun, name: str, source: str, task: Any, variables: dict[str, Any]) -> None:
    """How far pictures do what is asked, beside a perfect generator's scenes and beside scenes of no relation."""
    n, key = fig.by_scale(4, 64, 256), rng_lib.stream(0, "eval")
    worlds = {"GIRAFFE": lambda: disentangle.GiraffeWorld(task, variables, key, n)}
    if source.startswith("builtin:scenes/") and fig.scale != "smoke":
        drawn = functools.cache(lambda: disentangle.DrawnWorld(source.rpartition("/")[2], n, task.generator.size))
        worlds |= {"a perfect generator": drawn, "chance": lambda: disentangle.Shuffled(drawn())}
    for world, make in worlds.items():
        try:
            found = disentangle.measure(make(), key)
        except UserError as e:  # so few scenes may have no room for a move, and some presets have no objects
            fig.note(f"{name}, {world}: {e}")
            continue
        for what, label in MEASURES.items():
            if what in found and np.isfinite(found[what]):
                fig.row(f"{name}, {world}", label, found[what], None)
