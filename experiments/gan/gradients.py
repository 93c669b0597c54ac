"""Saturating against non-saturating generator loss and its gradient; the best discriminator's value against JSD.

Goodfellow et al. 2014 (arXiv:1406.2661), section 3 and theorem 1; Goodfellow 2016 (1701.00160), figure 16. While the
discriminator is sure that a sample is fake (a << 0) the saturating loss has next to no gradient: at a = -5 the
non-saturating one's is e^5 = 148 times larger. Against the best discriminator a* = log p/q the value of the game is
-log 4 + 2 JSD(p, q).
"""

import jax
import jax.numpy as jnp
import numpy as np

from genjax.core.figure import FigureRun
from genjax.losses.adversarial import discriminator_loss, generator_loss
from genjax.viz.grid import Panel, sheet
from genjax.viz.plots import curves, image_of, scatter

NAMES = {"saturating": "minimax", "non-saturating": "non_saturating"}
TRIALS = 40  # points that stand for a distribution over two outcomes: its probabilities are multiples of 1/40


def _jsd(p: np.ndarray, q: np.ndarray) -> float:
    """The Jensen-Shannon divergence of two distributions without zeros, in nats."""
    m = (p + q) / 2
    return float((p * np.log(p / m)).sum() + (q * np.log(q / m)).sum()) / 2


def _points(p: np.ndarray) -> np.ndarray:
    """`TRIALS` outcomes, outcome k as often as p[k] says."""
    return np.repeat(np.arange(len(p)), np.rint(p * TRIALS).astype(int))


@jax.jit
@jax.value_and_grad
def _loss(a: jax.Array, real: jax.Array, fake: jax.Array) -> jax.Array:
    """What a discriminator with logit a[k] for outcome k loses."""
    return discriminator_loss("minimax", a[real], a[fake])


def _value(p: np.ndarray, q: np.ndarray) -> tuple[float, float]:
    """V(D*) by the package's loss on points of p and q, and the largest slope of V in a discriminator's logits."""
    value, slope = _loss(np.log(p / q).astype(np.float32), _points(p), _points(q))
    return -float(value), float(np.abs(slope).max())


def run(fig: FigureRun) -> None:
    """Both figures, from the package's losses; nothing is trained."""
    a = jnp.linspace(-8.0, 8.0, fig.by_scale(33, 321, 321))
    loss, slope = {}, {}
    for name, which in NAMES.items():
        one = jax.jit(jax.vmap(jax.value_and_grad(lambda x, which=which: generator_loss(which, x))))
        loss[name], slope[name] = (np.asarray(v) for v in one(a))
        at = float(np.interp(-5, a, slope[name]))  # -5 is among them
        fig.row(name, "dL/da at a = -5", at, {"saturating": -0.0066928509, "non-saturating": -0.9933071491}[name],
                1e-6, source="-sigmoid(a), -sigmoid(-a)")
        slope[name, -5] = at
    fig.row("non-saturating / saturating", "gradient at a = -5", slope["non-saturating", -5] / slope["saturating", -5],
            float(np.exp(5)), 0.01, source="e^5")
    x = np.asarray(a)
    size = (520, 380)
    panels = [
        Panel(image_of(curves({n: (x, loss[n]) for n in NAMES}, xlabel="logit a of a generated sample",
                              ylabel="generator loss", title="Loss", size=size))),
        Panel(image_of(curves({n: (x, -slope[n]) for n in NAMES}, xlabel="logit a of a generated sample",
                              ylabel="-dL/da", title="What pushes a up", size=size))),
        Panel(image_of(curves({n: (x, -slope[n]) for n in NAMES}, xlabel="logit a of a generated sample",
                              ylabel="-dL/da", title="The same, logarithmic", logy=True, size=size)))]
    fig.picture("gradients", sheet([panels], panel_height=size[1]), "Left of 0 the discriminator is right: there the"
                " saturating loss hardly moves the generator")

    even, skewed = np.asarray([0.5, 0.5]), np.asarray([0.9, 0.1])
    value, flat = _value(even, skewed)
    fig.row("p = (.5, .5), q = (.9, .1)", "JSD [nats]", _jsd(even, skewed), 0.1017492251, 1e-9, source="definition")
    fig.row("p = (.5, .5), q = (.9, .1)", "V(D*)", value, -1.1827959110, 1e-6, source="-log 4 + 2 JSD")
    fig.row("p = (.5, .5), q = (.9, .1)", "largest |dV/da| at a*", flat, 0.0, 1e-6, source="a* = log p/q is the best")
    fig.row("p = q", "V(D*)", _value(even, even)[0], -1.3862943611, 1e-6, source="-log 4")
    t = np.arange(1, TRIALS) / TRIALS
    pairs = [(even, np.asarray([u, 1 - u])) for u in t]
    got = np.asarray([_value(*pair)[0] for pair in pairs])
    theory = np.asarray([-np.log(4) + 2 * _jsd(*pair) for pair in pairs])
    fig.row("q = (t, 1 - t), t = 1/40 ... 39/40", "largest |V(D*) + log 4 - 2 JSD|", float(np.abs(got - theory).max()),
            0.0, 1e-6, source="theorem 1")
    fine = np.linspace(0.02, 0.98, 1500)
    line = [-np.log(4) + 2 * _jsd(even, np.asarray([u, 1 - u])) for u in fine]
    fig.picture("value", scatter({"-log 4 + 2 JSD(p, q)": (fine, line), "V(D*) by the loss, on samples": (t, got)},
                                 xlabel="t of q = (t, 1 - t); p = (1/2, 1/2)", ylabel="value of the game", area=11),
                "The value of the game at the best discriminator is -log 4 + 2 JSD: least, -log 4, where q = p")
