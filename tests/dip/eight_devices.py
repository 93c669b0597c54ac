"""Run in a process of its own with 8 CPU devices; prints what test_task_sharded.py asserts, as JSON.

    JAX_NUM_CPU_DEVICES=8 python -m tests.dip.eight_devices FOLDER
"""

import json
import re
import sys
from pathlib import Path

import jax
import numpy as np

from genjax.core import config as config_lib
from genjax.core.checkpoint import Checkpoints, digest
from genjax.core.experiment import Programs

STEPS = 4


def config(pictures=8, devices=8):
    """A tiny denoising experiment of several pictures."""
    names = ",".join(["builtin:photos/astronaut", "builtin:photos/chelsea"] * 4).split(",")[:pictures]
    found = config_lib.smoke(config_lib.load("dip/denoise"))
    return config_lib.override(found, [
        f"image={','.join(names)}", f"mesh.data={devices}", "data.size=16", "task.network.channels_down=4",
        "task.network.channels_up=4", "task.network.need1x1_up=False", "task.es_window=3", "task.backtrack_every=2",
        f"train.steps_per_call={STEPS}"])


def fit(pictures, devices, *overrides):
    """`(programs, state, metrics)` after STEPS steps."""
    programs = Programs(config_lib.build(config_lib.override(config(pictures, devices), overrides)))
    state, metrics = programs.step(programs.init(), programs.put(0, STEPS), STEPS)
    return programs, state, jax.tree.map(np.asarray, metrics)


def collectives(text):
    """`[kind, elements]` of every collective in an HLO text."""
    found = []
    for line in text.splitlines():
        kind = re.search(r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(-start)?\(", line)
        if kind:
            shapes = re.findall(r"\w+\[([\d,]*)\]", line[: kind.start()])
            found.append([kind[1], max(int(np.prod([int(d) for d in s.split(",") if d])) for s in shapes)])
    return found


def main(folder):
    """Everything that needs the eight devices."""
    jax.config.update("jax_compilation_cache_dir", f"{folder}/xla")  # the step is compiled once more, to be read
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    programs, state, metrics = fit(8, 8)
    one, alone, expected = fit(8, 1)
    leaves = [x for x in jax.tree.leaves(state) if x.ndim]
    per_device = [{s.data.shape[0] for s in x.addressable_shards} for x in leaves]
    pictures = {k: (state.extra[k], alone.extra[k]) for k in ("ema", "z")}
    pictures |= {k: (state.extra[k]["output"], alone.extra[k]["output"]) for k in ("best", "early")}
    outputs = [p.experiment.task.outputs(p.experiment.task.export(s)) for p, s in ((programs, state), (one, alone))]
    pictures |= {f"output {k}": (outputs[0][k], outputs[1][k]) for k in outputs[0]}
    saver = Checkpoints(Path(folder) / "checkpoints")
    saver.save(state)
    saver.close()
    pixels = "task.network.target=genjax.dip.other_networks.Pixels"  # where the network does not matter
    (_, lone, many), (_, _, single) = fit(1, 8, pixels), fit(1, 1, pixels)
    print(json.dumps({
        "devices": len(jax.devices()),
        "rows_per_device": sorted({n for rows in per_device for n in rows}),
        "devices_per_leaf": sorted({len({s.device for s in x.addressable_shards}) for x in leaves}),
        "differences": {k: float(abs(np.asarray(a) - np.asarray(b)).max()) for k, (a, b) in pictures.items()},
        "loss": [metrics["loss"].tolist(), expected["loss"].tolist()],
        "collectives": collectives(programs.lower().compile().as_text()),
        "digest": digest(state),
        "lone_replicated": all(x.sharding.is_fully_replicated for x in jax.tree.leaves(lone)),
        "lone_loss": [many["loss"].tolist(), single["loss"].tolist()],
    }))


if __name__ == "__main__":
    main(sys.argv[1])
