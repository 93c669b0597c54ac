"""Full checkpoints (Orbax) and small self-describing snapshots (npz).

A checkpoint holds the whole state and always restores onto the shardings of the current mesh, so 8 -> 4 -> 1 devices
works. Reading one waits for no other process: where one fails, all agree on what comes next. A snapshot holds what
`Task.export` gives, flat `path -> array`, with the resolved config and versions beside it, and is readable without the
code that wrote it.
"""

import contextlib
import dataclasses
import errno
import hashlib
import io
import json
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
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


def _bytes(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).reshape(-1).view(np.uint8)  # a view: no copy, and no other thread waits


def digest(tree: Any) -> str:
    """sha256 over every array (path, dtype, shape, bytes): equal digests mean equal bits."""
    h = hashlib.sha256()
    for name, x in sorted(flat(tree).items()):
        x = np.asarray(x)
        h.update(f"{name} {x.dtype} {x.shape};".encode())
        h.update(_bytes(x))
    return h.hexdigest()


def shard_digests(tree: Any, primary: bool = False) -> dict[str, dict[str, str]]:
    """`{path: {index: sha256}}` of the parts of jax arrays that this process holds, each once.

    Args:
      tree: of jax arrays.
      primary: only the first copy of each part, which one process of all has.
    """
    out: dict[str, dict[str, str]] = {}
    for name, x in flat(tree).items():
        parts = out.setdefault(name, {})
        for shard in x.addressable_shards:
            index = ",".join("{}:{}".format(*s.indices(n)) for s, n in zip(shard.index, x.shape, strict=True))
            if index not in parts and not (primary and shard.replica_id):
                parts[index] = hashlib.sha256(_bytes(np.asarray(shard.data))).hexdigest()
    return out


def _here(tree: Any) -> bool:
    """Whether this process holds all of the tree."""
    return all(getattr(x, "is_fully_addressable", True) for x in jax.tree.leaves(tree))


class _Meta(ocp.JsonCheckpointHandler):
    """JSON beside the arrays: their layout and digest, with several processes a file each of the digests of its parts.
    The thread that writes computes the digests, not the loop's; the checkpoint counts as finished only when all are
    there."""

    async def async_save(self, directory, item=None, args=None):
        """What Orbax waits for before it gives the checkpoint its name."""
        return [future.CommitFutureAwaitingContractedSignals(self._write(directory, args.state), name="meta")]

    async def _write(self, directory, state):
        here = _here(state)
        if not here:
            shards = json.dumps(shard_digests(state, primary=True))
            (directory / f"shards.{jax.process_index()}").write_text(shards)
        if distributed.main():
            meta = {"layout": layout(state), "digest": digest(state) if here else None,
                    "shards": 0 if here else jax.process_count()}
            (directory / "metadata").write_text(json.dumps(meta))


@ocp.args.register_with_handler(_Meta, for_save=True)
@dataclasses.dataclass
class _MetaSave(ocp.args.CheckpointArgs):
    state: Any


@ocp.args.register_with_handler(_Meta, for_restore=True)
@dataclasses.dataclass
class _MetaRestore(ocp.args.CheckpointArgs):  # Orbax wants one
    pass


def _handlers() -> dict[str, Any]:
    """How the parts of a checkpoint are written, cheaply: what the writing takes from the cores, a step on them lacks.
    Floats hardly compress, and restoring asks for shardings of its own."""
    leaves = type_handlers.create_type_handler_registry(
        (jax.Array, type_handlers.ArrayHandler(enable_write_sharding_file=False)),
        (np.ndarray, type_handlers.NumpyHandler()))
    return {"state": ocp.PyTreeCheckpointHandler(use_compression=False, type_handler_registry=leaves),
            "meta": _Meta()}


def _silence_dropped_work() -> None:
    """A damaged array, or a full disk, makes Orbax drop the reads or writes of all others, each of which would say so
    beside the one line that says what to do."""
    warnings.filterwarnings("ignore", "coroutine '.*' was never awaited", RuntimeWarning)
    before = sys.unraisablehook

    def hook(found: Any) -> None:
        code = getattr(found.object, "cr_code", None)
        if code is None or "orbax" not in code.co_filename:
            before(found)

    if "_silence_dropped_work" not in getattr(before, "__qualname__", ""):
        sys.unraisablehook = hook


_WRITABLE, _READABLE, _ROOM = "make it writable", "make it readable", "make room"
_WRITE_FIXES = {errno.ENOSPC: _ROOM, errno.EDQUOT: _ROOM, errno.EACCES: _WRITABLE, errno.EPERM: _WRITABLE,
                errno.EROFS: _WRITABLE, errno.EIO: "see to the disk"}
