"""Degradations: statistics against closed forms, determinism, and 8-bit equality with Pillow."""

import io

import numpy as np
import pytest
from PIL import Image

from genjax.data import degradations as d
from genjax.errors import UserError

X = np.random.default_rng(1).random((48, 64, 3), np.float32)
ALL = [lambda x, s: d.add_gaussian_noise(x, 25, s), lambda x, s: d.add_poisson_noise(x, 30, s),
       lambda x, s: d.salt_and_pepper(x, 0.2, s)]


@pytest.mark.parametrize("f", ALL)
def test_noise_is_a_pure_function_of_the_seed(f):
    a, b, c = f(X, 3), f(X, 3), f(X, (3, 1))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any() and a.dtype == np.float32 and a.shape == X.shape
    assert a.min() >= 0 and a.max() <= 1


def test_gaussian_noise_has_the_right_spread():
    grey = np.full((200, 200, 3), 0.5, np.float32)
    noise = d.add_gaussian_noise(grey, 25, 0) - grey
    assert abs(noise.std() * 255 - 25) < 0.3 and abs(noise.mean() * 255) < 0.3
    white = np.ones((200, 200, 1), np.float32)
    assert d.add_gaussian_noise(white, 25, 0).max() == 1
    assert d.add_gaussian_noise(white, 25, 0, clip=False).max() > 1.2
    np.testing.assert_array_equal(d.add_gaussian_noise(X, 0, 0), X)


def test_clipped_sigma_25_gives_the_papers_psnr():
    """The noisy rows of the paper's nine pictures lie between 20.28 and 20.59 dB."""
    from genjax.data import images

    x = images.load_image("builtin:photos/cat")
    psnr = -10 * np.log10(np.mean((d.add_gaussian_noise(x, 25, 0) - x) ** 2))
    assert 20.15 < psnr < 20.6


def test_poisson_mean_and_variance():
    grey = np.full((300, 300, 1), 0.4, np.float32)
    y = d.add_poisson_noise(grey, 100, 0)
    assert abs(y.mean() - 0.4) < 2e-3 and abs(y.var() - 0.4 / 100) < 2e-4


def test_salt_and_pepper_hits_whole_pixels():
    grey = np.full((300, 300, 3), 0.5, np.float32)
    y = d.salt_and_pepper(grey, 0.2, 0)
    assert abs((y == 0).all(-1).mean() - 0.1) < 0.01 and abs((y == 1).all(-1).mean() - 0.1) < 0.01
    assert ((y == 0.5).all(-1) | (y == 0).all(-1) | (y == 1).all(-1)).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillows_round_trip(channels):
    x = X[..., :channels]
    buffer = io.BytesIO()
    bytes8 = np.round(x * 255).astype(np.uint8)
    Image.fromarray(bytes8 if channels == 3 else bytes8[..., 0]).save(buffer, "JPEG", quality=20)
    want = np.asarray(Image.open(buffer)).reshape(x.shape) / 255.0
    np.testing.assert_allclose(d.jpeg(x, 20), want, atol=1e-6)
    errors = [np.mean((d.jpeg(x, q) - x) ** 2) for q in (5, 50, 95)]
    assert errors == sorted(errors, reverse=True)


def test_downscale_is_pillows_in_eight_bits():
    bytes8 = np.round(X * 255).astype(np.uint8)
    want = np.asarray(Image.fromarray(bytes8).resize((16, 12), Image.Resampling.LANCZOS)) / 255.0
    np.testing.assert_allclose(d.downscale(X, 4), want, atol=1e-6)
    fine = d.downscale(X, 4, quantize=False)
    assert 0 < np.abs(fine - want).max() < 1.5 / 255
    np.testing.assert_allclose(
        d.downscale(X, 4, "box", quantize=False), X.reshape(12, 4, 16, 4, 3).mean((1, 3)), atol=1e-6)


def test_grayscale():
    assert d.grayscale(X).shape == (48, 64, 1)
    np.testing.assert_allclose(d.grayscale(np.ones((2, 2, 3), np.float32)), 1.0, atol=1e-6)


@pytest.mark.parametrize("call, part", [
    (lambda: d.add_gaussian_noise(X, -1), "sigma"), (lambda: d.add_poisson_noise(X, 0), "peak"),
    (lambda: d.salt_and_pepper(X, 1.5), "fraction"), (lambda: d.jpeg(X, 0), "quality"),
    (lambda: d.jpeg(X, 96), "quality"),
    (lambda: d.downscale(X, 0), "factor"), (lambda: d.downscale(X, 5), "crop it to a multiple of 5"),
    (lambda: d.downscale(X, 4, "cubic"), "bicubic")])
def test_bad_values(call, part):
    with pytest.raises(UserError, match=part):
        call()
