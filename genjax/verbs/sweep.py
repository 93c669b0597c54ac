"""`launch.py sweep`: many points of a config."""

import argparse

from genjax.core import launchers
from genjax.verbs import arguments as common

TEXT = "run a config's sweep_NAME() or search_NAME(); started again, only what is missing"
LOOKS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the verb takes."""
    common.json_file(parser)
    common.config(parser, trains=True)
    parser.add_argument("--sweep", required=True, metavar="NAME", help="the function's name in the config file")
    parser.add_argument("--workdir", help="folder for runs and report (default: runs/sweeps/<config>-<sweep>)")
    parser.add_argument("--max-parallel", type=int, metavar="N",
                        help=f"runs at a time (default 1; in a SLURM array {launchers.ARRAY_PARALLEL})")
    parser.add_argument("--retry-failed", action="store_true", help="run failed points again too")
    parser.add_argument("--status", action="store_true", help="only show how the points stand")
    parser.add_argument("--metric", help="what ranks the points (default: the first that is evaluated, else the"
                        " logged loss; a logged metric is the mean of its last ten rows)")
    parser.add_argument("--mode", choices=("max", "min"), help="the better end of it (default: by its name)")
    parser.add_argument("--storage", metavar="URL", help="a search's database, to share it between machines, e.g."
                        " postgresql://user@host/name (default: an SQLite file in the workdir)")
    launchers.add_arguments(parser)


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints the points as they end, and their table."""
    from genjax.core import sweep_run

    code, rows = sweep_run.run(args, overrides)
    common.write_json(args.json, rows)
    return code
