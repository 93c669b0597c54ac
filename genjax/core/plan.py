"""The plan of a run before anything runs: parameters, shardings, bytes per device, FLOPs."""

import logging
import math
from typing import Any

import jax
from ml_collections import ConfigDict

from genjax.core import config as config_lib
from genjax.core import flops
from genjax.core import sharding as sh
from genjax.core.experiment import Programs

log = logging.getLogger("genjax")


def count_parameters(tree: Any) -> int:
    """Elements over all leaves."""
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def _networks(params: Any, copies: int) -> dict[str, int]:
    """Parameters by top-level network where there are several, else one entry; `copies` independent networks."""
    if isinstance(params, dict) and len(params) <= 4 and all(isinstance(v, dict) for v in params.values()):
        inner = {k: count_parameters(v) // copies for k, v in params.items()}
        if all(any(isinstance(x, dict) for x in v.values()) for v in params.values()):
            return inner
    return {"network": count_parameters(params) // copies}


def plan(config: ConfigDict) -> dict[str, Any]:
    """Compiles the step for abstract inputs: XLA's own analysis of the memory, FLOPs counted on the traced step.

    Returns:
      `{networks: {name: parameters}, copies, bytes_per_device: {params, opt_state, state, activations_peak},
      flops_per_step, mesh, shardings: [{path, shape, dtype, spec, bytes_per_device}]}`; parameters are those of one
      copy, FLOPs those of all copies on all devices (see `genjax.core.flops`), bytes integers.
    """
    experiment = config_lib.build(config)
    programs = Programs(experiment)
    state = programs.abstract
    log.info("compiling the step, for XLA's account of its memory")
    memory = programs.lower().compile().memory_analysis()
    rows = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        rows.append({"path": sh.path_str(path), "shape": list(leaf.shape), "dtype": str(leaf.dtype),
                     "spec": str(tuple(leaf.sharding.spec)), "bytes_per_device": sh.bytes_per_device(leaf)})
    copies = experiment.task.copies(experiment.data.element_spec)
    return {
        "networks": _networks(state.params, copies),
        "copies": copies,
        "bytes_per_device": {
            "params": sh.bytes_per_device(state.params),
            "opt_state": sh.bytes_per_device(state.opt_state),
            "state": sh.bytes_per_device(state),
            "activations_peak": int(getattr(memory, "temp_size_in_bytes", 0)),
        },
        # The steps of a call are a `while` loop, whose body counts once: this is per step whatever steps_per_call is.
        "flops_per_step": float(flops.count(programs.trace().jaxpr)),
        "mesh": {k: int(v) for k, v in programs.mesh.shape.items()},
        "shardings": rows,
    }


def text(found: dict[str, Any]) -> str:
    """The plan for people, the summary last; parameters of the state only, the optimiser's follow them."""
    mb = {k: f"{v / 2**20:.1f} MiB" for k, v in found["bytes_per_device"].items()}
    rows = [r for r in found["shardings"] if r["path"].startswith("params/")]
    wide = max((len(r["path"]) for r in rows), default=4)
    lines = [f"{r['path']:{wide}}  {r['dtype']}{r['shape']}  {r['spec']}  {r['bytes_per_device']:,} B" for r in rows]
    lines += ["", "networks:  " + ", ".join(f"{k} {v:,} parameters" for k, v in found["networks"].items())
             + (f", {found['copies']} independent copies" if found["copies"] > 1 else ""),
             "mesh:      " + ", ".join(f"{k} {v}" for k, v in found["mesh"].items()),
             "per device: " + ", ".join(f"{k} {v}" for k, v in mb.items()),
             f"per step:  {found['flops_per_step'] / 1e9:.2f} GFLOP"]
    return "\n".join(lines)
