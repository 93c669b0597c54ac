"""`launch.py list`: everything there is."""

import argparse

from genjax.verbs import arguments as common

TEXT = "every config, figure and benchmark with one line each"
LOOKS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the verb takes."""
    common.json_file(parser)


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints them."""
    from genjax.core import inspect

    found = inspect.listing()
    if args.json != "-":
        print(inspect.listing_text(found))
    common.write_json(args.json, found)
    return 0
