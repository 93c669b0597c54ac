"""What `RestorationSet` says was done to a picture, the masks that it reads, and degradations that it refuses."""


import numpy as np
import pytest

from genjax.core import config as config_lib
from genjax.data import images, masks
from genjax.data.restoration import RestorationSet
from genjax.errors import UserError

RNG = np.random.default_rng(0)


@pytest.fixture
def photo(tmp_path):
    """A picture of 96 x 64 pixels."""
    return str(images.save_image(tmp_path / "photo.png", RNG.uniform(size=(96, 64, 3))))


def mask_file(tmp_path, values, name="mask.png"):
    return str(images.save_image(tmp_path / name, np.asarray(values, np.float32)))


@pytest.mark.parametrize(("kwargs", "shape", "says"), [
    ({}, (96, 64), "kept whole; noise of sigma 25 is added (--config.data.clean=False takes"),
    ({"size": 128}, (96, 64), "kept whole"),  # none is enlarged
    ({"size": 96}, (96, 64), "kept whole"),
    ({"size": 48}, (48, 48), "its middle 64x64, resampled to 48x48 (--config.data.size=0 keeps all)"),
    ({"size": 80}, (64, 64), "its middle 64x64 (--config.data.size=0 keeps all)"),
    ({"size": 48, "clean": False}, (48, 48), "its middle 48x48 (--config.data.size=0 keeps all); taken as"),
    ({"size": 128, "clean": False}, (96, 64), "kept whole; taken as the degraded picture itself"),
    ({"crop_multiple": 60}, (60, 60), "cut to 60x60 (--config.data.crop_multiple=1 keeps all)"),
    ({"crop_multiple": 60, "size": 62}, (60, 60),
     "its middle 64x64, resampled to 62x62, cut to 60x60 (--config.data.size=0 --config.data.crop_multiple=1 keeps"),
    ({"problem": "super_resolution", "factor": 5}, (19, 12), "cut to 95x60; reduced by 5 to 19x12"),
    ({"problem": "super_resolution", "clean": False, "size": 128}, (96, 64), "kept whole; restored at 384x256"),
    ({"problem": "jpeg", "pad": 1}, (98, 66), "kept whole, 1 pixels reflected around; saved as JPEG of quality 10"),
])  # fmt: skip
def test_the_line_says_what_was_cut_and_how_to_keep_all(photo, kwargs, shape, says):
    data = RestorationSet(images=photo, **kwargs)
    assert data.arrays()["observed"].shape == (1, *shape, 3)
    assert says in data.describe() and "\n" not in data.describe()
    if not ("size" in kwargs or "crop_multiple" in kwargs):
        assert "keeps all" not in data.describe()


def test_pictures_alike_are_said_once(tmp_path, photo):
    for name in ("a.png", "b.png"):
        images.save_image(tmp_path / name, RNG.uniform(size=(70, 80, 3)))
    line = RestorationSet(images=f"{tmp_path / 'a.png'},{tmp_path / 'b.png'},{photo}", size=32).describe()
    assert line.startswith("a.png and 1 more of 70x80: its middle 70x70, resampled to 32x32") and line.count("|") == 1
    assert "| photo.png, 96x64: its middle 64x64" in line


def test_the_whole_picture_is_the_configs_default(photo):
    for spec in ("denoise", "jpeg", "inpaint_text", "inpaint_hole:small", "restore", "super_resolution", "flash"):
        data = config_lib.build(config_lib.load(f"dip/{spec}", [f"image={photo}"])).data
        assert data.arrays()["mask"].shape == (1, 96, 64, 1), spec
    small = config_lib.build(config_lib.load("dip/super_resolution:small", [f"image={photo}", "data.clean=False"])).data
    assert small.arrays()["observed"].shape == (1, 96, 64, 3)  # and not its middle 32 x 32


@pytest.mark.parametrize(("arg", "size"), [("", 0), ("small", 128), ("small,size=192", 192), ("size=192", 192),
                                           ("small,size=0", 0)])
