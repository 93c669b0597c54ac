"""What styles and noise of StyleGAN2 do: mixing grid, truncation, noise, interpolation in z and w, a walk as a video.

Karras et al. 2019 (arXiv:1812.04948), figures 3, 4, 5 and 8, on StyleGAN2 (1912.04958): coarse layers set the outline,
fine ones the stroke; truncation trades variety for likeness to the mean picture; noise moves details only. At small
scale the generator is trained on digits at 16 x 16 for 60 thousand images, so layers are three groups of two.
"""

import jax
import numpy as np

from genjax.core.figure import FigureRun
from genjax.gan import latent
from genjax.viz.grid import Panel, image_grid, sheet
from genjax.viz.video import save_video

ROWS = ("coarse", "coarse", "coarse", "middle", "middle", "fine")  # of figure 3
COLUMNS, SEEDS = 5, 12


def run(fig: FigureRun) -> None:
    """Trains one StyleGAN2, then draws its latent spaces."""
    fig.plan(1)
    result = fig.train("stylegan2", fig.by_scale("gan/stylegan2:small", "gan/stylegan2:small",
                                                 "gan/stylegan2:cfg=auto,res=256"), [
        "train.preview_every=0", *fig.by_scale(["task.pl_weight=0", "task.r1_gamma=0"], [], [])])  # quicker to compile
    task = result.experiment.task
    style = latent.Style(task.generator, result.variables)
    size = task.generator.resolution
    scale = max(1, 64 // size)

    def shown(x):
        low, high = task.value_range
        return (np.asarray(x) - low) / (high - low)

    z = latent.codes_of_seeds(range(SEEDS), task.latent_dim)
    ws = style.map(z)
    plain = style.paint(ws)
    spread = float(plain.std(0).mean())
    _mixing(fig, style, ws, shown, scale)

    grid = latent.truncations(style, ws[:6])
    fig.picture("truncation", image_grid([shown(x) for row in grid for x in row], len(latent.PSI), scale=scale,
                                         column_labels=[f"{psi:g}" for psi in latent.PSI]),
                "Truncation: w_avg + psi (w - w_avg), psi above the columns")
    by_psi = {psi: float(grid[:, i].std(0).mean()) for i, psi in enumerate(latent.PSI)}
    fig.row("psi = 0", "deviation between samples", by_psi[0.0], 0.0, 1e-5, source="all are the mean picture")
    fig.row("psi = 0.5 / psi = 1", "deviation between samples", by_psi[0.5] / by_psi[1.0], 0.95, relation="at_most",
            source="figure 8: less variety")

    _noise(fig, style, ws, shown, size, spread)
    _strips(fig, style, z, ws, shown, scale)
    path = latent.walk(z[:4], fig.by_scale(2, 16, 60))
    video = save_video(fig.workdir / "walk.gif", latent.frames(style, path, task.value_range, scale=scale), 20)
    fig.note(f"`{video.name}`: a closed walk through four latents on great circles, {len(path)} frames.")


def _mixing(fig: FigureRun, style: latent.Style, ws, shown, scale: int) -> None:
    groups = latent.layer_groups(ws.shape[1])
    source, rows = ws[:COLUMNS], ws[COLUMNS : COLUMNS + len(ROWS)]
    x = latent.mixing(style.paint, rows, source, [groups[name] for name in ROWS])
    blank = np.ones_like(shown(x[0, 0]))
    top = [blank, *shown(style.paint(source))]
    fig.picture("mixing", image_grid([*top, *(shown(p) for row in x for p in row)], 1 + COLUMNS, scale=scale,
                                     row_labels=["", *ROWS], padding=3),
                "Style mixing: the named layers take their styles from the top row, the others from the left column")
    everything = latent.mixing(style.paint, rows[:1], source, [(0, ws.shape[1])])[0, 1:]
    fig.row("all layers mixed", "largest difference from the source", abs(everything - style.paint(source)).max(), 0.0,
            1e-4, source="they are the source")
    far = {name: float(np.mean([abs(x[r, 1:] - x[r, 0]).mean() for r, n in enumerate(ROWS) if n == name]))
           for name in groups}
    for name, value in far.items():
        fig.row(f"{name} layers mixed", "mean difference from the row's picture", value, None)


def _noise(fig: FigureRun, style: latent.Style, ws, shown, size: int, spread: float) -> None:
    scale = max(1, 128 // size)
    rows, ratio = [], []
    for i in range(3):
        x, deviation = latent.noise_detail(style, ws[i], jax.random.key(i), fig.by_scale(4, 100, 100))
        ratio.append(float(deviation.mean()))
        rows.append([Panel(p.repeat(scale, 0).repeat(scale, 1)) for p in (*shown(x[:4]), deviation / max(
            deviation.max(), 1e-12))])
    fig.picture("noise", sheet(rows, column_labels=["noise 1", "2", "3", "4", "deviation"]),
                "One w under four draws of noise, and the standard deviation over all draws (brightest: its largest)")
    fig.row("deviation over noise / over latents", "ratio", np.mean(ratio) / spread, 0.5, relation="at_most",
            source="figure 4: noise moves details only")
    found = latent.noise_components(style, ws[:4], max(8, size // 2))
    fig.picture("noise_components", sheet([[Panel(p.repeat(scale, 0).repeat(scale, 1)) for p in shown(x)]
                                           for x in found.values()], row_labels=list(found)),
                f"Noise in all layers, in none, from {max(8, size // 2)} x {max(8, size // 2)} up, and below")


def _strips(fig: FigureRun, style: latent.Style, z, ws, shown, scale: int) -> None:
    steps, n = 9, 3
    drawn = {"slerp in z": style(latent.strip(z[:n], z[n : 2 * n], steps, "slerp").reshape(n * steps, -1))}
    lines = latent.strip(ws[:n], ws[n : 2 * n], steps)
    drawn["lerp in w"] = style.paint(lines.reshape(n * steps, *ws.shape[1:]))
    images, labels = [], []
    for i in range(n):
        for name, x in drawn.items():
            images += list(shown(x[i * steps : (i + 1) * steps]))
            labels.append(name)
    fig.picture("interpolation", image_grid(images, steps, row_labels=labels, scale=scale),
                "The same pairs of latents, on great circles in z and on straight lines in w")
    for name, x in drawn.items():
        x = x.reshape(n, steps, -1)
        jump = np.linalg.norm(np.diff(x, axis=1), axis=-1).max(1) / np.linalg.norm(x[:, -1] - x[:, 0], axis=-1)
        fig.row(name, f"largest of {steps - 1} steps / distance of the ends", float(jump.mean()), None)
