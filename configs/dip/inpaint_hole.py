"""Deep Image Prior: a large hole (figures 6 and 8, vase and library), and the architectures compared there.

Ulyanov, Vedaldi and Lempitsky, CVPR 2018, section 3.3; settings of the authors' inpainting notebook. Depth helps and
skip connections hurt: an encoder-decoder of 6 scales (2,996,467 parameters) is the default, `network=` draws the rest.

    python launch.py train --config configs/dip/inpaint_hole.py:small
    python launch.py train --config dip/inpaint_hole:network=unet --config.image=photo.png --config.mask=mask.png

Holes are removal masks in the paper's pictures, so PSNR inside them says little: look at the picture.
"""

from configs.dip._base import arguments, restoration, skip
from genjax.core.config import node
from genjax.errors import UserError, unknown

WIDTHS = (16, 32, 64, 128, 128, 128)
NETWORKS = ("hourglass", "skip", "unet", "resnet", "vase")
DEPTHS = ("hourglass", "skip")  # networks that come in several depths


def get_config(arg: str = ""):
    """Structural arguments: small (128 pixels), size (pixels; 0 keeps the picture), network (see NETWORKS), depth (1 to
    6, of hourglass and skip)."""
    a = arguments(arg, network="hourglass", depth=0)
    if a.network not in NETWORKS:
        raise unknown("network", a.network, NETWORKS)
    if a.depth and a.network not in DEPTHS:
        raise UserError(f"depth={a.depth} is for the networks {' and '.join(DEPTHS)}; {a.network} has one depth")
    if not 0 <= a.depth <= len(WIDTHS):
        raise UserError(f"depth={a.depth}: choose one from 1 to {len(WIDTHS)} (0: the deepest that fits)")
    depth = a.depth or (5 if a.small else 6)  # 128 pixels halve five times before a side is 4
    task = {"input_channels": 1, "reg_noise_std": 0.0}
    rate, steps, smoke = 0.01, 3001, ("task.network.channels_down=4,4", "task.network.channels_up=4,4")
    if a.network in DEPTHS:
        network = node("genjax.dip.networks.Skip", channels_down=WIDTHS[:depth], channels_up=WIDTHS[:depth],
                       channels_skip=0 if a.network == "hourglass" else 4, kernel_down=5, kernel_up=3,
                       upsample="nearest", need1x1_up=False)
    elif a.network == "vase":
        network, steps = skip(skip=0, upsample="nearest"), 5001
        task = {"input_kind": "meshgrid", "input_channels": 2, "reg_noise_std": 0.03}
    elif a.network == "unet":
        network, rate, smoke = node("genjax.dip.other_networks.UNet"), 0.001, (
            "task.network.feature_scale=32", "task.network.more_layers=0")
    else:
        network, rate, smoke = node("genjax.dip.other_networks.ResNet"), 0.001, ("task.network.channels=4",)
    return restoration(
        image="builtin:photos/astronaut",
        mask="hole:0.25",
        data={"problem": "inpaint"},
        network=network,
        steps=steps,
        small=a.small,
        size=a.size,
        learning_rate=rate,
        smoke=smoke,
        **task,
    )
