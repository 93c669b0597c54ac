"""The verbs of launch.py: a few as real commands, the rest through `main`, on one run of the toy."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import launch
from genjax.core import backend
from genjax.core import config as config_lib
from genjax.core import inspect as inspect_lib
from genjax.core import train as train_lib
from genjax.verbs import arguments, command_line
from genjax.viz import jsonl
from tests.core.toy import ToyTask

TOY = "tests/core/toy_config.py"
VERBS = ("train", "sweep", "sample", "play", "eval", "reproduce", "plan", "verify-resume", "show", "diff", "report",
         "status", "bench", "list", "convert", "data", "completion")


def command(root, *argv, cwd=None, **env):
    """Runs launch.py in a process of its own."""
    env = {**os.environ, "JAX_PLATFORMS": "cpu", **env}
    return subprocess.run([sys.executable, str(root / "launch.py"), *map(str, argv)], cwd=cwd or root, env=env,
                          capture_output=True, text=True, timeout=300)


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """Compiled programs of these tests stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as m:
        m.setenv("GENJAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory, root):
    """A finished toy run, trained by the command."""
    path = tmp_path_factory.mktemp("launch") / "toy"
    done = command(root, "train", "--config", TOY, "--workdir", path, "--config.train.preview_every=6",
                   "--config.train.eval_every", "6", "--quiet")
    assert done.returncode == 0, done.stderr
    assert "norm" in done.stdout and f"report: {path}/report.html" in done.stdout
    assert done.stderr == ""
    assert f"starting {path} at step 0 of 12 on 1 x cpu; the first step compiles\n" in (path / "log.txt").read_text()
    return path


def main(capsys, *argv, code=0):
    """Runs `main` here; returns what it printed."""
    capsys.readouterr()
    assert launch.main([str(a) for a in argv]) == code
    out, err = capsys.readouterr()
    assert err == "" or code
    return out


def test_train_leaves_a_whole_run_folder(run):
    names = {p.name for p in run.iterdir()}
    assert {"config.json", "metrics.jsonl", "log.txt", "samples", "checkpoints", "snapshots", "DONE"} <= names
    assert any(n.startswith("events.out.tfevents") for n in names)
    assert [n for n in names if n.startswith(".")] == [".lock"], "no temporary file stays"
    assert json.loads((run / "config.json").read_text())["train"]["preview_every"] == 6
    rows = jsonl.read(run / "metrics.jsonl")
    assert [r["step"] for r in rows if r["kind"] == "train"] == list(range(12))
    assert [r["step"] for r in rows if r["kind"] == "eval"] == [6, 12]
    assert sorted(p.name for p in (run / "samples").iterdir()) == ["step_00000006.png", "step_00000012.png"]


def test_smoke_from_another_folder_without_tensorflow(tmp_path, root):
    """The default workdir is runs/<config>-<overrides> under the current folder; TensorFlow is never imported."""
    code = ("import sys; sys.path.insert(0, sys.argv.pop(1)); import launch; code = launch.main(); "
            "print([m for m in sys.modules if m.partition('.')[0] == 'tensorflow'], file=sys.stderr); sys.exit(code)")
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code, str(root), "train", "--config", TOY, "--smoke", "--quiet",
                           "--config.seed=3"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stderr.strip() == "[]", done.stderr
    (file,) = (tmp_path / "runs" / "tests" / "core").glob("toy_config-smoke-??????/config.json")
    config = json.loads(file.read_text())
    assert config["train"]["steps"] == 2 and config["width"] == 8 and config["seed"] == 3


def test_default_workdirs():
    def workdir(*argv):
        return arguments.default_workdir(*launch.parse(["train", *argv]))

    plain = workdir("--config", "configs/dip/denoise.py:small")
    assert plain == workdir("--config", "dip/denoise:small", "--config.train.steps=9") == "runs/dip/denoise-small"
    assert workdir("--config", "dip/denoise", "--smoke") == "runs/dip/denoise-smoke"
    own = workdir("--config", "dip/denoise:small", "--config.image=a.png", "--config.seed=1")
    assert re.fullmatch(r"runs/dip/denoise-small-[0-9a-f]{6}", own)
    assert own == workdir("--config", "dip/denoise:small", "--config.seed", "1", "--config.image=a.png",
                          "--config.train.steps=9", "--config.mesh.data=1"), "as it may go on, it is the same run"
    assert own != workdir("--config", "dip/denoise:small", "--config.image=b.png", "--config.seed=1")


def test_train_says_where_kept_pictures_are(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ("train", "--config", TOY, "--smoke", "--quiet", "--config.task.keeps=True")
    for _ in range(2):  # the second start finds it done
        out = main(capsys, *argv).strip().split("\n")[-1]
        assert out.startswith("pictures: runs/tests/core/toy_config-smoke-") and out.endswith("/outputs")
        assert (tmp_path / out.removeprefix("pictures: ") / "kernel.png").exists()


def test_nan_is_one_line_and_exit_code_2(tmp_path, root):
    done = command(root, "train", "--config", TOY, "--config.data.poison=6", "--workdir", tmp_path / "run", "--quiet")
    assert done.returncode == 2
    assert done.stderr.startswith("error: the loss is nan at step 6") and done.stderr.count("\n") == 1
    assert "the loss is nan at step 6" in (tmp_path / "run" / "log.txt").read_text()
    assert (tmp_path / "run" / "FAILED").exists()


def test_no_such_backend_is_one_line(root):
    done = command(root, "plan", "--config", TOY, JAX_PLATFORMS="abacus")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "abacus" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_reader_that_stops_reading_is_no_error(root):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "launch.py", "list"], cwd=root, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert done.stderr == b"" and done.returncode == 141


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb(capsys, verb):
    with pytest.raises(SystemExit) as e:
        launch.main([verb, "--help"])
    out = capsys.readouterr().out
    assert e.value.code == 0 and f"launch.py {verb}" in out and len(out.splitlines()) > 4
    assert ("--config.KEY" in out) == (verb in ("train", "sweep", "plan", "show", "verify-resume"))
    without = ("train", "sample", "play", "show", "diff", "report", "convert", "completion")
    assert ("--json" in out) == (verb not in without)


def test_help_lists_the_verbs(capsys):
    with pytest.raises(SystemExit) as e:
        launch.main(["--help"])
    out = capsys.readouterr().out
    assert e.value.code == 0 and all(f"\n    {v}" in out for v in VERBS) and "exit code 75" in out
    parser = command_line.make_parser()
    assert set(parser._subparsers._group_actions[0].choices) == set(VERBS)


def test_list(capsys, tmp_path):
    out = main(capsys, "list", "--json", tmp_path / "list.json")
    rows = json.loads((tmp_path / "list.json").read_text())
    assert {"kind": "config", "name": "dip/denoise", "about": rows[0]["about"]} in rows
    assert all(r["name"] in out and r["about"] in out for r in rows)
    assert json.loads(main(capsys, "list", "--json", "-")) == rows


def test_show_prints_what_train_saves(capsys, run):
    shown = main(capsys, "show", "--config", TOY, "--config.train.preview_every=6", "--config.train.eval_every=6")
    assert shown == (run / "config.json").read_text()
    assert main(capsys, "show", "--config", run / "config.json") == shown
    smoke = json.loads(main(capsys, "show", "--config", TOY, "--smoke", "--config.train.steps=3"))
    assert smoke["train"]["steps"] == 3 and smoke["width"] == 8, "overrides come after the smoke form"


def test_diff(capsys, run):
    assert main(capsys, "diff", TOY, TOY).strip() == "no difference"
    out = main(capsys, "diff", TOY, run)
    assert out.split("\n")[0].split() == ["train.eval_every", "0", "->", "6"]
    assert len(main(capsys, "diff", f"{TOY}:steps=5,save=2", run).strip().split("\n")) == 4


def test_plan(capsys, tmp_path):
    found = json.loads(main(capsys, "plan", "--config", TOY, "--json", "-"))
    assert found["networks"] == {"network": 1024} and found["mesh"] == {"data": 1, "fsdp": 1, "tensor": 1}
    assert found["bytes_per_device"]["params"] == 4096 and found["bytes_per_device"]["opt_state"] == 2 * 4096 + 4
    assert found["bytes_per_device"]["activations_peak"] > 0
    # forward and both gradients of two matrix products of batch 8, without the input's gradient: 5 products
    assert found["flops_per_step"] == 5 * 2 * 8 * 16 * 32 and found["copies"] == 1
    text = main(capsys, "plan", "--config", TOY, "--json", tmp_path / "plan.json")
    assert "1,024 parameters" in text and "params/first/kernel" in text and "float32[16, 32]" in text
    again = json.loads((tmp_path / "plan.json").read_text())
    assert again.pop("estimate")["steps"] == found.pop("estimate")["steps"] and again == found  # its times are measured
    adversarial = json.loads(main(capsys, "plan", "--config", f"{TOY}:task=ToyAdversarial", "--json", "-"))
    assert sum(adversarial["networks"].values()) == 8
    parts = json.loads(main(capsys, "plan", "--config", TOY, "--config.task.micro_batches=4", "--json", "-"))
    assert parts["flops_per_step"] == found["flops_per_step"], "a part of the batch is not the step"


@pytest.mark.parametrize("in_turn", [True, False])
def test_plan_of_independent_networks(capsys, in_turn):
    argv = ("plan", "--config", f"{TOY}:task=ToyCopies", f"--config.task.in_turn={in_turn}")
    found = json.loads(main(capsys, *argv, "--json", "-"))
    assert found["networks"] == {"network": 256} and found["copies"] == 8
    assert found["bytes_per_device"]["params"] == 8 * 256 * 4
    assert found["flops_per_step"] == 8 * 2 * (2 * 16 * 16), "a product forward and one back, in every network"
    assert "network 256 parameters, 8 independent copies" in main(capsys, *argv)


def test_status(capsys, run, tmp_path):
    (row,) = json.loads(main(capsys, "status", run, "--json", "-"))
    assert set(row) == {"run", "state", "step", "digest", "metrics"}
    assert row["state"] == "done" and row["step"] == 12 and len(row["digest"]) == 64
    assert row["metrics"].keys() >= {"loss", "norm"}
    shutil.copytree(run, tmp_path / "copy")
    (tmp_path / "copy" / "DONE").unlink()
    rows = json.loads(main(capsys, "status", run, tmp_path / "copy", "--json", "-"))
    assert [r["state"] for r in rows] == ["done", "interrupted"] and rows[0]["digest"] == rows[1]["digest"]
    assert "done at step 12" in main(capsys, "status", run)


def test_libraries_say_nothing_on_the_terminal(run, root):
    done = command(root, "status", run)
    assert (done.returncode, done.stderr) == (0, "")


def test_report_is_one_self_contained_file(capsys, run):
    before = (run / "report.html").read_text()
    (run / "report.html").unlink()
    assert main(capsys, "report", run).strip() == str(run / "report.html")
    page = (run / "report.html").read_text()
    assert len(page) > 0.9 * len(before) and "optimizer.learning_rate" in page
    assert "<link" not in page and "<script" not in page and "src=\"http" not in page and "url(http" not in page


def test_sample_is_a_function_of_the_seed(capsys, run, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        assert main(capsys, "sample", run, "-n", 4, "--seed", seed, "--out", path).strip() == str(path)
    a, b, c = (np.asarray(Image.open(p)) for p in paths)
    assert (a == b).all() and (a != c).any()
    assert main(capsys, "sample", run).strip() == str(run / "samples" / "sample_seed0.png")


def test_samples_of_another_value_range_are_brought_to_black_and_white(capsys, run, tmp_path, monkeypatch):
    monkeypatch.setattr(ToyTask, "value_range", (-1.0, 1.0))
    main(capsys, "sample", run, "--out", tmp_path / "a.png")
    pixels = np.asarray(Image.open(tmp_path / "a.png"))[3:10, 3:10]  # inside the first sample
    assert pixels.min() >= 127 and pixels.std() > 10


def test_eval_repeats_the_runs_own_metrics(capsys, run):
    row = json.loads(main(capsys, "eval", run, "--json", "-"))
    assert row == json.loads((run / "DONE").read_text())["metrics"] | {"step": 12}
    kept = jsonl.read(run / "metric-eval.jsonl")[-1]
    assert kept["norm"] == row["norm"] and kept["snapshot"] == "step_00000012.npz" and "jax" in kept["environment"]
    named = run / "snapshots" / "step_00000012.npz"
    assert "norm" in main(capsys, "eval", run, "--snapshot", named)


def test_train_again_is_done_at_once_and_more_steps_go_on(capsys, run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    argv = ("train", "--config", copy / "config.json", "--workdir", copy, "--quiet")
    stamp = (copy / "snapshots" / "step_00000012.npz").stat().st_mtime_ns
    capsys.readouterr()
    assert launch.main([str(a) for a in argv]) == 0
    assert (copy / "snapshots" / "step_00000012.npz").stat().st_mtime_ns == stamp
    assert launch.main([*map(str, argv), "--config.train.steps=14"]) == 0
    assert inspect_lib.status(str(copy))["step"] == 14
    out = capsys.readouterr().out
    assert "norm" in out and "pictures:" not in out


FIGURE = '''"""A toy figure.

More text.
"""


def run(fig):
    fig.plan(1)
    result = fig.train("fast", "tests/core/toy_config.py", ["optimizer.learning_rate=0.02", "train.steps=3"])
    fig.row("fast", "norm", result.metrics["norm"], %s, 1000.0, source="nobody")
    fig.picture("kernel", result.variables["params"]["first"]["kernel"][:, :, None].clip(0, 1), "the kernel")
'''


@pytest.mark.parametrize(("expected", "scale", "code"), [(5.0, "small", 0), (-1e6, "small", 1), (-1e6, "smoke", 0)])
def test_reproduce(capsys, tmp_path, monkeypatch, expected, scale, code):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "fig.py").write_text(FIGURE % expected)
    monkeypatch.setattr(inspect_lib, "EXPERIMENTS", tmp_path)
    argv = ("reproduce", "toy/fig", "--scale", scale, "--workdir", tmp_path / "out", "--quiet", "--json", "-")
    capsys.readouterr()
    assert launch.main([str(a) for a in argv]) == code
    rows = json.loads(capsys.readouterr().out)
    assert [set(r) >= {"case", "metric", "got", "expected", "tolerance", "pass", "source"} for r in rows] == [True]
    assert {r["pass"] for r in rows} == {None if scale == "smoke" else code == 0}
    out = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"figure.json", "report.html", "kernel.png", "runs"} <= out
    assert json.loads((tmp_path / "out" / "figure.json").read_text())["rows"] == rows


def test_an_interrupted_figure_says_so_and_exits_75(capsys, tmp_path, monkeypatch):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "fig.py").write_text(FIGURE % 5.0)
    monkeypatch.setattr(inspect_lib, "EXPERIMENTS", tmp_path)
    monkeypatch.setattr(train_lib, "train", lambda *a, **k: train_lib.Outcome(None, 7, True, {}, 1.0))
    assert launch.main(["reproduce", "toy/fig", "--workdir", str(tmp_path / "out"), "--quiet"]) == 75
    found = capsys.readouterr().err.strip().split("\n")[-1]
    assert found == "fast: interrupted and saved at step 7; run the same command again to go on"


