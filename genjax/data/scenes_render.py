"""Draws scenes: colour as a camera would see it, and the maps that only a drawn picture has.

Letters: S the picture's side, J sub-pixels per pixel, H = S^2 pixels, K light samples per sub-pixel; rays are [J,H]. A
light is sampled at J K places of a (0,2)-sequence, other ones in each sub-pixel and the same in all pixels: soft
shadows without noise. Everything is deterministic. Only outside of rooms do surfaces mirror anything.

Depth is along the camera's axis (t, since directions are not normalised), in units of the world, 0 where there is sky.
Maps are of pixels' centres.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from genjax.data import scenes_shapes as shapes
from genjax.data.scenes_geometry import FAR, Primitives, Vec, lit, nearest, normal_at, times, vec, where
from genjax.data.scenes_scene import Camera, Scene, fields, primitives
from genjax.ops import camera as camera_lib

MAPS = {"depth": (np.float32, ()), "normals": (np.float32, (3,)), "semantic": (np.uint8, ()),
        "instance": (np.uint8, ())}  # name: (dtype, axes after [H,W])
HORIZON = 24.0  # ground beyond is sky
FOG = 9.0  # distance at which the ground has mostly become horizon


@dataclasses.dataclass(frozen=True)
class Hit:
    """What rays see first; every field has the rays' shape.

    Attributes:
      t: distance along d, FAR for sky.
      p, n: the place and its unit normal.
      rgb: albedo; optics: five numbers, see `scenes_shapes`; glow: light of its own.
      instance, semantic: 0 or 1..N; index into `scenes_shapes.CLASSES`.
    """

    t: jax.Array
    p: Vec
    n: Vec
    rgb: Vec
    optics: jax.Array
    glow: Vec
    instance: jax.Array
    semantic: jax.Array


def _smooth(x, low, high):
    x = jnp.clip((x - low) / (high - low), 0, 1)
    return x * x * (3 - 2 * x)


def _hash(x):
    """Something between 0 and 1 for whole numbers."""
    x = x * 0.1031
    x = x - jnp.floor(x)
    x = x * (x + 33.33)
    x = x * (x + x)
    return x - jnp.floor(x)


def sky(scene: Scene, d: Vec) -> Vec:
    """The sky's colour in directions of unit length."""
    up = _smooth(d.z, -0.05, 0.6)
    return vec(scene.sky[1]) * (1 - up) + vec(scene.sky[0]) * up


def _ground(scene: Scene, p: Vec, width) -> Vec:
    """A checkerboard with edges as soft as a pixel's `width` there."""
    s, squares = scene.ground_scale, 1.0
    for x in (p.x, p.y):
        x = x / (2 * s)
        wave = jnp.abs(x - jnp.floor(x) - 0.5) - 0.25  # distance from the next edge, in pairs of squares
        squares = squares * jnp.clip(wave * 2 * s / width, -1, 1)
    squares = squares * (1 - _smooth(width / s, 0.3, 1.0))  # smaller than pixels: their mean
    return vec(scene.ground_rgb[0]) * (0.5 + 0.5 * squares) + vec(scene.ground_rgb[1]) * (0.5 - 0.5 * squares)


def _boards(scene: Scene, p: Vec) -> Vec:
    """A floor of boards along x."""
    s = scene.ground_scale
    row = jnp.floor(p.y / s)
    place = p.x / (6 * s) + _hash(row)
    tint = _hash(row * 7.3 + jnp.floor(place) * 3.1)
    rgb = vec(scene.ground_rgb[0]) * tint + vec(scene.ground_rgb[1]) * (1 - tint)
    gap = jnp.minimum(_smooth(jnp.abs(p.y / s - row - 0.5), 0.5, 0.44), 1.0)
    return rgb * (0.75 + 0.25 * gap)


def _outdoors(scene: Scene, o: Vec, d: Vec):
    """(t, normal, is ground) of the plane."""
    t = (scene.ground - o.z) / jnp.where(d.z < -1e-6, d.z, -1e-6)
    seen = (d.z < -1e-6) & (t > 0) & (t < HORIZON)
    t = jnp.where(seen, t, FAR)
    return t, Vec(jnp.zeros_like(t), jnp.zeros_like(t), jnp.ones_like(t)), seen


