"""Deep Image Prior, figure 2: the network resists noise; loss curves for an image, image + noise, shuffled, noise.

Ulyanov, Vedaldi and Lempitsky, CVPR 2018, figure 2: the same network is fitted to four targets and the mean squared
error is drawn against the iteration. Natural images are fitted fastest, white noise slowest. The order is a matter of
size too: at 64 x 64 the default network has 180 times more weights than values to fit, and the order is lost after some
300 iterations, so it is judged at iteration 100 (as a fraction of each target's variance).
"""

import tempfile
from pathlib import Path

import numpy as np

from genjax.core.figure import FigureRun
from genjax.data.images import load_image, resize_image, save_image
from genjax.viz.grid import Panel, sheet
from genjax.viz.plots import curves

# Fraction of the variance left at iteration 100, one seed, F16 at 64 x 64, measured with the authors' network.
EXPECTED = {"image": 0.08, "image + noise": 0.31, "shuffled": 0.79, "noise": 0.82}
JUDGED_AT = 100


def targets(image: np.ndarray) -> dict[str, np.ndarray]:
    """The four targets [H,W,C] in [0,1]; the shuffle moves whole pixels."""
    rng = np.random.default_rng(0)
    noisy = np.clip(image + rng.normal(size=image.shape) * 25 / 255, 0, 1)
    shuffled = rng.permutation(image.reshape(-1, image.shape[-1])).reshape(image.shape)
    return {"image": image, "image + noise": noisy, "shuffled": shuffled, "noise": rng.uniform(size=image.shape)}


def run(fig: FigureRun) -> None:
    """Fits the four targets with one network each, and draws the curves."""
    size = fig.by_scale(32, 64, 256)
    image = resize_image(load_image(fig.images or "builtin:photos/astronaut"), (size, size), "lanczos")
    wanted = targets(np.clip(image, 0, 1))
    fig.plan(len(wanted))
    overrides = ["data.clean=False", "task.reg_noise_std=0", "task.es_window=0", "task.backtrack_every=0",
                 f"data.size={size}", f"train.steps={fig.by_scale(2, 400, 3000)}", "train.save_every=0"]
    series, fraction = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, target in wanted.items():
            file = Path(folder) / f"{name.replace(' ', '')}.png"
            save_image(file, target)
            kept = fig.workdir / file.name  # the run's config names its picture: keep it beside the run
            kept.write_bytes(file.read_bytes())
            result = fig.train(name, "dip/denoise", [f"image={kept}", *overrides])
            steps, loss = result.curves()["loss"]
            series[name] = (steps + 1, loss)
            at = min(JUDGED_AT, len(loss) - 1)
            fraction[name] = float(loss[at] / target.var())
    for name, got in fraction.items():
        fig.row(name, f"MSE / variance at iteration {JUDGED_AT}", got, EXPECTED[name], 0.25, judge=False,
                source="authors' network, F16 at 64 x 64, one seed")
    order = list(EXPECTED)
    gap = min(fraction[b] - fraction[a] for a, b in zip(order[:2], order[1:3], strict=True))
    fig.row("image < image + noise < shuffled", "smallest gap", gap, 0.0, relation="at_least", source="figure 2")
    fig.picture("targets", sheet([[Panel(v, k) for k, v in wanted.items()]], panel_height=128), "The four targets")
    fig.picture("impedance", curves(series, xlabel="iteration", ylabel="mean squared error", logx=True),
                "Loss against iteration")
