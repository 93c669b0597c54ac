"""DCGAN and StyleGAN2 beside PyTorch: the same networks, pictures and number of images, one Frechet distance.

    python launch.py reproduce gan/peers:data=idx:/data/mnist
    python launch.py reproduce gan/peers:data=idx:/data/mnist,weights=lenet_mnist.npz

Both sides see the same batches in the same order, and draw their samples from the same latents; samples are compared
with all training pictures through LeNet's 84 features (its weights are downloaded unless given by path). StyleGAN2 is
trained without augmentation and judged by the average of its generator, DCGAN by the generator and the running
statistics of its normalisation. Where there are several seeds, distances are averaged. Two generators that draw one
picture for every latent would be equal too: their samples must vary as pictures do. PyTorch is optional (pip install
-r requirements-compare.txt); at smoke scale its column is left out without it. Smoke scale trains DCGAN only: all that
StyleGAN2 would add is the compilation of a network that tests/gan/ compiles already.
"""

import dataclasses
import importlib
import importlib.util
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from genjax.core import rng as rng_lib
from genjax.core.figure import FigureRun, Result
from genjax.errors import UserError
from genjax.gan.latent import codes_of_seeds
from genjax.gan.task import draw_latents
from genjax.metrics import features
from genjax.metrics.recipe import Recipe, Value
from genjax.metrics.weights import flatten
from genjax.viz import jsonl
from genjax.viz.atomic import replacing, write_file
from genjax.viz.grid import Panel, image_grid, sheet
from genjax.viz.plots import curves

log = logging.getLogger("genjax")

SMOKE = "gan/dcgan:small,res=8,features=lenet"
KEY = "fd_lenet"
SHOWN = 64


@dataclasses.dataclass(frozen=True)
class Pair:
    """A system, its config at small and paper scale, its length, its seeds, and the PyTorch file that trains it."""

    name: str
    small: str
    paper: str
    images: str
    seeds: tuple[int, ...]
    peer: str
    settings: Callable[[Any], dict[str, Any]]


def _dcgan(config) -> dict[str, Any]:
    g, d, adam = config.task.generator, config.task.discriminator, config.optimizer
    return dict(g_widths=g.widths, d_widths=d.widths, channels=g.image_channels, latent=config.task.latent_dim,
                rate=adam.learning_rate, b1=adam.b1)


def _stylegan2(config) -> dict[str, Any]:
    task, g = config.task, config.task.generator
    return dict(resolution=g.resolution, channels=g.channels, latent=g.z_dim, layers=g.mapping_layers,
                base=g.channel_base, widest=g.channel_max, group=task.discriminator.mbstd_group,
                rate=config.g_optimizer.learning_rate, gamma=task.r1_gamma, r1_every=config.r1_every,
                pl_weight=task.pl_weight, pl_every=config.pl_every, mixing=task.mixing,
                ema_images=task.ema_kimg * 1000, rampup=task.ema_rampup)


PAIRS = (
    Pair("DCGAN", "gan/dcgan:small,features=lenet", "gan/dcgan:variant=pytorch,res=32,channels=1,features=lenet",
         "128k images", (0,), "_torch_dcgan", _dcgan),
    Pair("StyleGAN2", "gan/stylegan2:small,aug=none,features=lenet",
         "gan/stylegan2:cfg=auto,res=32,channels=1,aug=none,features=lenet", "60k images", (0,), "_torch_stylegan2",
         _stylegan2),
)


@dataclasses.dataclass(frozen=True)
class Side:
    """What one side came to: distance at the end, distances along the way, samples [SHOWN,R,R,C] in [0,1], seconds."""

    value: Value
    curve: dict[int, float]
    samples: np.ndarray
    seconds: float


def _value(row: dict[str, Any]) -> Value:
    return Value(row["value"], Recipe.from_json(json.dumps(row["recipe"])))


def ours(result: Result, z: np.ndarray) -> Side:
    """genjax's side, from its run folder."""
    task, low, high = result.experiment.task, *result.experiment.task.value_range
    rows = [r for r in jsonl.read(result.folder.metrics_file) if r.get("kind") == "eval"]
    value = _value(json.loads((result.folder.path / "recipes.json").read_text())[KEY])
    samples = (np.clip(task.images(result.variables, z), low, high) - low) / (high - low)
    return Side(value, {r["step"]: r[KEY] for r in rows}, samples, result.seconds)


