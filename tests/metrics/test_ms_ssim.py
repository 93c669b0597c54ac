"""MS-SSIM against a slow float64 one, its one-scale form against genjax.metrics.image."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from genjax.errors import UserError
from genjax.metrics import image
from genjax.metrics.ms_ssim import WEIGHTS, pair_similarity
from genjax.metrics.ms_ssim import ms_ssim as ms_ssim_eager
from genjax.metrics.ms_ssim import ssim as ssim_eager

RNG = np.random.default_rng(0)
ssim = jax.jit(ssim_eager)
ms_ssim = jax.jit(ms_ssim_eager, static_argnames="weights")


def smooth(n, side, channels=2):
    x = ndimage.gaussian_filter(RNG.normal(size=(n, side, side, channels)), (0, 2, 2, 0))
    return ((x - x.min()) / (x.max() - x.min())).astype(np.float32)


def test_spec_ramp():
    i = np.arange(32)
    a = ((i[:, None] + i) / 62)[None, :, :, None]
    b = np.clip(a + np.where((i[:, None] + i) % 2, 0.1, -0.1)[None, :, :, None], 0, 1)
    assert float(ssim(a, b)[0]) == pytest.approx(0.2443876309, abs=2e-6)
    flat = np.full((1, 32, 32, 1), 0.5)
    assert float(ssim(flat, flat + 0.1)[0]) == pytest.approx(0.9836092, abs=3e-6)


def test_one_scale_is_the_host_ssim():
    a = smooth(3, 24)
    b = np.clip(a + 0.1 * RNG.normal(size=a.shape), 0, 1).astype(np.float32)
    np.testing.assert_allclose(ssim(a, b), image.ssim(a, b), atol=2e-6)
    np.testing.assert_allclose(ms_ssim(a, b, weights=(1.0,)), image.ssim(a, b), atol=2e-6)
    np.testing.assert_allclose(ssim(255 * a, 255 * b, 255.0), image.ssim(a, b), atol=2e-6)


def slow(a, b, weights):
    """One pair [H,W,C] in [0,1], float64, by scipy's filters."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    out = 1.0
    for j, weight in enumerate(weights):
        size = min(11, a.shape[0])
        t = np.arange(size) - (size - 1) / 2
        g = np.exp(-0.5 * (t / (1.5 * size / 11)) ** 2)
        g /= g.sum()

        def blur(x, g=g):
            for axis in (0, 1):
                x = np.apply_along_axis(np.convolve, axis, x, g, "valid")
            return x

        ma, mb = blur(a), blur(b)
        va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
        cs = (2 * cov + 9e-4) / (va + vb + 9e-4)
        l = (2 * ma * mb + 1e-4) / (ma**2 + mb**2 + 1e-4)
        out *= max(np.mean(l * cs if j == len(weights) - 1 else cs), 0) ** weight
        h, w = a.shape[0] // 2 * 2, a.shape[1] // 2 * 2
        a, b = (x[:h, :w].reshape(h // 2, 2, w // 2, 2, -1).mean((1, 3)) for x in (a, b))
    return out


@pytest.mark.parametrize("side,weights", [(50, WEIGHTS), (37, WEIGHTS[:2])])
def test_slow_reference(side, weights):
    a = smooth(2, side)
    b = np.clip(0.8 * a + 0.05 * RNG.normal(size=a.shape), 0, 1).astype(np.float32)
    expected = [slow(x, y, weights) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(ms_ssim(a, b, weights=weights), expected, rtol=1e-5)
    assert max(expected) < 0.98
    np.testing.assert_allclose(ms_ssim(a, a, weights=weights), 1, rtol=1e-6)


def test_negative_structure_counts_as_none():
    a = smooth(2, 50)
    np.testing.assert_array_equal(ms_ssim(a, 1 - a, weights=WEIGHTS), 0)


def test_similarity_of_pairs_sees_collapse():
    varied = (255 * smooth(6, 32, 1)).astype(np.uint8)
    key = jax.random.key(0)
    same = pair_similarity(np.repeat(varied[:1], 4, 0), key, 10)
    found = pair_similarity(varied, key, 40)
    assert same == pytest.approx(1, abs=1e-5) and found < 0.6
    assert found == pytest.approx(pair_similarity(varied, key, 40, batch=10), rel=1e-5)
    i, j = np.tril_indices(6, -1)
    pairs = ms_ssim(varied[i], varied[j], 255.0)
    assert min(pairs) <= found <= max(pairs)


def test_refusals():
    with pytest.raises(UserError, match="5 scales need images of at least 16 pixels, not 8x8; leave ms_ssim out"):
        ms_ssim_eager(np.zeros((1, 8, 8, 1)), np.zeros((1, 8, 8, 1)))
    with pytest.raises(UserError, match="one shape"):
        ms_ssim_eager(np.zeros((1, 32, 32, 1)), np.zeros((1, 32, 32, 3)))
    with pytest.raises(UserError, match="uint8"):
        pair_similarity(np.zeros((3, 32, 32, 1)), jax.random.key(0))