def _indoors(scene: Scene, o: Vec, d: Vec):
    """(t, normal, is floor) of the room's inside."""
    back, front, half, top = scene.room[0], scene.room[1], scene.room[2], scene.room[3]

    def leave(o, d, low, high):
        d = jnp.where(jnp.abs(d) < 1e-9, 1e-9, d)
        return (jnp.where(d > 0, high, low) - o) / d

    tx, ty, tz = leave(o.x, d.x, back, front), leave(o.y, d.y, -half, half), leave(o.z, d.z, scene.ground, top)
    t = jnp.minimum(jnp.minimum(tx, ty), tz)
    zero = jnp.zeros_like(t)
    on_x, on_y = t == tx, (t == ty) & (t != tx)
    n = where(on_x, Vec(-jnp.sign(d.x), zero, zero), where(on_y, Vec(zero, -jnp.sign(d.y), zero),
                                                           Vec(zero, zero, -jnp.sign(d.z))))
    return t, n, (t == tz) & ~on_x & ~on_y & (d.z < 0)


def _walls(scene: Scene, p: Vec, n: Vec, floor):
    """(albedo, glow, is window) of a room's inside."""
    side, x, w, h = scene.room[4], scene.room[5], scene.room[6], scene.room[7]
    middle = (scene.ground + scene.room[3]) / 2
    a, b = jnp.abs(p.x - x) / w, jnp.abs(p.z - middle) / h
    there = (n.y * side < -0.5) & (jnp.maximum(a, b) < 1.12)
    bars = (jnp.maximum(a, b) > 1) | (a < 0.05) | (b < 0.06)
    window = there & ~bars
    base = (p.z - scene.ground < 0.07) & ~floor
    white = Vec(0.8, 0.8, 0.78)
    rgb = where(floor, _boards(scene, p), where(there | base, white, vec(scene.room_rgb)))
    bright = vec(scene.sky[1]) * 1.5 + vec(scene.sky[0]) * _smooth(p.z, middle - h, middle + h)
    return rgb, where(window, bright, 0.0), window


def _patterns(scene: Scene, f: dict, here: Vec, n: Vec, rgb: Vec, optics, glow: Vec):
    """What is drawn on primitives: windows of a car, hubs, lamps; books in a shelf."""
    kind = f["pattern"][0]
    width_x = 1 - f["taper"][0] * (1 + here.z) / 2
    width_y = 1 - f["taper"][1] * (1 + here.z) / 2
    a, b = here.x / width_x, here.y / width_y
    ends = jnp.abs(n.x) > jnp.abs(n.y)
    upright = jnp.maximum(jnp.abs(n.x), jnp.abs(n.y)) > jnp.abs(n.z) * 0.5
    if scene.style == "road":
        pane = jnp.where(ends, jnp.abs(b) < 0.86, (jnp.abs(a) < 0.90) & (jnp.abs(a + 0.04) > 0.06))
        glass = (kind == shapes.CABIN) & upright & pane & (here.z > -0.78) & (here.z < 0.74)
        rgb = where(glass, Vec(0.012, 0.016, 0.022), rgb)
        optics = jnp.where(glass, jnp.asarray(shapes.GLASS)[:, None, None], optics)
        ring = here.x * here.x + here.y * here.y
        hub = (kind == shapes.WHEEL) & (jnp.abs(here.z) > 0.98) & (ring < 0.42) & (ring > 0.02)
        rgb = where(hub, Vec(0.45, 0.46, 0.48), rgb)
        body = (kind == shapes.BODY) & upright
        trim = body & (here.z < -0.66)
        grille = body & ends & (here.x > 0) & (jnp.abs(b) < 0.5) & (here.z > -0.5) & (here.z < 0.25)
        rgb = where(trim | grille, Vec(0.02, 0.02, 0.022), rgb)
        lamp = body & ends & (jnp.abs(b) > 0.62) & (jnp.abs(b) < 0.95) & (here.z > 0.0) & (here.z < 0.62)
        front, rear = lamp & (here.x > 0), lamp & (here.x < 0)
        rgb = where(front, Vec(0.85, 0.84, 0.78), where(rear, Vec(0.5, 0.015, 0.01), rgb))
        glow = glow + where(front, Vec(0.35, 0.34, 0.28), where(rear, Vec(0.12, 0.0, 0.0), 0.0))
        optics = jnp.where(trim | grille | lamp, jnp.asarray(shapes.MATT)[:, None, None], optics)
    else:
        boards, books = 4, 9
        x, z = (here.y + 1) / 2 * books, (here.z + 1) / 2 * boards
        row, column = jnp.floor(z), jnp.floor(x)
        inside = (kind == shapes.SHELF) & ends & (here.x > 0) & (z - row > 0.14) & (jnp.abs(here.y) < 0.92)
        seed = column + 17 * row + 5 * f["instance"][0]
        book = inside & (z - row < 0.5 + 0.42 * _hash(seed)) & (_hash(seed * 1.7) > 0.25)
        tint = Vec(_hash(seed * 2.3), _hash(seed * 3.1), _hash(seed * 4.7))
        rgb = where(book, tint * tint * 0.55 + 0.03, where(inside, rgb * 0.22, rgb))
    return rgb, optics, glow


