"""Baselines against brute force, fixed points and pictures whose restoration is known in closed form."""

import numpy as np
import pytest
from PIL import Image

from genjax.data.restoration import PROBLEMS
from genjax.dip.baselines import METHODS, default_methods, estimate_sigma, run, soft_impute, tv_fill
from genjax.errors import UserError
from genjax.metrics.image import psnr


def blocks(h=48, w=56, c=3, seed=0):
    """Flat rectangles and a ramp: what the classical methods are made for."""
    rng = np.random.default_rng(seed)
    x = np.linspace(0.2, 0.6, w)[None, :, None] * np.ones((h, w, c))
    for _ in range(6):
        top, left = rng.integers(0, h - 12), rng.integers(0, w - 12)
        x[top:top + 12, left:left + 12] = rng.random(c)
    return x.astype(np.float32)


def random_mask(h=48, w=56, keep=0.5, seed=1):
    return (np.random.default_rng(seed).random((h, w, 1)) < keep).astype(np.float32)


ARGUMENTS = {"super_resolution": {"factor": 2}, "inpaint": {"mask": random_mask()}}
CASES = [(m, p) for p in PROBLEMS for m in default_methods(p)]


def test_every_method_is_meant_for_some_problem_and_every_problem_has_one():
    assert {m for m, _ in CASES} == set(METHODS)
    assert {p for _, p in CASES} == set(PROBLEMS)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("method, problem", CASES)
def test_shape_dtype_range_and_no_leak_from_the_holes(method, problem, channels):
    picture = blocks(c=channels)
    arguments = ARGUMENTS.get(problem, {})
    got = run(method, picture, problem=problem, **arguments)
    scale = 2 if problem == "super_resolution" else 1
    assert got.shape == (48 * scale, 56 * scale, channels) and got.dtype == np.float32
    assert np.isfinite(got).all() and got.min() >= 0 and got.max() <= 1
    if problem == "inpaint":
        known = np.broadcast_to(arguments["mask"] > 0, picture.shape)
        np.testing.assert_allclose(got[known], picture[known], atol=1e-6)
        if method != "observed":
            other = np.where(known, picture, np.nan)
            np.testing.assert_array_equal(run(method, other, problem=problem, **arguments), got)


@pytest.mark.parametrize("method, least", [("tv", 8), ("nlm", 5)])
def test_denoising_gains_over_the_noisy_picture(method, least):
    clean = blocks()
    noisy = np.clip(clean + np.random.default_rng(0).normal(0, 25 / 255, clean.shape), 0, 1)
    told, guessed = (run(method, noisy, problem="denoise", sigma=s) for s in (25.0, None))
    assert psnr(told, clean) > psnr(noisy, clean) + least
    assert abs(psnr(guessed, clean) - psnr(told, clean)) < 1
    np.testing.assert_allclose(run(method, noisy, problem="denoise", sigma=0.0), noisy, atol=1e-3)


def test_noise_level_is_found():
    noise = np.random.default_rng(0).normal(0, 30 / 255, (128, 128, 3))
    assert abs(estimate_sigma(noise + np.linspace(0, 0.3, 128)[:, None, None]) - 30) < 1
    assert estimate_sigma(np.ones((1, 5, 1))) == 0


def test_jpeg_has_a_level_of_its_own_because_its_blocks_are_flat():
    from genjax.data.degradations import jpeg

    clean = blocks()
    coded = jpeg(clean, 10)
    for method in ("tv", "nlm"):
        assert np.abs(run(method, coded, problem="jpeg") - coded).max() > 0.01


def test_nearest_is_the_nearest_known_pixel():
    picture, mask = blocks(13, 17), random_mask(13, 17, keep=0.2)
    got = run("nearest", picture, mask=mask, problem="inpaint")
    known = np.argwhere(mask[..., 0] > 0)
    for r in range(13):
        for c in range(17):
            away = ((known - (r, c)) ** 2).sum(1)
            equally_near = known[away == away.min()]
            assert any((got[r, c] == picture[i, j]).all() for i, j in equally_near)