def theirs(fig: FigureRun, pair: Pair, seed: int, result: Result, z: np.ndarray) -> Side:
    """PyTorch's side on the batches of `result`, judged at the steps at which that was.

    What it came to is kept under workdir/torch, at every judgement the training itself: an interrupted call goes on.
    """
    stem = fig.workdir / "torch" / f"{pair.name}_seed{seed}"
    kept, pictures, going = (stem.with_suffix(s) for s in (".json", ".npz", ".pt"))
    if kept.exists() and pictures.exists():
        found = json.loads(kept.read_text())
        with np.load(pictures) as file:
            return Side(_value(found), {int(k): v for k, v in found["curve"].items()}, file["samples"],
                        found["seconds"])
    import torch

    task, data = result.experiment.task, result.experiment.data
    low, high = task.value_range
    torch.manual_seed(seed)
    module = importlib.import_module(f"experiments.bench.{pair.peer}")
    if going.exists():
        training, rng, first, curve, before = torch.load(going, weights_only=False)  # this figure's own file
        torch.set_rng_state(rng)
    else:
        training, first, curve, before = module.Training(**pair.settings(result.folder.config())), 0, {}, 0.0

    how = task.how(result.variables)
    noisy = {"fixed": False} if ("noise", "random") in how else {}

    def images(z, **options):
        return training.samples(torch.from_numpy(np.array(z)), **options).permute(0, 2, 3, 1).numpy()

    def draw(keys):
        z = draw_latents(keys, task.latent_dim, task.prior, task.prior_bound)
        shape = jax.ShapeDtypeStruct((len(z), *data.element_spec["image"].shape[1:]), np.float32)
        return jax.pure_callback(lambda z: images(z, **noisy), shape, z)

    def judge():
        return task.evaluation(draw, rng_lib.stream(seed, "eval"), data, (), task.value_range, how)[KEY]

    steps, every = (result.experiment.steps(k) for k in ("steps", "eval_every"))
    log.info("%s, seed %d, by PyTorch: steps %d to %d", pair.name, seed, first, steps)
    began = time.monotonic()
    for i in range(first, steps):
        if every and i > first and i % every == 0:
            curve[i] = float(judge())
            with replacing(going) as temporary:
                torch.save((training, torch.get_rng_state(), i, curve, before + time.monotonic() - began), temporary)
        batch = torch.from_numpy(data.batch(i)["image"]).permute(0, 3, 1, 2)  # NHWC in memory: channels-last
        training.step(batch)
    value, seconds = judge(), before + time.monotonic() - began
    curve[steps] = float(value)
    samples = (np.clip(images(z), low, high) - low) / (high - low)
    with replacing(pictures) as temporary:
        np.savez(temporary, samples=samples)
    write_file(kept, json.dumps({"value": float(value), "recipe": json.loads(value.recipe.json()), "curve": curve,
                                 "seconds": seconds}, indent=2) + "\n")
    going.unlink(missing_ok=True)
    return Side(value, curve, samples, seconds)


def overrides(fig: FigureRun, pair: Pair, data: str, weights: str) -> list[str]:
    """What a run differs in from its config."""
    found = [f"task.evaluation.path={weights}", "train.preview_every=0", f"data.source={data}"]
    if fig.scale == "smoke":
        return found + ["task.evaluation.n=16", "task.evaluation.n_real=16", "task.evaluation.settings.allow_few=True"]
    length = fig.by_scale("", pair.images, "25 epochs")
    return [*found, f"train.steps={length}", f"train.save_every={length}", "task.evaluation.n=10000",
            "task.evaluation.batch=250", "train.eval_every=" + fig.by_scale("", f"{int(pair.images[:-8]) // 4}k images",
                                                                            "5 epochs")]


