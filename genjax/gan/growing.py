"""Adversarial training of networks that grow: Progressive GAN and StyleGAN.

Letters as in `genjax.gan.task` and `genjax.data.growing`. A batch brings its resolution r in its shape, so jit compiles
one program per resolution, while the state (the parameters of all resolutions) never changes shape. Everything else
that the schedule says at a step, alpha, learning rates, resets, is a function of `state.step`: a run cut in a fade goes
on exactly. Networks are called as `generator(z, y, train, size=r, alpha=alpha)` and `discriminator(x, y, train,
alpha=alpha)`.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from genjax.data.growing import GrowthSchedule, Stage
from genjax.errors import UserError, at_least
from genjax.gan.latent import Style, has_styles
from genjax.gan.progressive import fade_images
from genjax.gan.task import NAMES, Adversarial, Painter
from genjax.losses import adversarial as losses


@dataclasses.dataclass(frozen=True)
class _Grown:
    """A network with the arguments that a step fixes."""

    net: Any
    call: dict[str, Any]

    def __getattr__(self, name):
        return getattr(self.net, name)

    def apply(self, *args, **kwargs):
        """As the network's."""
        return self.net.apply(*args, **kwargs, **self.call)


def _scaled(optimizer: optax.GradientTransformation, rate: jax.Array | float) -> optax.GradientTransformation:
    """The optimiser with its updates, so its learning rate, times `rate`; the state stays the same."""
    if isinstance(rate, float | int) and rate == 1:
        return optimizer

    def update(grads, state, params=None):
        updates, state = optimizer.update(grads, state, params)
        return jax.tree.map(lambda u: u * rate, updates), state

    return optax.GradientTransformation(optimizer.init, update)


