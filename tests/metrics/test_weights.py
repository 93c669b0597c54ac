"""Weight files: what is read, what is refused, what the cache does. The files are made here, without torch."""

import collections
import io
import json
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.metrics import weights

# ---------------------------------------------------------------- a stand-in for torch.save


class Global:
    """Pickled as a reference to module.name, as torch's classes and functions are."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __reduce__(self):
        return f"{self.module}.{self.name}"


class Call:
    """Pickled as a call of a `Global`."""

    def __init__(self, function, *args):
        self.function, self.args = function, args


class Storage:
    def __init__(self, kind, key, data):
        self.kind, self.key, self.data = kind, key, data


class Pickler(pickle._Pickler):
    """Writes what torch's pickler writes; in Python, so that references may name modules that are not here."""

    def __init__(self, file, stream=False):
        super().__init__(file, 2)
        self.stream = stream

    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        pid = ("storage", Global("torch", f"{obj.kind}Storage"), obj.key, "cpu", len(obj.data))
        return (*pid, None) if self.stream else pid

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.args)
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)


def tensor(kind, key, data, offset, size, stride):
    return Call(Global("torch._utils", "_rebuild_tensor_v2"), Storage(kind, key, data), offset, size, stride, False,
                collections.OrderedDict())


def pickled(obj, stream=False):
    f = io.BytesIO()
    Pickler(f, stream).dump(obj)
    return f.getvalue()


def save_zip(path, obj, storages):
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("archive/data.pkl", pickled(obj))
        z.writestr("archive/byteorder", "little")
        for s in storages:
            z.writestr(f"archive/data/{s.key}", s.data.tobytes())


def save_stream(path, obj, storages):
    parts = [pickled(0x1950A86A20F9469CFC6C), pickled(1001), pickled({"little_endian": True}), pickled(obj, True),
             pickled([s.key for s in storages])]
    for s in storages:
        parts += [struct.pack("<q", len(s.data)), s.data.tobytes()]
    path.write_bytes(b"".join(parts))


def example():
    """A state dict of every kind of tensor, its storages, and the arrays it stands for."""
    base = np.arange(24, dtype=np.float32)
    kinds = {"Double": np.float64, "Half": np.float16, "BFloat16": ml_dtypes.bfloat16, "Long": np.int64,
             "Int": np.int32, "Byte": np.uint8, "Bool": np.bool_}
    tree = collections.OrderedDict()
    tree["plain"] = tensor("Float", "0", base, 0, (2, 3, 4), (12, 4, 1))
    tree["view"] = tensor("Float", "0", base, 5, (3, 2), (1, 4))  # shares the storage: offset 5, transposed
    tree["expanded"] = tensor("Float", "0", base, 7, (3,), (0,))
    tree["empty"] = tensor("Float", "0", base, 0, (0, 3), (3, 1))
    tree["count"] = tensor("Long", "n", np.array([9]), 0, (), ())
    tree["parameter"] = Call(Global("torch._utils", "_rebuild_parameter"),
                             tensor("Float", "0", base, 0, (4,), (1,)), True, collections.OrderedDict())
    want = {"plain": base.reshape(2, 3, 4), "view": np.array([[5, 9], [6, 10], [7, 11]], np.float32),
            "expanded": np.full(3, 7, np.float32), "empty": np.zeros((0, 3), np.float32), "count": np.array(9),
            "parameter": base[:4]}
    storages = [Storage("Float", "0", base), Storage("Long", "n", np.array([9]))]
    for kind, dtype in kinds.items():
        data = np.array([0, 1, 2.5, 3]).astype(dtype)
        tree[f"nested.{kind}"] = tensor(kind, kind, data, 1, (3,), (1,))
        want[f"nested.{kind}"] = data[1:]
        storages.append(Storage(kind, kind, data))
    return tree, storages, want


def same(got, want):
    assert set(got) == set(want)
    for name, a in want.items():
        assert got[name].dtype == a.dtype and got[name].shape == a.shape, name
        np.testing.assert_array_equal(got[name], a, name)


@pytest.mark.parametrize("save", [save_zip, save_stream])
def test_torch_files_are_read_without_torch(tmp_path, save):
    tree, storages, want = example()
    save(tmp_path / "a.pth", tree, storages)
    same(weights.read(tmp_path / "a.pth"), want)


