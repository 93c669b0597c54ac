"""Where runs are started: as processes here, on SLURM, or on a TPU pod; one flag, `--on`, chooses.

A job is what follows `python launch.py`, with the run folder it works in. Because a run resumes by itself, "start" and
"start again" are the same command everywhere, and a launcher's only duties are to hand signals on (SIGTERM saves), to
keep every exit code, and to keep each run's terminal output beside its folder.
"""

import argparse
import contextlib
import math
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

from genjax.core import gpus
from genjax.errors import UserError

# Without importing jax, which a launcher leaves to the runs: config.ROOT and train.PREEMPTED_EXIT.
ROOT = Path(__file__).resolve().parents[2]
PREEMPTED = 75
ARRAY_PARALLEL = 8  # runs of one SLURM array that go at a time, where --max-parallel does not say
Tick = Callable[[dict[str, str]], None]


@dataclass(frozen=True)
class Job:
    """One run: `python launch.py ARGS` works in `folder`, as one process or several that find each other."""

    name: str
    args: tuple[str, ...]
    folder: Path
    processes: int = 1

    def log(self, process: int = 0) -> Path:
        """Where the terminal output goes: beside the folder, since `train` makes the folder itself."""
        mark = f".{process}" if process else ""
        return self.folder.parent / f"{self.folder.name}{mark}.log"


@dataclass(frozen=True)
class Options:
    """Where and how jobs are started; made by `options` from the flags."""

    on: Literal["local", "slurm", "tpu-pod"] = "local"
    processes: int = 1
    max_parallel: int = 1
    dry_run: bool = False
    gpus: tuple[str, ...] = ()  # CUDA_VISIBLE_DEVICES of each process that runs at once; empty: all of them see all
    slot: int | None = None  # of a single job, among `max_parallel`; None: the first that is free
    # SLURM
    partition: str | None = None
    account: str | None = None
    time: int = 240  # minutes
    nodes: int = 1
    gpus_per_node: int | None = None
    cpus_per_task: int | None = None
    mem: str | None = None
    sbatch: tuple[tuple[str, str | bool], ...] = ()
    # TPU pod
    tpu: str | None = None
    zone: str | None = None
    project: str | None = None
    tpu_setup: str = "cd genjax && . .venv/bin/activate"


def _minutes(text: str) -> int:
    """SLURM's forms of a time limit: M, H:M:S, D-H, D-H:M:S and so on; whole minutes, rounded up."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if not found:
        raise UserError(f"--time {text} is no time limit; write minutes (90), H:MM:SS (1:30:00) or D-HH:MM:SS")
    days, a, b, c = (int(x or 0) for x in found.groups())
    if found[1] is not None or found[4] is not None:
        hours, minutes, seconds = a, b, c
    else:  # M or M:S
        hours, minutes, seconds = 0, a, b
    total = days * 1440 + hours * 60 + minutes + math.ceil(seconds / 60)
    if not total:
        raise UserError(f"--time {text} is no time at all; the default is 4 hours")
    return total


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text!r}")
    return int(text)


_JOINING = ("--coordinator", "--num-processes", "--process-id")  # of `train`, see genjax/verbs/train.py
# Flags of one place only: (flag, metavar, type, help).
_SLURM = (
    ("--partition", "NAME", str, "partition (default: the cluster's)"),
    ("--account", "NAME", str, "account to charge"),
    ("--time", "LIMIT", str, "time limit of one stretch, as sbatch takes it: 90, 1:30:00, 2-00:00:00 (default 4 hours);"
                             " a run that needs longer is saved, requeued and goes on"),
    ("--nodes", "N", _count, "nodes that the processes are spread over (default 1)"),
    ("--gpus-per-node", "N", _count, "GPUs on each node; every one gets a process of its own"),
    ("--cpus-per-task", "N", _count, "cores per process"),
    ("--mem", "SIZE", str, "memory per node, e.g. 32GB"),
    ("--sbatch", "KEY=VALUE", str, "any other option of sbatch, e.g. --sbatch constraint=a100 (repeatable)"),
)
_TPU = (
    ("--tpu", "NAME", str, "name of the TPU VM or pod slice"),
    ("--zone", "ZONE", str, "its zone"),
    ("--project", "PROJECT", str, "its project (default: gcloud's)"),
    ("--tpu-setup", "COMMANDS", str, f"what each worker does first (default {Options.tpu_setup!r}); the workdir must be"
                                     " a folder that all workers share"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--on`, `--processes`, `--dry-run` and the flags of SLURM and TPU pods to a verb."""
    parser.add_argument("--on", choices=("local", "slurm", "tpu-pod"), default="local",
                        help="start here (default), submit to SLURM, or print the gcloud command for a TPU pod")
    parser.add_argument("--processes", type=_count, metavar="N",
                        help="processes per run, which share its devices and its batch (default 1; on SLURM one for"
                             " each GPU of --gpus-per-node on each of --nodes, else one for each node)")
    parser.add_argument("--dry-run", action="store_true", help="print what would be started or submitted, and end")
    for title, flags in (("with --on slurm", _SLURM), ("with --on tpu-pod", _TPU)):
        group = parser.add_argument_group(title)
        for flag, metavar, kind, text in flags:
            group.add_argument(flag, metavar=metavar, type=kind, help=text.replace("%", "%%"),
                               **({"action": "append"} if flag == "--sbatch" else {}))