# Failures to read that say nothing about what lies in the files.
_READ_FIXES = {
    errno.EACCES: _READABLE, errno.EPERM: _READABLE,
    errno.EMFILE: "allow more open files (ulimit -n)", errno.ENFILE: "close other programs",
    errno.ENOMEM: "free memory", errno.ENOBUFS: "free memory",
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ENOLCK,
                     errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ECONNRESET, errno.ECONNREFUSED,
                     errno.ECONNABORTED, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
                    "see to the disk or the network"),
}
_SMALLER = "take more or larger devices, or lower what the config puts on each"
_READ_WORDS = {"RESOURCE_EXHAUSTED": _SMALLER, "out of memory": _SMALLER, "PERMISSION_DENIED": _READABLE,
               "UNAVAILABLE": "see to the disk or the network", "DEADLINE_EXCEEDED": "see to the disk or the network"}


def said(error: BaseException) -> str:
    """What an exception, or the one that caused it, says, short."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).split("\n")[0].split(". See full ")[0].split(
        " [tensorstore_spec=")[0][:200]


def _no_damage(error: BaseException | None) -> tuple[str, str] | None:
    """`(reason, fix)` where a failed read says nothing about the files: memory, rights, limits, a disk that hangs."""
    while error is not None:
        text = str(error)
        if isinstance(error, MemoryError):
            return said(error), "free memory"
        # TensorStore's errors are ValueErrors that carry the system's number.
        numbers = [error.errno] if isinstance(error, OSError) else map(int, re.findall(r"os_error_code='(\d+)'", text))
        for number in numbers:
            if number in _READ_FIXES:
                return os.strerror(number), _READ_FIXES[number]
        for word, fix in _READ_WORDS.items():
            if word in text and not isinstance(error, OSError):
                return said(error), fix
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


class Checkpoints:
    """The checkpoints of one run: numbered folders, the newest `keep` kept, written in the background.

    Args:
      folder: where they are.
      keep: how many; None changes nothing in the folder, which is another run's.
    """

    def __init__(self, folder: Path, keep: int | None = 2):
        _silence_dropped_work()
        self.folder, self._keep, self._handlers = Path(folder), keep, _handlers()
        ours = {"max_to_keep": keep, "create": True, "enable_async_checkpointing": True,
                "cleanup_tmp_directories": True}  # a killed run leaves half a checkpoint behind
        self._manager = ocp.CheckpointManager(
            self.folder.resolve(),
            item_handlers=self._handlers,
            options=ocp.CheckpointManagerOptions(step_prefix=None, **({"read_only": True, "create": False}
                                                                      if keep is None else ours)),
        )

    @classmethod
    @contextlib.contextmanager
    def to_read(cls, folder: Path) -> Iterator["Checkpoints"]:
        """Another run's checkpoints, left as they are."""
        found = cls(folder, keep=None)
        try:
            yield found
        finally:
            found._manager.close()

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
                # Not named like its own: those of killed runs it clears away in the background.
                probe = self.folder / ".writable"
                probe.mkdir(exist_ok=True)
                probe.rmdir()
            self._manager.save(step, args=args)

    def fits(self, step: int, abstract: Any) -> None:
        """Refuses a checkpoint that holds another architecture than `abstract`, without reading its arrays."""
        try:
            saved = json.loads((self.folder / str(step) / "meta" / "metadata").read_text())["layout"]
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise UserError(f"checkpoint {step} in {self.folder} is not readable ({said(e)})") from None
        if saved != (wanted := layout(abstract)):
            raise UserError(self._mismatch(saved, wanted))

    def restore(self, abstract: Any, only: int | None = None) -> Any | None:
        """The newest readable checkpoint, or that of step `only`, placed on the shardings of `abstract`; None when
        there is none.

        Once one is read, the damaged ones after it are moved to `corrupt/` with a warning. Until then nothing is moved:
        no failure leaves a run behind that would begin again at step 0.

        Raises:
          UserError: the checkpoint holds another architecture, all are damaged, or reading fails for reasons that are
            not the files' (memory, rights, limits, a disk or network that hangs).
        """
        damaged: dict[int, str] = {}
        for step in distributed.from_main(lambda: self.steps()[::-1] if only is None else [only]):
            found = reason = error = None
            try:
                found = self._read(step, abstract)
            except UserError as e:
                error = e
            except Exception as e:  # whatever the storage layer raises on damaged files
                reason, other = said(e), _no_damage(e)
                if other:
                    error = UserError(f"cannot read checkpoint {step} in {self.folder}: {other[0]}; {other[1]} and run"
                                      f" the same command again (or remove {self.folder / str(step)}, to go on from the"
                                      " one before)")
            votes = distributed.votes(2 if error else 1 if reason else 0)
            if votes.max() == 2:
                raise error or UserError(f"process {votes.argmax()} of this run could not read checkpoint {step} in"
                                         f" {self.folder}; its output says why")
            if votes.max() == 0:
                # Fresh buffers: restored arrays may share memory with the reader, and the loop donates them.
                found = jax.block_until_ready(jax.tree.map(lambda x: x.copy(), found))
                self._tidy(damaged)
                return found
            damaged[step] = reason or f"process {votes.argmax()} could not read it"
        if damaged:
            reason = next(iter(damaged.values())).replace(str(self.folder.resolve()), "").strip()[:120]
            raise UserError(f"none of the checkpoints {list(damaged)} in {self.folder} is readable ({reason}); put back"
                            " whole files, or remove that folder to start over at step 0, and run the same command"
                            " again")
        return None

    def _tidy(self, damaged: dict[int, str]) -> None:
        """Leaves the checkpoint that was read and the `keep` - 1 before it."""
        if self._keep is None:
            return
        for step, reason in damaged.items():
            log.warning("checkpoint %d is unreadable (%s); falling back to the one before", step, reason)
        if damaged:
            distributed.from_main(lambda: [self._set_aside(step) for step in damaged])
            self._manager.reload()
        # A kill came between a save and the deletion that follows it.
        for old in distributed.from_main(lambda: self.steps()[:-self._keep]):
            self._manager.delete(old)

    def _read(self, step: int, abstract: Any) -> Any:
        # By the handlers themselves: the manager waits, after a part is read, until the other processes have read it.
        folder = epath.Path(self.folder.resolve() / str(step))
        saved = json.loads((folder / "meta" / "metadata").read_text())
        wanted = layout(abstract)
        if saved["layout"] != wanted:
            raise UserError(self._mismatch(saved["layout"], wanted))
        args = ocp.args.PyTreeRestore(abstract, ocp.checkpoint_utils.construct_restore_args(abstract))
        found = self._handlers["state"].restore(folder / "state", args=args)
        if int(found.step) != step:
            raise ValueError(f"holds step {int(found.step)}")
        # The storage layer does not notice changed bytes in large arrays.
        if saved.get("digest") and _here(found) and digest(found) != saved["digest"]:
            raise ValueError("its arrays are not the ones that were saved")
        if saved.get("shards"):
            self._check_shards(found, [json.loads((folder / "meta" / f"shards.{i}").read_text())
                                       for i in range(saved["shards"])])
        return found

    @staticmethod
    def _check_shards(found: Any, files: list[dict[str, dict[str, str]]]) -> None:
        """Compares this process's parts with those that were saved; on another topology the parts are others."""
        for name, parts in shard_digests(found).items():
            saved = {index: sha for file in files for index, sha in file.get(name, {}).items()}
            bad = [index for index, sha in parts.items() if saved.get(index, sha) != sha]
            if bad:
                raise ValueError(f"{name} [{bad[0]}] is not what was saved")

    def _set_aside(self, step: int) -> None:
        aside = self.folder.parent / "corrupt"
        aside.mkdir(exist_ok=True)
        target = aside / str(step)
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(self.folder / str(step), target)

    def _mismatch(self, saved: dict, wanted: dict) -> str:
        keys = [k for k in sorted(saved | wanted) if saved.get(k) != wanted.get(k)]
        k = keys[0]
        fix = ("use another --workdir" if self._keep is not None else
               "--from takes the whole state, so networks, averages and optimisers have to stay what they were")
        return (f"the checkpoint in {self.folder} does not fit this config: {len(keys)} arrays differ, first {k}:"
                f" saved {saved.get(k, 'absent')}, config {wanted.get(k, 'absent')}; {fix}")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """A save fails here, or, as it runs in the background, at the next one or at the end."""
        try:
            yield
        except (OSError, ValueError) as e:
            known = {os.strerror(number): fix for number, fix in _WRITE_FIXES.items()}
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


def read_checked(folder: Path, step: int) -> dict[str, np.ndarray]:
    """`read_arrays`, held against the digests that were saved beside the arrays.

    Raises:
      ValueError: other bytes than were saved (other exceptions: whatever the storage layer raises on damaged files).
    """
    found, meta = read_arrays(folder, step), Path(folder) / str(step) / "meta"
    saved = json.loads((meta / "metadata").read_text())
    if saved.get("digest") and digest(found) != saved["digest"]:
        raise ValueError("its arrays are not the ones that were saved")
    for i in range(saved.get("shards") or 0):
        for name, parts in json.loads((meta / f"shards.{i}").read_text()).items():
            for index, sha in parts.items():
                part = found[name][tuple(slice(*map(int, s.split(":"))) for s in index.split(",") if s)]
                if hashlib.sha256(_bytes(part)).hexdigest() != sha:
                    raise ValueError(f"{name} [{index}] is not what was saved")
    return found


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
