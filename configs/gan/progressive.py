"""Progressive GAN (Karras et al. 2018): WGAN-GP from 4 x 4 to 1024 x 1024, layers faded in one resolution at a time.

Settings of the authors' code: Adam 1e-3 with beta1 0 and beta2 .99, lambda 10, drift .001. preset=v1 is the paper's
CelebA-HQ run (one GPU, batch 16 down to 3, 800 + 800 thousand images per resolution, 19 million in all), v2 the faster
one for `gpus` (600 + 600, 12 million), cifar10 the paper's 32 x 32 run (400 + 400, gradient norm 750, 20 million).
v1 and cifar10 take the minibatch deviation over whole batches; v1's learning rate grows over the first 40 thousand
images. The authors mirrored CelebA-HQ, and LSUN but for bedrooms and dogs; nothing is unless --config.data.flip=True.

    python launch.py train --config configs/gan/progressive.py:small
    python launch.py train --config gan/progressive --config.data.source=folder:/data/celeba-hq --config.data.flip=True
    python launch.py train --config gan/progressive:preset=v2,gpus=8,res=256 --config.data.source=folder:/data/bedrooms
    python launch.py train --config gan/progressive:preset=cifar10,labels --config.data.source=tfds:cifar10

Expected: CelebA-HQ 1024 FID 7.30, CIFAR-10 Inception Score 8.80 (the paper; not run here). small: digits at 16 x 16
after 64 thousand images; Frechet distance (lenet, 1500 samples) 6.7, recall .85.
"""

from configs.gan._base import evaluation
from genjax.core.config import experiment, node, parse_arg
from genjax.errors import UserError, unknown

# preset: resolution, kimg of a period, total kimg, batch sizes and factors of the learning rate from 4 x 4 on
PRESETS = {"v1": (1024, 800, 19_000), "v2": (1024, 600, 12_000), "cifar10": (32, 400, 20_000)}
RATES = {1: {1024: 1.5}, 2: {512: 1.5, 1024: 2.0}, 4: {256: 1.5, 512: 2.0, 1024: 3.0},
         8: {128: 1.5, 256: 2.0, 512: 3.0, 1024: 3.0}}


def get_config(arg: str = ""):
    """Structural arguments: preset (v1, v2, cifar10), res, channels, gpus (1, 2, 4, 8; for v2), labels, classes,
    small, features (a network for Frechet distances)."""
    a = parse_arg(arg, preset="v1", res=0, channels=0, gpus=8, labels=False, classes=10, small=False, features="")
    if a.preset not in PRESETS:
        raise unknown("preset", a.preset, PRESETS)
    if a.gpus not in RATES:
        raise UserError(f"gpus={a.gpus}: the authors give settings for 1, 2, 4 and 8")
    res, period, total = (16, 10, 64) if a.small else PRESETS[a.preset]
    res, channels = a.res or res, a.channels or (1 if a.small else 3)
    sides = [2**i for i in range(2, res.bit_length())]
    if a.small:
        batches, rates = [64, 32, 16], [2.0]
    elif a.preset == "v2":
        batches = [max(4 * a.gpus, min(2048 // r, 128 * a.gpus, 512)) for r in sides]
        rates = [RATES[a.gpus].get(r, 1.0) for r in sides]
    else:
        smaller = {256: 14, 512: 6, 1024: 3} if a.preset == "v1" else {}
        batches, rates = [smaller.get(r, 16) for r in sides], [1.0]
    maps = ({"fmap_base": 256, "fmap_max": 64} if a.small else
            {"fmap_base": 4096, "fmap_max": 128} if a.preset == "cifar10" else {"fmap_base": 8192, "fmap_max": 512})
    net = {"resolution": res, "channels": channels, "classes": a.classes if a.labels else 0, **maps}
    paper = a.preset != "v2" and not a.small
    return experiment(
        schedule=node("genjax.data.growing.GrowthSchedule", resolution=res, stable_kimg=period, fade_kimg=period,
                      batch_sizes=tuple(batches[:len(sides)]), rates=tuple(rates)),
        task=node("genjax.gan.growing.Growing", schedule="@schedule",
                  generator=node("genjax.gan.progressive.Generator", **net),
                  discriminator=node("genjax.gan.progressive.Discriminator", **net,
                                     mbstd_group=16 if paper else 4),
                  g_optimizer="@optimizer", d_optimizer="@optimizer", latent_dim=maps["fmap_max"], loss="wasserstein",
                  gp_weight=10.0, gp_target=750.0 if a.preset == "cifar10" else 1.0, drift=0.001,
                  rampup_kimg=40.0 if paper and a.preset == "v1" else 0.0,
                  # An average over thousands of steps lags behind a run of three thousand.
                  **({"half_life_kimg": 1.0} if a.small else {"ema_decay": 0.999}),
                  conditional=a.labels, class_weight=1.0 if a.labels else 0.0,
                  evaluation=evaluation(a.features)),
        data=node("genjax.data.growing.GrowingPipeline", schedule="@schedule", channels=channels,
                  source="builtin:digits" if a.small or a.labels else "builtin:photos"),
        optimizer=node("genjax.core.optim.adam", learning_rate=1e-3, b1=0.0, b2=0.99),
        train=node("genjax.core.experiment.TrainOptions", steps=f"{total}k images", log_every=10, save_every=1000,
                   preview_every=500),
        smoke=("schedule.resolution=8", "schedule.stable_kimg=0.003", "schedule.fade_kimg=0.016",
               "schedule.repeats=1", "schedule.batch_sizes=(4,)",
               "schedule.rates=(1.0,)", "task.preview_images=4", "task.latent_dim=8",
               *(f"task.{n}.{k}" for n in ("generator", "discriminator")
                 for k in ("resolution=8", "fmap_base=32", "fmap_max=8"))),
    )
