"""Adversarial training beside PyTorch (DCGAN, StyleGAN2), and the modulated convolution by its two algorithms.

PyTorch (optional: pip install -r requirements-compare.txt) trains the same networks channels-last, on the same device,
in the same call, alternating with genjax. DCGAN (pytorch/examples) makes a discriminator and a generator update with a
shared fake batch. StyleGAN2 is its `auto` configuration without augmentation, on the CPU with a quarter of the maps;
the time is the mean over one period of its lazy penalties: of 16 steps one has R1, four have path lengths.

The CIFAR-10 configuration (32 x 32, batch 64; on GPU and TPU only) is measured without augmentation on both sides, in
float32 and in bfloat16 (genjax from 8 x 8 on, PyTorch by autocast), and with ADA's augmentations by genjax alone: the
PyTorch side has none. The modulated convolution multiplies activations by the styles; its peer convolves every picture
with a kernel of its own.
"""

import logging

import jax
import jax.numpy as jnp

from experiments.bench._step import stepper, torch_step
from genjax.core.bench import Bench
from genjax.ops.modulated_conv import modulated_conv2d

log = logging.getLogger("genjax")

PERIOD = 16  # steps between two R1 penalties


def run(bench: Bench) -> None:
    """Fills the rows."""
    batch, width = (4, 4) if bench.smoke else (64, 64)
    widths = [width * k for k in (8, 4, 2, 1)]
    items = {"data.batch_size": batch, "task.generator.widths": tuple(widths),
             "task.discriminator.widths": tuple(widths[::-1])}
    bench.compare(f"DCGAN step 64x64, batch {batch}, float32", stepper("gan/dcgan:variant=pytorch", items),
                  *torch_step("_torch_dcgan", batch=batch, width=width))
    if not _on_cpu():
        items |= {"task.generator.dtype": "bfloat16", "task.discriminator.dtype": "bfloat16"}
        bench.compare(f"DCGAN step 64x64, batch {batch}, bfloat16", stepper("gan/dcgan:variant=pytorch", items),
                      *torch_step("_torch_dcgan", batch=batch, width=width, autocast=True))
    _stylegan2(bench)
    _cifar(bench)
    _modulated(bench)


def _on_cpu() -> bool:
    return jax.devices()[0].platform == "cpu"


def _stylegan2(bench: Bench) -> None:
    on_cpu = _on_cpu()
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


def _cifar(bench: Bench) -> None:
    if _on_cpu() and not bench.smoke:
        log.info("StyleGAN2-ADA's CIFAR-10 configuration is measured on a GPU only: its rows are left out")
        return
    batch, res, base, widest, latent, group = (4, 8, 64, 8, 8, 4) if bench.smoke else (64, 32, 32768, 512, 512, 32)
    items = {"data.batch_size": batch, "train.steps_per_call": PERIOD, "task.latent_dim": latent,
             "task.generator.z_dim": latent, "task.generator.w_dim": latent, "task.discriminator.mbstd_group": group}
    for net in ("generator", "discriminator"):
        items |= {f"task.{net}.channel_base": base, f"task.{net}.channel_max": widest}
    low = {f"task.{net}.num_low_precision_res": 4 for net in ("generator", "discriminator")}
    settings = {"float32": {}, "bfloat16": low}
    few = {}
    if bench.smoke:  # every program takes half a minute of compilation
        del settings["float32"]
        few = {"task.augment.name": "color"}

    def row(what, aug, changes, peer):
        bench.compare(f"StyleGAN2-ADA cifar training {res}x{res}, batch {batch}, {what}",
                      stepper(f"gan/stylegan2:cfg=cifar,res={res},aug={aug}", items | changes, PERIOD), *peer,
                      unit="images/s", items=PERIOD * batch)

    for dtype, changes in settings.items():
        row(f"no augmentation, {dtype}", "none", changes, torch_step(
            "_torch_stylegan2_cifar", batch=batch, count=PERIOD, resolution=res, base=base, widest=widest,
            latent=latent, group=group, autocast=dtype == "bfloat16"))
    row("ADA, bfloat16", "ada", low | few, (None, "PyTorch's side has no augmentation"))


def _modulated(bench: Bench) -> None:
    n, size, maps = (2, 8, 4) if bench.smoke else (16, 32, 64) if _on_cpu() else (32, 64, 256)
    keys = jax.random.split(jax.random.key(0), 3)
    x, w, styles = (jax.random.normal(k, shape) for k, shape in zip(
        keys, ((n, size, size, maps), (3, 3, maps, maps), (n, maps)), strict=True))

    def call(algorithm, gradients):
        def forward(x, w, styles):
            return modulated_conv2d(x, w, styles, algorithm=algorithm)

        def mean_square(*args):  # needs the output in both directions: no algorithm may skip its forward pass
            return jnp.square(forward(*args)).mean()

        f = jax.jit(jax.value_and_grad(mean_square, (0, 1, 2)) if gradients else forward)
        return lambda: f(x, w, styles)

    name = "grouped convolution" + (", on the CPU as a loop over pictures" if _on_cpu() else "")
    for gradients in (False, True):
        bench.compare(f"modulated convolution 3x3 of [{n},{size},{size},{maps}], float32, "
                      + ("forward and gradients" if gradients else "forward"),
                      call("scaled", gradients), call("grouped", gradients), name)
