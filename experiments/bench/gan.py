"""Adversarial training: ms per step of DCGAN (pytorch/examples) and StyleGAN2 at 64 x 64 beside PyTorch.

PyTorch (optional: pip install -r requirements-compare.txt) trains the same networks channels-last, on the same device,
in the same call, alternating with genjax. DCGAN makes a discriminator and a generator update with a shared fake batch.
StyleGAN2 is its `auto` configuration without augmentation, on the CPU with a quarter of the maps; the time is the mean
over one period of its lazy penalties: of 16 steps one has R1, four have path lengths.
"""

import jax

from experiments.bench._step import stepper, torch_step
from genjax.core.bench import Bench

PERIOD = 16  # steps between two R1 penalties


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
    _stylegan2(bench)


def _stylegan2(bench: Bench) -> None:
    on_cpu = jax.devices()[0].platform == "cpu"
    batch, res, base, widest, latent = (4, 8, 64, 8, 8) if bench.smoke else (8, 64, 4096, 128, 512) if on_cpu else (
        32, 64, 16384, 512, 512)
    items = {"data.batch_size": batch, "train.steps_per_call": PERIOD, "task.latent_dim": latent,
             "task.generator.z_dim": latent, "task.generator.w_dim": latent, "task.discriminator.mbstd_group": 4,
             "g_optimizer.learning_rate": 0.0025, "d_optimizer.learning_rate": 0.0025, "task.r1_gamma": 1.0}
    for net in ("generator", "discriminator"):
        items |= {f"task.{net}.channel_base": base, f"task.{net}.channel_max": widest}
    bench.compare(f"StyleGAN2 step {res}x{res}, batch {batch}, {base // res} to {widest} maps, float32",
                  stepper(f"gan/stylegan2:cfg=auto,res={res},aug=none", items, PERIOD),
                  *torch_step("_torch_stylegan2", batch=batch, count=PERIOD, resolution=res, base=base, widest=widest,
                              latent=latent), items=PERIOD)
