#!/usr/bin/env python
"""genjax: image synthesis in JAX. The only entry point.

  python launch.py list                                        every config and figure, one line each
  python launch.py reproduce dip/restoration                   redraw a figure: PNG, JSON and report.html
  python launch.py train --config configs/dip/denoise.py:small --workdir runs/denoise
  python launch.py train --config dip/denoise --config.image=photo.png --config.train.steps=500
  python launch.py VERB --help                                 what a verb does and takes

Configs are Python files; the part after ":" is their structural argument, `--config.KEY=VALUE` overrides any key
(`show` prints them all). A mistake of yours is one line and exit code 2; exit code 75 means "interrupted and saved,
run the same command again".
"""

import argparse
import hashlib
import json
import logging
import os
import sys
import threading
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent
SCALES = ("smoke", "small", "paper")
SNAPSHOT = "a snapshot file instead of the newest, e.g. RUN/snapshots/best.npz (of a run with train.keep_best)"
LOOKING = ("show", "diff", "list", "status", "report", "sweep", "verify-resume")  # what needs no devices itself


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, like every other mistake of the user."""

    def error(self, message: str):
        from genjax.errors import UserError

        raise UserError(f"{message}; python {self.prog} --help explains")


def _configured(parser: argparse.ArgumentParser, smoke: bool = True, trains: bool = False) -> None:
    parser.add_argument("--config", required=True, metavar="FILE[:ARG]",
                        help="config file with structural argument, e.g. configs/dip/denoise.py:small")
    parser.add_argument("--config.KEY", metavar="VALUE", dest="_overrides", help="override any key of the config")
    if smoke:
        parser.add_argument("--smoke", action="store_true", help="the config's smoke form: two tiny steps")
    if trains:
        parser.add_argument("--deterministic", action="store_true",
                            help="GPUs too give the same bits every time (slower); CPUs and TPUs do anyway")


def make_parser() -> argparse.ArgumentParser:
    """The command line: one subparser per verb."""
    from genjax.core import launchers

    parser = Parser(prog="launch.py", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str, json_out: bool = False) -> argparse.ArgumentParser:
        p = verbs.add_parser(name, help=text.split(";")[0], description=text, allow_abbrev=False)
        if json_out:
            p.add_argument("--json", metavar="FILE", help="also write the table as JSON ('-' for standard output)")
        return p

    p = verb("train", "train a config; a workdir that holds the run is resumed, bit for bit where the devices agree")
    _configured(p, trains=True)
    p.add_argument("--workdir", help="run folder (default: runs/<config>, with a short hash of what overrides change)")
    p.add_argument("--quiet", action="store_true", help="no progress bar, no news but warnings")
    p.add_argument("--profile", metavar="FROM:TO", help="trace these steps for TensorBoard and XProf, in RUN/profile")
    launchers.add_arguments(p)
    group = p.add_argument_group("one of several processes (--processes, SLURM and other clusters say it themselves)")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    group.add_argument("--num-processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process-id", type=int, metavar="I", help="which one this is, from 0")
    p = verb("sample", "draw samples from a run's newest snapshot; --control steers them (a walk, a rotation, ...)")
    p.add_argument("run", help="run folder")
    p.add_argument("--control", nargs="?", const="", metavar="NAME", help="pictures and films of what the run's task"
                   " can be steered by; without NAME: which there are and their options")
    p.add_argument("--control.OPTION", metavar="VALUE", dest="_options", help="an option of the control")
    p.add_argument("--snapshot", help=SNAPSHOT)
    p.add_argument("-n", type=int, help="how many (default 16; a control has its own); with --classes, of each")
    p.add_argument("--classes", metavar="LIST", help="of a run with classes: a row for each, e.g. 0,3,7 or 0-9")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", help="PNG to write (default: RUN/samples/sample_seed<SEED>.png); a control's folder"
                   " (default: RUN/samples/<NAME>_seed<SEED>)")
    p = verb("play", "a local page with sliders for what a run can be steered by; the image follows")
    p.add_argument("--run", required=True, help="run folder")
    p.add_argument("--snapshot", help=SNAPSHOT)
    p.add_argument("--host", default="127.0.0.1", help="where to listen (default: this machine alone)")
    p.add_argument("--port", type=int, default=7860, help="0: any free one (default 7860)")
    p = verb("eval", "compute the task's metrics from a run's newest snapshot", json_out=True)
    p.add_argument("run", help="run folder")
    p.add_argument("--metrics", metavar="NAMES", help="of samples, instead of what the run measures: fid, kid, is (with"
                   " published Inception weights; frechet, kernel, inception_score with any network), precision,"
                   " recall, density, coverage, ndb, ms_ssim, sifid, ppl_zfull, ppl_zend, ppl_wfull, ppl_wend")
    p.add_argument("--config.task.evaluation.KEY", metavar="VALUE", dest="_overrides", help="how: network, path (of its"
                   " weights), resize, n, n_real, batch, lpips_trunk, lpips_heads, settings.k and so on")
    p.add_argument("--snapshot", help=SNAPSHOT)
    p = verb("convert", "make a run folder of a published StyleGAN2-ADA pickle, for sample, eval, report and status")
    p.add_argument("file", help="NVlabs' .pkl; nothing in it is executed")
    p.add_argument("--out", required=True, help="new run folder")
    p.add_argument("--data", metavar="SPEC", default="", help="the pictures it was trained on, for eval: folder:PATH,"
                   " tfds:NAME, npz:FILE, ... (default: a few built-in ones, to compare with nothing)")
    p = verb("reproduce", "redraw a figure or table of a paper: runs what is missing, writes PNG, JSON, HTML",
             json_out=True)
    p.add_argument("figure", help="e.g. dip/restoration, or with arguments gan/latents:given=RUN (see list)")
    p.add_argument("--scale", choices=SCALES, default="small",
                   help="smoke: seconds, to see it work; small: minutes on a laptop (default); paper: its settings")
    p.add_argument("--workdir", help="folder for the runs and results (default: runs/figures/<figure>-<scale>)")
    p.add_argument("--images", help="pictures instead of the figure's own, where it reads any: a file, a folder,"
                   " builtin:NAME (where a set of pictures is trained on: no file)")
    p.add_argument("--quiet", action="store_true", help="no progress bars")
    p = verb("plan", "parameters, shardings, memory per device and FLOPs per step, before anything runs; exit code 2"
             " where it cannot fit", json_out=True)
    _configured(p)
    p.add_argument("--device-memory", type=float, metavar="GIB", help="of a device that is not here")
    p = verb("verify-resume", "kill short runs of a config and compare their last bits with a run left alone; each run"
             " is one process, with all devices that are here", json_out=True)
    _configured(p, trains=True)
    p.add_argument("--steps", type=int, default=12, help="length of the runs (default 12)")
    p.add_argument("--kills", type=int, default=2, help="times one of them is killed (default 2)")
    p.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    p.add_argument("--workdir", help="folder for the runs (default: runs/verify/<config>)")
    p = verb("show", "print the resolved config: every key, every default")
    _configured(p)
    p = verb("diff", "what differs between two configs or runs")
    p.add_argument("a", help="config file[:arg] or run folder")
    p.add_argument("b", help="config file[:arg] or run folder")
    p = verb("report", "write a run's or a sweep's report.html again")
    p.add_argument("run", help="run folder, or a sweep's workdir")
    p = verb("status", "state, step, digest and last metrics of runs", json_out=True)
    p.add_argument("runs", nargs="+", metavar="RUN", help="run folders, or folders that hold some")
    p = verb("sweep", "run a config's sweep_NAME() or search_NAME(); started again, only what is missing",
             json_out=True)
    _configured(p, trains=True)
    p.add_argument("--sweep", required=True, metavar="NAME", help="the function's name in the config file")
    p.add_argument("--workdir", help="folder for runs and report (default: runs/sweeps/<config>-<sweep>)")
    p.add_argument("--max-parallel", type=int, default=1, metavar="N", help="runs at a time (default 1)")
    p.add_argument("--retry-failed", action="store_true", help="run failed points again too")
    p.add_argument("--status", action="store_true", help="only show how the points stand")
    p.add_argument("--metric", help="what ranks the points (default: the first that is evaluated)")
    p.add_argument("--mode", choices=("max", "min"), help="the better end of it (default: by its name)")
    p.add_argument("--storage", metavar="URL", help="a search's database, to share it between machines, e.g."
                   " postgresql://user@host/name (default: an SQLite file in the workdir)")
    launchers.add_arguments(p)
    p = verb("bench", "measure genjax beside its peers in one run", json_out=True)
    p.add_argument("name", metavar="NAME[:ARGS]", help="e.g. dip (see list); ARGS: structural arguments, e.g."
                   " fields:official=FOLDER")
    p.add_argument("--repeats", type=int, default=5, help="timed repetitions of every pair (default 5)")
    p.add_argument("--smoke", action="store_true", help="tiny sizes, to see it work; the figures mean nothing")
    verb("list", "every config, figure and benchmark with one line each", json_out=True)
    return parser


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Arguments and the list of `key=value` overrides."""
    from genjax.errors import UserError, unknown

    dotted, rest, words = {"--config.": [], "--control.": []}, [], iter(argv)
    for word in words:
        prefix = next((p for p in dotted if word.startswith(p)), None)
        if prefix is None:
            rest.append(word)
            continue
        item = word[len(prefix):]
        if "=" not in item:
            value = next(words, None)
            if value is None:
                raise UserError(f"{word} has no value: write {word}=VALUE")
            item = f"{item}={value}"
        dotted[prefix].append(item)
    overrides, options = dotted.values()
    parser = make_parser()
    verbs = parser._subparsers._group_actions[0].choices
    if rest and not rest[0].startswith("-") and rest[0] not in verbs:
        raise unknown("verb", rest[0], verbs)
    args, extra = parser.parse_known_args(rest)
    if extra:
        sub = verbs[args.verb]
        flags = [s for a in sub._actions for s in a.option_strings if s.startswith("--")]
        raise unknown(f"argument of {args.verb}:", extra[0].split("=")[0], flags)
    if overrides and not hasattr(args, "_overrides"):
        raise UserError(f"{args.verb} takes no --config.KEY overrides")
    if options and not getattr(args, "control", None):
        raise UserError(f"--control.{options[0]} belongs to a control: sample RUN --control NAME")
    if getattr(args, "control", None) and args.classes is not None:
        raise UserError("--classes is for samples; a control of a run with classes has --control.label")
    args.control_options = options
    if hasattr(args, "on"):
        from genjax.core import launchers

        launchers.options(args)  # its mistakes come before anything starts
    args.argv = argv
    return args, overrides


