"""Videos read back frame by frame."""

import builtins

import numpy as np
import pytest
from PIL import Image, ImageSequence

from genjax.errors import UserError
from genjax.viz.video import save_video


def frames(n=6):
    return [np.full((9, 12, 3), i / n, np.float32) for i in range(n)]


def test_gif_holds_frames_times_and_repeats(tmp_path):
    path = save_video(tmp_path / "x.gif", frames(), fps=30)
    with Image.open(path) as gif:
        shown = [(np.asarray(f.convert("RGB")), f.info["duration"]) for f in ImageSequence.Iterator(gif)]
        assert gif.info["loop"] == 0
    assert sum(d for _, d in shown) == 200  # 6 frames at 30 per second, in whole hundredths
    for (got, _), want in zip(shown, frames(), strict=True):
        np.testing.assert_allclose(got, want * 255, atol=1)
    assert [p.name for p in tmp_path.iterdir()] == ["x.gif"]


def test_mp4_without_ffmpeg_names_the_install_command(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "imageio_ffmpeg":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="pip install imageio-ffmpeg"):
        save_video(tmp_path / "x.mp4", frames())
    assert not list(tmp_path.iterdir())


def test_mp4(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = save_video(tmp_path / "x.mp4", [np.full((33, 48, 3), i / 6) for i in range(6)], fps=10)
    reader = ffmpeg.read_frames(str(path))
    meta = next(reader)
    shown = [np.frombuffer(f, np.uint8) for f in reader]
    assert meta["size"] == (48, 34) and len(shown) == 6
    np.testing.assert_allclose([f.mean() for f in shown], [i / 6 * 255 for i in range(6)], atol=6)


@pytest.mark.parametrize(
    "name, pictures, fps, word",
    [
        ("x.avi", frames(), 10, "gif or .mp4"),
        ("x.gif", [], 10, "at least one"),
        ("x.gif", [np.zeros((4, 4)), np.zeros((4, 5))], 10, "differ in size"),
        ("x.gif", frames(), 60, "50"),
        ("x.gif", frames(), 0, "fps"),
    ],
)
def test_bad_calls_are_one_clear_line_and_write_nothing(tmp_path, name, pictures, fps, word):
    with pytest.raises(UserError, match=word):
        save_video(tmp_path / name, pictures, fps)
    assert not list(tmp_path.iterdir())
