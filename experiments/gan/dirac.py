"""Which GAN training converges: vector fields and trajectories of the Dirac-GAN, eigenvalues at its equilibrium.

Mescheder, Geiger and Nowozin 2018 (arXiv:1801.04406), figures 2 and 3: data and generator are one point each, the
discriminator is a line. Without regularisation the eigenvalues at the equilibrium are imaginary: simultaneous gradient
descent spirals out, alternating descent circles for ever, or creeps in more and more slowly (non-saturating, least
squares). R1 and R2 give them a negative real part, and the distance falls exponentially; WGAN-GP and weight clipping do
not. Fields, Jacobians and trajectories are gradients of the package's losses on the two networks.
"""

import jax.numpy as jnp
import numpy as np

from genjax.core.figure import FigureRun
from genjax.gan.dirac import DiracGAN, eigenvalues, fields, step_eigenvalues, trajectory
from genjax.viz.grid import Panel, sheet
from genjax.viz.plots import curves, image_of, vector_field

GAMMA = 0.5
# name: (game, eigenvalues at the equilibrium; None where the field has a kink or a clip acts)
GAMES = {
    "saturating": (DiracGAN(), (0.5j, -0.5j)),
    "non-saturating": (DiracGAN(loss="non_saturating"), (0.5j, -0.5j)),
    "least squares": (DiracGAN(loss="least_squares"), (0.5j, -0.5j)),
    "hinge": (DiracGAN(loss="hinge"), (1j, -1j)),
    "WGAN, clipped": (DiracGAN(loss="wasserstein", clip=0.5), (1j, -1j)),
    "WGAN-GP": (DiracGAN(loss="wasserstein", gp_weight=1.0), None),
    "R1, gamma/2": (DiracGAN(r1_gamma=GAMMA), (-0.25 + 0.4330127j, -0.25 - 0.4330127j)),
    "R1, gamma": (DiracGAN(r1_gamma=GAMMA, r1_convention="whole"), (-0.5, -0.5)),
    "R2, gamma/2": (DiracGAN(r2_gamma=GAMMA), (-0.25 + 0.4330127j, -0.25 - 0.4330127j)),
}
CONVERGING = ("R1, gamma/2", "R1, gamma", "R2, gamma/2")
CREEPING = ("non-saturating", "least squares")  # their eigenvalues are imaginary, what is beyond the linear part helps
START, SIDE, RATE = (1.5, 1.0), 2.2, 0.1


def _eigenvalue_rows(fig: FigureRun, case: str, game: DiracGAN, expected: tuple, source: str) -> None:
    """Real and imaginary part of both eigenvalues, as rows."""
    for i, (got, want) in enumerate(zip(eigenvalues(game), expected, strict=True)):
        fig.row(case, f"Re eigenvalue {i + 1}", got.real, np.real(want) + 0.0, 1e-4, source=source)
        fig.row(case, f"Im eigenvalue {i + 1}", got.imag, np.imag(want) + 0.0, 1e-4, source=source)


def run(fig: FigureRun) -> None:
    """Eigenvalues, then one panel per loss; nothing is trained but two numbers."""
    steps = fig.by_scale(50, 1000, 1000)
    start = jnp.asarray(START)
    along = np.linspace(-SIDE, SIDE, fig.by_scale(5, 17, 17))
    places = np.stack(np.meshgrid(along, along), -1).astype(np.float32)
    panels, far = [], {}
    shown = list(GAMES)[fig.by_scale(slice(5, 7), slice(None), slice(None))]
    for name, (game, expected) in ((n, GAMES[n]) for n in shown):
        if expected:
            _eigenvalue_rows(fig, name, game, expected, "+-f'(0) i; -g/2 +- sqrt(g^2/4 - f'(0)^2) with a penalty")
        arrows = np.asarray(fields(game, jnp.asarray(places)))
        paths = {k: np.asarray(trajectory(game, start, RATE, steps, k == "alternating"))
                 for k in ("simultaneous", "alternating")}
        far[name] = {k: np.linalg.norm(p, axis=1) for k, p in paths.items()}
        panels.append(Panel(image_of(vector_field(
            (along, along, arrows[..., 0], arrows[..., 1]), {k: tuple(p.T) for k, p in paths.items()}, title=name,
            xlabel="theta (generator)", ylabel="psi (discriminator)", size=(380, 380)))))
    for gamma, expected in ((1.0, (-0.5, -0.5)), (10.0, (-0.0250628, -9.9749372))):
        _eigenvalue_rows(fig, f"R1, gamma/2, gamma = {gamma:g}", DiracGAN(r1_gamma=gamma), expected,
                         "-g/2 +- sqrt(g^2/4 - 1/4)")

    plain = GAMES["saturating"][0]
    for kind, want in (("simultaneous", float(np.hypot(1, RATE / 2))), ("alternating", 1.0)):
        got = float(np.abs(step_eigenvalues(plain, RATE, kind == "alternating")).max())
        fig.row(f"saturating, {kind} steps of {RATE:g}", "largest |eigenvalue| of a step", got, want, 1e-5,
                source="lemmas 2.3 and 2.4")
    for name, by in far.items():
        nearest = float(by["alternating"][-max(1, steps // 4):].min())
        expected = 1e-6 if name in CONVERGING else None if name in CREEPING else 0.1
        fig.row(f"{name}, alternating", "nearest to the equilibrium in the last quarter", nearest, expected,
                relation="at_most" if name in CONVERGING else "at_least", source="converges, or circles for ever")
    if "saturating" in far:
        grown = far["saturating"]["simultaneous"]
        fig.row("saturating, simultaneous", "distance at the end / at the start", float(grown[-1] / grown[0]), 1.2,
                relation="at_least", source="lemma 2.3: spirals out")
    fig.picture("fields", sheet([panels[i:i + 3] for i in range(0, len(panels), 3)], panel_height=570),
                f"Gradient vector fields and {steps} steps of gradient descent (rate {RATE:g}) from a dot to a cross;"
                f" gamma = {GAMMA:g}")
    fig.picture("distance", curves({k: v["alternating"] for k, v in far.items()}, logy=True, ylim=(1e-8, 5),
                                   xlabel="step", ylabel="distance from the equilibrium", size=(720, 440)),
                "Alternating gradient descent")
