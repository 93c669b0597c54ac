"""Text on images: one font for every sheet, measured, wrapped and drawn with Pillow.

The font is DejaVu Sans, which every matplotlib brings along, so that sheets and curves match and "σ = 25, ×4
→ 1" has its glyphs; Pillow's own default font, which has little beyond ASCII, is the fallback.
"""

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont


@lru_cache(maxsize=16)
def font(size: int, bold: bool = False):
    """The font at `size` pixels."""
    try:
        import matplotlib

        name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
        return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
    except (ImportError, OSError):
        return ImageFont.load_default(size)


def line_height(size: int) -> int:
    """Pixels from one baseline to the next."""
    return round(size * 1.4)


def width(text: str, size: int, bold: bool = False) -> int:
    """Pixels a line of text takes."""
    return int(font(size, bold).getlength(text) + 0.999)


def wrap(text: str, room: int, size: int, bold: bool = False) -> list[str]:
    """Breaks `text` into lines of at most `room` pixels, at spaces where that is possible, else inside a
    word.
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            while width(word, size, bold) > room and len(word) > 1:  # longer than a line by itself
                cut = next((i for i in range(len(word) - 1, 1, -1) if width(word[:i], size, bold) <= room), 1)
                if line:
                    lines.append(line)
                    line = ""
                lines.append(word[:cut])
                word = word[cut:]
            joined = f"{line} {word}" if line else word
            if line and width(joined, size, bold) > room:
                lines.append(line)
                line = word
            else:
                line = joined
        lines.append(line)
    return lines if text.strip() else []
