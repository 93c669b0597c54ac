"""Deep Image Prior, the main job: denoise, inpaint text, fill a large hole, super-resolve x4 and clean up JPEG.

One sheet in the spirit of the paper's figure 1 (Ulyanov, Vedaldi and Lempitsky, CVPR 2018): per task what was
observed, the trivial baseline, what an untrained network makes of it, and the truth, with PSNR. `--images PATH` takes a
picture of your own for every row.
"""

import dataclasses

import numpy as np

from experiments.dip._tables import one_picture
from genjax.core.figure import FigureRun
from genjax.dip import baselines
from genjax.metrics.image import psnr
from genjax.viz.grid import Panel, sheet

IMAGES = True  # --images is read


@dataclasses.dataclass(frozen=True)
class Job:
    """One row of the sheet: a config, its picture, settings of the small scale, the baseline to beat by `gain`, and
    the one that is shown."""

    name: str
    config: str
    image: str
    baseline: str
    gain: float
    steps: int
    small: tuple[str, ...] = ()
    shown: str = ""  # where the baseline is the observed picture itself


# The small scale is for two cores: 192 x 192 pixels, 32 channels, fewer steps and, as a short run cannot average much
# noise away, less noise on the input and a shorter average. The rows that share a network share its compiled program.
SMALL = ("data.size=192", "task.input_channels=32", "task.network.channels_down=32,32,32,32,32",
         "task.network.channels_up=32,32,32,32,32", "task.network.channels_skip=4", "task.network.upsample=bilinear",
         "task.reg_noise_std=0.01", "task.ema_decay=0.97", "task.ema_warmup=0", "task.es_window=0",
         "train.save_every=100", "train.preview_every=0")
# Without a side branch at full size, whose input is noise, a short super-resolution is free of speckle.
CLEAN = (*SMALL, "task.network.channels_skip=0,4,4,4,4")
JOBS = (
    Job("denoise, sigma 25", "dip/denoise", "builtin:photos/cat", "observed", 6.0, 250, SMALL, "nlm"),
    Job("inpaint text", "dip/inpaint_text", "builtin:photos/astronaut", "nearest", 0.0, 350, SMALL),
    Job("fill a hole", "dip/inpaint_hole", "builtin:photos/cat", "nearest", 0.0, 300, ("mask=hole:0.1", *SMALL)),
    Job("super-resolution x4", "dip/super_resolution", "builtin:photos/coffee", "bicubic", 0.0, 400, CLEAN),
    Job("JPEG, quality 10", "dip/jpeg", "builtin:photos/coffee", "observed", 0.0, 400, SMALL, "tv"),
)


def run(fig: FigureRun) -> None:
    """Trains the five jobs and draws the sheet."""
    fig.plan(len(JOBS))
    rows = []
    for job in JOBS:
        overrides = [f"image={one_picture(fig, job.image)}"]
        if fig.scale == "small":
            overrides += [*job.small, f"train.steps={job.steps}"]
        result = fig.train(job.name, job.config, overrides)
        data, task, batches = result.experiment.data, result.experiment.task, result.experiment.data.batch(0)
        batch = {k: v[0] for k, v in batches.items()}
        # Where pixels are known they are kept, as the baseline keeps them.
        restored = (task.composite(result.variables, batches) if data.problem == "inpaint"
                    else task.outputs(result.variables)["ema"])[0]
        sigma, method = data.sigma if data.problem == "denoise" else None, job.shown or job.baseline
        made = {m: baselines.run(m, batch["observed"], mask=batch["mask"], problem=data.problem, factor=data.factor,
                                 sigma=sigma) for m in {job.baseline, method}}
        got, base, other = (float(psnr(x, batch["clean"])) for x in (restored, made[job.baseline], made[method]))
        fig.row(job.name, f"PSNR [dB] over {job.baseline} {base:.2f}", got, base + job.gain, relation="at_least",
                source=f"the {job.baseline} picture's PSNR, measured here, plus {job.gain:g} dB")
        observed = batch["observed"]
        if observed.shape[0] != restored.shape[0]:
            observed = np.repeat(np.repeat(observed, data.factor, 0), data.factor, 1)
        rows.append([Panel(observed, job.name, f"observed {base:.2f} dB" if job.shown else "observed"),
                     Panel(made[method], "", f"{method} {other:.2f} dB"),
                     Panel(restored, "", f"Deep Image Prior {got:.2f} dB"), Panel(batch["clean"], "", "truth")])
    fig.picture("restoration", sheet(rows, panel_height=256),
                "Observed, baseline, Deep Image Prior, truth")
    if fig.scale == "small":
        fig.note("Small scale: 192 x 192 pixels, networks of 32 channels (the paper: 128) and a fifth of its steps or "
                 "fewer; the paper scale runs the configs as they are.")
