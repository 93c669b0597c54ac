"""What styles and noise of StyleGAN do: mixing grid, truncation, noise, interpolation, projection, a walk as a film.

Karras et al. 2019 (arXiv:1812.04948), figures 3, 4, 5 and 8: coarse layers set the outline, fine ones the stroke;
truncation trades variety for likeness to the mean picture; noise moves details only. Projection finds the styles of
pictures that were not trained on (Karras et al. 2020, arXiv:1912.04958, appendix D). At small scale the generator is
trained on digits at 16 x 16, so layers are three groups of two. The sheets are those of `sample RUN --control NAME`.

    python launch.py reproduce gan/latents
    python launch.py reproduce gan/latents:given=runs/faces       # of a finished run, converted ones too
"""

import jax
import numpy as np

from genjax.core import config as config_lib
from genjax.core import rng as rng_lib
from genjax.core.figure import FigureRun
from genjax.core.snapshot import OpenedRun
from genjax.errors import UserError
from genjax.gan import controls, latent, project
from genjax.viz.grid import Panel, sheet
from genjax.viz.video import save_film

IMAGES = True  # --images is read
CAPTIONS = {
    "mixing": "Style mixing: the named layers take their styles from the top row, the others from the left column",
    "truncation": "Truncation: w_avg + psi (w - w_avg), psi above the columns",
    "noise": "One w under four draws of noise, and the standard deviation over all draws (brightest: its largest)",
    "noise_parts": "Pictures without noise; what noise adds in all layers, the fine, the coarse ones (grey: nothing)",
    "interpolation": "The same pairs of latents, on great circles in z and on straight lines in w"}


def run(fig: FigureRun, given: str = "") -> None:
    """Trains one StyleGAN, or takes the run `given`, and draws its latent spaces."""
    if given:
        if fig.images:
            raise UserError(f"given={given} was trained on pictures of its own; leave --images {fig.images} away")
        opened = OpenedRun(given)
        config, experiment, variables = opened.config, opened.experiment, opened.variables
    else:
        fig.plan(1)
        items = fig.source() + fig.by_scale(["task.r1_gamma=0"], [], [])  # quicker to compile
        result = fig.train("stylegan", fig.by_scale("gan/stylegan:small", "gan/stylegan:small", "gan/stylegan:res=256"),
                           items)
        config, experiment, variables = result.folder.config(), result.experiment, result.variables
    task, rng = experiment.task, rng_lib.stream(0, "sample")
    offered = task.controls()
    draws = fig.by_scale(4, 100, 100)
    for name, options in {"mixing": {}, "truncation": {}, "noise": {"draws": draws}, "interpolation": {},
                          "walk": {"steps": fig.by_scale(2, 16, 60)}}.items():
        if name in offered:  # a generator may have no noise
            for key, x in offered[name](variables, rng, **options).items():
                _keep(fig, key, x)
    style = task.style(variables)
    ws = style.map(controls.codes(task, rng, 12), np.zeros(12, np.int32) if task.conditional else None)
    _mixing(fig, style, ws)
    _truncation(fig, style, ws)
    if "noise" in offered:
        _noise(fig, style, ws, draws)
    _projection(fig, task, style, variables, config)


def _keep(fig: FigureRun, key: str, x: np.ndarray) -> None:
    if x.ndim == 3:
        fig.picture(key, x, CAPTIONS[key])
        return
    film = save_film(fig.workdir / key, x)
    fig.note(f"`{film.name}`: a closed walk through six latents on great circles, {len(x)} frames.")


def _mixing(fig: FigureRun, style: latent.Style, ws: np.ndarray) -> None:
    groups = latent.layer_groups(ws.shape[1])
    source, rows = ws[:5], ws[5:8]
    far = {}
    for name, group in groups.items():
        x = latent.mixing(style.paint, rows, source, [group] * len(rows))
        far[name] = float(abs(x[:, 1:] - x[:, :1]).mean())
    everything = latent.mixing(style.paint, rows[:1], source, [(0, ws.shape[1])])[0, 1:]
    fig.row("all layers mixed", "largest difference from the source", abs(everything - style.paint(source)).max(), 0.0,
            1e-4, source="they are the source")
    for name, value in far.items():
        fig.row(f"{name} layers mixed", "mean difference from the row's picture", value, None)
    fig.row("fine over coarse layers mixed", "ratio of these differences", far["fine"] / far["coarse"], 1.0,
            relation="at_most", source="figure 3: coarse layers set the outline")


