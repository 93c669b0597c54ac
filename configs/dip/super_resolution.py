"""Deep Image Prior: super-resolution by 4 or 8.

Ulyanov, Vedaldi and Lempitsky, CVPR 2018, section 3.2. The low-resolution picture is PIL's Lanczos (3 lobes) of the
high-resolution one, the forward model inside the loss a 2-lobe Lanczos at phase 0.5: they differ, as in the paper.

    python launch.py train --config configs/dip/super_resolution.py:small
    python launch.py train --config configs/dip/super_resolution.py:factor=8 --config.image=photo.png
    python launch.py train --config dip/super_resolution --config.image=low.png --config.data.clean=False

Expected: Set5 x4 29.90 dB on luma (bicubic 28.43), Set14 x4 27.00; zebra x4 23.65 dB at iteration 1500.
"""

from configs.dip._base import arguments, restoration, skip


def get_config(arg: str = ""):
    """Structural arguments: small (128 pixels, narrower), size (pixels; 0 keeps the picture), factor (4 or 8)."""
    a = arguments(arg, factor=4)
    return restoration(
        image="builtin:photos/astronaut",
        data={"problem": "super_resolution", "factor": a.factor},
        network=skip(64 if a.small else 128),
        steps=4000 if a.factor >= 8 else 2000,
        small=a.small,
        size=a.size,
        factor=a.factor,
        reg_noise_std=0.05 if a.factor >= 8 else 0.03,
    )
