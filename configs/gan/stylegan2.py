"""StyleGAN2 and StyleGAN2-ADA (Karras et al. 2020), in the configurations of the authors' code.

    cfg         res    kimg   batch  mbstd  maps  lr      R1     average  mapping
    stylegan2   1024   25k    32     4      1     .002    10     10k      8
    paper256    256    25k    64     8      .5    .0025   1      20k      8
    paper512    512    25k    64     8      1     .0025   .5     20k      8
    paper1024   1024   25k    32     4      1     .002    2      10k      8
    cifar       32     100k   64     32     1     .0025   .01    500k     2 (no path lengths, no mixing, plain D)
    auto        any    25k    by the resolution, R1 2e-4 res^2 / batch

    python launch.py train --config gan/stylegan2:small
    python launch.py train --config gan/stylegan2:cfg=stylegan2,aug=none --config.data.source=folder:/data/ffhq \\
        --config.data.flip=True
    python launch.py train --config gan/stylegan2:cfg=auto,res=256 --config.data.source=folder:/data/faces
    python launch.py train --config gan/stylegan2:cfg=auto,res=64 --config.data.source=tfds:celeb_a
    python launch.py train --config gan/stylegan2:cfg=cifar,cond --config.data.source=tfds:cifar10
    python launch.py train --config gan/stylegan2:cfg=paper256,bf16 --config.data.source=folder:/data/ffhq \\
        --config.data.flip=True
    python launch.py train --config gan/stylegan2:res=32,cond,channels=1 --config.data.source=idx:/data/fashion-mnist
    python launch.py train --config gan/stylegan2:res=32,small,cond --config.data.source=idx:/data/mnist

Pictures are cut to their middle square; CelebA's middle 140 x 140: --config.data.center_crop=140. Few pictures:
--config.data.split=train[:1000]. Nothing is mirrored unless --config.data.flip=True, the authors' choice for FFHQ.
Without a source the few photographs of scikit-image are taken (with cond scikit-learn's digits), to see that it runs.

Expected (the authors', 8 V100): FFHQ-1024 with cfg=stylegan2,aug=none FID 2.84 +- .03; CIFAR-10 2.42 (cfg=cifar,cond,
tuned). FFHQ-256 numbers need box-downsampled images.
"""

from configs.gan._base import evaluation
from genjax.core.config import experiment, node, parse_arg
from genjax.errors import UserError, unknown

# res, kimg, batch, minibatch std group, maps, lr, gamma, average's kimg, its ramp-up, mapping layers
PAPER = {
    "stylegan2": (1024, 25_000, 32, 4, 1.0, 0.002, 10.0, 10.0, 0.0, 8),
    "paper256": (256, 25_000, 64, 8, 0.5, 0.0025, 1.0, 20.0, 0.0, 8),
    "paper512": (512, 25_000, 64, 8, 1.0, 0.0025, 0.5, 20.0, 0.0, 8),
    "paper1024": (1024, 25_000, 32, 4, 1.0, 0.002, 2.0, 10.0, 0.0, 8),
    "cifar": (32, 100_000, 64, 32, 1.0, 0.0025, 0.01, 500.0, 0.05, 2),
}
AUGMENT = ("ada", "fixed", "none")


