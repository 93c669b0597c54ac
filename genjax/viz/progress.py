"""Progress with rate and time left: a tqdm bar on a terminal, plain lines for a file or a pipe."""

import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from genjax.viz import waiting

_BAR = 50  # characters of a terminal's line for percent, a short bar, times and rate


class Progress:
    """Counts steps and tells how fast they go, how long the rest takes, and the newest metrics.

    Metrics are turned into text only when something is printed, a few times a second at most: handing over
    device arrays does not make every step wait for the device.

    Example:
      >>> with Progress(3, "demo", stream=sys.stdout, every=0) as progress:  # doctest: +SKIP
      ...     for i in range(3):
      ...         progress.update(loss=1 / (i + 1))
      demo 2/3 (67%), 951 steps/s, 0:00 left, loss 0.5
      demo 3/3 (100%), 1.02e+03 steps/s, 0:00 left, loss 0.3333
      demo: 3 steps in 0:00
    """

    def __init__(
        self,
        total: int | None,
        desc: str = "",
        *,
        initial: int = 0,
        unit: str = "step",
        every: float = 5.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Starts counting.

        Args:
          total: steps there are altogether, None if nobody knows.
          desc: a name, before every line.
          initial: steps done before, by the run that is resumed; they do not count for the rate.
          unit: what is counted, singular.
          every: seconds between plain lines, at least.
          stream: where to print; None is standard error. A terminal gets a bar.
          clock: seconds, for tests.
        """
        self.total, self.desc, self.unit, self.n = total, desc, unit, initial
        self._initial, self._every, self._clock = initial, every, clock
        self._stream = sys.stderr if stream is None else stream
        self._metrics: dict[str, Any] = {}
        self._began = self._printed = clock()
        self._mark: tuple[float, int] | None = None
        self._rate: float | None = None
        self._closed = False
        self._bar = self._terminal_bar()
        self._postfix = ""
        self._held = contextlib.ExitStack()
        if self._bar is not None:
            self._held.enter_context(waiting.within(self))

    def update(self, n: int = 1, metrics: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Counts `n` more steps; new metrics (numbers, arrays of one number, strings) replace older ones."""
        self.n += n
        self._metrics.update(metrics or {}, **more)
        now = self._clock()
        if self._bar is not None:
            if now - self._printed >= 0.2 or self.n == self.total:
                self._printed = now
                self._postfix = self._metric_text(waiting.columns(self._stream))
                self._bar.set_postfix_str(self._postfix, refresh=False)
            if self._mark is None:  # the first call holds the compilation: the bar's clock starts at its end
                self._mark = (now, self.n)
                self._bar.unpause()
            self._bar.ncols = waiting.columns(self._stream)
            self._bar.update(n)
            return
        if self._mark is None:  # the first call holds the compilation: measure from its end
            self._mark = (now, self.n)
        if now - self._printed >= self._every:
            self._measure(now)
            self._printed = now
            self._print(self._line())

    def waiting(self, text: str) -> None:
        """Shows what is waited for in the place of the metrics; "" brings these back."""
        self._bar.set_postfix_str(text or self._postfix, refresh=True)

    def write(self, line: str) -> None:
        """Prints a line without disturbing the bar."""
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
        else:
            self._print(line)

    def close(self) -> None:
        """Prints the last line; twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self._held.close()
        if self._bar is not None:
            self._bar.set_postfix_str(self._metric_text(waiting.columns(self._stream)), refresh=False)
            self._bar.close()
            return
        done = self.n - self._initial
        text = f"{done} {self.unit}{'' if done == 1 else 's'} in {clock_time(self._clock() - self._began)}"
        metrics = self._metric_text()
        self._print((f"{self.desc}: " if self.desc else "") + text + (f", {metrics}" if metrics else ""))

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def _terminal_bar(self):
        if not getattr(self._stream, "isatty", lambda: False)():
            return None
        try:
            from tqdm import tqdm
        except ImportError:
            return None
        return tqdm(total=self.total, desc=self.desc or None, initial=self.n, unit=self.unit, file=self._stream,
                    ncols=waiting.columns(self._stream), mininterval=0.2, smoothing=0.1)

    def _measure(self, now: float) -> None:
        """Steps per second since the last line, averaged with the rate before: follows change, ignores
        jitter.
        """
        then, n = self._mark
        if now > then and self.n > n:
            new = (self.n - n) / (now - then)
            self._rate = new if self._rate is None else 0.5 * (self._rate + new)
            self._mark = (now, self.n)

    def _line(self) -> str:
        count = f"{self.n}/{self.total} ({100 * self.n // self.total}%)" if self.total else f"{self.n}"
        parts = [f"{self.desc} {count}".strip()]
        if self._rate:
            rate = self._rate
            parts.append(f"{rate:.3g} {self.unit}s/s" if rate >= 1 else f"{1 / rate:.3g} s/{self.unit}")
            if self.total:
                parts.append(f"{clock_time(max(self.total - self.n, 0) / rate)} left")
        metrics = self._metric_text()
        return ", ".join(parts + [metrics] * bool(metrics))

    def _metric_text(self, columns: int | None = None) -> str:
        """The metrics, or as many whole ones as a line of `columns` has room for beside the count, rate and name."""
        parts = [f"{k} {v if isinstance(v, str) else format(float(v), '.4g')}" for k, v in self._metrics.items()]
        if columns is None:
            return ", ".join(parts)
        room = columns - len(self.desc) - _BAR - 2 * len(str(self.total or self.n))
        ends = itertools.accumulate(len(p) + 2 for p in parts)
        return ", ".join(p for p, end in zip(parts, ends, strict=True) if end <= room + 2)

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


def clock_time(seconds: float) -> str:
    """Seconds as "m:ss" or "h:mm:ss"."""
    whole = int(round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
