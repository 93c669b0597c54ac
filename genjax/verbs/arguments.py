"""Arguments that several verbs take, and what is made of them."""

import argparse
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ml_collections import ConfigDict

SNAPSHOT = ("in the place of the newest snapshot or checkpoint: a file, e.g. RUN/snapshots/best.npz (of a run with"
            " train.keep_best), a folder of RUN/checkpoints, or a step")


def config(parser: argparse.ArgumentParser, trains: bool = False, required: bool = True) -> None:
    """Adds `--config`, `--config.KEY` and `--smoke`; for verbs that train `--deterministic` too."""
    parser.add_argument("--config", required=required, metavar="FILE[:ARG]",
                        help="config file with structural argument, e.g. configs/dip/denoise.py:small")
    parser.add_argument("--config.KEY", metavar="VALUE", dest="_overrides", help="override any key of the config")
    parser.add_argument("--smoke", action="store_true", help="the config's smoke form: two tiny steps")
    if trains:
        parser.add_argument("--deterministic", action="store_true",
                            help="GPUs too give the same bits every time (slower); CPUs and TPUs do anyway")


def json_file(parser: argparse.ArgumentParser) -> None:
    """Adds `--json`, for verbs that print a table."""
    parser.add_argument("--json", metavar="FILE", help="also write the table as JSON ('-' for standard output)")


def check(args: argparse.Namespace) -> None:
    """Refuses names of configs, figures, benchmarks and runs that are not there, before jax is imported.

    Raises:
      UserError: names the nearest.
    """
    if getattr(args, "config", None):  # not where `show` has a name in its place
        from genjax.core import config as config_lib

        config_lib.find_config(args.config)
    elif args.verb in ("reproduce", "bench"):
        from genjax.core import inspect

        inspect.check_figure(args.figure) if args.verb == "reproduce" else inspect.check_benchmark(args.name)
    elif args.verb in ("sample", "eval", "play"):
        from genjax.core.run import RunFolder

        RunFolder(args.run).check()


def load(args: argparse.Namespace, overrides: list[str]) -> "ConfigDict":
    """The config that a command line with `config` asks for, finalized and locked.

    Raises:
      UserError: whatever is wrong with it.
    """
    from genjax.core import config as config_lib

    found = config_lib.load(args.config, () if args.smoke else overrides)
    return config_lib.override(config_lib.smoke(found), overrides) if args.smoke else found


def default_workdir(args: argparse.Namespace, overrides: list[str]) -> str:
    """The default run folder: one per config and per set of overrides that change what is computed, so that the same
    command goes on with its run, and no other does."""
    from genjax.core.run import FREE

    name = args.config.removesuffix(".json").replace("configs/", "").replace(".py", "").replace(":", "-").strip("./")
    changes = sorted({o.partition("=")[0]: o for o in overrides if not o.startswith(FREE)}.values())
    mark = "-" + hashlib.sha1("\n".join(changes).encode()).hexdigest()[:6] if changes else ""
    return str(Path("runs") / (name + ("-smoke" if args.smoke else "") + mark))


def write_json(path: str | None, rows: object) -> None:
    """Writes a table for programs, to a file or standard output."""
    if path == "-":
        print(json.dumps(rows, indent=2))
    elif path:
        from genjax.viz.atomic import write_file

        write_file(path, json.dumps(rows, indent=2) + "\n")
