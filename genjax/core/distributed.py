"""Several processes as one run: who is here, who writes, and how they agree.

`start` joins the processes through `jax.distributed`: from SLURM, Open MPI, Kubernetes or Cloud TPU, which are known by
their environment (`genjax.core.cluster`), or from explicit flags. Afterwards `jax.devices()` are those of all
processes; every process runs the same program on its own part, loads only its own rows of each batch, and process 0
alone writes logs and pictures.
"""

import contextlib
import functools
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding

from genjax.core import cluster
from genjax.errors import UserError
from genjax.viz import waiting

log = logging.getLogger("genjax")

LEAVING = threading.Event()  # this process ends for reasons of its own


class PeerLost(Exception):
    """Another process of the run is gone; the run goes on from its newest checkpoint when all are started again."""


def start(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> None:
    """Joins the processes of a run; must come before jax's first computation. Alone, it does nothing.

    Args:
      coordinator: HOST:PORT where process 0 listens; None (of all three) asks the cluster's environment.
      processes: how many there are.
      process: which one this is, from 0.

    Raises:
      UserError: only some of the three given, or values that make no sense; the others do not come in time.
    """
    given = {"--coordinator": coordinator, "--num-processes": processes, "--process-id": process}
    missing = [k for k, v in given.items() if v is None]
    if len(missing) == 3:
        found = None if cluster.alone() else cluster.open_mpi()
        if found:
            _join(*found)
        elif not cluster.alone() and cluster.detect():
            _quiet()
        return
    if missing:
        raise UserError(f"{', '.join(missing)} missing: --coordinator, --num-processes and --process-id go together")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"--coordinator {coordinator} is not HOST:PORT, e.g. 10.0.0.1:1234")
    if processes < 1 or not 0 <= process < processes:
        raise UserError(f"--process-id {process} of --num-processes {processes}: must be from 0 to {processes - 1}")
    if processes > 1:
        _join(coordinator, processes, process)


def _join(coordinator: str, processes: int, process: int) -> None:
    log.info("process %d of %d, joining at %s", process, processes, coordinator)
    try:
        # Told everything, jax has nothing to detect, and nothing to stumble over while it does.
        jax.distributed.initialize(coordinator, processes, process, local_device_ids=cluster.local_devices(),
                                   cluster_detection_method="deactivate")
    except (RuntimeError, ValueError) as e:
        reason = str(e).split("\n")[0][:200]
        raise UserError(f"could not join {processes} processes at {coordinator} ({reason}); start all of them, with one"
                        " --coordinator that they can reach and a --process-id each") from None
    _quiet()


def _quiet() -> None:
    """Process 0 speaks for all."""
    if not main():
        log.setLevel(logging.WARNING)
        waiting.quiet(True)


def several() -> bool:
    """Whether the run has more than one process."""
    return jax.process_count() > 1


def joined() -> bool:
    """`several`, also where jax found no backend to ask."""
    try:
        return several()
    except RuntimeError:
        return False


def main() -> bool:
    """Whether this process writes (process 0)."""
    return jax.process_index() == 0


def place(x: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """A host array that every process holds whole, on the devices of all."""
    if not several():
        return jax.device_put(x, sharding)
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


@functools.lru_cache(maxsize=64)  # asked for every batch; few shapes
def rows(shape: tuple[int, ...], sharding: NamedSharding) -> tuple[int, int]:
    """The range of rows lo..hi-1 of a global array [rows, ...] that this process's devices hold."""
    parts = [index[0].indices(shape[0])[:2] for index in sharding.addressable_devices_indices_map(shape).values()]
    return min(lo for lo, _ in parts), max(hi for _, hi in parts)


def place_rows(x: np.ndarray, lo: int, shape: tuple[int, ...], sharding: NamedSharding, axis: int = 0) -> jax.Array:
    """A global array of `shape`, of which this process has the rows from `lo` on, as `x`, along `axis`."""
    def part(index):
        at = list(index)
        first, last, _ = index[axis].indices(shape[axis])
        at[axis] = slice(first - lo, last - lo)
        return x[tuple(at)]

    return jax.make_array_from_callback(shape, sharding, part)


def gather(tree: Any) -> Any:
    """The tree as host arrays, whole, in every process; unchanged in a run of one process."""
    return multihost_utils.process_allgather(tree, tiled=True) if several() else tree


def barrier(name: str) -> None:
    """Waits until every process is here."""
    if several():
        multihost_utils.sync_global_devices(name)


def agree(ok: bool) -> bool:
    """Whether `ok` holds in every process."""
    return not votes(0 if ok else 1).any()


def votes(value: int) -> np.ndarray:
    """The `value` of every process, by its number."""
    found = multihost_utils.process_allgather(np.int32(value)) if several() else value
    return np.asarray(found).reshape(-1)


def _broadcast(text: str) -> str:
    """Process 0's text, in every process."""
    data = np.frombuffer(text.encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(data.size)))
    data = data if main() else np.zeros(size, np.uint8)
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(data)).astype(np.uint8)).decode()


