"""Image metrics against closed forms: constant offsets, hand-made masks, the luma of pure colours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.metrics.image import luma, mse, nonzero_box, psnr, psnr_y, ssim


def pictures(n=3, h=16, w=20, c=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n, h, w, c), np.float32), rng.random((n, h, w, c), np.float32)


@pytest.mark.parametrize("wrap", [np.asarray, jnp.asarray])
def test_constant_offset_has_a_closed_form(wrap):
    b = wrap(np.full((4, 5, 3), 0.5, np.float32))
    assert np.isclose(mse(b + 0.1, b), 0.01, rtol=1e-5)
    assert np.isclose(psnr(b + 0.1, b), 20.0, atol=1e-4)
    assert np.isclose(psnr(b * 2 - 1 + 0.2, b * 2 - 1, data_range=2.0), 20.0, atol=1e-4)
    assert np.isposinf(psnr(b, b))


def test_batch_gives_one_value_per_image_and_jit_agrees_with_numpy():
    a, b = pictures()
    one_by_one = [10 * np.log10(1 / np.mean((a[i].astype(np.float64) - b[i]) ** 2)) for i in range(3)]
    got = psnr(a, b)
    assert got.shape == (3,) and got.dtype == np.float64
    np.testing.assert_allclose(got, one_by_one, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(psnr)(a, b), one_by_one, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.vmap(psnr))(a, b), one_by_one, rtol=1e-5)
    assert np.shape(psnr(a[0], b[0])) == ()


def test_mask_counts_only_its_pixels():
    a, b = pictures(n=2)
    mask = (np.random.default_rng(1).random((2, 16, 20, 1)) < 0.3).astype(np.float32)
    for i in range(2):
        keep = mask[i, ..., 0] > 0
        want = np.mean((a[i][keep].astype(np.float64) - b[i][keep]) ** 2)
        np.testing.assert_allclose(mse(a, b, mask)[i], want, rtol=1e-12)
        np.testing.assert_allclose(mse(a[i], b[i], mask[i]), want, rtol=1e-12)
        np.testing.assert_allclose(jax.jit(mse)(a, b, mask)[i], want, rtol=1e-5)
    np.testing.assert_allclose(mse(a, b, mask[0])[1], mse(a[1], b[1], mask[0]))  # one mask for the batch


def test_masked_pixels_may_hold_nan_in_value_and_gradient():
    a, b = pictures(n=1)
    mask = np.ones((1, 16, 20, 1), np.float32)
    mask[:, :4] = 0
    broken = a.copy()
    broken[:, :4] = np.nan
    assert np.isclose(mse(broken, b, mask)[0], mse(a, b, mask)[0])
    gradient = jax.grad(lambda x: mse(x, b, mask)[0])(jnp.asarray(broken))
    assert bool(jnp.isfinite(gradient).all()) and float(jnp.abs(gradient[:, 4:]).sum()) > 0
    assert np.isnan(mse(a, b, mask * 0)[0])


def test_uint8_does_not_wrap():
    low, high = np.full((2, 2, 1), 10, np.uint8), np.full((2, 2, 1), 250, np.uint8)
    assert mse(low, high) == 240**2
    assert np.isclose(psnr(low, high, data_range=255), 20 * np.log10(255 / 240))
    with pytest.raises(UserError, match="255"):
        psnr(low, high)


def test_luma_of_pure_colours():
    colours = np.asarray([[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)[None]
    want = np.asarray([16, 235, 16 + 219 * 0.299, 16 + 219 * 0.587, 16 + 219 * 0.114]) / 255
    np.testing.assert_allclose(luma(colours)[0, :, 0], want, rtol=1e-6)
    np.testing.assert_allclose(luma(np.ones((1, 1, 1))), 235 / 255)  # grey


def test_psnr_y_of_the_authors_script():
    """Recorded from DmitryUlyanov/deep-image-prior, super-resolution_eval_script.py: rgb2ycbcr, compare_psnr_y and the
    crop of its loop, with OpenCV's YCrCb and scikit-image's PSNR."""
    count = np.arange(16 * 18 * 3).reshape(16, 18, 3)
    b = (0.5 + 0.4 * np.sin(count)).astype(np.float32)
    a = np.clip(b + 0.05 * np.cos(0.3 * count) + np.linspace(0, 0.2, 18)[:, None], 0, 1).astype(np.float32)
    np.testing.assert_allclose(psnr_y(a, b), 21.252526604, atol=1e-4)
    assert abs(psnr_y(a, b, shave=4) - 21.2525) > 0.1 and abs(psnr_y(a, b, shave=5) - 21.2525) > 0.1


def test_psnr_y_shaves_the_frame_and_scales_by_219():
    b = np.full((20, 20, 3), 0.4, np.float32)
    a = b + 0.1
    a[:4] = a[-5:] = a[:, :4] = a[:, -5:] = 1.0  # must not count
    want = 20 * np.log10(255 / (219 * 0.1))
    assert np.isclose(psnr_y(a, b), want, atol=1e-4)
    assert np.isclose(jax.jit(psnr_y)(a, b), want, atol=1e-3)
    assert np.isclose(psnr_y(a, b, shave=5), want, atol=1e-4) and psnr_y(a, b, shave=4) < want - 3
    np.testing.assert_allclose(psnr_y(np.stack([a, a]), np.stack([b, b])), want, atol=1e-4)
    with pytest.raises(UserError, match="shave"):
        psnr_y(b[:9], b[:9])


def test_nonzero_box():
    x = np.zeros((10, 12, 3))
    x[2:7, 3:9, 1] = 0.5
    assert nonzero_box(x) == (slice(2, 7), slice(3, 9))
    with pytest.raises(UserError):
        nonzero_box(x * 0)


def test_ssim_closed_forms():
    a, _ = pictures(n=2, h=24, w=24)
    np.testing.assert_allclose(ssim(a, a), [1, 1])
    # Two flat images: only the luminance term is left, (2 μ ν + C1) / (μ² + ν² + C1) with C1 = .01².
    flat = np.full((16, 16, 1), 1.0)
    assert np.isclose(ssim(flat * 0.8, flat * 0.4), (2 * 0.32 + 1e-4) / (0.64 + 0.16 + 1e-4))
    assert ssim(a[0], 1 - a[0]) < 0 < ssim(a[0], a[0] * 0.9)
    with pytest.raises(UserError, match="11"):
        ssim(a[:, :8], a[:, :8])


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda: psnr(np.zeros((4, 4, 3)), np.zeros((4, 4, 1))), "shapes"),
        (lambda: mse(np.zeros((4, 4)), np.zeros((4, 4))), r"\[H,W,C\]"),
        (lambda: mse(np.zeros((4, 4, 3)), np.zeros((4, 4, 3)), np.ones((4, 5, 1))), "mask"),
        (lambda: mse(np.zeros((4, 4, 3)), np.zeros((4, 4, 3)), np.ones((4, 4))), "mask"),
        (lambda: psnr(np.zeros((4, 4, 3)), np.zeros((4, 4, 3)), data_range=0), "data_range"),
        (lambda: luma(np.zeros((4, 4, 2))), "channels"),
    ],
)
def test_bad_inputs_are_one_clear_line(call, word):
    with pytest.raises(UserError, match=word) as error:
        call()
    assert "\n" not in str(error.value)
