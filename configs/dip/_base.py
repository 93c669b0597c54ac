"""What every Deep Image Prior config shares: the experiment around one picture (or several) and one kind of network."""

import types

from ml_collections import ConfigDict

from genjax.core.config import experiment, node, parse_arg
from genjax.errors import UserError

# One network per picture, split over the mesh's data axis; the step counter is shared.
SHARDING = ("^step$ -> replicate", ".* -> shard_dim(0, data)")

# From this value on a pixel of a mask file is known: white, as pure as JPEG leaves it.
WHITE = 0.98

# The smoke form: 32 x 32 pixels, a few channels, the shortest windows.
SMOKE = ("data.size=32", "data.crop_multiple=1")
SMOKE_SKIP = ("task.network.channels_down=4,4", "task.network.channels_up=4,4")


def skip(channels: int = 128, scales: int = 5, skip: int | tuple[int, ...] = 4, **kwargs) -> ConfigDict:
    """The skip network of equal width at every scale: 5 x 128 is the paper's default."""
    return node("genjax.dip.networks.Skip", channels_down=(channels,) * scales, channels_up=(channels,) * scales,
                channels_skip=skip, **kwargs)


def arguments(arg: str, **more) -> types.SimpleNamespace:
    """The structural arguments of every config here, `small` (the CPU preset: 128 pixels, a narrower network, fewer
    steps) and `size` (pixels, see `RestorationSet.size`; 0 keeps the picture), and the config's own."""
    a = parse_arg(arg, small=False, size=-1, **more)
    if a.size < -1:
        raise UserError(f"structural argument size={a.size}: pixels a side, or 0 to keep the picture as it is")
    a.size = a.size if a.size >= 0 else 128 if a.small else 0
    return a


def restoration(*, image: str, data: dict, network: ConfigDict, steps: int, learning_rate: float = 0.01,
                mask: str = "", small: bool = False, size: int = 0, small_steps: int = 0,
                smoke: tuple[str, ...] = SMOKE_SKIP, steps_per_call: int = 10, **task) -> ConfigDict:
    """A restoration experiment.

    Args:
      image: default picture, overridden by --config.image=PATH.
      data: keywords of `genjax.data.restoration.RestorationSet`.
      network: the network's node.
      steps: iterations at the paper's settings.
      learning_rate: of Adam.
      mask: default mask, overridden by --config.mask=PATH.
      small: the CPU preset asked for.
      size: of the pictures, see `arguments`.
      small_steps: iterations of the preset (default: a third of `steps`).
      smoke: the network's shrinkings for the smoke form.
      **task: keywords of `genjax.dip.task.DeepImagePrior`.
    """
    if small:
        steps = small_steps or steps // 3
    return experiment(
        image=image,
        mask=mask,
        task=node("genjax.dip.task.DeepImagePrior", network=network, optimizer="@optimizer", ema_warmup=10, **task),
        data=node("genjax.data.restoration.RestorationSet", images="@image", mask="@mask", size=size,
                  **({"mask_threshold": WHITE} if mask else {}), **data),
        optimizer=node("genjax.core.optim.adam", learning_rate=learning_rate),
        train=node("genjax.core.experiment.TrainOptions", steps=steps, steps_per_call=steps_per_call,
                   save_every=500, preview_every=500),
        sharding=SHARDING,
        smoke=SMOKE + smoke,
    )
