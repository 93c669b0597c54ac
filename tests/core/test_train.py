"""The loop: resume is exact however a run is cut, signals save, NaN stops, intervals and marks are right."""

import itertools
import json
import os
import shutil
import signal
import threading
import time

import jax
import numpy as np
import pytest
from PIL import Image

from genjax.core import config as config_lib
from genjax.core import distributed, inspect, pace, report, snapshot
from genjax.core import run as run_lib
from genjax.core import train as train_lib
from genjax.core.checkpoint import digest, load_snapshot, read_arrays
from genjax.core.config import experiment, node
from genjax.core.experiment import Programs, to_steps
from genjax.core.run import RunFolder
from genjax.errors import UserError
from genjax.viz import jsonl
from genjax.viz.atomic import short_name, write_file
from genjax.viz.grid import save_png
from tests.core.toy import ToyData, ToyTask


def toy(task="ToyTask", steps=12, task_kw=None, data_kw=None, **train):
    config = experiment(
        task=node(f"tests.core.toy.{task}", optimizer="@optimizer", ema_decay=0.9, **(task_kw or {})),
        data=node("tests.core.toy.ToyData", **(data_kw or {})),
        optimizer=node("genjax.core.optim.adam", learning_rate=0.01, schedule="cosine", decay_steps=20),
        train=node("genjax.core.experiment.TrainOptions", steps=steps, **{"save_every": 4, **train}),
    )
    return config_lib.finalize(config)


@pytest.mark.parametrize("task", ["ToyTask", "ToyAdversarial"])
@pytest.mark.parametrize("calls", [1, 5])
def test_resume_is_exact(tmp_path, task, calls):
    whole = train_lib.train(toy(task, steps_per_call=calls), tmp_path / "whole", quiet=True)
    train_lib.train(toy(task, steps=7, steps_per_call=calls), tmp_path / "cut", quiet=True)
    cut = train_lib.train(toy(task, steps_per_call=calls), tmp_path / "cut", quiet=True)
    assert cut.step == whole.step == 12
    assert digest(cut.state) == digest(whole.state)
    train_rows = [[r for r in jsonl.read(tmp_path / n / "metrics.jsonl") if r["kind"] == "train"]
                  for n in ("whole", "cut")]
    assert [r["step"] for r in train_rows[0]] == list(range(12))
    assert train_rows[0] == train_rows[1]


