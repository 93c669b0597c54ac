"""Deep Image Prior: the super-resolution tables, Set5 and Set14 by 4 (by 8 too at paper scale), on luma.

Ulyanov, Vedaldi and Lempitsky, CVPR 2018, section 3.2 and supplementary tables: bicubic enlargement, bare pixels (no
prior), total variation and the network, all but the first fitted to the same small picture. PSNR is taken on luma
without 4 pixels at the top and on the left and 5 at the bottom and on the right, as in the authors' script. `--images
FOLDER` with Set5 or Set14 (names such as baby.png or butterfly_GT.png are recognised) shows the paper's numbers beside
ours; other pictures stand without.

The authors' files were made from MATLAB's bicubic small pictures, ours from Pillow's Lanczos as their code does: our
bicubic column reads 0.1 to 0.4 dB higher.
"""

from experiments.dip._tables import Baseline, Run, draw, pictures
from genjax.core.figure import FigureRun
from genjax.metrics.image import psnr_y

IMAGES = True  # --images is read
SET5 = ("baby", "bird", "butterfly", "head", "woman")
SET14 = ("baboon", "barbara", "bridge", "coastguard", "comic", "face", "flowers", "foreman", "lenna", "man", "monarch",
         "pepper", "ppt3", "zebra")
ALIASES = {"lena": "lenna", "peppers": "pepper", "mandrill": "baboon"}


def _by_name(*columns: tuple[tuple[str, ...], tuple[float, ...]]) -> dict[str, float]:
    return {k: v for names, values in columns for k, v in zip(names, values, strict=True)}


# PSNR on luma, recomputed from the authors' files; factor -> method -> picture -> dB.
PAPER = {
    4: {
        "bicubic": _by_name(
            (SET5, (31.78, 30.20, 22.13, 31.34, 26.75)),
            (SET14, (22.44, 25.15, 24.47, 25.53, 21.59, 31.34, 25.33, 29.45, 29.84, 25.70, 27.45, 30.63, 21.78,
                     24.01))),
        "no prior": _by_name((SET5, (30.16, 27.67, 19.82, 29.98, 25.18))),
        "TV": _by_name((SET5, (31.21, 30.43, 24.38, 31.34, 26.93))),
        "DIP": _by_name(
            (SET5, (31.49, 31.80, 26.23, 31.04, 28.93)),
            (SET14, (22.29, 25.53, 24.38, 25.81, 22.18, 31.02, 26.14, 31.66, 30.83, 26.09, 29.98, 32.08, 24.38,
                     25.71))),
    },
    8: {
        "bicubic": _by_name((SET5, (27.28, 25.28, 17.74, 28.82, 22.74))),
        "no prior": {},
        "TV": {},
        "DIP": _by_name((SET5, (28.28, 27.09, 20.02, 29.55, 24.50))),
    },
}


def run(fig: FigureRun) -> None:
    """Fills the table for each factor."""
    found = pictures(fig, ("astronaut", "chelsea"), (*SET5, *SET14), ALIASES)
    factors = fig.by_scale((4,), (4,), (4, 8))
    fig.plan(3 * len(factors) * fig.by_scale(1, -(-len(found) // 4), len(found)))
    for factor in factors:
        paper = PAPER[factor]
        shrink = (f"data.factor={factor}", f"task.factor={factor}")
        draw(fig, f"sr_x{factor}", found, (
            Baseline("bicubic", "bicubic", paper["bicubic"], 0.5),
            Run("no prior", "dip/prior_effect:prior=none", {"no prior": "last"}, shrink, paper["no prior"]),
            Run("TV", "dip/prior_effect:prior=tv", {"TV": "last"}, shrink, paper["TV"]),
            Run("DIP", f"dip/super_resolution:factor={factor}", {"DIP": "last", "DIP, averaged": "ema"}, (),
                paper["DIP"], 1.0),
        ), score=psnr_y, metric="PSNR Y [dB]", source="the authors' files",
            title=f"Super-resolution x{factor}", beat=("DIP, averaged", "bicubic", 0.0))
    if fig.scale != "paper":
        fig.note("Below paper scale: 128 x 128 pixels, 64 channels, a third of the iterations; up to four pictures "
                 "train as one batch of independent networks. DIP is the network's last output, as in the paper; the "
                 "running average over its outputs stands beside it.")
