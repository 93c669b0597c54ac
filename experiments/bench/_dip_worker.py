"""One side of the batching row of `bench dip`, in a process of its own: one CPU device per core, one picture on each.

    JAX_NUM_CPU_DEVICES=2 python -m experiments.bench._dip_worker SPEC JSON_OVERRIDES STEPS

Makes STEPS steps for every line read, and answers with a line.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def caller(spec: str, steps: int, overrides: dict) -> Callable[[], None]:
    """A function that has the process make `steps` steps, and waits; the process ends with this one."""
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": str(os.cpu_count() or 1)}
    worker = subprocess.Popen(
        [sys.executable, "-m", __name__, spec, json.dumps(overrides), str(steps)], env=env, text=True,
        cwd=Path(__file__).resolve().parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def call():
        worker.stdin.write("go\n")
        worker.stdin.flush()
        if not worker.stdout.readline():
            raise RuntimeError("the benchmark's worker process ended")

    return call


def main(spec: str, overrides: str, steps: str) -> None:
    """Answers lines until there are no more."""
    from experiments.bench.dip import _stepper
    from genjax.core.backend import start

    start()
    call = _stepper(spec, int(steps), int(steps), **json.loads(overrides))
    for _ in sys.stdin:
        call()
        print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
