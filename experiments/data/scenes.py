"""Contact sheet of the drawn scenes: pictures of every preset, and all that is known of some of them.

Needs no training. CLEVR (Johnson et al. 2017, arXiv:1612.06890) is what `two` and `two_to_five` look like, in the world
of GIRAFFE (Niemeyer and Geiger 2021, 2011.12100); nothing is compared with either.
"""

import time

import numpy as np

from genjax.core.figure import FigureRun
from genjax.data.scenes import CLASSES, MAPS, PRESETS, Scenes
from genjax.data.scenes_shapes import PALETTE
from genjax.viz.grid import Panel, image_grid, sheet


def colours(numbers: np.ndarray, of: int) -> np.ndarray:
    """Whole numbers 0..of-1 as uint8 colours far from each other, 0 black: [...,3]."""
    table = [(0, 0, 0), *PALETTE.values(), *((255 - r, 255 - g, 255 - b) for r, g, b in PALETTE.values())]
    table += [tuple((c + 128) % 256 for c in rgb) for rgb in table[1:]]
    return np.asarray(table[:of], np.uint8)[numbers]


def shown(batch: dict, k: int, words: str) -> list[Panel]:
    """A picture, its caption and its maps as panels."""
    depth, there = batch["depth"][k], batch["depth"][k] > 0
    near = 1 / np.maximum(depth, 1e-6)
    low, high = near[there].min(), near[there].max()
    grey = np.where(there, 0.15 + 0.85 * (near - low) / max(high - low, 1e-6), 0)
    normals = np.where(there[..., None], 0.5 + 0.5 * batch["normals"][k], 0)
    return [Panel(batch["image"][k], "picture", words), Panel(grey, "1 / depth"), Panel(normals, "normals"),
            Panel(colours(batch["semantic"][k], len(CLASSES)), "semantic"),
            Panel(colours(batch["instance"][k], 17), "instance")]


def run(fig: FigureRun) -> None:
    """Draws a page per preset, and the maps of one scene of each."""
    size, columns, rows = fig.by_scale((16, 2, 1), (128, 8, 3), (256, 8, 6))
    presets = fig.by_scale(("two",), tuple(PRESETS), tuple(PRESETS))
    details = []
    for name in presets:
        data = Scenes(name, columns * rows, size, tuple(MAPS), value_range=(0, 1), prefetch=0)
        batch = data.batch(0)
        fig.picture(name, image_grid(batch["image"], columns, scale=fig.by_scale(8, 1, 1)),
                    f"{name}: {PRESETS[name].about}")
        fig.row(name, "pixels that show an object [%]", 100 * float((batch["instance"] > 0).mean()), None)
        details.append(shown(batch, 0, data.captions(0, 0, 1)[0]))
        if fig.scale != "smoke":
            fast = Scenes(name, batch_size=32, image_size=64)
            fast.batch(0)  # compiles, and fills the queue
            fast.batch(1), fast.batch(2)
            began = time.perf_counter()
            for i in range(3, 13):
                fast.batch(i)
            fig.row(name, "pictures of 64 x 64 per second", 320 / (time.perf_counter() - began), 100,
                    relation="at_least", source="2 cores", judge=False)
    fig.picture("maps", sheet(details, row_labels=presets, panel_height=max(160, size)),
                "What is known of the first scene of each preset")
    fig.note("Depth is along the camera's axis; black is sky in all maps.")
