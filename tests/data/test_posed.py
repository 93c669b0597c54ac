"""Posed pictures: the rays of pixels, batches, held-out views, both file formats, and refusals."""

import json

import numpy as np
import pytest
from PIL import Image

from genjax.data.posed import PosedImages
from genjax.errors import UserError
from genjax.ops.camera import image_plane, rays


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    poses = np.tile(np.eye(4, dtype=np.float32), (6, 1, 1))
    poses[:, :3, :3] = np.linalg.qr(rng.normal(size=(6, 3, 3)))[0]
    poses[:, :3, 3] = rng.normal(size=(6, 3))
    return {"images": rng.integers(0, 256, (6, 4, 5, 4)).astype(np.uint8), "poses": poses, "focal": np.float32(7)}


@pytest.fixture
def npz(tmp_path, arrays):
    np.savez(tmp_path / "views.npz", **arrays)
    return f"npz:{tmp_path / 'views.npz'}"


def test_rays_are_those_of_the_camera(npz, arrays):
    data = PosedImages(npz, batch_size=8, holdout=3, background=0.0)
    assert (len(data.train), len(data.test)) == (4, 2) and len(data) == 4 * 20
    np.testing.assert_array_equal(data.test.eye, arrays["poses"][[2, 5], :3, 3])
    assert data.train.focal == pytest.approx(2.8), "7 pixels are 2.8 half widths of 5"
    o, d, colour = data.train.rays(np.arange(80))
    for k, v in enumerate((0, 1, 3, 4)):
        want = rays(image_plane(4, 5).reshape(-1, 2), 2.8, arrays["poses"][v, :3, :3], arrays["poses"][v, :3, 3])
        np.testing.assert_allclose(o[20 * k:20 * k + 20], want[0], atol=1e-6)
        np.testing.assert_allclose(d[20 * k:20 * k + 20], want[1], atol=1e-5)
        x = arrays["images"][v] / np.float32(255)
        np.testing.assert_allclose(colour[20 * k:20 * k + 20], (x[..., :3] * x[..., 3:]).reshape(-1, 3), atol=1e-6)


def test_batches_are_a_function_of_seed_and_step(npz):
    a, b = (PosedImages(npz, batch_size=8, holdout=3) for _ in range(2))
    whole, part = a.batch(5), b.batch(5, 2, 6)
    assert {k: v.shape for k, v in whole.items()} == {k: s.shape for k, s in a.element_spec.items()}
    for k in whole:
        np.testing.assert_array_equal(whole[k][2:6], part[k])
    assert not np.array_equal(whole["image"], a.batch(6)["image"])
    assert not np.array_equal(whole["image"], PosedImages(npz, batch_size=8, holdout=3, seed=1).batch(5)["image"])


def test_a_share_of_the_rays_comes_from_what_is_solid(tmp_path, arrays):
    arrays["images"][..., 3] = 0
    arrays["images"][:, 1, 2, 3] = 200  # one pixel of each view
    np.savez(tmp_path / "views.npz", **arrays)
    data = PosedImages(f"npz:{tmp_path}/views.npz", batch_size=40, holdout=3, solid=0.75)
    white = (data.batch(3)["image"] == 1).all(-1)
    assert not white[:30].any() and white[30:].any()
    np.testing.assert_array_equal(data.batch(3, 20, 35)["image"], data.batch(3)["image"][20:35])
    with pytest.raises(UserError, match="share of the rays"):
        PosedImages(f"npz:{tmp_path}/views.npz", solid=1.5)


def test_a_folder_in_nerfs_format_equals_the_arrays(npz, tmp_path, arrays):
    frames = []
    for i, (x, pose) in enumerate(zip(arrays["images"], arrays["poses"], strict=True)):
        Image.fromarray(x).save(tmp_path / f"r_{i}.png")
        frames.append({"file_path": f"./r_{i}", "transform_matrix": pose.tolist()})
    meta = {"camera_angle_x": 2 * np.arctan(1 / 2.8), "frames": frames}
    (tmp_path / "transforms_train.json").write_text(json.dumps(meta))
    one = PosedImages(f"folder:{tmp_path}", batch_size=8, holdout=3, background=0.5).batch(0)
    other = PosedImages(npz, batch_size=8, holdout=3, background=0.5).batch(0)
    for k in one:
        np.testing.assert_allclose(one[k], other[k], atol=1e-5)
    (tmp_path / "transforms_test.json").write_text(json.dumps({**meta, "frames": frames[:2]}))
    whole = PosedImages(f"folder:{tmp_path}", batch_size=8, holdout=0)
    assert (len(whole.train), len(whole.test)) == (6, 2)


@pytest.mark.parametrize("change, says", [
    ({"poses": np.zeros((6, 3, 3))}, "poses"), ({"images": np.zeros((6, 4, 5, 3))}, "float64"),
    ({"focal": None}, "no 'focal'")])
def test_refused_files(tmp_path, arrays, change, says):
    np.savez(tmp_path / "bad.npz", **{k: v for k, v in {**arrays, **change}.items() if v is not None})
    with pytest.raises(UserError, match=says):
        PosedImages(f"npz:{tmp_path / 'bad.npz'}", holdout=3)


@pytest.mark.parametrize("source, holdout, says", [
    ("npz:absent.npz", 3, "cannot read absent.npz"), ("folder:absent", 3, "no transforms.json"),
    ("pictures", 3, "unknown source of posed pictures"), ("views", 9, "leaves none for evaluation")])
def test_refused_sources(npz, source, holdout, says):
    with pytest.raises(UserError, match=says):
        PosedImages(npz if source == "views" else source, holdout=holdout)
