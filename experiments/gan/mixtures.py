"""Samples against step on a ring of eight Gaussians: which losses find all modes, which run from one to the next.

Metz et al. 2017 (Unrolled GAN, arXiv:1611.02163), figure 2, and Mescheder et al. 2018 (1801.04406): the same two
perceptrons under several losses; the modes covered, the fraction of samples within 3 sigma of one, and the reverse KL
over modes are those of VEEGAN and PacGAN. The first row has Metz et al.'s discriminator (the config's default: one
hidden layer, the plane divided by 4) and runs from mode to mode; the others have a layer more and see the plane as it
is.
"""

import numpy as np

from genjax.core.figure import FigureRun
from genjax.data.images import load_image
from genjax.viz import jsonl
from genjax.viz.grid import Panel, sheet
from genjax.viz.plots import curves

PLAIN = "as Metz et al."
# name: (structural argument, overrides)
CASES = {
    PLAIN: ("loss=non_saturating", ()),
    "non-saturating": ("loss=non_saturating", ()),
    "least squares": ("loss=least_squares", ()),
    "hinge": ("loss=hinge", ()),
    "non-saturating, R1": ("loss=non_saturating", ("task.r1_gamma=0.1",)),
    "WGAN-GP": ("loss=wasserstein", ()),
}
FINDS = ("non-saturating, R1", "WGAN-GP")  # which must have all modes at the end
SHOWN = 4  # pictures per run


def run(fig: FigureRun) -> None:
    """Trains each loss with the same data, generator and learning rate; draws what the generator makes on the way."""
    steps = fig.by_scale(2, 6000, 25_000)
    overrides = ["optimizer.learning_rate=1e-3", f"train.steps={steps}",
                 f"train.preview_every={max(1, steps // SHOWN)}", f"train.eval_every={max(1, steps // 20)}"]
    deeper = ["task.discriminator.shrink=1", *fig.by_scale([], *2 * [["task.discriminator.hidden=(128,128)"]])]
    if fig.scale == "small":  # a fourth of the work per step, wider modes
        overrides += ["data.batch_size=256", "task.latent_dim=32", "data.sigma=0.05"]
        fig.note("Small scale: sigma 0.05 (0.02), batches of 256 (512), 32 latents (256), 6000 steps (25000).")
    cases = list(CASES)[fig.by_scale(slice(4, None), slice(None), slice(None))]
    fig.plan(len(cases))
    rows, counts = [], {}
    for name in cases:
        arg, more = CASES[name]
        result = fig.train(name, f"gan/mixture:{arg}", [*overrides, *([] if name == PLAIN else deeper), *more])
        pictures = sorted(result.folder.samples.glob("step_*.png"))
        rows.append([Panel(load_image(p), f"step {int(p.stem.removeprefix('step_'))}") for p in pictures])
        found = [r for r in jsonl.read(result.folder.metrics_file) if r.get("kind") == "eval"]
        counts[name] = {k: (np.asarray([r["step"] for r in found]), np.asarray([r[k] for r in found]))
                        for k in ("modes", "high_quality", "reverse_kl")}
        finds = name in FINDS
        last = {key: float(values[1][-1]) for key, values in counts[name].items()}
        fig.row(name, "modes of 8", last["modes"], 8 if finds else None, relation="at_least", source="all of them")
        fig.row(name, "reverse KL over modes [nats]", last["reverse_kl"], 0.05 if finds else None, relation="at_most",
                source="0: equally often")
        fig.row(name, "samples within 3 sigma", last["high_quality"], None)
    fig.picture("samples", sheet(rows, row_labels=cases, panel_height=fig.by_scale(160, 240, 240)),
                "512 samples (blue) of the same latents, and data (orange)")
    for key, label in (("modes", "modes covered"), ("high_quality", "samples within 3 sigma of a mode")):
        fig.picture(key, curves({n: c[key] for n, c in counts.items()}, xlabel="step", ylabel=label), label)
