"""Python files of configs, figures and benchmarks: where they are, how they are imported, what they say of themselves.

A file's docstring is its lab notebook. Its structural arguments are the keywords of `parse_arg` in a config, and in a
figure or benchmark the parameters of `run` after the first; both are read from the file itself.
"""

import ast
import contextlib
import functools
import importlib.util
import inspect
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from genjax.core import schema
from genjax.core.coerce import coerce
from genjax.errors import UserError, unknown

ROOT = Path(__file__).resolve().parents[2]


class Asking(str):
    """An empty structural argument that notes in `defaults` what `parse_arg` would have taken."""

    defaults: dict[str, Any] | None = None  # None: nothing was parsed


def parse_arg(arg: str | None, **defaults: Any) -> types.SimpleNamespace:
    """Parses the structural argument of a config, the part after ":" in `configs/x.py:small,res=64`.

    Args:
      arg: comma-separated `key=value` items; a bare `key` means `key=True`.
      **defaults: the allowed keys with their default values, whose types the values must have.

    Returns:
      A namespace with one attribute per default.

    Raises:
      UserError: unknown key or a value of another type.
    """
    if isinstance(arg, Asking):
        arg.defaults = (arg.defaults or {}) | defaults
    out = dict(defaults)
    for item in filter(None, (arg or "").split(",")):
        key, eq, text = item.partition("=")
        if key not in defaults:
            raise unknown("structural argument", key, defaults)
        out[key] = coerce(text, type(defaults[key]), f"structural argument {key}", text=True) if eq else True
        if type(out[key]) is not type(defaults[key]):
            raise UserError(f"structural argument {key} needs a value: write {key}={defaults[key]!r}")
    return types.SimpleNamespace(**out)


def with_arguments(run: Callable[..., Any], arg: str) -> Callable[[Any], Any]:
    """A figure's or benchmark's `run` with its structural arguments filled in: its parameters after the first.

    Raises:
      UserError: as `parse_arg`.
    """
    _, *more = inspect.signature(run).parameters.values()
    return functools.partial(run, **vars(parse_arg(arg, **{p.name: p.default for p in more})))


def find_config(spec: str) -> tuple[Path, str]:
    """Splits `configs/dip/denoise.py:small`, or the short `dip/denoise:small`, into file and argument."""
    name, _, arg = spec.partition(":")
    for path in (Path(name), ROOT / name, ROOT / "configs" / name, ROOT / "configs" / f"{name}.py"):
        if path.is_file() and path.suffix in (".py", ".json"):
            return path.resolve(), arg
    raise unknown("config file", name, [f"configs/{p}.py" for p in list_configs()])


def list_configs() -> list[str]:
    """Every config under configs/, as `family/name`; files whose name starts with "_" hold shared parts."""
    base = ROOT / "configs"
    return sorted(str(p.relative_to(base).with_suffix("")) for p in base.rglob("*.py") if not p.stem.startswith("_"))


def is_ours(path: Path) -> bool:
    """Whether a file is one of the checkout's own, whose modules are found anyway."""
    return any(path.resolve().is_relative_to(ROOT / ours) for ours in ("configs", "experiments"))


def load_module(path: Path) -> types.ModuleType:
    """Imports a Python file by path; a mistake in it is a one-line error.

    Its folder joins the path of imports, for modules and targets beside it; the checkout is there anyway.
    """
    if not is_ours(path):
        schema.search(path.parent)
    spec = importlib.util.spec_from_file_location("genjax_file_" + path.stem, path)
    module = importlib.util.module_from_spec(spec)
    with mistakes_in(path):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def mistakes_in(path: Path) -> Iterator[None]:
    """Turns what the file's own lines raise into one line; what genjax raises keeps its traceback."""
    try:
        yield
    except UserError:
        raise
    except SyntaxError as e:
        raise UserError(f"{e.filename or path}:{e.lineno or 1}: {e.msg}") from None
    except Exception as e:
        frames = traceback.extract_tb(e.__traceback__)
        lines = [f.lineno for f in frames if f.filename == str(path)]
        if not lines or Path(frames[-1].filename).is_relative_to(ROOT / "genjax"):
            raise
        raise UserError(f"{path}:{lines[-1]}: {type(e).__name__}: {e}") from None


def notebook(path: Path) -> str:
    """The docstring of a config, figure or benchmark, read without importing it."""
    try:
        return ast.get_docstring(ast.parse(path.read_text())) or ""
    except (SyntaxError, ValueError) as e:
        return f"(not readable: {e})"


def describe(path: Path) -> str:
    """The first line of the notebook."""
    return notebook(path).split("\n")[0]


def structural_arguments(path: Path) -> tuple[dict[str, Any], str]:
    """`{name: default}` of the structural arguments that a config, figure or benchmark takes, and what the file says of
    them (the docstring of `get_config` or `run`).

    Raises:
      UserError: a mistake in the file; a config that fails before it asks for its arguments.
    """
    module = load_module(path)
    if run := getattr(module, "run", None):
        _, *more = inspect.signature(run).parameters.values()
        return {p.name: p.default for p in more}, inspect.getdoc(run) or ""
    get_config, asking = getattr(module, "get_config", None), Asking()
    if get_config is None:
        return {}, ""
    try:
        with mistakes_in(path):
            if inspect.signature(get_config).parameters:
                get_config(asking)
    except UserError:
        if asking.defaults is None:
            raise
    return asking.defaults or {}, inspect.getdoc(get_config) or ""


def document(path: Path, name: str) -> str:
    """A file's notebook and its structural arguments, for people."""
    missing, body = "structural arguments: none", []
    try:
        found, about = structural_arguments(path)
        body = ast.parse(path.read_text()).body
    except UserError as e:
        found, about, missing = {}, "", f"structural arguments: not known, for {e}"
    rows = [(k, type(v).__name__, repr(v)) for k, v in found.items()]
    wide = [max((len(r[i]) for r in rows), default=0) for i in range(2)]
    lines = [notebook(path) or "(no docstring)", ""]
    lines.append(f"structural arguments ({name}:KEY=VALUE,...; KEY alone is True):" if rows else
                 missing)
    lines += [f"  {k:{wide[0]}}  {kind:{wide[1]}}  default {default}" for k, kind, default in rows]
    lines += ["", about] if about else []
    functions = {f.name: ast.get_docstring(f) or "" for f in body if isinstance(f, ast.FunctionDef)}
    sweeps = {n.partition("_")[2]: d for n, d in functions.items() if n.startswith(("sweep_", "search_"))}
    lines += ["", "sweeps:"] if sweeps else []
    lines += [f"  --sweep {n}  {d.partition(chr(10))[0]}" for n, d in sweeps.items()]
    return "\n".join(lines)

