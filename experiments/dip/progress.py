"""Deep Image Prior: the output against the iteration, with PSNR; first the picture, then its noise.

Ulyanov, Vedaldi and Lempitsky, CVPR 2018, figure 3 and the authors' page; trajectories recomputed from their frames:
F16 at sigma 25 reaches 30.68 dB at iteration 1550 and falls afterwards. `--images F16.png` at paper scale holds this
run against theirs; every other picture stands alone.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from experiments.dip._tables import one_picture, paper_name
from genjax.core.figure import FigureRun
from genjax.viz.grid import Panel, sheet
from genjax.viz.plots import curves

IMAGES = True  # --images is read
# PSNR against the clean picture of the authors' F16 frames, and the loosest agreement we ask of a run at paper scale.
F16 = {100: 20.81, 200: 23.09, 300: 24.56, 500: 27.33, 800: 29.04, 1000: 29.66, 1550: 30.68, 2000: 30.20}
TOLERANCE = 1.5


def run(fig: FigureRun) -> None:
    """Trains one denoising run with frequent previews, draws curve and frames."""
    fig.plan(1)
    picture = one_picture(fig, "builtin:photos/astronaut")
    steps = fig.by_scale(2, 1200, 3000)
    result = fig.train("denoise", fig.by_scale("dip/denoise", "dip/denoise:small", "dip/denoise"), [
        f"image={picture}", f"train.steps={steps}", f"train.preview_every={max(1, steps // 6)}"])
    found = result.curves()
    iterations, values = found["psnr"]
    _, averaged = found["psnr_ema"]
    levels = {"noisy": result.metrics["psnr_input"]}
    series = {"output": (iterations + 1, values), "average of outputs": (iterations + 1, averaged)}
    fig.picture("progress", curves(series, xlabel="iteration",
                                   ylabel="PSNR against the clean picture [dB]", levels=levels),
                "PSNR against iteration")
    rows = []
    for frame in sorted(result.folder.samples.glob("step_*.png")):
        at = int(frame.stem.removeprefix("step_"))
        now = min(at, len(values) - 1)
        rows.append([Panel(np.asarray(Image.open(frame).convert("RGB")), f"iteration {at}",
                           f"output {values[now]:.2f} dB, average of outputs {averaged[now]:.2f} dB")])
    fig.picture("frames", sheet(rows), "Outputs along the way")
    if fig.scale == "paper" and paper_name(Path(picture).stem, ["F16"], {"airplane": "F16"}):
        for iteration, expected in F16.items():
            fig.row("F16", f"PSNR [dB] at {iteration}", values[iteration], expected, TOLERANCE,
                    source="authors' frames")
    best = int(np.argmax(averaged))
    fig.row("average of outputs", f"best PSNR [dB], at iteration {best}", averaged[best],
            result.metrics["psnr_input"] + 5, relation="at_least", source="5 dB over the noisy picture")
    fig.row("stopped without the clean picture", "PSNR [dB]", result.metrics["psnr_early"], averaged[best], 2.0,
            judge=False, source="best average of this run")
    if fig.scale != "paper":
        fig.note(f"Below paper scale: 128 x 128 pixels, 64 channels, {steps} iterations.")
