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


@pytest.mark.parametrize("h, w", [(10, 20), (20, 10)])
def test_the_focal_length_of_pictures_whose_middle_square_is_taken(tmp_path, h, w):
    """A pixel of the square looks where it looked in the whole picture."""
    poses, meta = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1)), {"camera_angle_x": 2 * np.arctan(w / 2 / 10)}
    x = np.random.default_rng(0).integers(0, 256, (2, h, w, 3)).astype(np.uint8)
    np.savez(tmp_path / "views.npz", images=x, poses=poses, focal=np.float32(10))
    for i in range(2):
        Image.fromarray(x[i]).save(tmp_path / f"{i}.png")
    meta["frames"] = [{"file_path": f"{i}.png", "transform_matrix": p.tolist()} for i, p in enumerate(poses)]
    (tmp_path / "transforms.json").write_text(json.dumps(meta))
    whole = PosedImages(f"npz:{tmp_path}/views.npz", holdout=2).train
    d = whole.rays(np.arange(h * w))[1].reshape(h, w, 3)[(h - 10) // 2:, (w - 10) // 2:][:10, :10]
    for source in (f"npz:{tmp_path}/views.npz", f"folder:{tmp_path}"):
        square = PosedImages(source, holdout=2, image_size=10).train
        assert square.focal == pytest.approx(2.0), "10 pixels are two half sides of 10"
        np.testing.assert_allclose(square.rays(np.arange(100))[1].reshape(10, 10, 3), d, atol=1e-6)


def test_one_angle_is_not_for_pictures_of_different_ratios(tmp_path):
    for i, size in enumerate(((8, 8), (12, 8))):
        Image.new("RGB", size).save(tmp_path / f"{i}.png")
    frames = [{"file_path": f"{i}.png", "transform_matrix": np.eye(4).tolist()} for i in range(2)]
    (tmp_path / "transforms.json").write_text(json.dumps({"camera_angle_x": 1.0, "frames": frames}))
    with pytest.raises(UserError, match="different ratios"):
        PosedImages(f"folder:{tmp_path}", holdout=2, image_size=8)


def test_the_first_batches_come_from_the_middle(tmp_path, arrays):
    arrays["images"] = np.zeros((6, 8, 12, 3), np.uint8)
    arrays["images"][:, 2:6, 3:9] = 255
    np.savez(tmp_path / "views.npz", **arrays)
    data = PosedImages(f"npz:{tmp_path}/views.npz", batch_size=200, holdout=3, middle_steps=2)
    for i, middle in enumerate((True, True, False)):
        x = data.batch(i)
        assert (x["image"] == 1).all() == middle
        np.testing.assert_array_equal(data.batch(i, 20, 30)["direction"], x["direction"][20:30])
    x = data.batch(0)
    assert len(np.unique(np.concatenate([x["origin"], x["direction"]], -1), axis=0)) > 70, "of 4 views' 24 pixels"


@pytest.mark.parametrize("change, says", [
    ({"poses": np.zeros((6, 3, 3))}, "poses"), ({"images": np.zeros((6, 4, 5, 3))}, "float64"),
    ({"focal": None}, "no 'focal'"), ({"focal": np.ones(6)}, r"focal \[6\] is to be one number"),
    ({"focal": np.float32(0)}, "above 0"), ({"cx": np.float32(3)}, "has 'cx'"),
    ({"poses": np.full((6, 4, 4), np.nan)}, "view 0 holds NaN"), ({"images": np.zeros((0, 4, 5, 3), np.uint8),
                                            "poses": np.zeros((0, 4, 4))}, r"uint8\[0, 4, 5, 3\]")])
def test_refused_files(tmp_path, arrays, change, says):
    np.savez(tmp_path / "bad.npz", **{k: v for k, v in {**arrays, **change}.items() if v is not None})
    with pytest.raises(UserError, match=says):
        PosedImages(f"npz:{tmp_path / 'bad.npz'}", holdout=3)


def test_refused_kinds_of_files(tmp_path, arrays):
    np.savez(tmp_path / "views.npz", **arrays)
    whole = (tmp_path / "views.npz").read_bytes()
    np.save(tmp_path / "x.npy", arrays["poses"])
    for name, content in (("short", whole[:len(whole) // 2]), ("broken", whole[:150] + b"x" * 40 + whole[190:]),
                          ("none", b""), ("text", b"PK\3\4 no zip"), ("x.npy", None)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"{name} (as npz|holds one array)"):
            PosedImages(f"npz:{tmp_path / name}", holdout=3)


@pytest.mark.parametrize("change, says", [
    ({"frames": []}, "0 frames"), ({"camera_angle_x": 0.0}, "an angle between"),
    ({"frames": [{"file_path": "a", "transform_matrix": np.eye(3).tolist()}]}, r"matrices \[3, 3\]")])
def test_refused_folders(tmp_path, change, says):
    good = {"camera_angle_x": 1.0, "frames": [{"file_path": "a", "transform_matrix": np.eye(4).tolist()}]}
    (tmp_path / "transforms.json").write_text(json.dumps({**good, **change}))
    with pytest.raises(UserError, match=says):
        PosedImages(f"folder:{tmp_path}", holdout=3)


def pictures(folder, meta, h=12, w=20, frame=None):
    """A folder of two views of h x w with a transforms.json."""
    folder.mkdir(exist_ok=True)
    for i in range(2):
        Image.new("RGB", (w, h), (i, 0, 0)).save(folder / f"{i}.png")
    frames = [{"file_path": f"{i}.png", "transform_matrix": np.eye(4).tolist(), **(frame or {})} for i in range(2)]
    (folder / "transforms.json").write_text(json.dumps({"frames": frames, **meta}))
    return f"folder:{folder}"


@pytest.mark.parametrize("size", [0, 6])
@pytest.mark.parametrize("small", [1, 2])
def test_a_whole_pinhole_camera(tmp_path, size, small):
    """fl_x, fl_y, cx, cy as instant-ngp writes them, of pictures as large as they say or smaller copies."""
    meta = {"fl_x": 24.0, "fl_y": 30.0, "cx": 11.0, "cy": 5.0, "w": 20, "h": 12, "aabb_scale": 4, "k1": 0.0,
            "distortion_params": [0, 0.0], "rolling_shutter": [0, 0], "b1": 0, "is_fisheye": False,
            "camera_model": "OPENCV"}
    h, w = 12 // small, 20 // small
    views = PosedImages(pictures(tmp_path, meta, h, w), holdout=2, image_size=size).train
    side = min(h, w)
    rows, columns, left = (size, size, (w - side) / 2) if size else (h, w, 0)
    per = (side / size if size else 1) * small  # pixels of the camera's own picture in one of these
    row, column = (v.reshape(-1) for v in np.indices((rows, columns)))
    x, y = ((column + 0.5) * per + left * small - 11) / 24, -((row + 0.5) * per - 5) / 30
    d = views.rays(np.arange(rows * columns))[1]
    np.testing.assert_allclose(d, np.stack([x, y, -np.ones_like(x)], -1), atol=1e-6)
    assert views.notes == ("not read: aabb_scale",)


def test_a_camera_in_the_middle_is_the_one_of_its_angle_alone(tmp_path):
    whole = {"camera_angle_x": 2 * np.arctan(10 / 24), "fl_x": 24.0, "fl_y": 24.0, "cx": 10.0, "cy": 6.0}
    a, b = (PosedImages(pictures(tmp_path / name, m), holdout=2).train.rays(np.arange(240))[1]
            for name, m in (("a", whole), ("b", {"camera_angle_x": whole["camera_angle_x"]})))
    np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("meta, frame, says", [
    ({"k1": 0.1}, {}, "k1=0.1, and lenses that distort"), ({"p2": -0.01}, {}, "undistort"),
    ({"b1": 0.1}, {}, "b1=0.1, and"), ({"distortion_params": [0, 0.1]}, {}, r"distortion_params=\[0, 0.1\]"),
    ({"rolling_shutter": [0.0, 0.0, 1.0]}, {}, "rolling_shutter="), ({}, {"dist_coeffs": {"k": [1]}}, "dist_coeffs"),
    ({"intrinsic_matrix": np.eye(3).tolist()}, {}, "intrinsic_matrix, which is not read: write it as fl_x"),
    ({"fl_x": [20.0, 20.0]}, {}, r"'fl_x' is to be one number, not \[20"), ({}, {"cx": "wide"}, "'cx' is to be one"),
    ({"camera_model": "OPENCV_FISHEYE"}, {}, "OPENCV_FISHEYE"), ({"is_fisheye": True}, {}, "is_fisheye"),
    ({}, {"k1": 0.2}, "k1=0.2"), ({}, {"mask_path": "m.png"}, "alpha channel"),
    ({"fl_x": 50.0}, {}, "fl_x=50 and camera_angle_x=0.8 disagree"), ({"fl_x": -3.0}, {}, "above 0"),
    ({"w": 30, "h": 12}, {}, "describes pictures of 30 x 12"), ({"cx": 31.0}, {}, "lie outside"),
    ({"camera_angle_x": None}, {}, "neither camera_angle_x nor fl_x"),
    ({"camera_angle_y": 4.0}, {}, "between 0 and pi"),
    ({}, {"transform_matrix": [[float("nan")] * 4] * 4}, "camera of 0.png holds NaN"),
    ({"frames": [{"file_path": f"{i}.png", "transform_matrix": np.eye(4).tolist(), "fl_x": 20.0 + i}
                 for i in range(2)]}, {}, "'fl_x' differs from frame to frame"),
    ({"frames": [{"file_path": f"{i}.png", "transform_matrix": np.eye(4).tolist(), "time": i}
                 for i in range(2)]}, {}, "a scene that moves")])
def test_cameras_that_cannot_be_used(tmp_path, meta, frame, says):
    with pytest.raises(UserError, match=says) as info:
        PosedImages(pictures(tmp_path, {"camera_angle_x": 0.8, **meta}, frame=frame), holdout=2)
    assert "transforms.json" in str(info.value) and "\n" not in str(info.value)


def test_posed_summary(tmp_path, npz):
    source = pictures(tmp_path / "d", {"camera_angle_x": 0.8}, frame={"depth_file_path": "d.png"})
    (tmp_path / "d" / "transforms_test.json").write_text((tmp_path / "d" / "transforms.json").read_text())
    line = PosedImages(source, holdout=2).summary().line()
    assert line.startswith("2 posed views of 12x20 (height x width), from") and str(tmp_path / "d") in line
    assert "1 of them held out" in line and "not read: depth_file_path" in line and "transforms_test.json" in line
    assert [n for n, _ in PosedImages(source, holdout=2).listing()] == ["transforms.json", "0.png", "1.png"]
    line = PosedImages(source, holdout=2, image_size=6).summary().line()
    assert "views of 12x20" in line and "middle square resampled to 6x6" in line
    assert "6 posed views of 4x5" in PosedImages(npz, holdout=3).summary().line()


@pytest.mark.parametrize("source, how, says", [
    ("npz:absent.npz", {}, "cannot read absent.npz"), ("folder:absent", {}, "no transforms.json"),
    ("pictures", {}, "unknown source of posed pictures"), ("views", {"holdout": 9}, "leaves none for evaluation"),
    ("views", {"holdout": 1}, "leaves none for training"), ("views", {"seed": -1}, "data.seed=-1"),
    ("builtin:scenes/one", {"scene": -1}, "data.scene=-1")])
def test_refused_sources(npz, source, how, says):
    with pytest.raises(UserError, match=says):
        PosedImages(npz if source == "views" else source, **{"holdout": 3, **how})
