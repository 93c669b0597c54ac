"""Published weights: found by name, URL and sha256 in a cache, read without their framework, fitted to our networks.

A file is a flat dictionary {published name: array}. `read` understands
  .pth .pt .th .bin .ckpt  PyTorch, the zip format (1.6 and later) and the stream of pickles before it; without torch
                      and without running what a pickle says: the unpickler builds dictionaries, numbers, strings
                      and arrays and refuses everything else by name
  .npz                numpy, no pickled objects
  .safetensors        a JSON header and bytes
  .h5 .hdf5           Keras, which `features` takes for VGG; the one format that needs a package (`pip install h5py`)
`convert` lays such a dictionary out as the variables of a Flax module and is strict: what is missing, left over or of
another shape is named.
"""

import hashlib
import json
import os
import pickle
import re
import urllib.error
import urllib.request
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import ml_dtypes
import numpy as np
from tqdm import tqdm

from genjax.errors import UserError


class Published(NamedTuple):
    """A file somebody publishes. `sha256` is all 64 hex digits, or as many first ones as the publisher tells."""

    url: str
    sha256: str
    file: str


# ---------------------------------------------------------------- the cache


def folder() -> Path:
    """Where weight files are kept: $GENJAX_WEIGHTS, else `weights` in $GENJAX_CACHE, else ~/.cache/genjax/weights."""
    if own := os.environ.get("GENJAX_WEIGHTS"):
        return Path(own).expanduser()
    return Path(os.environ.get("GENJAX_CACHE") or Path.home() / ".cache" / "genjax") / "weights"


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, 64 hex digits."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def download(url: str, sha256: str, name: str) -> Path:
    """The file `name` of the cache, fetched from `url` when it is not there.

    Written under a temporary name and renamed when its sha256 is right, so a broken transfer leaves nothing; a file
    that is already there is checked too.

    Args:
      url: http, https or file.
      sha256: expected digits, see `Published`.
      name: file name in `folder()`.

    Raises:
      UserError: the file cannot be had, or is not the expected one.
    """
    path = folder() / name
    if not path.exists():
        part = path.with_name(f"{name}.part{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with urllib.request.urlopen(url, timeout=60) as source, open(part, "wb") as sink:
                size = int(source.headers.get("Content-Length") or 0)
                with tqdm(total=size or None, unit="B", unit_scale=True, desc=name, disable=None) as bar:
                    while block := source.read(1 << 20):
                        sink.write(block)
                        bar.update(len(block))
            if size and part.stat().st_size != size:
                raise OSError(f"got {part.stat().st_size} of {size} bytes")
            _check_sha256(part, sha256, f"{url} holds another file than expected")
            os.replace(part, path)
        except (OSError, ValueError) as e:
            if isinstance(e, UserError):
                raise
            raise UserError(f"cannot download {url} ({getattr(e, 'reason', None) or e}); fetch it where there is a "
                            f"network and put it at {path}, or give its path") from None
        finally:
            part.unlink(missing_ok=True)
    else:
        _check_sha256(path, sha256, f"{path} is damaged or another file; remove it, it is then downloaded again")
    return path


def _check_sha256(path: Path, expected: str, otherwise: str) -> None:
    got = file_sha256(path)
    if not expected or not got.startswith(expected.lower()):
        raise UserError(f"{otherwise}: sha256 {got}, expected {expected or 'none given'}")


# ---------------------------------------------------------------- reading


def read(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of a weight file by their published names; what is no array is left out.

    A dictionary inside the file prefixes its names ("a" in "b" is "b.a"), except the usual wrappings: an entry
    "state_dict" stands for the whole file, and "module." before every name (torch's DataParallel) is cut off.

    Raises:
      UserError: no such file, an unknown or damaged format, or a pickle that holds anything but arrays.
    """
    path = Path(path).expanduser()
    readers = {".npz": _read_npz, ".safetensors": _read_safetensors, ".h5": _read_h5, ".hdf5": _read_h5}
    readers |= dict.fromkeys((".pth", ".pt", ".th", ".bin", ".ckpt"), _read_torch)
    if path.suffix.lower() not in readers:
        raise UserError(f"cannot read {path}: the name must end in one of {' '.join(sorted(readers))}")
    if not path.is_file():
        raise UserError(f"no weight file {path}")
    try:
        arrays = readers[path.suffix.lower()](path)
    except UserError as e:
        raise UserError(f"{path}: {e}") from None
    except Exception as e:  # a damaged file can fail anywhere in zip, pickle, JSON or numpy
        raise UserError(f"{path} is damaged or not what its name says ({type(e).__name__}: {e})") from None
    if arrays and all(name.startswith("module.") for name in arrays):
        arrays = {name.removeprefix("module."): a for name, a in arrays.items()}
    return arrays


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise UserError("it is no archive of numpy's; write it with numpy.savez")
    found = {}
    with np.load(path, allow_pickle=False) as z:
        for name in z.files:
            try:
                found[name] = z[name]
            except ValueError:  # numpy's own line advises to run what the file says
                raise UserError(f"{name} holds Python objects, or is damaged, and is not read; save plain arrays"
                                ) from None
    return found


_SAFETENSORS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16, "I64": "<i8", "I32": "<i4",
                "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"}


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """8 bytes little-endian header length, a JSON header {name: dtype, shape, data_offsets}, the bytes."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    out = {}
    for name, entry in header.items():
        if entry["dtype"] not in _SAFETENSORS:
            raise UserError(f"{name} has dtype {entry['dtype']}, which is not read")
        lo, hi = entry["data_offsets"]
        out[name] = np.frombuffer(data[start + lo : start + hi], _SAFETENSORS[entry["dtype"]]).reshape(entry["shape"])
    return out


def _read_h5(path: Path) -> dict[str, np.ndarray]:
    try:
        import h5py
    except ImportError:
        raise UserError("reading Keras weights needs h5py: pip install h5py") from None
    out = {}
    with h5py.File(path, "r") as f:
        top = f["model_weights"] if "model_weights" in f else f
        top.visititems(lambda name, node: out.update({name: node[()]}) if isinstance(node, h5py.Dataset) else None)
    return out


# ---------------------------------------------------------------- PyTorch files


class _Storage(NamedTuple):
    dtype: str
    key: str
    numel: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    size: tuple
    stride: tuple


# Instances without attributes rather than functions: nothing a pickle does to them can outlive it.
class _RebuildTensor:
    __slots__ = ()

    def __call__(self, storage, offset, size, stride, *_):
        if not isinstance(storage, _Storage):
            raise UserError("a tensor without a storage")
        return _Tensor(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


class _First:
    """Returns its first argument: a parameter is its tensor, a torch.Size its tuple."""

    __slots__ = ()

    def __call__(self, first=(), *_):
        return first


_DTYPES = {"Float": "<f4", "Double": "<f8", "Half": "<f2", "BFloat16": "bfloat16", "Long": "<i8", "Int": "<i4",
           "Short": "<i2", "Char": "i1", "Byte": "u1", "Bool": "?"}
_ALLOWED = {("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor"): _RebuildTensor(),
            ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
            ("torch._utils", "_rebuild_parameter"): _First(),
            ("torch", "Size"): _First(),
            **{("torch", f"{name}Storage"): dtype for name, dtype in _DTYPES.items()}}


class _Unpickler(pickle.Unpickler):
    """Knows the few names above; a storage becomes a note of where its bytes are, read afterwards."""

    def __init__(self, file):
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module, name):
        if (module, name) not in _ALLOWED:
            raise UserError(f"it holds {module}.{name}, not only arrays, and is not read; save its state_dict instead")
        return _ALLOWED[module, name]

    def persistent_load(self, pid):
        if not (isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == "storage" and isinstance(pid[1], str)):
            raise UserError("it holds a reference that is no storage")
        if len(pid) == 6 and pid[5] is not None:
            raise UserError("it holds a view of a storage (PyTorch before 0.4); load and save it with a newer one")
        return self.storages.setdefault(str(pid[2]), _Storage(pid[1], str(pid[2]), int(pid[4])))


def _item(dtype: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    tree, bytes_of = _read_torch_zip(path) if zipfile.is_zipfile(path) else _read_torch_stream(path)
    if isinstance(tree, dict) and isinstance(tree.get("state_dict"), dict):
        tree = tree["state_dict"]
    if not isinstance(tree, dict):
        raise UserError(f"it holds a {type(tree).__name__.strip('_').lower()}, not a dictionary of arrays")
    return {name: _array(t, bytes_of) for name, t in _tensors(tree)}


def _tensors(tree: dict, prefix: str = "") -> Iterable[tuple[str, _Tensor]]:
    for name, value in dict.items(tree):
        if isinstance(value, _Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, dict):
            yield from _tensors(value, f"{prefix}{name}.")


def _array(t: _Tensor, bytes_of: Callable[[_Storage], bytes]) -> np.ndarray:
    """The elements offset + Σ index stride of a storage."""
    flat = np.frombuffer(bytes_of(t.storage), _item(t.storage.dtype))
    last = t.offset + sum((n - 1) * s for n, s in zip(t.size, t.stride, strict=True))
    if min((t.offset, *t.size, *t.stride)) < 0 or (0 not in t.size and last >= len(flat)):
        raise UserError("a tensor lies outside its storage")
    strides = [s * flat.itemsize for s in t.stride]
    return np.array(np.lib.stride_tricks.as_strided(flat[t.offset :], t.size, strides))


def _read_torch_zip(path: Path):
    with zipfile.ZipFile(path) as z:
        names = [n for n in z.namelist() if n.endswith("/data.pkl")]
        if len(names) != 1:
            raise UserError("it has no data.pkl, so torch.save did not write it")
        top = names[0].removesuffix("data.pkl")
        if f"{top}byteorder" in z.namelist() and z.read(f"{top}byteorder") != b"little":
            raise UserError("it was written on a big-endian machine")
        with z.open(names[0]) as f:
            tree = _Unpickler(f).load()

    def bytes_of(storage: _Storage) -> bytes:
        with zipfile.ZipFile(path) as z:
            return z.read(f"{top}data/{storage.key}")

    return tree, bytes_of


def _read_torch_stream(path: Path):
    """Pickles one after another (magic number, version, system, object, storage keys), then count and bytes of each."""
    with open(path, "rb") as f:
        if _Unpickler(f).load() != 0x1950A86A20F9469CFC6C or _Unpickler(f).load() != 1001:
            raise UserError("it is no file of torch.save")
        if not _Unpickler(f).load().get("little_endian", True):
            raise UserError("it was written on a big-endian machine")
        unpickler = _Unpickler(f)
        tree = unpickler.load()
        data = {}
        for key in _Unpickler(f).load():
            count = int.from_bytes(f.read(8), "little")
            data[key] = f.read(count * _item(unpickler.storages[key].dtype).itemsize)
    return tree, lambda storage: data[storage.key]


# ---------------------------------------------------------------- fitting to a module


def flatten(tree: Mapping) -> dict[tuple[str, ...], np.ndarray]:
    """{path of keys: leaf} of nested dictionaries, sorted by path."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return dict(sorted((tuple(k.key for k in path), leaf) for path, leaf in leaves))


def unflatten(flat: Mapping[tuple[str, ...], np.ndarray]) -> dict:
    """The inverse of `flatten`."""
    tree: dict = {}
    for (*path, last), leaf in flat.items():
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[last] = leaf
    return tree


_TORCH = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def channels_last_dense(weight: np.ndarray, channels: int, height: int, width: int) -> np.ndarray:
    """torch's weight[O, C H W] after a flattened [C,H,W] -> kernel[H W C, O] after a flattened [H,W,C]."""
    return weight.reshape(-1, channels, height, width).transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])


def convert(arrays: Mapping[str, np.ndarray], template: Mapping, rename: Callable[[str], str], *,
            flattened: Mapping[str, tuple[int, int, int]] | None = None, ignore: str = "") -> dict:
    """PyTorch's arrays as the variables of a module: convolutions OIHW -> HWIO, dense layers OI -> IO, float32.

    Args:
      arrays: {published name: array}, as `read` gives it.
      template: the module's variables, or their shapes: {"params": {..., "kernel"}, "batch_stats": {..., "mean"}}.
      rename: the module path joined by "." -> the published name of that layer.
      flattened: {published name: (C,H,W)} of the dense weights whose input is a flattened picture.
      ignore: regular expression of published names that are not used; counters of batches never are.

    Raises:
      UserError: names the arrays that are missing, left over, or of another shape.
    """
    flattened, out, used, missing, wrong = flattened or {}, {}, set(), [], []
    for path, leaf in flatten(template).items():
        name = f"{rename('.'.join(path[1:-1]))}.{_TORCH[path[-1]]}"
        if name not in arrays:
            missing.append(name)
            continue
        used.add(name)
        a = np.asarray(arrays[name]).astype(np.float32)
        if a.ndim == 2 and a.shape[1] == np.prod(flattened.get(name, 0)):
            a = channels_last_dense(a, *flattened[name])
        elif a.ndim == 4:
            a = a.transpose(2, 3, 1, 0)
        elif a.ndim == 2:
            a = a.T
        if a.shape != tuple(leaf.shape):
            wrong.append(f"{name} is {np.shape(arrays[name])}")
        out[path] = np.ascontiguousarray(a)
    ignored = re.compile(rf"(.*\.num_batches_tracked|{ignore})$" if ignore else r".*\.num_batches_tracked$")
    extra = [name for name in arrays if name not in used and not ignored.match(name)]
    faults = [f"{what} {_some(names)}" for what, names in
              (("missing", missing), ("superfluous", extra), ("of another shape", wrong)) if names]
    if faults:
        raise UserError(f"these weights are not of this network: {'; '.join(faults)}")
    return unflatten(out)


def _some(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def identity(tree: Mapping) -> str:
    """First 12 hex digits of the sha256 over all arrays, sorted by path: shape, dtype and bytes of each."""
    h = hashlib.sha256()
    for leaf in flatten(tree).values():
        a = np.ascontiguousarray(leaf)
        h.update(f"{a.shape}{a.dtype}".encode())
        h.update(a.data if a.size else b"")
    return h.hexdigest()[:12]
