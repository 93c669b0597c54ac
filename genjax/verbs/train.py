"""`launch.py train`: trains a config, or goes on with the run that its folder holds."""

import argparse
import shlex
import sys
from pathlib import Path

from genjax.core import launchers
from genjax.verbs import arguments as common

TEXT = "train a config; a workdir that holds the run is resumed, bit for bit where the devices agree"
LOOKS = False


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the verb takes."""
    common.config(parser, trains=True)
    parser.add_argument("--workdir",
                        help="run folder (default: runs/<config>, with a short hash of what overrides change)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no news but warnings")
    parser.add_argument("--profile", metavar="FROM:TO",
                        help="trace these steps for TensorBoard and XProf, in RUN/profile")
    parser.add_argument("--other-data", action="store_true", help="go on with a run although its data are not those"
                        " that it was started with")
    parser.add_argument("--from", dest="begin_from", metavar="RUN", help="a new run that begins with another one's"
                        " newest checkpoint and may differ in batch size, learning rate and so on (docs/runs.md)")
    launchers.add_arguments(parser)
    group = parser.add_argument_group("one of several processes (--processes, SLURM and other clusters say it"
                                      " themselves)")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    group.add_argument("--num-processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process-id", type=int, metavar="I", help="which one this is, from 0")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Trains here, or starts the processes that do."""
    from genjax.core import distributed, report, train
    from genjax.core.made_by import MadeBy
    from genjax.core.run import RunFolder

    config = common.load(args, overrides)
    workdir = args.workdir or common.default_workdir(args, overrides)
    if args.begin_from and not args.workdir:
        workdir += f"-from-{Path(args.begin_from).resolve().name}"
    if launchers.starts_others(args):
        return launchers.train(args.argv, workdir, launchers.options(args))
    outcome = train.train(config, workdir, args.quiet, train.profile_steps(args.profile), args.other_data,
                          args.begin_from, MadeBy(shlex.join(["python", "launch.py", *args.argv]), args.config))
    if not distributed.main():
        return train.PREEMPTED_EXIT if outcome.preempted else 0
    if outcome.preempted:
        print(f"interrupted and saved at step {outcome.step}; run the same command again to go on", file=sys.stderr)
        return train.PREEMPTED_EXIT
    for key, value in outcome.metrics.items():
        print(f"{key:24} {value:.4f}")
    print(f"report: {report.write(workdir)}")
    folder = RunFolder(workdir)
    if any(folder.outputs.glob("*.png")):
        print(f"pictures: {folder.outputs}")
    for picture in folder.results():
        print(f"result: {picture}")
    return 0
