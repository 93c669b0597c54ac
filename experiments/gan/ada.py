"""Adaptive augmentation at work on few pictures: strength p and overfitting heuristic r_t, with ADA and without.

Karras et al. 2020 (arXiv:2006.06676), figures 1, 5 and 6: r_t is the mean sign of the discriminator's logits on real
pictures. Without augmentation it rises towards 1 as the discriminator learns a small training set by heart; ADA raises
p just so far that r_t stays near its target, .6. Both runs' numbers are read from their metrics.jsonl. At small scale
the training set is 200 of scikit-learn's digits at 16 x 16, shown 200 times each; the paper's smallest are 1000 faces.
"""

import numpy as np

from genjax.core.figure import FigureRun, Result
from genjax.viz.plots import curves

WINDOW = 2000  # images over which r_t is averaged in the drawing
PICTURES = 200  # in the training set, at small scale


def _series(result: Result, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(thousands of images, values) of a training metric."""
    steps, values = result.curves()[name]
    return (np.asarray(steps) + 1) * result.experiment.data.batch_size / 1000, np.asarray(values)


def _smooth(kimg: np.ndarray, values: np.ndarray, window: float = WINDOW / 1000) -> np.ndarray:
    """The mean over the last `window` thousand images at each place."""
    first = np.searchsorted(kimg, kimg - window, side="right")
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(1, len(values) + 1)
    return (total[at] - total[first]) / (at - first)


def run(fig: FigureRun) -> None:
    """Trains StyleGAN2 with ADA and without augmentation on the same few pictures."""
    both = (("ADA", "ada"), ("no augmentation", "none"))
    cases = fig.by_scale(both[:1], both, both)  # compiling is all that smoke scale does
    fig.plan(len(cases))
    base = fig.by_scale("gan/stylegan2:small,aug={}", "gan/stylegan2:small,aug={}", "gan/stylegan2:cfg=auto,aug={}")
    overrides = ["train.preview_every=0"]
    if fig.scale == "smoke":
        overrides += ["task.pl_weight=0", "task.r1_gamma=0"]  # they take most of the compilation
    if fig.scale == "small":
        # Weak R1: with gamma 1 r_t falls by itself, to .35 after 35 thousand images, and p goes back to 0.
        # Path lengths take a third of the time, in which more pictures are seen.
        overrides += [f"data.split=train[:{PICTURES}]", "task.r1_gamma=0.05", "task.pl_weight=0", "task.ada_kimg=50",
                      "train.log_every=4", "train.steps=40k images", "train.save_every=8k images",
                      "task.preview_images=36"]
    strength, sign, late = {}, {}, {}
    for name, aug in cases:
        result = fig.train(name, base.format(aug), overrides)
        kimg, found = _series(result, "real_sign")
        sign[name] = kimg, _smooth(kimg, found)
        if aug == "ada":
            strength["p"] = _series(result, "augment_p")
            target = result.experiment.task.ada_target
        late[name] = float(found[kimg > 0.75 * kimg[-1]].mean())
        fig.row(name, "r_t, mean of the last quarter", late[name], *((None,) if aug == "none" else (target, 0.15)),
                source="its target" if aug == "ada" else "")
        sheet = result.folder.outputs / "samples.png"
        fig.picture(f"samples_{aug}", sheet.read_bytes(), f"{name}: uncurated samples at the end")
    p = strength["p"][1]
    fig.row("ADA", "p, mean of the last quarter", float(p[3 * len(p) // 4 :].mean()), 0.02, relation="at_least",
            source="it augments")
    if len(cases) == 2:
        fig.row("no augmentation - ADA", "r_t, mean of the last quarter", late["no augmentation"] - late["ADA"], 0.0,
                relation="at_least", source="figure 6: without it the discriminator overfits")
    if fig.scale == "small":
        fig.note("One seed, and R1 chosen weak enough that the discriminator overfits. Shown are r_t and p: after"
                 " so few images the samples of both runs fall into few shapes, and ADA's are not better.")
    fig.picture("signs", curves(sign, xlabel="thousands of images", ylabel="r_t", levels={"target": target},
                                ylim=(-1, 1)), f"r_t, averaged over {WINDOW} images")
    fig.picture("strength", curves(strength, xlabel="thousands of images", ylabel="p", ylim=(0, None)),
                "The strength p that ADA chose")
