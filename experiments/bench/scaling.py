"""Step time and bytes per device against the number of (fake) devices, and what saving and logging add to a step.

Data parallelism and FSDP train an autoencoder of 4.2 million parameters (Adam, parameter average) on 1, 2, 4 and 8 fake
CPU devices with a fixed batch per device. The devices share this machine's cores: N of them do N times the work on the
same cores, so the time per step grows with N, and no speed-up can be read from it. What can is the time per sample, and
what splitting costs: the ratio to N steps of one device, which do the same samples (1: nothing). Data parallelism
repeats the optimiser's work on every device, FSDP divides it. Bytes are those of the compiled step's inputs.

The last rows train in a real run folder, with a checkpoint of the whole state every 100 steps and a row of metrics
every step, beside the same run without. A CPU has no core to spare for what a host does while its accelerator works, so
there `overhead_percent` has the work of the writing threads in it too; `loop_held_percent` is what an accelerator would
wait for: the part of the time that the loop's own thread spends in saving and logging.
"""

import contextlib
import os
import tempfile

from experiments.bench._scaling_worker import worker
from genjax.core.bench import Bench

RULES = {"data parallel": "replicate", "FSDP": "fsdp"}


def run(bench: Bench) -> None:
    """Fills the rows."""
    _devices(bench, (2,) if bench.smoke else (2, 4, 8), {"rows": 8, "width": 128} if bench.smoke else {"rows": 64})
    _saving(bench, 4 if bench.smoke else 100, {"rows": 8, "width": 128} if bench.smoke else {"rows": 1024})
    for row in bench.rows:
        row["device"] = f"fake devices on {os.cpu_count()} cores"


def _devices(bench: Bench, counts: tuple[int, ...], sizes: dict) -> None:
    def note(row, samples, found):
        row["ms_per_sample"] = row["genjax"] / samples
        row |= {f"bytes_{part}": size for part, size in found.items()}

    rows = sizes["rows"]
    with worker(1, **sizes) as (one, found):
        note(bench.compare(f"1 device, batch {rows}", one, None), rows, found)
        for n in counts:
            for name, rule in RULES.items():
                with worker(n, rule=rule, **sizes) as (step, found):
                    row = bench.compare(f"{name}, {n} devices, batch {n * rows}", step,
                                        lambda n=n: [one() for _ in range(n)], f"{n} steps of 1 device")
                note(row, n * rows, found)


def _saving(bench: Bench, every: int, sizes: dict) -> None:
    cases = {f"a row of metrics every step and a checkpoint every {every}": {"log_every": 1, "save_every": every},
             "a row of metrics every step": {"log_every": 1, "save_every": 0}}
    with contextlib.ExitStack() as stack:
        def start(**options):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            return stack.enter_context(worker(1, workdir=folder, stretch=every, steps=10**9, **options, **sizes))[0]

        off = start(log_every=0, save_every=0)
        for case, options in cases.items():
            said = []
            go = start(**options)
            row = bench.compare(case, lambda go=go, said=said: said.append(go()), off, "neither", unit="steps/s",
                                items=every)
            row |= {"overhead_percent": 100 * (1 / row["ratio"] - 1), **said[-1]}
