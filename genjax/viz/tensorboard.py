"""TensorBoard events through tensorboardX: scalars and images, without TensorFlow."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from genjax.errors import UserError
from genjax.viz.grid import to_uint8


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
          UserError: tensorboardX is missing, or the folder cannot be written.
        """
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise UserError("TensorBoard events need tensorboardX: pip install tensorboardX") from None
        try:
            # tensorboardX names files by the second and opens them for writing from the start: without a
            # suffix of its own, a run resumed within the second would erase its earlier events.
            self._writer = SummaryWriter(str(folder), purge_step=purge_step, flush_secs=30,
                                         filename_suffix=f".{time.time_ns()}")
        except OSError as e:
            raise UserError(f"cannot write TensorBoard events in {folder}: {e.strerror or e};"
                            f" choose a folder that can be written") from None

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds one point per name; anything that is not a single number (a string, a list) is skipped."""
        for name, value in values.items():
            if isinstance(value, str | bytes) or value is None or np.size(value) != 1:
                continue
            self._writer.add_scalar(name, float(np.asarray(value).reshape(())), int(step))

    def images(self, step: int, images: Mapping[str, Any]) -> None:
        """Adds one image per name: [H,W], [H,W,1], [H,W,3] or [H,W,4], float in [0,1] or uint8."""
        for name, image in images.items():
            self._writer.add_image(name, to_uint8(image), int(step), dataformats="HWC")

    def text(self, step: int, name: str, text: str) -> None:
        """Adds a text, read by TensorBoard as Markdown."""
        self._writer.add_text(name, text, int(step))

    def flush(self) -> None:
        """Hands everything so far to the file."""
        self._writer.flush()

    def close(self) -> None:
        """Flushes and closes."""
        self._writer.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
