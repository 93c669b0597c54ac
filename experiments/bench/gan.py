"""Adversarial training: ms per step of DCGAN at 64 x 64 (pytorch/examples, batch 64) beside PyTorch.

PyTorch (optional: pip install -r requirements-compare.txt) trains the same networks channels-last, on the same device,
in the same call, alternating with genjax. Both make a discriminator and a generator update with a shared fake batch.
"""

import jax

from experiments.bench._step import stepper, torch_step
from genjax.core.bench import Bench


def run(bench: Bench) -> None:
    """Fills the rows."""
    batch, width = (4, 4) if bench.smoke else (64, 64)
    widths = [width * k for k in (8, 4, 2, 1)]
    items = {"data.batch_size": batch, "task.generator.widths": tuple(widths),
             "task.discriminator.widths": tuple(widths[::-1])}
    bench.compare(f"DCGAN step 64x64, batch {batch}, float32", stepper("gan/dcgan:variant=pytorch", items),
                  *torch_step("_torch_dcgan", batch=batch, width=width))
    if jax.devices()[0].platform != "cpu":
        items |= {"task.generator.dtype": "bfloat16", "task.discriminator.dtype": "bfloat16"}
        bench.compare(f"DCGAN step 64x64, batch {batch}, bfloat16", stepper("gan/dcgan:variant=pytorch", items),
                      *torch_step("_torch_dcgan", batch=batch, width=width, autocast=True))
