"""`launch.py bench`: genjax beside its peers."""

import argparse

from genjax.verbs import arguments as common

TEXT = "measure genjax beside its peers in one run"
LOOKS = False


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the verb takes."""
    common.json_file(parser)
    parser.add_argument("name", metavar="NAME[:ARGS]", help="e.g. dip (see list); ARGS: structural arguments, e.g."
                        " fields:official=FOLDER")
    parser.add_argument("--repeats", type=int, default=5, help="timed repetitions of every pair (default 5)")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see it work; the figures mean nothing")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints a line per case."""
    from genjax.core import bench

    rows = bench.bench(args.name, args.repeats, args.smoke)
    if args.json != "-":
        print(bench.text(rows))
    common.write_json(args.json, rows)
    return 0
