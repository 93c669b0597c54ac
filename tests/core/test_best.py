"""The best snapshot: which evaluation it is of, that a cut run keeps the same one, names of metrics, mistakes."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

import launch
from genjax.core import best, report, snapshot
from genjax.core import config as config_lib
from genjax.core.checkpoint import load_snapshot
from genjax.core.run import RunFolder
from genjax.core.train import train
from genjax.errors import UserError
from genjax.metrics.evaluation import Evaluation
from genjax.metrics.recipe import Recipe, Value
from genjax.viz import jsonl
from tests.core.toy import ToyTask


def toy(steps=14, metric="fd"):
    items = {"eval_every": 2, "keep_best": metric, "save_every": 5, "keep": 9}
    return config_lib.load(f"tests/core/toy_config.py:steps={steps}", [f"train.{k}={v}" for k, v in items.items()])


def content(path):
    variables, meta = load_snapshot(path / "snapshots" / "best.npz")
    return {k: v.tobytes() for k, v in variables["params"]["first"].items()}, meta["step"], meta["best"]


@pytest.fixture
def measured(monkeypatch):
    """The toy's distance falls, and rises again: the weights' norm from what it is half way."""
    monkeypatch.setattr(ToyTask, "evaluate", lambda self, variables, data, rng: {
        "fd_toy": float(abs(jnp.linalg.norm(variables["params"]["first"]["kernel"]) - self.middle)), "other": 1.0})
    monkeypatch.setattr(ToyTask, "middle", 0.0, raising=False)


def test_the_best_is_kept_and_a_cut_run_keeps_the_same(tmp_path, measured, monkeypatch):
    train(toy(steps=7, metric=""), tmp_path / "half", quiet=True)
    assert not (tmp_path / "half" / "snapshots" / "best.npz").exists()
    half = np.load(tmp_path / "half" / "snapshots" / "step_00000007.npz")["params/first/kernel"]
    monkeypatch.setattr(ToyTask, "middle", float(np.linalg.norm(half)))
    train(toy(), tmp_path / "whole", quiet=True)
    rows = {r["step"]: r["fd_toy"] for r in jsonl.read(tmp_path / "whole" / "metrics.jsonl") if r["kind"] == "eval"}
    _, step, said = whole = content(tmp_path / "whole")
    assert rows[step] == min(rows.values()) > 0 and len(rows) == 7 and step in (6, 8), rows
    assert said == {"metric": "fd_toy", "value": rows[step], "asked": "fd"}

    train(toy(steps=7), tmp_path / "longer", quiet=True)  # the best of all, but its end is no multiple: it competes not
    train(toy(), tmp_path / "longer", quiet=True)
    assert content(tmp_path / "longer") == whole
    for at in (5, 10):  # what a kill leaves that has the best behind its last checkpoint, or before it
        cut = shutil.copytree(tmp_path / "whole", tmp_path / f"cut{at}", ignore=shutil.ignore_patterns("DONE"))
        for saved in (cut / "checkpoints").glob("[0-9]*"):
            if int(saved.name) > at:
                shutil.rmtree(saved)
        train(toy(), cut, quiet=True)
        assert f"resuming {cut} at step {at}" in (cut / "log.txt").read_text() and content(cut) == whole

    run = str(tmp_path / "whole")
    assert f"best fd_toy (step {step})" in report.write(run).read_text()
    kept = str(tmp_path / "whole" / "snapshots" / "best.npz")
    assert snapshot.evaluate(run, kept)["step"] == step and snapshot.evaluate(run, None)["step"] == 14
    assert RunFolder(run).newest_snapshot().name == "step_00000014.npz"
    assert launch.main(["eval", run, "--snapshot", kept, "--json", str(tmp_path / "row.json")]) == 0
    assert json.loads((tmp_path / "row.json").read_text())["fd_toy"] == rows[step]
    train(toy(steps=16, metric="other"), run, quiet=True)  # another metric begins anew
    assert content(tmp_path / "whole")[1:] == (14, {"metric": "other", "value": 1.0, "asked": "other"})


@pytest.fixture
def grows(monkeypatch):
    """A distance whose recipe changes after 7 updates, and which was much smaller by the first one."""
    def evaluate(self, variables, data, rng):
        step = int(variables["extra"]["calls"])
        norm = float(jnp.linalg.norm(variables["params"]["first"]["kernel"]))
        how = () if step > 7 else (("enlarged_from", 4),)
        return {"fd_toy": Value(norm if step > 7 else norm / 100, Recipe(metric="frechet", network="toy",
                                                                         parameters=how)), "other": 1.0}

    monkeypatch.setattr(ToyTask, "evaluate", evaluate)


def test_values_of_two_recipes_are_told_apart_and_do_not_compete(tmp_path, grows):
    """As of a network that grows: the smaller pictures of before are not the best of the run, however it is cut."""
    train(toy(), tmp_path / "whole", quiet=True)
    rows = {r["step"]: r for r in jsonl.read(tmp_path / "whole" / "metrics.jsonl") if r["kind"] == "eval"}
    before, after = (rows[s]["recipes"]["fd_toy"] for s in (2, 14))
    assert before != after and {s: r["recipes"] for s, r in rows.items()} == {
        s: {"fd_toy": before if s < 8 else after} for s in range(2, 16, 2)}
    _, step, said = whole = content(tmp_path / "whole")
    late = {s: r["fd_toy"] for s, r in rows.items() if s > 7}
    assert step == min(late, key=late.get) and said["recipe"] == after and said["value"] == late[step]
    for at in (5, 10):
        cut = shutil.copytree(tmp_path / "whole", tmp_path / f"cut{at}", ignore=shutil.ignore_patterns("DONE"))
        for saved in (cut / "checkpoints").glob("[0-9]*"):
            if int(saved.name) > at:
                shutil.rmtree(saved)
        train(toy(), cut, quiet=True)
        assert content(cut) == whole
        assert {r["step"]: r for r in jsonl.read(cut / "metrics.jsonl") if r["kind"] == "eval"} == rows

    folder = RunFolder(tmp_path / "whole")
    kept = json.loads((folder.path / "recipes.json").read_text())["fd_toy"]
    assert kept["id"] == after and kept["value"] == rows[14]["fd_toy"] and kept["step"] == 14
    assert {i: (r["step"], r["value"], r["recipe"]["parameters"]) for i, r in kept["recipes"].items()} == {
        before: (6, rows[6]["fd_toy"], [["enlarged_from", 4]]), after: (14, rows[14]["fd_toy"], [])}
    lines = report.evaluations(list(rows.values()))["fd_toy"]
    assert list(lines) == [f"fd_toy [{before}]", f"fd_toy [{after}]"]
    for line, there in zip(lines.values(), ((2, 4, 6), (8, 10, 12, 14)), strict=True):
        assert tuple(line[0][np.isfinite(line[1])]) == there, "a line ends where the recipe changes"
    page = report.write(folder.path).read_text()
    assert f"fd_toy [{before}]" in page and "enlarged_from 4" in page
    (events,) = folder.path.glob("events.*")
    assert all(f"eval/fd_toy/{i}".encode() in events.read_bytes() for i in (before, after))


def test_what_a_metric_may_be_called():
    def value(metric, network="", **kw):
        return Value(1.0, Recipe(metric=metric, network=network, **kw), None)

    found = {v.recipe.key: v for v in (value("frechet", "lenet"), value("recall", "lenet"))} | {"psnr_test": 3.0}
    for asked, key in (("frechet", "fd_lenet"), ("fd", "fd_lenet"), ("fd_lenet", "fd_lenet"),
                       ("recall", "recall_lenet"), ("psnr", "psnr_test")):
        assert best.column(asked, found) == key
    with pytest.raises(UserError, match="names none of what this run measures; choose one of fd_lenet, recall_lenet"):
        best.column("fid", found)
    with pytest.raises(UserError, match="names 2 of what this run measures; choose one of a_x, a_y"):
        best.column("a", {"a_x": 1.0, "a_y": 2.0})
    for metrics, network in ((("frechet", "recall", "ms_ssim"), "lenet"), (("fid", "is"), "inception")):
        names = Evaluation(metrics=metrics, network=network).names
        known = {v.recipe.key: v for v in (value("frechet", network, weights="6726825d"), value("ms_ssim"))}
        assert set(known) - {"ms_ssim"} < set(names) and all(m in names for m in metrics if m != "is") and "fd" in names


@pytest.mark.parametrize("values, kept", [([3.0, 2.0, 2.0, 4.0], [0, 1]), ([np.nan, 2.0, np.inf, 1.0], [1, 3])])
def test_lower_or_higher_by_the_recipe_or_the_name(tmp_path, values, kept):
    for key, sign in (("fd_lenet", 1), ("recall", -1)):
        (tmp_path / key).mkdir()
        keeper, saved = best.Best(RunFolder(tmp_path / key), key), []
        for i, v in enumerate(values):
            keeper.offer(i, {key: sign * v}, lambda file, best, saved=saved, i=i: saved.append(i))
        assert saved == kept


TOY = "tests/core/toy_config.py"


@pytest.mark.parametrize(("config", "items", "says"), [
    (TOY, ("keep_best=norm",), "chooses between evaluations: set config.train.eval_every"),
    (f"{TOY}:task=ToyAdversarial", ("keep_best=fd", "eval_every=2"), "ToyAdversarial measures nothing"),
    (TOY, ("keep_best=nrom", "eval_every=2"), "names none of what this run measures; choose one"),
    ("fields/giraffe:small", ("keep_best=fd", "eval_every=2"), "this config's Giraffe measures nothing"),
    ("fields/giraffe:small,features=lenet", ("keep_best=fid", "eval_every=2"), "did you mean 'fd'?"),
])
def test_mistakes_are_one_line(tmp_path, capsys, config, items, says):
    argv = ["train", "--config", config, "--workdir", str(tmp_path / "run"), "--quiet",
            *(f"--config.train.{i}" for i in items)]
    assert launch.main(argv) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1, err
    rows = tmp_path / "run" / "metrics.jsonl"
    assert not rows.exists() or not rows.read_text(), "said before the first step"
