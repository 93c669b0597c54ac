"""`launch.py play`: a page with sliders."""

import argparse

from genjax.verbs import arguments as common

TEXT = "a local page with sliders for what a run can be steered by; the image follows"
LOOKS = False


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the verb takes."""
    run = parser.add_mutually_exclusive_group(required=True)
    run.add_argument("run", nargs="?", default=argparse.SUPPRESS, help="run folder")
    run.add_argument("--run", metavar="RUN", help="the same, by name")
    parser.add_argument("--snapshot", help=common.SNAPSHOT)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: this machine alone)")
    parser.add_argument("--port", type=int, default=7860, help="0: any free one (default 7860)")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Serves until it is interrupted."""
    from genjax.core import play

    play.serve(args.run, args.snapshot, args.host, args.port, lambda line: print(line, flush=True))
    return 0