def test_own_pictures_of_a_figure_may_be_built_in(capsys, tmp_path, monkeypatch):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "fig.py").write_text(
        '"""A toy."""\nIMAGES = True\n\n\ndef run(fig):\n    fig.note(fig.images)\n')
    monkeypatch.setattr(inspect_lib, "EXPERIMENTS", tmp_path)
    monkeypatch.chdir(tmp_path)
    out = main(capsys, "reproduce", "toy/fig", "--images", "builtin:photos/cat")
    assert out.strip().endswith("runs/figures/toy-fig-small-builtin_photos_cat/report.html")


def test_bench(capsys, tmp_path, monkeypatch):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "toy.py").write_text(
        '"""A toy benchmark."""\nimport time\n\n\ndef run(bench):\n'
        '    bench.compare("nap", lambda: time.sleep(0.002), lambda: time.sleep(0.02), "a long nap")\n'
        '    bench.compare("rate", lambda: time.sleep(0.002), None, unit="images/s", items=10)\n')
    monkeypatch.setattr(inspect_lib, "EXPERIMENTS", tmp_path)
    rows = json.loads(main(capsys, "bench", "toy", "--repeats", 3, "--json", "-"))
    assert set(rows[0]) == {"case", "unit", "genjax", "peer", "peer_name", "ratio", "device"}
    assert 3 < rows[0]["ratio"] < 12 and rows[0]["genjax"] >= 2 and rows[1]["peer"] is None
    assert 1000 < rows[1]["genjax"] < 5000
    assert "a long nap" in main(capsys, "bench", "toy", "--repeats", 1)


