"""`--on slurm`: submitit writes the sbatch script and keeps a job's state; a run is saved and requeued, never cut off.

SLURM ends a job in two ways. Preempted, every process of it gets SIGTERM and SLURM itself requeues the job. Before the
time limit, every process gets SIGUSR2 (sbatch's --signal), and submitit requeues the job. Either way the same command
starts again and resumes. What SLURM runs is an `Attempt`: `launch.py train` as a child that hears of the end exactly
once, however often and to whomever SLURM says it.
"""

import contextlib
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from genjax.core.launchers import PREEMPTED, ROOT, Job, Options, exit_code, last_words, python, tied
from genjax.errors import UserError

# How a run ends that was asked to: saved; or, before it had anything to save, interrupted or ended by the signal.
ASKED = (PREEMPTED, 128 + signal.SIGINT, 128 + signal.SIGTERM)
WARNING_SECONDS = 90  # submitit's, between SIGUSR2 and the time limit
REQUEUES = 1000  # time limits one run may meet; submitit's own default is 3


class Attempt:
    """A run as submitit sees it, pickled into the job: called at each start, in each of its tasks."""

    def __init__(self, job: Job):
        self.argv = python(job)
        self.logs = [str(job.log(i).absolute()) for i in range(job.processes)]
        self.folder = str(job.folder.absolute())
        self.cwd = str(Path.cwd())

    def checkpoint(self) -> Any:
        """What submitit starts when the job is requeued: the same."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def __call__(self) -> None:
        """Runs the command; ends well, raises its failure, or has the job requeued."""
        import submitit

        task = submitit.JobEnvironment()
        limit = signal.Signals[f"SIG{task.USR_SIG}"]  # what submitit has SLURM send before the time limit
        requeue = signal.getsignal(limit)  # submitit's handler
        got: list[int] = []
        for sig in (signal.SIGTERM, signal.SIGINT, limit):
            signal.signal(sig, lambda s, _: got.append(s))
        log = self.logs[task.global_rank]
        code = self._run(log, got, {limit}, alone=len(self.logs) == 1)
        if code == 0:
            return
        if code not in ASKED or not got:  # 75 unasked: another task is gone, and its failure is the job's
            if code != PREEMPTED and not (got and code >= 128):  # killed while it saved: it goes on from before
                self._failed(code, log)
            raise RuntimeError(f"exit code {code} from {shlex.join(self.argv)}; its output is in {log}")
        if limit not in got:  # preempted, or cancelled: what comes now is SLURM's affair
            sys.exit(PREEMPTED)
        requeue(limit, None)  # ends the process; in other tasks than the first it does nothing

    def _failed(self, code: int, log: str) -> None:
        """Marks a run that broke down without a mark of its own, so that it stays failed; the log says why."""
        from genjax.core.run import RunFolder

        reason = last_words(Path(log))
        if not reason.startswith("error: "):
            reason = f"error: exit code {code}" + f" ({reason[:200]})" * bool(reason)
            with contextlib.suppress(OSError), open(log, "a") as file:
                file.write(f"{reason}\n")
        folder = RunFolder(self.folder)
        for _ in range(60 if len(self.logs) > 1 else 1):  # the other tasks of this run end too
            if not folder.busy():
                break
            time.sleep(0.5)
        else:
            return  # another process has the run: this one only came too late
        mark, info = folder.state()
        # A preempted run that a `stop` metric had ended needs its mark, to end where it would have.
        if folder.config_file.exists() and (mark == "running" or mark == "preempted" and not info.get("stopped")):
            with contextlib.suppress(OSError):
                folder.mark("FAILED", step=info.get("step", 0), reason=reason.removeprefix("error: "), exit_code=code)

    def _run(self, log: str, got: list[int], unheard: set[int], alone: bool) -> int:
        """The child's exit code. It inherits blocked signals, so that only this process's word reaches it.

        Several processes keep SIGTERM, which jax's preemption service waits for and may hear twice; a single one would
        take a second signal for "at once".
        """
        word = signal.SIGINT if alone else signal.SIGTERM
        unheard |= {signal.SIGTERM} if alone else set()
        with open(log, "ab") as out:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, unheard)
            try:
                child = subprocess.Popen([*tied(signal.SIGKILL), *self.argv], cwd=self.cwd, stdin=subprocess.DEVNULL,
                                         stdout=out, stderr=subprocess.STDOUT)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        told = False
        while child.poll() is None:
            if got and not told:
                child.send_signal(word)
                told = True
            time.sleep(0.05)
        return exit_code(child.returncode)


def token(jobs: Sequence[Job]) -> str:
    """What marks the job of these runs in SLURM (its comment): known before it is submitted, the same every time."""
    first, names = jobs[0], " ".join(j.name for j in jobs)
    return "genjax:" + hashlib.sha1(f"{first.folder.parent.resolve()} {names}".encode()).hexdigest()[:12]


def alive() -> dict[str, str]:
    """This user's waiting and running jobs, the elements of arrays one by one: {job: "token:index"}.

    Raises:
      UserError: squeue does not answer.
    """
    try:
        said = subprocess.run(["squeue", "--me", "--noheader", "--array", "--format=%i %k"], capture_output=True,
                              text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as e:
        reason = " ".join((getattr(e, "stderr", None) or str(e)).split())[:200]
        raise UserError(f"squeue does not say which jobs are in SLURM's queue ({reason})") from None
    rows = (line.split(maxsplit=1) for line in said.splitlines() if line.strip())
    return {job: f"{' '.join(comment)}:{job.partition('_')[2] or 0}" for job, *comment in rows}


def import_submitit():
    """The module, without the logging of the whole process that it sets up when imported (jobs have that).

    Raises:
      UserError: it is not installed.
    """
    key = "SUBMITIT_LOG_LEVEL"
    level = os.environ.get(key)
    os.environ[key] = "NOCONFIG"
    try:
        import submitit
    except ImportError:
        raise UserError("--on slurm needs submitit: pip install -r requirements-cluster.txt") from None
    finally:
        del os.environ[key]
        if level is not None:
            os.environ[key] = level
    return submitit


def _parameters(jobs: Sequence[Job], options: Options) -> dict[str, Any]:
    """What sbatch is asked for these jobs, which have the same number of processes: {option: value}."""
    first = jobs[0]
    name = first.folder.name if len(jobs) == 1 else "-".join(first.folder.parent.absolute().parts[-2:])
    given = {"partition": options.partition, "account": options.account, "mem": options.mem,
             "gpus_per_node": options.gpus_per_node, "cpus_per_task": options.cpus_per_task}
    return {"job_name": name, "time": options.time, "nodes": options.nodes, "comment": token(jobs),
            "ntasks_per_node": first.processes // options.nodes, **{k: v for k, v in given.items() if v is not None}}


def _more(options: Options) -> dict[str, str | bool]:
    """The options of sbatch that submitit has no name for."""
    return {"requeue": True, **{k.replace("-", "_"): v for k, v in options.sbatch}}


def _outline(jobs: Sequence[Job], options: Options) -> str:
    """The lines for sbatch that a submission of these jobs has, where submitit, which writes the script, is missing."""
    wanted = {**_parameters(jobs, options), **_more(options), "signal": f"USR2@{WARNING_SECONDS}"}
    if len(jobs) > 1:
        wanted["array"] = f"0-{len(jobs) - 1}%{min(len(jobs), options.max_parallel)}"
    lines = (f"--{k.replace('_', '-')}" + (f"={v}" if v is not True else "") for k, v in sorted(wanted.items()))
    return "\n".join(["#!/bin/bash", *(f"#SBATCH {line}" for line in lines)])


def _executor(jobs: Sequence[Job], options: Options):
    """submitit's executor with the sbatch parameters for these jobs, which have the same number of processes."""
    slurm = import_submitit().SlurmExecutor

    class Dry(slurm):  # shows the script where there is no SLURM
        @classmethod
        def affinity(cls) -> int:
            return 2

    first = jobs[0]
    executor = (Dry if options.dry_run else slurm)(first.folder.parent / "slurm", max_num_timeout=REQUEUES)
    # srun no longer takes the number of cores from sbatch (SLURM 22.05).
    cores = {"srun_args": [f"--cpus-per-task={options.cpus_per_task}"]} if options.cpus_per_task else {}
    executor.update_parameters(
        **_parameters(jobs, options), **cores, array_parallelism=options.max_parallel, stderr_to_stdout=True,
        setup=[f"export PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}"],
        additional_parameters=_more(options))
    return executor


