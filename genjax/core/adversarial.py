"""Adversarial training of a generator and a discriminator, whatever the generator starts from.

Letters: z what an image is made from, a pytree of arrays [N,...], x[N,H,W,C] images in the task's value range, y class
labels [N] int32, a = D(x) logits [N]. A step is one discriminator update followed by generator updates, in one
program. Networks are linen modules `generator(z, y, train) -> x` and `discriminator(x, y, train) -> a`; whatever
collections they have beside "params" (batch statistics) are kept in `extra` under "generator" and "discriminator".
Families derive from `AdversarialTask` and write `draw`, which says what z is.
"""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from genjax.core import rng as rng_lib
from genjax.core.task import TaskBase, TrainState, ema_update
from genjax.data import labels as labels_lib
from genjax.errors import UserError, at_least
from genjax.losses import adversarial as losses
from genjax.metrics.evaluate import Settings
from genjax.metrics.evaluation import Evaluation, Paths
from genjax.metrics.recipe import Value
from genjax.nn.sharding import BATCH, constrain
from genjax.viz.grid import image_grid

NAMES = ("generator", "discriminator")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdversarialTask(TaskBase):
    """Trains two networks against each other.

    Attributes:
      generator, discriminator: the networks, see the module.
      g_optimizer, d_optimizer: their optimisers.
      loss: a name of `genjax.losses.adversarial`, or MODULE.NAME of one that a module of your own registers there.
      conditional: give both networks the batch's labels; both need `classes`.
      unseen_classes: with `conditional`, train networks with more classes than the data have.
      d_steps: discriminator steps for one of the generator (k of Goodfellow 2014, n_critic of WGAN): the generator
        is trained at every d_steps-th step only, and every step has a batch of its own.
      g_steps: generator updates when its turn comes.
      share_latents: generator and discriminator steps use the same z, and the first generator update the same images
        (one forward pass less: what pytorch/examples and carpedm20 do); else they are drawn anew.
      r1_gamma, r2_gamma: weights of the penalty on |grad D|^2 at real and at generated images, 0 for none.
      r1_convention: "half" (gamma / 2, StyleGAN), "whole" (gamma, GIRAFFE) or "pixels" (gamma / pixels, GRAF).
      reg_every: lazy regularisation: the penalties are taken at every k-th step, k times as strong, and within that
        step's one update: the optimiser is used as it is, without StyleGAN2's correction of Adam for a step more.
      gp_weight: lambda of WGAN-GP, 0 for none; `drift` is Progressive GAN's epsilon.
      ema_decay: of the average over the generator's parameters, which `sample` then uses; 0 for none.
      evaluation: what is measured of the samples, see there; None for nothing.
      preview_images: how many, square numbers look best; with classes they are split into rows.
      value_range: of the images.
    """

    generator: nn.Module
    discriminator: nn.Module
    g_optimizer: optax.GradientTransformation
    d_optimizer: optax.GradientTransformation
    loss: losses.LossName = "non_saturating"
    conditional: bool = False
    unseen_classes: bool = False
    d_steps: int = 1
    g_steps: int = 1
    share_latents: bool = False
    r1_gamma: float = 0.0
    r2_gamma: float = 0.0
    r1_convention: losses.Convention = "half"
    reg_every: int = 1
    gp_weight: float = 0.0
    drift: float = 0.0
    ema_decay: float = 0.0
    evaluation: Evaluation | None = None
    preview_images: int = 64
    value_range: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self):
        at_least(self, d_steps=1, g_steps=1, r1_gamma=0, r2_gamma=0, reg_every=1,
                 gp_weight=0, drift=0, preview_images=1)
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"ema_decay must be in [0,1), got {self.ema_decay}")
        losses.find(self.loss)
        for name in NAMES if self.conditional else ():
            if not getattr(getattr(self, name), "classes", 0):
                raise UserError(f"conditional training needs {name}.classes, e.g. config.task.{name}.classes=10")

    def draw(self, keys: jax.Array, step: jax.Array | None = None) -> Any:
        """z of one image for each of keys [n], a pytree of arrays [n,...]: the i-th a function of keys[i] alone, and of
        the step while training."""
        raise TypeError(f"{type(self).__name__} does not define draw")

    def seen(self, images: jax.Array, rng: jax.Array, step: jax.Array) -> jax.Array:
        """What the discriminator sees of real images while training: all, unless a family shows it parts."""
        return images

    # ---------------------------------------------------------------- state

    def init(self, rng, spec):
        """Both networks, their optimisers and the generator's average."""
        image = spec["image"]
        keys = dict(zip(("params", "dropout", "noise"), jax.random.split(rng, 3), strict=True))
        labels = jnp.zeros((image.shape[0],), jnp.int32) if self._labels(spec) is not None else None
        z = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype),
                         jax.eval_shape(lambda: self._latents(rng, image.shape[0])))
        x, g = self.generator.init_with_output(keys, z, labels)
        real = jax.eval_shape(self.seen, image, rng, jnp.zeros((), jnp.int32))
        if x.shape != real.shape:
            raise UserError(f"the generator makes images {x.shape[1:]}, the data has {real.shape[1:]}; change the"
                            " generator's size or channels (the config's structural arguments), or what config.data"
                            " makes")
        keys = {k: jax.random.fold_in(v, 1) for k, v in keys.items()}
        d = self.discriminator.init(keys, x, labels)
        params = {"generator": g.pop("params"), "discriminator": d.pop("params")}
        ema = jax.tree.map(jnp.array, params["generator"]) if self.ema_decay > 0 else {}
        opt_state = {"generator": self.g_optimizer.init(params["generator"]),
                     "discriminator": self.d_optimizer.init(params["discriminator"])}
        return TrainState(jnp.zeros((), jnp.int32), params, ema, opt_state, {"generator": g, "discriminator": d})

    def _labels(self, batch):
        if not self.conditional:
            return None
        if "label" not in batch:
            raise UserError("conditional training needs labels; choose a labelled config.data.source (and labels=True)")
        return batch["label"]

    def check_data(self, data: Any) -> None:
        """All labels of the data must be classes of both networks (one beyond them would be a silent zero one-hot), and
        all their classes must occur, see `genjax.data.labels`."""
        if not self.conditional:
            return
        labels_lib.check(getattr(data, "source", None), getattr(data, "classes", ()),
                         {name: getattr(self, name).classes for name in NAMES}, self.unseen_classes)
        if self.evaluation is not None:
            self._counts(data)

    # ---------------------------------------------------------------- one step

    def _apply(self, name, params, variables, *args, rng, train=True):
        """A network's output and its new collections; parameters are told apart so that they can be differentiated."""
        rngs = {k: jax.random.fold_in(rng, i) for i, k in enumerate(("dropout", "noise"))}
        net = getattr(self, name)
        if not train:
            return net.apply({"params": params, **variables}, *args, train=False, rngs=rngs), variables
        out, new = net.apply({"params": params, **variables}, *args, train=True, rngs=rngs, mutable=list(variables))
        return out, {**variables, **new}

    def _penalties(self, logits, real, fake, rng):
        """The gradient penalties' sum, one forward and backward pass each."""
        total = jnp.float32(0)
        for gamma, x in ((self.r1_gamma, real), (self.r2_gamma, fake)):
            if gamma > 0:
                squared = losses.squared_gradient(logits, x)
                total += losses.zero_centred_penalty(squared, gamma, self.r1_convention, math.prod(x.shape[1:3]))
        if self.gp_weight > 0:
            total += losses.gradient_penalty(logits, real, fake, rng, self.gp_weight)
        return total

    def _d_loss(self, params, variables, real, fake, labels, rng, regularise):
        keys = jax.random.split(rng, 4)
        on_real, variables = self._apply("discriminator", params, variables, real, labels, rng=keys[0])
        on_fake, variables = self._apply("discriminator", params, variables, fake, labels, rng=keys[1])
        loss = losses.discriminator_loss(self.loss, on_real, on_fake)
        metrics = {"d_loss": loss, "real_logit": on_real.mean(), "fake_logit": on_fake.mean()}
        if self.drift > 0:
            loss += losses.drift(on_real, self.drift)
        if self.r1_gamma or self.r2_gamma or self.gp_weight:
            def logits(x):
                return self._apply("discriminator", params, variables, x, labels, rng=keys[2])[0]

            # Only the branch taken runs; `reg_every` times as strong, so that the sum over steps is the same.
            penalty = jax.lax.cond(regularise, lambda: self._penalties(logits, real, fake, keys[3]),
                                   lambda: jnp.float32(0))
            loss += penalty * self.reg_every
            metrics["penalty"] = penalty
        return loss, (variables, metrics)

    def _g_loss(self, d_params, d_variables, fake, real, labels, rng):
        """The generator's loss of its images; logits of the real ones are taken only where the loss needs them."""
        def logits(x, rng):
            return self._apply("discriminator", d_params, d_variables, x, labels, rng=rng)[0]

        return losses.generator_loss(self.loss, logits(fake, rng), lambda: logits(real, jax.random.fold_in(rng, 1)))

    def _g_grads(self, params, variables, d_params, d_variables, z, real, labels, rng):
        def loss(params):
            x, new = self._apply("generator", params, variables, z, labels, rng=rng)
            return self._g_loss(d_params, d_variables, x, real, labels, jax.random.fold_in(rng, 9)), new

        (value, new), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return value, new, grads

    def step(self, state, batch, rng):
        """A discriminator update; then, at every `d_steps`-th step, the generator's."""
        labels = self._labels(batch)
        real = self.seen(batch["image"], jax.random.fold_in(rng, 4), state.step)
        n = real.shape[0]
        k_z, k_g, k_d, k_turn = jax.random.split(rng, 4)
        g, d = (state.params[k] for k in NAMES)
        g_vars, d_vars = (state.extra[k] for k in NAMES)
        z = self._latents(k_z, n, state.step)

        def generate(params):
            return self._apply("generator", params, g_vars, z, labels, rng=k_g)

        if self.share_latents:
            fake, pull, fake_vars = jax.vjp(generate, g, has_aux=True)
        else:
            (fake, fake_vars), pull = generate(g), None
        fake_in = jax.lax.stop_gradient(fake)
        due = state.step % self.reg_every == 0
        grads, (d_vars, metrics) = jax.grad(self._d_loss, has_aux=True)(d, d_vars, real, fake_in, labels, k_d, due)
        updates, d_opt = self.d_optimizer.update(grads, state.opt_state["discriminator"], d)
        d = optax.apply_updates(d, updates)
        d_norm = optax.tree.norm(grads)

        def turn(carry):
            g, g_vars, g_opt, _ = carry
            for i in range(self.g_steps):
                key = jax.random.fold_in(k_turn, i)
                if self.share_latents and i == 0:
                    def on_images(x, key=key):
                        return self._g_loss(d, d_vars, x, real, labels, key)

                    value, by_image = jax.value_and_grad(on_images)(fake)
                    new, (g_grads,) = fake_vars, pull(by_image)
                else:
                    latents = z if self.share_latents else self._latents(key, n, state.step)
                    value, new, g_grads = self._g_grads(g, g_vars, d, d_vars, latents, real, labels, key)
                updates, g_opt = self.g_optimizer.update(g_grads, g_opt, g)
                g, g_vars = optax.apply_updates(g, updates), new
            return g, g_vars, g_opt, value

        # Where it is not the generator's turn: its loss at the mean logits.
        waiting = losses.generator_loss(self.loss, metrics["fake_logit"][None], lambda: metrics["real_logit"][None])
        carry = (g, fake_vars, state.opt_state["generator"], waiting)
        if self.d_steps == 1:
            g, g_vars, g_opt, g_loss = turn(carry)
        else:
            g, g_vars, g_opt, g_loss = jax.lax.cond((state.step + 1) % self.d_steps == 0, turn, lambda c: c, carry)
        ema = ema_update(state.ema, g, self.ema_decay) if self.ema_decay > 0 else state.ema
        metrics = {"loss": metrics["d_loss"] + g_loss, **metrics, "g_loss": g_loss, "d_grad_norm": d_norm}
        return TrainState(state.step + 1, {"generator": g, "discriminator": d}, ema,
                          {"generator": g_opt, "discriminator": d_opt},
                          {"generator": g_vars, "discriminator": d_vars}), metrics

    # ---------------------------------------------------------------- use

    def _latents(self, rng, n, step=None):
        """z of n images, the i-th a function of `rng` and i (and the step) alone, laid out like a batch."""
        return jax.tree.map(lambda v: constrain(v, BATCH), self.draw(rng_lib.per_item(rng, n), step))

    def export(self, state):
        """The generator alone: averaged parameters where there are any, and its other collections."""
        g = state.ema if jax.tree.leaves(state.ema) else state.params["generator"]
        return {"params": g, "extra": state.extra["generator"]}

    @functools.cached_property
    def _images(self):
        return jax.jit(self._render)

    def _render(self, variables, z, labels):
        """x [N,H,W,C] from a snapshot's variables, sample by sample."""
        return self._apply("generator", variables["params"], variables["extra"], z, labels, rng=jax.random.key(0),
                           train=False)[0]

    def images(self, variables: dict[str, Any], z: Any, labels: Any = None, batch: int = 64) -> np.ndarray:
        """x [N,H,W,C] in the value range for given z (and labels [N]), `batch` at a time by one program."""
        z = jax.tree.map(np.asarray, z)
        n = len(jax.tree.leaves(z)[0])
        batch = min(batch, n)
        if self.conditional and labels is None:
            labels = np.arange(n) % self.generator.classes
        out = []
        for i in range(0, n, batch):
            at = np.minimum(np.arange(i, i + batch), n - 1)
            out.append(np.asarray(self._images(variables, jax.tree.map(lambda v, at=at: v[at], z),
                                               None if labels is None else np.asarray(labels)[at])))
        return np.concatenate(out)[:n]

    def sample(self, variables, rng, n, cond=None):
        """{"samples"}: image i is a function of `rng` and i; classes in turn, or `cond` [n] labels."""
        if cond is not None:
            classes = self.generator.classes if self.conditional else 0
            if not classes:
                raise UserError("this run's generator takes no classes; leave --classes away")
            if not all(0 <= c < classes for c in cond):
                raise UserError(f"this run has the classes 0 to {classes - 1}; {max(cond)} is none of them")
        return {"samples": self.images(variables, self._latents(rng, n), cond)}

    def _measured(self, variables, z, labels, keys):
        """x [N,H,W,C] for `evaluation`, sample i from z_i, label i and keys[i] alone: those of `_render`, unless a
        family's samples depend on more (noise)."""
        return self._render(variables, z, labels)

    def how(self, variables: Any) -> tuple[tuple[str, Any], ...]:
        """What the samples of `evaluation` depend on beside the weights, for the recipes."""
        return ()

    @functools.cached_property
    def _draw(self):
        return self._drawing(self._measured)

    def _drawing(self, render):
        """(keys [b], variables, counts [classes]) -> pictures as `evaluation` wants them, of latents and random
        classes, each as often as `counts` says; `render` as `_measured`."""
        def draw(keys, variables, counts=None):
            z = self.draw(keys)
            labels = None
            if self.conditional:
                ends = jnp.cumsum(jnp.ones(self.generator.classes, jnp.int32) if counts is None else counts)
                # The class of a picture chosen at random, as the authors of StyleGAN2-ADA draw labels.
                pictures = jax.vmap(lambda k: jax.random.randint(jax.random.fold_in(k, 1), (), 0, ends[-1]))(keys)
                labels = jnp.searchsorted(ends, pictures, side="right")
            return render(variables, z, labels, jax.vmap(lambda k: jax.random.fold_in(k, 2))(keys))

        return draw

    def evaluate(self, variables, data, rng):
        """What `evaluation` asks for: values with their recipes. Classes are drawn as often as the data compared with
        have them, and the recipes say so."""
        return self._evaluated(self._draw, variables, data, rng)

    def _counts(self, data):
        """How many of the pictures that `evaluation` compares with are of each class, [classes] int32; None where the
        data cannot say or there are no classes."""
        if not (self.conditional and hasattr(data, "source")):
            return None
        return labels_lib.counts(self.evaluation.source(data), self.generator.classes, getattr(data, "classes", ()))

    def _evaluated(self, draw, variables, data, rng):
        """`evaluation` of what `draw` (see `_drawing`) makes."""
        if self.evaluation is None:
            return {}
        counts, how = self._counts(data), self.how(variables)
        if self.conditional:
            drawn = "equally often" if counts is None else "as often as in the data"
            how = (*how, ("classes", drawn))
            if counts is not None:
                how = (*how, ("class_counts", hashlib.sha256(counts.astype("<i4").tobytes()).hexdigest()[:8]))
        return self.evaluation(draw, rng, data, (variables, counts), self.value_range, how, self.paths(variables),
                               self.moves(variables))

    def paths(self, variables: Any) -> Callable[[str], Paths] | None:
        """For path lengths, see `Evaluation`; None where z is no vector to walk along."""
        return None

    def moves(self, variables: Any) -> Callable[[jax.Array, Settings], dict[str, Value]] | None:
        """For disentanglement, see `Evaluation`; None where there are no objects to move."""
        return None

    def _shown(self, variables, rng):
        """Samples [N,H,W,C] in [0,1] for people to look at, and their classes [N], rows of equal length, or None."""
        low, high = self.value_range
        n, labels = self.preview_images, None
        if self.conditional:
            rows = min(self.generator.classes, n)
            rows = rows if 4 * rows <= n else max(1, min(rows, math.isqrt(n)))
            labels = np.repeat(np.arange(rows), n // rows)
            n = len(labels)
        x = self.sample(variables, rng, n, labels)["samples"]
        return np.clip((x - low) / (high - low), 0, 1), labels

    def _sheet(self, variables, rng):
        """The samples as one picture [H,W,3] in [0,1]: uncurated, small images enlarged, classes as rows."""
        x, labels = self._shown(variables, rng)
        columns = math.isqrt(len(x)) if labels is None else len(x) // (labels[-1] + 1)
        names = None if labels is None else [str(c) for c in labels[::columns]]
        return image_grid(x, columns, row_labels=names, scale=max(1, 512 // (columns * x.shape[2]))) / 255.0

    def preview(self, variables, batch, rng):
        """{"samples"} of the same latents at every preview; with classes one sheet, a row for each."""
        if self.conditional:
            return {"samples": self._sheet(variables, rng)[None]}
        return {"samples": self._shown(variables, rng)[0]}

    def results(self, variables, data, rng):
        """{"samples"}: one sheet."""
        return {"samples": self._sheet(variables, rng)}
