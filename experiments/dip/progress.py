"""Deep Image Prior: the output against the iteration, with PSNR; first the picture, then its noise.

Ulyanov, Vedaldi and Lempitsky, CVPR 2018, figure 3 and the authors' page; trajectories recomputed from their frames:
F16 at sigma 25 reaches 30.68 dB at iteration 1550 and falls afterwards.
"""

import numpy as np
from PIL import Image

from genjax.core.figure import FigureRun
from genjax.viz.plots import curves

# PSNR against the clean picture of the authors' F16 frames, and the loosest agreement we ask of a run at paper scale.
F16 = {100: 20.81, 200: 23.09, 300: 24.56, 500: 27.33, 800: 29.04, 1000: 29.66, 1550: 30.68, 2000: 30.20}
TOLERANCE = 1.5


def run(fig: FigureRun) -> None:
    """Trains one denoising run with frequent previews, draws curve and frames."""
    steps = fig.by_scale(2, 1200, 3000)
    overrides = [f"train.steps={steps}", f"train.preview_every={max(1, steps // 6)}"]
    if fig.images:
        overrides.append(f"image={fig.images}")
    if fig.scale == "small":
        overrides += ["data.size=128", "task.network.channels_down=64,64,64,64,64",
                      "task.network.channels_up=64,64,64,64,64"]
    result = fig.train("denoise", "dip/denoise", overrides)
    found = result.curves()
    iterations, values = found["psnr"]
    _, averaged = found["psnr_ema"]
    levels = {"noisy": result.metrics["psnr_input"]}
    fig.picture("progress", curves({"output": (iterations + 1, values), "average of outputs": (iterations + 1, averaged)},
                                   xlabel="iteration", ylabel="PSNR against the clean picture [dB]", levels=levels),
                "PSNR against iteration")
    frames = sorted(result.folder.samples.glob("step_*.png"))
    for frame in frames[:: max(1, len(frames) // 4)]:
        fig.picture(frame.stem, np.asarray(Image.open(frame).convert("RGB")), f"Iteration {int(frame.stem[5:])}")
    best = int(np.argmax(averaged))
    for iteration, expected in F16.items():
        if iteration < len(values):
            fig.row("F16 trajectory", f"PSNR [dB] at {iteration}", values[iteration], expected, TOLERANCE,
                    judge=fig.scale == "paper" and bool(fig.images), source="authors' frames (give F16 as --images)")
    fig.row("average of outputs", f"best PSNR [dB], at iteration {best}", averaged[best],
            result.metrics["psnr_input"] + 5, relation="at_least", source="5 dB over the noisy picture")
    chosen = result.metrics["psnr_early"]
    fig.row("stopped without the clean picture", "PSNR [dB]", chosen, averaged[best], 2.0, judge=False,
            source="best average of this run")