def write_json(path: str | None, rows: object) -> None:
    """Writes a table for programs, to a file or standard output."""
    if path == "-":
        print(json.dumps(rows, indent=2))
    elif path:
        from genjax.viz.atomic import write_file

        write_file(path, json.dumps(rows, indent=2) + "\n")


def run(args: argparse.Namespace, overrides: list[str]) -> int:
    """Runs one verb; returns the exit code."""
    from genjax.core import config as config_lib
    from genjax.errors import UserError

    def load():
        config = config_lib.load(args.config, () if args.smoke else overrides)
        return config_lib.override(config_lib.smoke(config), overrides) if args.smoke else config

    if args.verb == "show":
        print(config_lib.to_json(load()), end="")
    elif args.verb == "train":
        return _train(args, load(), overrides)
    elif args.verb == "plan":
        from genjax.core import plan

        found = plan.plan(load(), args.device_memory)
        if args.json != "-":
            print(plan.text(found))
        write_json(args.json, found)
        plan.check(found)
    elif args.verb == "diff":
        from genjax.core import inspect

        print(inspect.diff_text(args.a, args.b))
    elif args.verb == "list":
        from genjax.core import inspect

        found = inspect.listing()
        if args.json != "-":
            print(inspect.listing_text(found))
        write_json(args.json, found)
    elif args.verb == "status":
        from genjax.core import inspect

        found = [inspect.status(r) for r in inspect.run_folders(args.runs)]
        if args.json != "-":
            print(inspect.status_text(found))
        write_json(args.json, found)
    elif args.verb == "report":
        from genjax.core import report, sweep_run

        is_sweep = (Path(args.run) / sweep_run.SWEEP).is_file()
        print(sweep_run.report(Path(args.run)) if is_sweep else report.write(args.run))
    elif args.verb == "sample" and args.control is not None:
        from genjax.core import control

        options = [*args.control_options, *([] if args.n is None else [f"n={args.n}"])]
        print(control.listing(args.run) if not args.control else "\n".join(
            map(str, control.sample(args.run, args.control, options, args.snapshot, args.seed, args.out))))
    elif args.verb == "sample":
        from genjax.core import snapshot

        n = 16 if args.n is None else args.n
        print(snapshot.sample(args.run, args.snapshot, n, args.seed, args.out, args.classes))
    elif args.verb == "play":
        from genjax.core import play

        play.serve(args.run, args.snapshot, args.host, args.port, lambda line: print(line, flush=True))
    elif args.verb == "eval":
        from genjax.core import snapshot

        chosen = [f"task.evaluation.metrics={args.metrics}"] if args.metrics else []
        row = snapshot.evaluate(args.run, args.snapshot, [*chosen, *overrides])
        if row.keys() <= {"step"}:
            can = "evaluation" in snapshot.OpenedRun(args.run).config.task
            fix = "; add --metrics NAMES, e.g. --metrics fid (see eval --help)" if can else ": its task has no metrics"
            raise UserError(f"{args.run} measures nothing{fix}")
        if args.json != "-":
            print("\n".join(f"{k:24} {v}" for k, v in row.items()))
        write_json(args.json, row)
    elif args.verb == "convert":
        from genjax.gan import nvlabs

        print(nvlabs.convert_file(args.file, args.out, args.data))
    elif args.verb == "reproduce":
        from genjax.core import figure, train

        try:
            found = figure.reproduce(args.figure, args.scale, args.workdir, args.images, args.quiet)
        except train.Preempted as e:
            print(f"{e}; run the same command again to go on", file=sys.stderr)
            return train.PREEMPTED_EXIT
        if args.json != "-":
            print(figure.text(found))
        write_json(args.json, found.rows)
        return 0 if found.passed else 1
    elif args.verb == "sweep":
        from genjax.core import sweep_run

        code, rows = sweep_run.run(args, overrides)
        write_json(args.json, rows)
        return code
    elif args.verb == "verify-resume":
        from genjax.core import verify

        load()  # its mistakes are told before anything starts
        workdir = args.workdir or str(Path("runs/verify") / Path(_workdir(args, overrides)).relative_to("runs"))
        found = verify.verify(args.config, overrides, args.smoke, args.steps, args.kills, args.seed, workdir,
                              tell=print if args.json != "-" else lambda _: None, deterministic=args.deterministic)
        write_json(args.json, found)
        return 0 if all(r["equal"] for r in found) else 1
    elif args.verb == "bench":
        from genjax.core import bench

        rows = bench.bench(args.name, args.repeats, args.smoke)
        if args.json != "-":
            print(bench.text(rows))
        write_json(args.json, rows)
    return 0


