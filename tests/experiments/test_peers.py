"""`gan/peers` and figures' structural arguments: the PyTorch networks are genjax's, and mistakes are one line."""

import importlib.util
import json

import flax
import jax
import numpy as np
import pytest

import launch
from experiments.gan import peers
from genjax.core import config, figure, inspect
from genjax.core.experiment import Programs
from genjax.errors import UserError


def leaves(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(("index", "scale"), [(0, "small"), (0, "paper"), (1, "small"), (1, "paper")])
def test_parameter_counts_are_those_of_pytorch(index, scale):
    pytest.importorskip("torch")
    pair = peers.PAIRS[index]
    loaded = config.load(getattr(pair, scale), ["data.source=builtin:digits"])
    params = Programs(config.build(loaded)).abstract.params
    training = importlib.import_module(f"experiments.bench.{pair.peer}").Training(**pair.settings(loaded))
    assert [sum(p.numel() for p in net.parameters()) for net in (training.g, training.d)] == [
        leaves(params["generator"]), leaves(params["discriminator"])]


def test_the_cifar_configuration_in_pytorch_has_the_published_parameters():
    pytest.importorskip("torch")
    from experiments.bench._torch_stylegan2_cifar import Training

    t = Training(resolution=32, base=32768, widest=512, latent=512, group=32)
    assert [sum(p.numel() for p in net.parameters()) for net in (t.g, t.d)] == [19_947_539, 20_720_641]


def test_stylegan2_networks_agree_with_pytorch():
    """The same weights give the same pictures and logits."""
    torch = pytest.importorskip("torch")
    from experiments.bench import _torch_stylegan2 as peer
    from genjax.gan.stylegan2 import Discriminator, Generator

    size = {"channel_base": 128, "channel_max": 12}
    rng = np.random.default_rng(0)
    z, x = (rng.standard_normal(s).astype(np.float32) for s in ((8, 6), (8, 16, 16, 1)))
    ours = Generator(16, 1, z_dim=6, w_dim=6, mapping_layers=2, **size), Discriminator(16, 1, mbstd_group=4, **size)
    key = jax.random.key(0)
    spec = jax.eval_shape(lambda: (ours[0].init({"params": key, "noise": key}, z), ours[1].init(key, x)))
    filled = jax.tree.map(lambda a: rng.standard_normal(a.shape).astype(np.float32), spec)
    g, d = peer.Generator(16, 1, 6, 2, 128, 12), peer.Discriminator(16, 1, 128, 12, 4)
    got = {"/".join(k): v for part in filled[0].values() for k, v in flax.traverse_util.flatten_dict(part).items()}
    got |= {"/".join(k): v for k, v in flax.traverse_util.flatten_dict(filled[1]["params"]).items()}

    def put(target, name):
        a = got.pop(name)
        if not name.endswith("noise_const"):
            a = np.transpose(a, {4: (3, 2, 0, 1), 3: (2, 0, 1), 2: (1, 0)}.get(a.ndim, range(a.ndim)))
        assert target.shape == a.shape, name
        target.data = torch.tensor(np.ascontiguousarray(a))

    def layer(module, name):
        for torch_name, jax_name in (("weight", "kernel"), ("bias", "bias"), ("noise_strength", "noise_strength"),
                                     ("noise", "noise_const")):
            if getattr(module, torch_name, None) is not None:
                put(getattr(module, torch_name), f"{name}/{jax_name}")
        if hasattr(module, "affine"):
            layer(module.affine, f"{name}/affine")

    for i, m in enumerate(g.mapping):
        layer(m, f"mapping/fc{i}")
    put(g.w_avg, "mapping/w_avg")
    put(g.const, "synthesis/b4/const")
    names = ["b4/conv1", "b8/conv0", "b8/conv1", "b16/conv0", "b16/conv1"]
    for m, name in zip([*g.convs, *g.rgbs], [*names, "b4/torgb", "b8/torgb", "b16/torgb"], strict=True):
        layer(m, f"synthesis/{name}")
    for m, r in zip(d.blocks, (16, 8), strict=True):
        for part in ("conv0", "conv1", "skip"):
            layer(getattr(m, part), f"b{r}/{part}")
    for m, name in ((d.from_rgb, "b16/fromrgb"), (d.conv, "b4/conv"), (d.fc, "b4/fc"), (d.out, "b4/out")):
        layer(m, name)
    assert not got
    want = jax.jit(lambda v, z: ours[0].apply(v, z, noise="const"))(filled[0], z)
    with torch.no_grad():
        found = g(g.map(torch.tensor(z)), fixed=True).permute(0, 2, 3, 1).numpy()
        logits = d(torch.tensor(x).permute(0, 3, 1, 2)).numpy()
    assert np.abs(found - want).max() < 1e-4 * np.abs(want).max()
    want = jax.jit(ours[1].apply)(filled[1], x)[:, 0]
    assert np.abs(logits - want).max() < 1e-4 * np.abs(want).max()


def test_arguments_of_figures(tmp_path, monkeypatch):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "fig.py").write_text(
        '"""Toy."""\n\n\ndef run(fig, data="", n=1):\n    fig.row(data, "n", n, None)\n')
    monkeypatch.setattr(inspect, "EXPERIMENTS", tmp_path)
    monkeypatch.chdir(tmp_path)
    folders = set()
    for arg in ("", ":data=idx:a b/c,n=3", ":n=3"):
        fig = figure.reproduce("toy/fig" + arg, "small", None, None, quiet=True)
        folders.add(fig.workdir)
    assert len(folders) == 3 and fig.name == "toy/fig:n=3"
    assert (fig.rows[0]["case"], fig.rows[0]["got"]) == ("", 3)
    for arg, message in (("date=x", "unknown structural argument 'date'; did you mean 'data'"), ("n=x", "n")):
        with pytest.raises(UserError, match=message):
            figure.reproduce("toy/fig:" + arg, "small", None, None, quiet=True)


def test_what_is_missing_is_told_before_training(tmp_path, monkeypatch):
    def refused(arg=""):
        with pytest.raises(UserError) as e:
            figure.reproduce("gan/peers" + arg, "small", str(tmp_path), None, quiet=True)
        assert "\n" not in str(e.value)
        return str(e.value)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install -r requirements-compare.txt" in refused()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert "gan/peers:data=idx:FOLDER" in refused()
    assert "none.npz" in refused(f":data=builtin:digits,weights={tmp_path}/none.npz")


@pytest.mark.slow
def test_bench_gan(tmp_path):
    """Every row of `bench gan`, with its peer where PyTorch is installed."""
    assert launch.main(["bench", "gan", "--smoke", "--repeats", "1", "--json", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    modulated = ["modulated convolution"] * 2
    assert [" ".join(r["case"].split()[:2]) for r in rows] == [
        "DCGAN step", "StyleGAN2 step", *["StyleGAN2-ADA cifar"] * 2, *modulated]
    assert all(r["genjax"] > 0 for r in rows)
    assert [r["unit"] for r in rows] == ["ms", "ms", "images/s", "images/s", "ms", "ms"]
    torch = importlib.util.find_spec("torch") is not None
    assert [r["peer"] is not None for r in rows] == [torch, torch, torch, False, True, True]
    assert "no augmentation, bfloat16" in rows[2]["case"] and "ADA, bfloat16" in rows[3]["case"]
    assert all("grouped convolution" in r["peer_name"] for r in rows[4:])
