"""Deep Image Prior: flash / no-flash reconstruction: the flash picture is the input, the noisy no-flash one the target.

Ulyanov, Vedaldi and Lempitsky, CVPR 2018, section 3.4; settings of the authors' flash notebook (learning rate 0.1,
601 iterations). A run that gets stuck at a reddish picture is started again with another --config.seed.

    python launch.py train --config configs/dip/flash.py --config.image=noflash.jpg --config.guide=flash.jpg

Without pictures of your own, a photograph and its darkened, reddened, noisy copy stand in.
"""

from configs.dip._base import arguments, restoration, skip


def get_config(arg: str = ""):
    """Structural arguments: small (128 pixels, narrower), size (pixels; 0 keeps the picture)."""
    a = arguments(arg)
    config = restoration(
        image="builtin:photos/astronaut",
        data={"problem": "flash", "guide": "@guide"},
        network=skip(64 if a.small else 128, upsample=("nearest", "nearest", "bilinear", "bilinear", "bilinear")),
        steps=601,
        small=a.small,
        size=a.size,
        learning_rate=0.1,
        input_kind="image",
        input_channels=3,
        reg_noise_std=0.0,
        smoke=("task.network.channels_down=4,4", "task.network.channels_up=4,4",
               "task.network.upsample=nearest,bilinear"),
    )
    config.guide = ""
    return config
