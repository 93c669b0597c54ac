"""`launch.py convert`: a run folder of a published file."""

import argparse

from genjax.viz.waiting import waiting

TEXT = "make a run folder of a published StyleGAN2-ADA pickle, for sample, eval, report and status"
LOOKS = False


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the verb takes."""
    parser.add_argument("file", help="NVlabs' .pkl; nothing in it is executed")
    parser.add_argument("--out", required=True, help="new run folder")
    parser.add_argument("--data", metavar="SPEC", default="", help="the pictures it was trained on, for eval:"
                        " folder:PATH, tfds:NAME, npz:FILE, ... (default: a few built-in ones, to compare with"
                        " nothing)")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints the folder."""
    from genjax.gan import nvlabs

    with waiting("converting"):
        folder = nvlabs.convert_file(args.file, args.out, args.data)
    print(folder)
    return 0