def trace(scene: Scene, prims: Primitives, o: Vec, d: Vec, width: float | jax.Array = 0.003) -> Hit:
    """What rays see first.

    Args:
      scene, prims: `prims` are those of the scene.
      o, d: rays [J,H].
      width: of a pixel, per unit of t.
    """
    t, k = nearest(prims, o, d)
    base_t, base_n, floor = (_indoors if scene.style == "room" else _outdoors)(scene, o, d)
    hit = t < base_t
    t = jnp.where(hit, t, base_t)
    p = o + d * jnp.minimum(t, HORIZON)
    f = fields(_rows_of(prims, k))
    A = f["A"].reshape(3, 3, *t.shape)
    here = times(A, p) + vec(f["b"])
    n = times(A, normal_at(f["box"][0], f["ball"][0], Vec(*f["taper"], None), here), transposed=True).unit()
    rgb, optics, glow = vec(f["rgb"]), f["optics"], Vec(*(jnp.zeros_like(t),) * 3)
    if scene.style != "studio":
        c, s = f["turn"]
        local = Vec(c * n.x + s * n.y, c * n.y - s * n.x, n.z)
        rgb, optics, glow = _patterns(scene, f, here, local, rgb, optics, glow)
    if scene.style == "room":
        base_rgb, base_glow, window = _walls(scene, p, base_n, floor)
        semantic = jnp.where(floor, shapes.GROUND, jnp.where(window, shapes.WINDOW, shapes.WALL))
        glow = where(hit, glow, base_glow)
    else:
        base_rgb = _ground(scene, p, width * jnp.minimum(t, HORIZON) / jnp.maximum(jnp.abs(d.unit().z), 0.05))
        semantic = jnp.where(floor, shapes.GROUND, shapes.SKY)
    matt = jnp.asarray(shapes.MATT)[:, None, None]
    return Hit(t, p, where(hit, n, base_n), where(hit, rgb, base_rgb), jnp.where(hit, optics, matt), glow,
               jnp.where(hit, f["instance"][0], 0.0), jnp.where(hit, f["semantic"][0], semantic))


def _rows_of(prims: Primitives, k: jax.Array) -> jax.Array:
    """Columns k of `prims.rows`: [F,...], 0 where k is -1. A product with ones and zeros: gathers are slow on CPUs."""
    chosen = (jnp.arange(prims.rows.shape[1])[:, None] == k.reshape(1, -1)).astype(jnp.float32)
    return jnp.matmul(prims.rows, chosen, precision="highest").reshape(-1, *k.shape)


def _net(n: int) -> np.ndarray:
    """The first n points of Sobol's (0,2)-sequence, in the middle of their cells: [n,2] in [-1,1]."""
    bits = max(1, int(n - 1).bit_length())
    i = np.arange(n)
    first = sum(((i >> k) & 1) * 2.0 ** -(k + 1) for k in range(bits))
    columns, c = [], 1
    for _ in range(bits):  # the direction numbers of the second dimension: 1, 3, 5, 15, 17, ...
        columns.append(c)
        c ^= c << 1
    second = np.zeros(n, np.int64)
    for k, c in enumerate(columns):
        second ^= np.where((i >> k) & 1, c << (bits - 1 - k), 0)
    middle = 2.0 ** -(bits + 1)
    return 2 * np.stack([first + middle, second / 2.0**bits + middle], -1) - 1


