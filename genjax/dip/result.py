"""Which picture a finished fit hands out as its result, chosen without the truth.

Two pictures stand at the end of a fit: `average`, the average over outputs, and `last`, the network's output without
noise on its input. In a short run the average lags behind the fit; in a long one it lacks the noise that the last
output has learned. The result is average + a (last - average), where a in [0, 1] comes from the observation: the
mixture is the one that, seen through the forward model, is nearest to it, so that neither picture alone explains it
better. Then:

* Where the observation holds no noise (inpainting, super-resolution), that is all. Pixels that were observed take the
  place of the network's. A hole deeper than a twentieth of the picture is filled from the average alone: what was
  observed says nothing about its inside, and the mean of many guesses is off the least.
* Where it does (denoising, JPEG artefacts, flash/no-flash), a fit that is too close has learned the noise: a is at most
  1/2, and 0 once the last output misses the observation by no more than the noise there is
  (`baselines.estimate_sigma`). Where early stopping has ended the fit, the result is the average it kept.
"""

import numpy as np

from genjax.dip import forward
from genjax.dip.baselines import estimate_sigma
from genjax.metrics.image import psnr


def names(pictures: list[str]) -> list[str]:
    """What the results of these pictures are called, as files too: the result of the only picture is `result`."""
    return ["result"] if len(pictures) == 1 else [f"{name}_result" for name in pictures]


def remark(name: str, picture: np.ndarray, text: str, others: dict[str, np.ndarray], clean: np.ndarray | None) -> str:
    """The line about a result: what it is (see `choose`), and with the truth its PSNR and that of the best of
    the other outputs. All pictures are [H,W,C]."""
    line = f"{name}.png, chosen without knowing the truth: {text}"
    if clean is None:
        return line
    found = {k: float(psnr(v, clean)) for k, v in others.items()}
    best = max(found, key=found.get)
    return (f"{line}. Against the clean picture it has {psnr(picture, clean):.2f} dB, the best of the other outputs,"
            f" {best}, {found[best]:.2f} dB")


def choose(average: np.ndarray, last: np.ndarray, observed: np.ndarray, mask: np.ndarray, *, factor: int = 1,
           kernel: forward.Kernel = "lanczos2", early: np.ndarray | None = None) -> tuple[np.ndarray, str]:
    """The result for one picture, and in words what it is. All pictures are float32 in [0,1].

    Args:
      average: [H,W,C], the average over outputs.
      last: [H,W,C], the output at the end.
      observed: [H,W,C], or [H/factor,W/factor,C]; where `mask` is 0 it is not looked at.
      mask: [H,W,1], 1 = known; holes only where factor is 1.
      factor: of the forward model, above 1 for super-resolution.
      kernel: of the forward model.
      early: [H,W,C], the average at the step where early stopping ended the fit; None while it has not.

    Returns:
      ([H,W,C], text).
    """
    from scipy.ndimage import distance_transform_edt  # takes its time to import

    holes = factor == 1 and bool((mask < 1).any())
    exact = holes or factor > 1
    if early is not None and not exact:
        return early, "the average over outputs where early stopping ended the fit"

    def missed(picture):
        return observed - np.asarray(forward.observe(picture, factor, kernel)) if factor > 1 else (
            observed - picture) * mask

    behind, fit = missed(average), missed(last)
    gain = behind - fit  # the forward model is linear: average + a (last - average) misses behind - a gain
    share = float(np.clip(np.sum(behind * gain) / max(np.sum(gain * gain), 1e-20), 0, 1))
    if holes and distance_transform_edt(mask[..., 0] == 0).max() > min(mask.shape[:2]) / 20:
        share = 0.0
    elif not exact:
        still = np.sqrt(np.mean(fit**2)) * 255 > estimate_sigma(observed)
        share = min(share, 0.5) if still else 0.0
    picture = average + np.float32(share) * (last - average)
    text = "the average over outputs" + (f", mixed with {share:.0%} of the last one" if share > 0 else "")
    return (np.where(mask > 0, observed, picture), f"{text}; known pixels as observed") if holes else (picture, text)
