"""Launchers: local processes for real, submitit through its local executor, SLURM's and gcloud's words as printed."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import launch
from genjax.core import launcher_slurm, launchers
from genjax.core.launchers import Job, Options
from genjax.core.train import Preempted
from genjax.errors import UserError
from genjax.verbs import arguments
from genjax.viz import jsonl

TOY = ("train", "--config", "tests/core/toy_config.py:steps=30,save=10", "--config.data.pause=0.03", "--quiet")
# In the place of launch.py where only exit codes and signals matter.
STUB = """
import signal, sys, time
from pathlib import Path
what, code = sys.argv[1], int(sys.argv[2])
heard = []
def hear(sig, frame):
    heard.append(signal.Signals(sig).name)
for sig in (signal.SIGTERM, signal.SIGINT):
    signal.signal(sig, hear)
print("args", *sys.argv[3:], flush=True)
end = time.time() + (60 if what == "wait" else 0)
while time.time() < end and not heard:
    time.sleep(0.01)
if what == "wait":
    time.sleep(0.5)
    print("heard", *heard, flush=True)
if what == "die":
    import os
    os.kill(os.getpid(), signal.SIGKILL)
if what == "late":
    time.sleep(0.5)
sys.exit(code)
"""


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """Jobs of the stub: stub(name, what, code, processes)."""
    file = tmp_path / "stub.py"
    file.write_text(STUB)
    monkeypatch.setattr(launchers, "python", lambda job: [sys.executable, str(file), *job.args])
    return lambda name, what="end", code=0, processes=1: Job(
        name, (what, str(code)), tmp_path / "runs" / name, processes)


def wait_until(happened, seconds=60):
    end = time.time() + seconds
    while not happened():
        assert time.time() < end, "nothing happened"
        time.sleep(0.02)


def status(capsys, run):
    capsys.readouterr()
    assert launch.main(["status", str(run), "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)[0]


@pytest.fixture(scope="module")
def digest(tmp_path_factory):
    """The digest of the toy run left alone."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert launch.main([*TOY, "--workdir", str(run), "--config.data.pause=0"]) == 0
    from genjax.core import inspect

    return inspect.status(str(run))["digest"]


def trained(run, steps):
    """Whether the run has trained so many steps."""
    rows = jsonl.read(run / "metrics.jsonl") if (run / "metrics.jsonl").exists() else []
    return len([r for r in rows if r["kind"] == "train"]) >= steps


# Local processes


def test_exit_codes_states_and_logs(stub, tmp_path):
    jobs = [stub("a"), stub("b", code=3), stub("c", "die"), stub("d", code=75)]
    seen = []
    codes = launchers.launch(jobs, Options(max_parallel=2), seen.append)
    assert codes == {"a": 0, "b": 3, "c": 128 + signal.SIGKILL, "d": 75}
    assert seen[-1] == {"a": "exit 0", "b": "exit 3", "c": "exit 137", "d": "exit 75"}
    assert "waiting" in seen[0].values() and "running" in seen[0].values()
    assert all(list(s.values()).count("running") <= 2 for s in seen)
    assert (tmp_path / "runs" / "a.log").read_text() == "args\n"
    assert not (tmp_path / "runs" / "a").exists(), "the run makes its folder itself"


def test_several_processes_are_told_where_to_meet(stub, tmp_path):
    jobs = [stub("a", processes=2), stub("b", processes=2)]
    assert launchers.launch(jobs, Options(max_parallel=2)) == {"a": 0, "b": 0}
    ports = set()
    for name in "ab":
        words = [(tmp_path / "runs" / f"{name}{i}.log").read_text().split() for i in ("", ".1")]
        assert [w[3:] for w in words] == [["--num-processes", "2", "--process-id", str(i)] for i in (0, 1)]
        assert words[0][1:3] == words[1][1:3] and words[0][2].startswith("127.0.0.1:")
        ports.add(words[0][2])
    assert len(ports) == 2, "each run has its own"


@pytest.mark.parametrize("codes, want", [((75, 1), 1), ((75, 0), 75), ((137, 1), 137), ((0, 0), 0)])
def test_the_code_of_several_processes_is_the_first_failure(codes, want):
    running = launchers._Running.__new__(launchers._Running)
    running.left, running.codes = [], list(codes)
    assert running.poll() == want


