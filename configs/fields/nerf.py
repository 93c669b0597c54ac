"""NeRF (Mildenhall et al. 2020): a scene from photographs with known cameras, at the settings of the authors' code.

    python launch.py train --config fields/nerf:tiny                                        # a scene of the ray tracer
    python launch.py train --config fields/nerf:tiny --config.data.source=npz:lego_100.npz  # images, poses, focal
    python launch.py train --config fields/nerf --config.data.source=folder:nerf_synthetic/lego --config.data.holdout=0

As there, layers start as Keras's, Adam's epsilon is 1e-7, 500,000 steps replicate the paper, and the first 500 batches
come from the middle half of the pictures (their option precrop_iters). Not as there: each batch is drawn from all views
(the paper's words; their code for these scenes takes one view a step).

Expected (the authors', one V100 for a day or two): 31.0 dB over the eight synthetic scenes, lego 32.5. Reached by tiny,
held-out views, 4 minutes on two cores: 33.1 dB (the ground beyond `far` is blurred), lego at 100 x 100 26.3.

tiny is not the paper's: small networks, many small steps, densities through a softplus, the fine network asked at its
own samples alone, half of the rays from what is not transparent (where pictures say so).
"""

from genjax.core.config import experiment, node, parse_arg


def get_config(arg: str = ""):
    """Structural arguments: tiny (minutes on a CPU)."""
    a = parse_arg(arg, tiny=False)
    coarse, fine, steps = {"start": "glorot"}, {"start": "glorot"}, 500_000
    task = {"samples": 64, "importance": 128}
    data = {"batch_size": 1024, "middle_steps": 500}
    if a.tiny:  # many small steps; the fine network only where the coarse one found something
        coarse = {"hidden": 48, "layers": 2, "skips": (), "octaves": 6, "start": "glorot"}
        fine = {"hidden": 96, "layers": 5, "skips": (2,), "octaves": 8, "start": "glorot"}
        task = {"samples": 24, "importance": 32, "union": False, "density": "softplus"}
        data, steps = {"batch_size": 256, "solid": 0.5}, 4500
    return experiment(
        task=node("genjax.fields.nerf.Nerf", coarse=node("genjax.fields.radiance.RadianceField", **coarse),
                  fine=node("genjax.fields.radiance.RadianceField", **fine), optimizer="@optimizer", **task),
        data=node("genjax.data.posed.PosedImages", source="builtin:scenes/one", **data),
        optimizer=node("genjax.core.optim.adam", learning_rate=5e-3 if a.tiny else 5e-4, schedule="exponential",
                       decay_steps=steps if a.tiny else 500_000, end_factor=0.1,
                       eps=1e-8 if a.tiny else 1e-7),
        train=node("genjax.core.experiment.TrainOptions", steps=steps, log_every=50 if a.tiny else 100,
                   save_every=steps // 10),
        smoke=("task.samples=4", "task.importance=4", "task.coarse.hidden=8", "task.fine.hidden=8",
               "data.batch_size=16", "data.image_size=8", "data.views=8", "task.preview_size=4"),
    )