def options(args: argparse.Namespace, max_parallel: int | None = None) -> Options:
    """The checked options of a command line with `add_arguments`.

    Args:
      args: the parsed command line.
      max_parallel: of several runs how many go at a time; None: one here, `ARRAY_PARALLEL` on SLURM.

    Raises:
      UserError: a flag of another place, or values that cannot be.
    """
    for place, flags in (("slurm", _SLURM), ("tpu-pod", _TPU)):
        for flag, *_ in flags:
            if args.on != place and getattr(args, _key(flag)) is not None:
                raise UserError(f"{flag} goes with --on {place}; add that, or leave it out")
    names = {f.name for f in fields(Options)} - {"max_parallel", "time", "sbatch", "gpus", "slot"}
    given = {n: getattr(args, n) for n in names if getattr(args, n) is not None}
    if args.time is not None:
        given["time"] = _minutes(args.time)
    if max_parallel is None:
        max_parallel = ARRAY_PARALLEL if args.on == "slurm" else 1
    found = Options(max_parallel=max_parallel, sbatch=tuple(map(_pair, args.sbatch or ())), **given)
    if found.on == "slurm":
        found = _spread(found, args.processes)
    if found.on == "tpu-pod":
        missing = [f for f in ("--tpu", "--zone") if getattr(found, _key(f)) is None]
        if missing:
            raise UserError(f"--on tpu-pod needs {' and '.join(missing)}")
        if found.processes > 1:
            raise UserError("--processes is set by the TPU pod itself, one per worker; leave it out")
    joins = [f for f in _JOINING if getattr(args, _key(f), None) is not None]
    if joins and (found.on != "local" or found.processes > 1):
        starts = f"--on {found.on}" if found.on != "local" else "--processes"
        raise UserError(f"{joins[0]} makes this process one of several, and {starts} starts all of them and tells each"
                        " who it is; leave one of the two out")
    if found.on == "local" and not getattr(args, "status", False):
        several = {"--max-parallel": max_parallel, "--processes": found.processes}
        flags = " ".join(f"{flag} {n}" for flag, n in several.items() if n > 1)
        found = replace(found, gpus=gpus.shares(max_parallel * found.processes, flags))
    return found


def _spread(found: Options, processes: int | None) -> Options:
    """SLURM's options with the number of processes that nodes and GPUs ask for, where none was given."""
    slots = found.nodes * (found.gpus_per_node or 1)
    if processes is None:
        return replace(found, processes=slots)
    if processes % found.nodes:
        raise UserError(f"--processes {processes} cannot be spread evenly over --nodes {found.nodes}")
    if found.gpus_per_node and processes not in (1, slots):  # a single process takes all GPUs of its node
        raise UserError(f"--processes {processes} contradicts --nodes {found.nodes} --gpus-per-node"
                        f" {found.gpus_per_node}, which are {slots} processes of one GPU each; leave --processes out")
    return found


