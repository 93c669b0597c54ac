"""Grids and sheets pixel by pixel where that is possible, by content where letters are drawn."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genjax.errors import UserError
from genjax.viz import lettering
from genjax.viz.grid import Panel, error_map, image_grid, inset, png_bytes, save_png, sheet, to_uint8


def noise(h=6, w=8, c=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, c), np.uint8)


def test_to_uint8_of_every_kind():
    assert to_uint8(np.asarray([[0.0, 0.5, 1.0, -3.0, 9.0]]))[0, :, 0].tolist() == [0, 128, 255, 0, 255]
    assert to_uint8(jnp.full((2, 2, 3), 0.2, jnp.bfloat16)).max() == 51
    assert to_uint8(np.asarray([[True, False]]))[..., 1].tolist() == [[255, 0]]
    x = noise()
    assert to_uint8(x).tolist() == x.tolist() and to_uint8(x) is not x
    half = to_uint8(np.asarray([[[1.0, 0.0, 0.0, 0.5]]]))  # red, half seen through, on white
    np.testing.assert_allclose(half[0, 0], [255, 127.5, 127.5], atol=1)
    broken = np.zeros((2, 2, 1))
    broken[0, 1] = np.nan
    assert to_uint8(broken)[0, 1].tolist() == [255, 0, 255] and to_uint8(broken)[0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("shape, dtype", [((2, 2, 2), float), (3, float), ((0, 2, 3), float), ((2, 2, 3), int)])
def test_what_is_no_image_is_one_clear_line(shape, dtype):
    with pytest.raises(UserError, match="an image is"):
        to_uint8(np.zeros(shape, dtype))


def test_grid_places_every_image_exactly():
    images = np.stack([noise(seed=i) for i in range(5)])
    grid = image_grid(images, columns=3, padding=2, background=7)
    assert grid.shape == (2 + 2 * (6 + 2), 2 + 3 * (8 + 2), 3)
    left = np.ones(grid.shape[:2], bool)
    for i in range(5):
        r, c = 2 + i // 3 * 8, 2 + i % 3 * 10
        np.testing.assert_array_equal(grid[r:r + 6, c:c + 8], images[i])
        left[r:r + 6, c:c + 8] = False
    assert (grid[left] == 7).all()


def test_grid_scale_repeats_pixels_and_mixed_sizes_are_centred():
    big = image_grid([noise()], scale=3, padding=0)
    np.testing.assert_array_equal(big, noise().repeat(3, 0).repeat(3, 1))
    mixed = image_grid([noise(6, 8), noise(2, 4)], columns=1, padding=0)
    np.testing.assert_array_equal(mixed[6:8, 2:6], noise(2, 4))


def test_labels_add_room_below_and_draw_something_there():
    images = [np.zeros((30, 90, 3))] * 2
    plain, labelled = image_grid(images), image_grid(images, labels=["24.3 dB", ""])
    assert labelled.shape[1] == plain.shape[1] and labelled.shape[0] > plain.shape[0]
    below = labelled[34:]
    assert (below[:, :92] < 200).any() and (below[:, 94:] == 255).all()
    np.testing.assert_array_equal(labelled[2:32, 2:92], images[0])
    other = image_grid(images, labels=["24.4 dB", ""])
    assert (other != labelled).any()
    framed = image_grid(images, columns=2, row_labels=["row"], column_labels=["one", "two"])
    assert framed.shape[0] > plain.shape[0] and framed.shape[1] > plain.shape[1]


def test_sheet_draws_a_row_equally_high_with_nearest_pixels():
    low, high = noise(50, 50), noise(200, 200, seed=1)
    picture = sheet([[Panel(low, "×4 input", "σ → 24.3 dB"), Panel(high), None]], gap=10)
    found = [x for x in (low.repeat(4, 0).repeat(4, 1), high) if _contains(picture, x)]
    assert len(found) == 2
    wide = sheet([[Panel(high)]], title="a headline that is far wider than the only panel of the sheet", gap=10)
    assert wide.shape[1] > 300


def _contains(picture, part):
    h, w = part.shape[:2]
    return any((picture[r:r + h, c:c + w] == part).all()
               for r in range(picture.shape[0] - h + 1) for c in range(picture.shape[1] - w + 1)
               if (picture[r, c] == part[0, 0]).all())


def test_wrap_keeps_every_word_and_the_width():
    text = "one two three fourfivesixseveneightnineteneleven twelve"
    lines = lettering.wrap(text, 60, 12)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(lettering.width(line, 12) <= 60 for line in lines)
    assert lettering.wrap("", 60, 12) == [] and lettering.wrap("a\nb", 60, 12) == ["a", "b"]


def test_inset_magnifies_the_region_in_its_corner():
    x = noise(40, 50)
    y = inset(x, (3, 4, 5, 6), zoom=3, corner="bottom right", border=1)
    np.testing.assert_array_equal(y[-1 - 15:-1, -1 - 18:-1], x[3:8, 4:10].repeat(3, 0).repeat(3, 1))
    np.testing.assert_array_equal(y[3:8, 4:10], x[3:8, 4:10])
    assert (y[2, 4:10] == (255, 214, 10)).all() and (y[-17, -20:] == (255, 214, 10)).all()
    for box, zoom in (((38, 0, 5, 5), 2), ((0, 0, 20, 20), 3), ((-1, 0, 5, 5), 2)):
        with pytest.raises(UserError, match="inset"):
            inset(x, box, zoom=zoom)
    with pytest.raises(UserError, match="bottom left"):
        inset(x, (3, 4, 5, 6), corner="botom left")


def test_error_map_is_dark_where_equal_and_monotone():
    a = np.zeros((1, 3, 3))
    b = np.asarray([0.0, 0.25, 0.5])[None, :, None] * np.ones(3)
    brightness = error_map(a, b, vmax=0.5)[0].astype(int).sum(-1)
    assert brightness[0] < 20 < brightness[1] < brightness[2]
    np.testing.assert_array_equal(error_map(a, b, vmax=0.25)[0, 1], error_map(a, b, vmax=0.25)[0, 2])
    assert error_map(a, a).max() < 20
    with pytest.raises(UserError, match="magma"):
        error_map(a, b, colormap="magmma")


def test_png_round_trip_and_atomic_save(tmp_path, monkeypatch):
    path = save_png(tmp_path / "deep" / "x.png", noise())
    np.testing.assert_array_equal(np.asarray(Image.open(path)), noise())
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(noise())))), noise())
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("genjax.viz.atomic.os.replace", fail)
    with pytest.raises(UserError, match="No space left"):
        save_png(path, noise(seed=1))
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == ["x.png"]


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda: image_grid([]), "at least one"),
        (lambda: image_grid(noise()), "list"),
        (lambda: image_grid([noise()], labels=["a", "b"]), "labels"),
        (lambda: image_grid([noise()], columns=-1), "columns"),
        (lambda: image_grid([noise()], row_labels=["a", "b"]), "row_labels"),
        (lambda: sheet([]), "panel"),
        (lambda: sheet([[None]]), "panel"),
        (lambda: sheet([[Panel(noise())]], panel_height=0), "panel_height"),
        (lambda: error_map(noise(), noise(4, 4)), "one size"),
    ],
)
def test_bad_calls_are_one_clear_line(call, word):
    with pytest.raises(UserError, match=word):
        call()
