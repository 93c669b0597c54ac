"""The experiment: what a config's root builds, its durations, and its compiled programs (init and step)."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from genjax.core import distributed
from genjax.core import rng as rng_lib
from genjax.core import sharding as sh
from genjax.core.task import Task, TaskBase
from genjax.errors import UserError, unknown

_SUFFIX = {"": 1, "k": 10**3, "M": 10**6, "Ki": 2**10, "Mi": 2**20}
_DURATION = re.compile(r"^\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(Ki|Mi|k|M|)\s*(steps?|images?|epochs?|)\s*$")

Duration = int | str

DATA = ("batch", "batch_size", "constant", "element_spec", "__len__")  # what the loop reads of a data set
# What it reads besides where batches change shape during a run (progressive growing): a program is compiled per shape.
GROWING = ("next_change", "spec_at", "steps_of")


def to_steps(value: Duration, batch_size: int, dataset_size: int, where: str,
             steps_of: Callable[[float], int] | None = None) -> int:
    """Converts a duration to steps, once.

    Args:
      value: steps as a number, or text: "3000", "3000 steps", "25M images", "8Mi images", "90 epochs".
      batch_size: images per step.
      dataset_size: images per epoch.
      where: the config key, for the message.
      steps_of: how many steps so many images take, where the batch size changes; None: images / batch_size.
    """
    match = _DURATION.match(str(value))
    if not match:
        raise UserError(f"{where}: {value!r} is no duration; write e.g. 3000, '25M images' or '90 epochs'")
    number = float(match[1]) * _SUFFIX[match[2]]
    unit = match[3].rstrip("s")
    if unit in ("image", "epoch") and steps_of is not None:
        number = steps_of(number * (dataset_size if unit == "epoch" else 1))
    elif unit == "image":
        number /= batch_size
    elif unit == "epoch":
        number *= dataset_size / batch_size
    return round(number)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Lengths and intervals of a run; every duration takes steps, images or epochs (see `to_steps`).

    Attributes:
      steps: length of the run.
      steps_per_call: device steps per dispatch (a loop on the device), fewer where that many take long, so that stop
        signals are answered in time (see `genjax.core.pace`); more hides dispatch.
        Metrics come from the device once per call and one call late, while the next one runs, so the device never
        waits for the log; a `stop` metric ends the run after that next call.
      log_every: metrics are written for every such step.
      save_every: full checkpoints; 0 only at the end.
      preview_every: pictures under samples/; 0 only at the end.
      eval_every: metrics of `Task.evaluate`; 0 only at the end.
      keep: checkpoints kept.
      keep_best: a metric of `Task.evaluate`, such as "frechet" or "fd_lenet": the snapshot of the best evaluation is
        kept too, in RUN/snapshots/best.npz, see `genjax.core.best`; "" for none.
    """

    steps: Duration = 1000
    steps_per_call: int = 1
    log_every: Duration = 1
    save_every: Duration = 500
    preview_every: Duration = 0
    eval_every: Duration = 0
    keep: int = 2
    keep_best: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything a run is made of.

    Attributes:
      task: the system (see `genjax.core.task.Task`).
      data: batches as a pure function of the step: `batch(i)`, `element_spec`, `batch_size`, `constant`, `len`. Where
        batches change shape, also `next_change(i)`, the next step of another shape; `spec_at(i)`; `steps_of(images)`.
      optimizer: the transformation tasks read as "@optimizer".
      train: lengths and intervals.
      mesh: devices per axis.
      sharding: "regex -> rule" strings over the paths of the state; the first match wins.
      seed: root of every random stream.
      smoke: overrides that shrink the config for its smoke form.
    """

    task: Any
    data: Any
    optimizer: Any = None
    train: TrainOptions = TrainOptions()
    mesh: sh.MeshSpec = sh.MeshSpec()
    sharding: tuple[str, ...] = (".* -> replicate",)
    seed: int = 0
    smoke: tuple[str, ...] = ()

    def __post_init__(self):
        lacks = [n for n in DATA if inspect.getattr_static(self.data, n, None) is None]
        if lacks:
            raise UserError(f"config.data builds a {type(self.data).__name__}: it lacks {', '.join(lacks)}")
        lacks = [n for n in GROWING if not hasattr(self.data, n)]
        if 0 < len(lacks) < len(GROWING):
            raise UserError(f"config.data builds a {type(self.data).__name__}, whose batches change shape: it lacks"
                            f" {', '.join(lacks)}")
        if self.data.batch_size < 1:
            raise UserError(f"config.data: a batch needs at least 1 element, got {self.data.batch_size}")
        if not isinstance(self.task, Task):
            raise UserError(f"config.task builds a {type(self.task).__name__}: it lacks methods of the Task protocol;"
                            " derive it from genjax.core.task.TaskBase")
        ours, theirs = tuple(self.task.value_range), getattr(self.data, "value_range", None)
        if theirs is not None and tuple(theirs) != ours:
            settable = "value_range" in inspect.signature(type(self.data)).parameters
            raise UserError(f"config.data makes pictures in {tuple(theirs)}, config.task works in {ours}; " + (
                f"set config.data.value_range={ours[0]:g},{ours[1]:g}" if settable else
                f"choose data in {ours} or a task in {tuple(theirs)}"))
        rng_lib.check_seed(self.seed, "config.seed")
        if self.train.steps_per_call < 1:
            raise UserError(f"config.train.steps_per_call must be at least 1, got {self.train.steps_per_call}")
        if self.train.keep < 1:
            raise UserError(f"config.train.keep must be at least 1, got {self.train.keep}")

    def check_best(self) -> None:
        """Refuses a `train.keep_best` that nothing will answer to, as far as that is known before an evaluation."""
        metric = self.train.keep_best
        if not metric:
            return
        if self.steps("eval_every") == 0:
            raise UserError(f"config.train.keep_best={metric} chooses between evaluations: set config.train.eval_every")
        if type(self.task).evaluate is TaskBase.evaluate or getattr(self.task, "evaluation", self) is None:
            raise UserError(f"config.train.keep_best={metric}: this config's {type(self.task).__name__} measures"
                            " nothing; leave it away, or give a config that measures its samples features=NETWORK")
        names = getattr(getattr(self.task, "evaluation", None), "names", ())
        if names and metric not in names:
            raise unknown("metric of this run, config.train.keep_best:", metric, names)

    def check_evaluation(self) -> None:
        """Opens what the task's samples are measured with, and refuses what a measurement would refuse: before a run is
        trained, not after."""
        evaluation = getattr(self.task, "evaluation", None)
        if evaluation is None or not hasattr(evaluation, "check"):
            return
        evaluation.check(self.data, *(getattr(self.task, name, lambda variables: None)({})  # no weights yet
                                      for name in ("paths", "moves")))

    def lengths(self) -> tuple[int, dict[str, int]]:
        """The steps of the run, and between logs, saves, previews and evaluations."""
        return self.steps("steps"), {n: self.steps(f"{n}_every") for n in ("log", "save", "preview", "eval")}

    def steps(self, name: str) -> int:
        """A duration of `train` in steps."""
        where = f"config.train.{name}"
        value = to_steps(getattr(self.train, name), self.data.batch_size, len(self.data), where,
                         getattr(self.data, "steps_of", None))
        least = int(name == "steps")
        if value < least:
            raise UserError(f"{where} must be at least {least}, got {getattr(self.train, name)}"
                            + (f" (0 steps of {self.data.batch_size} images)" if value == 0 else ""))
        return value


class Programs:
    """The compiled programs of an experiment on a mesh: sharded init, and the step loop with donated state."""

    def __init__(self, experiment: Experiment, mesh: Mesh | None = None):
        self.experiment = experiment
        self.mesh = experiment.mesh.build() if mesh is None else mesh
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self.constant = experiment.data.constant
        self.calls = experiment.train.steps_per_call
        spec = experiment.data.element_spec
        self.batch_sharding = sh.batch_shardings(spec, self.mesh, self.constant)
        self._check_shapes()
        with jax.set_mesh(self.mesh):
            shapes = jax.eval_shape(lambda: self._init(self._key("init")))
        self.state_sharding = sh.tree_shardings(shapes, experiment.sharding, self.mesh)
        self.abstract = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, self.state_sharding)

    def _check_shapes(self) -> None:
        """Every batch to come divides over the devices: found out now, not after days."""
        if not hasattr(self.experiment.data, "next_change"):
            return
        step, total = 0, self.experiment.steps("steps")
        while step < total:
            try:
                sh.batch_shardings(self._spec(step), self.mesh, self.constant,
                                   "the batch sizes of config.data's schedule")
            except UserError as e:
                raise UserError(f"from step {step} on, {e}") from None
            step = self.experiment.data.next_change(step)

    def _spec(self, step: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of the batch of a step."""
        data = self.experiment.data
        return data.spec_at(step) if hasattr(data, "spec_at") else data.element_spec

    def _key(self, name: str) -> jax.Array:
        return rng_lib.stream(self.experiment.seed, name)

    def _init(self, rng):
        return self.experiment.task.init(rng, self.experiment.data.element_spec)

    def init(self) -> Any:
        """The initial state, born sharded: no array exists unsharded."""
        # It runs once: on a CPU optimising it takes longer than running it.
        fast = {"xla_backend_optimization_level": 0} if self.mesh.devices.flat[0].platform == "cpu" else None
        with jax.set_mesh(self.mesh):
            return jax.jit(self._init, out_shardings=self.state_sharding, compiler_options=fast)(self._key("init"))

    def put(self, first: int, count: int) -> dict[str, jax.Array]:
        """Batches first .. first+count-1 on the devices; stacked on a leading axis unless one step is one call.

        The stack always has `steps_per_call` slots (the unused repeat the last), so one program serves every length.
        """
        if self.constant:
            return self._constant
        if self.calls == 1:
            host = self._rows(first)
            return {k: self._place(k, v, first) for k, v in host.items()}
        change = getattr(self.experiment.data, "next_change", None)
        if change is not None and first + count > change(first):
            raise ValueError(f"steps {first} to {first + count - 1} have batches of several shapes")
        rows = [self._rows(first + j) for j in range(count)]
        rows += rows[-1:] * (self.calls - count)
        return {k: self._place(k, np.stack([r[k] for r in rows]), first, stacked=True) for k in rows[0]}

    @functools.cached_property
    def _constant(self):
        return {k: self._place(k, v, 0) for k, v in self._rows(0).items()}

    def _mine(self, i: int) -> tuple[int, int]:
        """The rows of batch i this process's devices hold (of all that it needs of any array, the widest range)."""
        ranges = [distributed.rows(s.shape, self.batch_sharding[k]) for k, s in self._spec(i).items()]
        return min(lo for lo, _ in ranges), max(hi for _, hi in ranges)

    def _rows(self, i: int) -> dict[str, np.ndarray]:
        """Batch i, or with several processes only this one's rows: the batch does not depend on how many there are."""
        data = self.experiment.data
        return data.batch(i, *self._mine(i)) if distributed.several() else data.batch(i)

    def _place(self, name: str, x: np.ndarray, i: int, stacked: bool = False) -> jax.Array:
        sharding = self.batch_sharding[name]
        if stacked:
            sharding = NamedSharding(self.mesh, PartitionSpec(None, *sharding.spec))
        if not distributed.several():
            return jax.device_put(x, sharding)
        shape = self._spec(i)[name].shape
        shape = (self.calls, *shape) if stacked else shape
        return distributed.place_rows(np.asarray(x), self._mine(i)[0], shape, sharding, axis=int(stacked))

    def _one(self, state, batch, root):
        batch = {k: jax.lax.with_sharding_constraint(v, self.batch_sharding[k]) for k, v in batch.items()}
        state, metrics = self.experiment.task.step(state, batch, jax.random.fold_in(root, state.step))
        # Whole on every device: each process reads them.
        metrics = {k: jax.lax.with_sharding_constraint(jnp.asarray(v, jnp.float32), self.replicated)
                   for k, v in metrics.items()}
        return jax.lax.with_sharding_constraint(state, self.state_sharding), metrics

    def _call(self, state, batch, root, count):
        if self.calls == 1:
            state, metrics = self._one(state, batch, root)
            return state, jax.tree.map(lambda m: m[None], metrics)
        pick = (lambda j: batch) if self.constant else (lambda j: jax.tree.map(lambda x: x[j], batch))
        shapes = jax.eval_shape(lambda: self._one(state, pick(0), root)[1])
        buffers = jax.tree.map(lambda m: jnp.zeros((self.calls, *m.shape), m.dtype), shapes)

        def body(j, carry):
            state, buffers = carry
            state, metrics = self._one(state, pick(j), root)
            return state, jax.tree.map(lambda b, m: b.at[j].set(m), buffers, metrics)

        # `count` is traced: however a run is cut into calls, the same compiled body computes each step.
        return jax.lax.fori_loop(0, count, body, (state, buffers))

    @functools.cached_property
    def _jitted(self):
        return jax.jit(self._call, donate_argnums=0, out_shardings=(self.state_sharding, self.replicated))

    def step(self, state: Any, batch: dict[str, jax.Array], count: int = 1) -> tuple[Any, dict[str, jax.Array]]:
        """`count` steps from `state` (donated), and their metrics: [steps_per_call, ...], the first `count` valid."""
        with jax.set_mesh(self.mesh):
            return self._jitted(state, batch, self._key("train"), jnp.int32(count))

    def trace(self) -> Any:
        """The step program traced for abstract inputs (`jax.stages.Traced`), for cost analysis."""
        spec = {}
        for k, s in self.experiment.data.element_spec.items():
            shape, sharding = s.shape, self.batch_sharding[k]
            if not self.constant and self.calls > 1:
                shape = (self.calls, *shape)
                sharding = NamedSharding(self.mesh, PartitionSpec(None, *sharding.spec))
            spec[k] = jax.ShapeDtypeStruct(shape, s.dtype, sharding=sharding)
        with jax.set_mesh(self.mesh):
            return self._jitted.trace(self.abstract, spec, self._key("train"), jnp.int32(1))

    def lower(self) -> Any:
        """The traced step program, lowered."""
        with jax.set_mesh(self.mesh):
            return self.trace().lower()