def submit(jobs: Sequence[Job], options: Options) -> None:
    """Submits jobs as one array (one for each number of processes), and prints where they are; or prints the script
    (without submitit, which a dry run does not need, what the script asks of SLURM).

    Raises:
      UserError: no submitit, no SLURM, or sbatch refuses.
    """
    if not options.dry_run:
        import_submitit()
    if not options.dry_run and not shutil.which("sbatch"):
        raise UserError("--on slurm: there is no sbatch here; run it where SLURM is, or look with --dry-run")
    for _, group in groupby(sorted(jobs, key=lambda j: j.processes), key=lambda j: j.processes):
        group = list(group)
        there = {} if options.dry_run else alive()
        same = [job for job, mark in there.items() if mark.rpartition(":")[0] == token(group)]
        if same:
            job = same[0].split("_")[0]
            raise UserError(f"job {job} trains in {group[0].folder} already (squeue -j {job} shows it); wait for it, or"
                            f" scancel {job}, which saves, and submit again")
        _submit(group, options)


def _script(jobs: Sequence[Job], options: Options) -> str:
    """What would be handed to sbatch."""
    try:
        executor = _executor(jobs, options)
    except UserError:
        print("submitit is not installed: these are its script's lines for SLURM; to submit, pip install -r"
              " requirements-cluster.txt", file=sys.stderr)
        return _outline(jobs, options)
    if len(jobs) > 1:
        executor.parameters["map_count"] = len(jobs)
    return executor._make_submission_file_text(executor._submitit_command_str, "").rstrip()


def _submit(jobs: list[Job], options: Options) -> None:
    if options.dry_run:
        print(_script(jobs, options))
        for i, job in enumerate(jobs):
            print(f"# {f'array task {i}' if len(jobs) > 1 else 'each task'} runs: {shlex.join(python(job))}")
        return
    executor = _executor(jobs, options)
    before = set(executor.folder.glob("*")) if executor.folder.exists() else set()
    try:
        for folder in (executor.folder, *(j.folder.parent for j in jobs)):
            folder.mkdir(parents=True, exist_ok=True)
        found = executor.submit_array([Attempt(j) for j in jobs])
    except (OSError, RuntimeError) as e:
        with contextlib.suppress(OSError):
            for litter in set(executor.folder.glob("*")) - before:
                litter.unlink()
            if not before:
                executor.folder.rmdir()
        raise UserError(f"SLURM did not take it ({' '.join(str(e).split())[:300] or type(e).__name__})") from None
    first = found[0].job_id.split("_")[0]
    many = f"s, {min(len(jobs), options.max_parallel)} at a time (--max-parallel)" if len(jobs) > 1 else ""
    print(f"submitted job {first}: {len(jobs)} run{many}; squeue -j {first} shows it, scancel {first}"
          f" ends it, SLURM's own messages are in {executor.folder}")
    for at, job in zip(found, jobs, strict=True):
        print(f"  {at.job_id}  {job.folder}  output: {job.log()}")
