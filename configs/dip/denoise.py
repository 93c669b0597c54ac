"""Deep Image Prior: denoising of a colour photograph with Gaussian noise (sigma 25; sigma=50).

Ulyanov, Vedaldi and Lempitsky, CVPR 2018, section 3.1 and its supplement; settings of the authors' denoising notebook.

    python launch.py train --config configs/dip/denoise.py:small
    python launch.py train --config configs/dip/denoise.py --config.image=noisy.png --config.data.clean=False

Expected: F16 at sigma 25 30.4 dB with the average over outputs (nine colour images: 30.43; recomputed from the
authors' files 31.29), near iteration 1800.
"""

from configs.dip._base import restoration, skip
from genjax.core.config import parse_arg


def get_config(arg: str = ""):
    """Structural arguments: small (128 x 128, narrower), sigma."""
    a = parse_arg(arg, small=False, sigma=25)
    return restoration(
        image="builtin:photos/astronaut",
        data={"problem": "denoise", "sigma": float(a.sigma)},
        network=skip(64 if a.small else 128),
        steps=3000,
        small=a.small,
        small_steps=900,
        reg_noise_std=1 / 20 if a.sigma >= 50 else 1 / 30,
        es_window=100,
    )
