"""Deep Image Prior: ms per iteration of the default 2.2 M-parameter network at 256 x 256 beside PyTorch; batching.

PyTorch (optional: pip install -r requirements-compare.txt) runs the same network channels-last, on the same device, in
the same call, alternating with genjax. The last row trains 8 small pictures as one batch of independent networks (on a
CPU one picture per core at a time), and one after the other.
"""

import jax

from experiments.bench import _dip_worker
from experiments.bench._step import stepper, torch_step
from genjax.core.bench import Bench

WIDE = {"data.size": 256, "train.steps": 10**6, "train.save_every": 0, "train.preview_every": 0,
        "task.backtrack_every": 0, "task.es_window": 0}


def _stepper(spec: str, steps_per_call: int, count: int, **overrides):
    """`count` steps of a config at full size, without what a run does beside its steps."""
    return stepper(spec, {**WIDE, **overrides, "train.steps_per_call": steps_per_call}, count)


def run(bench: Bench) -> None:
    """Fills the rows."""
    size, width, scales = (64, 8, 3) if bench.smoke else (256, 128, 5)
    channels = ",".join([str(width)] * scales)
    net = {"data.size": size, "task.network.channels_down": channels, "task.network.channels_up": channels}
    torch_net = {"size": size, "cin": 32, "width": width, "scales": scales, "skip": 4}
    peer, name = torch_step("_torch_skip", **torch_net)
    bench.compare(f"DIP step {size}x{size}, float32", _stepper("dip/denoise", 1, 1, **net), peer, name)
    if jax.devices()[0].platform != "cpu":
        peer, name = torch_step("_torch_skip", **torch_net, autocast=True)
        bench.compare(f"DIP step {size}x{size}, bfloat16",
                      _stepper("dip/denoise", 1, 1, **net, **{"task.network.dtype": "bfloat16"}), peer, name)
    _batching(bench)


def _batching(bench: Bench) -> None:
    """8 pictures of 64 x 64: one batch of independent networks against 8 runs, pictures (to 10 steps) per second."""
    names = ["astronaut", "chelsea", "coffee", "rocket"]
    images = ",".join(f"builtin:photos/{n}" for n in names * 2)
    width, scales = (4, 2) if bench.smoke else (32, 4)
    channels = ",".join([str(width)] * scales)
    small = {"data.size": 32 if bench.smoke else 64, "task.network.channels_down": channels,
             "task.network.channels_up": channels}
    on_cpu = jax.devices()[0].platform == "cpu"
    make = _dip_worker.caller if on_cpu else lambda spec, n, items: _stepper(spec, n, n, **items)
    together = make("dip/denoise", 10, {**small, "image": images})
    alone = _stepper("dip/denoise", 10, 10, **small)

    def eight_runs():
        for _ in range(8):
            alone()

    bench.compare(f"8 pictures {small['data.size']}^2 to 10 steps, one batch", together, eight_runs,
                  "genjax, one after another", unit="pictures/s", items=8)
