"""The README and docs/ stay true: their launch.py commands run in smoke form, and the files they name exist."""

import re
import shlex

import numpy as np
import pytest

import launch
from genjax.core import inspect
from genjax.viz.grid import save_png
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
PAGES = [README, *(p.read_text() for p in sorted(ROOT.glob("docs/*.md")))]
BLOCKS = [block for page in PAGES for block in re.findall(r"```bash\n(.*?)```", page, re.S)]
LINES = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines()]
FIGURES = [name for page in PAGES for name in re.findall(r"python launch\.py reproduce (\S+)", page)]
FOUND = [m[1].strip() for line in LINES for m in re.finditer(r"python launch\.py ([^&]*)", line)]
TRAIN = [c for c in FOUND if c.startswith("train")]  # in the order a reader runs them
COMMANDS = sorted({c for c in FOUND if not c.startswith(("reproduce", "train"))})


def smoke_form(command: str) -> list[str]:
    words = shlex.split(command)
    if words[0] == "sweep":
        return [*words, "--smoke", "--dry-run"]
    if words[0] == "verify-resume":
        return [*words, "--smoke", "--steps=4", "--kills=0"]
    if words[0] == "train":
        return [*words, "--smoke", "--config.train.steps=2", "--quiet"]
    if words[0] in ("plan", "bench"):
        return [*words, "--smoke"]
    return words


def test_there_are_commands():
    assert len(COMMANDS) >= 3 and len(TRAIN) >= 2


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with the pictures the README speaks of."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("photo.png", "a.png", "b.png", "c.png"):
        save_png(tmp_path / name, rng.uniform(size=(64, 64, 3)))
    return tmp_path


@pytest.mark.parametrize("command", [pytest.param(c, marks=pytest.mark.slow) if c.startswith("verify") else c
                                     for c in COMMANDS])  # tests/core/test_resume_tools.py verifies a quicker config
def test_command_runs(command, folder, capsys):
    assert launch.main(smoke_form(command)) == 0, capsys.readouterr().err


def test_train_commands_run_one_after_another(folder, capsys):
    """In one folder and with no --workdir, as a reader runs them: each has a run of its own."""
    for command in TRAIN:
        assert launch.main(smoke_form(command)) == 0, f"{command}: {capsys.readouterr().err}"
    assert len(list((folder / "runs").rglob("DONE"))) == len(TRAIN)


def test_figures_exist():
    """They run at smoke scale in tests/experiments."""
    assert FIGURES and set(FIGURES) <= set(inspect.figures())


def test_opening_commands_are_the_ones_ci_runs():
    first, second = (b.strip() for b in BLOCKS[:2])
    assert first.endswith(".venv/bin/python launch.py reproduce dip/restoration")
    assert second.endswith(".venv/bin/python -m pytest -n 2 --dist loadgroup")
    assert "python -m pytest -n 2 --dist loadgroup --durations" in (ROOT / ".ci" / "run").read_text()
    for block in (first, second):
        assert block.startswith("python3 -m venv .venv && .venv/bin/pip install -q -r requirements.txt && ")


def test_every_config_and_figure_is_in_the_table():
    for row in inspect.listing():
        assert row["name"] in README, f"README names no {row['kind']} {row['name']}"


def test_named_files_exist():
    for name in re.findall(r"`([\w./]+\.(?:py|txt|toml))`", "\n".join(PAGES)):
        assert (ROOT / name).exists(), name


@pytest.mark.slow
def test_first_command_as_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert launch.main(["reproduce", "dip/restoration", "--quiet"]) == 0
    assert "report: " in capsys.readouterr().out
