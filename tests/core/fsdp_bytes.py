"""Run by test_fsdp_bytes.py in a process of its own with eight fake CPU devices; prints bytes per device as JSON.

For every number of devices: what the compiled step program takes and gives back, and what lies on the fullest device
before the first step and after it.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import jax  # noqa: E402

from experiments.bench._scaling_worker import bytes_of_parts, config  # noqa: E402
from genjax.core import config as config_lib  # noqa: E402
from genjax.core.experiment import Programs  # noqa: E402

PARTS = ("params", "opt_state", "ema")
RUNS = {"1": (1, "fsdp"), "2": (2, "fsdp"), "4": (4, "fsdp"), "8": (8, "fsdp"), "8 replicated": (8, "replicate")}


def placed(state) -> dict[str, int]:
    """Bytes of each part of a state on the fullest device, by the buffers that are there."""
    found = {}
    for part in PARTS:
        held = dict.fromkeys(jax.devices(), 0)
        for x in jax.tree.leaves(getattr(state, part)):
            for shard in x.addressable_shards:
                held[shard.device] += shard.data.nbytes
        found[part] = max(held.values())
    return found


def measure(devices: int, rule: str) -> dict:
    """One strategy: bytes of the parts, and of all of the program's arguments and the donated ones among them."""
    programs = Programs(config_lib.build(config(devices, rule, rows=8, width=256)))
    compiled = programs.lower().compile()
    memory = compiled.memory_analysis()
    state, batch = programs.init(), programs.put(0, 1)
    found = {"inputs": bytes_of_parts(programs.abstract, compiled.input_shardings[0][0]),
             "outputs": bytes_of_parts(programs.abstract, compiled.output_shardings[0]), "placed": placed(state),
             "batch": batch["x"].addressable_shards[0].data.nbytes,
             "arguments": memory.argument_size_in_bytes, "donated": memory.alias_size_in_bytes}
    state, _ = programs.step(state, batch)
    return {**found, "after a step": placed(state)}


if __name__ == "__main__":
    print(json.dumps({"devices": len(jax.devices()), **{name: measure(*run) for name, run in RUNS.items()}}))
