"""A system added from outside the package: a linear map fitted to random data, and a two-optimiser one beside it.

That these train, resume and shard without an edit under genjax/ is itself a test (DESIGN: adding a system touches one
file in a family, one config, one test).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from genjax.core.task import LossTask, TaskBase, TrainState, ema_update
from genjax.nn.sharding import BATCH, constrain


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyData:
    """batch(i) is a pure function of (seed, i)."""

    batch_size: int = 8
    width: int = 16
    seed: int = 0
    poison: int = -1  # the batch that holds a NaN
    constant: bool = False

    def __len__(self):
        return 64

    def batch(self, i, lo=None, hi=None):
        """x [B,width] and y [B,width]."""
        x = np.random.default_rng((self.seed, i)).normal(size=(self.batch_size, self.width)).astype(np.float32)
        if i == self.poison:
            x[0, 0] = np.nan
        return {"x": x[lo:hi], "y": np.roll(x, 1, axis=1)[lo:hi]}

    @property
    def element_spec(self):
        """Shapes of the global batch."""
        s = jax.ShapeDtypeStruct((self.batch_size, self.width), jnp.float32)
        return {"x": s, "y": s}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyTask(LossTask):
    """Two wide layers with dropout, so that randomness matters for resume."""

    hidden: int = 32
    keep_rate: float = 0.9
    stop_at: int = -1
    keeps: bool = False  # the first kernel, as a picture among the run's outputs

    def init_variables(self, rng, spec):
        a, b = jax.random.split(rng)
        w = spec["x"].shape[1]
        return {"first": {"kernel": jax.random.normal(a, (w, self.hidden)) / 4},
                "second": {"kernel": jax.random.normal(b, (self.hidden, w)) / 6}}, {"calls": jnp.zeros(())}

    def loss(self, params, extra, batch, rng):
        h = constrain(jnp.tanh(batch["x"] @ params["first"]["kernel"]), BATCH, "tensor")
        h = h * jax.random.bernoulli(rng, self.keep_rate, h.shape)
        loss = jnp.mean((h @ params["second"]["kernel"] - batch["y"]) ** 2)
        calls = extra["calls"] + 1
        return loss, ({"calls": calls}, {"stop": (calls == self.stop_at).astype(jnp.float32)})

    def evaluate(self, variables, data, rng):
        return {"norm": float(jnp.linalg.norm(variables["params"]["first"]["kernel"]))}

    def preview(self, variables, batch, rng):
        k = variables["params"]["first"]["kernel"]
        return {"kernel": jnp.clip(jnp.abs(k), 0, 1)[None, :, :, None]}

    def sample(self, variables, rng, n, cond=None):
        return {"samples": jax.random.uniform(rng, (n, 8, 8, 3))}

    def results(self, variables, data, rng):
        k = variables["params"]["first"]["kernel"]
        return {"kernel": np.clip(np.abs(k), 0, 1)[:, :, None]} if self.keeps else {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyAdversarial(TaskBase):
    """Two networks, two optimisers and an adaptive scalar, as GANs have them."""

    optimizer: object
    ema_decay: float = 0.9

    def init(self, rng, spec):
        params = {"generator": {"w": jax.random.normal(rng, (4,))}, "discriminator": {"w": jnp.ones((4,))}}
        opt = {k: self.optimizer.init(v) for k, v in params.items()}
        return TrainState(jnp.int32(0), params, jax.tree.map(jnp.array, params["generator"]), opt,
                          {"strength": jnp.float32(0.0)})

    def step(self, state, batch, rng):
        z = jax.random.normal(rng, (4,))

        def d_loss(d, g):
            fake = g["w"] * z
            return jax.nn.softplus(d["w"] @ fake) + jax.nn.softplus(-d["w"] @ batch["x"][0, :4])

        g, d = state.params["generator"], state.params["discriminator"]
        loss, grad_d = jax.value_and_grad(d_loss)(d, g)
        up, opt_d = self.optimizer.update(grad_d, state.opt_state["discriminator"], d)
        d = jax.tree.map(jnp.add, d, up)
        grad_g = jax.grad(lambda g: jax.nn.softplus(-d["w"] @ (g["w"] * z)))(g)
        up, opt_g = self.optimizer.update(grad_g, state.opt_state["generator"], g)
        g = jax.tree.map(jnp.add, g, up)
        strength = state.extra["strength"] + 0.01 * jnp.sign(loss - 1.3)
        return TrainState(state.step + 1, {"generator": g, "discriminator": d},
                          ema_update(state.ema, g, self.ema_decay),
                          {"generator": opt_g, "discriminator": opt_d}, {"strength": strength}), {"loss": loss}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyCopies(ToyAdversarial):
    """A network [width,width] for each row of x, one after another or side by side."""

    in_turn: bool = True

    def copies(self, spec):
        return spec["x"].shape[0]

    def init(self, rng, spec):
        n, width = spec["x"].shape
        return TrainState(jnp.int32(0), {"w": jax.random.normal(rng, (n, width, width))})

    def step(self, state, batch, rng):
        def one(args):
            w, x, y = args
            loss, grad = jax.value_and_grad(lambda w: jnp.mean((x @ w - y) ** 2))(w)
            return w - 0.1 * grad, loss

        each = (lambda f, xs: jax.lax.map(f, xs)) if self.in_turn else (lambda f, xs: jax.vmap(f)(xs))
        w, loss = each(one, (state.params["w"], batch["x"], batch["y"]))
        return TrainState(state.step + 1, {"w": w}), {"loss": loss.mean()}