def _truncation(fig: FigureRun, style: latent.Style, ws: np.ndarray) -> None:
    x = latent.truncations(style, ws, (1.0, 0.5, 0.0))
    one, half, none = (float(x[:, i].std(0).mean()) for i in range(3))
    fig.row("psi = 0", "deviation between samples", none, 0.0, 1e-5, source="all are the mean picture")
    fig.row("psi = 0.5 / psi = 1", "deviation between samples", half / one, 0.95, relation="at_most",
            source="figure 8: less variety")


def _noise(fig: FigureRun, style: latent.Style, ws: np.ndarray, draws: int) -> None:
    moved = [latent.noise_detail(style, w, jax.random.key(i), draws)[1].mean() for i, w in enumerate(ws[:3])]
    fig.row("deviation over noise / over latents", "ratio", np.mean(moved) / style.paint(ws).std(0).mean(), 0.5,
            relation="at_most", source="figure 4: noise moves details only")


def _projection(fig: FigureRun, task, style: latent.Style, variables: dict, config) -> None:
    """Three pictures of the test split (of the training data where there is none) and a sample, in W and W+."""
    split = ["data.split=test"] if config.data.source == "builtin:digits" else []
    data = config_lib.build(config_lib.override(config, split)).data
    (low, high), factor = task.value_range, data.image_size // style.size
    real = [np.asarray(data.rows[i]["image"]) for i in range(3)]
    targets = [x.reshape(style.size, factor, style.size, factor, -1).mean((1, 3)) for x in real]
    targets.append(task.sample(variables, rng_lib.stream(1, "sample"), 1)["samples"][0])
    targets = targets[:fig.by_scale(1, 4, 4)]
    spaces = fig.by_scale(["w+"], ["w", "w+"], ["w", "w+"])
    rows, found_at, scale = [], {space: [] for space in spaces}, max(1, 128 // style.size)
    for i, target in enumerate(targets):
        name = f"test picture {i + 1}" if i < 3 else "a sample"
        rows.append([_panel((target - low) / (high - low), name, scale)])
        for space, ratios in found_at.items():
            found = project.project(task.generator, variables, target, jax.random.key(i), project.pixel_distance,
                                    project.Settings(space=space, steps=fig.by_scale(2, 500, 1000)),
                                    0 if task.conditional else None, style.growth)
            x = np.clip((np.asarray(found.image) - low) / (high - low), 0, 1)
            error = np.square(x - np.clip((target - low) / (high - low), 0, 1)).mean()
            ratios.append(float(-10 * np.log10(max(error, 1e-10))))
            rows[-1].append(_panel(x, f"{space.upper()}: {ratios[-1]:.1f} dB", scale))
            if i == 0 and space == "w+":
                film = save_film(fig.workdir / "projection_path",
                                 controls.projected(task, style, target, found)["path"])
    fig.picture("projection", sheet(rows), "Projection: target, what one style for all layers (W), and one per layer"
                " (W+), paint of it")
    fig.note(f"`{film.name}`: the way from the mean picture to the first target, beside it.")
    for space, ratios in found_at.items():
        fig.row(f"projection into {space.upper()}", "PSNR of test pictures, mean [dB]", np.mean(ratios[:3]),
                20.0 if space == "w+" else None, relation="at_least", source="visibly the same picture")
        fig.row(f"projection into {space.upper()}", "PSNR of the last picture [dB]", ratios[-1], None)


def _panel(x: np.ndarray, name: str, scale: int) -> Panel:
    return Panel(np.clip(x, 0, 1).repeat(scale, 0).repeat(scale, 1), name)
