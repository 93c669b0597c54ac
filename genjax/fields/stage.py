"""The dials of `play` on a run of GIRAFFE: the camera, how many objects, each one's pose, shape and appearance.

Poses are shares of the priors' ranges, 0 to 1, and may go a little beyond them. A camera that was the same in all of
training has dials too, for a narrow range around where it was.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from genjax.core.play import Dial, Stage
from genjax.fields.giraffe import Scene

SEEDS = 99
AROUND = 0.05  # of u and v, where training had one value


def around(camera: Any) -> tuple[Any, list[Dial]]:
    """A camera prior whose u and v are ranges, and a dial for the share of each; v stays within [0,1]."""
    ranges, dials = {}, []
    for field, name, least, most in (("u", "azimuth", -math.inf, math.inf), ("v", "elevation", 0.0, 1.0)):
        low, high = getattr(camera, field)
        one, wider = low == high, 0.25
        if one:
            low, high, wider, value = max(low - AROUND, least), min(high + AROUND, most), 0.0, low
        start = (value - low) / (high - low) if one else 0.5
        ends = max(-wider, (least - low) / (high - low)), min(1 + wider, (most - low) / (high - low))
        first, last = math.ceil(100 * ends[0] - 1e-6) / 100, math.floor(100 * ends[1] + 1e-6) / 100
        dials.append(Dial(name, first, last, start, 0.01, "camera"))
        ranges[field] = (low, high)
    return dataclasses.replace(camera, **ranges), dials


def make(task: Any, variables: dict[str, Any], most: int = 4) -> Stage:
    """The stage of a task with a snapshot's variables, for up to `most` objects (or the prior's, if those are more)."""
    k = max(task.boxes.boxes, most)
    dials = [Dial("objects", 0, k, task.boxes.boxes, 1, "scene"), Dial("background", 0, SEEDS, 0, 1, "scene"),
             Dial("temperature", 0, 1.5, 0.65, 0.05, "scene")]
    camera, seen = around(task.camera)
    dials += seen
    for i in range(k):
        group, y = f"object {i + 1}", (i + 0.5) / task.boxes.boxes if i < task.boxes.boxes else 0.5
        poses = [Dial(f"depth_{i}", -0.5, 1.5, 0.5 if i < task.boxes.boxes else 1.0, 0.01, group),
                 Dial(f"sideways_{i}", -0.5, 1.5, y, 0.01, group), Dial(f"turn_{i}", 0, 1, 0.5, 0.01, group),
                 Dial(f"scale_{i}", 0, 1, 0.5, 0.01, group), Dial(f"shape_{i}", 0, SEEDS, i, 1, group),
                 Dial(f"appearance_{i}", 0, SEEDS, i, 1, group)]
        dials += [dataclasses.replace(d, needs=("objects", i + 1)) for d in poses]

    @jax.jit
    def codes(seeds, stream):
        def one(seed):
            return jax.random.normal(jax.random.fold_in(jax.random.key(stream), seed), (task.code,))

        return jax.vmap(one)(seeds)

    @jax.jit
    def back(seed):
        return jax.random.normal(jax.random.fold_in(jax.random.key(2), seed), (2, 1, task.background_code))

    def draw(v: Mapping[str, float]) -> np.ndarray:
        def each(name):
            return np.array([v[f"{name}_{i}"] for i in range(k)], np.float32)

        t, behind = v["temperature"], back(np.int32(v["background"]))
        centre = np.stack([each("depth"), each("sideways"), np.full(k, 0.5, np.float32)], -1)
        boxes = task.boxes.place(np.repeat(each("scale")[:, None], 3, 1), centre, each("turn"),
                                 present=np.arange(k) < v["objects"])
        eye, rotation, focal = camera.at(np.float32(v["azimuth"]), np.full(1, v["elevation"], np.float32),
                                         np.float32(0.5))
        scene = Scene(t * codes(each("shape").astype(int), 0)[None], t * codes(each("appearance").astype(int), 1)[None],
                      t * behind[0], t * behind[1], boxes, eye, rotation, focal, np.zeros(1, np.float32))
        return np.clip(task.images(variables, scene)[0], 0, 1)

    return Stage(tuple(dials), draw)
