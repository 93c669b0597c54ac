"""What jax is told before it computes: compiling shows itself, and XLA's alarm about it stays silent."""

import jax
import jax.numpy as jnp
import jaxlib.utils

from genjax.core import backend
from genjax.viz import waiting


def test_whatever_compiles_is_a_wait_with_an_end(monkeypatch):
    begun, ended = [], []
    monkeypatch.setattr(waiting, "begin", lambda what, long=None: begun.append(what) or waiting.Wait(what, 0.0, long))
    monkeypatch.setattr(waiting, "end", ended.append)
    backend.show_compiling()  # the second time: still one listener
    jax.jit(lambda x: x * 3 + 17)(jnp.arange(3)).block_until_ready()
    assert set(begun) == {"compiling"} and len(begun) == len(ended) > 0
    assert not any(backend._compiling.values())


def test_the_alarm_is_silent_in_a_long_compilation_alone(monkeypatch):
    levels = []
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")
    monkeypatch.setattr(jaxlib.utils, "absl_set_min_log_level", levels.append)

    def compile_for(seconds):
        line = waiting.Line(clock=(clock := type("Clock", (), {"now": 0.0, "__call__": lambda self: self.now})()),
                            thread=False)
        monkeypatch.setattr(waiting, "begin", line.begin)
        monkeypatch.setattr(waiting, "end", line.end)
        line.quiet = True  # the alarm is silent, whether waits are shown or not
        backend._compilation_begins(backend.COMPILING[-1], 0.0)
        clock.now += seconds
        line.tick()
        backend._compilation_ends(backend.COMPILING[-1], seconds)

    compile_for(30.0)
    assert levels == []
    compile_for(119.0)  # before XLA says anything
    assert levels == [backend.FATAL, 1]
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")  # who asks for everything gets it
    compile_for(119.0)
    assert levels == [backend.FATAL, 1]
