"""The four targets of the noise impedance figure, as one batch."""

import dataclasses
import functools

import numpy as np

from genjax.data.restoration import RestorationSet

TARGETS = ("image", "image + noise", "shuffled", "noise")


@dataclasses.dataclass(frozen=True)
class FourTargets(RestorationSet):
    """One picture as four targets, float32 and unquantised: itself, with noise `sigma`, its pixels shuffled, U(0,1).

    The batch holds `observed` [4,H,W,C] and `mask` [4,H,W,1]; no truth, so that nothing but the fit is measured. The
    picture passes through the same size and crop as any other; the shuffle moves whole pixels.
    """

    names = TARGETS
    batch_size = len(TARGETS)

    def __len__(self) -> int:
        return len(TARGETS)

    @functools.cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        keys = ("images", "sigma", "size", "crop_multiple", "pad", "channels", "seed")
        found = RestorationSet(**{k: getattr(self, k) for k in keys}).arrays()
        image, noisy = found["clean"][0], found["observed"][0]
        rng = np.random.default_rng(self.seed)
        shuffled = rng.permutation(image.reshape(-1, image.shape[-1])).reshape(image.shape)
        targets = (image, noisy, shuffled, rng.uniform(size=image.shape))
        return {"observed": np.stack(targets).astype(np.float32),
                "mask": np.ones((len(targets), *image.shape[:2], 1), np.float32)}