def _samples(scene: Scene, sub: int, counts: tuple[int, ...]) -> tuple[Vec, jax.Array]:
    """Places on the lights: Vec of [K,J,1] with all lights' samples one after another, and whether they are finite."""
    places, finite = [], []
    for number, count in enumerate(counts):
        ab = jnp.asarray(_net(sub * count).reshape(sub, count, 2).transpose(1, 0, 2), jnp.float32)
        centre, u, v = scene.light[number]
        places.append(centre + ab[..., :1] * u + ab[..., 1:] * v)
        finite.append(jnp.full((count, 1, 1), scene.light_finite[number]))
    return vec(jnp.moveaxis(jnp.concatenate(places), -1, 0)[..., None]), jnp.concatenate(finite)


def _shelter(prims: Primitives, hit: Hit):
    """(share of the ambient light that objects nearby leave, colour that they give instead).

    Each primitive of another object hides about as much as a ball would, nearer ones more.
    """
    def body(k, carry):
        open_, colour = carry
        f = fields(prims.rows[:, k])
        here = times(prims.A[k], hit.p) + vec(prims.b[k])
        # Minus the gradient of |A p + b|^2: towards its middle, for a ball exactly.
        towards = (times(prims.A[k], here, transposed=True) * -1.0).unit()
        share = jnp.maximum(towards.dot(hit.n), 0) / jnp.maximum(here.dot(here), 1.0)
        share = jnp.where(f["instance"][0] == hit.instance, 0.0, 0.8 * share)
        return open_ * (1 - share), colour + vec(f["rgb"]) * share

    start = jnp.ones_like(hit.t), Vec(*(jnp.zeros_like(hit.t),) * 3)
    return jax.lax.fori_loop(0, prims.count, body, start)


def _illuminate(scene: Scene, prims: Primitives, hit: Hit, d: Vec, towards: Vec, finite, counts: tuple[int, ...],
                shelter: bool) -> Vec:
    """Light that leaves a surface without being mirrored by it."""
    n, q = hit.n, hit.p + hit.n * 2e-3
    seen = lit(prims, q, towards, finite)  # [K,J,H]
    diffuse, shine, first = Vec(0.0, 0.0, 0.0), Vec(0.0, 0.0, 0.0), 0
    for number, count in enumerate(counts):
        share = seen[first:first + count].mean(0)
        first += count
        is_finite = scene.light_finite[number]
        centre, rgb = scene.light[number, 0], vec(scene.light_rgb[number])
        to = vec(centre) - hit.p * is_finite
        falloff = jnp.where(is_finite > 0, jnp.square(centre).sum() / jnp.maximum(to.dot(to), 0.05), 1.0)
        to = to.unit()
        if scene.style == "room":  # a window gives light to its front, a sun comes in through it
            face = jnp.maximum(to.y * scene.room[4], 0.0) * 1.3
            falloff = jnp.where(is_finite > 0, falloff / (1 + 0.3 * falloff) * face, _through(scene, hit.p, to))
        share = share * falloff
        diffuse = diffuse + rgb * (share * jnp.maximum(n.dot(to), 0))
        glint = jnp.maximum(n.dot((to - d).unit()), 0)
        glint = jnp.square(jnp.square(glint))
        shine = shine + rgb * (share * hit.optics[4] * jnp.square(jnp.square(glint)) * glint)  # ^20
    open_, colour = _shelter(prims, hit) if shelter else (1.0, Vec(0.0, 0.0, 0.0))
    overhead = (vec(scene.sky[0]) + vec(scene.sky[1])) * 0.5
    if scene.style == "room":
        walls = vec(scene.room_rgb) * 0.6 + 0.25
        ambient = walls * (0.42 + 0.10 * n.z + 0.06 * n.x)
    else:
        height = jnp.clip((hit.p.z - scene.ground) * 5 + 0.25, 0, 1)
        bounce = (vec(scene.ground_rgb[0]) + vec(scene.ground_rgb[1])) * (0.25 * height)
        up = 0.5 + 0.5 * n.z
        ambient = overhead * (0.62 * up) + bounce * (1 - up)
    light = ambient * open_ + colour * (0.35 * overhead.dot(Vec(0.3, 0.4, 0.3))) + diffuse
    return hit.rgb * light * hit.optics[0] + shine + hit.glow


