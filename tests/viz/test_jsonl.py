"""Metrics files survive crashes at any byte, hold every float, and lose exactly the rows that run again."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.viz.jsonl import MetricsWriter, columns, dumps, read, truncate_after


def strict(line):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(line, parse_constant=refuse)


def test_rows_come_back_and_every_line_is_strict_json(tmp_path):
    path = tmp_path / "new" / "metrics.jsonl"
    with MetricsWriter(path) as writer:
        writer.write({"step": 1, "loss": np.float32(0.5)}, note="naïve σ")
        writer.write(step=2, loss=math.nan, up=math.inf, down=-math.inf, none=None)
        writer.write(step=np.int64(3), loss=jnp.float32(0.25), vector=jnp.arange(2), flag=np.bool_(True))
    for line in path.read_text().splitlines():
        strict(line)
    one, two, three = read(path)
    assert one == {"step": 1, "loss": 0.5, "note": "naïve σ"}
    assert math.isnan(two.pop("loss"))
    assert two == {"step": 2, "up": math.inf, "down": -math.inf, "none": None}
    assert three == {"step": 3, "loss": 0.25, "vector": [0, 1], "flag": True}


def test_rows_are_in_the_file_before_the_writer_is_closed(tmp_path):
    writer = MetricsWriter(tmp_path / "m.jsonl")
    writer.write(step=1)
    assert read(tmp_path / "m.jsonl") == [{"step": 1}]


def test_a_crash_at_any_byte_loses_only_the_row_being_written(tmp_path):
    path = tmp_path / "m.jsonl"
    whole = b'{"step": 1, "loss": 0.5}\n{"step": 22, "loss": 0.25}\n'
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        # A row is whole from its closing brace on, with or without the newline.
        want = [1] * (cut >= whole.index(b"}") + 1) + [22] * (cut >= len(whole) - 1)
        assert [r["step"] for r in read(path)] == want, cut
        with MetricsWriter(path) as writer:
            writer.write(step=333)
        assert [r["step"] for r in read(path)] == [*want, 333], cut
        assert len(path.read_bytes().splitlines()) == len(want) + 1


def test_a_bad_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "lo\n{"step": 3}\n')
    with pytest.raises(UserError, match="line 2"):
        read(path)
    with pytest.raises(UserError, match="cannot read"):
        read(tmp_path / "absent.jsonl")


def test_truncate_after_keeps_the_step_itself_and_rows_without_one(tmp_path):
    path = tmp_path / "m.jsonl"
    assert truncate_after(path, 5) == 0 and not path.exists()
    steps = b"".join(b'{"step": %d}\n' % s for s in (0, 10, 20, 30))
    path.write_bytes(b'{"note": "start"}\n' + steps + b'{"st')
    assert truncate_after(path, 10) == 2
    assert read(path) == [{"note": "start"}, {"step": 0}, {"step": 10}]
    assert path.read_bytes().endswith(b'{"step": 10}\n')
    before = path.stat().st_ino
    assert truncate_after(path, 10) == 0 and path.stat().st_ino == before  # nothing to do, nothing written
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


def test_columns():
    rows = [{"step": 0, "loss": 2.0, "name": "a"}, {"loss": 9.0}, {"step": 5, "loss": 1.0, "psnr": 30}]
    got = columns(rows)
    assert list(got) == ["loss", "psnr"]
    np.testing.assert_array_equal(got["loss"], [[0, 5], [2.0, 1.0]])
    np.testing.assert_array_equal(got["psnr"], [[5], [30]])


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(TypeError, match="object"):
        dumps({"x": object()})


def test_an_unwritable_place_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        MetricsWriter(tmp_path / "file" / "m.jsonl")