def _key(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")


def _pair(item: str) -> tuple[str, str | bool]:
    key, equals, value = item.lstrip("-").partition("=")
    if not re.fullmatch(r"[a-z][a-z-]*", key):
        raise UserError(f"--sbatch {item} is not KEY=VALUE with an option of sbatch, e.g. --sbatch constraint=a100")
    return key, value if equals else True


def starts_others(args: argparse.Namespace) -> bool:
    """Whether a command line hands its run to other processes: then it must leave the devices to them."""
    return hasattr(args, "on") and (args.on != "local" or (args.processes or 1) > 1 or args.dry_run)


def without_flags(argv: Sequence[str]) -> tuple[str, ...]:
    """A command line without the flags of `add_arguments`: what the started process is given."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_arguments(parser)
    return tuple(parser.parse_known_args(list(argv))[1])


def launch(jobs: Sequence[Job], options: Options, tick: Tick | None = None) -> dict[str, int]:
    """Starts jobs where the options say; here it waits for them, elsewhere it returns once they are handed over.

    Args:
      jobs: with names that differ.
      options: from `options`; at most `max_parallel` jobs run at a time.
      tick: called about once a second with every job's state: "waiting", "running" or "exit N".

    Returns:
      Exit codes by name, death by a signal as 128 + signal; empty where nothing was waited for.

    Raises:
      Preempted: SIGTERM or SIGINT ended it; the signal was handed on and every run has saved.
      UserError: it cannot be started or submitted.
    """
    if options.on == "slurm":
        from genjax.core import launcher_slurm

        launcher_slurm.submit(jobs, options)
    elif options.on == "tpu-pod":
        for job in jobs:
            print(_gcloud(job, options))
    elif options.dry_run:
        for i, job in enumerate(jobs):
            _print(job, _environments(job, options, i % options.max_parallel))
    else:
        return _local(jobs, options, tick)
    return {}


def train(argv: Sequence[str], workdir: str, options: Options) -> int:
    """`launch.py train` with launcher flags: one job; here, the output of process 0 is shown. Returns the exit code."""
    args = without_flags(argv)
    if not any(a == "--workdir" or a.startswith("--workdir=") for a in args):
        args += ("--workdir", workdir)
    folder = Path(workdir)
    job = Job(folder.name, args, folder, options.processes)
    if options.on != "local":
        launch([job], options)
    elif options.dry_run:
        _print(job, _environments(job, options, 0), shown=True)
    else:
        return _local([job], options, None, shown=True)[job.name]
    return 0


def tied(to_end_by: signal.Signals) -> list[str]:
    """What to put before a command so that it gets this signal if its parent is killed (Linux; elsewhere nothing)."""
    return ["setpriv", "--pdeathsig", to_end_by.name[3:]] if shutil.which("setpriv") else []


def last_words(log: Path) -> str:
    """The last error line of a process, else the last line it said; empty where it said nothing."""
    try:
        said = [s for s in log.read_text(errors="replace").splitlines()[-50:] if s.strip()]
    except OSError:
        return ""
    errors = [s for s in said if s.startswith("error: ")]
    return (errors or said)[-1].strip() if said else ""


def exit_code(returncode: int) -> int:
    """A process's return code as a shell gives it."""
    return 128 - returncode if returncode < 0 else returncode


def python(job: Job) -> list[str]:
    """The command of a job's process."""
    return [sys.executable, str(ROOT / "launch.py"), *job.args]


def _commands(job: Job) -> list[list[str]]:
    """One command per process; several are told where to meet."""
    one = [*tied(signal.SIGTERM), *python(job)]
    if job.processes == 1:
        return [one]
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    meet = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(job.processes), "--process-id"]
    return [[*one, *meet, str(i)] for i in range(job.processes)]


def _environments(job: Job, options: Options, slot: int) -> list[dict[str, str]]:
    """What each process of a job finds in its environment beside this one's: the GPUs of its slot."""
    mine = options.gpus[slot * job.processes:(slot + 1) * job.processes]
    if not mine:
        return [{}] * job.processes
    # The second, because inside a cluster's job jax would choose among them by that cluster's numbers.
    return [{"CUDA_VISIBLE_DEVICES": g, "JAX_LOCAL_DEVICE_IDS": ",".join(map(str, range(g.count(",") + 1)))}
            for g in mine]


def _print(job: Job, environments: list[dict[str, str]], shown: bool = False) -> None:
    """A job's processes as lines for a shell. `shown`: process 0 writes to the terminal."""
    if shown and job.processes == 1:  # `train` itself
        print(shlex.join(python(job)))
        return
    for i, argv in enumerate(_commands(job)):
        to = "" if shown and i == 0 else f" >> {shlex.quote(str(job.log(i)))} 2>&1"
        more = "".join(f"{k}={v} " for k, v in environments[i].items())
        print(f"{more}{shlex.join(argv)}{to}{' &' * (job.processes > 1)}")


