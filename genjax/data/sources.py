"""One string chooses the data: `builtin:NAME`, `tfds:NAME`, `folder:PATH`, `npz:PATH[:KEY]` or `idx:PATH`."""

import inspect
import re
from pathlib import Path

from genjax import errors
from genjax.data import source_builtin, source_files, source_folder
from genjax.data.source_array import ArraySource, Part, Source, listing

KINDS = ("builtin", "tfds", "folder", "npz", "idx")

__all__ = ["ArraySource", "KINDS", "Source", "listing", "open_source"]


def open_source(spec: str, split: str = "train", **options) -> Source:
    """Opens a data set for random access.

    Args:
      spec: one of
        "builtin:photos", "builtin:textures" (options crops, channels): scikit-image's pictures;
        "builtin:digits": scikit-learn's 8x8 digits;
        "builtin:scenes/PRESET" (options size, count, seed, samples): drawn scenes, see `genjax.data.scenes`;
        "tfds:NAME[/CONFIG]" (options data_dir, download): TensorFlow Datasets, without TensorFlow;
        "folder:PATH" (option channels): picture files, subfolders as classes;
        "npz:PATH[:KEY]": arrays [N, H, W(, C)];
        "idx:PATH": MNIST-like files.
      split: "train", "test" …; each source says which it has. "train[:500]" is the first 500 of them, "train[90%:]" the
        last tenth: few pictures, as in the studies of little data.
      **options: see above; an option the source does not have is an error.

    Returns:
      A `Source`: `len`, and `[i] -> {"image": [H, W, C] uint8 or float32 in [0, 1], "label": int32}`.

    Raises:
      UserError: whatever is wrong with the spec, the split, an option or the files.
    """
    kind, colon, rest = spec.partition(":")
    if not colon or kind not in KINDS:
        if spec and Path(spec).is_dir():
            raise errors.UserError(f"data source {spec!r} names no kind; write folder:{spec}")
        raise errors.unknown("data source", spec, ["builtin:NAME", "tfds:NAME", "folder:PATH", "npz:PATH", "idx:PATH"])
    if not rest:
        raise errors.UserError(f"data source {spec!r} names nothing; write {kind}:" + (
            "NAME" if kind in ("builtin", "tfds") else "PATH"))
    found = re.fullmatch(r"([^\[]*)\[(.*)\]", split)
    if found and kind != "tfds":  # which cuts splits itself, in the same notation
        return _part(open_source(spec, found[1], **options), split, found[2])
    if kind == "builtin":
        if rest.partition("/")[0] == "scenes":
            from genjax.data import scenes  # brings JAX along

            return _call(scenes.open_scenes, spec, (rest.partition("/")[2], split), options)
        if rest not in source_builtin.NAMES:
            raise errors.unknown("builtin data set", rest, (*source_builtin.NAMES, "scenes/PRESET"))
        if rest == "digits":
            return _call(source_builtin.digits, spec, (split,), options)
        return _call(source_builtin.pictures, spec, (rest, split), options)
    if kind == "tfds":
        from genjax.data import source_tfds

        return _call(source_tfds.open_tfds, spec, (rest, split), options)
    opener = source_folder.folder if kind == "folder" else getattr(source_files, kind)
    return _call(opener, spec, (rest, split), options)


def _part(source: Source, split: str, cut: str) -> Part:
    """`FIRST:END` of a source, numbers or percentages, as tfds writes it."""
    n, ends = len(source), []
    for text, default in zip(cut.split(":") if cut.count(":") == 1 else ("?", "?"), (0, n), strict=True):
        number = re.fullmatch(r"(\d+)(%?)", text)
        if text and not number:
            raise errors.UserError(f"split {split!r}: write NAME[FIRST:END], numbers or percentages, e.g. train[:500]")
        ends.append(default if not text else min(n, int(number[1])) if not number[2]
                    else min(n, round(n * int(number[1]) / 100)))
    if ends[0] >= ends[1]:
        raise errors.UserError(f"split {split!r} is empty: {source.name} has {n} pictures")
    return Part(source, *ends, f"{source.name}[{cut}]")


def _call(function, spec: str, args: tuple, options: dict) -> Source:
    """Calls an opener with its options checked against its signature."""
    known = list(inspect.signature(function).parameters)[len(args):]
    for name in options:
        if name not in known:
            raise errors.unknown(f"option of {spec}", name, known)
    return function(*args, **options)
