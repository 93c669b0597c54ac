"""Pictures: every format a user may have, and every way a file can be wrong."""

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from genjax.data import images, photos
from genjax.errors import UserError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), np.uint8)
GREY = RNG.integers(0, 256, (6, 9), np.uint8)
DEEP = RNG.integers(0, 65536, (6, 9)).astype(np.uint16)


def one_line(info) -> str:
    message = str(info.value)
    assert "\n" not in message and len(message) < 400
    return message


def written(path, picture, **options):
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm", ".gif"])
def test_lossless_colour_and_grey_files(tmp_path, suffix):
    x = RGB // 51 * 51  # web-safe levels: a GIF's palette holds the few colours of a small picture
    got = images.load_image(written(tmp_path / f"a{suffix}", Image.fromarray(x)))
    assert got.shape == (6, 9, 3) and got.dtype == np.float32
    np.testing.assert_allclose(got, x / 255.0, atol=1e-6)
    grey = images.load_image(written(tmp_path / f"g{suffix}", Image.fromarray(GREY)))
    np.testing.assert_allclose(grey, np.repeat(GREY[..., None], 3, -1) / 255.0, atol=1e-6)


def test_one_channel_is_rec601_luma(tmp_path):
    path = written(tmp_path / "a.png", Image.fromarray(RGB))
    want = (0.299 * RGB[..., 0] + 0.587 * RGB[..., 1] + 0.114 * RGB[..., 2]) / 255.0
    got = images.load_image(path, channels=1)
    assert got.shape == (6, 9, 1)
    np.testing.assert_allclose(got[..., 0], want, atol=1e-6)
    pixels = images.load_pixels(path, channels=1)  # uint8: rounded, as Pillow's own "L" up to its rounding
    assert pixels.dtype == np.uint8
    assert np.abs(pixels[..., 0].astype(int) - np.asarray(Image.fromarray(RGB).convert("L"))).max() <= 1


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_sixteen_bits_keep_their_precision(tmp_path, name):
    path = tmp_path / name
    if name.endswith("pgm"):
        path.write_bytes(b"P5\n9 6\n65535\n" + DEEP.astype(">u2").tobytes())
    else:
        Image.fromarray(DEEP).save(path)
    np.testing.assert_allclose(images.load_image(path, channels=1)[..., 0], DEEP / 65535.0, atol=1e-7)


def test_float_tiff(tmp_path):
    x = RNG.random((6, 9), np.float32)
    np.testing.assert_array_equal(
        images.load_image(written(tmp_path / "f.tif", Image.fromarray(x)), channels=1)[..., 0], x)


def test_alpha_is_laid_over_white(tmp_path):
    alpha = np.zeros((6, 9, 1), np.uint8)
    alpha[:3] = 255
    alpha[3] = 128
    got = images.load_image(written(tmp_path / "a.png", Image.fromarray(np.concatenate([RGB, alpha], -1))))
    a = alpha / 255.0
    np.testing.assert_allclose(got, RGB / 255.0 * a + (1 - a), atol=1e-6)
    grey = np.stack([GREY, alpha[..., 0]], -1)
    got = images.load_image(written(tmp_path / "la.png", Image.fromarray(grey)), channels=1)
    np.testing.assert_allclose(got, GREY[..., None] / 255.0 * a + (1 - a), atol=1e-6)


def test_palette_with_a_transparent_colour(tmp_path):
    picture = Image.fromarray((GREY > 128).astype(np.uint8), mode=None).convert("P")
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.save(tmp_path / "p.png", transparency=0)
    got = images.load_image(tmp_path / "p.png")
    want = np.where((GREY > 128)[..., None], [0.0, 0, 1], [1.0, 1, 1])
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_one_bit_and_cmyk(tmp_path):
    bits = GREY > 128
    np.testing.assert_array_equal(
        images.load_image(written(tmp_path / "b.png", Image.fromarray(bits)), channels=1)[..., 0], bits)
    flat = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan, full magenta and yellow: red
    got = images.load_image(written(tmp_path / "c.jpg", flat, quality=95))
    np.testing.assert_allclose(got, np.broadcast_to([1.0, 0, 0], got.shape), atol=0.03)


@pytest.mark.parametrize("tag, turn", [
    (1, lambda x: x), (2, lambda x: x[:, ::-1]), (3, lambda x: x[::-1, ::-1]), (4, lambda x: x[::-1]),
    (5, lambda x: x.transpose(1, 0, 2)), (6, lambda x: np.rot90(x, -1)), (8, lambda x: np.rot90(x, 1))])