def _gcloud(job: Job, options: Options) -> str:
    there = f"{options.tpu_setup} && python launch.py {shlex.join(job.args)}"
    project = [f"--project={options.project}"] if options.project else []
    return shlex.join(["gcloud", "compute", "tpus", "tpu-vm", "ssh", options.tpu, f"--zone={options.zone}", *project,
                       "--worker=all", f"--command={there}"])


class _Running:
    """The processes of one job."""

    def __init__(self, job: Job, slot: int, environments: list[dict[str, str]], shown: bool):
        self.slot = slot
        self.left: list[subprocess.Popen] = []
        self.codes: list[int] = []  # of those that have ended, in the order of their ends
        try:
            job.folder.parent.mkdir(parents=True, exist_ok=True)
            for i, argv in enumerate(_commands(job)):
                with contextlib.ExitStack() as stack:
                    out = None if shown and i == 0 else stack.enter_context(job.log(i).open("ab"))
                    # A session of its own: Ctrl+C reaches the launcher alone, which hands it on once.
                    self.left.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out,
                                                      stderr=subprocess.STDOUT if out else None,
                                                      start_new_session=True, env={**os.environ, **environments[i]}))
        except OSError as e:
            self.stop()
            raise UserError(f"cannot start {job.name}: {e.strerror} ({e.filename}); choose another --workdir") from None

    def poll(self) -> int | None:
        """The job's exit code once all its processes have ended: the first failure's, 75 only if nothing failed."""
        for p in [p for p in self.left if p.poll() is not None]:
            self.left.remove(p)
            self.codes.append(exit_code(p.returncode))
        if self.left:
            return None
        return next((c for c in self.codes if c not in (0, PREEMPTED)), max(self.codes))

    def terminate(self) -> None:
        """Asks every process to save and end."""
        for p in self.left:
            p.terminate()

    def stop(self) -> None:
        """Nothing stays behind."""
        self.terminate()
        for p in self.left:
            p.wait()


@contextlib.contextmanager
def remembering(got: list[int]) -> Iterator[None]:
    """SIGTERM and SIGINT are noted in `got` instead of ending this process."""
    old = {}
    if threading.current_thread() is threading.main_thread():
        for sig in (signal.SIGTERM, signal.SIGINT):
            old[sig] = signal.signal(sig, lambda s, _: got.append(s))
    try:
        yield
    finally:
        for sig, handler in old.items():
            signal.signal(sig, handler)


def _local(jobs: Sequence[Job], options: Options, tick: Tick | None, shown: bool = False) -> dict[str, int]:
    """Runs jobs as processes; see `launch`. `shown`: process 0 of each writes to this terminal, not to a file."""
    waiting, running, codes = deque(jobs), {}, {}
    free = list(range(options.max_parallel)) if options.slot is None else [options.slot]
    got: list[int] = []
    handed_on, told = 0, -math.inf
    with remembering(got):
        try:
            while running or (waiting and not got):
                while waiting and len(running) < options.max_parallel and not got:
                    job, slot = waiting.popleft(), min(free)
                    running[job.name] = _Running(job, slot, _environments(job, options, slot), shown)
                    free.remove(slot)
                for _ in got[handed_on:]:  # a second signal means "now", to the runs too
                    handed_on += 1
                    for r in running.values():
                        r.terminate()
                for name, r in list(running.items()):
                    code = r.poll()
                    if code is not None:
                        codes[name] = code
                        free.append(running.pop(name).slot)
                        told = -math.inf
                if tick and time.monotonic() - told >= 1:
                    told = time.monotonic()
                    tick({j.name: f"exit {codes[j.name]}" if j.name in codes else
                          "running" if j.name in running else "waiting" for j in jobs})
                if running:
                    time.sleep(0.05)
        finally:  # something above failed
            for r in running.values():
                r.stop()
    if got and not shown and (waiting or any(codes.values())):
        from genjax.core.train import Preempted

        ended = sum(c == 0 for c in codes.values())
        raise Preempted(f"interrupted with {ended} of {len(jobs)} runs ended")
    return codes
