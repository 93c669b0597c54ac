"""Deep Image Prior: removal of JPEG artefacts.

Ulyanov, Vedaldi and Lempitsky, CVPR 2018, figure 1 and the denoising notebook's second picture (snail): a narrow
network of 572,827 parameters stopped at 2400 iterations; by 50,000 it has learned the artefacts.

    python launch.py train --config configs/dip/jpeg.py:small
    python launch.py train --config configs/dip/jpeg.py --config.image=blocky.jpg --config.data.clean=False
"""

from configs.dip._base import arguments, restoration
from genjax.core.config import node

CHANNELS = (8, 16, 32, 64, 128)


def get_config(arg: str = ""):
    """Structural arguments: small (128 pixels), size (pixels; 0 keeps the picture), quality (of the JPEG that is made
    from a clean picture)."""
    a = arguments(arg, quality=10)
    return restoration(
        image="builtin:photos/astronaut",
        data={"problem": "jpeg", "jpeg_quality": a.quality},
        network=node("genjax.dip.networks.Skip", channels_down=CHANNELS, channels_up=CHANNELS,
                     channels_skip=(0, 0, 0, 4, 4)),
        steps=2400,
        small=a.small,
        size=a.size,
        input_channels=3,
        reg_noise_std=1 / 30,
        es_window=100,
        smoke=("task.network.channels_down=4,4", "task.network.channels_up=4,4", "task.network.channels_skip=0,4"),
    )
