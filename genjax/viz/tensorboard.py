"""TensorBoard events through tensorboardX's file format: scalars, images and texts, without TensorFlow.

Events are written in this thread: tensorboardX's own writer hands them through a queue of bounded length to a thread,
and when that thread dies (the disk is full) the tenth event waits for ever.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from genjax.errors import UserError
from genjax.viz.grid import to_uint8

FLUSH_SECONDS = 30.0


class TensorBoard:
    """Writes one event file in `folder`; opening an existing folder appends a further file to the same run.

    Example:
      >>> import tempfile
      >>> with TensorBoard(tempfile.mkdtemp()) as board:
      ...     board.scalars(10, {"loss": 0.5})
    """

    def __init__(self, folder: str | Path, purge_step: int | None = None):
        """Opens the folder.

        Args:
          folder: made where missing.
          purge_step: on resume, the first step that will run again (checkpoint step + 1): TensorBoard then
            hides what earlier files hold at or after it. The files themselves are not changed.

        Raises:
          UserError: tensorboardX is missing, or the folder cannot be written; so do all methods, when it no longer can.
        """
        try:
            from tensorboardX import summary
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto import event_pb2
        except ImportError:
            raise UserError("TensorBoard events need tensorboardX: pip install tensorboardX") from None
        self._folder, self._summary, self._events = Path(folder), summary, event_pb2
        self._writer = None
        with self._writing():
            self._folder.mkdir(parents=True, exist_ok=True)
            # tensorboardX names files by the second and opens them for writing from the start: without a
            # suffix of its own, a run resumed within the second would erase its earlier events.
            self._writer = EventsWriter(str(self._folder / "events"), f".{time.time_ns()}")
        self._flushed = time.monotonic()
        if purge_step is not None:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._write(purge_step, session_log=start)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            if self._writer is not None:  # what it still holds cannot be written either, and would fail again later
                self._broken, self._writer = self._writer, None
            raise UserError(f"cannot write TensorBoard events in {self._folder}: {e.strerror or e};"
                            " make room, or choose a folder that can be written") from None

    def _write(self, step: int, **what: Any) -> None:
        if self._writer is None:
            return
        with self._writing():
            self._writer.write_event(self._events.Event(wall_time=time.time(), step=int(step), **what))
            if time.monotonic() - self._flushed > FLUSH_SECONDS:
                self._flushed = time.monotonic()
                self._writer.flush()

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds one point per name; anything that is not a single number (a string, a list) is skipped."""
        for name, value in values.items():
            if isinstance(value, str | bytes) or value is None or np.size(value) != 1:
                continue
            self._write(step, summary=self._summary.scalar(name, float(np.asarray(value).reshape(()))))

    def images(self, step: int, images: Mapping[str, Any]) -> None:
        """Adds one image per name: [H,W], [H,W,1], [H,W,3] or [H,W,4], float in [0,1] or uint8."""
        for name, image in images.items():
            self._write(step, summary=self._summary.image(name, to_uint8(image), dataformats="HWC"))

    def text(self, step: int, name: str, text: str) -> None:
        """Adds a text, read by TensorBoard as Markdown."""
        self._write(step, summary=self._summary.text(name, text))

    def flush(self) -> None:
        """Hands everything so far to the file."""
        if self._writer is not None:
            with self._writing():
                self._writer.flush()

    def close(self) -> None:
        """Flushes and closes."""
        if self._writer is not None:
            with self._writing():
                self._writer.close()
            self._writer = None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
