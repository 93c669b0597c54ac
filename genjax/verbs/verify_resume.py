"""`launch.py verify-resume`: whether a config's runs go on bit for bit."""

import argparse
from pathlib import Path

from genjax.verbs import arguments as common

TEXT = ("kill short runs of a config and compare their last bits with a run left alone; each run is one process, with"
        " all devices that are here")
LOOKS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the verb takes."""
    common.json_file(parser)
    common.config(parser, trains=True)
    parser.add_argument("--steps", type=int, default=12, help="length of the runs (default 12)")
    parser.add_argument("--kills", type=int, default=2, help="times one of them is killed (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--workdir", help="folder for the runs (default: runs/verify/<config>)")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints how each run ended; 1 where one differs."""
    from genjax.core import verify

    common.load(args, overrides)  # its mistakes are told before anything starts
    default = Path("runs/verify") / Path(common.default_workdir(args, overrides)).relative_to("runs")
    found = verify.verify(args.config, overrides, args.smoke, args.steps, args.kills, args.seed,
                          args.workdir or str(default), tell=print if args.json != "-" else lambda _: None,
                          deterministic=args.deterministic)
    common.write_json(args.json, found)
    return 0 if all(r["equal"] for r in found) else 1
