"""Augmentations: each execution against a slow sum in numpy, matrices against what they mean, chances, derivatives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.gan import augment
from genjax.gan.augment import Pipe, cut_out, filter_bands, pipe, recolour
from genjax.gan.augment_geometry import REACH, SYM6, bilinear, rotate, scale, translate, warp


def rand(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def smooth(n, h, w, c):
    """Pictures without high frequencies, so that transformations of them are known in closed form."""
    i, j = np.mgrid[:h, :w]
    return np.stack([[np.cos(2 * np.pi * (i / h + k / 5)) + np.sin(2 * np.pi * j / w + m) for k in range(c)]
                     for m in range(n)]).transpose(0, 2, 3, 1).astype(np.float32)


def slow_warp(x, inverse):
    """One picture, from the definition: continue, upsample, read, downsample, everything by loops in float64."""
    h, w, _ = x.shape
    f = np.asarray(SYM6) / np.sum(SYM6)
    taps = np.outer(f, f)
    padded = np.pad(x.astype(np.float64), ((h - 1,) * 2, (w - 1,) * 2, (0, 0)), mode="reflect")
    fine = np.zeros((2 * padded.shape[0], 2 * padded.shape[1], x.shape[2]))
    fine[::2, ::2] = padded
    ph, pw = fine.shape[:2]
    wide = np.pad(fine, ((6, 5), (6, 5), (0, 0)))
    fine = 4 * sum(taps[11 - i, 11 - j] * wide[i : i + ph, j : j + pw] for i in range(12) for j in range(12))
    rows, cols = 2 * h + 4 * REACH, 2 * w + 4 * REACH
    out = np.zeros((rows, cols, x.shape[2]))
    for i in range(rows):
        for j in range(cols):
            # fine pixel -> position in pixels from the centre -> input -> fine pixel, half a fine pixel off both ways
            at = np.asarray([(j - (cols - 1) / 2 + 0.5) / 2, (i - (rows - 1) / 2 + 0.5) / 2, 1])
            there = inverse @ at
            v, u = (2 * there[0] - 0.5 + (pw - 1) / 2, 2 * there[1] - 0.5 + (ph - 1) / 2)
            for r in (int(np.floor(u)), int(np.floor(u)) + 1):
                for c in (int(np.floor(v)), int(np.floor(v)) + 1):
                    if 0 <= r < ph and 0 <= c < pw:
                        out[i, j] += (1 - abs(u - r)) * (1 - abs(v - c)) * fine[r, c]
    first = 2 * REACH + 1 - 6  # padding -1 in front: one fine pixel is dropped
    return sum(taps[i, j] * out[first + i :, first + j :][: 2 * h : 2, : 2 * w : 2] for i, j in np.ndindex(12, 12))


@pytest.fixture(scope="module")
def warped():
    """A few transformations of one picture, and the pictures that came out."""
    x = rand(0, 10, 12, 3)
    a = float(np.log(2))
    cases = {
        "identity": jnp.eye(3),
        "whole pixels": translate(2.0, -3.0),
        "turned and stretched": rotate(0.4) @ scale(1.3, 0.8) @ rotate(-1.1) @ translate(0.3, -a),
        "far": translate(15.0, 4.0) @ scale(1.7, 1.7),
    }
    inverse = jnp.stack(list(cases.values()))
    out = jax.jit(warp)(jnp.broadcast_to(x, (len(cases), *x.shape)), inverse)
    return x, dict(zip(cases, zip(np.asarray(inverse, np.float64), np.asarray(out), strict=True), strict=True))


@pytest.mark.parametrize("case", ["turned and stretched", "far"])
def test_warp_matches_the_slow_reference(warped, case):
    x, cases = warped
    inverse, got = cases[case]
    np.testing.assert_allclose(got, slow_warp(x, inverse), atol=5e-5)


def test_warps_that_move_whole_pixels(warped):
    """Exact; flips and turns are only nearly so, since the filters are not symmetric (as in the paper's code)."""
    x, cases = warped
    np.testing.assert_array_equal(cases["identity"][1], x)
    padded = np.pad(x, ((3, 3), (2, 2), (0, 0)), mode="reflect")
    np.testing.assert_allclose(cases["whole pixels"][1], padded[:10, 4:], atol=1e-5)


def test_directions_of_the_matrices():
    """Inverse matrices: translate(1, 0) shows what lay one pixel to the right; one quarter turn; a flip."""
    x = smooth(3, 16, 16, 1)
    inverse = jnp.stack([translate(1.0, 0.0), augment.rotate90_matrix(jnp.asarray(1.0)), scale(-1.0, 1.0)])
    got = np.asarray(jax.jit(warp)(x, inverse))
    np.testing.assert_allclose(got[0, :, :-2], x[0, :, 1:-1], atol=1e-4)
    np.testing.assert_allclose(got[1], np.rot90(x[1], 1), atol=0.05)
    np.testing.assert_allclose(got[2], x[2, :, ::-1], atol=0.05)


def test_reading_and_its_transpose():
    """Positions inside, on the border and outside; the scatter is the transpose of the gather, and back again."""
    x, u, v = rand(0, 2, 5, 6, 3), 4 * rand(1, 2, 7, 4) + 2, 4 * rand(2, 2, 7, 4) + 2
    want = np.zeros((2, 7, 4, 3))
    for n, p, q in np.ndindex(2, 7, 4):
        for r, c in np.ndindex(5, 6):
            want[n, p, q] += max(0, 1 - abs(u[n, p, q] - r)) * max(0, 1 - abs(v[n, p, q] - c)) * x[n, r, c]
    y, pull = jax.vjp(lambda x: bilinear(x, u, v), x)
    np.testing.assert_allclose(y, want, atol=1e-5)
    dy = rand(3, *y.shape)
    dx, again = jax.vjp(lambda dy: pull(dy)[0], dy)
    np.testing.assert_allclose((dx * x).sum(), (dy * want).sum(), rtol=1e-4)
    np.testing.assert_allclose(again(x)[0], want, atol=1e-5)


# ---------------------------------------------------------------- colour


def test_colour_matrices_do_what_their_names_say():
    grey, rgb = np.full(3, 0.4), np.asarray([0.3, -0.2, 0.8])
    one = jnp.asarray(1.0)

    def to(matrix, colour):
        out = np.asarray(matrix, np.float64) @ np.append(colour, 1)
        assert abs(out[3] - 1) < 1e-6
        return out[:3]

    np.testing.assert_allclose(to(augment.brightness_matrix(one * 0.3), rgb), rgb + 0.3, atol=1e-6)
    np.testing.assert_allclose(to(augment.contrast_matrix(one * 1.5), rgb), rgb * 1.5, atol=1e-6)
    luma = rgb.mean()
    np.testing.assert_allclose(to(augment.lumaflip_matrix(one), rgb), rgb - 2 * luma, atol=1e-6)
    np.testing.assert_allclose(to(augment.saturation_matrix(one * 0.0), rgb), np.full(3, luma), atol=1e-6)
    np.testing.assert_allclose(to(augment.saturation_matrix(one * 3), rgb), luma + 3 * (rgb - luma), atol=1e-6)
    third = augment.hue_matrix(one * 2 * np.pi / 3)
    np.testing.assert_allclose(to(third, rgb), rgb[[2, 0, 1]], atol=1e-6)  # red becomes green
    np.testing.assert_allclose(to(augment.hue_matrix(one * 1.1), grey), grey, atol=1e-6)
    for neutral in (augment.brightness_matrix(one * 0), augment.contrast_matrix(one), augment.lumaflip_matrix(one * 0),
                    augment.hue_matrix(one * 0), augment.saturation_matrix(one)):
        np.testing.assert_array_equal(neutral, np.eye(4))


def test_recolour():
    x, a = rand(0, 2, 3, 4, 3), rand(1, 2, 4, 4)
    want = np.einsum("nij,nhwj->nhwi", a[:, :3, :3], x) + a[:, None, None, :3, 3]
    np.testing.assert_allclose(recolour(x, a), want, atol=1e-5)
    grey = recolour(x[..., :1], a)
    np.testing.assert_allclose(grey[..., 0], recolour(x[..., :1].repeat(3, 3), a).mean(3), atol=1e-5)
    with pytest.raises(UserError, match="channels"):
        recolour(rand(0, 1, 2, 2, 4), a)


# ---------------------------------------------------------------- filter, noise, cutout


def test_band_filters_split_the_spectrum():
    bank = augment.band_filters()
    assert bank.shape == (4, 43)
    np.testing.assert_allclose(bank, bank[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(bank.sum(0), np.eye(43)[21], atol=1e-6)
    np.testing.assert_allclose(bank.sum(1), [1, 0, 0, 0], atol=1e-6)  # a constant is in the lowest band
    power = np.abs(np.fft.rfft(bank, 256)) ** 2
    peak = power.argmax(1)
    assert 0 == peak[0] < peak[1] < peak[2] < peak[3] == 128


def test_filter_bands_matches_convolution():
    x, gains = rand(0, 2, 24, 30, 2), np.exp(rand(1, 2, 4))
    want = np.zeros_like(x)
    for n in range(2):
        h = gains[n] @ augment.band_filters()
        v = np.pad(x[n], ((21, 21), (21, 21), (0, 0)), mode="reflect")
        v = sum(h[t] * v[t : t + 24] for t in range(43))
        want[n] = sum(h[t] * v[:, t : t + 30] for t in range(43))
    np.testing.assert_allclose(filter_bands(x, gains), want, atol=1e-4 * np.abs(want).max())
    np.testing.assert_array_equal(filter_bands(x, np.ones((2, 4))), x)
    with pytest.raises(UserError, match="imgfilter"):
        filter_bands(rand(0, 1, 21, 21, 3), np.ones((1, 4)))


def test_cutout():
    x = np.ones((2, 8, 8, 1), np.float32)
    got = np.asarray(cut_out(x, jnp.asarray([[0.5, 0.25, 0.5], [0.5, 0.5, 0.0]])))
    want = np.ones((8, 8))
    want[0:4, 2:6] = 0
    np.testing.assert_array_equal(got[0, ..., 0], want)
    np.testing.assert_array_equal(got[1], x[1])


# ---------------------------------------------------------------- order and size of the draws


class Scripted(augment._Chances):
    """Every transformation is applied, with these numbers in the order of the requests; keeps the chances asked for.

    integers: by the number of values, 2 for mirroring and 4 for quarter turns.
    """

    def __init__(self, p, integers, **numbers):
        super().__init__(jax.random.key(0), p, 1)
        self.integers, self.numbers, self.chances = integers, {k: list(v) for k, v in numbers.items()}, []

    def uniform(self, *shape):
        return jnp.asarray([self.numbers["uniform"].pop(0)])

    def normal(self, *shape):
        return jnp.asarray([self.numbers["normal"].pop(0)])

    def integer(self, below):
        return jnp.asarray([float(self.integers[below])])

    def applied_with(self, chance, value, neutral):
        self.chances.append(float(chance))
        return value


def turned(degrees):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.asarray([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def moved(x, y):
    return np.asarray([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def test_geometry_is_composed_in_the_papers_order():
    """What happens to a picture, step by step in numpy; the pipe's matrix is the inverse of the whole."""
    h, w = 24, 40
    chances = Scripted(0.51, {2: 1, 4: 3}, uniform=((0.9, -0.7), 0.2, -0.35), normal=(1.5, -2.0, (0.6, -1.1)))
    steps = [
        np.diag([-1.0, 1, 1]),  # mirrored
        turned(-3 * 90),
        moved(np.round(0.9 * 0.125 * w), np.round(-0.7 * 0.125 * h)),
        np.diag([2 ** (1.5 * 0.2)] * 2 + [1]),
        turned(-0.2 * 180),
        np.diag([2 ** (-2.0 * 0.2), 2 ** (2.0 * 0.2), 1]),
        turned(0.35 * 180),
        moved(0.6 * 0.125 * w, -1.1 * 0.125 * h),
    ]
    whole = np.eye(3)
    for step in steps:
        whole = step @ whole
    np.testing.assert_allclose(pipe("bg")._geometry(chances, h, w)[0], np.linalg.inv(whole), atol=2e-5)
    assert not any(chances.numbers.values())
    rotation = 1 - np.sqrt(1 - 0.51)  # before, after, or both: .51
    np.testing.assert_allclose(chances.chances, [0.51] * 4 + [rotation, 0.51, rotation, 0.51], atol=1e-6)


def test_colours_are_composed_in_the_papers_order():
    chances = Scripted(0.51, {2: 1}, normal=(1.5, -1.2, 0.7), uniform=(0.4,))
    got = np.asarray(pipe("color")._colour(chances)[0], np.float64)
    for rgb in np.random.default_rng(0).uniform(-1, 1, (4, 3)):
        y = rgb + 1.5 * 0.2
        y = y * 2 ** (-1.2 * 0.5)
        y = y - 2 * y.mean()  # mirrored along grey
        axis, angle = np.full(3, 3**-0.5), 0.4 * np.pi
        y = (y * np.cos(angle) + np.cross(axis, y) * np.sin(angle) + axis * (axis @ y) * (1 - np.cos(angle)))
        y = y.mean() + 2**0.7 * (y - y.mean())
        np.testing.assert_allclose(got @ np.append(rgb, 1), np.append(y, 1), atol=1e-5)
    assert not any(chances.numbers.values()) and chances.chances == pytest.approx([0.51] * 5)


def test_geometry_then_colour_then_filter_then_noise_then_cutout(monkeypatch):
    """Each replaced by its own a x + b: another order gives another number."""
    for name, factor in (("warp", 2.0), ("recolour", 3.0), ("filter_bands", 5.0), ("cut_out", 7.0)):
        monkeypatch.setattr(augment, name, lambda x, *_, factor=factor: factor * x + 1)
    draw = augment.Draw(*[jnp.zeros(())] * 3, jnp.full((), 11.0), jnp.zeros(()))
    assert Pipe().apply(jnp.ones(()), draw) == 7 * (5 * (3 * (2 * 1 + 1) + 1) + 1 + 11) + 1


def test_constants_of_the_paper():
    """Appendix B, as defaults and as statistics of 4000 draws."""
    want = dict(xint_max=0.125, scale_std=0.2, rotate_max=1.0, aniso_std=0.2, xfrac_std=0.125, brightness_std=0.2,
                contrast_std=0.5, hue_max=1.0, saturation_std=1.0, imgfilter_std=1.0, noise_std=0.1, cutout_size=0.5,
                imgfilter_bands=(1.0,) * 4)
    fields = dataclasses.fields(Pipe)
    assert {f.name: f.default for f in fields if f.name in want} == want
    assert {f.name for f in fields if f.default != 0} == {*want, "margin"}

    def draw(**on):
        return Pipe(**on).draw(jax.random.key(9), 1.0, (4000, 16, 32, 1))

    def matrices(name):
        d = draw(**{name: 1.0})
        return np.asarray(d.inverse if d.colour is None else d.colour, np.float64)

    def deviation(values):
        assert abs(values.mean()) < 0.07 * values.std()
        return values.std()

    s, a, t = (matrices(k) for k in ("scale", "aniso", "xfrac"))
    assert np.array_equal(s[:, 0, 0], s[:, 1, 1])
    np.testing.assert_allclose(a[:, 0, 0] * a[:, 1, 1], 1, atol=1e-6)
    got = {"scale_std": deviation(np.log2(s[:, 0, 0])), "aniso_std": deviation(np.log2(a[:, 0, 0])),
           "xfrac_std": deviation(np.append(t[:, 0, 2] / 32, t[:, 1, 2] / 16)),
           "brightness_std": deviation(matrices("brightness")[:, 0, 3]),
           "contrast_std": deviation(np.log2(matrices("contrast")[:, 0, 0]))}
    m = matrices("saturation")
    got["saturation_std"] = deviation(np.log2(m[:, 0, 0] - m[:, 0, 1]))
    got["noise_std"] = np.sqrt(np.square(draw(noise=1.0).noise).mean())
    assert got == pytest.approx({k: want[k] for k in got}, rel=0.06)
    m = matrices("hue")
    angle = np.arctan2(np.sqrt(3) * (m[:, 1, 0] - m[:, 0, 1]) / 2, (m[:, 0, 0] + m[:, 1, 1] + m[:, 2, 2] - 1) / 2)
    assert deviation(angle) == pytest.approx(np.pi / np.sqrt(3), rel=0.06)  # uniform over the circle
    assert (np.asarray(draw(cutout=1.0).cutout)[:, 2] == 0.5).all()


# ---------------------------------------------------------------- the pipe


def test_presets():
    on = {f for f in Pipe.__dataclass_fields__ if getattr(pipe("bgc"), f) == 1.0 != getattr(Pipe(), f)}
    assert on == {"xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac", "brightness", "contrast",
                  "lumaflip", "hue", "saturation"}
    assert pipe("bgcfnc").cutout == pipe("bgcfnc").noise == 1.0 and pipe("bgcf").noise == 0.0
    with pytest.raises(UserError, match="bgcf"):
        pipe("bgcff")


@pytest.fixture(scope="module")
def everything():
    net = pipe("bgcfnc", margin=0.5)
    return net, jax.jit(net)


def test_strength_zero_changes_no_bit_and_one_changes_all(everything):
    _, run = everything
    x = rand(0, 6, 24, 24, 3)
    np.testing.assert_array_equal(run(x, 0.0, jax.random.key(0)), x)
    changed = run(x, 1.0, jax.random.key(0))
    assert changed.shape == x.shape and changed.dtype == x.dtype
    assert (np.abs(changed - x).reshape(6, -1).max(1) > 0.01).all() and np.isfinite(changed).all()
    np.testing.assert_array_equal(changed, run(x, 1.0, jax.random.key(0)))
    assert not np.array_equal(changed, run(x, 1.0, jax.random.key(1)))


# share of the draws of one transformation that do something when it is applied
SEEN = dict(xflip=1 / 2, rotate90=3 / 4, scale=1, rotate=1, aniso=1, xfrac=1, brightness=1, contrast=1, lumaflip=1 / 2,
            hue=1, saturation=1, noise=1, cutout=1)


def test_each_is_applied_with_its_probability():
    n, p = 4000, 0.6

    def changed(field, p):
        d = Pipe(**{field: 0.5}).draw(jax.random.key(3), p, (n, 8, 8, 3))
        if d.inverse is not None:
            return (jnp.abs(d.inverse - jnp.eye(3)) > 0).any((1, 2)).mean()
        if d.colour is not None:
            return (jnp.abs(d.colour - jnp.eye(4)) > 0).any((1, 2)).mean()
        if d.bands is not None:
            return (d.bands != 1).any(1).mean()
        return (d.noise != 0).any((1, 2, 3)).mean() if d.noise is not None else (d.cutout[:, 2] > 0).mean()

    got = jax.jit(lambda p: {f: changed(f, p) for f in [*SEEN, "imgfilter"]})(p)
    for field, share in SEEN.items():
        np.testing.assert_allclose(got[field], p / 2 * share, atol=0.025, err_msg=field)
    assert abs(got["imgfilter"] - (1 - 0.7**4)) < 0.025  # four bands, each with its own chance
    whole = Pipe(xint=1.0).draw(jax.random.key(3), 1.0, (n, 16, 32, 3)).inverse
    np.testing.assert_array_equal(whole, np.round(whole))
    assert np.abs(whole[:, 0, 2]).max() == 4 and np.abs(whole[:, 1, 2]).max() == 2


def test_bands_keep_the_expected_power():
    d = Pipe(imgfilter=1.0, imgfilter_bands=(0.0, 0.0, 1.0, 0.0)).draw(jax.random.key(0), 1.0, (50, 24, 24, 3))
    np.testing.assert_allclose((augment.POWER * np.square(d.bands)).sum(1), 1, rtol=1e-5)
    assert np.std(np.log2(d.bands[:, 2])) > 0.5


def test_gradients_to_second_order(everything):
    """R1 through the augmentations: the penalty's gradient with respect to a weight, against finite differences."""
    net, _ = everything
    x, w = rand(0, 2, 24, 24, 3), rand(1, 2, 24, 24, 3)

    def penalty(t, x):
        score = lambda x: (jnp.tanh(t * net(x, 0.9, jax.random.key(5))) * w).sum()  # noqa: E731
        return jnp.square(jax.grad(score)(x)).mean()

    both = jax.jit(jax.value_and_grad(penalty))
    slope, finite = both(0.7, x)[1], (both(0.705, x)[0] - both(0.695, x)[0]) / 0.01
    np.testing.assert_allclose(slope, finite, rtol=0.02)
