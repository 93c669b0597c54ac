"""The Task protocol: the one interface between a system and the loop.

A task is a frozen dataclass of pure functions; everything that changes is in the `TrainState`, an explicit pytree, so a
checkpoint of the state is the whole run. Single-loss tasks derive from `LossTask` and write `init_variables` and
`loss`; tasks with several optimisers write `init` and `step` themselves.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from genjax.errors import UserError, at_least
from genjax.nn.sharding import BATCH, constrain

Array = jax.Array
Batch = Mapping[str, Array]
Metrics = dict[str, Array]


@struct.dataclass
class TrainState:
    """Everything that changes during a run.

    Attributes:
      step: int32 scalar, steps taken.
      params: parameters, a pytree (`{"generator": ..., "discriminator": ...}` where there are several networks).
      ema: exponential moving average of the parameters, `{}` when off.
      opt_state: optimiser state(s).
      extra: mutable collections and scalars: batch statistics, augmentation strength, fixed inputs, kept outputs.
    """

    step: Array
    params: Any
    ema: Any = struct.field(default_factory=dict)
    opt_state: Any = struct.field(default_factory=dict)
    extra: Any = struct.field(default_factory=dict)


@runtime_checkable
class Task(Protocol):
    """What the loop, the verbs and the figure runner know of a system; `TaskBase` has all of it but `init` and `step`.

    Attributes:
      value_range: where black and white are in the pictures the system takes and makes; a data set that states another
        `value_range` is refused.
    """

    value_range: tuple[float, float]

    def init(self, rng: Array, spec: Mapping[str, jax.ShapeDtypeStruct]) -> TrainState:
        """The initial state for batches of this spec; pure, runs under `eval_shape` and `jit`."""

    def step(self, state: TrainState, batch: Batch, rng: Array) -> tuple[TrainState, Metrics]:
        """One training step; pure and jittable. Metrics are small float arrays; `loss` is watched for NaN and, if
        present, a `stop` metric above 0 ends the run."""

    def export(self, state: TrainState) -> dict[str, Any]:
        """What a snapshot holds: `sample`, `preview` and `evaluate` need nothing else."""

    def sample(self, variables: dict[str, Any], rng: Array, n: int, cond: Any = None) -> dict[str, Array]:
        """`n` samples as named image batches [n,H,W,C] in the task's value range."""

    def preview(self, variables: dict[str, Any], batch: Batch, rng: Array) -> dict[str, Array]:
        """Named image batches [N,H,W,C] in [0,1] that show the state of the run."""

    def evaluate(self, variables: dict[str, Any], data: Any, rng: Array) -> dict[str, Any]:
        """Metrics of the current weights as plain floats."""

    def results(self, variables: dict[str, Any], data: Any, rng: Array) -> dict[str, np.ndarray]:
        """Pictures to keep as files, [H,W,C] in [0,1]: at the end of a run each becomes RUN/outputs/NAME.png, pixel
        for pixel. `{}` where nothing is made but weights. Of several versions of one picture the one to take is called
        `result`, of several pictures `NAME_result`."""

    def remarks(self, variables: dict[str, Any], data: Any) -> tuple[str, ...]:
        """Lines about the `results` of a finished run, for its log and report: which picture is which, and why."""

    def controls(self) -> dict[str, Callable[..., dict[str, np.ndarray]]]:
        """What samples can be steered by, for `sample RUN --control NAME`: functions by name, `f(variables, rng, *,
        n=4, ...)`, see `genjax.core.control`. They return named pictures [H,W,C] and films [T,H,W,C] in [0,1]."""

    def withheld(self) -> dict[str, str]:
        """Controls that the family has and this task does not offer: why, by name."""

    def check_data(self, data: Any) -> None:
        """Refuses data that does not suit, shapes aside; asked before training, not for samples, which need none."""

    def stage(self, variables: dict[str, Any]) -> Any:
        """What `play` shows of a snapshot, a `genjax.core.play.Stage`; None for nothing."""

    def copies(self, spec: Mapping[str, jax.ShapeDtypeStruct]) -> int:
        """How many independent networks a state for batches of this spec holds, stacked along each leaf's first axis;
        1 where the leaves have no such axis."""