@pytest.mark.parametrize("name", ["denoise", "flash", "inpaint_hole", "inpaint_text", "jpeg", "prior_effect", "restore",
                                  "super_resolution"])
def test_size_is_a_structural_argument(name, arg, size):
    assert config_lib.load(f"dip/{name}:{arg}").data.size == size


def test_half_covered_edges_are_part_of_the_hole(tmp_path, photo):
    """As a drawing program leaves them: a black stroke, grey at its edges, on white that JPEG has made uneven."""
    values = np.full((96, 64), 1.0)
    values[40:50, 10:50] = 0
    values[39, 10:50], values[50, 10:50] = 0.6, 0.9
    values[0, :3] = 0.985
    mask = mask_file(tmp_path, values)
    kwargs = {"images": photo, "problem": "inpaint", "mask": mask, "clean": False, "mask_threshold": 0.98}
    for name in ("inpaint_text:small", "inpaint_hole:small", "restore:small"):  # what the configs set
        config = config_lib.load(f"dip/{name}", [f"image={photo}", f"mask={mask}", "data.clean=False"])
        known = config_lib.build(config).data.arrays()["mask"][0, ..., 0] > 0
        np.testing.assert_array_equal(known, values >= 0.98)
    known = RestorationSet(**kwargs).arrays()["mask"][0, ..., 0] > 0
    np.testing.assert_array_equal(known, values >= 0.98)
    half = RestorationSet(**kwargs | {"mask_threshold": 0.5}).arrays()["mask"][0, ..., 0] > 0
    np.testing.assert_array_equal(half, values >= 0.5)
    inverted = RestorationSet(**kwargs, invert_mask=True).arrays()["mask"][0, ..., 0] > 0
    np.testing.assert_array_equal(inverted, values <= 0.02)


def test_holes_grow_by_pixels(tmp_path, photo):
    values = np.ones((96, 64))
    values[40, 30] = 0
    mask = mask_file(tmp_path, values)
    kwargs = {"images": photo, "problem": "inpaint", "mask": mask, "clean": False}
    hole = 1 - RestorationSet(**kwargs, mask_dilate=2).arrays()["mask"][0, ..., 0]
    y, x = np.mgrid[:96, :64]
    np.testing.assert_array_equal(hole, (y - 40) ** 2 + (x - 30) ** 2 <= 4)
    assert "hole is what is black in mask.png, 0.2% of the picture after growing by 2" in RestorationSet(
        **kwargs, mask_dilate=2).describe()
    assert masks.dilate_holes(np.ones((3, 3, 1), np.float32), 2).all()  # nothing grows from no hole


def test_the_side_of_the_hole_is_said_and_doubted_where_it_is_most(tmp_path, photo, caplog):
    values = np.ones((96, 64))
    values[40:60] = 0
    kwargs = {"images": photo, "problem": "inpaint", "mask": mask_file(tmp_path, values)}
    said = RestorationSet(**kwargs).describe()
    assert "black in mask.png, 20.8% of the picture (--config.data.invert_mask=True for the other side)" in said
    said = RestorationSet(**kwargs, invert_mask=True).summary().notes[-1]  # the line of the log and of the report
    assert "white in mask.png, 79.2% of the picture; warning: this hides most of the picture" in said
    assert "--config.data.invert_mask=False" in said and said.count("hides most") == 1
    drawn = RestorationSet(images=photo, problem="inpaint", mask="bernoulli:0.1")
    assert "warning" not in drawn.describe()  # asked for
    assert not caplog.records  # nothing is said a second time


