"""Deep Image Prior: inpainting under text (figure 7, kate) or a drawn mask.

Ulyanov, Vedaldi and Lempitsky, CVPR 2018, section 3.3; settings of the authors' inpainting notebook: 128 skip channels,
3,002,627 parameters.

    python launch.py train --config configs/dip/inpaint_text.py:small
    python launch.py train --config dip/inpaint_text --config.image=photo.png --config.mask=mask.png

A mask is white where the picture is known (--config.data.invert_mask=True for the other way round).
Expected (the authors' frames, kate): 34.61 dB on the known pixels, 30.18 in the holes at iteration 2000.
"""

from configs.dip._base import arguments, restoration, skip


def get_config(arg: str = ""):
    """Structural arguments: small (128 pixels, narrower), size (pixels; 0 keeps the picture)."""
    a = arguments(arg)
    width = 64 if a.small else 128
    return restoration(
        image="builtin:photos/astronaut",
        mask="text",
        data={"problem": "inpaint"},
        network=skip(width, skip=width, upsample="nearest"),
        steps=6001,
        small=a.small,
        size=a.size,
        small_steps=900,
        reg_noise_std=0.03,
    )
