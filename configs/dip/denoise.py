"""Deep Image Prior: denoising of a colour photograph with Gaussian noise (sigma 25; sigma=50).

Ulyanov, Vedaldi and Lempitsky, CVPR 2018, section 3.1 and its supplement; settings of the authors' denoising notebook.

    python launch.py train --config configs/dip/denoise.py:small
    python launch.py train --config configs/dip/denoise.py --config.image=noisy.png --config.data.clean=False
    python launch.py sweep --config configs/dip/denoise.py:small --sweep noise
    python launch.py sweep --config configs/dip/denoise.py:small --sweep best --config.train.eval_every=100

Expected: F16 at sigma 25 30.4 dB with the average over outputs (nine colour images: 30.43; recomputed from the
authors' files 31.29), near iteration 1800.
"""

from configs.dip._base import arguments, restoration, skip
from genjax.core.search import search
from genjax.core.sweep import grid, log_uniform, uniform


def get_config(arg: str = ""):
    """Structural arguments: small (128 pixels, narrower), size (pixels; 0 keeps the picture), sigma."""
    a = arguments(arg, sigma=25)
    return restoration(
        image="builtin:photos/astronaut",
        data={"problem": "denoise", "sigma": float(a.sigma)},
        network=skip(64 if a.small else 128),
        steps=3000,
        small=a.small,
        size=a.size,
        small_steps=900,
        reg_noise_std=1 / 20 if a.sigma >= 50 else 1 / 30,
        es_window=100,
    )


def sweep_noise():
    """The learning rate against the noise on the network's input: 12 points."""
    return grid({"optimizer.learning_rate": (0.003, 0.01, 0.03), "task.reg_noise_std": (0.0, 0.01, 1 / 30, 0.1)})


def search_best():
    """Both of them and the weight of the average over outputs, as far as 40 runs go."""
    return search({"optimizer.learning_rate": log_uniform(1e-3, 1e-1), "task.reg_noise_std": uniform(0.0, 0.1),
                   "task.ema_decay": uniform(0.9, 0.995)}, metric="psnr_ema", trials=40, warmup=200)
