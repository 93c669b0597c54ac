"""A GAN of residual networks (Mescheder et al. 2018), the "2D GAN" that GIRAFFE is compared with, on the same pictures.

Settings of GIRAFFE's authors: batch 64, RMSprop 1e-4 for both networks, R1 with weight 10, an average over .999, z
normal with 256 numbers. No fixed length: the best FID counts (with features=, snapshots/best.npz). At 64 x 64 the
generator has 1.69 million parameters. Without a source the scenes of the ray tracer are taken: two, cars, one,
two_to_five.

    python launch.py train --config gan/resnet:small
    python launch.py train --config gan/resnet:scenes=cars,features=inception
    python launch.py train --config gan/resnet --config.data.source=folder:img_align_celeba \\
        --config.data.center_crop=108 --config.data.resample=bilinear
    python launch.py train --config gan/resnet --config.data.source=folder:comprehensive_cars/images \\
        --config.data.fit=random --config.data.resample=bilinear

Expected (theirs, 64 x 64, 20k samples, FID): cats 18, celeba 15, cars 16, chairs 59, church 19; not run here.
"""

from configs.gan._base import evaluation
from genjax.core.config import experiment, node, parse_arg


def get_config(arg: str = ""):
    """Structural arguments: scenes (a preset of builtin:scenes), res, small (32 x 32, minutes on a CPU), features (a
    network for Frechet distances)."""
    a = parse_arg(arg, scenes="two", res=0, small=False, features="")
    size = a.res or (32 if a.small else 64)
    return experiment(
        task=node("genjax.gan.task.Adversarial", generator=node("genjax.gan.resnet.Generator", size=size),
                  discriminator=node("genjax.gan.resnet.Discriminator"), latent_dim=256, g_optimizer="@optimizer",
                  d_optimizer="@optimizer", r1_gamma=10.0, r1_convention="whole", ema_decay=0.999,
                  preview_images=16, evaluation=evaluation(a.features, 20_000)),
        data=node("genjax.data.pipeline.Pipeline", source=f"builtin:scenes/{a.scenes}", image_size=size,
                  batch_size=32 if a.small else 64, flip=True),
        optimizer=node("genjax.core.optim.rmsprop", learning_rate=1e-4),
        train=node("genjax.core.experiment.TrainOptions", steps=4000 if a.small else 300_000, log_every=20,
                   save_every=500 if a.small else 5000, preview_every=500 if a.small else 5000,
                   eval_every=10_000 if a.features else 0, keep_best="frechet" if a.features else ""),
        smoke=("data.batch_size=2", "data.image_size=8", "task.generator.size=8", "task.generator.filters=2",
               "task.discriminator.filters=2", "task.latent_dim=4", "task.preview_images=4"),
    )
