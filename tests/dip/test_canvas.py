"""Pictures of sizes that a network cannot draw are the middle of a larger one, and come out as large as they were."""

import jax
import numpy as np
import pytest

from genjax.core import config as config_lib
from genjax.core import train as train_lib
from genjax.core.checkpoint import load_snapshot
from genjax.data.images import load_image, save_image
from genjax.dip import inputs
from genjax.dip.networks import Skip, centre_crop
from tests.dip import tiny

HOURGLASS = {"channels_down": (4, 4), "channels_up": (4, 4), "channels_skip": 0}


def started(net, height, width, **kwargs):
    """`(task, state, batch, root key)` for pictures of this size."""
    batch = tiny.pictures(n=2, size=32)
    batch = {k: v[:, :height, :width] for k, v in batch.items()}
    if kwargs.get("input_kind") == "image":
        batch["guide"] = batch["clean"][:, ::-1]
    task = tiny.make(net, **kwargs)
    return task, *tiny.begin(task, batch)


@pytest.mark.parametrize(("net", "drawn"), [
    (tiny.network(**HOURGLASS), (24, 20)), (tiny.network(**HOURGLASS | {"channels_skip": 2}), (22, 17)),
    (tiny.network(**HOURGLASS | {"channels_skip": (0, 2)}), (24, 20)),
])  # fmt: skip
def test_the_network_draws_the_next_size_it_can(net, drawn):
    task, state, batch, root = started(net, 22, 17)
    assert state.extra["z"].shape == (2, 1, *drawn, 4) and state.extra["ema"].shape == (2, 22, 17, 3)
    after, metrics = tiny.step(task, state, batch, root)
    assert np.isfinite(metrics["loss"]) and after.extra["ema"].shape == (2, 22, 17, 3)
    variables = task.export(after)
    whole = np.stack([task.network.apply({"params": jax.tree.map(lambda x, i=i: x[i], after.params)},
                                         after.extra["z"][i])[0] for i in (0, 1)])
    middle = np.asarray(centre_crop(whole, 22, 17))
    np.testing.assert_allclose(task.outputs(variables)["last"], middle, atol=1e-5)
    assert task.sample(variables, jax.random.key(0), 1)["samples"].shape == (1, 22, 17, 3)


def test_sizes_that_it_can_draw_are_drawn_as_they_are():
    for size in ((24, 20), (32, 32)):
        _, state, *_ = started(tiny.network(**HOURGLASS), *size)
        assert state.extra["z"].shape[2:4] == size


def test_pictures_smaller_than_its_smallest_map_are_framed():
    """Five halvings of 12 pixels: reflection has nothing to take from a map of one pixel."""
    net = Skip(channels_down=(4,) * 5, channels_up=(4,) * 5, channels_skip=0, kernel_down=5)
    task, state, batch, root = started(net, 12, 12)
    assert state.extra["z"].shape[2:4] == (96, 96) and state.extra["ema"].shape == (2, 12, 12, 3)


def test_a_guide_is_reflected_around_itself():
    task, state, batch, root = started(tiny.network(**HOURGLASS), 22, 17, input_kind="image", input_channels=3,
                                       reg_noise_std=0.0)
    state, _ = tiny.step(task, state, batch, root)
    z = np.asarray(state.extra["z"])[:, 0]
    assert z.shape == (2, 24, 20, 3)
    np.testing.assert_array_equal(z[:, 1:23, 1:18], batch["guide"])
    np.testing.assert_array_equal(z[:, 0, 1:18], batch["guide"][:, 1])
    np.testing.assert_array_equal(z[:, 1:23, 19], batch["guide"][:, :, -3])
    image = np.ones((1, 4, 4, 3), np.float32)
    assert inputs.framed(image, image.shape) is not None and inputs.framed(image, (1, 4, 6, 3)).shape == (1, 4, 6, 3)


def test_a_photograph_comes_out_whole(tmp_path):
    """A run of the large-hole config on 45 x 38 pixels, whose networks take multiples of 4 in the smoke form."""
    photo = save_image(tmp_path / "photo.png", np.random.default_rng(0).uniform(size=(45, 38, 3)))
    config = config_lib.override(config_lib.smoke(config_lib.load("dip/inpaint_hole")), [
        f"image={photo}", "mask=hole:0.1", "data.size=0", "train.preview_every=0"])
    train_lib.train(config, tmp_path / "run", quiet=True)
    for name in ("result", "photo_ema", "photo_last", "photo_composite"):
        assert load_image(tmp_path / "run" / "outputs" / f"{name}.png").shape == (45, 38, 3), name
    variables, _ = load_snapshot(tmp_path / "run" / "snapshots" / "step_00000002.npz")
    assert variables["extra"]["z"].shape[2:4] == (48, 40)
