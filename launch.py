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

import logging
import os
import sys
import threading
import traceback

from genjax.core import backend, launchers
from genjax.errors import UserError
from genjax.verbs import VERBS, arguments
from genjax.verbs.command_line import parse
from genjax.viz import waiting


class Terminal(logging.StreamHandler):
    """Log lines on standard error, above the line that ticks."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one."""
        with waiting.aside():
            super().emit(record)


def _too_large(error: Exception) -> str | None:
    """The one line for a program that does not fit into memory; None for any other error."""
    text = str(error).split("\n")[0]
    exhausted = "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower()
    if not (isinstance(error, MemoryError) or (type(error).__name__.endswith("RuntimeError") and exhausted)):
        return None
    return (f"does not fit into memory ({text[:200] or 'no more left'}); train on smaller pictures or batches (plan"
            " says what needs how much)")


def one_line(argv: list[str] | None = None) -> int:
    """Parses, runs, and turns what the user can mend into one line and exit code 2."""
    terminal = Terminal(sys.stderr)
    # Errors are the one line below (a run's log file has them too), and Orbax logs to these two what it then raises.
    terminal.addFilter(lambda r: r.name not in ("absl", "asyncio")
                       and not (r.name == "genjax" and r.levelno >= logging.ERROR))
    logging.raiseExceptions = False  # a log that cannot be written (the disk is full) is no news of its own
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[terminal])
    logging.getLogger("genjax").setLevel(logging.INFO)
    try:
        args, overrides = parse(sys.argv[1:] if argv is None else argv, __doc__)
        waiting.quiet(getattr(args, "quiet", False))
        if getattr(args, "quiet", False):
            terminal.setLevel(logging.WARNING)
        arguments.check(args)
        verb = VERBS[args.verb]
        if verb.LOOKS or launchers.starts_others(args):
            backend.leave_devices()
        else:
            if args.verb == "train":
                from genjax.core import distributed

                if args.deterministic:
                    backend.deterministic()
                distributed.start(args.coordinator, args.num_processes, args.process_id)
            backend.start()
        code = verb.run(args, overrides)
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


def computes(argv: list[str]) -> bool:
    """Whether a command line asks for more than a look: starting again for huge pages then pays."""
    return argv[:1] != [] and argv[0] in VERBS and not VERBS[argv[0]].LOOKS and not {"-h", "--help"} & set(argv)


def _in_background(report):
    """A hook for exceptions in threads: a writer (Orbax, tensorboardX) that fails there fails in `main` too."""
    def hook(args):
        if not isinstance(args.exc_value, (OSError, RuntimeError)):
            report(args)
    return hook


if __name__ == "__main__":
    if computes(sys.argv[1:]):
        backend.huge_pages()
    sys.unraisablehook, threading.excepthook = map(_in_background, (sys.__unraisablehook__, threading.__excepthook__))
    sys.exit(main())
