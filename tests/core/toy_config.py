"""A config for tests: the toy system, with data that can be slow enough to interrupt.

    python launch.py train --config tests/core/toy_config.py:steps=40 --workdir runs/toy
"""

import dataclasses
import time

import jax

from genjax.core.config import experiment, node, parse_arg
from tests.core.toy import ToyData


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlowData(ToyData):
    """The toy's data; batches from `slow_from` on take `pause` seconds; the last process fails at batch `crash`."""

    pause: float = 0.0
    slow_from: int = 0
    crash: int = -1

    def batch(self, i, lo=None, hi=None):
        """As ToyData's."""
        if i >= self.slow_from:
            time.sleep(self.pause)
        if i == self.crash and jax.process_index() == jax.process_count() - 1:
            raise RuntimeError("a mistake in this process alone")
        if jax.process_index() > 0:  # process 0 draws previews too
            assert hi is not None and hi - lo < self.batch_size, "a process asked for rows that are not its own"
        return super().batch(i, lo, hi)


def get_config(arg=""):
    """Structural arguments: steps, save (every so many steps), task (a class of the toy), smoke_width."""
    a = parse_arg(arg, steps=12, save=4, task="ToyTask", smoke_width=8)
    return experiment(
        task=node(f"tests.core.toy.{a.task}", optimizer="@optimizer", ema_decay=0.9),
        data=node("tests.core.toy_config.SlowData", width="@width"),
        width=16,
        optimizer=node("genjax.core.optim.adam", learning_rate=0.01),
        train=node("genjax.core.experiment.TrainOptions", steps=a.steps, save_every=a.save),
        smoke=(f"width={a.smoke_width}",),
    )