def test_exif_orientation(tmp_path, tag, turn):
    exif = Image.Exif()
    exif[0x0112] = tag
    got = images.load_image(written(tmp_path / "e.png", Image.fromarray(RGB), exif=exif))
    np.testing.assert_allclose(got, turn(RGB) / 255.0, atol=1e-6)


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (5, 4), c) for c in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(images.load_image(tmp_path / "a.gif"), np.broadcast_to([1.0, 0, 0], (4, 5, 3)))


def test_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    written(tmp_path / "a.png", Image.fromarray(RGB))
    assert images.load_image("~/a.png").shape == (6, 9, 3)


# Failures: (what is put at the path, part of the message)

def cut(data):
    return data[:len(data) // 2]


def encoded(kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(x):
    buffer = io.BytesIO()
    Image.fromarray(x).save(buffer, "TIFF")
    return buffer.getvalue()


def damaged_png():
    data = bytearray(encoded("PNG"))
    data[80:400] = bytes(320)
    return bytes(data)


BAD_FILES = {
    "empty.png": (b"", "empty"),
    "text.png": (b"this is not a picture at all", "not a picture"),
    "page.jpg": (b"<html>404</html>", "not a picture"),
    "cut.png": (cut(encoded("PNG")), "damaged or cut short"),
    "cut.jpg": (cut(encoded("JPEG")), "damaged or cut short"),
    "cut.bmp": (cut(encoded("BMP")), "damaged or cut short"),
    "cut.tif": (cut(encoded("TIFF")), "damaged or cut short"),
    "head.png": (encoded("PNG")[:20], ""),
    "zeros.png": (damaged_png(), "damaged or cut short"),
    "nan.tif": (tiff(np.full((4, 4), np.nan, np.float32)), "NaN"),
    "range.tif": (tiff(np.full((4, 4), 255.0, np.float32)), "scale them into [0, 1]"),
    "negative.tif": (tiff(np.full((4, 4), -5, np.int32)), "32-bit integers"),
    "bomb.pgm": (b"P5\n60000 60000\n255\n" + bytes(100), "million pixels"),
    "zero.pgm": (b"P5\n0 4\n255\n", ""),
}


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("load", ["image", "mask"])
def test_bad_files_are_one_line_naming_the_file(tmp_path, name, load):
    data, part = BAD_FILES[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError) as info:
        if load == "image":
            images.load_image(tmp_path / name)
        else:
            images.load_mask(tmp_path / name, size=(64, 64))
    message = one_line(info)
    assert name in message and (part in message or load == "mask")


def test_missing_file_names_the_nearest(tmp_path):
    written(tmp_path / "barbara.png", Image.fromarray(RGB))
    with pytest.raises(UserError, match="barbara.png") as info:
        images.load_image(tmp_path / "barabra.png")
    assert "did you mean" in one_line(info)


@pytest.mark.parametrize("spec, part", [
    ("", "no picture given"), ("no/such/folder/a.png", "does not exist"), ("https://example.org/a.png", "download it"),
    ("builtin:photos/astronuat", "astronaut"), ("builtin:photo/cat", "builtin:photos/cat"),
    ("a\0b.png", "check the path")])
def test_bad_specs(spec, part):
    with pytest.raises(UserError) as info:
        images.load_image(spec)
    assert part in one_line(info)


def test_a_folder_is_not_a_picture(tmp_path):
    with pytest.raises(UserError, match="folder"):
        images.load_image(tmp_path)


def test_no_permission(tmp_path, monkeypatch):
    path = written(tmp_path / "a.png", Image.fromarray(RGB))

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(UserError, match="chmod") as info:
        images.load_image(path)
    assert "a.png" in one_line(info)


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_only_one_or_three_channels(channels):
    with pytest.raises(UserError, match="channels"):
        images.load_image("builtin:photos/cat", channels=channels)


@pytest.mark.parametrize("exif", [b"no TIFF at all", b"Exif\0\0nor here", b"II*\0\x08\0\0\0\xff\xff\x12\x01"])
@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_damaged_exif_is_no_damaged_picture(tmp_path, exif, kind):
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, {"jpg": "JPEG"}.get(kind, kind), **({} if kind == "png" else {"exif": exif}))
    data = buffer.getvalue()
    if kind == "png":
        chunk = b"eXIf" + exif
        block = struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        data = data[:33] + block + data[33:]
    (tmp_path / f"a.{kind}").write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="Corrupt EXIF data", module="PIL")  # as images.py does
        assert images.load_image(tmp_path / f"a.{kind}").shape == (6, 9, 3)
        assert images.header_size(tmp_path / f"a.{kind}") == (6, 9)


