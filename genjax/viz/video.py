"""Videos of equally large frames: GIF with Pillow alone, MP4 where imageio-ffmpeg is installed."""

import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genjax.errors import UserError
from genjax.viz.atomic import replacing
from genjax.viz.grid import to_uint8

GIF_FASTEST = 50  # frames per second; browsers play anything faster at 10


def save_video(path: str | Path, frames: Sequence[Any], fps: float = 20.0) -> Path:
    """Writes frames as a video; the suffix of `path`, .gif or .mp4, chooses the form.

    A GIF has 256 colours per frame and times in hundredths of a second; it repeats for ever. An MP4 is H.264
    in yuv420p, which every browser plays; an odd height or width gets one repeated row or column. The file
    appears under its name only when it is whole.

    Args:
      path: where to write.
      frames: images of one size (float in [0,1] or uint8, grey or RGB), at least one; an array [T,H,W,C] too.
      fps: frames per second.

    Returns:
      The path.

    Raises:
      UserError: another suffix, no frames, unequal sizes, a rate the form cannot hold, imageio-ffmpeg
        missing.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".gif", ".mp4"):
        raise UserError(f"cannot write {path.name!r} as a video; end its name with .gif or .mp4")
    if not 0 < fps < float("inf"):
        raise UserError(f"fps must be positive, not {fps}")
    if suffix == ".gif" and fps > GIF_FASTEST:
        raise UserError(f"a GIF holds at most {GIF_FASTEST} frames/s, not {fps:g}; lower fps or write .mp4")
    pictures = [to_uint8(frame) for frame in frames]
    if not pictures:
        raise UserError("a video needs at least one frame")
    sizes = {p.shape[:2] for p in pictures}
    if len(sizes) > 1:
        raise UserError(f"frames differ in size: {sorted(sizes)}; crop or resize them to one size")
    (_gif if suffix == ".gif" else _mp4)(path, pictures, fps)
    return path


def save_film(stem: str | Path, frames: Sequence[Any], fps: float = 20.0) -> Path:
    """Writes frames as STEM.mp4 where imageio-ffmpeg is installed, as STEM.gif elsewhere; see `save_video`.

    A file of the other form that an earlier call left is removed.
    """
    kind, other = (".mp4", ".gif") if importlib.util.find_spec("imageio_ffmpeg") else (".gif", ".mp4")
    stem = Path(stem)
    path = save_video(stem.with_name(stem.name + kind), frames, fps)
    stem.with_name(stem.name + other).unlink(missing_ok=True)
    return path


def _gif(path: Path, pictures: list[np.ndarray], fps: float) -> None:
    first, *rest = [Image.fromarray(p).quantize(256) for p in pictures]
    # Times of the frames' starts, rounded; their differences add up to the true length (30 fps is 3.33
    # hundredths).
    starts = (np.round(np.arange(len(pictures) + 1) * 100 / fps) * 10).astype(int)
    times = np.diff(starts).tolist()
    with replacing(path) as temporary:
        first.save(temporary, "gif", save_all=True, append_images=rest, duration=times, loop=0)


def _mp4(path: Path, pictures: list[np.ndarray], fps: float) -> None:
    try:
        import imageio_ffmpeg
    except ImportError:
        raise UserError("MP4 needs ffmpeg: pip install imageio-ffmpeg, or end the name with .gif") from None
    height, width = pictures[0].shape[:2]
    even = ((0, height % 2), (0, width % 2), (0, 0))
    size = (width + width % 2, height + height % 2)
    with replacing(path) as temporary:
        # quality 8 of 10 is visually clean; macro_block_size 1: we made the sides even, 16 would rescale.
        writer = imageio_ffmpeg.write_frames(str(temporary), size, fps=fps, quality=8, macro_block_size=1,
                                             ffmpeg_log_level="error")
        with warnings.catch_warnings():  # JAX warns of forks; this one runs another program at once
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            writer.send(None)
        try:
            for picture in pictures:
                writer.send(np.ascontiguousarray(np.pad(picture, even, mode="edge")))
        finally:
            writer.close()
