"""`bench scaling`: its rows, the worker processes, and that a save keeps only the copy in the loop's thread."""

import json
import threading

import jax.numpy as jnp
import pytest

import launch
from experiments.bench import _scaling_worker
from genjax.core import checkpoint
from genjax.core import config as config_lib
from genjax.core.experiment import Programs
from genjax.core.task import TrainState


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The smoke form, through the verb."""
    file = tmp_path_factory.mktemp("bench") / "rows.json"
    assert launch.main(["bench", "scaling", "--smoke", "--repeats", "1", "--json", str(file)]) == 0
    return json.loads(file.read_text())


def test_rows(rows):
    for row in rows:
        assert {"case", "unit", "genjax", "peer", "peer_name", "ratio", "device"} < set(row)
        assert row["genjax"] > 0 and "fake devices" in row["device"]
    names = [r["case"].split(", batch")[0] for r in rows]
    assert names[:3] == ["1 device", "data parallel, 2 devices", "FSDP, 2 devices"]
    assert [r["unit"] for r in rows] == ["ms"] * 3 + ["steps/s"] * 2
    assert [r["peer"] is None for r in rows] == [True] + [False] * 4
    for row in rows[3:]:
        assert row["overhead_percent"] == pytest.approx(100 * (1 / row["ratio"] - 1))
        assert 0 < row["loop_held_percent"] < 100


def test_bytes_against_devices(rows):
    one, replicated, split = rows[:3]
    for part in ("bytes_params", "bytes_opt_state", "bytes_ema"):
        assert one[part] == replicated[part] > 200_000
        assert split[part] == pytest.approx(one[part] / 2, rel=0.05)
    assert split["ms_per_sample"] == pytest.approx(split["genjax"] / 16)


def test_the_full_form_has_a_few_million_parameters():
    state = Programs(config_lib.build(_scaling_worker.config())).abstract
    assert 4e6 < sum(x.size for x in checkpoint.flat(state.params).values()) < 5e6


def test_a_worker_that_fails_is_an_error():
    with pytest.raises(RuntimeError, match="worker process ended"), _scaling_worker.worker(1, rule="shard"):
        pass


def test_a_stretch_is_as_many_steps_and_the_run_ends_with_the_benchmark(tmp_path):
    with _scaling_worker.worker(1, workdir=str(tmp_path), stretch=4, steps=10**9, save_every=4, log_every=1, rows=8,
                                width=128) as (stretch, ready):
        assert ready == {"loop_held_percent": 0.0}
        for _ in range(3):
            assert 0 < stretch()["loop_held_percent"] < 100
    written = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert written == list(range(4 // 2 + 3 * 4 + 1))
    assert json.loads((tmp_path / "PREEMPTED").read_text())["step"] == len(written), "saved, as a real run"
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"12", "15"}


def test_saving_computes_no_digest_in_the_thread_that_trains(tmp_path, monkeypatch):
    threads, digest = [], checkpoint.digest
    monkeypatch.setattr(checkpoint, "digest",
                        lambda tree: (threads.append(threading.current_thread()), digest(tree))[1])
    state = TrainState(jnp.int32(3), {"w": jnp.arange(100_000.0)})
    want = digest(state)
    saver = checkpoint.Checkpoints(tmp_path / "c")
    saver.save(state)
    saver.close()
    assert len(threads) == 1 and threads[0] is not threading.main_thread()
    meta = json.loads((tmp_path / "c" / "3" / "meta" / "metadata").read_text())
    assert meta["digest"] == want and meta["layout"] == checkpoint.layout(state)


def test_a_digest_that_cannot_be_computed_leaves_no_checkpoint(tmp_path, monkeypatch):
    """A checkpoint gets its name only when its digest is written."""
    monkeypatch.setattr(checkpoint, "digest", lambda tree: 1 / 0)
    saver = checkpoint.Checkpoints(tmp_path / "c")
    saver.save(TrainState(jnp.int32(3), {"w": jnp.arange(10.0)}))
    with pytest.raises(ZeroDivisionError):
        saver.close()
    assert not (tmp_path / "c" / "3").exists()
