"""DCGAN: a sheet of samples, walks in z, vector arithmetic, a turn vector, nearest training neighbours.

Radford, Metz and Chintala 2016 (arXiv:1511.06434), figures 2, 4, 7 and 8. The paper's concepts are marked by hand;
with digits they are found among 512 samples by a label (that of the nearest training pictures), the amount of ink and
the lean of the stroke: heavy a - light a + light b should be a heavy b, and "turn" is the mean of four right-leaning
digits less that of four left-leaning ones. Of a run of one's own nothing is judged.

    python launch.py reproduce gan/dcgan
    python launch.py reproduce gan/dcgan:given=runs/faces         # of a finished run, whose pictures all have one size
"""

import jax
import numpy as np

from genjax.core.figure import FigureRun
from genjax.core.snapshot import OpenedRun
from genjax.errors import UserError
from genjax.gan import latent
from genjax.gan.task import Adversarial
from genjax.viz.grid import Panel, image_grid, sheet

POOL = 512  # samples among which concepts are looked for
TURNS = (-1.5, -1, -0.5, 0, 0.5, 1, 1.5)


def run(fig: FigureRun, given: str = "") -> None:
    """Trains one DCGAN, or takes the run `given`, and looks into its latent space."""
    if given:
        opened = OpenedRun(given)
        experiment, variables = opened.experiment, opened.variables
        if not isinstance(experiment.task, Adversarial):
            raise UserError(f"given={given}: a {type(experiment.task).__name__} draws nothing from one latent vector;"
                            " give a run of gan/dcgan, gan/resnet or the like")
    else:
        fig.plan(1)
        result = fig.train("dcgan", fig.by_scale("gan/dcgan:small", "gan/dcgan:small", "gan/dcgan"),
                           ["train.preview_every=0"])
        experiment, variables = result.experiment, result.variables
    task, data = experiment.task, experiment.data
    low, high = task.value_range

    def decode(z):
        return task.images(variables, z, np.zeros(len(z), np.int32) if task.conditional else None)

    def shown(x):
        return (np.clip(x, low, high) - low) / (high - low)

    z = latent.codes_of_seeds(range(fig.by_scale(32, POOL, POOL)), task.latent_dim, task.prior, task.prior_bound)
    x = np.asarray(decode(z))
    spec = data.element_spec.get("image")
    if spec is None or spec.shape[1:] != x.shape[1:] or hasattr(data, "next_change"):
        raise UserError(f"given={given}: its data are not pictures of one size, as its samples are; of a growing run,"
                        " reproduce gan/latents:given=RUN")
    scale = max(1, 48 // x.shape[2])
    fig.picture("samples", image_grid(shown(x[:64]), 8, scale=scale), "Uncurated: seeds 0 to 63")

    legs, steps = 5, 10
    path = latent.strip(z[:legs], z[legs : 2 * legs], steps, "slerp" if task.prior == "normal" else "lerp")
    walk = decode(path.reshape(legs * steps, -1))
    fig.picture("walk", image_grid(shown(walk), steps, scale=scale), "Each row walks from one latent to another")

    pictures, labels = _training(data, fig.by_scale(32, 4096, 4096))
    _neighbours(fig, x, pictures, shown, not given)
    kind = _labels(x, pictures, labels)
    _arithmetic(fig, decode, z, x, kind, pictures, labels, shown, scale, not given)
    _turn(fig, decode, z, x, shown, scale, not given)
    if task.conditional:
        fig.note("The run has classes: all samples are of class 0.")
    if labels is None:
        fig.note("The data have no labels: concepts are chosen by ink alone.")


def _training(data, most: int):
    """Up to `most` training pictures, and their labels or None."""
    count = -(-min(most, len(data)) // data.batch_size)
    batches = [data.batch(i) for i in range(count)]
    n = min(most, len(data))
    labels = np.concatenate([b["label"] for b in batches])[:n] if "label" in batches[0] else None
    return np.concatenate([b["image"] for b in batches])[:n], labels


def _neighbours(fig: FigureRun, x, pictures, shown, judge: bool) -> None:
    near = latent.nearest(x[:10], [pictures], min(4, len(pictures)))
    rows = [[Panel(shown(x[i])), *(Panel(shown(p)) for p in near.images[i])] for i in range(10)]
    fig.picture("neighbours", sheet([[row[j] for row in rows] for j in range(len(rows[0]))], panel_height=64,
                                    row_labels=["sample", *(f"{j + 1}" for j in range(near.images.shape[1]))]),
                "Samples and their nearest training pictures (Euclidean distance of pixels)")
    real = latent.nearest(pictures[:64], [pictures], 2).distance[:, 1].mean()
    fig.row("sample to nearest training picture / training picture to its nearest", "ratio of mean distances",
            float(near.distance[:, 0].mean() / real), 0.5, relation="at_least", source="0 would be a copy",
            judge=judge)


def _labels(x, pictures, labels):
    """What each sample shows, by its five nearest training pictures; 0 where there are no labels."""
    if labels is None:
        return np.zeros(len(x), int)
    votes = labels[latent.nearest(x, [pictures], 5).index]
    return np.asarray([np.bincount(v).argmax() for v in votes])


def _concepts(kind: np.ndarray, ink: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of three samples each: heavy a, light a, light b, for the two most frequent kinds a and b."""
    a, b = ([*np.argsort(-np.bincount(kind), kind="stable")[:2], 0])[:2]
    of_a, of_b = (np.flatnonzero(kind == k) for k in (a, b))
    of_b = of_b if len(of_b) >= 3 else np.arange(len(kind))
    of_a = of_a if len(of_a) >= 6 else np.arange(len(kind))
    by_a, by_b = of_a[np.argsort(ink[of_a])], of_b[np.argsort(ink[of_b])]
    return by_a[-3:], by_a[:3], by_b[:3]


def _arithmetic(fig: FigureRun, decode, z, x, kind, pictures, labels, shown, scale: int,
                judge: bool) -> None:
    ink = shown(x).mean((1, 2, 3))
    heavy_a, light_a, light_b = _concepts(kind, ink)
    result = latent.combine((1, z[heavy_a]), (-1, z[light_a]), (1, z[light_b]))
    sheet_z = latent.neighbourhood(result, jax.random.key(0))
    drawn = decode(sheet_z)
    columns = []
    for name, chosen in (("heavy a", heavy_a), ("- light a", light_a), ("+ light b", light_b)):
        mean = decode(z[chosen].mean(0, keepdims=True))
        columns.append([Panel(shown(x[i])) for i in chosen] + [Panel(shown(mean[0]), name)])
    rows = [[c[r] for c in columns] for r in range(4)]
    fig.picture("arithmetic", sheet([[*row, None] for row in rows[:3]] + [[*rows[3], Panel(image_grid(
        shown(drawn), 3, scale=scale), "=")]], panel_height=scale * 3 * x.shape[2] + 8),
        "Three samples per concept, below them the picture of their mean z; the result with eight neighbours within"
        " +-0.25")
    base = float(shown(decode(z[light_b].mean(0, keepdims=True))).mean())
    fig.row("heavy a - light a + light b", "ink / ink of light b", float(shown(drawn[4]).mean()) / base, 1.05,
            relation="at_least", source="figure 7: the concept carries over", judge=judge)
    fig.row("heavy a / light a", "ink", float(ink[heavy_a].mean() / ink[light_a].mean()), None)
    if labels is not None:
        same = _labels(drawn, pictures, labels) == kind[light_b[0]]
        fig.row("the result and its neighbours", "share that still shows b", float(same.mean()), None)


def lean(x: np.ndarray) -> np.ndarray:
    """How far strokes of x [N,H,W,C] in [0,1] lean: columns to the right per row upwards, by moments."""
    ink = x.mean(-1)
    ink = ink / np.maximum(ink.sum((1, 2), keepdims=True), 1e-12)
    r, c = np.arange(x.shape[1])[:, None], np.arange(x.shape[2])
    r = r - (ink * r).sum((1, 2), keepdims=True)
    c = c - (ink * c).sum((1, 2), keepdims=True)
    return -(ink * r * c).sum((1, 2)) / np.maximum((ink * r * r).sum((1, 2)), 1e-12)


def _turn(fig: FigureRun, decode, z, x, shown, scale: int, judge: bool) -> None:
    order = np.argsort(lean(shown(x)), kind="stable")
    vector = latent.turn(z[order[:4]], z[order[-4:]])
    rows = latent.along(z[:8], vector / 2, TURNS)
    drawn = decode(rows.reshape(-1, z.shape[1]))
    fig.picture("turn", image_grid(shown(drawn), len(TURNS), scale=scale,
                                   column_labels=[f"{t:g}" for t in TURNS]),
                "Half the turn vector (four right-leaning less four left-leaning samples) times the number above")
    by_turn = lean(shown(drawn)).reshape(len(rows), -1).mean(0)
    fig.row("from -1 to +1 times half the turn vector", "change of the lean", float(by_turn[-2] - by_turn[1]), 0.05,
            relation="at_least", source="figure 8: it turns", judge=judge)
