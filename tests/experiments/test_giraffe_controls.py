"""The figure of GIRAFFE's controls: what it refuses, and what it notes instead of ending."""

from types import SimpleNamespace

import pytest

from experiments.giraffe import controls
from genjax.core import config as config_lib
from genjax.errors import UserError


def test_a_run_of_another_family_is_refused(monkeypatch):
    toy = config_lib.build(config_lib.load("tests/core/toy_config.py:steps=2"))
    monkeypatch.setattr(controls, "OpenedRun", lambda path: SimpleNamespace(task=toy.task))
    with pytest.raises(UserError, match="given=runs/toy is a run of ToyTask; name one of fields/giraffe"):
        controls.run(None, given="runs/toy")


def test_scenes_that_cannot_be_measured_are_a_note(monkeypatch):
    def refused(*_):
        raise UserError("no objects")

    for name in ("GiraffeWorld", "DrawnWorld"):
        monkeypatch.setattr(controls.disentangle, name, refused)
    notes = []
    fig = SimpleNamespace(scale="small", by_scale=lambda *v: v[0], note=notes.append)
    task = SimpleNamespace(generator=SimpleNamespace(size=8))
    controls._disentangled(fig, "x", "builtin:scenes/rooms", task, {})
    assert notes == [f"x, {w}: no objects" for w in ("GIRAFFE", "a perfect generator", "chance")]
