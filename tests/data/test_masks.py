"""Masks: binary, deterministic, of the promised area, in the promised place."""

import numpy as np
import pytest

from genjax.data import masks
from genjax.errors import UserError

SPECS = ["text", "text:4", "bernoulli", "bernoulli:0.9", "hole", "hole:0.1", "strokes", "strokes:0.3", "scratches",
         "scratches:5"]


@pytest.mark.parametrize("spec", SPECS)
def test_masks_are_binary_and_deterministic(spec):
    a, b = masks.make_mask(spec, 96, 128, (5, 0)), masks.make_mask(spec, 96, 128, (5, 0))
    assert a.shape == (96, 128, 1) and a.dtype == np.float32 and set(np.unique(a)) == {0.0, 1.0}
    np.testing.assert_array_equal(a, b)
    if not spec.startswith("hole"):
        assert (a != masks.make_mask(spec, 96, 128, (5, 1))).any()


def test_bernoulli_share():
    assert abs(masks.bernoulli_mask(300, 300, 0.3, 0).mean() - 0.3) < 0.01


@pytest.mark.parametrize("fraction", [0.05, 0.25, 0.6])
def test_hole_area_and_place(fraction):
    mask = masks.hole_mask(90, 130, fraction)[..., 0]
    assert abs((1 - mask).mean() - fraction) < 0.02
    rows, columns = np.where(mask == 0)
    assert abs(rows.mean() - 44.5) <= 0.5 and abs(columns.mean() - 64.5) <= 0.5  # centred, to half a pixel
    assert (1 - mask).sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)  # one rectangle
    corner = masks.hole_mask(90, 130, fraction, center=(0, 0))
    assert corner[0, 0, 0] == 0 and abs((1 - corner).mean() - fraction) < 0.02


def test_hole_box():
    mask = masks.hole_mask(10, 12, box=(2, 3, 4, 5))
    want = np.ones((10, 12, 1))
    want[2:6, 3:8] = 0
    np.testing.assert_array_equal(mask, want)


@pytest.mark.parametrize("fraction", [0.05, 0.3])
def test_strokes_reach_their_area_and_not_much_more(fraction):
    hole = 1 - masks.stroke_mask(128, 160, fraction, 3).mean()
    assert fraction <= hole < fraction + 0.1


def test_text_covers_the_picture_with_lines():
    mask = masks.text_mask(256, 256, 1, lines=8)[..., 0]
    assert 0.05 < (1 - mask).mean() < 0.25
    rows = (mask == 0).any(1)
    starts = np.flatnonzero(np.diff(rows.astype(int)) == 1)
    assert 7 <= len(starts) <= 16  # the lines (and the dots of their i) with free rows between
    assert all((mask[k * 32:(k + 1) * 32] == 0).mean() > 0.03 for k in range(8))
    assert (mask[:, :32] == 0).any() and (mask[:, -32:] == 0).any()  # from edge to edge


def test_text_scales_with_the_picture():
    small, large = (1 - masks.text_mask(s, s, 1).mean() for s in (128, 512))
    assert abs(small - large) < 0.05  # thin letters lose a little in a small picture
    assert masks.text_mask(32, 1200, 0)[:, -100:].min() == 0  # a wide picture is covered to its end


@pytest.mark.parametrize("spec, part", [
    ("txt", "text"), ("bernouli:0.5", "bernoulli"), ("bernoulli:0", "between 0 and 1"), ("bernoulli:x", "not a share"),
    ("bernoulli:", "not a share"), ("hole:1", "between 0 and 1"), ("hole:-0.1", "between"), ("hole:nan", "between"),
    ("text:0", "at least one line"), ("text:2.5", "whole number"), ("strokes:2", "between"), ("scratches:0", "least"),
    ("", "unknown mask")])
def test_bad_specs(spec, part):
    with pytest.raises(UserError, match=part) as info:
        masks.make_mask(spec, 64, 64)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("box", [(0, 0, 11, 5), (-1, 0, 3, 3), (0, 0, 0, 3), (0, 0, 10, 12)])
def test_bad_boxes(box):
    with pytest.raises(UserError, match="10x12"):
        masks.hole_mask(10, 12, box=box)


@pytest.mark.parametrize("spec, part", [
    ("text:17", "17 lines of text do not fit into 64 rows; ask for at most 16"), ("text:100000", "at most 16"),
    ("scratches:161", "at most 160"), ("scratches:1000000", "64x96")])
def test_numbers_that_no_picture_has_room_for(spec, part):
    with pytest.raises(UserError, match=part):
        masks.make_mask(spec, 64, 96)


def test_defaults_and_limits_are_drawn():
    assert masks.make_mask("text:16", 64, 96).shape == (64, 96, 1)
    for kind in ("text", "scratches"):  # their defaults also on pictures smaller than any limit
        assert masks.make_mask(kind, 8, 8).shape == (8, 8, 1)
    assert 1 - masks.make_mask("strokes:0.95", 64, 128).mean() >= 0.95


def test_strokes_end(monkeypatch):
    monkeypatch.setattr(masks, "MAX_STROKES", 5)
    with pytest.raises(UserError, match="5 strokes do not hide 0.9 of 64x64 pixels; ask for less"):
        masks.make_mask("strokes:0.9", 64, 64)
