"""Whole files or none: write under a temporary name beside the target, then rename."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genjax.errors import UserError

NAME_BYTES = 120  # of a file name without its ending; file systems take 143 (eCryptfs) or 255 with it


def short_name(name: str) -> str:
    """A name that every file system takes: of one of more than 120 bytes (UTF-8) the middle becomes a digest."""
    raw = name.encode(errors="surrogateescape")
    if len(raw) <= NAME_BYTES:
        return name
    begin, end = raw[: NAME_BYTES - 50].decode(errors="ignore"), raw[-40:].decode(errors="ignore")
    return f"{begin}-{hashlib.sha256(raw).hexdigest()[:8]}-{end}"


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path in the target's folder; renames it to `path` when the block ends well.

    Missing parent folders are made. A block that raises leaves the old file as it was and no litter. The
    temporary name ends like the target, because writers choose the format by the suffix.

    Raises:
      UserError: the folder cannot be made or written.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{short_name(path.stem[:32])}-", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp makes files only their owner can read
        os.replace(temporary, path)
    except OSError as e:
        fix = "choose a shorter path" if e.errno == errno.ENAMETOOLONG else "choose a folder that can be written"
        raise UserError(f"cannot write {path}: {e.strerror or e}; {fix}") from e
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_file(path: str | Path, data: bytes | str) -> Path:
    """Writes `data` (text as UTF-8) to `path` in one step and returns the path."""
    with replacing(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
    return Path(path)
