"""What `sample RUN --control NAME` offers on a run of GIRAFFE: objects turned, moved, recoloured, added; the camera.

Letters as in `genjax.fields.giraffe`; n scenes, T frames of a film. Every function takes the task, a snapshot's
variables and a key; pictures are in [0,1]. Paths, shares of the priors' ranges, temperature and numbers of frames are
those of the authors' renderings. Each returns a strip, a row of six for each scene, and a film of all scenes.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from genjax.core import rng as rng_lib
from genjax.errors import UserError
from genjax.fields.boxes import Boxes
from genjax.fields.giraffe import Scene
from genjax.ops.interpolate import slerp
from genjax.viz.grid import image_grid

Pictures = dict[str, np.ndarray]
STRIP = 6  # pictures in a row


def offered(task: Any) -> dict[str, Callable[..., Pictures]]:
    """The controls that a task's priors leave something to do for."""
    every = (add_objects, appearance, background, camera_elevation, circular, depth_translation,
             horizontal_translation, layers, object_rotation, shape)
    missing = withheld(task)
    return {f.__name__: functools.partial(f, task) for f in every if f.__name__ not in missing}


def withheld(task: Any) -> dict[str, str]:
    """Why the other controls are not offered."""
    b, missing = task.boxes, {}
    x, y = (low == high for low, high in zip(b.centre_min[:2], b.centre_max[:2], strict=True))
    if b.rotation[0] == b.rotation[1]:
        missing["object_rotation"] = "this run's objects have one rotation"
    if x:
        missing["depth_translation"] = "this run's objects have one place along x"
    if y:
        missing["horizontal_translation"] = "this run's objects have one place along y"
    if x or y:
        missing |= dict.fromkeys(("circular", "add_objects"), "this run's objects do not move along both x and y")
    if task.camera.v[0] == task.camera.v[1]:
        missing["camera_elevation"] = "this run's camera has one elevation"
    if task.generator.background is None:
        missing["background"] = "this run's generator has no background"
    return missing


# ---------------------------------------------------------------- parts


def still(task: Any, rng: jax.Array, n: int, temperature: float = 0.65, objects: int = 0) -> Scene:
    """n scenes with the codes of samples 0 .. n-1 times the temperature; boxes and camera in the middle of their
    ranges, boxes at their smallest, as the authors render. `objects`: so many codes, 0 for the prior's K."""
    scene = jax.tree.map(np.asarray, task.draw(rng_lib.per_item(rng, n)))
    k = objects or task.boxes.boxes
    if k > task.boxes.boxes:
        keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(rng_lib.per_item(rng, n))
        more = np.asarray(jax.vmap(lambda key: jax.random.normal(key, (2, k, task.code)))(keys))
        scene = scene.replace(shape=more[:, 0], appearance=more[:, 1])
    scene = scene.replace(shape=scene.shape[:, :k], appearance=scene.appearance[:, :k])
    return _tempered(scene, temperature).replace(boxes=placed(task, n, k), **_camera(task, n))


def _tempered(scene: Scene, temperature: float) -> Scene:
    """The scene with its codes times the temperature."""
    return scene.replace(**{f: temperature * getattr(scene, f)
                            for f in ("shape", "appearance", "background_shape", "background_appearance")})


def placed(task: Any, n: int, k: int, centre: Any = 0.5, angle: Any = 0.5, scale: float = 0.0,
           present: Any = None) -> Boxes:
    """Boxes at shares of the prior's ranges, of n scenes: centre [3] or [K,3], angle a number or [K]."""
    boxes = task.boxes.place(np.full((k, 3), scale), np.broadcast_to(np.asarray(centre, np.float32), (k, 3)),
                             np.broadcast_to(np.asarray(angle, np.float32), (k,)), n, present)
    return jax.tree.map(np.asarray, boxes)