@pytest.mark.parametrize("save", [save_zip, save_stream])
def test_the_usual_wrappings_are_taken_off(tmp_path, save):
    data = np.arange(3, dtype=np.float32)
    inner = {"module.conv.weight": tensor("Float", "0", data, 0, (3,), (1,))}
    save(tmp_path / "a.th", {"state_dict": inner, "best_prec1": 91.5}, [Storage("Float", "0", data)])
    same(weights.read(tmp_path / "a.th"), {"conv.weight": data})
    save(tmp_path / "b.th", {"net": {"conv": {"weight": inner["module.conv.weight"]}}, "epoch": 3},
         [Storage("Float", "0", data)])
    same(weights.read(tmp_path / "b.th"), {"net.conv.weight": data})


@pytest.mark.parametrize("save", [save_zip, save_stream])
@pytest.mark.parametrize("module, name", [("os", "system"), ("builtins", "eval"), ("torch.nn.modules.conv", "Conv2d"),
                                          ("numpy.core.multiarray", "scalar"), ("posix", "system")])
def test_a_pickle_that_would_run_something_is_refused_by_name(tmp_path, save, module, name):
    marker = tmp_path / "ran"
    save(tmp_path / "a.pt", {"w": Call(Global(module, name), f"touch {marker}")}, [])
    with pytest.raises(UserError, match=rf"{module}\.{name}"):
        weights.read(tmp_path / "a.pt")
    assert not marker.exists()


def test_what_a_pickle_changes_does_not_outlive_it(tmp_path):
    """BUILD sets attributes of what is on the stack; the functions on our list have none to set."""
    before = weights._ALLOWED["torch._utils", "_rebuild_tensor_v2"]
    for state in ({"__call__": 1, "x": 2}, (None, {"x": 2})):
        body = pickled(Global("torch._utils", "_rebuild_tensor_v2"))[:-1] + pickled(state)[2:-1] + b"b."
        with zipfile.ZipFile(tmp_path / "a.pth", "w") as z:
            z.writestr("archive/data.pkl", body)
        with pytest.raises(UserError, match="damaged"):
            weights.read(tmp_path / "a.pth")
    assert not hasattr(before, "x")


@pytest.mark.parametrize("offset, size, stride", [(0, (5,), (1,)), (3, (2,), (1,)), (0, (2,), (-1,)), (-1, (1,), (1,)),
                                                  (0, (2, 3), (2, 1))])
def test_a_tensor_outside_its_storage_is_refused(tmp_path, offset, size, stride):
    data = np.arange(4, dtype=np.float32)
    save_zip(tmp_path / "a.pth", {"w": tensor("Float", "0", data, offset, size, stride)}, [Storage("Float", "0", data)])
    with pytest.raises(UserError, match="outside its storage"):
        weights.read(tmp_path / "a.pth")


def test_damaged_and_foreign_files_are_one_line(tmp_path):
    tree, storages, _ = example()
    save_stream(tmp_path / "a.pth", tree, storages)
    whole = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) - 30])
    (tmp_path / "noise.pth").write_bytes(b"\x93 no pickle")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    (tmp_path / "short.safetensors").write_bytes(b"\x10")
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as z:
        z.writestr("readme", "no weights")
    for name in ("cut.pth", "noise.pth", "empty.npz", "objects.npz", "short.safetensors", "other.pt", "none.pth",
                 "a.txt"):
        with pytest.raises(UserError) as e:
            weights.read(tmp_path / name)
        assert name in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("name, says", [("text.npz", "no archive of numpy's"), ("objects.npz", "a holds Python obj"),
                                        ("array.npz", "no archive of numpy's")])
def test_nobody_is_advised_to_run_a_pickle(tmp_path, name, says):
    (tmp_path / "text.npz").write_text("conv.weight 1 2 3\n")
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    with open(tmp_path / "array.npz", "wb") as f:
        np.save(f, np.arange(3))
    with pytest.raises(UserError, match=says) as e:
        weights.read(tmp_path / name)
    assert "pickle" not in str(e.value)


def test_safetensors_and_npz(tmp_path):
    arrays = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1, 2.5], ml_dtypes.bfloat16)}
    header = {"a.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
              "b": {"dtype": "BF16", "shape": [2], "data_offsets": [24, 28]}, "__metadata__": {"format": "pt"}}
    text = json.dumps(header).encode()
    data = arrays["a.weight"].tobytes() + arrays["b"].tobytes()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    same(weights.read(tmp_path / "a.safetensors"), arrays)
    np.savez(tmp_path / "a.npz", **{"a.weight": arrays["a.weight"]})
    same(weights.read(tmp_path / "a.npz"), {"a.weight": arrays["a.weight"]})


def test_keras_files_need_h5py_and_say_so(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"")
    try:
        import h5py
    except ImportError:
        with pytest.raises(UserError, match="pip install h5py"):
            weights.read(tmp_path / "a.h5")
        return
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["model_weights/dense/dense/kernel:0"] = np.eye(2, dtype=np.float32)
    same(weights.read(tmp_path / "a.h5"), {"dense/dense/kernel:0": np.eye(2, dtype=np.float32)})


