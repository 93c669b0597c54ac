"""Deep Image Prior: the effect of the prior on super-resolution (figure 5): none, total variation, or the network.

Ulyanov, Vedaldi and Lempitsky, CVPR 2018, section 3.2; settings of the authors' "SR prior effect" notebook: the same
loss is minimised over bare pixels, over pixels with total variation, and over the weights of a network.

    python launch.py train --config configs/dip/prior_effect.py:prior=tv,small
"""

from configs.dip._base import arguments, restoration, skip
from genjax.core.config import node
from genjax.errors import unknown

PRIORS = ("network", "tv", "none")


def get_config(arg: str = ""):
    """Structural arguments: small (128 pixels), size (pixels; 0 keeps the picture), prior (network, tv, none)."""
    a = arguments(arg, prior="network")
    if a.prior not in PRIORS:
        raise unknown("prior", a.prior, PRIORS)
    pixels = a.prior != "network"
    network = node("genjax.dip.other_networks.Pixels") if pixels else skip(64 if a.small else 128)
    return restoration(
        image="builtin:photos/astronaut",
        data={"problem": "super_resolution", "factor": 4},
        network=network,
        steps=2000,
        small=a.small,
        size=a.size,
        factor=4,
        input_channels=3,
        tv_weight=1e-7 if a.prior == "tv" else 0.0,
        reg_noise_std=0.0 if pixels else 1 / 30,
        smoke=() if pixels else ("task.network.channels_down=4,4", "task.network.channels_up=4,4"),
    )
