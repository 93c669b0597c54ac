"""`launch.py report`: a run's or sweep's page."""

import argparse
from pathlib import Path

from genjax.viz.waiting import waiting

TEXT = "write a run's or a sweep's report.html again"
LOOKS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the verb takes."""
    parser.add_argument("run", help="run folder, or a sweep's workdir")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints the page's path."""
    from genjax.core import report, sweep_run

    is_sweep = (Path(args.run) / sweep_run.SWEEP).is_file()
    with waiting("writing the report"):
        page = sweep_run.report(Path(args.run)) if is_sweep else report.write(args.run)
    print(page)
    return 0
