"""What the benchmarks of training steps share: a step of a config, and the same step by PyTorch on the same device."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import jax

from genjax.core import config as config_lib
from genjax.core.experiment import Programs


def stepper(spec: str, items: Mapping[str, Any], count: int = 1) -> Callable[[], None]:
    """`starter` of a config with overrides `items`: the function alone."""
    return starter(config_lib.load(spec, [f"{k}={v}" for k, v in items.items()]), count)[1]


def starter(config: Any, count: int = 1) -> tuple[Programs, Callable[[], None]]:
    """A loaded config's programs, and a function that makes `count` steps on its first batch or batches and waits; the
    state lives in a cell, donated every call."""
    programs = Programs(config_lib.build(config))
    if count > programs.calls:
        raise ValueError(f"{count} steps of a program of {programs.calls}: set train.steps_per_call")
    cell = [programs.init()]
    batch = programs.put(0, count)

    def call():
        cell[0], metrics = programs.step(cell[0], batch, count)
        jax.block_until_ready(metrics)

    return programs, call


def torch_device() -> tuple[str | None, str]:
    """PyTorch's name for the device that genjax uses; None and why it has none."""
    if importlib.util.find_spec("torch") is None:
        return None, "PyTorch is not installed"
    import torch

    on_gpu = jax.devices()[0].platform == "gpu"
    if on_gpu and not torch.cuda.is_available():
        return None, "PyTorch has no CUDA"
    return "cuda" if on_gpu else "cpu", ""


def torch_step(name: str, **sizes: Any) -> tuple[Callable[[], None] | None, str]:
    """`make_step(device=..., **sizes)` of `experiments.bench.<name>`, or None, and who it is or why there is none."""
    device, why = torch_device()
    if device is None:
        return None, why
    import torch

    step = importlib.import_module(f"experiments.bench.{name}").make_step(device=device, **sizes)
    return step, f"PyTorch {torch.__version__} eager, channels-last"