def test_enlargements():
    low = 0.25 + 0.5 * blocks(19, 21)  # overshoot stays in range: in 8 bits Pillow clips it between its two passes
    near = run("nearest", low, problem="super_resolution", factor=3)
    np.testing.assert_array_equal(near, np.kron(low, np.ones((3, 3, 1), np.float32)))
    got = run("bicubic", low, problem="super_resolution", factor=4)
    eight = np.round(low * 255).astype(np.uint8)
    pillow = np.asarray(Image.fromarray(eight).resize((84, 76), Image.BICUBIC)) / 255
    assert np.abs(got - pillow).max() < 1.5 / 255
    ramp = np.linspace(0, 1, 12, dtype=np.float32)[None, :, None].repeat(4, 0)
    inner = run("bicubic", ramp, problem="super_resolution", factor=2)[2, 6:-6, 0]
    np.testing.assert_allclose(inner, (np.arange(6, 18) - 0.5) / 22, atol=1e-6)  # a line stays a line


def test_tv_fill_continues_flats_and_straight_edges():
    known = np.ones((20, 24), bool)
    known[8:12, 6:18] = False
    np.testing.assert_allclose(tv_fill(np.full((20, 24), 0.3, np.float32), known), 0.3, atol=1e-6)
    edge = np.zeros((20, 24), np.float32)
    edge[:, 12:] = 1
    got = tv_fill(np.where(known, edge, 0.5), known, tolerance=1e-6)
    np.testing.assert_allclose(got, edge, atol=0.02)  # the shortest contour is the straight one


def test_tv_fill_has_the_least_total_variation():
    rng = np.random.default_rng(0)
    x, known = rng.random((12, 12)).astype(np.float32), rng.random((12, 12)) < 0.5

    def variation(u):
        down, right = np.zeros_like(u), np.zeros_like(u)
        down[:-1], right[:, :-1] = np.diff(u, axis=0), np.diff(u, axis=1)
        return np.sqrt(down**2 + right**2).sum()

    best = tv_fill(x, known, tolerance=1e-7)
    np.testing.assert_array_equal(best[known], x[known])
    for _ in range(50):
        step = np.where(known, 0, rng.normal(0, 1, x.shape)).astype(np.float32)
        for size in (1e-2, 1e-1):
            assert variation(best + size * step) > variation(best) - 1e-3


@pytest.mark.parametrize("shape", [(20, 30), (30, 20)])
def test_soft_impute_is_a_fixed_point_and_completes_low_rank(shape):
    rng = np.random.default_rng(0)
    x = (rng.random((shape[0], 2)) @ rng.random((2, shape[1]))).astype(np.float32)
    known = rng.random(shape) < 0.6
    z = soft_impute(x, known, penalty=0.05, tolerance=1e-7, iterations=3000)
    u, s, v = np.linalg.svd(np.where(known, x, z), full_matrices=False)
    np.testing.assert_allclose(z, (u * np.maximum(s - 0.05, 0)) @ v, atol=1e-4)
    assert np.abs(z - x)[~known].max() < 0.1
    assert np.linalg.matrix_rank(z, tol=1e-3) == 2


def test_biharmonic_continues_a_plane():
    r, c = np.mgrid[:16, :16] / 40
    plane = (0.1 + r + c).astype(np.float32)[..., None]
    mask = np.ones((16, 16, 1), np.float32)
    mask[6:10, 6:11] = 0
    np.testing.assert_allclose(run("biharmonic", plane * mask, mask=mask, problem="inpaint"), plane, atol=1e-4)


@pytest.mark.parametrize(
    "arguments, word",
    [
        (dict(method="bm3d", problem="denoise"), "baseline"),
        (dict(method="bicubc", problem="super_resolution", factor=2), "did you mean 'bicubic'"),
        (dict(method="tv", problem="denoising"), "did you mean 'denoise'"),
        (dict(method="nlm", problem="inpaint", mask=random_mask()), "not meant for inpaint; valid: observed"),
        (dict(method="bicubic", problem="super_resolution"), "factor"),
        (dict(method="bicubic", problem="super_resolution", factor=1.5), "factor"),
        (dict(method="tv", problem="inpaint"), "mask"),
        (dict(method="tv", problem="inpaint", mask=random_mask(4, 4)), "mask"),
        (dict(method="tv", problem="inpaint", mask=random_mask() * 0), "no pixel"),
        (dict(method="tv", problem="denoise", sigma=-1.0), "sigma"),
        (dict(method="tv", problem="denoise", observed=np.zeros((4, 4))), r"\[H,W,C\]"),
    ],
)
def test_bad_calls_are_one_clear_line(arguments, word):
    with pytest.raises(UserError, match=word) as error:
        run(**{"observed": blocks(), **arguments})
    assert "\n" not in str(error.value)
