"""`launch.py reproduce`: a figure or table of a paper."""

import argparse
import sys

from genjax.verbs import arguments as common

TEXT = "redraw a figure or table of a paper: runs what is missing, writes PNG, JSON, HTML"
LOOKS = False
SCALES = ("smoke", "small", "paper")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the verb takes."""
    common.json_file(parser)
    parser.add_argument("figure", help="e.g. dip/restoration, or with arguments gan/latents:given=RUN (see list)")
    parser.add_argument("--scale", choices=SCALES, default="small",
                        help="smoke: seconds, to see it work; small: minutes on a laptop (default); paper: its"
                        " settings")
    parser.add_argument("--workdir",
                        help="folder for the runs and results (default: runs/figures/<figure>-<scale>)")
    parser.add_argument("--images", help="pictures instead of the figure's own, where it reads any: a file, a folder,"
                        " builtin:NAME (where a set of pictures is trained on: no file)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints the figure's rows; 1 where one of them is not as expected, 75 where it was interrupted."""
    from genjax.core import figure, train

    try:
        found = figure.reproduce(args.figure, args.scale, args.workdir, args.images, args.quiet)
    except train.Preempted as e:
        print(f"{e}; run the same command again to go on", file=sys.stderr)
        return train.PREEMPTED_EXIT
    if args.json != "-":
        print(figure.text(found))
    common.write_json(args.json, found.rows)
    return 0 if found.passed else 1
