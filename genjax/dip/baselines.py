"""The trivial and classical methods Deep Image Prior is compared with, as plain functions on the host.

Pictures are [H,W,C] float32 in [0,1]; a mask is [H,W,1], 1 = the pixel is known; sigma is the noise's
standard deviation in units of 1/255. Problems are those of `data.restoration`.

| method | problems | what it does |
|---|---|---|
| observed | denoise, jpeg, inpaint, flash | nothing |
| nearest | super_resolution, inpaint | takes the nearest known pixel |
| bicubic | super_resolution | enlarges as Pillow does |
| tv | denoise, jpeg, inpaint | least total variation: Chambolle's denoising, Chambolle and Pock's for holes |
| nlm | denoise, jpeg | non-local means |
| low_rank | inpaint | soft-impute: every channel a matrix of small nuclear norm |
| biharmonic | inpaint | the smoothest surface through the known pixels |

What each reaches on the paper's pictures is written above its function; a change that moves a number shows
there.
"""

from collections.abc import Callable

import numpy as np

from genjax.data.images import resize_image
from genjax.data.restoration import PROBLEMS
from genjax.errors import UserError, unknown


def observed(picture, **_):
    """The picture as it was observed."""
    return picture


def nearest(picture, *, problem, mask, factor, **_):
    """Every unknown pixel takes the value of the known pixel nearest to it (Euclidean distance).

    Super-resolution: every low-resolution pixel becomes a square. Barbara, 50 % of the pixels: 24.25 dB.
    """
    if problem == "super_resolution":
        return picture.repeat(factor, 0).repeat(factor, 1)
    return picture[_nearest_index(mask[..., 0] > 0)]


def bicubic(picture, *, factor, **_):
    """Bicubic enlargement as Pillow's (a = -0.5, edges renormalised), in float, overshoot clipped."""
    return resize_image(picture, (picture.shape[0] * factor, picture.shape[1] * factor), "bicubic")


def tv(picture, *, problem, mask, sigma, **_):
    """Least total variation.

    Denoising: scikit-image's Chambolle (2004), colour channels coupled, weight 0.8 σ (the best at σ 25 and 50
    alike), run to convergence. F16: 30.06 dB at σ 25, 26.41 at 50.
    Inpainting: the picture of least total variation that equals the known pixels, by the primal-dual
    iterations of Chambolle and Pock (2011), whose primal step projects on the known pixels; channels by
    themselves. Barbara, 50 % of the pixels: 26.35 dB.
    """
    if problem == "inpaint":
        return np.stack([tv_fill(picture[..., c], mask[..., 0] > 0) for c in range(picture.shape[-1])], -1)
    from skimage.restoration import denoise_tv_chambolle

    weight = max(0.8 * _sigma(picture, problem, sigma), 1e-6)
    return denoise_tv_chambolle(picture, weight=weight, eps=1e-5, max_num_iter=300, channel_axis=-1)


def nlm(picture, *, problem, sigma, **_):
    """Non-local means (Buades, Coll and Morel 2005) by scikit-image: patches of 5, windows of 13, h = 0.8 σ.

    F16: 30.44 dB at σ 25, 25.22 at 50. (h = 0.6 σ would give 31.05 and 26.1; the paper's own NLM row has
      31.34.)
    """
    from skimage.restoration import denoise_nl_means

    sigma = _sigma(picture, problem, sigma)
    out = denoise_nl_means(picture, patch_size=5, patch_distance=6, h=max(0.8 * sigma, 1e-6), sigma=sigma,
                           fast_mode=True, channel_axis=-1)
    return out.reshape(picture.shape)  # it drops the channel of a grey picture


def low_rank(picture, *, mask, **_):
    """Soft-impute on every channel (see `soft_impute`), λ = 0.2. Barbara, 50 % of the pixels: 25.79 dB, rank
    257.
    """
    known = mask[..., 0] > 0
    return np.stack([np.where(known, picture[..., c], soft_impute(picture[..., c], known))
                     for c in range(picture.shape[-1])], -1)