def test_steps_per_call_gives_the_same_run(tmp_path):
    a = train_lib.train(toy(steps_per_call=4), tmp_path / "a", quiet=True)
    b = train_lib.train(toy(steps_per_call=5, save_every=3), tmp_path / "b", quiet=True)
    assert digest(a.state) == digest(b.state)
    c = train_lib.train(toy(steps_per_call=1), tmp_path / "c", quiet=True)
    for x, y in zip(jax.tree.leaves(a.state), jax.tree.leaves(c.state), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_run_folder_and_verbs(tmp_path):
    out = train_lib.train(toy(preview_every=6, eval_every=6), tmp_path / "run", quiet=True)
    run = tmp_path / "run"
    names = {p.name for p in run.iterdir()}
    assert {"config.json", "metrics.jsonl", "log.txt", "samples", "checkpoints", "snapshots", "DONE"} <= names
    assert len(list((run / "samples").glob("*.png"))) == 2
    state = inspect.status(str(run))
    assert state["state"] == "done" and state["step"] == 12
    assert state["digest"] == digest(read_arrays(run / "checkpoints", 12))
    variables, meta = load_snapshot(run / "snapshots" / "step_00000012.npz")
    np.testing.assert_array_equal(variables["params"]["first"]["kernel"], out.state.ema["first"]["kernel"])
    assert meta["config"]["train"]["steps"] == 12 and meta["environment"]["jax"] == jax.__version__
    opened = snapshot.OpenedRun(run)
    assert opened.meta == meta and opened.config.train.steps == 12 and opened.experiment.task.keep_rate == 0.9
    np.testing.assert_array_equal(opened.variables["params"]["first"]["kernel"], variables["params"]["first"]["kernel"])
    page = report.write(run).read_text()
    assert "data:image/png;base64" in page and "<script" not in page and "src=\"http" not in page
    row = snapshot.evaluate(str(run), None)
    assert row["norm"] == pytest.approx(out.metrics["norm"])
    assert snapshot.sample(str(run), None, 4, 1, None).exists()


def test_digest_of_state_and_of_files_agree(tmp_path):
    out = train_lib.train(toy(), tmp_path / "run", quiet=True)
    assert digest(out.state) == inspect.status(str(tmp_path / "run"))["digest"]


def test_finished_run_returns_at_once(tmp_path):
    train_lib.train(toy(), tmp_path / "run", quiet=True)
    before = json.loads((tmp_path / "run" / "DONE").read_text())
    again = train_lib.train(toy(), tmp_path / "run", quiet=True)
    after = json.loads((tmp_path / "run" / "DONE").read_text())
    assert again.step == 12 and after["seconds"] == before["seconds"]
    saved = (tmp_path / "run" / "config.json").read_text()
    assert train_lib.train(toy(steps=6), tmp_path / "run", quiet=True).step == 12
    assert (tmp_path / "run" / "config.json").read_text() == saved, "the config is that of the run that was done"
    assert json.loads((tmp_path / "run" / "DONE").read_text()) == before


def test_longer_run_goes_on_and_another_config_is_refused(tmp_path):
    train_lib.train(toy(steps=6), tmp_path / "run", quiet=True)
    assert train_lib.train(toy(steps=9), tmp_path / "run", quiet=True).step == 9
    with pytest.raises(UserError, match="config.task.hidden: 32 there, 64 here"):
        train_lib.train(toy(task_kw={"hidden": 64}), tmp_path / "run", quiet=True)


def test_damaged_newest_checkpoint_falls_back(tmp_path, caplog):
    whole = train_lib.train(toy(), tmp_path / "whole", quiet=True)
    train_lib.train(toy(steps=8), tmp_path / "cut", quiet=True)
    newest = tmp_path / "cut" / "checkpoints" / "8"
    files = [p for p in newest.rglob("*") if p.is_file() and "state" in p.parts and p.stat().st_size > 200]
    assert files
    for p in files:
        p.write_bytes(p.read_bytes()[: p.stat().st_size // 2])
    (tmp_path / "cut" / "DONE").unlink()
    with caplog.at_level("WARNING", logger="genjax"):
        again = train_lib.train(toy(), tmp_path / "cut", quiet=True)
    assert "checkpoint 8 is unreadable" in caplog.text and "falling back" in caplog.text
    assert digest(again.state) == digest(whole.state)
    assert (tmp_path / "cut" / "corrupt" / "8").is_dir()


def test_no_readable_checkpoint_is_one_line(tmp_path):
    train_lib.train(toy(steps=8, keep=1), tmp_path / "run", quiet=True)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "8" / "state")
    rows = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    for _ in range(2):  # the same command again is no way to lose the run
        with pytest.raises(UserError, match="none of the checkpoints.*to start over at step 0"):
            train_lib.train(toy(keep=1), tmp_path / "run", quiet=True)
        assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == rows and (tmp_path / "run" / "DONE").exists()
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert train_lib.train(toy(keep=1), tmp_path / "run", quiet=True).step == 12


def test_a_longer_config_never_stands_beside_the_done_of_a_shorter_run(tmp_path, monkeypatch):
    """A sweep would take it for done."""
    train_lib.train(toy(steps=6), tmp_path / "run", quiet=True)
    folder = RunFolder(tmp_path / "run")
    old = folder.config_file.read_text()

    def killed(path, data):
        if path == folder.config_file:
            assert not (tmp_path / "run" / "DONE").exists()
            raise KeyboardInterrupt
        return write_file(path, data)

    monkeypatch.setattr(run_lib, "write_file", killed)
    with pytest.raises(KeyboardInterrupt):
        train_lib.train(toy(steps=9), tmp_path / "run", quiet=True)
    assert folder.config_file.read_text() == old and folder.state() == ("running", {})
    monkeypatch.undo()
    assert train_lib.train(toy(steps=9), tmp_path / "run", quiet=True).step == 9


def test_a_clock_that_is_set_back_does_not_change_how_long_a_run_took(tmp_path, monkeypatch):
    now = time.time()
    ticks = itertools.count()
    monkeypatch.setattr(time, "time", lambda: now - 3600 * next(ticks))
    out = train_lib.train(toy(), tmp_path / "run", quiet=True)
    done = json.loads((tmp_path / "run" / "DONE").read_text())
    assert 0 < out.seconds < 600 and done["steps_per_second"] > 0


@pytest.mark.parametrize("calls", [1, 4])
def test_nan_stops_and_names_the_step(tmp_path, calls):
    config = toy(data_kw={"poison": 6}, steps_per_call=calls)
    with pytest.raises(train_lib.TrainingFailure, match="at step 6; last good checkpoint: 4"):
        train_lib.train(config, tmp_path / "run", quiet=True)
    reason = json.loads((tmp_path / "run" / "FAILED").read_text())["reason"]
    assert "'x' of that batch holds NaN or infinite values in 1 of 8 rows, first in 0" in reason
    assert reason.endswith("mend the data") and "learning_rate" not in reason
    assert inspect.status(str(tmp_path / "run"))["state"] == "failed"
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir() if p.name.isdigit()) == ["4"]


def test_a_loss_that_grows_names_the_keys_that_there_are(tmp_path):
    """Learning rates and clipping of the config at hand, not those of another one."""
    with pytest.raises(train_lib.TrainingFailure) as e:
        train_lib.train(config_lib.override(toy(), ["optimizer.learning_rate=1e30"]), tmp_path / "run", quiet=True)
    assert str(e.value).endswith("none; lower config.optimizer.learning_rate or clip gradients, e.g."
                                 " config.optimizer.clip_norm=1") and "batch" not in str(e.value)
    two = experiment(task=node("tests.core.toy.ToyTask", d_optimizer=node("optax.adam", learning_rate=1.0)),
                     optimizer=node("optax.sgd", learning_rate=0.1))
    assert train_lib.steadier(two) == "lower config.optimizer.learning_rate or config.task.d_optimizer.learning_rate"
    assert "learning_rate" not in train_lib.steadier(experiment(task=node("tests.core.toy.ToyTask")))


def test_files_of_a_finished_run_have_names_that_fit(tmp_path):
    """Known before it trains: a picture's long name is shortened, a folder's path that leaves no room is refused."""
    long = tmp_path / f"{'ü' * 110}.png"
    save_png(long, np.zeros((32, 32, 3)))
    config = config_lib.override(config_lib.smoke(config_lib.load("dip/denoise:small")), [f"image={long}"])
    train_lib.train(config, str(tmp_path / "run"), quiet=True)
    kept = sorted(p.name for p in (tmp_path / "run" / "outputs").iterdir())
    assert len(kept) > 2 and all(len(n.encode()) < 140 for n in kept)
    assert len({short_name("a" * 300 + k) for k in ("ema", "last")}) == 2 and short_name("a_ema") == "a_ema"
    deep = tmp_path.joinpath(*["d" * 205] * 19)
    with pytest.raises(UserError, match="is too long a path"):
        train_lib.train(toy(), str(deep), quiet=True)
    assert not (tmp_path / ("d" * 205)).exists()


def test_stop_metric_ends_the_run(tmp_path):
    out = train_lib.train(toy(task_kw={"stop_at": 5}, save_every=0), tmp_path / "run", quiet=True)
    assert 5 <= out.step <= 7 and not out.preempted
    assert inspect.status(str(tmp_path / "run"))["state"] == "done"
    done = (tmp_path / "run" / "DONE").read_text()
    assert json.loads(done)["stopped"] is True
    again = train_lib.train(toy(task_kw={"stop_at": 5}, save_every=0), tmp_path / "run", quiet=True)
    assert again.step == out.step and digest(again.state) == digest(out.state)
    assert (tmp_path / "run" / "DONE").read_text() == done, "the second start trains nothing"


@pytest.mark.parametrize("at", [2, 4, 6])  # the call before the one with the stop, that one, the one after
def test_a_signal_changes_nothing_about_where_a_stop_ends_the_run(tmp_path, monkeypatch, at):
    config = toy(task_kw={"stop_at": 5}, save_every=0, steps_per_call=2)
    whole = train_lib.train(config, tmp_path / "whole", quiet=True)
    assert whole.step == 8, "the stop is in the call of steps 4 and 5, the next one was under way"
    batch = ToyData.batch
    with monkeypatch.context() as m:
        m.setattr(ToyData, "batch", lambda self, i: (signal.raise_signal(signal.SIGTERM) if i == at else None,
                                                     batch(self, i))[1])
        first = train_lib.train(config, tmp_path / "cut", quiet=True)
    assert first.preempted and first.step == at + 2  # a signal in the last call leaves measuring to the next start
    cut = train_lib.train(config, tmp_path / "cut", quiet=True)
    assert cut.step == whole.step and digest(cut.state) == digest(whole.state)


def test_calls_end_at_multiples_of_their_length(tmp_path, monkeypatch):
    """Also after a start that is none: a stop ends a run that was made longer where it would have ended anyway."""
    found = []
    step = Programs.step
    monkeypatch.setattr(Programs, "step", lambda self, state, batch, count: (
        found.append((int(state.step), count)), step(self, state, batch, count))[1])
    train_lib.train(toy(steps=7, save_every=0, steps_per_call=5), tmp_path / "run", quiet=True)
    train_lib.train(toy(steps=17, save_every=0, steps_per_call=5), tmp_path / "run", quiet=True)
    # The first call of a start compiles and the second is timed: of one step each.
    assert found == [(0, 1), (1, 1), (2, 3), (5, 2), (7, 1), (8, 1), (9, 1), (10, 5), (15, 2)]


@pytest.mark.parametrize("at", [None, 2, 5, 6, 7, 8, 9])
def test_slow_steps_are_cut_into_short_calls_and_no_bit_changes(tmp_path, monkeypatch, at):
    """Calls of 4 steps that would take too long; a stop in step 5; a signal while the batch of step `at` is fetched."""
    config = toy(task_kw={"stop_at": 6}, save_every=0, steps_per_call=4, steps=20)
    whole = train_lib.train(config, tmp_path / "whole", quiet=True)
    assert whole.step == 12, "the stop is in the call of steps 4 to 7, the next one was under way"
    monkeypatch.setattr(pace, "SECONDS", 0.0)
    counts, step, batch = [], Programs.step, ToyData.batch
    monkeypatch.setattr(Programs, "step", lambda self, state, batch, count: (
        counts.append(count), step(self, state, batch, count))[1])
    if at is not None:
        with monkeypatch.context() as m:
            m.setattr(ToyData, "batch", lambda self, i: (signal.raise_signal(signal.SIGTERM) if i == at else None,
                                                         batch(self, i))[1])
            first = train_lib.train(config, tmp_path / "cut", quiet=True)
        assert first.preempted and first.step == at + 1
    cut = train_lib.train(config, tmp_path / "cut", quiet=True)
    assert set(counts) == {1}
    assert cut.step == whole.step and digest(cut.state) == digest(whole.state)


def test_a_signal_ends_an_evaluation_and_the_next_start_measures_again(tmp_path, monkeypatch):
    config, measured = toy(steps=6, eval_every=3, save_every=0), []
    whole = train_lib.train(config, tmp_path / "whole", quiet=True)

    def evaluate(self, variables, data, rng):
        measured.append(int(signal.getsignal(signal.SIGTERM) is not None))
        if len(measured) == 1:
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError("goes on")
        return {"error": 1.0}

    monkeypatch.setattr(ToyTask, "evaluate", evaluate)
    first = train_lib.train(config, tmp_path / "cut", quiet=True)
    assert first.preempted and first.step == 3
    cut = train_lib.train(config, tmp_path / "cut", quiet=True)
    assert [r["step"] for r in jsonl.read(tmp_path / "cut" / "metrics.jsonl") if r["kind"] == "eval"] == [3, 6]
    assert digest(cut.state) == digest(whole.state)


def test_a_signal_while_the_first_step_compiles_leaves_in_time_where_nothing_is_lost(tmp_path, monkeypatch):
    left, step = threading.Event(), Programs.step

    def compiles(self, state, batch, count):
        if not left.is_set():
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            assert left.wait(20)  # as in one C++ call: the loop does not look
        return step(self, state, batch, count)

    monkeypatch.setattr(distributed.Signals, "PATIENCE", 0.05)
    monkeypatch.setattr(Programs, "step", compiles)
    monkeypatch.setattr(os, "_exit", lambda code: (left.codes.append(code), left.set()))
    left.codes = []
    out = train_lib.train(toy(steps=3), tmp_path / "run", quiet=True)
    assert left.codes == [75] and out.preempted  # a real exit would have been the end


def test_pictures_a_task_keeps_are_files_of_their_own(tmp_path):
    out = train_lib.train(toy(steps=2, task_kw={"keeps": True}), tmp_path / "run", quiet=True)
    assert [p.name for p in (tmp_path / "run" / "outputs").iterdir()] == ["kernel.png"]
    pixels = np.asarray(Image.open(tmp_path / "run" / "outputs" / "kernel.png"))
    kernel = np.clip(np.abs(out.state.ema["first"]["kernel"]), 0, 1)
    np.testing.assert_array_equal(pixels, np.round(kernel * 255).astype(np.uint8)[:, :, None].repeat(3, 2))
    train_lib.train(toy(steps=2), tmp_path / "none", quiet=True)
    assert not (tmp_path / "none" / "outputs").exists()


def test_micro_batches_equal_the_large_batch(tmp_path):
    config = toy()
    batch = config_lib.build(config).data.batch(0)
    rng = jax.random.key(0)
    results = []
    for parts in (1, 4):
        task = config_lib.build(config_lib.override(config, [f"task.micro_batches={parts}"])).task
        # without dropout the gradient of the mean is the mean of the gradients
        object.__setattr__(task, "loss", lambda p, e, b, r: (((b["x"] @ p["first"]["kernel"]) ** 2).mean(), (e, {})))
        state = task.init(rng, config_lib.build(config).data.element_spec)
        results.append(task.step(state, batch, rng)[0].params["first"]["kernel"])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5, atol=1e-6)


def test_ema_follows_its_formula():
    config = toy()
    programs = Programs(config_lib.build(config))
    state = programs.init()
    before = np.asarray(state.params["first"]["kernel"])
    state, _ = programs.step(state, programs.put(0, 1))
    after = np.asarray(state.params["first"]["kernel"])
    np.testing.assert_allclose(state.ema["first"]["kernel"], 0.9 * before + 0.1 * after, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("text", "steps"), [(3000, 3000), ("3000 steps", 3000), ("8Ki images", 128),
                                             ("2 epochs", 31), ("1.5k", 1500)])
def test_durations(text, steps):
    assert to_steps(text, batch_size=64, dataset_size=1000, where="config.train.steps") == steps


def test_bad_duration_is_one_line():
    with pytest.raises(UserError, match="config.train.steps: '3 weeks' is no duration"):
        to_steps("3 weeks", 1, 1, "config.train.steps")
