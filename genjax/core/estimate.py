"""How long a run may take, before anything of it runs: its FLOPs over a rate that is measured here."""

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from genjax.core import flops
from genjax.ops.conv import conv2d

HOW = "its FLOPs over the rate of a 3 x 3 convolution with its gradients, measured on this machine"


def rate(repeats: int = 3) -> float:
    """FLOPs per second of one device here, in a 3 x 3 convolution forward with both gradients: float32, 64 channels on
    a CPU, 256 elsewhere; the median of `repeats` calls after the first."""
    small = jax.devices()[0].platform == "cpu"
    channels, batch = (64, 4) if small else (256, 32)
    x, w = jnp.ones((batch, 64, 64, channels)), jnp.full((3, 3, channels, channels), 0.01)
    step = jax.jit(jax.grad(lambda x, w: jnp.square(conv2d(x, w)).mean(), argnums=(0, 1)))
    work = flops.count(step.trace(x, w).jaxpr)
    times = []
    for _ in range(1 + repeats):
        began = time.perf_counter()
        jax.block_until_ready(step(x, w))
        times.append(time.perf_counter() - began)
    return work / statistics.median(times[1:])


def estimate(flops_per_step: float, steps: int, mesh: Mesh) -> dict[str, Any]:
    """`{seconds_per_step, steps, seconds, flops_per_second, how}` of a run on a mesh: an estimate, which leaves out
    what is no product or convolution, reading data, evaluations, checkpoints and communication."""
    devices = list(mesh.devices.flat)
    # A CPU's devices share its cores.
    together = rate() * (1 if devices[0].platform == "cpu" else len(devices))
    step = flops_per_step / together
    return {"seconds_per_step": step, "steps": steps, "seconds": step * steps, "flops_per_second": together, "how": HOW}


def text(found: dict[str, Any]) -> str:
    """The estimate in words."""
    return (f"about {_span(found['seconds_per_step'])} per step, {_span(found['seconds'])} for the"
            f" {found['steps']:,} steps of the run: an estimate, {found['how']}"
            f" ({found['flops_per_second'] / 1e9:.0f} GFLOP/s); evaluations and saving come on top")


def _span(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "s")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{1000 * seconds:.3g} ms"
