"""Adversarial training: ms per step of DCGAN at 64 x 64 (pytorch/examples, batch 64) beside PyTorch.

PyTorch (optional: pip install -r requirements-compare.txt) trains the same networks channels-last, on the same device,
in the same call, alternating with genjax. Both make a discriminator and a generator update with a shared fake batch.
"""

import importlib.util

import jax

from genjax.core import config as config_lib
from genjax.core.bench import Bench
from genjax.core.experiment import Programs


def stepper(spec: str, items: dict):
    """A function that makes one step of a config on its first batch and waits."""
    programs = Programs(config_lib.build(config_lib.load(spec, [f"{k}={v}" for k, v in items.items()])))
    cell = [programs.init()]
    batch = programs.put(0, 1)

    def call():
        cell[0], metrics = programs.step(cell[0], batch, 1)
        jax.block_until_ready(metrics)

    return call


def _torch(batch: int, width: int, autocast: bool = False):
    if importlib.util.find_spec("torch") is None:
        return None, "PyTorch is not installed"
    import torch

    from experiments.bench._torch_dcgan import make_step

    on_gpu = jax.devices()[0].platform == "gpu"
    if on_gpu and not torch.cuda.is_available():
        return None, "PyTorch has no CUDA"
    return (make_step(batch, width, "cuda" if on_gpu else "cpu", autocast),
            f"PyTorch {torch.__version__} eager, channels-last")


def run(bench: Bench) -> None:
    """Fills the rows."""
    batch, width = (4, 4) if bench.smoke else (64, 64)
    widths = [width * k for k in (8, 4, 2, 1)]
    items = {"data.batch_size": batch, "task.generator.widths": tuple(widths),
             "task.discriminator.widths": tuple(widths[::-1])}
    bench.compare(f"DCGAN step 64x64, batch {batch}, float32", stepper("gan/dcgan:variant=pytorch", items),
                  *_torch(batch, width))
    if jax.devices()[0].platform != "cpu":
        items |= {"task.generator.dtype": "bfloat16", "task.discriminator.dtype": "bfloat16"}
        bench.compare(f"DCGAN step 64x64, batch {batch}, bfloat16", stepper("gan/dcgan:variant=pytorch", items),
                      *_torch(batch, width, autocast=True))