def test_a_long_comment_is_no_damage(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * 3_000_000, zip=True)
    Image.fromarray(RGB).save(tmp_path / "a.png", pnginfo=info)
    assert images.load_image(tmp_path / "a.png").shape == (6, 9, 3)


def pgm(pixels):
    return b"P5\n1000 %d\n255\n" % (pixels // 1000)


@pytest.mark.parametrize("million, says", [(100, "cut short"), (210, "cut short"),
                                           (251, "more than 250 million pixels"), (600, "more than 250 million")])
def test_the_limit_is_where_its_line_says(tmp_path, million, says):
    (tmp_path / "a.pgm").write_bytes(pgm(million * 10**6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning if million > 250 else ImportWarning)
        assert million > 250 or images.header_size(tmp_path / "a.pgm") == (million * 1000, 1000)
        with pytest.raises(UserError, match=says):
            (images.header_size if million > 250 else images.load_image)(tmp_path / "a.pgm")


def test_a_dangling_link_names_where_it_leads(tmp_path):
    (tmp_path / "a.png").symlink_to("gone/b.png")
    with pytest.raises(UserError, match=r"a.png is a link to gone/b.png, which is not there; mend the link") as info:
        images.load_image(tmp_path / "a.png")
    assert "did you mean" not in one_line(info)


@pytest.mark.parametrize("top, want", [(200, None), (255, None), (256, 256 / 65535), (40000, 40000 / 65535), (0, 0.0)])
@pytest.mark.parametrize("name, dtype", [("i.tif", np.int32), ("i.tif", np.uint16), ("i.png", np.uint16)])
def test_wide_integers_whose_white_is_not_known(tmp_path, top, want, name, dtype):
    path = written(tmp_path / name, Image.fromarray(np.full((4, 4), top, dtype)))
    if want is None:
        for read in (images.load_image, images.load_pixels):
            with pytest.raises(UserError, match="may mean 8 bits or 16; save it as 8-bit") as info:
                read(path)
            assert name in one_line(info)
    else:
        np.testing.assert_allclose(images.load_image(path), want, atol=1e-7)


# Photographs

def test_bundled_photographs_are_all_readable():
    names = photos.photo_names()
    assert names[0] == "astronaut" and {"cat", "coffee", "camera", "rocket"} <= set(names)
    for name in names + photos.texture_names():
        x = images.load_pixels(f"builtin:photos/{name}")
        assert x.dtype == np.uint8 and x.shape[-1] == 3 and min(x.shape[:2]) >= 256
    np.testing.assert_array_equal(images.load_image("builtin:photos"), images.load_image("builtin:photos/astronaut"))
    np.testing.assert_array_equal(images.load_image("builtin:photos/chelsea"), images.load_image("builtin:photos/cat"))


def test_photographs_equal_those_of_scikit_image():
    import skimage.data

    want = skimage.data.astronaut() / 255.0
    np.testing.assert_allclose(images.load_image("builtin:photos/astronaut"), want, atol=1e-6)


def test_without_scikit_image(monkeypatch):
    photos._folder.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install scikit-image"):
        images.load_image("builtin:photos/cat")
    photos._folder.cache_clear()


# Masks

def test_mask_thresholds_any_mode(tmp_path):
    keep = GREY >= 128
    for name, picture in {"l.png": Image.fromarray(GREY), "one.png": Image.fromarray(keep),
                          "rgb.png": Image.fromarray(np.repeat(GREY[..., None], 3, -1)),
                          "deep.png": Image.fromarray(GREY.astype(np.uint16) * 257)}.items():
        got = images.load_mask(written(tmp_path / name, picture), size=(6, 9))
        assert got.shape == (6, 9, 1) and got.dtype == np.float32
        np.testing.assert_array_equal(got[..., 0], keep)
    np.testing.assert_array_equal(images.load_mask(tmp_path / "l.png", size=(6, 9), invert=True)[..., 0], ~keep)


def test_transparent_mask_pixels_are_holes(tmp_path):
    alpha = (GREY > 128).astype(np.uint8) * 255
    picture = Image.fromarray(np.stack([np.full_like(GREY, 255)] * 3 + [alpha], -1))
    np.testing.assert_array_equal(
        images.load_mask(written(tmp_path / "m.png", picture), size=(6, 9))[..., 0], alpha > 0)


def test_mask_of_another_size_names_both(tmp_path):
    with pytest.raises(UserError) as info:
        images.load_mask(written(tmp_path / "m.png", Image.fromarray(GREY)), size=(9, 6))
    assert "6x9" in one_line(info) and "9x6" in one_line(info)


def test_mask_that_keeps_nothing(tmp_path):
    path = written(tmp_path / "m.png", Image.new("L", (9, 6), 0))
    with pytest.raises(UserError, match="polarity"):
        images.load_mask(path, size=(6, 9))
    assert images.load_mask(path, size=(6, 9), invert=True).all()


# Saving

def test_save_and_load_round_trip(tmp_path):
    path = images.save_image(tmp_path / "new" / "folder" / "a.png", RGB / 255.0)
    np.testing.assert_allclose(images.load_image(path), RGB / 255.0, atol=1e-6)
    images.save_image(path, GREY)  # replaces, uint8, no channel axis
    np.testing.assert_allclose(images.load_image(path, channels=1)[..., 0], GREY / 255.0, atol=1e-6)
    images.save_image(path, np.array([[[-1.0], [2.0], [0.5]]]))
    np.testing.assert_array_equal(images.load_pixels(path, channels=1).ravel(), [0, 255, 128])
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = images.save_image(tmp_path / "a.png", RGB)
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="No space left"):
        images.save_image(path, GREY)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_bad_saves(tmp_path):
    with pytest.raises(UserError, match="png"):
        images.save_image(tmp_path / "a.xyz", RGB)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        images.save_image(tmp_path / "file" / "a.png", RGB)
    with pytest.raises(ValueError, match="NaN"):
        images.save_image(tmp_path / "a.png", np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="wants"):
        images.save_image(tmp_path / "a.png", np.zeros((2, 2, 2)))


# Geometry

def test_center_crop():
    x = np.arange(7 * 10).reshape(7, 10, 1)
    np.testing.assert_array_equal(images.center_crop(x, multiple=4), x[1:5, 1:9])  # 7 -> 4: one above, two below
    np.testing.assert_array_equal(images.center_crop(x, size=(7, 4)), x[:, 3:7])
    np.testing.assert_array_equal(images.center_crop(x, size=3), x[2:5, 3:6])
    np.testing.assert_array_equal(images.center_crop(x), x)
    np.testing.assert_array_equal(images.center_crop(np.stack([x, x]), multiple=4)[1], x[1:5, 1:9])
    for bad in (dict(multiple=8), dict(size=8), dict(size=(3, 11))):
        with pytest.raises(UserError, match="7x10"):
            images.center_crop(x, **bad)


def test_resize_constant_bound_and_mean():
    assert (images.resize_image(np.full((8, 8, 3), 0.3, np.float32), (5, 13)) - 0.3).max() < 1e-6
    edge = np.zeros((8, 8, 1), np.float32)
    edge[:, 4:] = 1
    up = images.resize_image(edge, (32, 32), "lanczos")  # rings beyond [0, 1] without the clip
    assert up.min() == 0 and up.max() == 1 and up.shape == (32, 32, 1)
    x = RNG.random((8, 12, 3), np.float32)
    np.testing.assert_allclose(
        images.resize_image(x, (4, 6), "box"), x.reshape(4, 2, 6, 2, 3).mean((1, 3)), atol=1e-6)


def test_resize_in_eight_bits_is_pillows():
    want = np.asarray(Image.fromarray(RGB).resize((5, 4), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(images.resize_image(RGB, (4, 5)), want)
    np.testing.assert_array_equal(
        images.resize_image(GREY[..., None], (4, 5))[..., 0],
        np.asarray(Image.fromarray(GREY).resize((5, 4), Image.Resampling.LANCZOS)))
    with pytest.raises(UserError, match="lanczos"):
        images.resize_image(RGB, (4, 5), "lanzcos")
    with pytest.raises(UserError, match="0x5"):
        images.resize_image(RGB, (0, 5))


def test_square():
    x = RNG.random((6, 10, 3), np.float32)
    np.testing.assert_array_equal(images.square(x, 6), x[:, 2:8])


# Listing

def test_list_images_is_sorted_and_recursive(tmp_path):
    for name in ("b.png", "a/z.JPG", "a/c.png", ".hidden.png", ".git/x.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [str(p.relative_to(tmp_path)) for p in images.list_images(tmp_path)] == ["a/c.png", "a/z.JPG", "b.png"]


@pytest.mark.parametrize("make, part", [
    (lambda p: p / "nowhere", "does not exist"), (lambda p: p, "no pictures"), (lambda p: p / "f.txt", "is a file")])
def test_list_images_errors(tmp_path, make, part):
    (tmp_path / "f.txt").write_text("x")
    with pytest.raises(UserError, match=part):
        images.list_images(make(tmp_path))