def from_main(call: Callable[[], Any]) -> Any:
    """Runs `call` in process 0 only and returns what it gives (JSON) in every process; if it fails, all fail.

    Raises:
      UserError: in every process, of a UserError or OSError in process 0. Of anything else in the others, while it
        goes on in process 0.
    """
    error, found, told = None, None, "null"
    if main():
        try:
            found = call()
            told = json.dumps([None, found])
        except Exception as e:  # the others must not wait for it, whatever it is
            error = e
            if isinstance(e, OSError):
                where = f"{e.filename}: " if e.filename else ""
                error = UserError(f"{where}{e.strerror or e}; mend that and run the same command again")
            told = json.dumps([str(error) if isinstance(error, UserError) else
                               f"process 0 of this run failed ({type(e).__name__}); its output says why", None])
    if several():
        failed, value = json.loads(_broadcast(told))
        if failed and error is None:
            raise UserError(failed)
        found = found if main() else value
    if error is not None:
        raise error
    return found


def leave(code: int, in_order: bool) -> None:
    """Ends this process, if it is one of several, without jax's farewell to the others: they may not come, and after a
    SIGTERM that comes when the run is already over the farewell takes minutes.

    Args:
      code: the exit code.
      in_order: all of them end like this one, so they wait for each other first.
    """
    if joined():
        LEAVING.set()
        if in_order:
            with contextlib.suppress(RuntimeError, ValueError):
                barrier("leave")
        else:
            time.sleep(2 if main() else 0)  # when it ends, jax aborts the others, who may be about to say why they end
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Interrupted(BaseException):
    """A signal came during something that may be cut short (`Signals.cuts`)."""


class Signals:
    """Remembers SIGTERM and SIGINT instead of dying of them, so that the loop can save first.

    With several processes jax's own preemption service takes SIGTERM (and SIGINT, handed on as SIGTERM), and `reached`
    is True in the same iteration of every process, one or two after the signal came to any of them.

    While one C++ call goes on (XLA compiles), Python handles no signal. In a run of one process a thread of its own
    then waits PATIENCE seconds and calls `leave`, so that what can be left without loss is left in time.
    """

    PATIENCE = 10.0

    def __init__(self):
        self._got: int | None = None
        self._old: dict[int, Any] = {}
        self._calls = 0
        self._cuts = False
        self._seen = threading.Event()
        self._pipe: tuple[int, int] | None = None
        self.leave: Callable[[], None] = lambda: None

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            # Python's handler would take the place of the service's.
            for sig in (signal.SIGINT,) if several() else (signal.SIGTERM, signal.SIGINT):
                self._old[sig] = signal.signal(sig, self._handle)
            if not several():
                self._pipe = os.pipe()
                os.set_blocking(self._pipe[1], False)
                self._fd = signal.set_wakeup_fd(self._pipe[1])
                threading.Thread(target=self._wait, args=(self._pipe[0],), name="signals", daemon=True).start()
        return self

    def _wait(self, fd: int) -> None:
        numbers = (signal.SIGTERM, signal.SIGINT)
        while (data := os.read(fd, 1)) and data[0] not in numbers:
            pass
        if data and not self._seen.wait(self.PATIENCE):
            self.leave()

    def _handle(self, sig, frame):
        if self._got is not None:  # a second signal means now
            raise KeyboardInterrupt
        self._got = sig
        if several():
            os.kill(os.getpid(), signal.SIGTERM)
        elif self._cuts:
            self._cuts = False
            raise Interrupted

    @contextlib.contextmanager
    def cuts(self) -> Iterator[None]:
        """The block computes and keeps nothing: a signal ends it at once, in a run of one process.

        Raises:
          Interrupted: a signal came.
        """
        if self._got is not None and not several():
            raise Interrupted
        self._cuts = not several()
        try:
            yield
        finally:
            self._cuts = False

    def reached(self) -> bool:
        """Whether to save and end now; with several processes each must ask once per iteration."""
        if not several():
            if self._got is not None:
                self._seen.set()
            return self._got is not None
        self._calls += 1  # counts iterations, not steps: the service agrees on the number after the highest one asked
        return multihost_utils.reached_preemption_sync_point(self._calls)

    def __exit__(self, *_):
        for sig, old in self._old.items():
            signal.signal(sig, old)
        if self._pipe:
            signal.set_wakeup_fd(self._fd)
            self._seen.set()
            os.close(self._pipe[1])  # ends the thread


_GONE = ("gloo", "connection reset", "connection closed", "coordination", "nccl", "unavailable", "heartbeat", "aborted")


@contextlib.contextmanager
def peers() -> Iterator[None]:
    """Turns what the runtime raises when another process is gone into `PeerLost`."""
    try:
        yield
    except (RuntimeError, ValueError) as e:
        text = str(e).strip()
        if several() and any(word in text.lower() for word in _GONE):
            raise PeerLost(text.split("\n")[0][:160]) from None
        raise
