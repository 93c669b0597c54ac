"""Each process started here gets GPUs of its own; stand-ins for nvidia-smi, and for runs that say what they see."""

import json
import os
import sys

import pytest

import launch
from genjax.core import gpus, launchers
from genjax.core.launchers import Job, Options
from genjax.core.search_run import OpenTrial
from genjax.errors import UserError

TOY = ("train", "--config", "tests/core/toy_config.py", "--quiet")
SAY = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.fixture
def four(tmp_path, monkeypatch):
    """A machine with four GPUs that jax is to use."""
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    listed = "".join(f"GPU {i}: NVIDIA H200 (UUID: GPU-{i})\\n" for i in range(4))
    smi.write_text(f"#!/bin/sh\n[ $1 = -L ] && printf '{listed}'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{smi.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(launchers, "python", lambda job: [sys.executable, "-c", SAY])
    return smi


def options(*more):
    args, _ = launch.parse([*TOY, *more])
    return launchers.options(args)


def told(job):
    said = [json.loads(job.log(i).read_text().splitlines()[-1]) for i in range(job.processes)]
    return [s.get("CUDA_VISIBLE_DEVICES") for s in said]


def test_equal_shares(four, monkeypatch):
    assert gpus.visible() == [f"GPU-{i}" for i in range(4)]
    assert gpus.shares(1, "") == () and gpus.shares(2, "") == ("GPU-0,GPU-1", "GPU-2,GPU-3")
    assert gpus.shares(3, "") == ("GPU-0", "GPU-1", "GPU-2"), "equal ones: the fourth stays idle"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, 7,-1,3")
    assert gpus.shares(2, "") == ("5", "7"), "only what this process may see itself"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus.shares(2, "") == ()


def test_parts_of_a_gpu_are_devices(four):
    four.write_text("#!/bin/sh\nprintf 'GPU 0: A100 (UUID: GPU-a)\\n  MIG 1g.10gb Device 0: (UUID: MIG-b)\\n'\n")
    gpus._listed.cache_clear()
    assert gpus.visible() == ["MIG-b"]


def test_without_gpus_nothing_changes(four, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert options("--processes", "9").gpus == ()
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr(gpus, "_plugin", lambda: False)  # jax without CUDA
    assert options("--processes", "9").gpus == ()
    job = Job("a", (), tmp_path / "a", 2)
    launchers.launch([job], options("--processes", "2"))
    assert told(job) == [os.environ.get("CUDA_VISIBLE_DEVICES")] * 2


def test_processes_of_a_run_share_them_out(four, tmp_path):
    job = Job("a", (), tmp_path / "a", 2)
    launchers.launch([job], options("--processes", "2"))
    assert told(job) == ["GPU-0,GPU-1", "GPU-2,GPU-3"]
    assert json.loads(job.log(1).read_text())["JAX_LOCAL_DEVICE_IDS"] == "0,1"


def test_parallel_points_have_slots_that_are_used_again(four, tmp_path):
    args, _ = launch.parse(["sweep", "--config", "x", "--sweep", "y"])
    jobs = [Job(n, (), tmp_path / n) for n in "abcde"]
    launchers.launch(jobs, launchers.options(args, 4))
    seen = [told(j)[0] for j in jobs]
    assert seen[:4] == [f"GPU-{i}" for i in range(4)] and seen[4] in seen[:4]


def test_trials_of_a_search_have_slots(four, tmp_path, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor
    from types import SimpleNamespace

    seen = []
    monkeypatch.setattr("genjax.core.search_run.launch", lambda jobs, options, tick: seen.append(options) or {"a": 0})
    run = SimpleNamespace(name="a", point={}, process="")
    target = SimpleNamespace(job=lambda point, n: Job("a", (), tmp_path / "a", n))
    with ThreadPoolExecutor() as pool:
        OpenTrial(None, run, False).start(pool, target, Options(max_parallel=2, gpus=("GPU-0", "GPU-1")), 1)
    assert launchers._environments(target.job({}, 1), seen[0], seen[0].slot)[0]["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    monkeypatch.undo()
    monkeypatch.setattr(launchers, "python", lambda job: [sys.executable, "-c", SAY])
    launchers.launch([target.job({}, 1)], seen[0])
    assert told(target.job({}, 1)) == ["GPU-1"]


def test_more_processes_than_gpus_is_one_line(four, tmp_path, capsys):
    assert launch.main([*TOY, "--processes", "5", "--workdir", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == ("error: --processes 5: 5 processes at once, and 4 GPUs here; start at most 4, or"
                                       " set JAX_PLATFORMS=cpu\n")
    args, _ = launch.parse(["sweep", "--config", "x", "--sweep", "y", "--processes", "2"])
    with pytest.raises(UserError, match="--max-parallel 3 --processes 2: 6 processes"):
        launchers.options(args, 3)


def test_dry_run_says_which(four, tmp_path, capsys):
    assert launch.main([*TOY, "--processes", "2", "--dry-run", "--workdir", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0].partition("=")[2] for line in lines] == ["GPU-0,GPU-1", "GPU-2,GPU-3"]