def _random_weights(fig: FigureRun) -> str:
    """A LeNet of random weights as a file: smoke scale needs no other."""
    path = fig.workdir / "lenet_random.npz"
    if not path.exists():
        found = {}
        for (layer, what), a in flatten(features.random("lenet").variables["params"]).items():
            name = f"{layer.replace('_', '.')}.{'weight' if what == 'kernel' else 'bias'}"
            found[name] = np.transpose(a, {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[a.ndim])
        with replacing(path) as temporary:
            np.savez(temporary, **found)
    return str(path)


def run(fig: FigureRun, data: str = "", weights: str = "") -> None:
    """Trains each system on both sides.

    Args:
      data: the pictures, e.g. idx:/data/mnist.
      weights: LeNet's; "" for the cache or a download.
    """
    installed = importlib.util.find_spec("torch") is not None
    install = "pip install -r requirements-compare.txt"
    if fig.scale == "smoke":
        data, weights = data or "builtin:digits", weights or _random_weights(fig)
    else:
        if not installed:
            raise UserError(f"gan/peers trains the PyTorch reference too, and PyTorch is not installed: {install}")
        if not data:
            raise UserError("gan/peers compares on MNIST: say where it is, reproduce gan/peers:data=idx:FOLDER")
        features.load("lenet", weights or None)  # what is wrong with it is told before hours of training
    pairs = fig.by_scale(PAIRS[:1], PAIRS, PAIRS)
    fig.plan(sum(len(fig.by_scale(p.seeds[:1], p.seeds, p.seeds)) for p in pairs))
    if not installed:
        fig.note(f"Without PyTorch its column is left out: {install}.")
    for pair in pairs:
        _compare(fig, pair, overrides(fig, pair, data, weights), installed)


def _spread(experiment: Any) -> float:
    """Mean over pixels of the standard deviation of at least SHOWN training pictures in [0,1]."""
    low, high = experiment.task.value_range
    data = experiment.data
    x = np.concatenate([data.batch(i)["image"] for i in range(-(-SHOWN // data.batch_size))])
    return float(x.std(0).mean()) / (high - low)


def _compare(fig: FigureRun, pair: Pair, changes: list[str], installed: bool) -> None:
    sides: dict[str, list[Side]] = {"genjax": [], "PyTorch": []}
    for seed in fig.by_scale(pair.seeds[:1], pair.seeds, pair.seeds):
        result = fig.train(f"{pair.name}, seed {seed}", fig.by_scale(SMOKE, pair.small, pair.paper),
                           [*changes, f"seed={seed}", f"data.seed={seed}"])
        task = result.experiment.task
        z = codes_of_seeds(range(SHOWN), task.latent_dim, task.prior, task.prior_bound)
        sides["genjax"].append(ours(result, z))
        if installed:
            sides["PyTorch"].append(theirs(fig, pair, seed, result, z))
    images = result.experiment.steps("steps") * result.experiment.data.batch_size
    found = {name: side for name, side in sides.items() if side}
    for name, side in found.items():
        for seed, s in zip(pair.seeds, side, strict=False):
            fig.row(f"{pair.name}, {name}, seed {seed}", "Frechet distance (lenet)", float(s.value), None)
        fig.row(f"{pair.name}, {name}", f"seconds for {images:,} images, compiling and evaluations included",
                float(np.mean([s.seconds for s in side])), None)
        fig.row(f"{pair.name}, {name}", f"spread of {SHOWN} samples, pictures' = 1",
                float(np.mean([s.samples.std(0).mean() for s in side])) / _spread(result.experiment), 0.7,
                source="not collapsed", relation="at_least")
    if installed:
        if any(a.value.recipe != b.value.recipe for a, b in zip(*sides.values(), strict=True)):
            raise UserError(f"{fig.workdir / 'torch'} holds distances of another recipe; remove its {pair.name} files")
        a, b = (np.mean([float(s.value) for s in side]) for side in sides.values())
        fig.row(pair.name, "mean distance, genjax / PyTorch", float(a / b), 1.0, 0.1, source="trained equally long",
                relation="at_most")
    fig.note(f"{pair.name}: {images:,} images; {sides['genjax'][0].value.recipe}.")
    batch = result.experiment.data.batch_size
    fig.picture(f"{pair.name.lower()}_distance", curves(
        {f"{name}, seed {seed}": tuple(np.array(sorted(s.curve.items())).T * [[batch / 1000], [1]])
         for name, side in found.items() for seed, s in zip(pair.seeds, side, strict=False)},
        xlabel="thousands of images", ylabel="Frechet distance (lenet)", logy=True, markers=True),
        f"{pair.name}: distance from the training set")
    fig.picture(f"{pair.name.lower()}_samples", sheet(
        [[Panel(image_grid(side[0].samples, 8, scale=max(1, 48 // side[0].samples.shape[2])), name)
          for name, side in found.items()]]), f"{pair.name}: uncurated samples of the same latents, seed 0")
