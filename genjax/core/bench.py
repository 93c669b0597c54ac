"""Benchmarks: genjax and its peer in one run, pair by pair: medians, and the median of the pairs' ratios.

A benchmark is a file under experiments/bench/ with a docstring and `run(bench)`. Further parameters of `run`, with
defaults, are its structural arguments: `bench fields:official=FOLDER`.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

from genjax.core import config_file, inspect
from genjax.errors import UserError
from genjax.viz.waiting import waiting

COLUMNS = ("case", "unit", "genjax", "peer", "peer_name", "ratio", "device")


@dataclasses.dataclass
class Bench:
    """What a benchmark's `run` works with: repetitions, whether sizes are tiny, and the rows so far."""

    repeats: int
    smoke: bool
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def compare(self, case: str, ours: Callable[[], Any], peer: Callable[[], Any] | None, peer_name: str = "",
                unit: str = "ms", items: int = 1) -> dict[str, Any]:
        """Times `ours` and `peer` alternately, one warm-up each, and records the medians.

        Args:
          case: what is measured.
          ours: does the work once; returned arrays are waited for.
          peer: the same work by the peer, waiting for its own device; None when it is not installed.
          peer_name: name and version of the peer.
          unit: "ms" per item, or anything ending in "/s" (items per second, more is better).
          items: how many items (steps, pictures) one call makes.

        Returns:
          The row: `{case, unit, genjax, peer, peer_name, ratio, device}`; the ratio, above 1 where genjax is faster,
          is the median over the pairs: a machine that slows down for a while slows down both of a pair. A benchmark
          may add numbers of its own to the row (bytes, overheads): they are printed by their names.
        """
        calls = {"genjax": ours} | ({"peer": peer} if peer is not None else {})
        times: dict[str, list[float]] = {k: [] for k in calls}
        for call in calls.values():
            jax.block_until_ready(call())
        for _ in range(self.repeats):
            for name, call in calls.items():
                began = time.perf_counter()
                jax.block_until_ready(call())
                times[name].append(time.perf_counter() - began)
        seconds = {k: statistics.median(v) for k, v in times.items()}
        value = (lambda s: items / s) if unit.endswith("/s") else (lambda s: 1000 * s / items)
        row = {"case": case, "unit": unit, "genjax": value(seconds["genjax"]),
               "peer": value(seconds["peer"]) if peer is not None else None, "peer_name": peer_name,
               "ratio": statistics.median(p / o for p, o in zip(times["peer"], times["genjax"], strict=True))
               if peer is not None else None,
               "device": device()}
        self.rows.append(row)
        return row


def device() -> str:
    """The device in words."""
    d = jax.devices()[0]
    if d.platform != "cpu":
        return d.device_kind
    import os

    return f"cpu, {os.cpu_count()} cores"


def bench(name: str, repeats: int, smoke: bool) -> list[dict[str, Any]]:
    """Runs a benchmark, "name" or "name:key=value,..."; returns its rows."""
    name, arg = inspect.check_benchmark(name)
    if repeats < 1:
        raise UserError(f"--repeats must be at least 1, got {repeats}")
    run = Bench(repeats, smoke)
    measure = config_file.with_arguments(config_file.load_module(inspect.EXPERIMENTS / "bench" / f"{name}.py").run, arg)
    with waiting(lambda: f"measuring {name}" + (f" (after {run.rows[-1]['case']})" if run.rows else "")):
        measure(run)
    return run.rows


def text(rows: list[dict[str, Any]]) -> str:
    """The rows for people."""
    wide = max(len(r["case"]) for r in rows)
    lines = [f"{'case':{wide}}  {'genjax':>10}  {'peer':>10}  ratio  unit"]
    for r in rows:
        peer = f"{r['peer']:10.1f}" if r["peer"] is not None else f"{'-':>10}"
        ratio = f"{r['ratio']:5.2f}" if r["ratio"] is not None else "    -"
        lines.append(f"{r['case']:{wide}}  {r['genjax']:10.1f}  {peer}  {ratio}  {r['unit']}  {r['peer_name']}")
        more = [f"{k} {v:,}" if isinstance(v, int) else f"{k} {v:.3g}" for k, v in r.items() if k not in COLUMNS]
        lines += ["  " + ", ".join(more)] if more else []
    lines.append(f"device: {rows[0]['device']}; ratio above 1: genjax is faster")
    return "\n".join(lines)
