"""One line that ticks while something that has no steps takes long: compiling, an evaluation, a figure.

On a terminal the line appears after a second, counts the seconds, and goes when the wait ends; inside a progress bar
it stands where the metrics do. Where standard error is no terminal there is a whole line after 15 seconds, after a
minute, and then every five minutes. `quiet(True)` shows nothing.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

AFTER = 1.0  # seconds until a terminal shows the line
PLAIN = (15.0, 60.0)  # seconds until a line is printed where there is no terminal,
THEN = 300.0  # and between later ones
SAME = 0.5  # a wait that begins so soon after one of the same name goes on with its seconds


class Wait:
    """Something that is waited for, since `began`; `plain` lines were printed of it."""

    def __init__(self, what: str | Callable[[], str], began: float, long: tuple[float, Callable[[], None]] | None):
        self._what, self.began, self.long, self.plain = what, began, long, 0

    @property
    def what(self) -> str:
        """Its name, now."""
        return self._what() if callable(self._what) else self._what


class Line:
    """The waits of a process, the outermost first, and the one line that shows them.

    Args:
      stream: where to print; None is standard error, whichever that is at the time.
      clock: seconds, for tests.
      thread: False leaves it to the caller to `tick`.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic, thread: bool = True):
        self.quiet = False
        self._given, self._clock, self._threaded = stream, clock, thread
        self._waits: list[Wait] = []
        self._changed = threading.Condition(threading.RLock())
        self._running = False
        self._last: tuple[Wait, float] | None = None  # the wait that ended last, and when
        self._shown = False
        self._bar: tuple[Any, int] | None = None  # a progress bar, and how many waits it is in

    def begin(self, what: str | Callable[[], str], long: tuple[float, Callable[[], None]] | None = None) -> Wait:
        """Begins to wait; `long` is (seconds, a function that is called once if the wait is still on after them)."""
        with self._changed:
            now = self._clock()
            wait = Wait(what, now, long)
            if not self._waits and self._last and self._last[0]._what == what and now - self._last[1] < SAME:
                wait.began, wait.plain = self._last[0].began, self._last[0].plain
            self._waits.append(wait)
            if not self._running and self._threaded:
                self._running = True
                threading.Thread(target=self._run, name="waiting", daemon=True).start()
            self._changed.notify()
        return wait

    def end(self, wait: Wait) -> None:
        """Ends a wait; the line goes."""
        with self._changed:
            if wait in self._waits:
                self._waits.remove(wait)
                self._last = wait, self._clock()
            self._erase()

    @contextlib.contextmanager
    def waiting(self, what: str | Callable[[], str]) -> Iterator[None]:
        """Shows that the block is waited for."""
        wait = self.begin(what)
        try:
            yield
        finally:
            self.end(wait)

    @contextlib.contextmanager
    def within(self, bar: Any) -> Iterator[None]:
        """While the block runs, waits that begin in it are shown by `bar.waiting(text)`, "" when they are over; the
        waits around it are not."""
        with self._changed:
            self._erase()
            before, self._bar = self._bar, (bar, len(self._waits))
        try:
            yield
        finally:
            with self._changed:
                self._erase()
                self._bar = before

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """The block prints: the line makes room, and comes back with the next tick."""
        with self._changed:
            self._erase()
            yield

    def tick(self) -> None:
        """Shows what is waited for, if that has been long enough."""
        with self._changed:
            now = self._clock()
            for wait in self._waits:
                if wait.long is not None and now - wait.began >= wait.long[0]:
                    (_, call), wait.long = wait.long, None
                    call()
            hidden = self._bar[1] if self._bar else 0
            waits = self._waits[hidden:]
            if self.quiet or not waits or now - waits[0].began < AFTER:
                return
            seconds = now - waits[0].began
            what, inner = waits[0].what, waits[-1].what
            text = f"{what if inner in what else f'{what}, {inner}'}, {_seconds(seconds)}"
            if self._bar:
                self._bar[0].waiting(text)
            elif _is_terminal(self._stream):
                self._write(f"\r{text[: columns(self._stream) - 1]}\x1b[K")
            else:
                return self._plain(waits[0], seconds, text)
            self._shown = True

    @property
    def _stream(self) -> TextIO:
        return sys.stderr if self._given is None else self._given

    def _plain(self, wait: Wait, seconds: float, text: str) -> None:
        n = wait.plain
        if seconds >= (PLAIN[n] if n < len(PLAIN) else PLAIN[-1] + THEN * (n - len(PLAIN) + 1)):
            wait.plain += 1
            self._write(f"still at it: {text}\n")

    def _erase(self) -> None:
        if self._shown:
            self._shown = False
            if self._bar:
                self._bar[0].waiting("")
            else:
                self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a closed pipe is no reason to fail
            self._stream.write(text)
            self._stream.flush()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waits:
                    self._changed.wait()
            with contextlib.suppress(OSError, ValueError):
                self.tick()
            time.sleep(0.5)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def columns(stream: TextIO) -> int:
    """The width of a stream's terminal in characters; 80 where it does not say."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (AttributeError, OSError, ValueError):
        return 80


def _seconds(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60:02} s"


_LINE = Line()
begin, end, waiting, within, aside = _LINE.begin, _LINE.end, _LINE.waiting, _LINE.within, _LINE.aside


def quiet(yes: bool) -> None:
    """Whether this process shows no waits."""
    _LINE.quiet = yes
