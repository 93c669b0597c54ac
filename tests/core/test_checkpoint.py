"""Checkpoints and snapshots: every bit comes back, damage is noticed, another architecture is refused."""

import errno
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from genjax.core import inspect as inspect_lib
from genjax.core.checkpoint import (
    Checkpoints,
    digest,
    flat,
    layout,
    load_snapshot,
    read_arrays,
    save_snapshot,
    shard_digests,
    unflatten,
)
from genjax.core.sharding import path_str
from genjax.core.task import TrainState
from genjax.errors import UserError


def make_state(step=0, width=3, seed=0):
    """A state with every kind of leaf: floats of three widths, integers, booleans, scalars, NaN, empty parts."""
    rng = np.random.default_rng(seed)
    w = jnp.asarray(rng.normal(size=(2, width)).astype(np.float32))
    return TrainState(
        jnp.int32(step), {"a": {"kernel": w}, "b": [w[0], w.astype(jnp.bfloat16)]}, {},
        (jnp.float16(0.1), {"count": jnp.int32(7), "flag": jnp.bool_(True)}),
        {"nan": jnp.float32(np.nan), "negative_zero": jnp.float32(-0.0), "unsigned": jnp.uint32(3)})


def abstract(state):
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state)


def saved(folder, *states, keep=5):
    saver = Checkpoints(folder, keep)
    for state in states:
        saver.save(state)
    saver.close()


def restore(folder, like):
    saver = Checkpoints(folder)
    try:
        return saver.restore(abstract(like)), saver.steps()
    finally:
        saver.close()


def test_every_bit_comes_back(tmp_path):
    state = make_state(4)
    saved(tmp_path / "c", state)
    got, steps = restore(tmp_path / "c", state)
    assert steps == [4] and jax.tree.structure(got) == jax.tree.structure(state)
    assert digest(got) == digest(state) == digest(read_arrays(tmp_path / "c", 4))
    assert [x.dtype for x in jax.tree.leaves(got)] == [x.dtype for x in jax.tree.leaves(state)]


def test_digest_sees_one_bit_a_name_a_shape_and_a_type():
    state = make_state()
    base = digest(state)
    w = np.array(state.params["a"]["kernel"])
    w.view(np.uint32)[1, 2] ^= 1
    assert digest(state.replace(params={**state.params, "a": {"kernel": w}})) != base
    assert digest(state.replace(extra={**state.extra, "negative_zero": jnp.float32(0.0)})) != base
    assert digest({"a": np.zeros(4)}) != digest({"b": np.zeros(4)})
    assert digest({"a": np.zeros(4)}) != digest({"a": np.zeros((2, 2))})
    assert digest({"a": np.zeros(2, np.int32)}) != digest({"a": np.zeros(2, np.float32)})
    assert digest({"a": np.zeros(2), "b": np.ones(2)}) == digest({"b": np.ones(2), "a": np.zeros(2)})
    assert digest(make_state()) == base


def test_the_newest_is_taken_and_the_oldest_go(tmp_path):
    saved(tmp_path / "c", *[make_state(s, seed=s) for s in (1, 2, 3, 10)], keep=2)
    got, steps = restore(tmp_path / "c", make_state())
    assert steps == [3, 10] and digest(got) == digest(make_state(10, seed=10))
    assert restore(tmp_path / "empty", make_state())[0] is None


def test_saving_a_step_twice_keeps_the_first(tmp_path):
    saved(tmp_path / "c", make_state(1, seed=1), make_state(1, seed=2))
    assert digest(restore(tmp_path / "c", make_state())[0]) == digest(make_state(1, seed=1))


def test_a_state_may_be_donated_while_it_is_being_saved(tmp_path):
    change = jax.jit(lambda s: jax.tree.map(lambda x: x + 1 if x.dtype != bool else ~x, s), donate_argnums=0)
    big = TrainState(jnp.int32(1), {"w": jnp.arange(2_000_000, dtype=jnp.float32)})
    want = digest(big)
    saver = Checkpoints(tmp_path / "c")
    saver.save(big)
    for _ in range(5):
        big = change(big)
    saver.close()
    assert digest(read_arrays(tmp_path / "c", 1)) == want


