"""The original GAN: uncurated samples, in the last column the training picture nearest to the sample beside it.

Goodfellow et al. 2014 (arXiv:1406.2661), figure 2: samples are fair random draws, and their nearest training pictures
show that the model has not memorised the training set. At small scale scikit-learn's digits, 8 x 8.
"""

import functools

import numpy as np

from genjax.core.figure import FigureRun
from genjax.gan import latent
from genjax.viz.grid import Panel, sheet

ROWS, COLUMNS = 5, 5


def run(fig: FigureRun) -> None:
    """Trains the original GAN and looks for its samples in the training set."""
    fig.plan(1)
    result = fig.train("goodfellow", fig.by_scale("gan/goodfellow:small", "gan/goodfellow:small", "gan/goodfellow"),
                       ["train.preview_every=0", "train.save_every=0"])
    task, data = result.experiment.task, result.experiment.data
    decode = functools.partial(task.images, result.variables)
    low, high = task.value_range
    batches = range(-(-len(data) // data.batch_size)) if fig.scale != "smoke" else range(2)
    pictures = np.concatenate([data.batch(i)["image"] for i in batches])[: len(data)]
    x = decode(latent.codes_of_seeds(range(ROWS * COLUMNS), task.latent_dim, task.prior, task.prior_bound))
    last = x[COLUMNS - 1 :: COLUMNS]  # the samples whose neighbours are shown
    near = latent.nearest(last, [pictures])

    def panel(p):
        return Panel((np.asarray(p) - low) / (high - low))

    rows = [[*(panel(p) for p in x[r * COLUMNS : (r + 1) * COLUMNS]), panel(near.images[r, 0])] for r in range(ROWS)]
    fig.picture("samples", sheet(rows, panel_height=max(64, x.shape[1]), gap=6,
                                 column_labels=[""] * COLUMNS + ["nearest"]),
                "Samples of seeds 0 to 24; last column: the training picture nearest to the sample left of it")
    found = latent.nearest(x, [pictures]).distance[:, 0].mean()
    real = latent.nearest(pictures[:256], [pictures], 2).distance[:, 1].mean()
    fig.row("sample to nearest training picture / training picture to its nearest", "ratio of mean distances",
            float(found / real), 0.5, relation="at_least", source="0 would be a copy")
    fig.row("samples", "deviation over samples / over data", float(x.std(0).mean() / pictures.std(0).mean()), 0.5,
            relation="at_least", source="0 would be one picture only")
