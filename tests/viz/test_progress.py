"""Plain progress lines against a clock the test moves by hand; the bar on a pretended terminal."""

import io
import os
import time

from genjax.viz.progress import Progress, clock_time


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def run(steps, seconds, total=100, **options):
    clock, out = Clock(), io.StringIO()
    progress = Progress(total, "dip", stream=out, clock=clock, every=5.0, **options)
    for i in range(steps):
        clock.now += seconds(i)
        progress.update(loss=1 / (i + 1))
    progress.close()
    progress.close()
    return out.getvalue().splitlines()


def test_rate_and_time_left_ignore_the_compilation_in_the_first_step():
    lines = run(31, lambda i: 4.0 if i == 0 else 0.5)
    # 4 s + 2 × 0.5 s is the first line due: 2 steps after the mark in 1 s.
    assert lines[0] == "dip 3/100 (3%), 2 steps/s, 0:48 left, loss 0.3333"
    assert lines[1] == "dip 13/100 (13%), 2 steps/s, 0:44 left, loss 0.07692"
    assert lines[-1] == "dip: 31 steps in 0:19, loss 0.03226"
    assert len(lines) == 4  # one per 5 s, and the last


def test_slow_steps_read_as_seconds_per_step_and_resumed_steps_do_not_count():
    lines = run(3, lambda i: 6.0, total=10, initial=4)
    assert lines[1] == "dip 6/10 (60%), 6 s/step, 0:24 left, loss 0.5"
    assert lines[-1] == "dip: 3 steps in 0:18, loss 0.3333"


def test_metrics_are_not_converted_until_a_line_is_due():
    class Device:
        fetched = 0

        def __float__(self):
            Device.fetched += 1
            return 1.5

    clock, out = Clock(), io.StringIO()
    progress = Progress(None, stream=out, clock=clock, every=5.0)
    for _ in range(50):
        clock.now += 0.05
        progress.update(1, {"loss": Device()})
    assert Device.fetched == 0 and out.getvalue() == ""
    clock.now += 5
    progress.update()
    assert Device.fetched == 1 and out.getvalue().startswith("51, ") and "loss 1.5" in out.getvalue()
    progress.write("a remark")
    assert out.getvalue().endswith("a remark\n")


def test_a_terminal_gets_a_bar():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    out = Terminal()
    with Progress(4, "dip", stream=out) as progress:
        for i in range(4):
            progress.update(psnr=20.0 + i)
    assert "\r" in out.getvalue() and "4/4" in out.getvalue() and "psnr 23" in out.getvalue()


def test_the_bar_starts_its_clock_after_the_compilation_and_is_80_wide_where_the_terminal_does_not_say(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

        def fileno(self):
            return 1

    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((0, 0)))
    out = Terminal()
    with Progress(4, "dip", stream=out) as progress:
        time.sleep(0.5)  # as a compilation
        waited = progress._bar.format_dict["elapsed"]
        progress.update(1)
        assert progress._bar.format_dict["elapsed"] < waited
        progress.update(3)
    last = out.getvalue().strip().split("\r")[-1]
    assert "4/4" in last and 40 < len(last) <= 80


def test_clock_time():
    assert [clock_time(s) for s in (0, 59.6, 3599, 3661)] == ["0:00", "1:00", "59:59", "1:01:01"]


def test_metrics_that_a_terminal_has_no_room_for_are_left_out_whole():
    progress = Progress(100, "run", stream=io.StringIO())
    progress.update(1, {f"metric_{i}": 1.25 for i in range(20)})
    whole = progress._metric_text()
    for columns in (60, 80, 120, 1000):
        shown = progress._metric_text(columns)
        assert whole.startswith(shown) and len(shown) + 50 + len("run") + 6 <= max(columns, 59)
        assert all(len(part.split()) == 2 for part in shown.split(", ") if part)
    assert progress._metric_text(1000) == whole and len(progress._metric_text(120)) > 30
