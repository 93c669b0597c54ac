"""RestorationSet: the arrays of each problem against the steps that make them, and its one-line errors."""

import numpy as np
import pytest
from PIL import Image

from genjax.data import degradations, images, masks
from genjax.data.restoration import RestorationSet
from genjax.errors import UserError

CAT = images.load_image("builtin:photos/cat")  # 300 x 451


def write(path, x):
    Image.fromarray(x).save(path)
    return str(path)


@pytest.fixture
def pair(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        write(tmp_path / f"{name}.png", rng.integers(0, 256, (40, 70, 3), np.uint8))
    return tmp_path


def test_denoise():
    data = RestorationSet(images="builtin:photos/cat", sigma=25.0, seed=3, crop_multiple=32)
    got = data.arrays()
    clean = images.center_crop(CAT, multiple=32)
    np.testing.assert_array_equal(got["clean"], clean[None])
    assert clean.shape == (288, 448, 3)
    np.testing.assert_array_equal(got["observed"][0], degradations.add_gaussian_noise(clean, 25, (3, 0)))
    assert got["mask"].shape == (1, 288, 448, 1) and got["mask"].all()
    assert all(v.dtype == np.float32 for v in got.values())


def test_jpeg_and_grey():
    got = RestorationSet(images="builtin:photos/cat", problem="jpeg", jpeg_quality=7, channels=1, size=64).arrays()
    clean = images.square(images.load_image("builtin:photos/cat", channels=1), 64)
    np.testing.assert_array_equal(got["observed"][0], degradations.jpeg(clean, 7))


@pytest.mark.parametrize("factor", [4, 8])
def test_super_resolution(factor):
    got = RestorationSet(images="builtin:photos/cat", problem="super_resolution", factor=factor,
                         crop_multiple=32).arrays()
    assert got["clean"].shape == (1, 288, 448, 3) and got["mask"].shape == (1, 288, 448, 1)
    np.testing.assert_array_equal(got["observed"][0], degradations.downscale(got["clean"][0], factor))


def test_super_resolution_by_an_odd_factor_crops_to_both():
    got = RestorationSet(images="builtin:photos/cat", problem="super_resolution", factor=3, crop_multiple=32).arrays()
    assert got["clean"].shape == (1, 288, 384, 3) and got["observed"].shape == (1, 96, 128, 3)


def test_super_resolution_of_a_small_picture_without_truth():
    got = RestorationSet(images="builtin:photos/cat", problem="super_resolution", clean=False,
                         crop_multiple=32).arrays()
    assert "clean" not in got and got["observed"].shape == (1, 296, 448, 3) and got["mask"].shape == (1, 1184, 1792, 1)
    sized = RestorationSet(images="builtin:photos/cat", problem="super_resolution", clean=False, size=128).arrays()
    assert sized["mask"].shape == (1, 512, 512, 1)
    np.testing.assert_array_equal(sized["observed"], got["observed"][:, 84:212, 160:288])  # cut, never resampled
    whole = RestorationSet(images="builtin:photos/cat", problem="jpeg", clean=False, size=512, crop_multiple=1).arrays()
    assert whole["observed"].shape == (1, 300, 451, 3)


@pytest.mark.parametrize("spec", ["text", "bernoulli:0.5", "hole:0.25"])
def test_inpaint_with_drawn_masks(spec):
    got = RestorationSet(images="builtin:photos/cat", problem="inpaint", mask=spec, size=64, seed=2).arrays()
    np.testing.assert_array_equal(got["mask"][0], masks.make_mask(spec, 64, 64, (2, 0)))
    np.testing.assert_array_equal(got["observed"], got["clean"] * got["mask"])


def test_inpaint_with_mask_files(pair):
    keep = np.random.default_rng(1).random((40, 70)) > 0.3
    mask = write(pair / "m.png", keep)
    kwargs = dict(images=str(pair / "a.png"), problem="inpaint", crop_multiple=32)
    got = RestorationSet(mask=mask, **kwargs).arrays()
    np.testing.assert_array_equal(got["mask"][0, ..., 0], keep[4:36, 3:67])  # cropped as its picture
    inverse = RestorationSet(mask=mask, invert_mask=True, **kwargs).arrays()
    np.testing.assert_array_equal(inverse["mask"], 1 - got["mask"])
    sized = RestorationSet(mask=mask, size=32, **kwargs).arrays()["mask"]
    assert sized.shape == (1, 32, 32, 1) and set(np.unique(sized)) == {0, 1}
    spoilt = RestorationSet(mask=mask, clean=False, **kwargs).arrays()
    assert set(spoilt) == {"observed", "mask"}
    np.testing.assert_array_equal(spoilt["observed"], got["observed"])


def test_padding_comes_after_the_crop():
    photo = "builtin:photos/astronaut"
    got = RestorationSet(images=photo, problem="inpaint", mask="bernoulli:0.5", pad=1, channels=1).arrays()
    assert got["clean"].shape == (1, 514, 514, 1) and got["mask"].shape == (1, 514, 514, 1)
    np.testing.assert_array_equal(got["clean"][0, 0, 1:-1], got["clean"][0, 2, 1:-1])  # reflection
    plain = RestorationSet(images=photo, channels=1, crop_multiple=0).arrays()
    np.testing.assert_array_equal(got["clean"][:, 1:-1, 1:-1], plain["clean"])


def test_flash(pair):
    a, b = str(pair / "a.png"), str(pair / "b.png")
    got = RestorationSet(images=a, problem="flash", guide=b, crop_multiple=0).arrays()
    assert set(got) == {"observed", "mask", "guide"}
    np.testing.assert_array_equal(got["observed"][0], images.load_image(pair / "a.png"))
    np.testing.assert_array_equal(got["guide"][0], images.load_image(pair / "b.png"))


def test_flash_without_photographs_makes_a_stand_in():
    got = RestorationSet(images="builtin:photos/cat", problem="flash", size=64, sigma=10.0).arrays()
    flash = images.square(CAT, 64)
    np.testing.assert_array_equal(got["guide"][0], flash)
    np.testing.assert_array_equal(got["clean"][0], degradations.without_flash(flash))
    np.testing.assert_array_equal(got["observed"][0], degradations.add_gaussian_noise(got["clean"][0], 10, (0, 0)))
    assert got["clean"].mean() < 0.6 * flash.mean()
    red_over_blue = got["clean"][..., 0].mean() / got["clean"][..., 2].mean()
    assert red_over_blue > 1.5 * flash[..., 0].mean() / flash[..., 2].mean()


def test_clean_false_adds_nothing(pair):
    got = RestorationSet(images=str(pair / "a.png"), clean=False, crop_multiple=0).arrays()
    assert set(got) == {"observed", "mask"}
    np.testing.assert_array_equal(got["observed"][0], images.load_image(pair / "a.png"))


def test_several_pictures(pair):
    a, b = str(pair / "a.png"), str(pair / "b.png")
    by_list = RestorationSet(images=f"{a},{b}", crop_multiple=0)
    for other in (RestorationSet(images=(a, b), crop_multiple=0), RestorationSet(images=str(pair), crop_multiple=0)):
        np.testing.assert_array_equal(other.arrays()["observed"], by_list.arrays()["observed"])
        assert other.names == ("a", "b") and other.batch_size == len(other) == 2
    one = RestorationSet(images=b, crop_multiple=0).arrays()["observed"][0]
    assert (by_list.arrays()["observed"][1] != one).any()  # its place in the set seeds its noise
    drawn = RestorationSet(images=str(pair), problem="inpaint", mask="bernoulli:0.5").arrays()["mask"]
    assert (drawn[0] != drawn[1]).any()


def test_names_are_unique(pair):
    write(pair / "a-2.png", np.zeros((8, 8, 3), np.uint8))
    (pair / "more").mkdir()
    for name in ("a.png", "a.bmp"):
        write(pair / "more" / name, np.zeros((8, 8, 3), np.uint8))
    assert RestorationSet(images=str(pair)).names == ("a-2", "a", "b", "a-3", "a-4")
    photo = "builtin:photos/cat"
    assert RestorationSet(images=f"{photo},{photo},{photo}").names == ("cat", "cat-2", "cat-3")


def test_a_picture_is_not_enlarged_beyond_memory(pair):
    with pytest.raises(UserError, match="40x70 picture enlarged by factor=1000 has more than 250 million pixels"):
        RestorationSet(images=str(pair / "a.png"), problem="super_resolution", factor=1000, clean=False,
                       crop_multiple=0).arrays()


def test_a_path_may_hold_a_comma(pair):
    (pair / "a.png").rename(pair / "x,y.png")
    assert RestorationSet(images=str(pair / "x,y.png")).names == ("x,y",)


def test_it_is_a_batch_that_never_changes(pair):
    data = RestorationSet(images=str(pair), size=32)
    first = data.batch(0)
    assert data.constant and data.element_spec.keys() == first.keys()
    assert all((s.shape, s.dtype) == (first[k].shape, first[k].dtype) for k, s in data.element_spec.items())
    for k, v in data.batch(7).items():
        np.testing.assert_array_equal(v, first[k])
        np.testing.assert_array_equal(data.batch(3, 1, 2)[k], v[1:])
    for k, v in RestorationSet(images=str(pair), size=32).arrays().items():
        np.testing.assert_array_equal(v, first[k])
    with pytest.raises(ValueError, match="batch"):
        data.batch(0, 1, 3)


@pytest.mark.parametrize("kwargs, part", [
    (dict(problem="denoising"), "'denoise'"), (dict(problem="inpaint"), "needs a mask"), (dict(mask="text"), "inpaint"),
    (dict(problem="flash", clean=False), "guide"), (dict(guide="a.png"), "flash"), (dict(sigma=-1.0), "sigma"),
    (dict(sigma=float("nan")), "sigma"), (dict(jpeg_quality=0), "quality"), (dict(factor=0), "factor"),
    (dict(channels=4), "channels"), (dict(size=-1), "size"),
    (dict(size=100_000), "size=100000: at most 8192"), (dict(pad=-1), "pad"), (dict(seed=-1), "seed")])
def test_bad_settings_show_at_construction(kwargs, part):
    with pytest.raises(UserError, match=part) as info:
        RestorationSet(**kwargs)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("kwargs, part", [
    (dict(images=""), "no picture"), (dict(images="builtin:photos/catt"), "'cat'"), (dict(images="no.png"), "no.png"),
    (dict(images="builtin:photos/cat,builtin:photos/coffee"), "300x451.* set size=256"),
    (dict(size=16, crop_multiple=32), "crop_multiple=32"),
    (dict(problem="inpaint", mask="txet"), "'text'"), (dict(problem="inpaint", mask="no.png"), "no.png"),
    (dict(problem="inpaint", mask="text", invert_mask=True), "invert_mask"),
    (dict(problem="inpaint", mask="text,text"), "2 masks"), (dict(size=32, pad=32), "pad=32"),
    (dict(problem="flash", guide="builtin:photos/cat"), "same frame"),
    (dict(problem="flash", guide="builtin:photos/cat,builtin:photos/cat"), "2 guides")])
def test_bad_files_show_when_read(kwargs, part):
    with pytest.raises(UserError, match=part) as info:
        RestorationSet(**kwargs).arrays()
    assert "\n" not in str(info.value)


def test_mask_file_of_another_size_names_both(pair):
    mask = write(pair / "small.png", np.full((20, 35), 255, np.uint8))
    with pytest.raises(UserError) as info:
        RestorationSet(images=str(pair / "a.png"), problem="inpaint", mask=mask).arrays()
    assert "20x35" in str(info.value) and "40x70" in str(info.value)
