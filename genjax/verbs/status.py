"""`launch.py status`: how runs stand."""

import argparse

from genjax.verbs import arguments as common

TEXT = "state, step, digest and last metrics of runs; exit code 1 where one of several cannot be read"
LOOKS = True
RUNS = "runs"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the verb takes."""
    common.json_file(parser)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run folders, or folders that hold some"
                        " (default: all below runs/)")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints a line per run; one that cannot be read is a line that says so.

    Raises:
      UserError: there is no run, or only one, which cannot be read.
    """
    from genjax.core import inspect
    from genjax.errors import UserError

    names = inspect.run_folders(args.runs or [RUNS])
    if not args.runs and names == [RUNS]:
        raise UserError(f"no runs below {RUNS}/ here; name run folders, or folders that hold some")
    found = [inspect.status(name) for name in names]
    if len(found) == 1 and "error" in found[0]:
        raise UserError(found[0]["error"])
    if args.json != "-":
        print(inspect.status_text(found))
    common.write_json(args.json, found)
    return int(any("error" in row for row in found))