def _cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Growing(Adversarial):
    """Trains networks that grow, on the batches of a `genjax.data.growing.GrowingPipeline`.

    Real pictures fade in like the networks. Per-resolution learning rates multiply the optimisers' updates. Optimisers
    start afresh when layers come and when their fade is over.

    Attributes:
      schedule: when what changes; the data's own, "@schedule".
      half_life_kimg: of the generator's average, in thousands of images, in the place of `ema_decay` per step; 0: that.
      rampup_kimg: thousands of images in which the learning rates grow, by exp(-5 (1 - t)^2) as t goes from 0 to 1; 0:
        none.
      gp_target: the gradient norm WGAN-GP asks for; 750 in Progressive GAN's CIFAR-10.
      class_weight: of the classification loss of both networks (AC-GAN; the discriminator's head must be "acgan").
      reset_optimizers: start them afresh, see above.
      truncation: psi of the second sheet `results` makes, in the generator's first `truncation_layers` layers; 1: none.
    """

    schedule: GrowthSchedule
    half_life_kimg: float = 0.0
    rampup_kimg: float = 0.0
    gp_target: float = 1.0
    class_weight: float = 0.0
    reset_optimizers: bool = True
    truncation: float = 1.0
    truncation_layers: int = 8

    def __post_init__(self):
        super().__post_init__()
        at_least(self, half_life_kimg=0, rampup_kimg=0, class_weight=0, truncation_layers=0)
        if self.gp_target <= 0:
            raise UserError(f"gp_target must be positive, got {self.gp_target}")
        if self.share_latents or self.g_steps != 1:
            raise UserError("growing networks draw latents anew and take one generator step; set share_latents=False"
                            " and g_steps=1")
        for name in NAMES:
            if getattr(self, name).resolution != self.schedule.resolution:
                raise UserError(f"{name} is for {getattr(self, name).resolution} pixels, the schedule for"
                                f" {self.schedule.resolution}; give one res to the config")
        if self.class_weight and (not self.conditional or self.discriminator.head != "acgan"):
            raise UserError('class_weight needs conditional=True and a discriminator with head="acgan"')

    # ---------------------------------------------------------------- the schedule at a step

    @functools.cached_property
    def _table(self) -> dict[str, np.ndarray]:
        """Per stage, for looking up at a traced step."""
        stages = self.schedule.stages
        return {k: np.array([getattr(s, k) for s in stages], np.int32)
                for k in ("resolution", "batch", "first", "offset", "fade")}

    def growth(self, step: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(r, alpha, LOD) of a step, traced or not; alpha and LOD float32."""
        t, repeats = self._table, self.schedule.repeats
        k = (step >= t["first"][1:]).sum()
        s = {name: jnp.asarray(row)[k] for name, row in t.items()}
        done = jnp.minimum((step - s["first"]) // repeats * repeats, s["fade"])  # so the product fits 32 bits
        images = round(self.schedule.fade_kimg * 1000)
        alpha = jnp.minimum((s["offset"] + done * s["batch"]) / jnp.float32(max(images, 1)), 1)
        alpha = jnp.where(k == 0, 1, alpha) if images else jnp.float32(1)
        return s["resolution"], alpha, len(t["first"]) - 1 - k + (1 - alpha)

    def _stage(self, size: int) -> Stage:
        for stage in self.schedule.stages:
            if stage.resolution == size:
                return stage
        raise UserError(f"pictures of {size} pixels are no stage of the schedule; config.data must be a"
                        ' genjax.data.growing.GrowingPipeline with schedule="@schedule"')

    def _at(self, size: int, alpha: Any, kimg: jax.Array | float = math.inf) -> "Growing":
        """This task at one resolution and fade, after so many thousands of images."""
        stage = self._stage(size)
        rate = stage.rate
        if self.rampup_kimg:
            rate = rate * jnp.exp(-5 * jnp.square(1 - jnp.clip(kimg / self.rampup_kimg, 0, 1)))
        return dataclasses.replace(
            self, generator=_Grown(self.generator, {"size": size, "alpha": alpha}),
            discriminator=_Grown(self.discriminator, {"alpha": alpha}),
            g_optimizer=_scaled(self.g_optimizer, rate), d_optimizer=_scaled(self.d_optimizer, rate),
            ema_decay=self._decay(stage.batch))

    def _decay(self, batch: int) -> float:
        return 0.5 ** (batch / (1000 * self.half_life_kimg)) if self.half_life_kimg else self.ema_decay

    # ---------------------------------------------------------------- training

    def init(self, rng, spec):
        """Everything at full size."""
        whole = dataclasses.replace(self, ema_decay=self._decay(1))
        return super(Growing, whole).init(rng, spec)

    def step(self, state, batch, rng):
        """As `Adversarial`, at the batch's resolution; metrics `lod` and `kimg` say where the schedule is."""
        x = batch["image"]
        _, alpha, lod = self.growth(state.step)
        stage = self._stage(x.shape[1])
        seen = stage.images / 1000 + (state.step - stage.first).astype(jnp.float32) * (stage.batch / 1000)
        now = self._at(x.shape[1], alpha, seen)
        if x.shape[1] > self.schedule.start:
            batch = {**batch, "image": fade_images(x, alpha)}
        if self.reset_optimizers and self.schedule.resets():
            state = state.replace(opt_state=self._fresh(state))
        state, metrics = super(Growing, now).step(state, batch, rng)
        return state, {**metrics, "lod": lod, "kimg": seen}

    def _fresh(self, state):
        """The optimisers' states, or new ones where a step begins with such."""
        due = (state.step == jnp.asarray(self.schedule.resets(), jnp.int32)).any()

        def fresh():
            return {"generator": self.g_optimizer.init(state.params["generator"]),
                    "discriminator": self.d_optimizer.init(state.params["discriminator"])}

        return jax.tree.map(lambda new, old: jnp.where(due, new, old), fresh(), state.opt_state)

    def _penalties(self, logits, real, fake, rng):
        if self.gp_target == 1 or self.gp_weight <= 0:
            return super()._penalties(logits, real, fake, rng)
        rest = super(Growing, dataclasses.replace(self, gp_weight=0.0))._penalties(logits, real, fake, rng)
        return rest + losses.gradient_penalty(logits, real, fake, rng, self.gp_weight, self.gp_target)

    def _classify(self, params, x, labels):
        """a, and the classification loss at x."""
        a, logits = self.discriminator.apply({"params": params}, x, method="classify")
        return a, self.class_weight * _cross_entropy(logits, labels)

    def _d_loss(self, params, variables, real, fake, labels, rng, regularise):
        if not self.class_weight:
            return super()._d_loss(params, variables, real, fake, labels, rng, regularise)
        (on_real, c_real), (on_fake, c_fake) = (self._classify(params, x, labels) for x in (real, fake))
        adversarial = losses.discriminator_loss(self.loss, on_real, on_fake)
        penalty = jax.lax.cond(
            regularise, lambda: self._penalties(lambda x: self._classify(params, x, labels)[0], real, fake, rng),
            lambda: jnp.float32(0))
        total = adversarial + c_real + c_fake + penalty * self.reg_every
        if self.drift > 0:
            total += losses.drift(on_real, self.drift)
        return total, (variables, {"d_loss": adversarial, "real_logit": on_real.mean(), "fake_logit": on_fake.mean(),
                                   "penalty": penalty, "class_real": c_real, "class_fake": c_fake})

    def _g_grads(self, params, variables, d_params, d_variables, z, real, labels, rng):
        if not self.class_weight:
            return super()._g_grads(params, variables, d_params, d_variables, z, real, labels, rng)

        def loss(params):
            x, new = self._apply("generator", params, variables, z, labels, rng=rng)
            a, of_class = self._classify(d_params, x, labels)
            adversarial = losses.generator_loss(self.loss, a, lambda: self._classify(d_params, real, labels)[0])
            return adversarial + of_class, new

        (value, new), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return value, new, grads

    # ---------------------------------------------------------------- use

    def export(self, state):
        """The generator as in `Adversarial`, with the resolution and fade it is at."""
        resolution, alpha, _ = self.growth(state.step)
        return {**super().export(state), "resolution": resolution, "alpha": alpha}

    def _grown(self, size, psi, variables, z, labels):
        """x [N,size,size,C]."""
        call = {"size": size, "alpha": variables["alpha"]}
        if psi != 1:
            call |= {"psi": psi, "cutoff": self.truncation_layers}
        return self.generator.apply({"params": variables["params"], **variables["extra"]}, z, labels, train=False,
                                    **call)

    @functools.cached_property
    def _compiled(self):
        return jax.jit(self._grown, static_argnums=(0, 1))

    def _drawn(self, psi):
        return lambda variables, z, labels: self._compiled(int(variables["resolution"]), psi, variables, z, labels)

    def style(self, variables):
        """As in `Adversarial`, at the size it has grown to."""
        growth = {"size": int(variables["resolution"]), "alpha": float(variables["alpha"])}
        return Style(self.generator, variables, growth=growth)

    @property
    def _images(self):
        return self._drawn(1.0)

    def _shown(self, variables, rng):
        """As in `Adversarial`, pixels repeated up to the full resolution: previews stay equally large."""
        x, labels = super()._shown(variables, rng)
        return self._full(x), labels

    def _full(self, x):
        factor = self.schedule.resolution // x.shape[1]
        return x.repeat(factor, 1).repeat(factor, 2)

    @functools.cached_property
    def _draws(self):
        """For `evaluate`, one function per size."""
        def at(size):
            def render(variables, z, labels, keys):
                if not self._noisy:
                    return self._full(self._grown(size, 1.0, variables, z, labels))
                growth, variables = {"size": size, "alpha": variables["alpha"]}, {
                    "params": variables["params"], **variables["extra"]}
                ws = self.generator.apply(variables, z, labels, method="map")
                return self._full(Painter(self.generator, tuple(growth.items()))(ws, keys, variables))

            return self._drawing(render)

        return {s.resolution: at(s.resolution) for s in self.schedule.stages}

    def evaluate(self, variables, data, rng):
        """What `evaluation` asks for, always at full size: smaller pictures have their pixels repeated, as in the
        authors' code, and the recipe says from which size."""
        return self._evaluated(self._draws[int(variables["resolution"])], variables, data, rng)

    @property
    def _noisy(self) -> bool:
        return has_styles(self.generator) and self.generator.noise

    def how(self, variables):
        """The size pictures are enlarged from, if it is not the full one; noise, every picture's own, if there is
        any."""
        size = int(variables["resolution"])
        return (*((("enlarged_from", size),) if size < self.schedule.resolution else ()),
                *((("noise", "random"),) if self._noisy else ()))

    def results(self, variables, data, rng):
        """{"samples"}, and {"truncated"}: the same latents nearer to the average w."""
        out = super().results(variables, data, rng)
        if self.truncation != 1:
            near = _Truncated(**{f.name: getattr(self, f.name) for f in dataclasses.fields(self)})
            out["truncated"] = super(Growing, near).results(variables, data, rng)["samples"]
        return out


class _Truncated(Growing):
    """A task whose images are truncated."""

    @property
    def _images(self):
        return self._drawn(self.truncation)