def test_a_signal_is_handed_on_and_nothing_new_starts(stub, tmp_path):
    jobs = [stub("a", "wait", 75, processes=2), stub("b")]

    def tick(states):
        if all((tmp_path / "runs" / f).exists() and "args" in (tmp_path / "runs" / f).read_text()
               for f in ("a.log", "a.1.log")):
            os.kill(os.getpid(), signal.SIGINT)
            tick.sent += 1

    tick.sent = 0
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted, match="0 of 2 runs ended"):
        launchers.launch(jobs, Options(), tick)
    assert tick.sent >= 1 and signal.getsignal(signal.SIGTERM) is handler
    for f in ("a.log", "a.1.log"):
        assert "heard SIGTERM" in (tmp_path / "runs" / f).read_text()
    assert not (tmp_path / "runs" / "b.log").exists()


def test_nothing_stays_behind_when_a_start_or_the_table_fails(stub, tmp_path):
    def tick(states):
        wait_until(lambda: "args" in (tmp_path / "runs" / "a.log").read_text())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        launchers.launch([stub("a", "wait")], Options(), tick)
    assert "heard SIGTERM" in (tmp_path / "runs" / "a.log").read_text()
    (tmp_path / "runs" / "b.log").mkdir()
    with pytest.raises(UserError, match="cannot start b.*b.log"):
        launchers.launch([stub("b")], Options())