def test_every_example_of_the_help_parses(root):
    for line in (launch.__doc__ or "").splitlines():
        words = line.split("  ")[1].strip().split() if line.startswith("  python launch.py") else []
        if words and "VERB" not in words:
            args, overrides = launch.parse(words[2:])
            if hasattr(args, "config"):
                config_lib.load(args.config, overrides)


def test_a_folder_of_runs_stands_for_the_runs_in_it(tmp_path):
    for name in ("a", "deep/b"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "a.log").write_text("")
    a, b, log = (str(tmp_path / n) for n in ("a", "deep/b", "a.log"))
    assert inspect_lib.run_folders([str(tmp_path)]) == [a, b]
    assert inspect_lib.run_folders([a, log, str(tmp_path / "deep")]) == [a, b], "runs/* names logs too"
    assert [inspect_lib.run_folders([n]) for n in (log, "none")] == [[log], ["none"]], "left to the error"
    assert inspect_lib.run_folders([a, "none"]) == [a, "none"], "a misspelt one is not passed over"


@pytest.mark.parametrize("settings,offered,traced,again", [
    ("", "always [madvise] never", False, "glibc.malloc.hugetlb=1"),
    ("glibc.malloc.check=0", "always [madvise] never", False, "glibc.malloc.check=0:glibc.malloc.hugetlb=1"),
    ("glibc.malloc.hugetlb=0", "always [madvise] never", False, None),  # the user decided
    ("", "[always] madvise never", False, None),
    ("", None, False, None),  # not Linux
    ("", "always [madvise] never", True, None)])  # a debugger would lose the process
def test_huge_pages_are_asked_for_once(monkeypatch, tmp_path, settings, offered, traced, again):
    file, started = tmp_path / "enabled", []
    if offered is not None:
        file.write_text(offered)
    monkeypatch.setenv("GLIBC_TUNABLES", settings)
    monkeypatch.setattr(backend, "Path", lambda name: file)
    monkeypatch.setattr(sys, "gettrace", lambda: print if traced else None)
    monkeypatch.setattr(os, "execv", lambda *args: started.append(args))
    backend.huge_pages()
    assert started == ([(sys.executable, [sys.executable, *sys.orig_argv[1:]])] if again else [])
    assert os.environ["GLIBC_TUNABLES"] == (again or settings)