@pytest.mark.parametrize(("kwargs", "says"), [
    ({"mask": "text", "clean": False}, "mask=text is drawn by genjax and does not know where .* --config.mask=FILE"),
    ({"mask": "hole:0.2", "clean": False}, "mask=hole:0.2 is drawn"),
    ({"mask": "bernoulli:0.999999"}, "bernoulli:0.999999 hides nothing, so there is nothing to restore"),
    ({"mask": "bernoulli:0.000001"}, "bernoulli:0.000001 hides the whole picture; give one that keeps something"),
    ({"mask": "hole:0.5", "mask_dilate": 50}, "hides the whole picture after growing by 50"),
    ({"mask": "{white}"}, "white.png hides nothing, so there is nothing"), ({"mask": "{black}"}, "polarity"),
    ({"mask": "{black}", "invert_mask": True}, "hides nothing"), ({"mask": "{white}", "invert_mask": True}, "polarity"),
    ({"mask": "{edge}", "size": 32, "clean": False}, "hides nothing of the middle that is kept.* or size=0 to keep"),
    ({"mask": "{white}", "size": 32, "clean": False}, "white.png hides nothing, so there is nothing .*=True.$"),
    ({"mask": "{grey}", "mask_threshold": 0.98}, "brightest is 0.78, and known from 0.98 on; set mask_threshold=0.75"),
    ({"mask": "{white}", "mask_dilate": -1}, "mask_dilate"), ({"mask": "{white}", "mask_threshold": 0.0}, "threshold"),
    ({"mask": "{white}", "mask_threshold": 1.5}, "mask_threshold=1.5: above 0"),
    ({"problem": "denoise", "sigma": 0.0}, "sigma=0 adds no noise"), ({"problem": "denoise", "sigma": np.inf}, "sigma"),
    ({"problem": "super_resolution", "factor": 1}, "factor=1 enlarges nothing"),
    ({"problem": "super_resolution", "factor": 1, "clean": False}, "factor=1 enlarges nothing"),
    ({"problem": "super_resolution", "factor": 100}, "smaller than one multiple of 100 .*factor=100"),
    ({"problem": "denoise", "jpeg_quality": 50}, "jpeg_quality=50 is only read by problem=jpeg, not denoise"),
    ({"problem": "jpeg", "sigma": 50.0}, "sigma=50.0 is only read by problem=denoise and flash"),
    ({"problem": "denoise", "factor": 2}, "factor=2 is only read"), ({"problem": "jpeg", "mask": "text"}, "mask=text"),
    ({"problem": "denoise", "invert_mask": True}, "invert_mask=True is only read by problem=inpaint"),
    ({"problem": "denoise", "mask_dilate": 2}, "mask_dilate=2 is only read"),
])  # fmt: skip
def test_what_restores_nothing_is_refused_in_one_line(tmp_path, photo, kwargs, says):
    edge = np.ones((96, 64))
    edge[:5] = 0
    for name, values in {"white": np.ones((96, 64)), "black": np.zeros((96, 64)), "edge": edge,
                         "grey": np.full((96, 64), 0.78)}.items():
        mask_file(tmp_path, values, f"{name}.png")
    mask = kwargs.get("mask", "")
    kwargs = {**kwargs, "mask": str(tmp_path / f"{mask[1:-1]}.png")} if mask.startswith("{") else kwargs
    with pytest.raises(UserError, match=says) as info:
        RestorationSet(images=photo, **{"problem": "inpaint", **kwargs}).arrays()
    assert "\n" not in str(info.value)


def test_nothing_is_written_for_a_damaged_picture_without_its_mask(tmp_path, photo, monkeypatch, capsys):
    import launch

    monkeypatch.chdir(tmp_path)
    code = launch.one_line(["train", "--config", "dip/inpaint_text:small", f"--config.image={photo}",
                            "--config.data.clean=False"])
    said = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and len(said) == 1 and "give --config.mask=FILE, black where it is" in said[0]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("missing", [0, 100, -5])
def test_per_cents_that_are_none(missing):
    with pytest.raises(UserError, match=f"missing={missing}: per cent of the pixels, from 1 to 99"):
        config_lib.load(f"dip/restore:missing={missing}")
