"""TensorBoard events read back record by record."""

import struct

import numpy as np
import pytest

from genjax.errors import UserError
from genjax.viz.tensorboard import TensorBoard

event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")


def events(folder):
    out = []
    for file in sorted(folder.glob("events*")):
        data, at = file.read_bytes(), 0
        while at < len(data):  # TFRecord: length, its crc, the record, its crc
            (size,) = struct.unpack("<Q", data[at:at + 8])
            out.append(event_pb2.Event.FromString(data[at + 12:at + 12 + size]))
            at += 16 + size
    return out


def test_scalars_images_and_purge_on_resume(tmp_path):
    with TensorBoard(tmp_path) as board:
        board.scalars(1, {"loss": np.float32(0.5), "note": "skipped", "vector": np.ones(3), "none": None})
        board.images(1, {"picture": np.full((4, 6, 1), 0.5, np.float32)})
    with TensorBoard(tmp_path, purge_step=2) as board:  # within the same second: must not erase the first file
        board.scalars(2, {"loss": 0.25})
    found = events(tmp_path)
    values = [(e.step, v) for e in found for v in e.summary.value]
    scalars = [(step, v.tag, v.simple_value) for step, v in values if v.HasField("simple_value")]
    assert scalars == [(1, "loss", 0.5), (2, "loss", 0.25)]
    images = [v.image for _, v in values if v.HasField("image")]
    assert [(i.height, i.width) for i in images] == [(4, 6)]
    starts = [e.step for e in found if e.HasField("session_log")]
    assert starts == [2]


def test_an_unwritable_folder_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="TensorBoard"):
        TensorBoard(tmp_path / "file" / "events")


def test_a_disk_that_fills_up_is_one_clear_line_and_never_a_hang(tmp_path):
    board = TensorBoard(tmp_path)
    # Stands in for the file on a full disk: every write to /dev/full fails, once the buffer is handed on.
    board._writer._py_recordio_writer._writer = open("/dev/full", "wb")  # noqa: SIM115
    with pytest.raises(UserError, match="cannot write TensorBoard events .*No space left"):
        for step in range(10_000):
            board.scalars(step, {"loss": 0.5})
    board.scalars(1, {"loss": 0.5})  # told once
    board.close()
