"""GRAF (Schwarz et al., NeurIPS 2020): radiance fields from unposed pictures, at the settings of the authors' code.

    data      radius      near, far   fov  azimuth, v            real pictures
    carla     10          7.5, 12.5   30   all, 0 to .4564
    celeba    9.5-10.5    7.5, 12.5   10   0-.25, .329-.456      middle 108 x 108, mirrored
    celebahq  9.5-10.5    7.5, 12.5   10   0-.25, .329-.456      middle 650 x 650, mirrored; 256, patches down to .125
    cats      10          7.5, 12.5   10   0-.1944, .329-.456    mirrored
    cub       9-11        7.5, 12.5   30   all, .25-.5436        mirrored with the generated ones, at random

Behind everything it is white for carla and cub, black for the others. Where the radius is a range, near and far are
those of the largest: they come nearer with the camera. Real pictures are resampled bilinearly. As in the authors' code
rays go through the pixels' upper left corners (centred=False), and R1's mean runs over all pixels of all patches.

    python launch.py train --config fields/graf --config.data.source=folder:carla/images
    python launch.py train --config fields/graf:small
    python launch.py train --config fields/graf:data=celeba --config.data.source=folder:img_align_celeba

With features= the distance is measured as often as theirs (every 5000 steps, celebahq 10,000), and the best snapshot
kept in snapshots/best.npz. Expected (the authors', FID of 1,000 samples against 20,000 pictures): carla-128 41, cats-64
27, celeba-128 32.
"""

from configs.gan._base import evaluation
from genjax.core.config import experiment, node, parse_arg
from genjax.errors import unknown

# radius, fov, u, v, mirrored, middle, side
DATA = {"carla": ((10.0, 10.0), 30.0, (0.0, 1.0), (0.0, 0.45642), False, 0, 128),
        "celeba": ((9.5, 10.5), 10.0, (0.0, 0.25), (0.32898, 0.45642), True, 108, 64),
        "celebahq": ((9.5, 10.5), 10.0, (0.0, 0.25), (0.32898, 0.45642), True, 650, 256),
        "cats": ((10.0, 10.0), 10.0, (0.0, 0.19444), (0.32898, 0.45642), True, 0, 64),
        "cub": ((9.0, 11.0), 30.0, (0.0, 1.0), (0.25, 0.5436), False, 0, 64)}


def get_config(arg: str = ""):
    """Structural arguments: data (see above), res, small (a narrow field and few samples, for a CPU), features (a
    network for Frechet distances)."""
    a = parse_arg(arg, data="carla", res=0, small=False, features="")
    if a.data not in DATA:
        raise unknown("data", a.data, DATA)
    radius, fov, u, v, mirrored, middle, side = DATA[a.data]
    res = a.res or (32 if a.small else side)
    patches = {"least": 0.125, "anneal": 0.0019} if a.data == "celebahq" else {}
    return experiment(
        task=node("genjax.fields.graf.Graf",
                  generator=node("genjax.fields.graf.Generator", size=res, samples=24 if a.small else 64,
                                 white=a.data in ("carla", "cub"), radius=radius[1], centred=False,
                                 field=node("genjax.fields.radiance.RadianceField", view_directions=a.data != "cub",
                                            **({"hidden": 64, "layers": 4, "skips": (2,)} if a.small else {}))),
                  discriminator=node("genjax.fields.graf.PatchDiscriminator", features=16 if a.small else 64,
                                     mirrored=a.data == "cub"),
                  patches=node("genjax.fields.graf.PatchPrior", **patches),
                  camera=node("genjax.fields.task.CameraPrior", radius=radius, fov=fov, u=u, v=v),
                  code=32 if a.small else 128, g_optimizer="@g_optimizer", d_optimizer="@d_optimizer",
                  evaluation=evaluation(a.features, 1000)),
        data=node("genjax.data.pipeline.Pipeline", source="builtin:scenes/one", image_size=res, batch_size=8,
                  flip=mirrored, center_crop=middle, resample="bilinear"),
        g_optimizer=node("genjax.core.optim.rmsprop", learning_rate=5e-4, halve_at=(50_000, 100_000, 200_000)),
        d_optimizer=node("genjax.core.optim.rmsprop", learning_rate=1e-4, halve_at=(50_000, 100_000, 200_000)),
        train=node("genjax.core.experiment.TrainOptions", steps=2000 if a.small else 300_000, log_every=10,
                   save_every=500 if a.small else 5000, preview_every=500 if a.small else 5000,
                   eval_every=0 if not a.features else 10_000 if a.data == "celebahq" else 5000,
                   keep_best="frechet" if a.features else ""),
        smoke=("data.batch_size=2", "data.center_crop=0", "task.preview_images=4", "task.generator.samples=3",
               "task.generator.field.hidden=4", "task.generator.field.layers=2", "task.generator.field.skips=()",
               "task.generator.size=32", "data.image_size=32", "task.code=4",
               "task.discriminator.features=2"),
    )
