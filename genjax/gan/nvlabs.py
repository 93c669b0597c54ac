"""NVlabs' StyleGAN2-ADA pickles (`ffhq.pkl`, `network-snapshot-*.pkl`) as genjax networks and run folders.

Such a file is a dictionary {"G", "D", "G_ema", ...} of networks. Each of their modules is pickled as a call of
`torch_utils.persistence._reconstruct_persistent_obj` with {class_name, module_src, state}: NVlabs' reader executes the
source `module_src`; this one does not look at it. It needs no torch and runs nothing from the file: the unpickler
builds numbers, strings, containers, arrays and notes of modules, and refuses every other name. Sizes come from the
arguments the networks were made with, arrays from `state` by the rule in `genjax.gan.stylegan2`.

Not for the TensorFlow pickles of StyleGAN and StyleGAN2 before ADA, nor for StyleGAN3.
"""

import io
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from genjax.core import config as config_lib
from genjax.core.checkpoint import flat, save_snapshot, unflatten
from genjax.core.run import RunFolder, environment
from genjax.errors import UserError
from genjax.gan.stylegan2 import Discriminator, Generator
from genjax.metrics import weights

KEEP = ("noise_const", "w_avg")  # what our networks hold in "buffers"
FILTER = np.outer((1, 3, 3, 1), (1, 3, 3, 1)) / 64


class Module(NamedTuple):
    """A pickled module: its class's name, and the attributes it had."""

    class_name: str
    state: dict[str, Any]


class Network(NamedTuple):
    """A converted network: its constructor's arguments and its variables {"params", "buffers"}, float32."""

    kwargs: dict[str, Any]
    variables: dict[str, Any]


# ---------------------------------------------------------------- reading


# As in `weights`: instances without attributes rather than functions.
class _Rebuild:
    """A module from its notes; nothing is imported, no source executed."""

    __slots__ = ()

    def __call__(self, meta):
        if not (isinstance(meta, dict) and meta.get("type") == "class" and isinstance(meta.get("state"), dict)):
            raise UserError("it holds a persistent object that is no module")
        return Module(str(meta.get("class_name")), meta["state"])


class _Inert:
    """Stands for what is not needed, such as numpy's dtypes; keeps its arguments, does nothing."""

    __slots__ = ("args",)

    def __init__(self, *args):
        self.args = args

    def __setstate__(self, state):
        pass


class _Scalar:
    """numpy's scalars: a number where its type is a plain one, else inert."""

    __slots__ = ()

    def __call__(self, dtype, data=b""):
        name = dtype.args[0] if isinstance(dtype, _Inert) and dtype.args else ""
        if name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1") and isinstance(data, bytes):
            return np.frombuffer(data, f"<{name}").item()
        return _Inert(dtype, data)


class _LoadStorage:
    """A storage saved inside the pickle by torch.save's older format: notes its dtype, keeps its bytes."""

    __slots__ = ("data",)

    def __init__(self):
        self.data: dict[str, bytes] = {}

    def __call__(self, saved):
        f = io.BytesIO(saved)
        if weights._Unpickler(f).load() != 0x1950A86A20F9469CFC6C or weights._Unpickler(f).load() != 1001:
            raise UserError("it holds a storage that torch.save did not write")
        if not weights._Unpickler(f).load().get("little_endian", True):
            raise UserError("it was written on a big-endian machine")
        storage, keys = weights._Unpickler(f).load(), weights._Unpickler(f).load()
        if not isinstance(storage, weights._Storage) or list(keys) != [storage.key]:
            raise UserError("it holds a storage of an unknown form")
        count = int.from_bytes(f.read(8), "little")
        # Keys repeat from one storage to the next: they are addresses of the memory they came from.
        key = str(len(self.data))
        self.data[key] = f.read(count * weights._item(storage.dtype).itemsize)
        return weights._Storage(storage.dtype, key, count)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file):
        super().__init__(file)
        self.load_storage = _LoadStorage()
        self.known = {
            **weights._ALLOWED,
            ("torch_utils.persistence", "_reconstruct_persistent_obj"): _Rebuild(),
            ("torch.storage", "_load_from_bytes"): self.load_storage,
            ("dnnlib.util", "EasyDict"): dict, ("builtins", "set"): set, ("__builtin__", "set"): set,
            **{("numpy" + core, "scalar"): _Scalar() for core in (".core.multiarray", "._core.multiarray")},
            ("numpy", "dtype"): _Inert, ("torch", "device"): _Inert,
            **{("torch", name): _Inert() for name in ("float16", "float32", "float64", "bfloat16")},
        }

    def find_class(self, module, name):
        if module.startswith("dnnlib.tflib"):
            raise UserError("it is a TensorFlow pickle (before StyleGAN2-ADA), which is not read; convert it with"
                            " NVlabs' legacy.py first")
        if (module, name) not in self.known:
            raise UserError(f"it holds {module}.{name}, which no network of StyleGAN2-ADA has, and is not read")
        return self.known[module, name]

    def persistent_load(self, pid):
        raise UserError("it holds references to other files")


