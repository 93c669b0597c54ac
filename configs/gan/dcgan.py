"""DCGAN (Radford, Metz and Chintala 2016): the paper's faces network, or two well-known variants, on any pictures.

Settings of the authors' code: batch 128, Adam 2e-4 with beta1 .5 and L2 1e-5, z uniform on (-1,1)^100, 25 epochs of
350k faces at 64 x 64 (bedrooms: 3 million, 1 and 5 epochs), nothing mirrored. There each batch trains one of the
networks in turn, here both: its 25 epochs are 12.5 of ours in updates per network. Without a source the few photographs
of scikit-image (with cond scikit-learn's digits) are taken, to see that it runs. carpedm20's faces are the middle
108 x 108 of CelebA's 178 x 218, pytorch/examples' the middle 178 x 178.

    python launch.py train --config configs/gan/dcgan.py:small
    python launch.py train --config gan/dcgan --config.data.source=folder:/data/bedrooms
    python launch.py train --config gan/dcgan:variant=tensorflow --config.data.source=folder:/data/celeba \\
        --config.data.center_crop=108
    python launch.py train --config gan/dcgan:variant=pytorch --config.data.source=tfds:celeb_a
    python launch.py train --config gan/dcgan:res=32 --config.data.source=tfds:cifar10
    python launch.py train --config gan/dcgan:res=32,small,cond --config.data.source=idx:/data/mnist
"""

from configs.gan._base import evaluation
from genjax.core.config import experiment, node, parse_arg
from genjax.errors import unknown

TASK = "genjax.gan.task.Adversarial"
VARIANTS = {
    "paper": {"g": {}, "d": {}, "l2": 1e-5, "batch": 128,
              "task": {"prior": "uniform"}},
    "tensorflow": {"g": {"widths": (512, 256, 128, 64), "padding": "same", "bias": True, "norm_per_unit": False,
                         "gain_std": 0.0, "norm_eps": 1e-5},
                   "d": {"widths": (64, 128, 256, 512), "padding": "same", "bias": True, "truncated": True,
                         "gain_std": 0.0, "norm_eps": 1e-5},
                   "l2": 0.0, "batch": 64, "task": {"prior": "uniform", "g_steps": 2, "share_latents": True}},
    "pytorch": {"g": {"widths": (512, 256, 128, 64), "kernel": 4, "norm_per_unit": False, "norm_eps": 1e-5},
                "d": {"widths": (64, 128, 256, 512), "kernel": 4, "norm_eps": 1e-5},
                "l2": 0.0, "batch": 64, "task": {"share_latents": True}},
}


def get_config(arg: str = ""):
    """Structural arguments: variant (paper, tensorflow, pytorch), res (16, 32, 64, ...), channels, small (digits),
    cond (labels joined to every layer, as in the paper's MNIST model), classes, features (a network for Frechet
    distances, e.g. inception, lenet)."""
    a = parse_arg(arg, variant="paper", res=0, channels=0, small=False, cond=False, classes=10, features="")
    if a.variant not in VARIANTS:
        raise unknown("variant", a.variant, VARIANTS)
    v = VARIANTS["pytorch" if a.small else a.variant]
    res = a.res or (16 if a.small else 64)
    channels = a.channels or (1 if a.small else 3)
    stages = max(1, res.bit_length() - 3)
    widths = {"generator": v["g"].get("widths", (1024, 512, 256, 128)),
              "discriminator": v["d"].get("widths", (128, 256, 512, 1024))}
    # Fewer stages than at 64 x 64 keep the narrow end of the discriminator, the wide end of the generator.
    wide = {"generator": tuple(128 >> i for i in range(stages)),
            "discriminator": tuple(32 << i for i in range(stages))} if a.small else {
        k: w[:stages] if k == "discriminator" else w[len(w) - stages:] for k, w in widths.items()}
    classes = a.classes if a.cond else 0
    adam = node("genjax.core.optim.adam", learning_rate=2e-4, b1=0.5, l2=v["l2"])
    return experiment(
        task=node(TASK, generator=node("genjax.gan.dcgan.Generator", image_channels=channels, classes=classes,
                                       **{**v["g"], "widths": wide["generator"]}),
                  discriminator=node("genjax.gan.dcgan.Discriminator", classes=classes,
                                     **{**v["d"], "widths": wide["discriminator"]}),
                  g_optimizer="@optimizer", d_optimizer="@optimizer", evaluation=evaluation(a.features),
                  conditional=a.cond, **v["task"]),
        data=node("genjax.data.pipeline.Pipeline", source="builtin:digits" if a.small or a.cond else "builtin:photos",
                  image_size=res, channels=channels, batch_size=v["batch"]),
        optimizer=adam,
        train=node("genjax.core.experiment.TrainOptions", steps="200 epochs" if a.small else "25 epochs",
                   log_every=10, save_every=500, preview_every=500),
        smoke=("data.batch_size=8", "task.preview_images=4", "task.generator.widths=" + str((8,) * stages),
               "task.discriminator.widths=" + str((8,) * stages)),
    )
