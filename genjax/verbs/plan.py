"""`launch.py plan`: what a config needs, before anything runs."""

import argparse

from genjax.verbs import arguments as common

TEXT = ("parameters, shardings, memory per device and FLOPs per step, before anything runs; exit code 2 where it cannot"
        " fit")
LOOKS = False


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the verb takes."""
    common.json_file(parser)
    common.config(parser)
    parser.add_argument("--device-memory", type=float, metavar="GIB", help="of a device that is not here")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Prints the plan.

    Raises:
      UserError: it does not fit.
    """
    from genjax.core import plan

    config, shown = common.load(args, overrides), args.json != "-"
    found = plan.plan(config, args.device_memory,
                      (lambda text: print(text, flush=True)) if shown else lambda text: None)
    if shown:
        print(plan.compiled_text(found))
    common.write_json(args.json, found)
    plan.check(found, config)
    return 0
