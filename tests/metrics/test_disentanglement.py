"""What moved pictures measure: squares on noise, moved, changed and left alone."""

import numpy as np
import pytest

from genjax.metrics import disentanglement as measures

S, N = 32, 6
RNG = np.random.default_rng(0)
BACK = RNG.random((N, S, S, 3)) * 0.3


def square(y, x, colour=(1.0, 0.2, 0.1), back=BACK, side=6):
    """(pictures with a shaded square at y, x [n], its region)."""
    image, region = back.copy(), np.zeros((N, S, S))
    for i, (a, b) in enumerate(zip(y, x, strict=True)):
        image[i, a:a + side, b:b + side] = np.linspace(0.7, 1, side)[:, None, None] * np.asarray(colour)
        region[i, a:a + side, b:b + side] = 1
    return image, region


Y, X = np.full(N, 12), np.full(N, 13)
WAY = np.array([[5, 0], [-5, 0], [0, 4], [0, -8], [3, 3], [10, -10]])


def test_what_moves_is_found_where_it_is():
    a, m = square(Y, X)
    b, _ = square(Y + WAY[:, 1], X + WAY[:, 0])
    np.testing.assert_allclose(measures.motion(a, b, m), WAY, atol=1e-9)
    assert (measures.motion(a, a, m) == 0).all()


def test_between_pixels():
    at = np.arange(S)
    def blob(x):
        return np.exp(-((at[None, :, None] - 15) ** 2 + (at[None, None] - x) ** 2) / 18)[..., None].repeat(3, -1)

    m = (blob(14.0)[..., 0] > 0.3).astype(float)
    for way in (0.3, 2.5, 4.8):
        np.testing.assert_allclose(measures.motion(blob(14.0), blob(14.0 + way), m), [[way, 0]], atol=0.15)


def test_what_is_not_to_be_seen_has_not_moved():
    flat = np.full((N, S, S, 3), 0.5)
    assert (np.abs(measures.motion(flat, flat, square(Y, X)[1])) < 1e-6).all()
    assert (measures.motion(BACK, BACK[::-1], np.zeros((N, S, S))) == 0).all()


def test_a_move_that_obeys_and_moves_that_do_not():
    a, m = square(Y, X)
    b, m_b = square(Y + WAY[:, 1], X + WAY[:, 0])
    good = measures.moved(a, b, m, m_b, WAY, 2)
    assert good["motion_slope"] == pytest.approx(1, abs=0.02) and good["motion_found"] == 1
    assert good["motion_correlation"] > 0.99 and good["motion_error"] < 1e-9
    assert good["move_outside"] == 0 and good["move_colour"] < 1e-9 < 0.1 < good["move_inside"]
    still = measures.moved(a, a, m, m_b, WAY, 2)
    assert abs(still["motion_slope"]) < 0.01 and still["motion_found"] == 0 and still["motion_error"] > 3
    short = WAY / np.linalg.norm(WAY, axis=-1, keepdims=True)
    mixed = np.where(np.arange(N)[:, None] % 2 == 0, short * 0.9, short * 1.1)
    assert measures.moved(a, a, m, m_b, mixed, 2)["motion_found"] == 0, "standing still is no motion of .9 pixels"
    upright, m_upright = square(Y + WAY[:, 1], X)  # half of the motion: up and down alone
    assert measures.moved(a, upright, m, m_upright, WAY, 2)["motion_slope"] == pytest.approx(
        np.square(WAY[:, 1]).sum() / np.square(WAY).sum(), abs=0.05)
    other, m_other = square(Y + WAY[:, 1], X + WAY[:, 0], (0.2, 0.9, 0.9), BACK + 0.05)
    leaky = measures.moved(a, other, m, m_other, WAY, 2)
    assert leaky["move_outside"] == pytest.approx(0.05) and leaky["move_colour"] > 0.3


def test_swaps():
    a, m = square(Y, X)
    red = measures.swapped("appearance", a, square(Y, X, (0.1, 0.3, 0.9))[0], BACK, m, m, 2)
    assert red["appearance_colour"] > 0.3 and red["appearance_silhouette"] == 0 == red["appearance_outside"]
    b, m_b = square(Y, X, side=8)
    large = measures.swapped("shape", a, b, BACK, m, m_b, 2)
    assert large["shape_colour"] < 0.02 and large["shape_silhouette"] == pytest.approx(1 - 36 / 64, abs=0.02)
    nothing = measures.swapped("shape", BACK, BACK, BACK, 0 * m, 0 * m, 2)
    assert all(v == 0 for v in nothing.values())
