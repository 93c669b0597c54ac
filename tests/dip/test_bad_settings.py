"""Deep Image Prior's settings from the command line: every mistake is one line, every documented command builds."""

import re
import typing

import numpy as np
import pytest

from genjax.core import config as config_lib
from genjax.core.experiment import Programs
from genjax.data.images import save_image
from genjax.dip import forward
from genjax.dip.networks import Skip, hourglass
from genjax.dip.other_networks import DeepDecoder, Pixels, ResNet, UNet
from genjax.errors import UserError

NETWORKS = "task.network.target=genjax.dip."


def message(spec, *items):
    """What the user reads."""
    with pytest.raises(UserError) as info:
        config_lib.build(config_lib.override(config_lib.smoke(config_lib.load(spec)), items))
    assert "\n" not in str(info.value)
    return str(info.value)


@pytest.mark.parametrize(("items", "says"), [
    (["dtype=floaty"], "config.task.network.dtype"), (["dtype=float64"], "config.task.network.dtype"),
    (["dtype=bfloat61"], "did you mean 'bfloat16'"),
    (["upsample=bilinaer"], "unknown upsample 'bilinaer'; did you mean 'bilinear'"),
    (["upsample=nearest,nearst"], "unknown upsample 'nearst'; did you mean 'nearest'"),
    (["downsample=strid"], "unknown downsample 'strid'; did you mean 'stride'"), (["pad=reflect"], "'reflection'"),
    (["act=leakyrelu"], "'leaky_relu'"), (["upsample=nearest"], ""), (["channels_skip=0,2"], ""),
    (["channels_down=4,-4"], "channels_down must be at least 1 each, got (4, -4)"),
    (["channels_up=0,4"], "channels_up must"), (["channels_skip=-1"], "channels_skip must be at least 0, got -1"),
    (["kernel_down=-3"], "kernel_down must be at"), (["kernel_up=3,0"], "kernel_up"),
    (["kernel_skip=2"], "even"), (["out_channels=0"], "out_channels"),
    (["channels_down=()"], "channels_down is empty"),
])  # fmt: skip
def test_the_skip_network(items, says):
    items = [f"task.network.{i}" for i in items]
    if says:
        assert says in message("dip/denoise", *items)
    else:
        config_lib.build(config_lib.override(config_lib.smoke(config_lib.load("dip/denoise")), items))


@pytest.mark.parametrize(("target", "item", "says"), [
    ("networks.hourglass", "dtype=float64", "network.dtype"), ("networks.hourglass", "depth=7", "task.network.depth"),
    ("other_networks.UNet", "dtype=float61", "dtype"), ("other_networks.UNet", "feature_scale=0", "at least 1, got 0"),
    ("other_networks.UNet", "feature_scale=100", "feature_scale must be at most 64, got 100"),
    ("other_networks.UNet", "more_layers=-5", "more_layers must be at least 0, got -5"),
    ("other_networks.UNet", "more_layers=100000", "more_layers must be at most 12"),
    ("other_networks.ResNet", "dtype=half", "dtype"), ("other_networks.ResNet", "channels=0", "channels must be at"),
    ("other_networks.ResNet", "blocks=-1", "blocks"), ("other_networks.DeepDecoder", "dtype=float64", "network.dtype"),
    ("other_networks.DeepDecoder", "channels=()", "channels is empty"),
    ("other_networks.DeepDecoder", "channels=8,0", "channels must be at least 1 each"),
    ("other_networks.Pixels", "out_channels=0", "out_channels"), ("other_networks.Pixels", "low=2", "must not exceed"),
    ("other_networks.Pixels", "low=-1e999", "must not exceed"), ("other_networks.Pixels", "high=1e999", "must not exc"),
])  # fmt: skip
def test_the_other_networks(target, item, says):
    assert says in message("dip/denoise", NETWORKS + target, f"task.network.{item}")