def _workdir(args: argparse.Namespace, overrides: list[str]) -> str:
    """The default run folder: one per config and per set of overrides that change what is computed, so that the same
    command goes on with its run, and no other does."""
    from genjax.core.run import FREE

    name = args.config.removesuffix(".json").replace("configs/", "").replace(".py", "").replace(":", "-").strip("./")
    changes = sorted({o.partition("=")[0]: o for o in overrides if not o.startswith(FREE)}.values())
    mark = "-" + hashlib.sha1("\n".join(changes).encode()).hexdigest()[:6] if changes else ""
    return str(Path("runs") / (name + ("-smoke" if args.smoke else "") + mark))


def _train(args: argparse.Namespace, config, overrides: list[str]) -> int:
    from genjax.core import distributed, launchers, report, train

    workdir = args.workdir or _workdir(args, overrides)
    if launchers.starts_others(args):
        return launchers.train(args.argv, workdir, launchers.options(args))
    outcome = train.train(config, workdir, args.quiet, train.profile_steps(args.profile))
    if not distributed.main():
        return train.PREEMPTED_EXIT if outcome.preempted else 0
    if outcome.preempted:
        print(f"interrupted and saved at step {outcome.step}; run the same command again to go on", file=sys.stderr)
        return train.PREEMPTED_EXIT
    for key, value in outcome.metrics.items():
        print(f"{key:24} {value:.4f}")
    print(f"report: {report.write(workdir)}")
    outputs = Path(workdir) / "outputs"
    if any(outputs.glob("*.png")):
        print(f"pictures: {outputs}")
    return 0


