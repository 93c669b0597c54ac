"""`launch.py status`: how runs stand."""

import argparse

from genjax.verbs import arguments as common

TEXT = "state, step, digest and last metrics of runs"
LOOKS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the verb takes."""
    common.json_file(parser)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, or folders that hold some")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints a line per run."""
    from genjax.core import inspect

    found = [inspect.status(r) for r in inspect.run_folders(args.runs)]
    if args.json != "-":
        print(inspect.status_text(found))
    common.write_json(args.json, found)
    return 0
