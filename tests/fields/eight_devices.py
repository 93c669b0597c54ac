"""Run by test_giraffe_sharded.py in a process of its own with 8 CPU devices; prints what it found as JSON.

    JAX_NUM_CPU_DEVICES=8 python -m tests.fields.eight_devices 1 4x2
"""

import json
import re
import shutil
import sys
import tempfile

import jax
import numpy as np

from genjax.core import config as config_lib
from genjax.core.experiment import Programs
from genjax.core.sharding import AXES

STEPS = 3
MESHES = {"1": (1, 1, 1), "8": (8, 1, 1), "4x2": (4, 1, 2)}
# Few layers, which compile quickly; and RMSprop that does not turn rounding into steps of full length.
TINY = ("data.batch_size=8", "data.image_size=16", "task.generator.size=16", "task.generator.renderer.size=16",
        "task.generator.volume_size=8", "task.generator.decoder.blocks=2", "task.generator.decoder.skips=()",
        "task.generator.background.blocks=2", "g_optimizer.eps=0.1",
        "d_optimizer.eps=0.1")


def programs(mesh):
    """GIRAFFE, tiny, 8 scenes at a time."""
    config = config_lib.smoke(config_lib.load("fields/giraffe"))
    return Programs(config_lib.build(config_lib.override(config, [
        *TINY, *(f"mesh.{axis}={n}" for axis, n in zip(AXES, mesh, strict=True))])))


def start(abstract):
    """A state to begin from, drawn here: `init` would be one more program."""
    rng = np.random.default_rng(0)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract)
    params = jax.tree.map(lambda x: rng.normal(0, 0.2, x.shape).astype(x.dtype), abstract.params)
    return zeros.replace(params=params, ema=params["generator"])


def gathers(text):
    """Numbers in each array that a program puts together from several devices' parts."""
    shapes = re.findall(r"= \w+\[([\d,]*)\]\S* all-gather", text)
    return [int(np.prod([int(d) for d in s.split(",") if d])) for s in shapes]


def main(meshes):
    """Every mesh from the same state, against one device."""
    folder = tempfile.mkdtemp()  # a step is compiled once more, to be read
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    first = start(programs(MESHES["1"]).abstract)
    metrics, params, gathered = {}, {}, {}
    for name in meshes:
        p = programs(MESHES[name])
        state, metrics[name] = jax.device_put(first, p.state_sharding), []
        for i in range(STEPS):
            state, found = p.step(state, p.put(i, 1))
            metrics[name].append({k: float(v[0]) for k, v in found.items()})
        gathered[name] = gathers(p.lower().compile().as_text()) if name != "1" else []
        params[name] = jax.tree.map(np.asarray, state.params)
    apart = {name: max(jax.tree.leaves(jax.tree.map(lambda a, b: float(np.abs(a - b).max()), params["1"], found)))
             for name, found in params.items()}
    moved = max(jax.tree.leaves(jax.tree.map(lambda a, b: float(np.abs(a - b).max()), params["1"], first.params)))
    print(json.dumps({"devices": len(jax.devices()), "metrics": metrics, "apart": apart, "moved": moved,
                      "gathered": gathered}))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