def read(path: str | Path) -> dict[str, Any]:
    """The pickle's content, its tensors as numpy arrays and its modules as `Module`; nothing in it is executed.

    Raises:
      UserError: no such file, a damaged one, a TensorFlow pickle, or one that holds anything but networks.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"{path} is a folder; name the pickle in it" if path.is_dir() else f"no file {path}")
    try:
        with open(path, "rb") as f:
            unpickler = _Unpickler(f)
            tree = unpickler.load()
        if not isinstance(tree, dict):
            raise UserError(f"it holds a {type(tree).__name__}, not a dictionary with G_ema")
        data = unpickler.load_storage.data
        return _arrays(tree, lambda storage: data[storage.key])
    except UserError as e:
        raise UserError(f"{path}: {e}") from None
    except Exception as e:  # a damaged pickle can fail anywhere
        raise UserError(f"{path} is damaged or no pickle of StyleGAN2-ADA ({type(e).__name__}: {e})") from None


def _arrays(tree: Any, bytes_of) -> Any:
    if isinstance(tree, weights._Tensor):
        return weights._array(tree, bytes_of)
    if isinstance(tree, Module):
        return Module(tree.class_name, _arrays(tree.state, bytes_of))
    if isinstance(tree, dict):
        return {k: _arrays(v, bytes_of) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_arrays(v, bytes_of) for v in tree)
    return tree


def state_dict(module: Module, prefix: str = "") -> dict[str, np.ndarray]:
    """{published name: array} of a module's parameters and buffers, its submodules' too."""
    out = {}
    for kind in ("_parameters", "_buffers"):
        found = module.state.get(kind) or {}
        out.update({f"{prefix}{k}": v for k, v in found.items() if isinstance(v, np.ndarray)})
    for name, child in (module.state.get("_modules") or {}).items():
        if isinstance(child, Module):
            out.update(state_dict(child, f"{prefix}{name}."))
    return out


# ---------------------------------------------------------------- arguments


class _Given:
    """Arguments a module was made with; what is left over in the end, and not the default, is refused."""

    def __init__(self, given: dict[str, Any], what: str):
        self.given, self.what = dict(given), what

    def take(self, name: str, default: Any = None) -> Any:
        return self.given.pop(name, default)

    def inner(self, name: str) -> "_Given":
        return _Given(self.given.pop(name, None) or {}, f"{self.what} {name}")

    def only(self, name: str, *values: Any) -> None:
        """`name`, where given, has one of these values."""
        found = self.given.pop(name, values[0])
        if (list(found) if isinstance(found, tuple) else found) not in values:
            raise UserError(f"{self.what} was made with {name}={found!r}; genjax has {values[0]!r} only")

    def ignore(self, *names: str) -> None:
        for name in names:
            self.given.pop(name, None)

    def done(self) -> None:
        if self.given:
            raise UserError(f"{self.what} was made with {', '.join(sorted(map(str, self.given)))}, which genjax's"
                            " StyleGAN2 does not have")


def _given(module: Module, names: tuple[str, ...], what: str) -> _Given:
    if module.class_name != what:
        raise UserError(f"it holds a {module.class_name} in the place of a {what}")
    args = dict(zip(names, module.state.get("_init_args") or (), strict=False))
    kwargs = module.state.get("_init_kwargs")
    if not isinstance(kwargs, dict):
        raise UserError(f"the {what} does not say what it was made with; it is not of StyleGAN2-ADA")
    return _Given(args | kwargs, what)


def _precision(given: _Given) -> dict[str, Any]:
    """The clamp needs low precision to be on: it is, with float32 as the low one, so nothing is rounded."""
    low, clamp = int(given.take("num_fp16_res", 0)), given.take("conv_clamp")
    if clamp is None:
        return {}
    return {"num_low_precision_res": max(low, 1), "low_precision": "float32", "clamp": float(clamp)}


def _sizes(given: _Given) -> dict[str, Any]:
    return {"channel_base": int(given.take("channel_base", 32768)), "channel_max": int(given.take("channel_max", 512))}


def _mapping(given: _Given, width: int) -> int:
    layers = int(given.take("num_layers", 8))
    given.only("embed_features", None, width)
    given.only("layer_features", None, width)
    given.only("activation", "lrelu")
    given.only("lr_multiplier", 0.01)
    given.ignore("w_avg_beta")  # only for training
    given.done()
    return layers


def _blocks(given: _Given) -> None:
    given.only("activation", "lrelu")
    given.only("resample_filter", [1, 3, 3, 1])
    given.ignore("fp16_channels_last", "freeze_layers")
    given.done()


def generator_kwargs(module: Module) -> dict[str, Any]:
    """Arguments of `genjax.gan.stylegan2.Generator` for a pickled generator."""
    given = _given(module, ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs",
                            "synthesis_kwargs"), "Generator")
    out = {"resolution": int(given.take("img_resolution", 0)), "channels": int(given.take("img_channels", 0)),
           "classes": int(given.take("c_dim", 0)), "z_dim": int(given.take("z_dim", 0)),
           "w_dim": int(given.take("w_dim", 0))}
    out["mapping_layers"] = _mapping(given.inner("mapping_kwargs"), out["w_dim"])
    inner = given.inner("synthesis_kwargs")
    out |= {**_sizes(inner), "architecture": inner.take("architecture", "skip"), **_precision(inner)}
    inner.only("use_noise", True)
    _blocks(inner)
    given.done()
    return out


def discriminator_kwargs(module: Module) -> dict[str, Any]:
    """Arguments of `genjax.gan.stylegan2.Discriminator` for a pickled discriminator."""
    given = _given(module, ("c_dim", "img_resolution", "img_channels"), "Discriminator")
    out = {"resolution": int(given.take("img_resolution", 0)), "channels": int(given.take("img_channels", 0)),
           "classes": int(given.take("c_dim", 0)), **_sizes(given),
           "architecture": given.take("architecture", "resnet"), "cmap_dim": int(given.take("cmap_dim") or 0),
           **_precision(given)}
    _blocks(given.inner("block_kwargs"))
    width = out["cmap_dim"] or min(out["channel_base"] // 4, out["channel_max"])
    out["mapping_layers"] = _mapping(given.inner("mapping_kwargs"), width)
    inner = given.inner("epilogue_kwargs")
    group = inner.take("mbstd_group_size", 4)
    out |= {"mbstd_group": None if group is None else int(group), "mbstd_features": int(inner.take("mbstd_num_channels",
                                                                                                   1))}
    inner.only("activation", "lrelu")
    inner.done()
    given.done()
    return out


# ---------------------------------------------------------------- arrays


def _ours(name: str, x: np.ndarray) -> tuple[str, np.ndarray]:
    """Path and array of a published one, by the rule of `genjax.gan.stylegan2`."""
    *path, last = name.split(".")
    if last == "weight":
        last, x = "kernel", x.transpose(2, 3, 1, 0) if x.ndim == 4 else x.T
    elif last == "const":
        x = x.transpose(1, 2, 0)
    kind = "buffers" if last in KEEP else "params"
    return "/".join((kind, *path, last)), np.array(x, np.float32, order="C")


def convert(arrays: dict[str, np.ndarray], net: nn.Module, *args: Any) -> dict[str, Any]:
    """Published arrays as the variables of `net`, which is called with `args` to learn its shapes.

    Raises:
      UserError: names what is missing, left over or of another shape, and other resampling filters.
    """
    for name, x in arrays.items():
        if name.endswith("resample_filter") and (x.shape != (4, 4) or abs(x - FILTER).max() > 1e-6):
            raise UserError(f"{name} is not the filter [1, 3, 3, 1], the only one genjax's StyleGAN2 has")
    found = dict(_ours(k, v) for k, v in arrays.items() if not k.endswith("resample_filter"))
    wanted = flat(jax.eval_shape(lambda: net.init(jax.random.key(0), *args)))
    faults = [f"{what} {weights._some(sorted(names))}" for what, names in (
        ("missing", set(wanted) - set(found)), ("superfluous", set(found) - set(wanted)),
        ("of another shape", [k for k in found.keys() & wanted.keys() if found[k].shape != wanted[k].shape])) if names]
    if faults:
        raise UserError(f"these arrays are not of this network: {'; '.join(faults)}")
    return unflatten(found)


def _labels(kwargs: dict[str, Any]) -> jax.Array | None:
    return jnp.zeros((1,), jnp.int32) if kwargs["classes"] else None


def generator(content: dict[str, Any], name: str = "G_ema") -> Network:
    """The generator `name` of what `read` gave."""
    module = _named(content, name)
    kwargs = generator_kwargs(module)
    return Network(kwargs, convert(state_dict(module), Generator(**kwargs), jnp.zeros((1, kwargs["z_dim"])),
                                   _labels(kwargs)))


def discriminator(content: dict[str, Any], name: str = "D") -> Network:
    """The discriminator `name` of what `read` gave."""
    module = _named(content, name)
    kwargs = discriminator_kwargs(module)
    image = jnp.zeros((1, kwargs["resolution"], kwargs["resolution"], kwargs["channels"]))
    return Network(kwargs, convert(state_dict(module), Discriminator(**kwargs), image, _labels(kwargs)))


def _named(content: dict[str, Any], name: str) -> Module:
    if name in content and not isinstance(content[name], Module):
        raise UserError(f"its {name} is no network but a {type(content[name]).__name__}")
    if name not in content:
        others = [str(k) for k, v in content.items() if isinstance(v, Module)]
        raise UserError(f"it has no network {name}, only {', '.join(others) or 'other things'}")
    return content[name]


# ---------------------------------------------------------------- a run folder


def config_of(g: dict[str, Any], d: dict[str, Any] | None = None, data: str = "") -> ConfigDict:
    """A resolved config of StyleGAN2's task around networks of these sizes, for `sample` and the like.

    The data are what `data` names, a spec for `genjax.data.sources.open_source`; for "" a stand-in of the right shape
    (the pickle names a file that is not here), which no distance is worth measuring from. The optimisers are the
    authors' for 1024 x 1024.
    """
    data = data or ("builtin:digits" if g["classes"] else "builtin:photos")
    if d is None:
        d = {k: v for k, v in g.items() if k not in ("z_dim", "w_dim", "mapping_layers", "architecture")}
    adam = config_lib.node("genjax.core.optim.lazy_adam", learning_rate=0.002, every=4)
    return config_lib.finalize(config_lib.experiment(
        task=config_lib.node(
            "genjax.gan.style_task.StyleAdversarial", generator=config_lib.node("genjax.gan.stylegan2.Generator", **g),
            discriminator=config_lib.node("genjax.gan.stylegan2.Discriminator", **d), g_optimizer="@optimizer",
            d_optimizer=config_lib.node("genjax.core.optim.lazy_adam", learning_rate=0.002, every=16),
            latent_dim=g["z_dim"], conditional=g["classes"] > 0,
            unseen_classes=g["classes"] > 0),  # it is trained already
        data=config_lib.node(
            "genjax.data.pipeline.Pipeline", source=data, image_size=g["resolution"], channels=g["channels"],
            batch_size=32),
        optimizer=adam))


def _batch(config: ConfigDict) -> dict[str, list]:
    """{name: [shape, dtype]} of a batch of the network's pictures, by which the run opens without them."""
    g, n = config.task.generator, config.data.batch_size
    image = {"image": [[n, g.resolution, g.resolution, g.channels], "float32"]}
    return image | ({"label": [[n], "int32"]} if g.classes else {})


