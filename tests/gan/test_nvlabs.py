"""NVlabs' pickles: written here without torch in the published structure, read without executing anything."""

import io
import pickle
import re
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import launch
from genjax.core import inspect, report
from genjax.core.checkpoint import flat, load_snapshot
from genjax.core.snapshot import OpenedRun
from genjax.errors import UserError
from genjax.gan import nvlabs
from genjax.gan.stylegan2 import Discriminator, Generator
from genjax.metrics import weights
from genjax.viz.grid import save_png

RNG = np.random.default_rng(0)


class Global:
    """Pickles as the name of something in another package, called with the arguments if there are any."""

    def __init__(self, module, name, *args):
        self.module, self.name, self.args = module, name, args


class EasyDict(dict):
    """dnnlib's."""


class Pickler(pickle._Pickler):  # the one in Python: the one in C writes no names that cannot be imported
    def save(self, obj, *args, **kwargs):
        if isinstance(obj, Global):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
            if obj.args:
                super().save(obj.args)
                self.write(pickle.REDUCE)
        elif isinstance(obj, EasyDict):
            self.write(pickle.GLOBAL + b"dnnlib.util\nEasyDict\n" + pickle.EMPTY_TUPLE + pickle.NEWOBJ)
            for k, v in obj.items():
                super().save(k)
                self.save(v)
                self.write(pickle.SETITEM)
        else:
            super().save(obj, *args, **kwargs)

    def persistent_id(self, obj):  # an array stands for its storage; all have one key, as memory is used again
        return ("storage", Global("torch", "FloatStorage"), "4711", "cpu", obj.size, None) if isinstance(
            obj, np.ndarray) else None


def dumps(obj, protocol=3):
    f = io.BytesIO()
    Pickler(f, protocol).dump(obj)
    return f.getvalue()


def tensor(x):
    """torch's pickle of a float32 tensor: rebuilt from a storage that torch.save's older format wrote into bytes."""
    x = np.asarray(x, np.float32)
    stream = [dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, x, ["4711"])]
    saved = b"".join(stream) + struct.pack("<q", x.size) + x.tobytes()
    return Global("torch._utils", "_rebuild_tensor_v2", Global("torch.storage", "_load_from_bytes", saved), 0, x.shape,
                  tuple(s // 4 for s in x.strides), False, {})


def parameter(x):
    return Global("torch._utils", "_rebuild_parameter", tensor(x), False, {})


def persistent(class_name, arrays, **attributes):
    """A persistent module of the published names `arrays`, nested by their dots."""
    own = {k: v for k, v in arrays.items() if "." not in k}
    children = {}
    for k, v in arrays.items():
        head, dot, rest = k.partition(".")
        if dot:
            children.setdefault(head, {})[rest] = v
    kept = ("noise_const", "w_avg", "resample_filter")
    # numpy's float64, as the layers' weight_gain is
    double = Global("numpy", "dtype", "f8", False, True)
    gain = Global("numpy.core.multiarray", "scalar", double, struct.pack("<d", 0.5))
    state = {"training": False, "_parameters": {k: parameter(v) for k, v in own.items() if k not in kept},
             "_buffers": {k: tensor(v) for k, v in own.items() if k in kept}, "_non_persistent_buffers_set": set(),
             "_modules": {k: persistent("Layer", v) for k, v in children.items()}, "weight_gain": gain, **attributes}
    meta = {"type": "class", "version": 6, "module_src": "raise SystemExit('executed')", "class_name": class_name,
            "state": state}
    return Global("torch_utils.persistence", "_reconstruct_persistent_obj", meta)


def published(variables):
    """The published names and layouts of our variables: the inverse of the rule."""
    out = {}
    for path, x in flat(variables).items():
        *path, last = path.split("/")[1:]
        x = np.asarray(x)
        if last == "kernel":
            last, x = "weight", x.transpose(3, 2, 0, 1) if x.ndim == 4 else x.T
        elif last == "const":
            x = x.transpose(2, 0, 1)
        out[".".join((*path, last))] = np.array(x, order="C")
    out["synthesis.b8.resample_filter" if "synthesis.b8.conv0.weight" in out else "b8.resample_filter"] = nvlabs.FILTER
    return out


def filled(net, *args):
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), *args))
    return jax.tree.map(lambda s: RNG.standard_normal(s.shape).astype(np.float32), shapes)


