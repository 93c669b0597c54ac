"""Deep Image Prior: restoration of a picture with 50 % (or missing=98 %) of its pixels missing at random.

Ulyanov, Vedaldi and Lempitsky, CVPR 2018, section 3.3 (table of 11 grey pictures at 50 %) and figure 1 (98 %); settings
of the authors' restoration notebook.

    python launch.py train --config configs/dip/restore.py:small
    python launch.py train --config configs/dip/restore.py --config.image=barbara.png --config.data.channels=1 \
        --config.task.network.out_channels=1 --config.data.pad=1
    python launch.py train --config configs/dip/restore.py:missing=98

Expected: Barbara 32.22 dB at 50 % (convolutional sparse coding 28.14, nearest known pixel 24.59).
"""

from configs.dip._base import arguments, restoration, skip
from genjax.core.config import node
from genjax.errors import UserError

NARROW = (16, 32, 64, 128, 128)


def get_config(arg: str = ""):
    """Structural arguments: small (128 pixels, narrower), size (pixels; 0 keeps the picture), missing (per cent)."""
    a = arguments(arg, missing=50)
    if not 1 <= a.missing <= 99:
        raise UserError(f"missing={a.missing}: per cent of the pixels, from 1 to 99")
    if a.missing >= 90:
        network = node("genjax.dip.networks.Skip", channels_down=NARROW, channels_up=NARROW, channels_skip=0,
                       downsample="avg")
        rate, steps, noise = 0.01, 1000, 0.0
    else:
        network, rate, steps, noise = skip(64 if a.small else 128), 0.001, 11000, 0.03
    return restoration(
        image="builtin:photos/astronaut",
        mask=f"bernoulli:{(100 - a.missing) / 100:g}",
        data={"problem": "inpaint"},
        network=network,
        steps=steps,
        small=a.small,
        size=a.size,
        small_steps=900,
        learning_rate=0.005 if a.small and a.missing < 90 else rate,
        reg_noise_std=noise,
    )
