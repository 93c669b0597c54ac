"""Full checkpoints (Orbax) and small self-describing snapshots (npz).

A checkpoint holds the whole state and always restores onto the shardings of the current mesh, so 8 -> 4 -> 1 devices
works. A snapshot holds what `Task.export` gives, flat `path -> array`, with the resolved config and versions beside it,
and is readable without the code that wrote it.
"""

import contextlib
import dataclasses
import errno
import hashlib
import io
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import future, type_handlers

from genjax.core import distributed
from genjax.core.sharding import path_str
from genjax.errors import UserError
from genjax.viz.atomic import write_file

log = logging.getLogger("genjax")


def flat(tree: Any) -> dict[str, Any]:
    """`{path: leaf}` with "/"-joined paths."""
    return {path_str(p): leaf for p, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def layout(tree: Any) -> dict[str, list]:
    """`{path: [shape, dtype]}` of a tree, for comparing a checkpoint with a config."""
    return {k: [list(v.shape), str(v.dtype)] for k, v in flat(tree).items()}


def digest(tree: Any) -> str:
    """sha256 over every array (path, dtype, shape, bytes): equal digests mean equal bits."""
    h = hashlib.sha256()
    for name, x in sorted(flat(tree).items()):
        x = np.asarray(x)
        h.update(f"{name} {x.dtype} {x.shape};".encode())
        h.update(np.ascontiguousarray(x).reshape(-1).view(np.uint8))  # a view: no copy, and no other thread waits
    return h.hexdigest()


def _here(tree: Any) -> bool:
    """Whether this process holds all of the tree."""
    return all(getattr(x, "is_fully_addressable", True) for x in jax.tree.leaves(tree))


class _Meta(ocp.JsonCheckpointHandler):
    """JSON beside the arrays: their layout and digest. The thread that writes computes the digest, not the loop's; the
    checkpoint counts as finished only when both are there."""

    async def async_save(self, directory, item=None, args=None):
        """What Orbax waits for before it gives the checkpoint its name."""
        return [future.CommitFutureAwaitingContractedSignals(self._write(directory, args.state), name="meta")]

    async def _write(self, directory, state):
        if distributed.main():
            meta = {"layout": layout(state), "digest": digest(state) if _here(state) else None}
            (directory / "metadata").write_text(json.dumps(meta))


@ocp.args.register_with_handler(_Meta, for_save=True)
@dataclasses.dataclass
class _MetaSave(ocp.args.CheckpointArgs):
    state: Any


@ocp.args.register_with_handler(_Meta, for_restore=True)
@dataclasses.dataclass
class _MetaRestore(ocp.args.CheckpointArgs):
    pass


def _handlers() -> dict[str, Any]:
    """How the parts of a checkpoint are written, cheaply: what the writing takes from the cores, a step on them lacks.
    Floats hardly compress, and restoring asks for shardings of its own."""
    leaves = type_handlers.create_type_handler_registry(
        (jax.Array, type_handlers.ArrayHandler(enable_write_sharding_file=False)),
        (np.ndarray, type_handlers.NumpyHandler()))
    return {"state": ocp.PyTreeCheckpointHandler(use_compression=False, type_handler_registry=leaves),
            "meta": _Meta()}


def _silence_dropped_reads() -> None:
    """A damaged array makes Orbax drop the reads of all others, each of which would say so in hundreds of lines."""
    before = sys.unraisablehook

    def hook(found: Any) -> None:
        code = getattr(found.object, "cr_code", None)
        if code is None or "orbax" not in code.co_filename:
            before(found)

    if "_silence_dropped_reads" not in getattr(before, "__qualname__", ""):
        sys.unraisablehook = hook


class Checkpoints:
    """The checkpoints of one run: numbered folders, the newest `keep` kept, written in the background."""

    def __init__(self, folder: Path, keep: int = 2):
        self.folder, self._keep = Path(folder), keep
        self._manager = ocp.CheckpointManager(
            self.folder.resolve(),
            item_handlers=_handlers(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, create=True, enable_async_checkpointing=True, step_prefix=None,
                cleanup_tmp_directories=True),  # a killed run leaves half a checkpoint behind
        )

    def steps(self) -> list[int]:
        """Steps with a finished checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, state: Any) -> None:
        """Starts writing `state` under its own step; a step already there is left alone."""
        step = int(state.step)
        if step in self.steps():
            return
        # On the CPU the host view aliases the device buffer, which the next step donates: copy first.
        state = jax.tree.map(lambda x: x.copy() if isinstance(x, jax.Array) else x, state)
        args = ocp.args.Composite(state=ocp.args.PyTreeSave(state), meta=_MetaSave(state))
        with self._writing():
            if distributed.main():  # where it cannot make this folder, Orbax leaves threads that wait 300 s for it
                probe = self.folder / f"{step}.orbax-checkpoint-tmp"
                probe.mkdir(exist_ok=True)
                probe.rmdir()
            self._manager.save(step, args=args)

    def restore(self, abstract: Any) -> Any | None:
        """The newest readable checkpoint, placed on the shardings of `abstract`; None when there is none.

        An unreadable checkpoint is moved to `corrupt/` with a warning and the one before is taken.

        Raises:
          UserError: the checkpoint holds another architecture, or none is readable.
        """
        steps = self.steps()[::-1]
        _silence_dropped_reads()
        for step in steps:
            found, reason = None, "another process could not read it"
            try:
                found = self._read(step, abstract)
            except UserError:
                raise
            except Exception as e:  # whatever the storage layer raises on damaged files
                reason = (str(e).strip() or type(e).__name__).split("\n")[0].split(". See full ")[0][:200]
            if distributed.agree(found is not None):
                for old in self.steps()[:-self._keep]:  # a kill came between a save and the deletion that follows it
                    self._manager.delete(old)
                # Fresh buffers: restored arrays may share memory with the reader, and the loop donates them.
                return jax.tree.map(lambda x: x.copy(), found)
            log.warning("checkpoint %d is unreadable (%s); falling back to the one before", step, reason)
            if distributed.main():
                self._set_aside(step)
            distributed.barrier("set aside")
            self._manager.reload()
        if steps:
            raise UserError(f"none of the checkpoints {steps} in {self.folder} is readable; start in a fresh workdir")
        return None

    def _read(self, step: int, abstract: Any) -> Any:
        saved = self._manager.restore(step, args=ocp.args.Composite(meta=_MetaRestore()))["meta"]
        wanted = layout(abstract)
        if saved["layout"] != wanted:
            raise UserError(self._mismatch(saved["layout"], wanted))
        args = ocp.args.PyTreeRestore(abstract, ocp.checkpoint_utils.construct_restore_args(abstract))
        found = self._manager.restore(step, args=ocp.args.Composite(state=args))["state"]
        if int(found.step) != step:
            raise ValueError(f"holds step {int(found.step)}")
        # The storage layer does not notice changed bytes in large arrays.
        if saved.get("digest") and _here(found) and digest(found) != saved["digest"]:
            raise ValueError("its arrays are not the ones that were saved")
        return found

    def _set_aside(self, step: int) -> None:
        aside = self.folder.parent / "corrupt"
        aside.mkdir(exist_ok=True)
        target = aside / str(step)
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(self.folder / str(step), target)

    def _mismatch(self, saved: dict, wanted: dict) -> str:
        keys = [k for k in sorted(saved | wanted) if saved.get(k) != wanted.get(k)]
        k = keys[0]
        return (f"the checkpoint in {self.folder} does not fit this config: {len(keys)} arrays differ, first {k}:"
                f" saved {saved.get(k, 'absent')}, config {wanted.get(k, 'absent')}; use another --workdir")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """A save fails here, or, as it runs in the background, at the next one or at the end."""
        try:
            yield
        except (OSError, ValueError) as e:
            fixes = {errno.ENOSPC: "make room", errno.EDQUOT: "make room", errno.EACCES: "make it writable",
                     errno.EPERM: "make it writable", errno.EROFS: "make it writable", errno.EIO: "see to the disk"}
            known = {os.strerror(number): fix for number, fix in fixes.items()}
            known["timed out"] = "see whether the disk is slow or the clock leapt"  # Orbax's own limits
            reason = next((text for text in known if text in str(e)), None)
            if reason is None:
                raise
            raise UserError(f"cannot write a checkpoint in {self.folder}: {reason}; {known[reason]} and run the same"
                            " command again to go on from the last whole one") from None

    def close(self) -> None:
        """Waits for the last save and closes."""
        with self._writing():
            self._manager.wait_until_finished()
        self._manager.close()


def read_arrays(folder: Path, step: int) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint as `{path: numpy array}`, whatever devices wrote it."""
    path = Path(folder).resolve() / str(step) / "state"
    with ocp.PyTreeCheckpointer() as reader:
        tree = reader.metadata(path).item_metadata.tree
        args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return flat(reader.restore(path, args=ocp.args.PyTreeRestore(restore_args=args)))


def unflatten(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Nested dicts from "/"-joined paths."""
    out: dict[str, Any] = {}
    for name, x in arrays.items():
        *parents, last = name.split("/")
        here = out
        for p in parents:
            here = here.setdefault(p, {})
        here[last] = x
    return out


def save_snapshot(path: Path, variables: Any, meta: dict[str, Any]) -> None:
    """Writes `{path: array}` and the JSON `meta` (config, versions, step, metrics) as one npz file."""
    arrays = {k: np.asarray(v) for k, v in flat(variables).items()}
    buffer = io.BytesIO()
    np.savez(buffer, __meta__=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)
    write_file(path, buffer.getvalue())


def load_snapshot(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """`(variables, meta)` of a snapshot.

    Raises:
      UserError: missing, truncated, or not a snapshot.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no snapshot {path}; give a .npz from a run's snapshots/ folder")
    try:
        with np.load(path, allow_pickle=False) as f:
            meta = json.loads(bytes(f["__meta__"]).decode())
            return unflatten({k: f[k] for k in f.files if k != "__meta__"}), meta
    except Exception as e:  # whatever zip, numpy and json raise on damaged or foreign files
        reason = (str(e).strip() or type(e).__name__).split("\n")[0][:200]
        raise UserError(f"{path} is not a readable genjax snapshot ({reason})") from None
