"""`launch.py show`: the resolved config."""

import argparse

from genjax.verbs import arguments as common

TEXT = "print the resolved config: every key, every default"
LOOKS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the verb takes."""
    common.config(parser)


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints it as JSON."""
    from genjax.core import config as config_lib

    print(config_lib.to_json(common.load(args, overrides)), end="")
    return 0
