"""Training of StyleGAN2 with adaptive discriminator augmentation: Karras et al. 2020 (arXiv:1912.04958, 2006.06676).

Letters: z[N,Z] latents, w[N,L,W] one style per layer, x[N,R,R,C] images in [-1,1], y labels [N] int32, B batch, p the
strength of augmentation. Order of a step, as in the published code, each part an optimiser step of its own: generator;
path lengths (every `pl_every`-th step); discriminator; R1 (every `reg_every`-th step); average; strength p. All of it
is one program, and only what is due runs.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from genjax.core.task import TrainState
from genjax.errors import UserError, at_least
from genjax.gan.augment import Pipe
from genjax.gan.stylegan2 import mix_styles, mixing_cutoff
from genjax.gan.task import Adversarial, Painter
from genjax.losses import adversarial as losses


def finite(grads: Any) -> Any:
    """Gradients with NaN as 0 and infinities as +-1e5, which 16-bit arithmetic makes now and then."""
    return jax.tree.map(lambda g: jnp.nan_to_num(g, nan=0.0, posinf=1e5, neginf=-1e5), grads)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StyleAdversarial(Adversarial):
    """StyleGAN2(-ADA). Of `Adversarial`'s attributes d_steps, g_steps, share_latents, r2, gp, drift are not for it.

    Attributes:
      generator, discriminator: of `genjax.gan.stylegan2`.
      mixing: probability that the layers of a batch take their styles from two latents per sample; the layer from which
        on the second one's are taken is the same for the whole batch, as in the authors' code.
      reg_every: steps between R1 penalties (its gamma is `r1_gamma`, convention "half").
      pl_weight, pl_every, pl_shrink, pl_decay: of the path length penalty, its interval, on a 1/pl_shrink of the
        batch, and its running mean. Weight 0 turns it off.
      augment: what is done to every image the discriminator sees; None for nothing.
      augment_p: strength at the start, and throughout unless `ada_target` rules it.
      ada_target: p rises while the mean sign of the discriminator's logits on real images is above, falls while it is
        below; 0 keeps p where it is. Logits of R1 steps count like the others, as in the authors' code.
      ada_every: steps between such changes.
      ada_kimg: thousands of images in which p can go from 0 to 1.
      ema_kimg: half-life of the generator's average in thousands of images (`ema_decay` is not for it); 0 for none.
      ema_rampup: the half-life is at most this share of the images seen so far; 0 for no such limit.
      psi: truncation of samples; 1 for none.
    """

    latent_dim: int = 512
    mixing: float = 0.9
    reg_every: int = 16
    r1_gamma: float = 10.0
    pl_weight: float = 2.0
    pl_every: int = 4
    pl_shrink: int = 2
    pl_decay: float = 0.01
    augment: Pipe | None = None
    augment_p: float = 0.0
    ada_target: float = 0.0
    ada_every: int = 4
    ada_kimg: float = 500.0
    ema_kimg: float = 10.0
    ema_rampup: float = 0.0
    psi: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        at_least(self, mixing=0, pl_weight=0, pl_every=1, pl_shrink=1, augment_p=0, ada_every=1, ada_kimg=1e-9,
                 ema_kimg=0, ema_rampup=0)
        off = {"d_steps": 1, "g_steps": 1, "share_latents": False, "r2_gamma": 0, "gp_weight": 0, "drift": 0,
               "ema_decay": 0}
        for name, value in off.items():
            if getattr(self, name) != value:
                raise UserError(f"StyleGAN2's step has no {name}; leave it at {value}"
                                + (" and set ema_kimg" if name == "ema_decay" else ""))
        if self.latent_dim != self.generator.z_dim:
            raise UserError(f"latent_dim {self.latent_dim} is not the generator's z_dim {self.generator.z_dim}; set"
                            " both alike")
        if self.augment is None and (self.augment_p or self.ada_target):
            raise UserError("augment_p and ada_target need an augmentation: set config.task.augment, e.g. to"
                            " genjax.gan.augment.pipe")

    def init(self, rng, spec):
        """Both networks, their optimisers, the average, the mean path length and the strength of augmentation."""
        state = super().init(rng, spec)
        extra = {**state.extra, "path_length": jnp.float32(0)}
        if self.augment is not None:
            extra["augment"] = {"p": jnp.float32(self.augment_p), "signs": jnp.float32(0)}
        ema = jax.tree.map(jnp.array, state.params["generator"]) if self.ema_kimg > 0 else {}
        return TrainState(state.step, state.params, ema, state.opt_state, extra)

    # ---------------------------------------------------------------- parts of a step

    def _styles(self, params, buffers, rng, n, labels):
        """w [n,L,W] of fresh latents, some of them mixed; and the buffers with a new w_avg."""
        keys = jax.random.split(rng, 3)
        call = functools.partial(self.generator.apply, {"params": params, **buffers}, method="map")
        z = self._latents(keys[0], n)
        ws, new = call(z, labels, update_w_avg=True, mutable=["buffers"])
        if self.mixing > 0:
            other = call(self._latents(keys[1], n), labels)
            ws = mix_styles(ws, other, mixing_cutoff(keys[2], ws.shape[1], self.mixing))
        return ws, {**buffers, **new}

    def _paint(self, params, buffers, ws, rng):
        return self.generator.apply({"params": params, **buffers}, ws, method="synthesize", rngs={"noise": rng})

    def _generate(self, params, buffers, rng, n, labels):
        k_ws, k_noise = jax.random.split(rng)
        ws, buffers = self._styles(params, buffers, k_ws, n, labels)
        return self._paint(params, buffers, ws, k_noise), buffers

    def _judge(self, params, variables, x, labels, p, rng):
        """Logits [N] of augmented images."""
        if self.augment is not None:
            x = self.augment(x, p, rng)
        return self.discriminator.apply({"params": params, **variables}, x, labels)[:, 0]

    def _updated(self, optimizer, params, opt_state, grads):
        updates, opt_state = optimizer.update(finite(grads), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def _path_step(self, g, buffers, opt_state, mean, rng, n, labels):
        """The path length penalty's own step: new (g, buffers, optimiser, running mean), penalty."""
        k_ws, k_noise, k_y = jax.random.split(rng, 3)
        n = max(n // self.pl_shrink, 1)
        labels = None if labels is None else labels[:n]

        def loss(g):
            ws, new = self._styles(g, buffers, k_ws, n, labels)
            lengths = losses.path_lengths(lambda ws: self._paint(g, new, ws, k_noise), ws, k_y)
            penalty, moved = losses.path_length_penalty(lengths, mean, self.pl_decay)
            return penalty * self.pl_weight * self.pl_every, (new, moved, penalty)

        grads, (buffers, mean, penalty) = jax.grad(loss, has_aux=True)(g)
        g, opt_state = self._updated(self.g_optimizer, g, opt_state, grads)
        return (g, buffers, opt_state, mean), penalty

    def step(self, state, batch, rng):
        """One step in the order of the module's docstring."""
        labels, real = self._labels(batch), batch["image"]
        n = real.shape[0]
        keys = jax.random.split(rng, 8)
        g, d = state.params["generator"], state.params["discriminator"]
        buffers, d_vars = state.extra["generator"], state.extra["discriminator"]
        g_opt, d_opt = state.opt_state["generator"], state.opt_state["discriminator"]
        p = state.extra["augment"]["p"] if self.augment is not None else jnp.float32(0)

        def g_loss(g):
            fake, new = self._generate(g, buffers, keys[0], n, labels)
            logits = self._judge(d, d_vars, fake, labels, p, keys[1])
            return losses.generator_loss(self.loss, logits, lambda: self._judge(
                d, d_vars, real, labels, p, jax.random.fold_in(keys[1], 1))), new

        (value, buffers), grads = jax.value_and_grad(g_loss, has_aux=True)(g)
        g, g_opt = self._updated(self.g_optimizer, g, g_opt, grads)
        metrics = {"g_loss": value}
        mean = state.extra["path_length"]
        if self.pl_weight > 0:
            carry = (g, buffers, g_opt, mean)
            carry, metrics["pl_penalty"] = jax.lax.cond(
                state.step % self.pl_every == 0, lambda c: self._path_step(*c, keys[2], n, labels),
                lambda c: (c, jnp.float32(0)), carry)
            g, buffers, g_opt, mean = carry

        fake, buffers = self._generate(g, buffers, keys[3], n, labels)

        def d_loss(d):
            on_fake = self._judge(d, d_vars, jax.lax.stop_gradient(fake), labels, p, keys[4])
            on_real = self._judge(d, d_vars, real, labels, p, keys[5])
            return losses.discriminator_loss(self.loss, on_real, on_fake), (on_real, on_fake)

        (value, (on_real, on_fake)), grads = jax.value_and_grad(d_loss, has_aux=True)(d)
        d, d_opt = self._updated(self.d_optimizer, d, d_opt, grads)
        signs = jnp.sign(on_real).mean()
        metrics |= {"d_loss": value, "real_logit": on_real.mean(), "fake_logit": on_fake.mean(), "real_sign": signs}
        again = jnp.float32(0)  # the mean sign in an R1 step
        if self.r1_gamma > 0:
            def r1_step(carry):
                def loss(d):
                    squared, a = losses.squared_gradient_and_logits(
                        lambda x: self._judge(d, d_vars, x, labels, p, keys[6]), real)
                    penalty = losses.zero_centred_penalty(squared, self.r1_gamma, self.r1_convention,
                                                          math.prod(real.shape[1:3]))
                    return penalty * self.reg_every, (penalty, jnp.sign(a).mean())

                grads, found = jax.grad(loss, has_aux=True)(carry[0])
                return self._updated(self.d_optimizer, *carry, grads), found

            (d, d_opt), (metrics["r1_penalty"], again) = jax.lax.cond(
                state.step % self.reg_every == 0, r1_step, lambda c: (c, (jnp.float32(0), again)), (d, d_opt))

        extra = {"generator": buffers, "discriminator": d_vars, "path_length": mean}
        if self.augment is not None:
            extra["augment"] = self._controlled(state, signs + again, n)
            metrics["augment_p"] = extra["augment"]["p"]
        metrics["loss"] = metrics["g_loss"] + metrics["d_loss"]
        return TrainState(state.step + 1, {"generator": g, "discriminator": d}, self._averaged(state, g, n),
                          {"generator": g_opt, "discriminator": d_opt}, extra), metrics

    def _controlled(self, state, signs, n):
        """Strength p after this step: every `ada_every` steps a constant amount up or down, never below 0.

        Args:
          state: before the step.
          signs: the step's mean sign of real logits, and that of its R1 step added to it.
          n: the batch.
        """
        was = state.extra["augment"]
        if self.ada_target <= 0:
            return was
        total, after = was["signs"] + signs, state.step + 1
        due = after % self.ada_every == 0
        count = self.ada_every
        if self.r1_gamma > 0:  # and the R1 steps since the last change, at the multiples of reg_every
            count += (after - 1) // self.reg_every - (after - 1 - self.ada_every) // self.reg_every
        change = jnp.sign(total / count - self.ada_target) * (n * self.ada_every / (self.ada_kimg * 1000))
        p = jnp.where(due, jnp.maximum(was["p"] + change, 0), was["p"])
        return {"p": p, "signs": jnp.where(due, 0, total)}

    def _averaged(self, state, g, n):
        """The generator's average: beta = 2^-(B / half-life), half-life in images."""
        if self.ema_kimg <= 0:
            return state.ema
        images = jnp.float32(self.ema_kimg * 1000)
        if self.ema_rampup > 0:
            images = jnp.minimum(images, state.step.astype(jnp.float32) * (n * self.ema_rampup))
        beta = jnp.exp2(-n / jnp.maximum(images, 1e-8))
        return jax.tree.map(lambda e, p: p + beta * (e - p), state.ema, g)

    # ---------------------------------------------------------------- use

    def _render(self, variables, z, labels):
        """Samples with truncation and the fixed noise pictures: image i is a function of z_i alone."""
        return self.generator.apply({"params": variables["params"], **variables["extra"]}, z, labels,
                                    psi=self.psi, noise="const")

    def _measured(self, variables, z, labels, keys):
        """As `_render`, with every picture's noise of its own, as the authors measure."""
        variables = {"params": variables["params"], **variables["extra"]}
        ws = self.generator.apply(variables, z, labels, psi=self.psi, method="map")
        return Painter(self.generator)(ws, keys, variables)

    def how(self, variables):
        """Noise, and truncation where there is any."""
        return (("noise", "random"), *((("psi", self.psi),) if self.psi != 1 else ()))