SIZES = dict(resolution=8, channels=3, classes=3, channel_base=32, channel_max=8)
G = Generator(**SIZES, z_dim=4, w_dim=4, mapping_layers=2, num_low_precision_res=2, low_precision="float32", clamp=0.5)
D = Discriminator(**SIZES, mbstd_group=2, num_low_precision_res=2, low_precision="float32", clamp=0.5)
G_KWARGS = {"z_dim": 4, "c_dim": 3, "w_dim": 4, "img_resolution": 8, "img_channels": 3,
            "mapping_kwargs": {"num_layers": 2},
            "synthesis_kwargs": {"channel_base": 32, "channel_max": 8, "num_fp16_res": 2, "conv_clamp": 0.5}}
D_KWARGS = {"c_dim": 3, "img_resolution": 8, "img_channels": 3, "architecture": "resnet", "channel_base": 32,
            "channel_max": 8, "num_fp16_res": 2, "conv_clamp": 0.5, "block_kwargs": {"freeze_layers": 1},
            "mapping_kwargs": {}, "epilogue_kwargs": {"mbstd_group_size": 2}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(variables of G, of D, the pickle's content, its path)."""
    label = jnp.zeros((1,), int)
    g, d = filled(G, jnp.zeros((1, 4)), label), filled(D, jnp.zeros((1, 8, 8, 3)), label)
    content = {
        "G": None, "D": persistent("Discriminator", published(d), _init_args=(), _init_kwargs=D_KWARGS),
        "G_ema": persistent("Generator", published(g), _init_args=(), _init_kwargs=EasyDict(G_KWARGS)),
        "training_set_kwargs": EasyDict(class_name="training.dataset.ImageFolderDataset", path="x.zip")}
    path = tmp_path_factory.mktemp("nvlabs") / "net.pkl"
    path.write_bytes(dumps(content))
    return g, d, content, path


def same(a, b):
    a, b = flat(a), flat(b)
    assert a.keys() == b.keys()
    for k in a:
        np.testing.assert_array_equal(a[k], b[k], err_msg=k)


def test_networks_are_read_whole(made):
    g, d, _, path = made
    content = nvlabs.read(path)
    found = nvlabs.generator(content)
    assert Generator(**found.kwargs) == G
    same(found.variables, g)
    assert all(x.dtype == np.float32 for x in flat(found.variables).values())
    found = nvlabs.discriminator(content)
    assert Discriminator(**found.kwargs) == D.clone(mapping_layers=8)
    same(found.variables, d)
    assert content["training_set_kwargs"]["path"] == "x.zip"
    assert content["G_ema"].state["weight_gain"] == 0.5


def test_converted_run_is_sampled_and_reported(made, tmp_path, capsys):
    g, _, _, path = made
    out = tmp_path / "run"
    assert launch.main(["convert", str(path), "--out", str(out)]) == 0
    variables, meta = load_snapshot(out / "snapshots" / "step_00000000.npz")
    same(variables, {"params": g["params"], "extra": {"buffers": g["buffers"]}})
    assert meta["converted_from"] == {"file": "net.pkl", "sha256": weights.file_sha256(path), "network": "G_ema"}
    assert inspect.status(str(out))["state"] == "done" and report.write(out).is_file()
    assert launch.main(["sample", str(out), "-n", "2", "--out", str(tmp_path / "s.png")]) == 0
    assert (tmp_path / "s.png").stat().st_size > 100
    shown = tmp_path / "shown"
    assert launch.main(["sample", str(out), "--control", "truncation", "-n", "2", "--out", str(shown)]) == 0
    assert [p.name for p in shown.iterdir()] == ["truncation.png"]
    capsys.readouterr()
    assert launch.main(["convert", str(path), "--out", str(out)]) == 2
    assert "holds a run" in capsys.readouterr().err


def test_converted_run_is_measured_against_its_own_pictures(made, tmp_path, capsys):
    _, _, _, path = made
    for i in range(3):
        (tmp_path / "pictures" / f"class{i}").mkdir(parents=True)
        for j in range(2):
            save_png(tmp_path / "pictures" / f"class{i}" / f"{j}.png", np.full((8, 8, 3), 0.1 * (i + j)))
    spec, run = f"folder:{tmp_path / 'pictures'}", str(tmp_path / "run")
    assert launch.main(["convert", str(path), "--out", run, "--data", spec]) == 0
    data = OpenedRun(run).experiment.data
    assert (data.source.name, len(data)) == (spec, 6)
    away = (tmp_path / "pictures").rename(tmp_path / "elsewhere")
    assert launch.main(["sample", run, "-n", "2", "--out", str(tmp_path / "s.png")]) == 0, "weights need no pictures"
    assert launch.main(["eval", run, "--metrics", "frechet"]) == 2
    away.rename(tmp_path / "pictures")
    capsys.readouterr()
    assert launch.main(["eval", run]) == 2
    assert "measures nothing; add --metrics NAMES" in capsys.readouterr().err
    for wrong, says in ((f"folder:{tmp_path}/none", "none"), (f"{spec}/class0", "has no labels"),
                        ("builtin:digits", "labels 0 to 9, the generator 3 classes")):
        assert launch.main(["convert", str(path), "--out", str(tmp_path / "new"), "--data", wrong]) == 2
        found = capsys.readouterr().err
        assert re.search(says, found) and found.count("\n") == 1 and not (tmp_path / "new").exists()


def test_files_that_are_none(tmp_path, capsys):
    for file, says in (("none.pkl", "error: no file {}\n"), (".", "error: {} is a folder; name the pickle in it\n")):
        assert launch.main(["convert", str(tmp_path / file), "--out", str(tmp_path / "new")]) == 2
        assert capsys.readouterr().err == says.format(tmp_path / file)


def test_a_folder_in_use_is_named_as_it_was_given(made, tmp_path, capsys):
    (tmp_path / "notes.txt").touch()
    assert launch.main(["convert", str(made[3]), "--out", str(tmp_path)]) == 2
    assert f"--out {tmp_path} holds other files and no run" in capsys.readouterr().err


def refused(tmp_path, data, match):
    path = tmp_path / "bad.pkl"
    path.write_bytes(data)
    with pytest.raises(UserError, match=match) as e:
        content = nvlabs.read(path)
        nvlabs.generator(content)
    assert "\n" not in str(e.value)


def test_nothing_is_executed(made, tmp_path):
    *_, content, path = made
    touched = tmp_path / "touched"
    refused(tmp_path, dumps({"G_ema": Global("os", "system", f"touch {touched}")}), "it holds os.system")
    refused(tmp_path, dumps({"G_ema": Global("builtins", "eval", "1")}), "builtins.eval")
    refused(tmp_path, dumps(Global("dnnlib.tflib.network", "Network")), "TensorFlow")
    refused(tmp_path, path.read_bytes()[:-100], "damaged")
    refused(tmp_path, dumps([1]), "holds a list")
    refused(tmp_path, dumps({"D": content["D"], "x": 1}), "no network G_ema, only D$")
    refused(tmp_path, dumps({"G_ema": {}}), "its G_ema is no network but a dict")
    inner = Global("torch.storage", "_load_from_bytes", dumps(Global("os", "system", f"touch {touched}")))
    refused(tmp_path, dumps({"x": inner}), "os.system")
    assert not touched.exists()
    with pytest.raises(UserError, match="no file"):
        nvlabs.read(tmp_path / "absent.pkl")


@pytest.mark.parametrize(("change", "match"), [
    ({"synthesis_kwargs": {**G_KWARGS["synthesis_kwargs"], "use_noise": False}}, "use_noise=False"),
    ({"mapping_kwargs": {"num_layers": 2, "lr_multiplier": 1}}, "lr_multiplier=1"),
    ({"magnitude_ema_beta": 0.5}, "magnitude_ema_beta"),
    ({"mapping_kwargs": {"num_layers": 3}}, "missing params/mapping/fc2/bias"),
    ({"synthesis_kwargs": {**G_KWARGS["synthesis_kwargs"], "channel_max": 4}}, "another shape")])
def test_other_networks_are_refused(made, tmp_path, change, match):
    g = made[0]
    wrong = persistent("Generator", published(g), _init_args=(), _init_kwargs=G_KWARGS | change)
    refused(tmp_path, dumps({"G_ema": wrong}), match)


def test_other_filters_are_refused(made):
    g = made[0]
    arrays = published(g) | {"synthesis.b8.resample_filter": np.ones((4, 4)) / 16}
    with pytest.raises(UserError, match="filter"):
        nvlabs.convert(arrays, G, jnp.zeros((1, 4)), jnp.zeros((1,), int))


def test_precision(made):
    """The clamp stays where the file has one; without one nothing is low."""
    plain = nvlabs.Module("Generator", {"_init_kwargs": {"img_resolution": 8, "img_channels": 3, "z_dim": 4, "w_dim": 4,
                                                         "c_dim": 0}})
    got = nvlabs.generator_kwargs(plain)
    assert "clamp" not in got and got["mapping_layers"] == 8 and got["channel_base"] == 32768
    assert Generator(**got).num_low_precision_res == 0