# ---------------------------------------------------------------- fitting to a module



def template():
    bn = {"scale": np.zeros(4), "bias": np.zeros(4)}
    return {"params": {"conv": {"kernel": np.zeros((3, 3, 2, 4))}, "bn": bn,
                       "fc": {"kernel": np.zeros((24, 5)), "bias": np.zeros(5)}},
            "batch_stats": {"bn": {"mean": np.zeros(4), "var": np.zeros(4)}}}


def published():
    rng = np.random.default_rng(0)
    shapes = {"conv.weight": (4, 2, 3, 3), "bn.weight": (4,), "bn.bias": (4,), "bn.running_mean": (4,),
              "bn.running_var": (4,), "fc.weight": (5, 24), "fc.bias": (5,)}
    return {k: rng.normal(size=s) for k, s in shapes.items()} | {"bn.num_batches_tracked": np.array(7)}


def test_layouts():
    """A flattened [C,H,W] = (4,2,3) dense layer gives the same numbers on the flattened [H,W,C]."""
    p = published()
    v = weights.convert(p, template(), str, flattened={"fc.weight": (4, 2, 3)})
    assert v["params"]["conv"]["kernel"].dtype == np.float32
    np.testing.assert_allclose(v["params"]["conv"]["kernel"][1, 2, 0, 3], p["conv.weight"][3, 0, 1, 2], rtol=1e-6)
    np.testing.assert_allclose(v["batch_stats"]["bn"]["var"], p["bn.running_var"], rtol=1e-6)
    x = np.random.default_rng(1).normal(size=(4, 2, 3))
    np.testing.assert_allclose(x.transpose(1, 2, 0).ravel() @ v["params"]["fc"]["kernel"], p["fc.weight"] @ x.ravel(),
                               rtol=1e-5)


def test_conversion_is_strict():
    p = published()
    del p["bn.bias"]
    p["fc.bias"] = np.zeros(6)
    p["aux.weight"] = np.zeros(3)
    faults = r"missing bn\.bias; superfluous aux\.weight; of another shape fc\.bias is \(6,\)"
    with pytest.raises(UserError, match=faults):
        weights.convert(p, template(), str, flattened={"fc.weight": (4, 2, 3)})
    v = weights.convert(published() | {"aux.weight": np.zeros(3)}, template(), str, ignore=r"aux\..*")
    assert "aux" not in v["params"]


def test_identity_is_of_the_arrays():
    a = weights.convert(published(), template(), str)
    b = weights.unflatten(dict(reversed(weights.flatten(a).items())))
    assert weights.identity(a) == weights.identity(b) and len(weights.identity(a)) == 12
    b["params"]["fc"]["bias"] = b["params"]["fc"]["bias"] + np.float32(1e-6)
    c = weights.unflatten({k: v.astype(np.float64) for k, v in weights.flatten(a).items()})
    assert len({weights.identity(t) for t in (a, b, c)}) == 3


# ---------------------------------------------------------------- the cache


def test_download(tmp_path, monkeypatch):
    monkeypatch.setenv("GENJAX_WEIGHTS", str(tmp_path / "cache"))
    source = tmp_path / "published.bin"
    source.write_bytes(b"weights" * 1000)
    url, sha = source.as_uri(), weights.file_sha256(source)

    with pytest.raises(UserError, match=f"another file than expected: sha256 {sha}, expected {'0' * 64}"):
        weights.download(url, "0" * 64, "w.bin")
    assert list((tmp_path / "cache").iterdir()) == []
    got = weights.download(url, sha, "w.bin")
    assert got == tmp_path / "cache" / "w.bin" and got.read_bytes() == source.read_bytes()
    source.unlink()  # from the cache now
    assert weights.download(url, sha[:8], "w.bin") == got
    got.write_bytes(b"damaged")
    with pytest.raises(UserError, match="damaged"):
        weights.download(url, sha, "w.bin")
    with pytest.raises(UserError) as e:
        weights.download(url, sha, "v.bin")
    assert url in str(e.value) and str(tmp_path / "cache" / "v.bin") in str(e.value)
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["w.bin"]
    with pytest.raises(UserError, match="expected none given"):
        weights.download(got.as_uri(), "", "u.bin")


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.delenv("GENJAX_WEIGHTS", raising=False)
    monkeypatch.setenv("GENJAX_CACHE", str(tmp_path))
    assert weights.folder() == tmp_path / "weights"
    monkeypatch.delenv("GENJAX_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert weights.folder() == tmp_path / "home" / ".cache" / "genjax" / "weights"