def _camera(task, n, v=0.5):
    eye, rotation, focal = (np.asarray(x) for x in task.camera.at(0.5, np.full(n, v, np.float32), 0.5))
    return {"eye": eye, "rotation": rotation, "focal": focal}


def film(task: Any, variables: dict[str, Any], frames: list[Scene]) -> np.ndarray:
    """[T,n,H,W,3] of T scenes of n each."""
    every = jax.tree.map(lambda *v: np.concatenate([np.asarray(x) for x in v]), *frames)
    x = np.clip(task.images(variables, every, batch=16), 0, 1)
    return x.reshape(len(frames), -1, *x.shape[1:])


def _pictures(name, x, turning=False, back=False, each=1):
    """{NAME: the strip, NAME_film: all scenes beside each other}; `turning`: the end is the beginning; `back`: the film
    goes there and back again; `each`: frames that a picture stays."""
    last = len(x) - max(1, len(x) // STRIP) if turning else len(x) - 1
    at = np.linspace(0, last, STRIP).astype(int)
    scale = max(1, 96 // x.shape[3])
    strip = image_grid(list(x[at].swapaxes(0, 1).reshape(-1, *x.shape[2:])), STRIP, scale=scale)
    film = np.stack([image_grid(list(frame), min(len(frame), 5), scale=scale) for frame in x]) / 255.0
    film = film.repeat(each, 0)
    return {name: strip, f"{name}_film": np.concatenate([film, film[::-1]]) if back else film}


def _steps(steps, least=2):
    if steps < least:
        raise UserError(f"--control.steps must be at least {least}, got {steps}")
    return np.linspace(0, 1, steps)


def _boxed(task, scene, path, others=(0.5, 0.5, 0.0), angle=0.5):
    """The scene once for each centre of the path, where the last box is; of the others the first is at `others`, more
    in a row behind it; all at one share of the turns."""
    n, k = len(scene.eye), task.boxes.boxes
    rest = [np.array([others[0] - 0.4 * i, *others[1:]]) for i in range(k - 1)]
    return [scene.replace(boxes=placed(task, n, k, np.stack([*rest, p]), angle)) for p in path]


def _last(task, scene, rng, path):
    """The scene with the boxes that were drawn for it, all of them there, once for each centre of the path, where the
    last box is."""
    drawn = jax.tree.map(np.asarray, task.draw(rng_lib.per_item(rng, len(scene.eye))).boxes)
    frames = []
    for p in path:
        at = placed(task, 1, 1, p).centre[0, 0]
        centre = np.concatenate([drawn.centre[:, :-1], np.broadcast_to(at, drawn.centre[:, -1:].shape)], 1)
        frames.append(scene.replace(boxes=drawn.replace(centre=centre, present=np.ones_like(drawn.present))))
    return frames


# ---------------------------------------------------------------- controls


def object_rotation(task: Any, variables: dict, rng: jax.Array, *, n: int = 4, steps: int = 32,
                    temperature: float = 0.65) -> Pictures:
    """Objects turn about themselves through the range of the prior; a full circle takes twice the steps."""
    full = task.boxes.rotation == (0.0, 1.0)
    t = _steps(2 * steps if full else steps)
    scene, k = still(task, rng, n, temperature), task.boxes.boxes
    centre = np.array([[0.5, 0.5, 0.5]]) if k == 1 else _apart(k)
    frames = [scene.replace(boxes=placed(task, n, k, centre, s)) for s in (t if full else 0.1 + 0.8 * t)]
    return _pictures("object_rotation", film(task, variables, frames), turning=full, back=not full)


def _apart(k):
    """Shares of centres [k,3] beside each other (the authors turn single objects only)."""
    y = (np.arange(k) + 0.5) / k
    return np.stack([np.full(k, 0.5), y, np.full(k, 0.5)], -1)


def camera_elevation(task: Any, variables: dict, rng: jax.Array, *, n: int = 4, steps: int = 32,
                     temperature: float = 0.65) -> Pictures:
    """The camera rises through the middle four fifths of its range."""
    scene, k = still(task, rng, n, temperature), task.boxes.boxes
    scene = scene.replace(boxes=placed(task, n, k, _apart(k)))
    frames = [scene.replace(**_camera(task, n, 0.1 + 0.8 * s)) for s in _steps(steps)]
    return _pictures("camera_elevation", film(task, variables, frames))


def depth_translation(task: Any, variables: dict, rng: jax.Array, *, n: int = 4, steps: int = 32,
                      temperature: float = 0.65) -> Pictures:
    """One object comes nearer along x; others stay."""
    y = 0.5 if task.boxes.boxes == 1 else 0.2
    path = [(s, y, 0.0) for s in _steps(steps)]
    frames = _boxed(task, still(task, rng, n, temperature), path, others=(0.4, 0.8, 0.0))
    return _pictures("depth_translation", film(task, variables, frames), back=True)


def horizontal_translation(task: Any, variables: dict, rng: jax.Array, *, n: int = 4, steps: int = 32,
                           temperature: float = 0.65) -> Pictures:
    """One object moves along y, from left to right; others stay."""
    x = 0.5 if task.boxes.boxes == 1 else 1.0
    frames = _boxed(task, still(task, rng, n, temperature), [(x, s, 0.0) for s in _steps(steps)])
    return _pictures("horizontal_translation", film(task, variables, frames), back=True)


def circular(task: Any, variables: dict, rng: jax.Array, *, n: int = 4, steps: int = 32,
             temperature: float = 0.65) -> Pictures:
    """One object goes round in a circle; others stay (more than one other: wherever they were drawn)."""
    turn = 2 * np.pi * _steps(steps)
    path = [(0.5 + 0.5 * np.cos(a), 0.5 + 0.5 * np.sin(a), 0.0) for a in turn]
    scene = still(task, rng, n, temperature)
    frames = _boxed(task, scene, path, angle=0.0) if task.boxes.boxes <= 2 else _last(task, scene, rng, path)
    return _pictures("circular", film(task, variables, frames), turning=True)


def _through(task, variables, rng, n, codes, steps, temperature, fields, name):
    """Closed walks through `codes` draws of some of the scene's codes, along great circles."""
    scene, k = still(task, rng, n, temperature), task.boxes.boxes
    if k > 1:
        scene = scene.replace(boxes=placed(task, n, k, _apart(k)))
    if codes < 2:
        raise UserError(f"--control.codes must be at least 2, got {codes}")
    if not temperature > 0:
        raise UserError(f"--control.temperature must be above 0, got {temperature}: codes of length 0 point nowhere")
    stops = [temperature * np.asarray(jax.random.normal(jax.random.fold_in(rng, 2**31 + 8 * i + j), v.shape))
             for i in range(codes) for j, v in enumerate(getattr(scene, f) for f in fields)]
    stops = [stops[i * len(fields):(i + 1) * len(fields)] for i in range(codes)]
    frames = []
    for a, b in zip(stops, stops[1:] + stops[:1], strict=True):
        for s in _steps(steps):
            mixed = {f: np.asarray(slerp(u, v, s)) for f, u, v in zip(fields, a, b, strict=True)}
            frames.append(scene.replace(**mixed))
    return _pictures(name, film(task, variables, frames), turning=True)


def appearance(task: Any, variables: dict, rng: jax.Array, *, n: int = 4, codes: int = 6, steps: int = 32,
               temperature: float = 0.65) -> Pictures:
    """Objects change their appearance code along a closed walk; shapes and poses stay."""
    return _through(task, variables, rng, n, codes, steps, temperature, ("appearance",), "appearance")


def shape(task: Any, variables: dict, rng: jax.Array, *, n: int = 4, codes: int = 6, steps: int = 32,
          temperature: float = 0.65) -> Pictures:
    """Objects change their shape code along a closed walk; appearances and poses stay."""
    return _through(task, variables, rng, n, codes, steps, temperature, ("shape",), "shape")


def background(task: Any, variables: dict, rng: jax.Array, *, n: int = 4, codes: int = 6, steps: int = 32,
               temperature: float = 0.65) -> Pictures:
    """The background changes its appearance code along a closed walk; its shape and the objects stay."""
    return _through(task, variables, rng, n, codes, steps, temperature, ("background_appearance",), "background")


ADDED = {  # the authors' places, shares of the prior's ranges; shares of scale and turn; how many come at a time
    "cars": ([(x, y, 0.0) for x in (-0.7, 1.5) for y in (-0.8, 0.5, 1.8)], -1.0, 0.5, 1),
    "clevr": ([(x, y, 0.0) for y in (0.0, 0.5, 1.0) for x in (0.2, 0.8)], 0.0, 0.0, 1),
    "clevr10": ([(x, y + more, 0.0) for y in (0.0, 0.8) for x in (0.0, 0.5, 1.0) for more in (0.0, 0.4)], 0.0, 0.0, 2),
}
ADDED_FRAMES = 128 // 6  # that each stays


def add_objects(task: Any, variables: dict, rng: jax.Array, *, n: int = 4, layout: str = "",
                temperature: float = 0.65) -> Pictures:
    """Objects are added, more than there were in training; layout cars, clevr, or clevr10 (twelve, two at a time)."""
    name = layout or ("cars" if task.boxes.boxes == 1 else "clevr")
    if name not in ADDED:
        raise UserError(f"--control.layout={layout}: choose one of {', '.join(ADDED)}")
    centres, scale, angle, each = ADDED[name]
    k = len(centres)
    scene = still(task, rng, n, temperature, k).replace(**_camera(task, n, 0.0))
    # A share of -1 makes the smallest box smaller still by the width of its range, where that leaves anything of it.
    low, high = (np.asarray(v) for v in (task.boxes.scale_min, task.boxes.scale_max))
    if (low + scale * (high - low) <= 1e-3 * low).any():
        scale = 0.0
    frames = [scene.replace(boxes=placed(task, n, k, centres, angle, scale, np.arange(k) < i))
              for i in range(each, k + 1, each)]
    return _pictures("add_objects", film(task, variables, frames), back=True, each=ADDED_FRAMES)


def layers(task: Any, variables: dict, rng: jax.Array, *, n: int = 4, temperature: float = 1.0) -> Pictures:
    """Samples taken apart: the image, its depth (near is bright), each object's opacity, and the background's share."""
    scene = _tempered(jax.tree.map(np.asarray, task.draw(rng_lib.per_item(rng, n))), temperature)
    x = film(task, variables, [scene])[0]
    v = task.volumes(variables, scene)
    near, far = task.generator.near, task.generator.far
    depth = v.depth + np.maximum(1 - v.seen.sum(1), 0) * far  # what a ray leaves the scene with is far away
    depth = (np.clip(depth, near, far) - near) / (far - near)
    low, high = depth.min((1, 2), keepdims=True), depth.max((1, 2), keepdims=True)
    maps = [1 - (depth - low) / np.maximum(high - low, 1e-6), *v.objects.swapaxes(0, 1)]
    if task.generator.background is not None:
        maps.append(v.seen[:, -1])
    size = x.shape[1] // v.depth.shape[1]
    maps = [np.repeat(np.clip(m, 0, 1).repeat(size, 1).repeat(size, 2)[..., None], 3, -1) for m in maps]
    names = ["image", "depth", *(f"object {i + 1}" for i in range(v.objects.shape[1])), "background"][:1 + len(maps)]
    rows = np.stack([x, *maps], 1)
    return {"layers": image_grid(list(rows.reshape(-1, *x.shape[1:])), len(maps) + 1, column_labels=names,
                                 scale=max(1, 96 // x.shape[2]))}