def _through(scene: Scene, p: Vec, to: Vec):
    """1 where the straight line from p in direction `to` leaves the room through the window's panes."""
    side, x, w, h = scene.room[4], scene.room[5], scene.room[6], scene.room[7]
    t = (side * scene.room[2] - p.y) / jnp.where(jnp.abs(to.y) < 1e-6, 1e-6, to.y)
    a = jnp.abs(p.x + t * to.x - x) / w
    b = jnp.abs(p.z + t * to.z - (scene.ground + scene.room[3]) / 2) / h
    return ((t > 0) & (a < 1) & (b < 1) & (a > 0.05) & (b > 0.06)).astype(jnp.float32)


def _softbox(scene: Scene, o: Vec, d: Vec, t, counts) -> Vec:
    """What a mirror shows of the lights themselves."""
    seen = Vec(0.0, 0.0, 0.0)
    for number in range(len(counts)):
        centre, u, v = scene.light[number]
        normal = jnp.cross(u, v)
        slope = d.dot(vec(normal))
        reach = (vec(centre) - o).dot(vec(normal)) / jnp.where(jnp.abs(slope) < 1e-9, 1e-9, slope)
        at = o + d * jnp.minimum(reach, HORIZON) - vec(centre)
        a = jnp.abs(at.dot(vec(u))) / jnp.square(u).sum()
        b = jnp.abs(at.dot(vec(v))) / jnp.square(v).sum()
        edge = _smooth(jnp.maximum(a, b), 1.05, 0.8)
        there = (reach > 0) & (reach < t) & (scene.light_finite[number] > 0)
        seen = seen + vec(scene.light_rgb[number]) * jnp.where(there, 2.2 * edge, 0.0)
    return seen


def _fog(scene: Scene, hit: Hit, d: Vec, rgb: Vec) -> Vec:
    """Sky where nothing was hit; the ground fades into it. d is of unit length, t is measured along it."""
    haze = jnp.where(hit.t >= FAR, 1.0, 1 - jnp.exp(-jnp.square(hit.t / FOG)))
    haze = jnp.where(hit.semantic == shapes.GROUND, haze, jnp.where(hit.t >= FAR, 1.0, 0.0))
    return rgb * (1 - haze) + sky(scene, d) * haze


def _radiance(scene: Scene, prims: Primitives, o: Vec, d: Vec, width, counts) -> Vec:
    """Linear light along rays [J,H]."""
    d_unit = d.unit()
    hit = trace(scene, prims, o, d, width)
    towards, finite = _samples(scene, o.x.shape[0], counts)
    rgb = _illuminate(scene, prims, hit, d_unit, towards, finite, counts, True)
    along = jnp.sqrt(d.dot(d))
    far = dataclasses.replace(hit, t=jnp.where(hit.t >= FAR, FAR, hit.t * along))
    if scene.style == "room":
        return rgb
    # One mirrored ray, which sees one sample of the first light.
    cosine = -d_unit.dot(hit.n)
    mirrored = (d_unit + hit.n * (2 * cosine)).unit()
    start = hit.p + hit.n * 2e-3
    second = trace(scene, prims, start, mirrored, 0.02)
    middle = Vec(*(x[None, None, None] for x in scene.light[0, 0]))
    seen = _illuminate(scene, prims, second, mirrored, middle, scene.light_finite[:1, None, None], (1,), False)
    seen = _fog(scene, second, mirrored, seen) + _softbox(scene, start, mirrored, second.t, counts)
    grazing = jnp.clip(1 - cosine, 0, 1)
    rising = jnp.square(jnp.square(grazing)) * grazing * hit.optics[3]
    share = hit.rgb * hit.optics[1] + hit.optics[2]
    share = (share + (share * -1.0 + 1.0) * (0.7 * rising)) * jnp.where(hit.instance > 0, 1.0, 0.0)
    return _fog(scene, far, d_unit, rgb * (1 - 0.5 * rising) + seen * share)