def _check_data(config: ConfigDict, data: str) -> None:
    """Refuses data that cannot be opened, or have not the labels that a network with classes needs."""
    try:
        found = config_lib.build(config)
    except UserError as e:
        raise UserError(f"--data {data}: {e}") from None
    if found.task.conditional and not found.data.labelled:
        raise UserError(f"--data {data} has no labels, and the network has classes; name labelled pictures, e.g. a"
                        " folder with a subfolder for each class")
    try:
        found.task.check_data(found.data)
    except UserError as e:
        raise UserError(f"--data {data}: {str(e).partition(';')[0]}; name the pictures it was trained on") from None


def convert_file(path: str | Path, out: str | Path, data: str = "") -> Path:
    """Makes a finished run folder of a pickle's G_ema: config.json, a snapshot at step 0 and DONE; returns the folder.

    Args:
      path: the pickle.
      out: a new or empty folder.
      data: the pictures the network was trained on, for metrics: see `config_of`.

    Raises:
      UserError: see `read`, `convert`; a folder in use; data that cannot be opened or do not fit; pictures that are
        neither grey nor colour.
    """
    try:
        content = read(path)
        g = generator(content)
        d = discriminator(content) if "D" in content else None
        if g.kwargs["channels"] not in (1, 3):
            raise UserError(f"its pictures have {g.kwargs['channels']} channels; genjax's data have 1 or 3")
    except UserError as e:  # `read` names the file itself
        raise UserError(str(e) if str(Path(path).expanduser()) in str(e) else f"{path}: {e}") from None
    config, folder = config_of(g.kwargs, d.kwargs if d else None, data), RunFolder(out)
    if folder.config_file.exists():
        raise UserError(f"--out {out} holds a run; name a new folder")
    if data:
        _check_data(config, data)
    try:
        folder.create(config)
    except UserError as e:
        raise UserError(str(e).replace("--workdir", "--out")) from None
    meta = {"step": 0, "config": config.to_dict(), "environment": environment(), "metrics": {},
            "element_spec": _batch(config),
            "converted_from": {"file": Path(path).name, "sha256": weights.file_sha256(Path(path).expanduser()),
                               "network": "G_ema"}}
    save_snapshot(folder.snapshots / "step_00000000.npz",
                  {"params": g.variables["params"], "extra": {"buffers": g.variables["buffers"]}}, meta)
    folder.mark("DONE", step=0, metrics={}, reason=f"converted from {Path(path).name}, not trained here")
    return folder.path
