"""The commands in the docstrings of the adversarial configs resolve, one per data set."""

import re
import shlex

import pytest

import launch
from genjax.core import config as config_lib
from tests.conftest import ROOT

FILES = sorted(f for f in (ROOT / "configs" / "gan").glob("*.py") if not f.name.startswith("_"))
TEXT = "\n".join(config_lib.load_module(f).__doc__.replace("\\\n", " ") for f in FILES)
COMMANDS = [" ".join(c.split()) for c in re.findall(r"^ *python launch\.py (.*)$", TEXT, re.M)]


def test_there_are_commands_for_the_papers_data():
    assert all(s in TEXT for s in ("folder:/data/ffhq", "folder:/data/celeba", "tfds:celeb_a", "tfds:cifar10",
                                   "idx:/data/mnist",
                                   "idx:/data/fashion-mnist")) and len(COMMANDS) >= 15


@pytest.mark.parametrize("command", COMMANDS)
def test_command_resolves(command):
    args, overrides = launch.parse(shlex.split(command))
    found = config_lib.flatten(config_lib.load(args.config, overrides))
    for key, value in (item.split("=", 1) for item in overrides):
        assert str(found[key]) == value
