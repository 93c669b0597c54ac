"""NeRF (Mildenhall et al. 2020): a scene from photographs with known cameras, at the settings of the authors' code.

    python launch.py train --config fields/nerf:tiny                                        # a scene of the ray tracer
    python launch.py train --config fields/nerf:tiny --config.data.source=npz:lego_100.npz  # images, poses, focal
    python launch.py train --config fields/nerf --config.data.source=folder:nerf_synthetic/lego --config.data.holdout=0

Expected (the authors', one V100 for a day or two): 31.0 dB over the eight synthetic scenes, lego 32.5.
"""

from genjax.core.config import experiment, node, parse_arg


def get_config(arg: str = ""):
    """Structural arguments: tiny (minutes on a CPU)."""
    a = parse_arg(arg, tiny=False)
    wide = {"hidden": 256}
    coarse, fine = (({"hidden": 64, "layers": 3, "skips": (), "octaves": 6},
                     {"hidden": 96, "layers": 5, "skips": (2,), "octaves": 8}) if a.tiny else (wide, wide))
    steps = 1500 if a.tiny else 200_000
    return experiment(
        task=node("genjax.fields.nerf.Nerf", coarse=node("genjax.fields.radiance.RadianceField", **coarse),
                  fine=node("genjax.fields.radiance.RadianceField", **fine), optimizer="@optimizer",
                  samples=32 if a.tiny else 64, importance=32 if a.tiny else 128, noise=1.0 if a.tiny else 0.0),
        data=node("genjax.data.posed.PosedImages", batch_size=512 if a.tiny else 1024,
                  source="builtin:scenes/one"),
        optimizer=node("genjax.core.optim.adam", learning_rate=5e-3 if a.tiny else 5e-4, schedule="exponential",
                       decay_steps=steps if a.tiny else 500_000, end_factor=0.1),
        train=node("genjax.core.experiment.TrainOptions", steps=steps, log_every=25 if a.tiny else 100,
                   save_every=max(steps // 10, 1)),
        smoke=("task.samples=4", "task.importance=4", "task.coarse.hidden=8", "task.fine.hidden=8",
               "data.batch_size=16", "data.image_size=8", "data.views=8", "task.preview_size=4"),
    )