def biharmonic(picture, *, mask, **_):
    """The solution of Δ²u = 0 in the holes with the known pixels around them, by scikit-image."""
    from skimage.restoration import inpaint_biharmonic

    return inpaint_biharmonic(picture, mask[..., 0] == 0, channel_axis=-1)


METHODS: dict[str, Callable[..., np.ndarray]] = {
    "observed": observed, "nearest": nearest, "bicubic": bicubic, "tv": tv, "nlm": nlm, "low_rank": low_rank,
    "biharmonic": biharmonic,
}
_FOR = {
    "denoise": ("observed", "tv", "nlm"),
    "jpeg": ("observed", "tv", "nlm"),
    "super_resolution": ("nearest", "bicubic"),
    "inpaint": ("observed", "nearest", "tv", "biharmonic", "low_rank"),
    "flash": ("observed",),
}


def default_methods(problem: str) -> tuple[str, ...]:
    """The methods meant for a problem, simplest first.

    Raises:
      UserError: an unknown problem.
    """
    if problem not in _FOR:
        raise unknown("problem", problem, PROBLEMS)
    return _FOR[problem]


def run(method: str, observed: np.ndarray, *, mask: np.ndarray | None = None, problem: str,
        factor: int | None = None, sigma: float | None = None) -> np.ndarray:
    """Restores one picture by a method of `METHODS`.

    Args:
      method: a key of `METHODS` that is meant for `problem`.
      observed: [h,w,C] in [0,1]; for super-resolution the small picture. What it holds where the mask is 0
        plays no part (except for "observed", which returns it).
      mask: [H,W,1], 1 = known; needed for "inpaint".
      problem: one of `data.restoration.PROBLEMS`.
      factor: enlargement, needed for "super_resolution".
      sigma: noise level in units of 1/255, for "denoise" and "jpeg"; None estimates it from the picture (for
        JPEG,
        whose blocks are flat where noise is measured, 12: about the error of quality 10).

    Returns:
      [H,W,C] float32 in [0,1]; [h·factor, w·factor, C] for super-resolution.

    Raises:
      UserError: unknown method or problem, a method not meant for the problem, a missing or misfitting
        argument.
    """
    if method not in METHODS:
        raise unknown("baseline", method, METHODS)
    if method not in default_methods(problem):
        raise UserError(f"baseline {method!r} is not meant for {problem}; valid: {', '.join(_FOR[problem])}")
    picture = np.asarray(observed, np.float32)
    if picture.ndim != 3 or 0 in picture.shape:
        raise UserError(f"a baseline restores one picture [H,W,C], not an array of shape {list(picture.shape)}")
    if problem == "super_resolution" and not (factor and factor >= 1 and int(factor) == factor):
        raise UserError(f"super_resolution needs factor, a whole number of at least 1, not {factor}")
    if sigma is not None and not 0 <= sigma < float("inf"):
        raise UserError(f"sigma={sigma}: a noise level in units of 1/255, at least 0")
    if problem == "inpaint":
        if mask is None:
            raise UserError("inpaint needs mask, [H,W,1] with 1 = known")
        mask = np.asarray(mask, np.float32)
        if mask.shape != (*picture.shape[:2], 1):
            raise UserError(f"the mask's shape {list(mask.shape)} does not fit the picture's"
                            f" {list(picture.shape)}; it must be {[*picture.shape[:2], 1]}")
        if not mask.any():
            raise UserError("the mask keeps no pixel; there is nothing to restore the picture from")
    out = METHODS[method](picture, problem=problem, mask=mask, factor=factor and int(factor), sigma=sigma)
    return np.clip(out, 0, 1).astype(np.float32)


def _sigma(picture, problem: str, sigma: float | None) -> float:
    """The noise level for a method, in [0,1] units."""
    if sigma is None:
        sigma = 12.0 if problem == "jpeg" else estimate_sigma(picture)
    return sigma / 255