def test_another_architecture_is_one_line_that_names_an_array(tmp_path):
    saved(tmp_path / "c", make_state(3))
    with pytest.raises(UserError, match=r"2 arrays differ|3 arrays differ.*params/a/kernel.*\[2, 3\].*\[2, 5\]") as e:
        restore(tmp_path / "c", make_state(width=5))
    assert "--workdir" in str(e.value) and (tmp_path / "c" / "3").is_dir(), "a good checkpoint is not set aside"
    more = make_state().replace(ema={"w": jnp.zeros(2)})
    with pytest.raises(UserError, match=r"ema/w: saved absent"):
        restore(tmp_path / "c", more)


def test_clearing_away_half_checkpoints_never_meets_a_save(tmp_path, monkeypatch):
    """Orbax removes what killed runs left in a thread of its own, perhaps only when the first save has begun."""
    make = Path.mkdir

    def made(self, *args, **kwargs):
        make(self, *args, **kwargs)
        for litter in self.parent.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(litter)

    monkeypatch.setattr(Path, "mkdir", made)
    saver = Checkpoints(tmp_path / "c")
    saver.save(make_state(1))
    monkeypatch.undo()
    saver.close()
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["1"]


@pytest.mark.parametrize("damage", ["truncate", "empty", "remove", "garbage"])
def test_a_ruined_checkpoint_falls_back_to_the_one_before(tmp_path, caplog, damage):
    folder = tmp_path / "checkpoints"
    saved(folder, make_state(1, seed=1), make_state(2, seed=2))
    for p in [p for p in (folder / "2").rglob("*") if p.is_file()]:
        if damage == "remove":
            p.unlink()
        else:
            data = p.read_bytes()
            p.write_bytes({"truncate": data[: len(data) // 2], "empty": b"",
                           "garbage": np.random.default_rng(0).bytes(len(data) + 10)}[damage])
    got, steps = restore(folder, make_state())
    assert digest(got) == digest(make_state(1, seed=1)) and steps == [1]
    assert (tmp_path / "corrupt" / "2").is_dir() and caplog.text.count("falling back") == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the reader it stops
def test_damage_to_any_one_file_is_noticed_or_harmless(tmp_path):
    """The storage layer has no checksum over large arrays: the digest saved beside them is what notices."""
    states = [make_state(1, 3000, 1), make_state(2, 3000, 2)]
    saved(tmp_path / "good", *states)
    rng, outcomes = np.random.default_rng(0), []
    for file in sorted(p.relative_to(tmp_path / "good") for p in (tmp_path / "good" / "2").rglob("*") if p.is_file()):
        if file.parts[-2:] == ("meta", "metadata"):
            continue  # a changed layout reads as another architecture
        for damage in ("flip", "truncate", "remove"):
            folder = tmp_path / f"{len(outcomes)}" / "checkpoints"
            shutil.copytree(tmp_path / "good", folder)
            data = bytearray((folder / file).read_bytes())
            if damage == "flip" and data:
                data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
            (folder / file).write_bytes(data[: len(data) // 2] if damage == "truncate" else data)
            if damage == "remove":
                (folder / file).unlink()
            outcomes.append([digest(s) for s in states].index(digest(restore(folder, states[0])[0])))
    assert outcomes.count(0) > 5 and outcomes.count(1) > 5, "some damage is fatal, some harmless; none goes unseen"


TROUBLE = {
    "memory": (MemoryError(), "MemoryError; free memory"),
    "device": (RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes"), "larger devices"),
    "rights": (PermissionError(errno.EACCES, "Permission denied", "x"), "Permission denied; make it readable"),
    "files": (OSError(errno.EMFILE, "Too many open files"), "allow more open files"),
    "kernel": (OSError(errno.ENOMEM, "Cannot allocate memory"), "free memory"),
    "disk": (OSError(errno.EIO, "Input/output error"), "Input/output error; see to the disk"),
    "network": (OSError(errno.ESTALE, "Stale file handle"), "see to the disk or the network"),
    "store": (ValueError("RESOURCE_EXHAUSTED: Failed to open: Too many open files [os_error_code='24']"), "ulimit -n"),
    "rights below": (ValueError("PERMISSION_DENIED: Failed to open [os_error_code='13']"), "make it readable"),
}


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", TROUBLE)
@pytest.mark.parametrize("wrapped", [False, True])
def test_trouble_that_is_no_damage_moves_nothing(tmp_path, monkeypatch, name, wrapped):
    """Not even where an older checkpoint could be read: the newest is whole."""
    error, says = TROUBLE[name]
    saved(tmp_path / "c", make_state(1, seed=1), make_state(2, seed=2))
    before, read = tree(tmp_path), ocp.PyTreeCheckpointHandler.restore

    def fail(self, directory, *args, **kwargs):
        if directory.parent.name != "2":
            return read(self, directory, *args, **kwargs)
        if wrapped:
            raise RuntimeError("reading an array failed") from error
        raise error

    monkeypatch.setattr(ocp.PyTreeCheckpointHandler, "restore", fail)
    with pytest.raises(UserError) as e:
        restore(tmp_path / "c", make_state())
    assert says in str(e.value) and "cannot read checkpoint 2 in" in str(e.value) and "\n" not in str(e.value)
    assert tree(tmp_path) == before
    monkeypatch.undo()
    assert digest(restore(tmp_path / "c", make_state())[0]) == digest(make_state(2, seed=2))


def test_where_all_are_damaged_nothing_is_moved_and_the_run_never_begins_again(tmp_path, caplog):
    saved(tmp_path / "c", make_state(1, seed=1), make_state(2, seed=2))
    good = tree(tmp_path / "c")
    shutil.rmtree(tmp_path / "c" / "1" / "state")
    (tmp_path / "c" / "2" / "meta" / "metadata").write_text("{")
    before = tree(tmp_path)
    for _ in range(2):
        with pytest.raises(UserError, match=r"none of the checkpoints \[2, 1\] in .*/c is readable \(.*\); put"
                                            r" back whole files, or remove that folder to start over at step 0"):
            restore(tmp_path / "c", make_state())
        assert tree(tmp_path) == before and not caplog.text, "one line, the error"
    for name, data in good.items():
        (tmp_path / "c" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "c" / name).write_bytes(data)
    assert digest(restore(tmp_path / "c", make_state())[0]) == digest(make_state(2, seed=2))


def test_a_damaged_checkpoint_that_cannot_be_set_aside_is_one_line(tmp_path):
    saved(tmp_path / "c", make_state(1, seed=1), make_state(2, seed=2))
    shutil.rmtree(tmp_path / "c" / "2" / "state")
    (tmp_path / "corrupt").write_text("a file")
    with pytest.raises(UserError, match="corrupt: File exists; mend that and run the same command again"):
        restore(tmp_path / "c", make_state())
    (tmp_path / "corrupt").unlink()
    assert digest(restore(tmp_path / "c", make_state())[0]) == digest(make_state(1, seed=1))


def test_shard_digests_name_every_part_once():
    state = make_state(3)
    parts = shard_digests(state)
    assert parts.keys() == flat(state).keys() and all(len(p) == 1 for p in parts.values())
    assert list(parts["params/a/kernel"]) == ["0:2,0:3"] and list(parts["step"]) == [""]
    other = shard_digests(state.replace(extra={**state.extra, "negative_zero": jnp.float32(0.0)}))
    assert [k for k in parts if parts[k] != other[k]] == ["extra/negative_zero"]


def test_checkpoints_of_before_are_read(tmp_path):
    """Without `shards`, or with no digest, as several processes wrote."""
    saved(tmp_path / "c", make_state(4))
    file = tmp_path / "c" / "4" / "meta" / "metadata"
    meta = json.loads(file.read_text())
    for changed in ({"layout": meta["layout"], "digest": meta["digest"]}, {"layout": meta["layout"], "digest": None}):
        file.write_text(json.dumps(changed))
        assert digest(restore(tmp_path / "c", make_state())[0]) == digest(make_state(4))


def test_half_written_checkpoints_of_a_killed_run_are_cleared(tmp_path):
    saved(tmp_path / "c", make_state(1))
    litter = next((tmp_path / "c").glob("1")).rename(tmp_path / "c" / "2.orbax-checkpoint-tmp")
    saved(tmp_path / "c", make_state(1))
    assert restore(tmp_path / "c", make_state())[1] == [1] and not litter.exists()


# Snapshots


def test_snapshot_round_trip(tmp_path):
    params = {"w": jnp.arange(6.0).reshape(2, 3), "deep": {"b": jnp.int32(3)}}
    variables = {"params": params, "extra": {"z": jnp.ones(2)}}
    meta = {"step": 7, "config": {"a": [1, 2]}, "metrics": {"psnr": 1.5}}
    save_snapshot(tmp_path / "s" / "step_7.npz", variables, meta)
    got, got_meta = load_snapshot(tmp_path / "s" / "step_7.npz")
    assert got_meta == meta and jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), got, variables))
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["step_7.npz"], "no temporary file stays"
    with np.load(tmp_path / "s" / "step_7.npz") as plain:  # readable without genjax
        assert set(plain.files) == {"__meta__", "params/w", "params/deep/b", "extra/z"}
        assert json.loads(bytes(plain["__meta__"]))["step"] == 7


def test_flat_and_unflatten_are_inverse_on_dicts():
    tree = {"a": {"b": np.ones(2), "c": {"d": np.zeros(3)}}, "e": np.int32(1)}
    assert jax.tree.structure(unflatten(flat(tree))) == jax.tree.structure(tree)
    assert layout(tree)["a/c/d"] == [[3], "float64"]
    state_paths = [path_str(p) for p, _ in jax.tree_util.tree_flatten_with_path(make_state())[0]]
    assert {"step", "params/a/kernel", "params/b/1", "opt_state/0", "opt_state/1/count"} <= set(state_paths)


def test_a_snapshot_damaged_at_any_place_is_one_line_or_still_right(tmp_path):
    file = tmp_path / "s.npz"
    variables = {"params": {"w": np.arange(50, dtype=np.float32)}}
    save_snapshot(file, variables, {"step": 1})
    good, rng, refused = file.read_bytes(), np.random.default_rng(0), 0
    for i in range(150):
        data = bytearray(good)
        if i % 3 == 0:
            data = data[: int(rng.integers(len(data)))]
        else:
            for at in rng.integers(len(data), size=1 if i % 3 == 1 else 20):
                data[at] ^= 1 << int(rng.integers(8))
        file.write_bytes(bytes(data))
        try:
            load_snapshot(file)
        except UserError as e:
            refused += 1
            assert "\n" not in str(e) and "s.npz is not a readable genjax snapshot" in str(e)
    assert refused > 100


@pytest.mark.parametrize("content", [b"", b"not a zip", b"\x93NUMPY", None, "npy", "foreign"])
def test_what_is_no_snapshot_is_one_line(tmp_path, content):
    file = tmp_path / "x.npz"
    if content == "npy":
        with open(file, "wb") as f:
            np.save(f, np.zeros(3))
    elif content == "foreign":
        np.savez(file, w=np.zeros(3))
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match="no snapshot" if content is None else "not a readable genjax snapshot"):
        load_snapshot(file)
    with pytest.raises(UserError, match="no snapshot"):
        load_snapshot(tmp_path)


def test_status_reports_an_unreadable_checkpoint(tmp_path, root):
    from genjax.core import config as config_lib

    (tmp_path / "config.json").write_text(config_lib.to_json(config_lib.load("tests/core/toy_config.py")))
    assert inspect_lib.status(str(tmp_path))["digest"] is None
    saved(tmp_path / "checkpoints", make_state(5))
    assert inspect_lib.status(str(tmp_path))["digest"] == digest(make_state(5))
    for p in (tmp_path / "checkpoints" / "5" / "state").rglob("*"):
        if p.is_file():
            p.write_bytes(b"x")
    row = inspect_lib.status(str(tmp_path))
    assert row["digest"].startswith("unreadable") and row["step"] == 5 and "\n" not in inspect_lib.status_text([row])
