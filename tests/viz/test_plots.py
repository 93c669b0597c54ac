"""Plots: real PNG and SVG, the colours of every series present, nothing global touched."""

import io
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from genjax.errors import UserError
from genjax.viz.plots import MOST_POINTS, PALETTE, _thin, bars, curves, image_of, scatter, vector_field


def has(png, colour):
    rgb = [int(colour[i:i + 2], 16) for i in (1, 3, 5)]
    return bool((np.abs(image_of(png).astype(int) - rgb).max(-1) <= 2).any())


def test_curves_have_the_asked_size_and_one_colour_per_series():
    x = np.arange(1, 50)
    png = curves({"a": (x, 1 / x), "b": 2 / x}, logx=True, logy=True, levels={"floor": 0.1}, size=(300, 200),
                 scale=1.5)
    assert image_of(png).shape == (300, 450, 3)
    assert has(png, PALETTE[0]) and has(png, PALETTE[1]) and not has(png, PALETTE[2])


def test_nan_and_what_a_log_axis_cannot_hold_leave_gaps():
    y = np.asarray([1.0, np.nan, -1.0, 0.0, np.inf, 2.0])
    assert has(curves({"a": y}, logy=True, markers=True), PALETTE[0])
    assert not has(curves({"a": -np.ones(3)}, logy=True), PALETTE[0])  # drawn empty, no error
    assert image_of(curves({})).shape == (800, 1280, 3)
    assert has(curves({"one point": [3.0]}), PALETTE[0])


def test_thinning_keeps_ends_and_spikes_and_the_first_decades_of_a_log_axis():
    x = np.arange(1, 200_001, dtype=float)
    y = np.sin(x / 1000)
    y[123_456], y[77] = 9.0, np.nan
    tx, ty = _thin(x, y, True)
    assert tx.size <= MOST_POINTS and tx[0] == 1 and tx[-1] == 200_000 and np.nanmax(ty) == 9.0
    assert (tx <= 10).sum() == 10
    tx, _ = _thin(x, y, False)
    assert tx.size <= MOST_POINTS and np.isin(123_457, tx)


def test_svg_is_inline_themable_and_unique():
    svg = curves({"a<b": [1, 2, 3], "$5": [2, 3, 4], "_c": [1, 1, 1]}, title="50 % & more", form="svg").decode()
    tree = ElementTree.fromstring(svg)
    texts = ["".join(t.itertext()) for t in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a<b", "$5", "50 % & more"} <= set(texts) and any("_c" in t for t in texts)
    assert svg.startswith("<svg") and "currentColor" in svg and 'id="figure_1"' not in svg
    assert "width" not in tree.attrib and "viewBox" in tree.attrib
    assert svg == curves({"a<b": [1, 2, 3], "$5": [2, 3, 4], "_c": [1, 1, 1]}, title="50 % & more",
                         form="svg").decode()


def test_scatter_and_bars():
    rng = np.random.default_rng(0)
    png = scatter({"a": (rng.random(5), rng.random(5)), "b": (rng.random(5), rng.random(5))}, diagonal=True)
    assert image_of(png).shape == (880, 960, 3)
    png = bars({"F16": {"noisy": 20.3, "DIP": 30.4}, "house": {"noisy": 20.3, "DIP": np.nan}}, ylabel="dB")
    assert has(png, PALETTE[0]) and has(png, PALETTE[1])
    assert len(bars({})) > 100


def test_no_pyplot():
    curves({"a": [1, 2]})
    module = sys.modules.get("matplotlib.pyplot")
    assert module is None or not module.get_fignums()


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda: curves({"loss": ([1, 2], [1, 2, 3])}), "'loss'"),
        (lambda: curves({"loss": np.ones((2, 2))}), "'loss'"),
        (lambda: curves({"a": [1]}, form="pdf"), "plot form"),
        (lambda: curves({"a": [1]}, size=(10, 10)), "size"),
    ],
)
def test_bad_calls_are_one_clear_line(call, word):
    with pytest.raises(UserError, match=word):
        call()


def test_png_is_a_png():
    from PIL import Image

    assert Image.open(io.BytesIO(curves({"a": [1, 2]}))).format == "PNG"


def test_vector_field():
    x, y = np.linspace(-1, 1, 5), np.linspace(-2, 2, 9)
    u, v = np.meshgrid(x, y)
    v[0, 0] = np.nan
    t = np.linspace(0, 6, 50)
    png = vector_field((x, y, -v, u), {"a": (np.cos(t) / 2, np.sin(t)), "b": (t, t)}, title="a field", size=(200, 300))
    assert image_of(png).shape == (600, 400, 3)
    assert has(png, PALETTE[0]) and has(png, PALETTE[1]) and has(png, "#9aa0ab")
    still = vector_field((x, y, 0 * u, 0 * u))
    assert not has(still, PALETTE[0])
    assert vector_field((x, y, u, u)) == vector_field((x, y, 9 * u, 9 * u)), "lengths are relative"
    assert vector_field((x, y, u, u)) != vector_field((x, y, u, -u))
    for broken in ((x, y, u.T, v.T), (x[:1], y, u[:, :1], v[:, :1])):
        with pytest.raises(UserError, match="a vector field is"):
            vector_field(broken)


def test_scatter_has_limits_and_a_shade_behind():
    x, values = np.linspace(0, 1, 40), np.zeros((40, 40))
    inside, outside = {"a": ([0.5], [0.5])}, {"a": ([5.0], [5.0])}
    marker = "#2687be"  # the first colour, not quite opaque, on white
    assert has(scatter(inside, xlim=(0, 1), ylim=(0, 1)), marker)
    assert not has(scatter(outside, xlim=(0, 1), ylim=(0, 1)), marker)
    values[:10, 30:] = 1  # low and right
    pixels = image_of(scatter(inside, xlim=(0, 1), ylim=(0, 1), shade=(x, x, values), area=1)).mean(-1)
    h, w = pixels.shape
    assert pixels[3 * h // 4:9 * h // 10, 8 * w // 10:9 * w // 10].mean() < 60  # dark
    assert pixels[h // 10:h // 4, w // 5:w // 3].mean() > 200