def estimate_sigma(picture: np.ndarray) -> float:
    """Noise level in units of 1/255: the median size of the finest diagonal Haar coefficients over 0.6745.

    Source: Donoho and Johnstone, "Ideal spatial adaptation by wavelet shrinkage", 1994, with Haar's wavelet.
    """
    h, w = (s // 2 * 2 for s in picture.shape[:2])
    if not h or not w:
        return 0.0
    x = picture[:h, :w]
    detail = (x[::2, ::2] - x[1::2, ::2] - x[::2, 1::2] + x[1::2, 1::2]) / 2
    return float(np.median(np.abs(detail)) / 0.6745 * 255)


def tv_fill(x: np.ndarray, known: np.ndarray, iterations: int = 2000, tolerance: float = 1e-4) -> np.ndarray:
    """min Σ |∇u| subject to u = x where known: Chambolle and Pock's algorithm 1 (2011), θ = 1.

    Letters: p the dual field, |p| ≤ 1, [2,H,W]; τ and ς the primal and dual steps, τ ς |∇|² ≤ 1 with |∇|² ≤
      8.

    Args:
      x: [H,W], any value where not known.
      known: bool [H,W].
      iterations: at most.
      tolerance: stop when no pixel moves more than this in a step.

    Returns:
      [H,W] float32.
    """
    tau = 0.1
    dual = 1 / (8 * tau)
    u = x[_nearest_index(known)].astype(np.float32)
    ahead, p = u, np.zeros((2, *x.shape), np.float32)
    for _ in range(iterations):
        p[0, :-1] += dual * (ahead[1:] - ahead[:-1])
        p[1, :, :-1] += dual * (ahead[:, 1:] - ahead[:, :-1])
        p /= np.maximum(1, np.sqrt((p * p).sum(0)))
        divergence = p[0] + p[1]
        divergence[1:] -= p[0, :-1]
        divergence[:, 1:] -= p[1, :, :-1]
        new = np.where(known, x, u + tau * divergence)
        ahead, moved, u = 2 * new - u, np.abs(new - u).max(), new
        if moved < tolerance:
            break
    return u


def soft_impute(x: np.ndarray, known: np.ndarray, penalty: float = 0.2, tolerance: float = 2e-4,
                iterations: int = 100) -> np.ndarray:
    """min over Z of ½ Σ_known (x - Z)² + λ |Z|_*, a matrix completed by its singular values.

    Each step fills the holes with Z and lowers the singular values by λ; λ comes down from large values by
    halves, each solution starting the next, which needs a third of the steps of starting at the last λ.

    Args:
      x: [H,W], any value where not known.
      known: bool [H,W].
      penalty: the last λ.
      tolerance: stop when |Z' - Z| < tolerance |Z| (Frobenius).
      iterations: at most, for each λ.

    Returns:
      Z [H,W] float32; known pixels are close to x, not equal.

    Source: Mazumder, Hastie and Tibshirani, "Spectral regularization algorithms for learning large incomplete
    matrices", 2010, algorithm 1.
    """
    if x.shape[0] < x.shape[1]:
        return soft_impute(x.T, known.T, penalty, tolerance, iterations).T
    x = np.where(known, x, 0).astype(np.float32)
    z = np.zeros_like(x)
    first = 0.05 * np.linalg.norm(x, 2)
    for power in range(max(0, int(np.log2(max(first / penalty, 1)))), -1, -1):
        level = penalty * 2**power
        for _ in range(iterations):
            filled = np.where(known, x, z)
            # Singular values through the eigenvectors of filledᵀ filled, 2.5 times as fast as an SVD; in
            # float64, because squares halve the digits.
            squares, v = np.linalg.eigh(filled.T.astype(np.float64) @ filled)
            s = np.sqrt(np.maximum(squares, 0))
            v, s = v[:, s > level], s[s > level]
            new = filled @ ((v * (1 - level / s)) @ v.T).astype(np.float32)
            moved, size = np.linalg.norm(new - z), np.linalg.norm(new)
            z = new
            if moved <= tolerance * size:
                break
    return z


def _nearest_index(known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns), each [H,W]: where the nearest known pixel of every pixel lies."""
    from scipy.ndimage import distance_transform_edt

    return tuple(distance_transform_edt(~known, return_distances=False, return_indices=True))
