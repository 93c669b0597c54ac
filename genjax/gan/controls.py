"""What `sample RUN --control NAME` offers on a run with a generator: see `genjax.core.control`.

Letters as in `genjax.gan.latent`. Every function takes a task, a snapshot's variables and a key, the one of
`task.sample`: code i is that of sample i. Pictures are in [0,1], small ones enlarged by repeating pixels.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np

from genjax.core import rng as rng_lib
from genjax.data.images import load_image, square
from genjax.errors import UserError, at_least
from genjax.gan import latent, project
from genjax.gan.task import Adversarial, draw_latents
from genjax.metrics import lpips
from genjax.viz.grid import Panel, image_grid, sheet

ROWS = ("coarse", "coarse", "coarse", "middle", "middle", "fine")  # of StyleGAN's figure 3
Pictures = dict[str, np.ndarray]


def offered(task: Adversarial) -> dict[str, Callable[..., Pictures]]:
    """The controls that a task's generator is fit for."""
    found: dict[str, Callable[..., Pictures]] = {"interpolation": interpolation, "walk": walk}
    if latent.has_styles(task.generator):
        found |= {"mixing": mixing, "truncation": truncation, "projection": projection}
        if getattr(task.generator, "noise", True):
            found["noise"] = noise
    return {name: functools.partial(f, task) for name, f in found.items()}


def _curve(task: Adversarial) -> str:
    """How to walk in z: great circles for a normal prior, whose |z| they keep; lines for a uniform one, in whose cube
    they stay."""
    return "slerp" if task.prior == "normal" else "lerp"


# ---------------------------------------------------------------- parts


def codes(task: Adversarial, rng: jax.Array, n: int) -> np.ndarray:
    """z [n,Z] of samples 0 .. n-1."""
    return np.asarray(draw_latents(rng_lib.per_item(rng, n), task.latent_dim, task.prior, task.prior_bound))


def _labels(task: Adversarial, n: int, label: int) -> np.ndarray | None:
    """The class `label` for all, or with -1 the classes in turn, as samples have them; None without classes."""
    if not task.conditional:
        if label != -1:
            raise UserError(f"--control.label={label}: this run has no classes")
        return None
    classes = task.generator.classes
    if not -1 <= label < classes:
        raise UserError(f"--control.label={label}: the run's classes are 0 to {classes - 1}, or -1 for all in turn")
    return np.arange(n, dtype=np.int32) % classes if label == -1 else np.full(n, label, np.int32)


def _shown(task: Adversarial, x: Any) -> np.ndarray:
    low, high = task.value_range
    return np.clip((np.asarray(x) - low) / (high - low), 0, 1)


