"""The plan of a run before anything runs: parameters, shardings, bytes per device, FLOPs."""

import math
import os
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from genjax.core import config as config_lib
from genjax.core import estimate, flops
from genjax.core import sharding as sh
from genjax.core.experiment import Programs
from genjax.errors import UserError
from genjax.viz.waiting import waiting

SAVING = "copy of the state while saving"


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


def available(mesh: Mesh) -> int:
    """Bytes of memory of one device of a mesh; a CPU's fake devices share the machine's."""
    device = mesh.local_devices[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    here = sum(d.process_index == device.process_index for d in mesh.devices.flat)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // here


def plan(config: ConfigDict, device_memory: float | None = None,
         tell: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Compiles the step for abstract inputs: XLA's own analysis of the memory, FLOPs counted on the traced step.

    Args:
      config: from `genjax.core.config.load`.
      device_memory: GiB of a device; None asks the devices that are here.
      tell: takes `shapes_text`, which costs nothing, before anything is compiled.

    Returns:
      `{networks: {name: parameters}, copies, bytes_per_device: {params, opt_state, state, activations_peak, save_copy,
      total, available}, fits, flops_per_step, xla_flops_per_device, estimate, mesh, shardings: [{path, shape, dtype,
      spec, bytes_per_device}]}`; parameters are those of one copy, FLOPs those of all copies on all devices (see
      `genjax.core.flops`), beside XLA's own count, which is of one device's optimised program and takes a loop's body
      once; estimate is of the time (`genjax.core.estimate`); bytes are integers; total is what XLA's program holds at
      once (state, batch, results and activations) with the copy of the state that a checkpoint is written from while
      the next steps run.

    Raises:
      UserError: `device_memory` is no size.
    """
    if device_memory is not None and not (math.isfinite(device_memory) and device_memory > 0):
        raise UserError(f"--device-memory {device_memory:g} is no size of a memory; give GiB, e.g. 80")
    experiment = config_lib.build(config)
    programs = Programs(experiment)
    with waiting("tracing the step"):
        traced = programs.trace()
    found = _shapes(programs, float(flops.count(traced.jaxpr)))
    tell(shapes_text(found))
    with waiting("compiling the step, for XLA's account of its memory"), jax.set_mesh(programs.mesh):
        compiled = traced.lower().compile()
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis() or {}
    sizes = found["bytes_per_device"]
    total = sum(int(getattr(memory, f"{part}_size_in_bytes", 0)) * sign for part, sign in
                (("argument", 1), ("output", 1), ("temp", 1), ("generated_code", 1), ("alias", -1)))
    total += sizes["state"]  # `Checkpoints.save` copies it
    room = available(programs.mesh) if device_memory is None else int(device_memory * 2**30)
    with waiting("measuring this machine, for the estimate of time"):
        time = estimate.estimate(found["flops_per_step"], experiment.steps("steps"), programs.mesh)
    return found | {
        "bytes_per_device": sizes | {
            "activations_peak": int(getattr(memory, "temp_size_in_bytes", 0)),
            "save_copy": sizes["state"],
            "total": total,
            "available": room,
        },
        "fits": total <= room,
        "xla_flops_per_device": max(float(cost.get("flops", 0)), 0.0),
        "estimate": time,
    }


def _shapes(programs: Programs, step: float) -> dict[str, Any]:
    """The part of a plan that needs no compilation; `step` is a step's FLOPs."""
    state, experiment = programs.abstract, programs.experiment
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
        },
        # The steps of a call are a `while` loop, whose body counts once: this is per step whatever steps_per_call is.
        "flops_per_step": step,
        "mesh": {k: int(v) for k, v in programs.mesh.shape.items()},
        "shardings": rows,
    }


def check(found: dict[str, Any], config: ConfigDict) -> None:
    """Refuses a plan that cannot run, and names the keys of its config that may mend it.

    Raises:
      UserError: the step needs more memory than a device has.
    """
    need, copy, room = (found["bytes_per_device"][k] / 2**20 for k in ("total", "save_copy", "available"))
    if not found["fits"]:
        raise UserError(f"does not fit: a step needs {need:,.0f} MiB on each device ({copy:,.0f} of them for the"
                        f" {SAVING}), which has {room:,.0f}; {_lighter(config)}")


def _lighter(config: ConfigDict) -> str:
    keys = config_lib.flatten(config)
    lower, more = ([f"config.{k}" for k in names if k in keys] for names in (
        ("data.batch_size", "data.size", "data.image_size"), ("task.micro_batches", "task.remat")))
    ways = [f"lower {' or '.join(lower) if lower else 'the batch'}", f"set {' or '.join(more)}" if more else "",
            "split the state with config.mesh.fsdp"]
    return ", ".join(filter(None, ways[:-1])) + f", or {ways[-1]}"


def shapes_text(found: dict[str, Any]) -> str:
    """For people, what is known before anything is compiled; parameters of the state only, the optimiser's follow
    them."""
    rows = [r for r in found["shardings"] if r["path"].startswith("params/")]
    wide = max((len(r["path"]) for r in rows), default=4)
    lines = [f"{r['path']:{wide}}  {r['dtype']}{r['shape']}  {r['spec']}  {r['bytes_per_device']:,} B" for r in rows]
    state = {k: found["bytes_per_device"][k] for k in ("params", "opt_state", "state")}
    lines += ["", "networks:   " + ", ".join(f"{k} {v:,} parameters" for k, v in found["networks"].items())
             + (f", {found['copies']} independent copies" if found["copies"] > 1 else ""),
             "mesh:       " + ", ".join(f"{k} {v}" for k, v in found["mesh"].items()),
             "per step:   " + f"{found['flops_per_step'] / 1e9:.2f} GFLOP",
             "kept:       " + _sizes(state) + " on each device"]
    return "\n".join(lines)


def compiled_text(found: dict[str, Any]) -> str:
    """For people, the rest, after `shapes_text`."""
    return "\n".join([
        "per device: " + _sizes(found["bytes_per_device"]),
        f"XLA:        {found['xla_flops_per_device'] / 1e9:.2f} GFLOP in one device's program, a loop's body once",
        f"time:       {estimate.text(found['estimate'])}"])


def text(found: dict[str, Any]) -> str:
    """The whole plan for people."""
    return f"{shapes_text(found)}\n{compiled_text(found)}"


def _sizes(sizes: dict[str, int]) -> str:
    return ", ".join(f"{SAVING if k == 'save_copy' else k} {v / 2**20:.1f} MiB" for k, v in sizes.items())