def _develop(rgb: jax.Array) -> jax.Array:
    """Linear light to [0,1], bright parts compressed."""
    over = jnp.maximum(rgb - 0.7, 0) / 0.3
    return jnp.minimum(rgb, 0.7) + 0.3 * over / (1 + over)


def _rays(camera: Camera, places: jax.Array) -> tuple[Vec, Vec]:
    """Rays [J,H] through places [J,H,2] of the image plane."""
    x, y = places[..., 0] / camera.focal, places[..., 1] / camera.focal
    d = times(camera.rotation, Vec(x, y, jnp.full_like(x, -1.0)))
    return Vec(*(jnp.full_like(x, camera.eye[i]) for i in range(3))), d


def _offsets(samples: int) -> np.ndarray:
    """[J,2] places within a pixel of side 2: stratified, and apart from each other on both axes."""
    k = np.arange(samples)
    x, y = np.meshgrid(k, k, indexing="ij")
    n = samples * samples
    across = (x * samples + y + 0.5) / n
    down = (y * samples + (samples - 1 - x) + 0.5) / n
    return np.stack([across, down], -1).reshape(-1, 2) * 2 - 1


def render(scene: Scene, camera: Camera, size: int, maps: tuple[str, ...] = (), samples: int = 2,
           light_samples: tuple[int, ...] = (4, 1)) -> dict[str, jax.Array]:
    """Draws one scene; can be jitted (size, maps and samples fixed) and vmapped.

    Args:
      scene, camera: one of each.
      size: S.
      maps: names out of `MAPS`.
      samples: sub-pixels along each side of a pixel, J = samples^2; 0 = no colour picture, the maps alone.
      light_samples: places per sub-pixel at which each light is looked for.

    Returns:
      {"image": uint8 [S,S,3], "depth": float32 [S,S], 0 for sky, "normals": float32 [S,S,3] in the world, 0 for sky,
      "semantic": uint8 [S,S] into `scenes_shapes.CLASSES`, "instance": uint8 [S,S], 0 or 1 + the object's number}.
    """
    prims = primitives(scene)
    counts = light_samples[:scene.light.shape[0]]
    grid = camera_lib.image_plane(size, size).reshape(1, size * size, 2)
    drawn = _maps(scene, prims, *_rays(camera, grid), size, maps) if maps else {}
    if not samples:
        return drawn
    offsets = jnp.asarray(_offsets(samples), jnp.float32)[:, None] / size * jnp.asarray([1, -1])
    width = 2 / (size * samples) / camera.focal
    rgb = _radiance(scene, prims, *_rays(camera, grid + offsets), width, counts)
    rgb = jnp.stack([_develop(x).mean(0) for x in rgb], -1)
    encoded = jnp.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * jnp.exp(jnp.log(jnp.maximum(rgb, 1e-6)) / 2.4) - 0.055)
    return {"image": jnp.round(255 * jnp.clip(encoded, 0, 1)).astype(jnp.uint8).reshape(size, size, 3), **drawn}


def _maps(scene: Scene, prims: Primitives, o: Vec, d: Vec, size: int, maps) -> dict[str, jax.Array]:
    hit = trace(scene, prims, o, d)
    there = hit.t < FAR
    found = {"depth": lambda: jnp.where(there, hit.t, 0.0),
             "normals": lambda: jnp.stack([jnp.where(there, x, 0.0) for x in hit.n], -1),
             "semantic": lambda: hit.semantic.astype(jnp.uint8), "instance": lambda: hit.instance.astype(jnp.uint8)}
    return {m: (x := found[m]()).reshape(size, size, *x.shape[2:]) for m in maps}


def views(scene: Scene, cameras: Camera, size: int, maps: tuple[str, ...] = (), samples: int = 2,
          light_samples: tuple[int, ...] = (4, 1)) -> dict[str, jax.Array]:
    """One scene by several cameras, whose arrays have a first axis V: what `render` returns, with V in front."""
    return jax.lax.map(lambda c: render(scene, c, size, maps, samples, light_samples), cameras)