def _scale(x: Any, side: int = 64) -> int:
    return max(1, side // np.shape(x)[-2])


def _styled(task: Adversarial, variables: dict[str, Any], rng: jax.Array, n: int,
            label: int) -> tuple[latent.Style, np.ndarray]:
    style = task.style(variables)
    return style, style.map(codes(task, rng, n), _labels(task, n, label))


def _table(task: Adversarial, x: np.ndarray, **labels: Any) -> np.ndarray:
    """A sheet of x [rows,columns,H,W,C]."""
    return image_grid(list(_shown(task, x.reshape(-1, *x.shape[2:]))), x.shape[1], scale=_scale(x), **labels)


# ---------------------------------------------------------------- any generator


def interpolation(task: Adversarial, variables: dict[str, Any], rng: jax.Array, *, n: int = 3, steps: int = 9,
                  psi: float = 1.0, label: int = -1) -> Pictures:
    """Strips between pairs of latents: great circles in z (lines in a uniform one) and, with styles, lines in w."""
    z, labels, curve = codes(task, rng, 2 * n), _labels(task, n, label), _curve(task)
    path = latent.strip(z[:n], z[n:], steps, curve).reshape(n * steps, -1)
    along = None if labels is None else labels.repeat(steps)
    if not latent.has_styles(task.generator):
        _no_psi(task, psi)
        x = task.images(variables, path, along)
        return {"interpolation": _table(task, x.reshape(n, steps, *x.shape[1:]), row_labels=[f"{curve} in z"] * n)}
    style = task.style(variables)
    ends = latent.truncate(style.map(z, None if labels is None else np.tile(labels, 2)), style.w_avg, psi)
    lines = latent.strip(ends[:n], ends[n:], steps)
    both = [style(path, along, psi), style.paint(lines.reshape(n * steps, *lines.shape[2:]))]
    x = np.stack([x.reshape(n, steps, *x.shape[1:]) for x in both], 1)
    names = [f"{curve} in z", "lerp in w"] * n
    return {"interpolation": _table(task, x.reshape(2 * n, *x.shape[2:]), row_labels=names)}


def walk(task: Adversarial, variables: dict[str, Any], rng: jax.Array, *, n: int = 6, steps: int = 20,
         space: Literal["z", "w"] = "z", psi: float = 1.0, label: int = -1) -> Pictures:
    """A closed film through n latents, on great circles in z (lines in a uniform one) or straight lines in w."""
    if n < 2 or steps < 1:
        raise UserError(f"a walk needs 2 latents and 1 step at least, got -n {n} and --control.steps={steps}")
    z, labels = codes(task, rng, n), _labels(task, 1, label)  # of one class throughout: 0, or the one asked for
    if not latent.has_styles(task.generator):
        _no_psi(task, psi)
        if space != "z":
            raise UserError(f"--control.space={space}: {type(task.generator).__name__} has no styles; leave it at z")
        path = latent.walk(z, steps, _curve(task))
        x = task.images(variables, path, None if labels is None else labels.repeat(len(path)))
    else:
        style = task.style(variables)
        if space == "z":
            path = latent.walk(z, steps, _curve(task))
            x = style(path, None if labels is None else labels.repeat(len(path)), psi)
        else:
            ws = latent.truncate(style.map(z, None if labels is None else labels.repeat(n)), style.w_avg, psi)
            x = style.paint(latent.walk(ws, steps, "lerp"))
    return {"walk": _enlarged(task, x)}


def _no_psi(task, psi):
    if psi != 1:
        raise UserError(f"--control.psi={psi:g}: {type(task.generator).__name__} has no styles to truncate; leave it at"
                        " 1")


def _enlarged(task, x, side=128):
    scale = _scale(x, side)
    return _shown(task, x).repeat(scale, 1).repeat(scale, 2)


# ---------------------------------------------------------------- generators with styles


def mixing(task: Adversarial, variables: dict[str, Any], rng: jax.Array, *, n: int = 5,
           rows: tuple[str, ...] = ROWS, psi: float = 1.0, label: int = -1) -> Pictures:
    """Style mixing: the named layers of each row take their styles from the n pictures above (StyleGAN, figure 3)."""
    style, ws = _styled(task, variables, rng, n + len(rows), label)
    ws = latent.truncate(ws, style.w_avg, psi)
    groups = latent.layer_groups(ws.shape[1])
    for name in rows:
        if name not in groups:
            raise UserError(f"--control.rows={','.join(rows)}: {name!r} is none of {', '.join(groups)}")
    x = latent.mixing(style.paint, ws[n:], ws[:n], [groups[name] for name in rows])
    above = np.concatenate([np.full_like(x[:1, 0], task.value_range[1]), style.paint(ws[:n])])
    return {"mixing": _table(task, np.concatenate([above[None], x]), row_labels=["", *rows], padding=3)}


def truncation(task: Adversarial, variables: dict[str, Any], rng: jax.Array, *, n: int = 6,
               psi: tuple[float, ...] = latent.PSI, label: int = -1) -> Pictures:
    """Truncation: n pictures at each psi, w_avg + psi (w - w_avg) (StyleGAN, figure 8)."""
    style, ws = _styled(task, variables, rng, n, label)
    x = latent.truncations(style, ws, psi)
    return {"truncation": _table(task, x, column_labels=[f"{p:g}" for p in psi])}


def noise(task: Adversarial, variables: dict[str, Any], rng: jax.Array, *, n: int = 3, draws: int = 100,
          label: int = -1) -> Pictures:
    """Noise: n pictures under other noise, its deviation, and what fine and coarse noise do (figures 4 and 5)."""
    if draws < 4:
        raise UserError(f"--control.draws must be at least 4, got {draws}")
    style, ws = _styled(task, variables, rng, n, label)
    key, rows = jax.random.fold_in(rng, 2**32 - 1), []
    for i in range(n):
        x, deviation = latent.noise_detail(style, ws[i], jax.random.fold_in(key, i), draws)
        brightest = deviation[..., None] / max(deviation.max(), 1e-12)
        rows.append([*_shown(task, x[:4]), brightest.repeat(x.shape[-1], -1)])
    flat = [p for row in rows for p in row]
    return {"noise": image_grid(flat, 5, scale=_scale(x, 128), column_labels=["noise 1", "2", "3", "4", "deviation"]),
            "noise_parts": _noise_parts(task, style, ws)}


def _noise_parts(task, style, ws):
    """The pictures without noise, and what noise in all, the fine, the coarse layers adds: grey is nothing."""
    fine = max(8, style.size // 2)
    parts = {k: _shown(task, x) for k, x in latent.noise_components(style, ws, fine).items()}
    bare = parts.pop("none")
    added = {k: x - bare for k, x in parts.items()}
    gain = 0.5 / max(1e-6, *(abs(x).max() for x in added.values()))
    named = {"all": "all noise", "fine": f"from {fine} x {fine} up", "coarse": "below"}
    pictures = [*bare, *(0.5 + gain * p for k in named for p in added[k])]
    return image_grid(pictures, len(ws), scale=_scale(bare, 128), row_labels=["without", *(
        f"{text}, x {gain:.3g}" for text in named.values())])


def projection(task: Adversarial, variables: dict[str, Any], rng: jax.Array, *, image: str,
               space: Literal["w", "w+"] = "w+", steps: int = 500,
               distance: Literal["pixels", "vgg", "alex", "squeeze"] = "pixels", trunk: str = "", heads: str = "",
               label: int = -1) -> Pictures:
    """Projection of a file's picture, and a film of the way; StyleGAN2's paper: space=w steps=1000 distance=vgg.

    `trunk` and `heads` are files of LPIPS's network and of its linear heads, "" for the cache or a download. The
    defaults are for pictures too small for LPIPS, and paint closer.
    """
    at_least(project.Settings(steps=steps), steps=1)
    apart = _distance(distance, trunk, heads)
    style, network, (low, high) = task.style(variables), task.generator, task.value_range
    target = square(load_image(image, channels=network.channels), style.size) * (high - low) + low
    label = max(int(_labels(task, 1, label)[0]), 0) if task.conditional else None
    found = project.project(network, variables, target, rng, apart, project.Settings(space=space, steps=steps), label,
                            style.growth)
    return projected(task, style, target, found)


def _distance(name, trunk, heads):
    if name == "pixels":
        if trunk or heads:
            raise UserError("--control.trunk and --control.heads are weights of LPIPS; add --control.distance=vgg")
        return project.pixel_distance
    try:
        return project.lpips_distance(lpips.load(name, trunk or None, heads or None))
    except UserError as e:
        raise UserError(f"{e} (--control.trunk=FILE and --control.heads=FILE)") from None


def projected(task: Adversarial, style: latent.Style, target: np.ndarray, found: project.Projection,
              frames: int = 60) -> Pictures:
    """{"projection"}: target, mean, what was found, their difference; {"path"}: the way there as a film."""
    layers = found.ws.shape[0]
    mean = style.paint(np.broadcast_to(style.w_avg, (1, layers, style.w_avg.size)))[0]
    image = np.asarray(found.image)
    a, b, c = (_shown(task, x) for x in (target, mean, image))
    scale = _scale(a, 128)

    def panel(x, name, against=None):
        psnr = "" if against is None else f"{-10 * math.log10(max(np.square(x - against).mean(), 1e-10)):.1f} dB"
        return Panel(x.repeat(scale, 0).repeat(scale, 1), name, psnr)

    row = [panel(a, "target"), panel(b, "mean", a), panel(c, "found", a), panel(abs(c - a), "difference")]
    share = np.linspace(0, 1, min(frames, len(found.path)))
    at = np.unique((share**2 * (len(found.path) - 1)).astype(int))  # most happens at the start
    ws = np.asarray(found.path)[at]
    x = style.paint(np.broadcast_to(ws, (len(at), layers, ws.shape[-1])), variables=found.variables)
    both = np.concatenate([np.broadcast_to(target, x.shape), x], 2)
    return {"projection": sheet([row]), "path": _shown(task, both).repeat(scale, 1).repeat(scale, 2)}
