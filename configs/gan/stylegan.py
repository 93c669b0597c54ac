"""StyleGAN (Karras et al. 2019), table 1: A baseline, B tuned, C mapping and styles, D constant, E noise, F mixing.

Settings of the authors' code for FFHQ: from 8 x 8 to 1024 x 1024, 600 + 600 thousand images per resolution, 25 million
in all, Adam 1e-3 (up to 3e-3) with beta1 0 and beta2 .99. Loss: non-saturating with R1 gamma 10, the paper's for FFHQ
from B on; A, and loss=wgan (CelebA-HQ), is WGAN-GP with learning rates of at most 2e-3. The authors mirrored faces.

    python launch.py train --config configs/gan/stylegan.py:small
    python launch.py train --config gan/stylegan --config.data.source=folder:/data/ffhq --config.data.flip=True
    python launch.py train --config gan/stylegan:table=e,res=256,gpus=4 --config.data.source=folder:/data/ffhq \\
        --config.data.flip=True

Expected: FFHQ 1024, F: FID 4.42, perceptual path length in w (full) 233.3 (the authors' figures; not run here). small:
digits at 16 x 16 after 64 thousand images; Frechet distance (lenet, 1500 samples) 8.8, recall .44.
"""

from configs.gan._base import evaluation
from genjax.core.config import experiment, node, parse_arg
from genjax.errors import UserError, unknown

# What each row of table 1 lacks of the last one.
TABLE = {"b": dict(mapping_layers=0, const_input=False, styles=False, noise=False, pixel_norm=True,
                   instance_norm=False, mixing=0.0),
         "c": dict(const_input=False, noise=False, mixing=0.0), "d": dict(noise=False, mixing=0.0),
         "e": dict(mixing=0.0), "f": {}}
RATES = {128: 1.5, 256: 2.0, 512: 3.0, 1024: 3.0}
LOSSES = {"logistic": dict(loss="non_saturating", r1_gamma=10.0),
          "wgan": dict(loss="wasserstein", gp_weight=10.0, drift=0.001)}


def get_config(arg: str = ""):
    """Structural arguments: table (a to f), loss (logistic, wgan), res, channels, gpus (1, 2, 4, 8), labels, classes,
    small, features (a network for Frechet distances)."""
    a = parse_arg(arg, table="f", loss="", res=0, channels=0, gpus=8, labels=False, classes=10, small=False,
                  features="")
    if a.table not in ("a", *TABLE):
        raise unknown("row of table 1", a.table, ("a", *TABLE))
    loss = a.loss or ("wgan" if a.table == "a" else "logistic")
    if loss not in LOSSES:
        raise unknown("loss", loss, LOSSES)
    if a.gpus not in (1, 2, 4, 8):
        raise UserError(f"gpus={a.gpus}: the authors give settings for 1, 2, 4 and 8")
    res, channels = a.res or (16 if a.small else 1024), a.channels or (1 if a.small else 3)
    start = 4 if a.small or a.table == "a" else 8
    sides = [r for r in (2**i for i in range(2, res.bit_length())) if r >= start]
    batches = [64, 32, 16] if a.small else [max(4 * a.gpus, min(2048 // r, 128 * a.gpus, 512)) for r in sides]
    fastest = 2.0 if loss == "wgan" else 3.0
    rates = [fastest] if a.small else [min(RATES.get(r, 1.0), fastest) for r in sides]
    net = {"resolution": res, "channels": channels, "classes": a.classes if a.labels else 0,
           **({"fmap_base": 256, "fmap_max": 64} if a.small else {})}
    z_dim = 64 if a.small else 512
    if a.table == "a":
        generator = node("genjax.gan.progressive.Generator", **net)
        head = {"head": "acgan"}
    else:
        generator = node("genjax.gan.stylegan.Generator", **net, **TABLE[a.table], z_dim=z_dim, w_dim=z_dim)
        head = {"head": "switch", "blur": True}
    average = {"half_life_kimg": 2.0 if a.small else 10.0} if a.small or a.table != "a" else {"ema_decay": 0.999}
    period = 10 if a.small else 600
    objective = LOSSES[loss] | ({"r1_gamma": 5.0} if a.small and loss == "logistic" else {})
    return experiment(
        schedule=node("genjax.data.growing.GrowthSchedule", resolution=res, start=start, stable_kimg=period,
                      fade_kimg=period, batch_sizes=tuple(batches[:len(sides)]), rates=tuple(rates)),
        task=node("genjax.gan.growing.Growing", schedule="@schedule", generator=generator,
                  discriminator=node("genjax.gan.progressive.Discriminator", **net, **head),
                  g_optimizer="@optimizer", d_optimizer="@optimizer", latent_dim=z_dim, **objective, **average,
                  conditional=a.labels, class_weight=1.0 if a.labels and a.table == "a" else 0.0,
                  truncation=0.7 if a.table in "cdef" else 1.0, evaluation=evaluation(a.features)),
        data=node("genjax.data.growing.GrowingPipeline", schedule="@schedule", channels=channels,
                  source="builtin:digits" if a.small or a.labels else "builtin:photos"),
        optimizer=node("genjax.core.optim.adam", learning_rate=1e-3, b1=0.0, b2=0.99),
        train=node("genjax.core.experiment.TrainOptions", steps="64k images" if a.small else "25000k images",
                   log_every=10, save_every=1000, preview_every=500),
        smoke=("schedule.resolution=8", "schedule.start=4", "schedule.stable_kimg=0.003", "schedule.fade_kimg=0.016",
               "schedule.repeats=1",
               "schedule.batch_sizes=(4,)", "schedule.rates=(1.0,)", "task.preview_images=4", "task.latent_dim=8",
               *(f"task.{n}.{k}" for n in ("generator", "discriminator")
                 for k in ("resolution=8", "fmap_base=32", "fmap_max=8")),
               *(() if a.table == "a" else ("task.generator.z_dim=8", "task.generator.w_dim=8")),
               *(() if a.table in "ab" else ("task.generator.mapping_layers=2",))),
    )
