"""Progressive growing: the same latents at each resolution and in the middle of each fade, real images beside them.

Karras et al. 2018 (arXiv:1710.10196), figures 1 and 2: a generator and a discriminator that start at 4 x 4; new layers
are faded in, over the networks' outputs and over the real images. The level of detail that training reports is compared
with the paper's schedule at the same number of images.
"""

import numpy as np
from PIL import Image

from genjax.core.figure import FigureRun
from genjax.gan.progressive import fade_images
from genjax.viz.grid import Panel, image_grid, sheet
from genjax.viz.plots import curves

IMAGES = True  # --images is read
SHOWN = 16


def published_lod(schedule, kimg: float) -> float:
    """Level of detail after so many thousand images, by the paper's schedule."""
    top = float(np.log2(schedule.resolution // schedule.start))
    period = schedule.stable_kimg + schedule.fade_kimg
    k = kimg // period
    return max(top - k - max(kimg - k * period - schedule.stable_kimg, 0.0) / schedule.fade_kimg, 0.0)


def moments(schedule, total: int) -> list[int]:
    """The steps to show: the middle of each fade and the end of each stage, as far as the run goes."""
    steps = []
    for s in schedule.stages:
        last = min(schedule.next_change(s.first) - 1, total)
        steps += [s.first + s.fade // 2, last] if s.fade else [last]
    return sorted({i for i in steps if i <= total})


def nearest(schedule, frames, step: int) -> int:
    """The frame nearest to a step, of the same resolution if there is one."""
    same = [at for at in frames if schedule.index(at) == schedule.index(step)]
    return min(same or frames, key=lambda at: abs(at - step))


def reals(data, step: int) -> np.ndarray:
    """Real images as a step trains on them, at full size: one sheet."""
    schedule, found, i = data.schedule, [], step
    while sum(map(len, found)) < SHOWN:
        found.append(data.batch(min(i, schedule.next_change(step) - 1))["image"])
        i += 1
    x = np.concatenate(found)[:SHOWN]
    if x.shape[1] > schedule.start:
        x = np.asarray(fade_images(x, schedule.fade(step)))
    low, high = data.value_range
    factor = schedule.resolution // x.shape[1]
    return (np.clip(x, low, high).repeat(factor, 1).repeat(factor, 2) - low) / (high - low)


def run(fig: FigureRun) -> None:
    """Trains one growing run with frequent previews and lines up the frames."""
    fig.plan(1)
    every = fig.by_scale(1, 50, 5000)
    config = fig.by_scale("gan/progressive", "gan/progressive:small", "gan/progressive")
    previews = [f"task.preview_images={SHOWN}", f"train.preview_every={every}"]
    result = fig.train("growth", config, [*previews, *fig.source()])
    experiment = result.experiment
    data, schedule = experiment.data, experiment.data.schedule
    frames = {int(p.stem.removeprefix("step_")): p for p in sorted(result.folder.samples.glob("step_*.png"))}
    shown = sorted({nearest(schedule, frames, i) for i in moments(schedule, experiment.steps("steps"))})
    made, real = [], []
    for at in shown:
        side, alpha = schedule.stage(at).resolution, schedule.fade(at)
        x = np.asarray(Image.open(frames[at]).convert("RGB"))
        made.append(Panel(x, f"{side} x {side}" + (f", {alpha:.0%} in" if alpha < 1 else ""),
                          f"{schedule.images(at):,} images"))
        real.append(Panel(image_grid(reals(data, at), 4), "", "real"))
    height = x.shape[0] * max(1, 256 // x.shape[0])  # whole pixels
    fig.picture("growth", sheet([made, real], panel_height=height),
                "The same latents as the networks grow (average of the generator), and real images of the same step")
    found = result.curves()
    _, kimg = found["kimg"]
    steps, lod = found["lod"]
    fig.picture("schedule", curves({"level of detail": (steps, lod)}, xlabel="step", ylabel="level of detail"),
                "Level of detail: 0 is full size, fractions are fades")
    block = schedule.repeats * max(s.batch for s in schedule.stages) / 1000
    wrong = max(abs(got - published_lod(schedule, seen)) for got, seen in zip(lod, kimg, strict=True))
    fig.row("schedule", "largest difference in level of detail", wrong, 0.0, block / schedule.fade_kimg + 1e-3,
            source="Karras et al. 2018, appendix A")
    for name in ("d_loss", "penalty"):
        fig.row("growth", f"{name}, mean of the last tenth", float(np.mean(found[name][1][-max(1, len(lod) // 10):])),
                None)
    if fig.scale != "paper":
        fig.note(f"Below paper scale: {schedule.resolution} x {schedule.resolution} pixels,"
                 f" {schedule.images(experiment.steps('steps')):,} images.")
