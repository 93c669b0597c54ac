"""Notices at once when another process of a run is gone.

jax's own heartbeats take more than a minute and end the others by an abort; until then they wait in a collective that
never comes. Here every process keeps a connection to process 0, which the system closes when either end dies, however
it dies; who leaves in order says so first.
"""

import contextlib
import logging
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from genjax.core import distributed

log = logging.getLogger("genjax")

_BYE, _LOST = b"b", b"l"  # one byte, then the process's number as four
GRACE = 1.0  # seconds
_SECONDS = 30.0  # to connect; without the watch jax's heartbeats remain


def _record(kind: bytes, process: int) -> bytes:
    return kind + process.to_bytes(4, "big")


def _keep_alive(connection: socket.socket) -> socket.socket:
    """A machine that loses power sends nothing: probes find out within half a minute."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return connection


class Watch:
    """The connections of one process; `lost(process)` is called, in a thread, for the first one that is gone."""

    def __init__(self, lost: Callable[[int], None]):
        """All processes make theirs at the same point of the program."""
        self._lost, self._me, self._count = lost, jax.process_index(), jax.process_count()
        self._peers: dict[int, socket.socket] = {}
        self._over = False
        listener = socket.create_server(("", 0)) if self._me == 0 else None
        try:
            host, port = _address(listener)
            if listener:
                listener.settimeout(_SECONDS)
                while len(self._peers) < self._count - 1:
                    connection, _ = listener.accept()
                    connection.settimeout(_SECONDS)
                    self._peers[int.from_bytes(_receive(connection, 4), "big")] = _keep_alive(connection)
            else:
                connection = socket.create_connection((host, port), _SECONDS)
                connection.sendall(self._me.to_bytes(4, "big"))
                self._peers[0] = _keep_alive(connection)
        except OSError as e:
            log.warning("process %d cannot watch the others (%s): if one dies, it takes jax minutes to notice",
                        self._me, e)
        finally:
            if listener:
                listener.close()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            for process, connection in self._peers.items():
                connection.settimeout(None)
                selector.register(connection, selectors.EVENT_READ, process)
            while selector.get_map():
                for key, _ in selector.select():
                    try:
                        record = _receive(key.fileobj, 5)
                    except OSError:
                        record = _record(_LOST, key.data)
                    kind, process = record[:1], int.from_bytes(record[1:], "big")
                    if kind == _LOST and not self._over:
                        self._tell(record, but=key.data)
                        return self._lost(process)
                    selector.unregister(key.fileobj)

    def _tell(self, record: bytes, but: int = -1) -> None:
        for process, connection in self._peers.items():
            if process != but:
                with contextlib.suppress(OSError):
                    connection.sendall(record)

    def wait(self, seconds: float = 5.0) -> None:
        """Until a process was found gone and `lost` returned, at most so long."""
        self._thread.join(seconds)

    def close(self) -> None:
        """Leaves in order; the others go on."""
        self._over = True
        self._tell(_record(_BYE, self._me))


def _receive(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        if not part:
            raise ConnectionResetError("closed")
        found += part
    return found


def _address(listener: socket.socket | None) -> tuple[str, int]:
    """Where process 0 listens, told to all of them."""
    text = f"{socket.gethostname()}:{listener.getsockname()[1]}" if listener else ""
    letters = np.zeros(256, np.uint8)
    letters[:len(text)] = np.frombuffer(text.encode(), np.uint8)
    told = bytes(np.asarray(multihost_utils.broadcast_one_to_all(letters)).astype(np.uint8)).rstrip(b"\0").decode()
    host, _, port = told.rpartition(":")
    # On one machine its own name may not resolve.
    return ("127.0.0.1" if host == socket.gethostname() else host), int(port)


def end_if_lost(code: int) -> Watch:
    """A watch that ends this process with one line and exit code `code` when another is gone."""
    def lost(process: int) -> None:
        # Where all fail of the same, each shall say so itself. Without process 0 jax aborts at once: no time for that.
        time.sleep(GRACE if process else 0)
        if distributed.LEAVING.is_set():
            return
        line = (f"error: process {process} of this run is gone; start all of them again to go on from the newest"
                " checkpoint\n")
        os.write(sys.stderr.fileno(), line.encode())
        log.error(line.strip())
        os._exit(code)

    return Watch(lost)
