"""Metrics as JSON lines: one object per line, append only, readable after a crash at any byte.

NaN and the infinities have no JSON form; they are written as the strings "NaN", "Infinity" and "-Infinity"
and read back as floats, so every line is valid JSON for any other program.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from genjax.errors import UserError
from genjax.viz.atomic import write_file

_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class MetricsWriter:
    """Appends rows to a JSON-lines file.

    Opening repairs a last line that a crash tore: a whole row that lacks its newline gets it, a fragment is
    cut off. Every row is handed to the operating system before `write` returns, so killing the process loses
    no row.
    """

    def __init__(self, path: str | Path):
        """Opens `path` for appending, making it and its folder where missing.

        Raises:
          UserError: the file cannot be written.
        """
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "ab")
        except OSError as e:
            raise UserError(f"cannot write {self.path}: {e.strerror or e};"
                            f" choose a folder that can be written") from None
        _mend(self.path)

    def write(self, row: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Appends one row. Values: numbers, strings, None, lists, dicts, and numpy or jax scalars and
        arrays.
        """
        line = dumps({**(row or {}), **more})
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Forces the rows to the disk and closes the file; twice is harmless."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def dumps(value: Any) -> str:
    """One line of valid JSON, array values as lists, NaN and infinities as strings."""
    return json.dumps(_plain(value), allow_nan=False, ensure_ascii=False)


def read(path: str | Path) -> list[dict[str, Any]]:
    """All rows of a metrics file, oldest first; a torn last line is left out.

    Raises:
      UserError: the file is missing, or a line before the last is not a JSON object (the message has its
        number).
    """
    return [row for row, _ in _parse(path)]


def columns(rows: list[dict[str, Any]], x: str = "step") -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Rows as curves: {name: (x values, y values)} for every numeric key but `x`, in order of appearance.

    Rows without `x`, or where the value is not a number, are left out of that curve.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if not _number(row.get(x)):
            continue
        for name, value in row.items():
            if name != x and _number(value):
                points.setdefault(name, []).append((row[x], value))
    return {name: (np.asarray([p[0] for p in ps]), np.asarray([p[1] for p in ps], np.float64))
            for name, ps in points.items()}


def truncate_after(path: str | Path, step: int) -> int:
    """Drops the rows whose "step" exceeds `step`, and a torn last line; the file is replaced in one step.

    Called on resume from a checkpoint at `step`, so that the steps that run again do not appear twice. Rows
    without a "step" stay. A file that does not exist yet is fine. No writer may have the file open.

    Returns:
      The number of rows dropped.
    """
    path = Path(path)
    if not path.exists():
        return 0
    rows = _parse(path)
    keep = [line for row, line in rows if not (_number(row.get("step")) and row["step"] > step)]
    if len(keep) < len(rows) or path.stat().st_size != sum(len(line) + 1 for line in keep):
        write_file(path, b"".join(line + b"\n" for line in keep))
    return len(rows) - len(keep)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """Python's own types, with the numbers JSON cannot hold as strings."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"
    if hasattr(value, "tolist"):  # numpy and jax; bfloat16 arrives as a float
        return _plain(value.tolist())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a metrics row cannot hold a {type(value).__name__}: {value!r}")


def _special(value: Any) -> Any:
    if isinstance(value, str):
        return _SPECIAL.get(value, value)
    if isinstance(value, list):
        return [_special(v) for v in value]
    if isinstance(value, dict):
        return {k: _special(v) for k, v in value.items()}
    return value


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:  # UnicodeDecodeError is one
        return None
    return _special(row) if isinstance(row, dict) else None


def _parse(path: str | Path) -> list[tuple[dict[str, Any], bytes]]:
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as e:
        raise UserError(f"cannot read the metrics file {path}: {e.strerror or e}") from None
    out = []
    for i, line in enumerate(lines):
        if not line.strip():
            continue
        row = _row(line)
        if row is not None:
            out.append((row, line))
        elif any(rest.strip() for rest in lines[i + 1:]):
            raise UserError(f"{path} line {i + 1} is not a JSON object; mend or remove that line")
    return out


def _mend(path: Path) -> None:
    """Makes the file end with a newline, in place: the writer already holds it open for appending."""
    with open(path, "r+b") as file:
        data = file.read()
        start = data.rfind(b"\n") + 1
        tail = data[start:]
        if not tail:
            return
        if _row(tail) is not None:
            file.write(b"\n")
        else:
            file.truncate(start)
