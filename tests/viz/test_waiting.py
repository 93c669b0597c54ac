"""The line that ticks, against a clock the test moves by hand, on a pretended terminal and on none."""

import io
import time

import pytest

from genjax.viz import waiting
from genjax.viz.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def line_of(out):
    clock = Clock()
    line = waiting.Line(out, clock, thread=False)

    def after(seconds):
        clock.now += seconds
        line.tick()

    return line, after


def test_a_terminal_counts_the_seconds_and_is_clean_afterwards():
    line, after = line_of(out := Terminal())
    with line.waiting("evaluating"):
        after(0.9)
        assert out.getvalue() == ""
        after(0.6)
        with line.waiting("compiling"):
            after(1.0)
        after(120.0)
    assert out.getvalue() == ("\revaluating, 1 s\x1b[K" "\revaluating, compiling, 2 s\x1b[K" "\r\x1b[K"
                              "\revaluating, 2 min 02 s\x1b[K" "\r\x1b[K")
    after(10.0)
    assert out.getvalue().endswith("\r\x1b[K")


def test_no_terminal_gets_whole_lines_and_rarely():
    line, after = line_of(out := io.StringIO())
    with line.waiting(lambda: "drawing dip/x"):
        for _ in range(800):
            after(1.0)
    assert out.getvalue().splitlines() == [f"still at it: drawing dip/x, {s}"
                                           for s in ("15 s", "60 s", "6 min 00 s", "11 min 00 s")]


def test_nothing_where_it_is_quiet():
    line, after = line_of(out := io.StringIO())
    line.quiet = True
    with line.waiting("compiling"):
        after(100.0)
    assert out.getvalue() == ""


def test_programs_compiled_one_after_the_other_are_one_wait():
    line, after = line_of(out := io.StringIO())
    for _ in range(4):
        with line.waiting("compiling"):
            after(5.0)
    assert out.getvalue() == "still at it: compiling, 15 s\n"


def test_a_wait_of_a_bar_stands_in_the_bar_and_goes():
    line, after = line_of(out := Terminal())
    shown = []
    bar = type("Bar", (), {"waiting": lambda self, text: shown.append(text)})()
    with line.waiting("drawing dip/x"), line.within(bar):
        after(5.0)
        assert shown == [] and out.getvalue() == ""  # the bar itself shows that
        with line.waiting("the first step"):
            after(3.0)
    assert shown == ["the first step, 3 s", ""]


def test_other_lines_are_printed_above():
    line, after = line_of(out := Terminal())
    with line.waiting("compiling"):
        after(2.0)
        with line.aside():
            out.write("starting\n")
        after(1.0)
    assert out.getvalue() == "\rcompiling, 2 s\x1b[K" "\r\x1b[K" "starting\n" "\rcompiling, 3 s\x1b[K" "\r\x1b[K"


def test_a_progress_bar_ticks_while_it_waits(monkeypatch):
    monkeypatch.setattr(waiting, "AFTER", 0.05)
    out = Terminal()
    with Progress(10, "dip", stream=out) as progress:
        with waiting.waiting("the first step"):
            deadline = time.monotonic() + 10
            while "the first step" not in out.getvalue() and time.monotonic() < deadline:
                time.sleep(0.05)
        progress.update(loss=0.5)
    assert "the first step, 0 s" in out.getvalue()
    assert "the first step" not in out.getvalue().rsplit("\r", 1)[1]


@pytest.mark.parametrize("seconds,calls", [(59.0, 0), (61.0, 1), (200.0, 1)])
def test_what_goes_on_for_long_is_told_once(seconds, calls):
    line, after = line_of(io.StringIO())
    told = []
    wait = line.begin("compiling", long=(60.0, lambda: told.append(1)))
    after(seconds)
    after(0.1)
    line.end(wait)
    assert len(told) == calls
