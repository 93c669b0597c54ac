"""`launch.py diff`: what differs between two configs or runs."""

import argparse

TEXT = "what differs between two configs or runs"
LOOKS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the verb takes."""
    parser.add_argument("a", help="config file[:arg] or run folder")
    parser.add_argument("b", help="config file[:arg] or run folder")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints a line per key."""
    from genjax.core import inspect

    print(inspect.diff_text(args.a, args.b))
    return 0
