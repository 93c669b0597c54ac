"""`launch.py show`: the resolved config, or what its file says of it."""

import argparse
from pathlib import Path

from genjax.errors import UserError
from genjax.verbs import arguments as common

TEXT = "print the resolved config: every key, every default; --doc: its notebook and structural arguments"
LOOKS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the verb takes."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="config file[:arg], in the place of --config; with"
                        " --doc also a figure, a benchmark, or a run folder")
    common.config(parser, required=False)
    parser.add_argument("--doc", action="store_true", help="print the docstring (paper, commands, what to expect) and"
                        " the structural arguments with their defaults")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints the config as JSON, or its notebook.

    Raises:
      UserError: no name, or two.
    """
    from genjax.core import config as config_lib
    from genjax.core import inspect

    if bool(args.name) == bool(args.config):
        raise UserError("show needs one name: show dip/denoise, or show --config dip/denoise")
    args.config = args.name or args.config
    if args.doc:
        print(inspect.documents(args.config))
        return 0
    if (Path(args.config) / "config.json").exists():
        args.config = str(Path(args.config) / "config.json")
    elif args.config not in config_lib.list_configs() and args.config in [*inspect.figures(), *inspect.benchmarks()]:
        raise UserError(f"{args.config} is no config; show {args.config} --doc prints what it is")
    print(config_lib.to_json(common.load(args, overrides)), end="")
    return 0