@pytest.mark.parametrize("how", ["Ctrl+C", "SIGKILL"])
def test_runs_hear_once_of_an_ended_launcher(stub, tmp_path, how):
    """Ctrl+C goes to every process of a terminal; and an orphan would go on beside what a restarted sweep starts."""
    if how == "SIGKILL" and not launchers.tied(signal.SIGTERM):
        pytest.skip("setpriv (util-linux) is not here")
    code = ("import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; "
            "from genjax.core import launchers as l; l.python = lambda job: [sys.executable, sys.argv[2], *job.args];"
            "l.launch([l.Job('a', ('wait', '75'), Path(sys.argv[3]))], l.Options())")
    run = tmp_path / "runs" / "a"
    process = subprocess.Popen([sys.executable, "-c", code, str(launchers.ROOT), str(tmp_path / "stub.py"), str(run)],
                               start_new_session=True, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "runs" / "a.log"
    wait_until(lambda: log.exists() and "args" in log.read_text())
    os.killpg(process.pid, signal.SIGINT if how == "Ctrl+C" else signal.SIGKILL)
    wait_until(lambda: "heard SIGTERM\n" in log.read_text(), 20)
    assert ("genjax.core.train.Preempted: interrupted" in process.communicate()[1]) == (how == "Ctrl+C")


def test_a_launched_run_is_preempted_and_goes_on(tmp_path, capsys, digest):
    run = tmp_path / "run"
    # The rest of the run takes longer than a signal does on a busy machine; batches do not depend on the pause.
    job = Job("run", (*TOY, "--config.data.pause=0.2", "--workdir", str(run)), run)
    with pytest.raises(Preempted):
        launchers.launch([job], Options(),
                         lambda states: trained(run, 5) and os.kill(os.getpid(), signal.SIGTERM))
    found = status(capsys, run)
    assert found["state"] == "preempted" and 5 <= found["step"] < 30
    assert launchers.launch([job], Options()) == {"run": 0}
    assert status(capsys, run)["digest"] == digest
    assert "interrupted and saved" in (tmp_path / "run.log").read_text()


# Command lines


def printed(capsys, *argv, code=0):
    capsys.readouterr()
    assert launch.main([*TOY, *argv]) == code
    out, err = capsys.readouterr()
    return out if code == 0 else err


def test_dry_run_prints_what_would_start(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(launchers, "tied", lambda sig: [])
    workdir = ("--workdir", str(tmp_path / "x y"))
    here = [sys.executable, str(launchers.ROOT / "launch.py"), *TOY]
    assert shlex.split(printed(capsys, "--dry-run", *workdir)) == [*here, *workdir]
    first, second = map(shlex.split, printed(capsys, "--processes", "2", "--dry-run", *workdir).splitlines())
    n = len(here) + 2
    assert first[:n] == second[:n] == [*here, *workdir]
    assert first[n + 1] == second[n + 1] and first[n + 2:] == ["--num-processes", "2", "--process-id", "0", "&"]
    assert second[n + 4:] == ["--process-id", "1", ">>", str(tmp_path / "x y.1.log"), "2>&1", "&"]
    assert not list(tmp_path.iterdir())


def test_the_default_workdir_is_written_out(capsys):
    """So that it is the same however the started process is told apart from this command."""
    words = shlex.split(printed(capsys, "--dry-run"))
    plain = arguments.default_workdir(*launch.parse(list(TOY)))
    assert words[-2:] == ["--workdir", plain]


def test_tpu_pod_prints_the_gcloud_command(tmp_path, capsys):
    line = printed(capsys, "--on", "tpu-pod", "--tpu", "v5", "--zone", "us-east1-d", "--project", "p",
                   "--workdir", "/gcs/a b")
    words = shlex.split(line)
    assert words[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "v5"]
    assert words[6:9] == ["--zone=us-east1-d", "--project=p", "--worker=all"]
    command = words[9].removeprefix("--command=")
    assert command.startswith("cd genjax && . .venv/bin/activate && python launch.py train --config ")
    assert shlex.split(command)[-2:] == ["--workdir", "/gcs/a b"] and len(words) == 10


@pytest.mark.parametrize("flags, message", [
    ("--partition low", "--partition goes with --on slurm"),
    ("--on slurm --tpu v", "--tpu goes with --on tpu-pod"),
    ("--on tpu-pod --zone z", "--on tpu-pod needs --tpu;"),
    ("--on tpu-pod --tpu v --zone z --processes 2", "--processes is set by the TPU pod"),
    ("--processes 0", "argument --processes: must be a whole number from 1 on"),
    ("--on slurm --nodes 2 --gpus-per-node 4 --processes 4", "--processes 4 contradicts --nodes 2 --gpus-per-node 4"),
    ("--on slurm --processes 3 --nodes 2", "--processes 3 cannot be spread evenly over --nodes 2"),
    ("--on slurm --time soon", "--time soon is no time limit"),
    ("--on slurm --time 0", "--time 0 is no time at all"),
    ("--on slurm --sbatch =3", "--sbatch =3 is not KEY=VALUE"),
    ("--on slrm", "invalid choice: 'slrm'"),
    ("--partitions low --on slurm", "did you mean '--partition'?"),
    ("--processes 2 --coordinator h:1", "--coordinator makes this process one of several, and --processes starts all"),
    ("--on slurm --process-id 1", "--process-id makes this process one of several, and --on slurm starts all of them"),
])
def test_mistakes_are_one_line(tmp_path, capsys, flags, message):
    error = printed(capsys, *flags.split(), "--workdir", str(tmp_path / "run"), code=2)
    assert message.rstrip(";") in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("text, minutes", [("90", 90), ("1:30:00", 90), ("0:30", 1), ("2-0", 2880),
                                           ("1-01:00:01", 1501)])
def test_time_limits_read_as_sbatch_reads_them(text, minutes):
    assert launchers._minutes(text) == minutes


# SLURM, without one


@pytest.fixture
def submitit():
    """The module, or a skip."""
    try:
        return launcher_slurm.import_submitit()
    except UserError as e:
        pytest.skip(str(e))


@pytest.fixture
def sbatch(tmp_path, monkeypatch, submitit):
    """An sbatch that keeps the script and says 42."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "srun", "squeue"):
        (folder / name).write_text(f'#!/bin/sh\n[ {name} = squeue ] && exit\ncp "$1" {tmp_path}/script\n'
                                   'echo "Submitted batch job 42"\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "sbatch"


def test_what_is_submitted_is_what_dry_run_printed(tmp_path, capsys, sbatch):
    flags = ("--on", "slurm", "--processes", "4", "--nodes", "2", "--partition", "low", "--time", "1:00:00",
             "--cpus-per-task", "3", "--gpus-per-node", "2", "--mem", "8GB", "--account", "lab", "--sbatch",
             "constraint=a100", "--sbatch", "exclusive", "--sbatch", "job-name=mine", "--workdir",
             str(tmp_path / "runs" / "x"))
    dry = printed(capsys, "--dry-run", *flags)
    assert not (tmp_path / "runs").exists()
    out = printed(capsys, *flags)
    script = (tmp_path / "script").read_text()
    text, _, runs = dry.partition("# each task runs: ")
    assert text.strip() == script.strip()
    assert shlex.split(runs)[1:] == [str(launchers.ROOT / "launch.py"), *TOY, "--workdir", str(tmp_path / "runs" / "x")]
    for line in ("nodes=2", "ntasks-per-node=2", "partition=low", "time=60", "cpus-per-task=3", "gpus-per-node=2",
                 "mem=8GB", "account=lab", "constraint=a100", "exclusive", "requeue", "signal=USR2@90",
                 "job-name=mine"):
        assert f"#SBATCH --{line}\n" in script and script.count(f"#SBATCH --{line.split('=')[0]}") == 1, line
    assert "submitted job 42: 1 run;" in out and f"output: {tmp_path}/runs/x.log" in out
    assert (tmp_path / "runs" / "slurm" / "42_submitted.pkl").exists()


def test_many_runs_are_one_array(tmp_path, capsys, sbatch):
    jobs = [Job(n, TOY, tmp_path / "sweep" / n) for n in ("a", "b", "c")]
    assert launchers.launch(jobs, Options(on="slurm", max_parallel=2)) == {}
    script = (tmp_path / "script").read_text()
    assert "#SBATCH --array=0-2%2\n" in script and f"#SBATCH --job-name={tmp_path.name}-sweep\n" in script
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["42_0", "42_1", "42_2"]
    assert launchers.launch(jobs, Options(on="slurm", max_parallel=2, dry_run=True)) == {}
    assert script.strip() in capsys.readouterr().out


def test_a_dry_run_needs_no_submitit(tmp_path, capsys, submitit, monkeypatch):
    """What is printed without it asks of SLURM what submitit's script does, but for its log files."""
    jobs = [Job(n, TOY, tmp_path / "sweep" / n, 8) for n in ("a", "b", "c")]
    options = Options(on="slurm", max_parallel=2, dry_run=True, nodes=2, gpus_per_node=4, cpus_per_task=3, mem="8GB",
                      partition="low", account="lab", sbatch=(("constraint", "a100"), ("exclusive", True)))

    def asked(*which):
        launchers.launch(which, options)
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1].startswith("# ") and shlex.join(TOY) in lines[-1]
        return {x for x in lines if x.startswith("#SBATCH") and not re.search("--(output|error|open-mode|wckey)", x)}

    with_it = asked(*jobs), asked(jobs[0])
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert (asked(*jobs), asked(jobs[0])) == with_it
    assert {"#SBATCH --array=0-2%2", "#SBATCH --ntasks-per-node=4"} <= with_it[0]
    with pytest.raises(UserError, match="--on slurm needs submitit"):
        launchers.launch(jobs, Options(on="slurm"))


@pytest.mark.parametrize("flags, processes, at_once", [
    ("--on slurm --nodes 2 --gpus-per-node 4", 8, 8),
    ("--on slurm --gpus-per-node 4", 4, 8),
    ("--on slurm --gpus-per-node 4 --processes 1", 1, 8),
    ("--on slurm --nodes 2 --gpus-per-node 4 --processes 8 --max-parallel 3", 8, 3),
    ("--on slurm --nodes 3", 3, 8),
    ("--on slurm", 1, 8),
    ("", 1, 1),
])
def test_processes_and_points_at_a_time_by_default(flags, processes, at_once):
    args, _ = launch.parse(["sweep", "--config", "dip/denoise", "--sweep", "noise", *flags.split()])
    found = launchers.options(args, args.max_parallel)
    assert (found.processes, found.max_parallel) == (processes, at_once)


def test_a_refusal_is_one_line_and_leaves_nothing(tmp_path, sbatch):
    sbatch.write_text("#!/bin/sh\necho 'invalid partition specified: lo' >&2; exit 1\n")
    (tmp_path / "runs").mkdir()
    with pytest.raises(UserError, match="did not take it .*invalid partition specified: lo"):
        launchers.launch([Job("a", TOY, tmp_path / "runs" / "a")], Options(on="slurm"))
    assert not list((tmp_path / "runs").iterdir())


def test_without_slurm_or_submitit_the_fix_is_named(tmp_path, monkeypatch, submitit):
    jobs = [Job("a", TOY, tmp_path / "a")]
    with monkeypatch.context() as m:
        m.setitem(sys.modules, "submitit", None)
        with pytest.raises(UserError, match="pip install -r requirements-cluster.txt"):
            launchers.launch(jobs, Options(on="slurm"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no sbatch here"):
        launchers.launch(jobs, Options(on="slurm"))


@pytest.fixture
def local(tmp_path, monkeypatch, submitit):
    """submitit's executor for this machine; what it runs finds genjax, as SLURM's script makes it."""
    monkeypatch.setenv("PYTHONPATH", str(launchers.ROOT))
    return submitit.LocalExecutor(tmp_path / "slurm", max_num_timeout=1000)


def children(pid):
    """Process ids of a process's children."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc")
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == int(pid):
                found.append(int(stat.parent.name))
        except OSError:
            pass
    return found


def test_an_array_is_requeued_at_the_time_limit_and_keeps_failures(tmp_path, capsys, local, digest):
    """One run is asked to end and resumes, one is left alone, one fails."""
    runs = [tmp_path / n for n in "ab"]
    jobs = [Job(r.name, (*TOY, "--workdir", str(r)), r) for r in runs]
    jobs.append(Job("c", ("train", "--config", "no_such_config"), tmp_path / "c"))
    a, b, c = local.submit_array([launcher_slurm.Attempt(j) for j in jobs])
    wait_until(lambda: trained(runs[0], 5))
    (task,) = children(a.job_id)
    os.kill(task, signal.SIGUSR2)  # what SLURM sends before the limit
    a.result()
    b.result()
    with pytest.raises(Exception, match="exit code 2 from .*no_such_config.*its output is in .*c.log"):
        c.result()
    for run in runs:
        assert status(capsys, run)["digest"] == digest
    log = (tmp_path / "a.log").read_text()
    assert log.count("interrupted and saved") == 1 and "interrupted" not in (tmp_path / "b.log").read_text()
    assert "no_such_config" in (tmp_path / "c.log").read_text()


@pytest.mark.parametrize("signals", [("SIGTERM",), ("SIGUSR2", "SIGTERM")])
def test_a_run_hears_of_the_end_once(tmp_path, local, signals):
    """SLURM tells every process of a job; a run would take a second signal for "at once"."""
    (tmp_path / "stub.py").write_text(STUB)
    attempt = launcher_slurm.Attempt(Job("a", (), tmp_path / "a"))
    attempt.argv = [sys.executable, str(tmp_path / "stub.py"), "wait", "75"]
    job = local.submit(attempt)
    log = tmp_path / "a.log"
    wait_until(lambda: log.exists() and "args" in log.read_text())
    (task,) = children(job.job_id)
    (child,) = children(task)
    for name in signals:
        for pid in (task, child):
            os.kill(pid, signal.Signals[name])
        time.sleep(0.1)
    wait_until(lambda: "heard" in log.read_text())
    assert "heard SIGINT\n" in log.read_text()
    if "SIGUSR2" in signals:  # started again
        wait_until(lambda: log.read_text().count("args") == 2)
        (task,) = children(job.job_id)
        os.kill(task, signal.SIGTERM)
    wait_until(lambda: job.done())
    assert not job.paths.result_pickle.exists(), "preempted is neither a result nor an error"


@pytest.mark.slow
def test_train_as_two_processes_is_preempted_and_goes_on(tmp_path, root, capsys):
    """The output of process 0 is this command's, that of process 1 is in a file."""
    def start(run, *more):
        argv = [sys.executable, "launch.py", *TOY, "--processes", "2", "--workdir", str(run), *more]
        return subprocess.Popen(argv, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    whole, run = tmp_path / "whole", tmp_path / "run"
    process = start(whole, "--config.data.pause=0")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "norm" in out and f"report: {whole}/report.html" in out, err
    assert (tmp_path / "whole.1.log").exists() and not (tmp_path / "whole.log").exists()
    process = start(run)
    wait_until(lambda: trained(run, 5))
    process.terminate()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 75 and err.strip().endswith("run the same command again to go on"), err
    process = start(run)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    found = status(capsys, run)
    assert found["state"] == "done" and found["digest"] == status(capsys, whole)["digest"]
    assert "norm" not in (tmp_path / "run.1.log").read_text(), "process 0 speaks for all"
