"""What a picture does when one object of its scene is moved or changed: does the object obey, does the rest stay?

Letters: n pairs of pictures a (before) and b (after) [n,S,S,3] in [0,1]; m[n,S,S] an object's region, its share of what
is seen in [0,1]; d[n,2] motions in pixels, to the right and down. All is numpy; means of pictures are over channels.

Where an object went is found in the pictures, not in the generator's own maps, which may move while the picture does
not: what fills the region before is looked for everywhere in the picture after, by the least mean square difference
weighted with the region. A difference of the two pictures would show both places and the shadows, and could not tell
an object that moved from one that vanished here while another appeared there; a centroid needs a region after. What
does not move, or is not to be seen, is found where it was: motion 0.
"""

import math

import numpy as np

SEEN = 0.5  # the share above which a pixel belongs to a region
TOUCHED = 0.1  # the share from which on it may
STEP = 0.08  # of [0,1]: a larger difference in any channel is one to be seen
NEARLY = 0.25  # a motion is found if it is wrong by no more than this share of what it should be, or by a pixel


def motion(a: np.ndarray, b: np.ndarray, m: np.ndarray) -> np.ndarray:
    """d [n,2]: where in b lies what fills the region in a, to a fraction of a pixel.

    At most half of the picture away, with at least half of the region still in it; the nearest of equally good places.
    """
    return np.concatenate([_motion(*(np.asarray(v[i:i + 32], np.float64) for v in (a, b, m)))
                           for i in range(0, len(a), 32)])


def _motion(a, b, m):
    n, size = m.shape[:2]
    reach = size // 2
    wide = (size + reach,) * 2  # no displacement wraps around

    def spectrum(x):
        return np.fft.rfft2(x, wide, axes=(1, 2))

    def summed(over, what):
        """sum_x over(x) what(x + d) for all d, [n,2 reach + 1,2 reach + 1]."""
        found = np.fft.irfft2(np.conj(over) * what, wide, axes=(1, 2))
        at = np.arange(-reach, reach + 1)
        return found[:, at[:, None], at[None]]

    of_m, ones = spectrum(m), spectrum(np.ones_like(m))
    weight = summed(of_m, ones)
    squares = summed(spectrum(m * np.square(a).sum(-1)), ones) + summed(of_m, spectrum(np.square(b).sum(-1)))
    both = sum(summed(spectrum(m * a[..., c]), spectrum(b[..., c])) for c in range(a.shape[-1]))
    away = np.square(np.arange(-reach, reach + 1))
    cost = (squares - 2 * both) / np.maximum(weight, 1e-6) + 1e-11 * (away[:, None] + away[None])
    total = m.sum((1, 2))
    cost = np.where(weight >= 0.5 * total[:, None, None], cost, np.inf)
    best = np.argmin(cost.reshape(n, -1), 1)
    y, x = np.unravel_index(best, cost.shape[1:])
    rows = np.arange(n)
    found = np.stack([x + _vertex(cost[rows, y], x), y + _vertex(cost[rows, :, x], y)], -1) - reach
    return np.where((m > SEEN).any((1, 2))[:, None], found, 0.0)


def _vertex(cost, at):
    """How far beside the least of cost [n,L], at `at` [n], lies the vertex of the parabola through it."""
    rows, last = np.arange(len(at)), cost.shape[1] - 1
    low, here, high = (cost[rows, np.clip(at + i, 0, last)] for i in (-1, 0, 1))
    inner = (at > 0) & (at < last) & np.isfinite(low) & np.isfinite(high)
    low, high = np.where(inner, low, here), np.where(inner, high, here)
    bend = low - 2 * here + high
    exact = (here < 1e-7) | (bend < 1e-12)  # the same pixels again: not between two places
    return np.where(exact, 0.0, np.clip(0.5 * (low - high) / np.maximum(bend, 1e-12), -0.5, 0.5))