class TaskBase:
    """Defaults for the parts of the protocol that many tasks share: pictures in [0,1], one network, nothing kept."""

    value_range: tuple[float, float] = (0.0, 1.0)

    def export(self, state: TrainState) -> dict[str, Any]:
        """The averaged parameters where there are any, else the parameters; and the extras."""
        return {"params": state.ema if jax.tree.leaves(state.ema) else state.params, "extra": state.extra}

    def sample(self, variables, rng, n, cond=None):
        """No samples."""
        return {}

    def preview(self, variables, batch, rng):
        """No pictures."""
        return {}

    def evaluate(self, variables, data, rng):
        """No metrics."""
        return {}

    def results(self, variables, data, rng):
        """No files."""
        return {}

    def remarks(self, variables, data):
        """Nothing to say."""
        return ()

    def controls(self):
        """Nothing to steer."""
        return {}

    def withheld(self):
        """No other controls."""
        return {}

    def check_data(self, data):
        """All data of the right shapes will do."""

    def stage(self, variables):
        """Nothing to play with."""

    def copies(self, spec):
        """One network."""
        return 1


def rematerialised(loss: Callable[..., Any], remat: bool) -> Callable[..., Any]:
    """`loss`, keeping for its gradient only the results of convolutions and matrix products when `remat`: what lies
    between them (normalisation, activation, padding, resampling) is computed again, in the place of memory."""
    return jax.checkpoint(loss, policy=_products) if remat else loss


def _products(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive.name in ("dot_general", "conv_general_dilated")


def ema_update(ema: Any, params: Any, decay: float | Array) -> Any:
    """`decay * ema + (1 - decay) * params`, leaf by leaf."""
    return jax.tree.map(lambda e, p: e * decay + p.astype(e.dtype) * (1 - decay), ema, params)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossTask(TaskBase):
    """A task with one loss and one optimiser: write `init_variables` and `loss`, get `init` and `step`.

    Attributes:
      optimizer: the gradient transformation, usually "@optimizer" in a config.
      ema_decay: decay of the parameter average, 0 for none.
      micro_batches: split the batch into this many sequential parts and average their gradients: the large batch's
        step in the memory of a small one. Part i holds rows i, i + micro_batches, ..., so every device keeps its own.
      remat: compute cheap intermediate results again instead of keeping them (see `rematerialised`).
    """

    optimizer: optax.GradientTransformation
    ema_decay: float = 0.0
    micro_batches: int = 1
    remat: bool = False

    def __post_init__(self):
        at_least(self, micro_batches=1)

    def init_variables(self, rng: Array, spec: Mapping[str, jax.ShapeDtypeStruct]) -> tuple[Any, Any]:
        """`(params, extra)` for batches of this spec."""
        raise TypeError(f"{type(self).__name__} does not define init_variables")

    def loss(self, params: Any, extra: Any, batch: Batch, rng: Array) -> tuple[Array, tuple[Any, Metrics]]:
        """`(loss, (new extra, metrics))`; the loss is a mean over the batch."""
        raise TypeError(f"{type(self).__name__} does not define loss")

    def init(self, rng, spec):
        """The initial state."""
        params, extra = self.init_variables(rng, spec)
        ema = jax.tree.map(jnp.array, params) if self.ema_decay > 0 else {}
        return TrainState(jnp.zeros((), jnp.int32), params, ema, self.optimizer.init(params), extra)

    def _gradients(self, state, batch, rng):
        grad = jax.value_and_grad(rematerialised(self.loss, self.remat), has_aux=True)
        if self.micro_batches == 1:
            (loss, (extra, metrics)), grads = grad(state.params, state.extra, batch, rng)
            return grads, extra, {"loss": loss, **metrics}
        size = next(iter(batch.values())).shape[0]
        if size % self.micro_batches:
            raise UserError(f"a batch of {size} does not divide into {self.micro_batches} micro-batches; change"
                            " config.task.micro_batches or the batch's size")
        parts = jax.tree.map(lambda x: constrain(x.reshape(-1, self.micro_batches, *x.shape[1:]).swapaxes(0, 1), None,
                                                 BATCH), dict(batch))

        def body(carry, part):
            total, extra, i = carry
            (loss, (extra, metrics)), grads = grad(state.params, extra, part, jax.random.fold_in(rng, i))
            return (jax.tree.map(jnp.add, total, grads), extra, i + 1), {"loss": loss, **metrics}

        zeros = jax.tree.map(jnp.zeros_like, state.params)
        (total, extra, _), metrics = jax.lax.scan(body, (zeros, state.extra, 0), parts)
        grads = jax.tree.map(lambda g: g / self.micro_batches, total)
        return grads, extra, jax.tree.map(lambda m: m.mean(0), metrics)

    def step(self, state, batch, rng):
        """Gradient, optimiser update, parameter average."""
        grads, extra, metrics = self._gradients(state, batch, rng)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = ema_update(state.ema, params, self.ema_decay) if self.ema_decay > 0 else state.ema
        metrics = {**metrics, "grad_norm": optax.tree.norm(grads)}
        return TrainState(state.step + 1, params, ema, opt_state, extra), metrics
