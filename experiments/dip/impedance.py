"""Deep Image Prior, figure 2: the network resists noise; loss curves for an image, image + noise, shuffled, noise.

Ulyanov, Vedaldi and Lempitsky, CVPR 2018, figure 2: the same network is fitted to four targets and the mean squared
error is drawn against the iteration. Natural images are fitted fastest, white noise slowest. The order is a matter of
size too: at 64 x 64 the default network has 180 times more weights than values to fit, and the order is lost after some
300 iterations, so it is judged at iteration 100 (as a fraction of each target's variance). The four are one batch of
independent networks.
"""

import numpy as np

from experiments.dip._tables import one_picture
from experiments.dip._targets import TARGETS
from genjax.core.figure import FigureRun
from genjax.viz import jsonl
from genjax.viz.grid import Panel, sheet
from genjax.viz.plots import curves

IMAGES = True  # --images is read
# Fraction of the variance left at iteration 100, one seed, F16 at 64 x 64, measured with the authors' network.
EXPECTED = {"image": 0.08, "image + noise": 0.31, "shuffled": 0.79, "noise": 0.82}
JUDGED_AT = 100


def run(fig: FigureRun) -> None:
    """Fits the four targets with one network each, and draws the curves."""
    fig.plan(1)
    picture = one_picture(fig, "builtin:photos/astronaut")
    result = fig.train("four targets", "dip/denoise", [
        "data.target=experiments.dip._targets.FourTargets", f"image={picture}", "task.reg_noise_std=0",
        "task.es_window=0", "task.backtrack_every=0", f"data.size={fig.by_scale(32, 64, 256)}",
        f"train.steps={fig.by_scale(2, 400, 3000)}", "train.preview_every=0"])
    rows = [r for r in jsonl.read(result.folder.metrics_file) if r.get("kind") == "train"]
    steps = np.asarray([r["step"] for r in rows])
    # The log holds each network's PSNR to its target; the loss is the same number before the logarithm.
    loss = 10 ** (-np.asarray([r["psnr_observed_each"] for r in rows]) / 10)
    targets = result.experiment.data.batch(0)["observed"]
    at = min(JUDGED_AT, len(loss) - 1)
    fraction = {}
    for i, name in enumerate(TARGETS):
        fraction[name] = float(loss[at, i] / targets[i].var())
        fig.row(name, f"MSE / variance at iteration {steps[at]}", fraction[name], EXPECTED[name], 0.25, judge=False,
                source="authors' network, F16 at 64 x 64, one seed")
    first, second, third, _ = (fraction[name] for name in TARGETS)
    fig.row("image < image + noise < shuffled", "smallest gap", min(second - first, third - second), 0.0,
            relation="at_least", source="figure 2")
    fig.picture("targets", sheet([[Panel(x, k) for k, x in zip(TARGETS, targets, strict=True)]],
                                 panel_height=fig.by_scale(128, 192, 256)), "The four targets")
    fig.picture("impedance", curves({k: (steps + 1, loss[:, i]) for i, k in enumerate(TARGETS)}, xlabel="iteration",
                                    ylabel="mean squared error", logx=True), "Loss against iteration")
    if fig.scale != "paper":
        fig.note("Small scale: 64 x 64 pixels (the paper: 512 x 512), where the resistance fades after some 300 "
                 "iterations.")