def _too_large(error: Exception) -> str | None:
    """The one line for a program that does not fit into memory; None for any other error."""
    text = str(error).split("\n")[0]
    exhausted = "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower()
    if not (isinstance(error, MemoryError) or (type(error).__name__.endswith("RuntimeError") and exhausted)):
        return None
    return f"does not fit into memory ({text[:200] or 'no more left'}); lower config.data.size or the batch"


def one_line(argv: list[str] | None = None) -> int:
    """Parses, runs, and turns what the user can mend into one line and exit code 2."""
    sys.path.insert(0, str(ROOT))
    from genjax.core import launchers
    from genjax.errors import UserError

    terminal = logging.StreamHandler(sys.stderr)
    # Errors are the one line below (a run's log file has them too), and Orbax logs to these two what it then raises.
    terminal.addFilter(lambda r: r.name not in ("absl", "asyncio")
                       and not (r.name == "genjax" and r.levelno >= logging.ERROR))
    logging.raiseExceptions = False  # a log that cannot be written (the disk is full) is no news of its own
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[terminal])
    logging.getLogger("genjax").setLevel(logging.INFO)
    try:
        args, overrides = parse(sys.argv[1:] if argv is None else argv)
        if getattr(args, "quiet", False):
            terminal.setLevel(logging.WARNING)
        from genjax.core import backend

        if args.verb in LOOKING or launchers.starts_others(args):
            backend.leave_devices()
        else:
            if args.verb == "train":
                from genjax.core import distributed

                if args.deterministic:
                    backend.deterministic()
                distributed.start(args.coordinator, args.num_processes, args.process_id)
            backend.start()
        code = run(args, overrides)
        sys.stdout.flush()
        return code
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
    except BrokenPipeError:  # `| head` took what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as e:
        where = f" ({e.filename})" if e.filename else ""
        print(f"error: {e.strerror or e}{where}", file=sys.stderr)
    except (MemoryError, RuntimeError) as e:
        line = _too_large(e)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 2


def main(argv: list[str] | None = None) -> int:
    """`one_line`, and an end for one of several processes that does not wait for the others."""
    lost, code = None, 1
    try:
        code = one_line(argv)
    except Exception as e:
        from genjax.core import distributed, train

        if isinstance(e, distributed.PeerLost):
            print(f"error: another process of this run is gone ({e}); start all of them again to go on from the newest"
                  " checkpoint", file=sys.stderr)
            code = lost = train.PREEMPTED_EXIT
        elif not distributed.joined():
            raise
        else:
            traceback.print_exc()
    if "genjax.core.distributed" in sys.modules:
        from genjax.core import distributed

        distributed.leave(code, in_order=not lost and code in (0, 75))
    return code


def _in_background(report):
    """A hook for exceptions in threads: a writer (Orbax, tensorboardX) that fails there fails in `main` too."""
    def hook(args):
        if not isinstance(args.exc_value, (OSError, RuntimeError)):
            report(args)
    return hook


if __name__ == "__main__":
    from genjax.core import backend

    backend.huge_pages()
    sys.unraisablehook, threading.excepthook = map(_in_background, (sys.__unraisablehook__, threading.__excepthook__))
    sys.exit(main())