def colour_change(a: np.ndarray, b: np.ndarray, m_a: np.ndarray, m_b: np.ndarray) -> np.ndarray:
    """|mean colour in the region of a - that in the region of b| [n], each picture with its own region."""
    def mean(x, m):
        m = np.where(m > SEEN, m, 0.0)[..., None]
        return (x * m).sum((1, 2)) / np.maximum(m.sum((1, 2)), 1e-6)

    seen = (m_a > SEEN).any((1, 2)) & (m_b > SEEN).any((1, 2))
    return np.where(seen, np.abs(mean(a, m_a) - mean(b, m_b)).mean(-1), 0.0)


def change(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Mean |a - b| [n] over the pixels `where` [n,S,S]; 0 where there are none."""
    return (np.abs(a - b).mean(-1) * where).sum((1, 2)) / np.maximum(where.sum((1, 2)), 1)


def around(m: np.ndarray, margin: int) -> np.ndarray:
    """The pixels [n,S,S] of a region and those at most `margin` beside it."""
    from scipy import ndimage

    return ndimage.maximum_filter(m, (0, 2 * margin + 1, 2 * margin + 1)) > TOUCHED


def silhouette(x: np.ndarray, without: np.ndarray, near: np.ndarray) -> np.ndarray:
    """The pixels [n,S,S] of `near` that change visibly when the object is taken out of the scene."""
    return (np.abs(x - without).max(-1) > STEP) & near


def moved(a: np.ndarray, b: np.ndarray, m_a: np.ndarray, m_b: np.ndarray, expected: np.ndarray,
          margin: int) -> dict[str, float]:
    """What happened when objects were moved.

    Args:
      a, b: the pictures.
      m_a, m_b: the object's regions in them.
      expected: [n,2] motion of the middle of the object's box as the camera projects it.
      margin: pixels around the regions that count neither as inside nor as outside.

    Returns:
      motion_slope: of the found against the expected motion, through 0; 1 is right. motion_correlation: between them.
      motion_error: median distance between them, pixels. motion_found: share of pairs in which it is small, see
      `NEARLY`, of those that ask for more than a pixel: standing still would pass for less. move_colour: change of the
      object's mean colour. move_outside, move_inside: mean difference of the pictures away from and in both regions.
      Where few objects are seen (`objects_seen` of a measurement) all of this says little.
    """
    found = motion(a, b, m_a)
    off, length = np.linalg.norm(found - expected, axis=-1), np.linalg.norm(expected, axis=-1)
    far = length > 1
    near = far & (off <= np.maximum(1, NEARLY * length))
    both = np.maximum(around(m_a, margin), around(m_b, margin))
    agree, squares = (found * expected).sum(), np.square(expected).sum()
    return {"motion_slope": agree / max(squares, 1e-12),
            "motion_correlation": agree / max(math.sqrt(squares * np.square(found).sum()), 1e-12),
            "motion_error": float(np.median(off)), "motion_found": near.sum() / max(far.sum(), 1),
            "move_colour": colour_change(a, b, m_a, m_b).mean(), "move_outside": change(a, b, ~both).mean(),
            "move_inside": change(a, b, (m_a > SEEN) | (m_b > SEEN)).mean()}


def swapped(name: str, a: np.ndarray, b: np.ndarray, without: np.ndarray, m_a: np.ndarray, m_b: np.ndarray,
            margin: int) -> dict[str, float]:
    """What happened when a code of objects was exchanged: arguments as in `moved`; `without` the pictures without them.

    Returns:
      {name}_colour: change of the object's mean colour. {name}_silhouette: 1 - intersection over union of the
      silhouettes, 0 where there are none. {name}_outside: mean difference of the pictures away from both regions.
    """
    near = np.maximum(around(m_a, margin), around(m_b, margin))
    s, t = silhouette(a, without, near), silhouette(b, without, near)
    union = (s | t).sum((1, 2))
    return {f"{name}_colour": colour_change(a, b, m_a, m_b).mean(),
            f"{name}_silhouette": ((s ^ t).sum((1, 2)) / np.maximum(union, 1)).mean(),
            f"{name}_outside": change(a, b, ~near).mean()}