def test_networks_in_float64_are_for_tests():
    """Which check gradients with them: linen takes what the config refuses."""
    for net in (Skip(), hourglass(2), UNet(), ResNet(), DeepDecoder(), Pixels(low=0.5, high=0.5)):
        if hasattr(net, "dtype"):
            assert net.clone(dtype="float64").dtype == "float64"


def test_the_forward_filter_is_one_of_those_that_work():
    for kind in typing.get_args(forward.Kernel):
        config_lib.load("dip/super_resolution", [f"task.kernel={kind}"])
    assert "'gauss12'" in message("dip/super_resolution", "task.kernel=gauss13")
    assert "task.kernel" in message("dip/super_resolution", "task.kernel=gauss")


@pytest.mark.parametrize(("arg", "says"), [
    ("depth=7", "depth=7: choose one from 1 to 6"), ("depth=-1", "depth=-1: choose"),
    ("network=skip,depth=9", "1 to 6"),
    ("network=unet,depth=3", "depth=3 is for the networks hourglass and skip; unet has one depth"),
    ("network=resnet,depth=3", "resnet has one depth"), ("network=vase,depth=-3", "vase has one depth"),
])  # fmt: skip
def test_depths_of_the_large_hole(arg, says):
    assert says in message(f"dip/inpaint_hole:{arg}")


@pytest.mark.parametrize(("arg", "scales"), [("", 6), ("small", 5), ("depth=1", 1), ("depth=6,small", 6),
                                             ("network=skip,depth=3", 3)])
def test_depths_are_the_scales(arg, scales):
    assert len(config_lib.load(f"dip/inpaint_hole:{arg}").task.network.channels_down) == scales


@pytest.mark.parametrize(("spec", "items", "says"), [
    ("dip/inpaint_text", ["mask=text:100000"], "100000 lines"),
    ("dip/inpaint_text", ["mask=scratches:100000"], "at most 1024"),
    ("dip/denoise", ["data.size=100000"], "size=100000: at most 8192"),
])  # fmt: skip
def test_what_would_take_forever(spec, items, says):
    with pytest.raises(UserError, match=says):
        config_lib.build(config_lib.load(spec, items)).data.batch(0)


# ---------------------------------------------------------------- the commands of the docstrings


def commands():
    """`(config file, arguments)` of every training command the configs' docstrings give."""
    found = []
    for name in config_lib.list_configs():
        if not name.startswith("dip/"):
            continue
        text = (config_lib.ROOT / "configs" / f"{name}.py").read_text().split('"""')[1].replace("\\\n", " ")
        lines = re.findall(r"^ +python launch\.py train --config (.*)$", text, re.M)
        assert lines, f"configs/{name}.py shows no command"
        found += [(name, line.split()) for line in lines]
    return found


@pytest.mark.parametrize(("name", "words"), commands(), ids=lambda v: v if isinstance(v, str) else " ".join(v))
def test_documented_commands_build(name, words, tmp_path):
    """Up to the shapes of everything, on pictures of 128 x 128 pixels."""
    spec, *rest = words
    assert spec.partition(":")[0] in (f"configs/{name}.py", name)
    items = []
    for word in rest:
        key, value = re.fullmatch(r"--config\.([a-z_.]+)=(\S+)", word).groups()
        if value.endswith((".png", ".jpg")):
            picture = np.random.default_rng(0).uniform(size=(128, 128, 3)) if key != "mask" else np.eye(128)[..., None]
            value = str(save_image(tmp_path / value, picture))
        items.append(f"{key}={value}")
    items += [] if any(i.startswith("image=") for i in items) else ["data.size=128"]
    config = config_lib.load(spec, items)
    programs = Programs(config_lib.build(config))
    drawn, mask = programs.abstract.extra["ema"].shape, programs.experiment.data.element_spec["mask"].shape
    assert drawn == (*mask[:3], config.data.channels) and min(mask[1:3]) >= 128


def test_commands_are_found():
    assert len(commands()) >= 14 and any("--config.data.pad=1" in words for _, words in commands())
