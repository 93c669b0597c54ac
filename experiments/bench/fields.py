"""GIRAFFE's training step and rendering beside the authors' code: `bench fields:official=FOLDER`, a checkout of theirs.

    git clone https://github.com/autonomousvision/giraffe && python launch.py bench fields:official=giraffe

Both make the same step (RMSprop, R1 at every step, the generator's average, new scenes for each network) with
networks of the same sizes, and draw a batch of given scenes without noise. Theirs needs PyTorch (pip install -r
requirements-compare.txt). A last row is what somebody at the page of `play` waits for after moving a slider.
"""

import itertools
import logging
import time
from pathlib import Path
from typing import Any

import jax

from experiments.bench._play import served
from experiments.bench._step import starter, torch_device
from genjax.core import config as config_lib
from genjax.core.bench import Bench
from genjax.core.play import Stage, application
from genjax.errors import UserError

log = logging.getLogger("genjax")

GET = "git clone https://github.com/autonomousvision/giraffe"
MARK = "im2scene/giraffe/models/generator.py"  # a file of theirs

MOVES = 20  # of sliders, one after another, in a measurement of `play`
CASES = (("cars", "fields/giraffe:data=cars", 8), ("two", "fields/giraffe", 8))


def run(bench: Bench, official: str = "") -> None:
    """Fills the rows; `official` is a checkout of the authors' code, "" to leave it out."""
    if not official:
        log.info("the authors' code is left out; to measure it too: %s, and bench fields:official=giraffe", GET)
    elif not (Path(official).expanduser() / MARK).is_file():
        raise UserError(f"official={official} is not the authors' repository (it has no {MARK}); {GET}")
    on_cpu = jax.devices()[0].platform == "cpu"
    for name, spec, batch in CASES:
        loaded = config_lib.load(spec, [f"data.batch_size={batch if on_cpu else 32}", "task.preview_images=1"])
        _compare(bench, name, config_lib.smoke(loaded) if bench.smoke else loaded, official)


def _compare(bench: Bench, name: str, config: Any, official: str) -> None:
    programs, step = starter(config)
    batch, size = config.data.batch_size, config.task.generator.size
    their_step, their_draw, who = _peer(official, config, programs.abstract.params)
    task = programs.experiment.task
    variables = task.export(programs.init())
    scenes = task.draw(jax.random.split(jax.random.key(1), batch))
    what = f"{name} {size}x{size}, {config.task.boxes.boxes} object(s), {config.task.generator.samples} samples"
    bench.compare(f"GIRAFFE step {what}, batch {batch}, float32", step, their_step, who)
    bench.compare(f"GIRAFFE drawing {what}, batch {batch}, float32", lambda: task._images(variables, scenes, None),
                  their_draw, who, unit="images/s", items=batch)
    _play(bench, what, task.stage(variables))


def _play(bench: Bench, what: str, stage: Stage) -> None:
    """A slider moved and its picture had, by the page's own way: every dial's value to `/image`, a PNG back."""
    try:
        with served(application(stage, what)) as get:
            waited: list[float] = []
            moves = itertools.cycle(d for d in stage.dials if d.step < 1)
            values = stage.values({})

            def move() -> None:
                for dial in itertools.islice(moves, MOVES):
                    share = (values[dial.name] - dial.low) / (dial.high - dial.low)
                    values[dial.name] = dial.low + (share + 0.37) % 1.0 * (dial.high - dial.low)
                    began = time.perf_counter()
                    get(values)
                    waited.append(1000 * (time.perf_counter() - began))

            row = bench.compare(f"GIRAFFE play {what}", move, None, "no peer", items=MOVES)
            timed = waited[MOVES:]  # the first call compiles
            row["slowest"] = max(timed)
    except UserError as e:
        log.info("play is left out: %s", e)


def _peer(folder: str, config: Any, params: Any) -> tuple:
    """Their step and drawing, and who it is; (None, None, why not)."""
    if not folder:
        return None, None, "without official=FOLDER"
    device, why = torch_device()
    if device is None:
        raise UserError(f"the authors' code cannot run: {why}; pip install -r requirements-compare.txt")
    import torch

    from experiments.bench import _torch_giraffe

    step, draw, count = _torch_giraffe.make(Path(folder).expanduser(), config, device)
    ours = {k: sum(x.size for x in jax.tree.leaves(v)) for k, v in params.items()}
    if ours != count:
        raise ValueError(f"networks of different sizes: {ours} and theirs {count}")
    return step, draw, f"the authors' code, PyTorch {torch.__version__} eager"
