"""`launch.py sample`: samples of a run, or what a control makes of them."""

import argparse

from genjax.verbs import arguments as common
from genjax.viz.waiting import waiting

TEXT = "draw samples from a run's newest snapshot or checkpoint; --control steers them (a walk, a rotation, ...)"
LOOKS = False


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the verb takes."""
    parser.add_argument("run", help="run folder")
    parser.add_argument("--control", nargs="?", const="", metavar="NAME", help="pictures and films of what the run's"
                        " task can be steered by; without NAME: which there are and their options")
    parser.add_argument("--control.OPTION", metavar="VALUE", dest="_options", help="an option of the control")
    parser.add_argument("--snapshot", help=common.SNAPSHOT)
    parser.add_argument("-n", type=int, help="how many (default 16; a control has its own); with --classes, of each")
    parser.add_argument("--classes", metavar="LIST", help="of a run with classes: a row for each, e.g. 0,3,7 or 0-9")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="PNG to write (default: RUN/samples/sample_seed<SEED>.png); a control's folder"
                        " (default: RUN/samples/<NAME>_seed<SEED>)")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints the paths of what it wrote, or the controls there are."""
    from genjax.core import control, snapshot

    if args.control is None:
        n = 16 if args.n is None else args.n
        with waiting("drawing samples"):
            path = snapshot.sample(args.run, args.snapshot, n, args.seed, args.out, args.classes)
        print(path)
    elif not args.control:
        print(control.listing(args.run))
    else:
        options = [*args.control_options, *([] if args.n is None else [f"n={args.n}"])]
        with waiting(f"drawing {args.control}"):
            paths = control.sample(args.run, args.control, options, args.snapshot, args.seed, args.out)
        print("\n".join(map(str, paths)))
    return 0
