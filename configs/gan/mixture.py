"""Adversarial nets on points in the plane: the ring of 8 Gaussians, the grid of 25, a spiral.

Networks, data and optimiser of Metz et al. 2017 (Unrolled GAN, appendix A: what "unrolling 0" shows); the grid of
VEEGAN. The Wasserstein loss comes with the penalty, turns and Adam of the WGAN-GP authors' toy code.

    python launch.py train --config gan/mixture
    python launch.py train --config gan/mixture:kind=grid,loss=wasserstein

Expected: the plain loss rotates from mode to mode and covers few at a time (Metz et al. 2017, figure 2).
"""

from genjax.core.config import experiment, node, parse_arg
from genjax.errors import unknown

# kind: (class, half the side of the pictures)
KINDS = {"ring": ("Ring", 2.6), "grid": ("Grid", 5.2), "spiral": ("Spiral", 2.6)}


def get_config(arg: str = ""):
    """Structural arguments: kind (ring, grid, spiral), loss (see genjax.losses.adversarial)."""
    a = parse_arg(arg, kind="ring", loss="non_saturating")
    if a.kind not in KINDS:
        raise unknown("kind of mixture", a.kind, KINDS)
    name, extent = KINDS[a.kind]
    wasserstein = {"gp_weight": 0.1, "d_steps": 5} if a.loss == "wasserstein" else {}
    return experiment(
        task=node("genjax.gan.mixture.Plane", generator=node("genjax.gan.mixture.Generator"),
                  discriminator=node("genjax.gan.mixture.Discriminator"), g_optimizer="@optimizer",
                  d_optimizer="@optimizer", loss=a.loss, extent=extent, **wasserstein),
        data=node(f"genjax.data.mixtures.{name}"),
        optimizer=node("genjax.core.optim.adam", learning_rate=1e-4, b1=0.5, b2=0.9 if wasserstein else 0.999),
        train=node("genjax.core.experiment.TrainOptions", steps=25_000, steps_per_call=50, log_every=50,
                   save_every=5000, preview_every=5000, eval_every=1000),
        smoke=("data.batch_size=8", "task.preview_images=16", "task.eval_samples=16", "task.latent_dim=4",
               "task.generator.hidden=(8, 8)", "task.discriminator.hidden=(8,)"),
    )