def auto(res: int, devices: int = 1) -> tuple:
    """The authors' settings for a resolution and a number of devices."""
    batch = max(min(devices * min(4096 // res, 32), 64), devices)
    return (res, 25_000, batch, min(batch // devices, 4), 1.0 if res >= 512 else 0.5,
            0.002 if res >= 1024 else 0.0025, 2e-4 * res**2 / batch, batch * 10 / 32, 0.05, 2)


def get_config(arg: str = ""):
    """Structural arguments: cfg, res, aug (ada, fixed, none), cond, classes, channels, devices (for cfg=auto), small,
    bf16 (bfloat16 at the four highest resolutions, results limited to +-256: where the authors' code has float16),
    features (a network for Frechet distances)."""
    a = parse_arg(arg, cfg="auto", res=0, aug="ada", cond=False, classes=10, channels=0, devices=1, small=False,
                  bf16=False, features="")
    if a.aug not in AUGMENT:
        raise unknown("augmentation", a.aug, AUGMENT)
    if a.cfg != "auto" and a.cfg not in PAPER:
        raise unknown("cfg", a.cfg, (*PAPER, "auto"))
    res = a.res or (16 if a.small else 256 if a.cfg == "auto" else PAPER[a.cfg][0])
    if res < 8 or res & (res - 1):
        raise UserError(f"res={res}: StyleGAN2 makes pictures whose side is a power of two, at least 8")
    values = auto(res, a.devices) if a.cfg == "auto" else (res, *PAPER[a.cfg][1:])
    _, kimg, batch, group, maps, rate, gamma, average, ramp, layers = values
    base, widest, latent = int(32768 * maps), 512, 512
    channels = a.channels or (1 if a.small else 3)
    cifar = a.cfg == "cifar"
    if a.small:  # in its 60 thousand images p stays below .6: nothing of the augmentations leaks into the samples
        kimg, batch, group, base, widest, latent, gamma, average, ramp = 60, 16, 4, 64 * res, 64, 64, 1.0, 2.0, 0.05
    size = {"resolution": res, "channels": channels, "classes": a.classes if a.cond else 0, "channel_base": base,
            "channel_max": widest, **({"num_low_precision_res": 4, "clamp": 256.0} if a.bf16 else {})}
    # A smaller margin would save memory, but half a side shows black corners in 17 % of pictures at p = 1, 1 in .15 %.
    augment = None if a.aug == "none" else node("genjax.gan.augment.pipe", name="bgc", margin=1.0)
    return experiment(
        task=node("genjax.gan.style_task.StyleAdversarial",
                  generator=node("genjax.gan.stylegan2.Generator", z_dim=latent, w_dim=latent, mapping_layers=layers,
                                 **size),
                  discriminator=node("genjax.gan.stylegan2.Discriminator", mbstd_group=group,
                                     architecture="orig" if cifar else "resnet", **size),
                  g_optimizer="@g_optimizer", d_optimizer="@d_optimizer", latent_dim=latent, conditional=a.cond,
                  r1_gamma=gamma, reg_every="@r1_every", pl_every="@pl_every", pl_weight=0.0 if cifar else 2.0,
                  mixing=0.0 if cifar else 0.9, augment=augment, ada_target=0.6 if a.aug == "ada" else 0.0,
                  augment_p=0.2 if a.aug == "fixed" else 0.0, ada_kimg=100.0 if a.small else 500.0,
                  ema_kimg=average, ema_rampup=ramp, evaluation=evaluation(a.features)),
        data=node("genjax.data.pipeline.Pipeline", source="builtin:digits" if a.small or a.cond else "builtin:photos",
                  image_size=res, channels=channels, batch_size=batch),
        r1_every=16, pl_every=4,
        # CIFAR has no path lengths, but the authors' code keeps their interval, and with it Adam's correction.
        g_optimizer=node("genjax.core.optim.lazy_adam", learning_rate=rate, every="@pl_every"),
        d_optimizer=node("genjax.core.optim.lazy_adam", learning_rate=rate, every="@r1_every"),
        train=node("genjax.core.experiment.TrainOptions", steps=f"{kimg}k images", log_every=16,
                   save_every=f"{max(kimg // 25, 4)}k images", preview_every=f"{max(kimg // 25, 4)}k images"),
        smoke=("data.batch_size=4", "task.preview_images=4", "task.generator.resolution=8",
               "task.discriminator.resolution=8", "data.image_size=8",
               "task.generator.channel_max=4", "task.discriminator.channel_max=4", "task.latent_dim=4",
               "task.generator.z_dim=4", "task.generator.w_dim=4", "r1_every=2", "pl_every=2",
               *(("task.augment.name=color",) if augment else ())),
    )
