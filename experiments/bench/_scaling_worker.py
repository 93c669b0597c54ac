"""What `bench scaling` measures, in a process of its own: jax fixes the number of devices when it is first used.

    JAX_NUM_CPU_DEVICES=4 python -m experiments.bench._scaling_worker '{"devices": 4, "rule": "fsdp"}'

It says a line of JSON when it is ready (bytes per device), and one more whenever it has done what a line read asks for:
a step, or, with a "workdir", a stretch of steps of a real run there; then it says what part of the time the loop's
thread has spent in saving and logging so far.
"""

import contextlib
import dataclasses
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from genjax.core import backend
from genjax.core import config as config_lib
from genjax.core.checkpoint import Checkpoints
from genjax.core.config import experiment, node
from genjax.core.experiment import Programs
from genjax.core.record import Recorder
from genjax.core.task import LossTask
from genjax.core.train import train

HERE = "experiments.bench._scaling_worker"  # __name__ is another where this is the program


@dataclasses.dataclass
class Held:
    """How long the loop's thread was held up by the methods given to `watch`, of the time since the first stretch."""

    seconds: float = 0.0
    began: float | None = None

    def watch(self, owner: type, name: str) -> None:
        """Times every call of `owner.name`."""
        method = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start

        setattr(owner, name, timed)

    def percent(self) -> float:
        """Counted from the first call on, which comes after compilation."""
        now = time.perf_counter()
        if self.began is None:
            self.seconds, self.began = 0.0, now
            return 0.0
        return 100 * self.seconds / (now - self.began)


HELD = Held()


def say(what: Any) -> bool:
    """Answers, and waits for the next line; whether there is one."""
    print(json.dumps(what), flush=True)
    return bool(sys.stdin.readline())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise:
    """Rows of noise to reproduce; batch i is a pure function of i.

    Attributes:
      stretch: 0, or the number of steps after which a run waits for the next line. It begins in the middle of one, so
        that what happens every `stretch` steps, and goes on in the background, is over when it ends.
    """

    batch_size: int = 32
    width: int = 1024
    constant: bool = False
    stretch: int = 0

    def __len__(self):
        return 2**16

    @property
    def element_spec(self):
        """x [B,width/2]."""
        return {"x": jax.ShapeDtypeStruct((self.batch_size, self.width // 2), jnp.float32)}

    def batch(self, i, lo=None, hi=None):
        """x [B,width/2]."""
        if self.stretch and i % self.stretch == self.stretch // 2:
            jax.block_until_ready(jax.live_arrays())  # the step before is on its way
            if not say({"loop_held_percent": HELD.percent()}):
                signal.raise_signal(signal.SIGTERM)  # the run saves and ends
        x = np.random.default_rng(i).standard_normal(self.element_spec["x"].shape, np.float32)
        return {"x": x[lo:hi]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Autoencoder(LossTask):
    """Dense layers width/2 -> width -> ... -> width -> width/2: 4.2 million parameters at width 1024, depth 3."""

    width: int = 1024
    depth: int = 3

    def init_variables(self, rng, spec):
        """A kernel and a bias for each layer."""
        sizes = [self.width // 2] + [self.width] * (self.depth + 1) + [self.width // 2]
        params = {}
        for i, (a, b) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            kernel = jax.random.normal(jax.random.fold_in(rng, i), (a, b)) * (2 / a) ** 0.5
            params[f"dense_{i}"] = {"kernel": kernel, "bias": jnp.zeros((b,))}
        return params, {}

    def loss(self, params, extra, batch, rng):
        """Mean squared error."""
        x = batch["x"]
        for i, layer in enumerate(params.values()):
            x = (jax.nn.gelu(x) if i else x) @ layer["kernel"] + layer["bias"]
        return jnp.mean((x - batch["x"]) ** 2), (extra, {})


def config(devices: int = 1, rule: str = "replicate", rows: int = 32, width: int = 1024, stretch: int = 0,
           **train: Any) -> ConfigDict:
    """The experiment on `devices` devices, with `rows` rows of the batch on each; `train` are `TrainOptions`."""
    over = "fsdp" if rule.startswith("fsdp") else "data"
    return config_lib.finalize(experiment(
        task=node(f"{HERE}.Autoencoder", optimizer="@optimizer", ema_decay=0.999, width=width),
        data=node(f"{HERE}.Noise", batch_size=rows * devices, width=width, stretch=stretch),
        optimizer=node("genjax.core.optim.adam", learning_rate=1e-4),
        train=node("genjax.core.experiment.TrainOptions", **train),
        mesh=node("genjax.core.sharding.MeshSpec", **{"data": 1, over: devices}),
        sharding=(f".* -> {rule}",)))


def bytes_of_parts(state: Any, shardings: Any) -> dict[str, int]:
    """Bytes of each part of a state on one device, under the shardings of a compiled program's inputs or outputs."""
    sizes = jax.tree.map(lambda x, s: math.prod(s.shard_shape(x.shape)) * x.dtype.itemsize, state, shardings)
    return {part: sum(jax.tree.leaves(getattr(sizes, part))) for part in ("params", "opt_state", "ema")}


def steps(settings: ConfigDict) -> None:
    """A step for every line."""
    programs = Programs(config_lib.build(settings))
    compiled = programs.lower().compile()
    state, batch = programs.init(), programs.put(0, 1)
    going_on = say(bytes_of_parts(programs.abstract, compiled.input_shardings[0][0]))
    while going_on:
        state, metrics = programs.step(state, batch)
        jax.block_until_ready((state, metrics))
        going_on = say("done")


@contextlib.contextmanager
def worker(devices: int = 1, **settings: Any) -> Iterator[tuple[Callable[[], None], Any]]:
    """A process with `devices` devices that measures `config(devices, ...)`, or a run of it in `workdir`: a function
    that makes it go on, waits and returns what it says, and what it said when it was ready."""
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    argv = [sys.executable, "-m", HERE, json.dumps({"devices": devices, **settings})]
    with subprocess.Popen(argv, env=env, text=True, cwd=Path(__file__).resolve().parents[2], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        def heard():
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the benchmark's worker process ended")
            return json.loads(line)

        def call():
            process.stdin.write("go\n")
            process.stdin.flush()
            return heard()

        yield call, heard()


def main(text: str) -> None:
    """Makes steps, or a run."""
    settings = json.loads(text)
    workdir = settings.pop("workdir", None)
    logging.getLogger("genjax").propagate = False
    backend.start()
    if workdir is None:
        steps(config(**settings))
    else:
        from experiments.bench import _scaling_worker as here  # the config builds from it, not from this __main__

        here.HELD.watch(Checkpoints, "save")
        here.HELD.watch(Recorder, "steps")
        train(config(**settings), workdir, quiet=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
