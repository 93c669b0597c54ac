"""What scenes are made of: colours, materials, shapes and the primitives they are unions of.

A shape lives in its own box [-1,1]^3, x to the front, y to the left, z up; an object's half sizes scale it. A primitive
is a quadric (ellipsoid, elliptic cylinder) or a box that may get narrower upwards, again in a box of its own: the unit
ball, the unit cylinder along z, or the cube whose half sides shrink by the factor 1 - taper from bottom to top.

`TABLE` holds every shape's primitives as arrays [S,M,...] with S shapes of at most M primitives, so that a scene's
primitives are one gather, whatever its objects are.
"""

import dataclasses

import numpy as np

# Colours as sRGB in 0..255. The names are those of CLEVR (Johnson et al. 2017, arXiv:1612.06890); the values are ours.
PALETTE = {"gray": (120, 122, 126), "red": (196, 38, 38), "blue": (40, 84, 212), "green": (38, 142, 56),
           "brown": (140, 86, 42), "purple": (134, 56, 190), "cyan": (52, 188, 200), "yellow": (238, 196, 44)}
COLOURS = tuple(PALETTE)
# How light leaves a surface: diffuse share; share reflected straight on, in the object's colour and in white; whether
# that grows at grazing angles; strength of the highlight of a rough surface.
MATERIALS = ("rubber", "metal", "paint")
_OPTICS = {"rubber": (1.0, 0.0, 0.0, 0.0, 0.10), "metal": (0.22, 0.80, 0.03, 1.0, 0.0),
           "paint": (0.92, 0.0, 0.05, 0.8, 0.0), "glass": (1.0, 0.0, 0.10, 0.9, 0.0), "matt": (1.0, 0.0, 0.0, 0.0, 0.0)}
PLAIN, CABIN, WHEEL, BODY, SHELF = range(5)  # patterns, drawn by `scenes_render`


def linear(srgb) -> np.ndarray:
    """Colours [...,3] from sRGB in 0..255 to linear light in 0..1."""
    x = np.asarray(srgb, np.float32) / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Part:
    """One primitive of a shape.

    Attributes:
      kind: "ball", "box", "cylinder" (along z) or "wheel" (a cylinder along y).
      centre, half: of its box within the shape's.
      taper: of a box, along x and y.
      colour: None for the object's own, else sRGB; or a number, by which the object's is multiplied.
      optics: None for the object's material, else a key of the table above.
      pattern: what is drawn on it.
    """

    kind: str
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    half: tuple[float, float, float] = (1.0, 1.0, 1.0)
    taper: tuple[float, float] = (0.0, 0.0)
    colour: tuple[int, int, int] | float | None = None
    optics: str | None = None
    pattern: int = PLAIN


@dataclasses.dataclass(frozen=True)
class Shape:
    """A union of primitives. `aspect`: half sizes along x, y, z of one of size 1."""

    aspect: tuple[float, float, float]
    parts: tuple[Part, ...]


def _in(aspect: tuple[float, float, float], *parts: Part) -> Shape:
    """A shape whose parts are written in units of its size, not of its box."""
    a = np.asarray(aspect)
    return Shape(aspect, tuple(dataclasses.replace(p, centre=tuple(p.centre / a), half=tuple(p.half / a))
                               for p in parts))


def _car(height: float, front: float, rear: float, *more: Part) -> Shape:
    """Four wheels under a body from z = -height + .07 on, and what is above it."""
    radius, floor = 0.155, -height
    wheels = tuple(Part("wheel", (x, y, floor + radius), (radius, 0.06, radius), colour=(24, 24, 26), optics="matt",
                        pattern=WHEEL) for x in (front, rear) for y in (-0.36, 0.36))
    body = Part("box", (0, 0, floor + 0.22), (1.0, 0.42, 0.15), (0.07, 0.06), pattern=BODY)
    return _in((1.0, 0.42, height), body, *more, *wheels)


def _cabin(low: float, high: float, x: float, half: float, taper: float) -> Part:
    return Part("box", (x, 0, (low + high) / 2), (half, 0.39, (high - low) / 2), (taper, 0.2), pattern=CABIN)


_WOOD, _LINEN, _STEEL = (150, 104, 62), (232, 228, 218), (70, 72, 76)


def _legs(x: float, y: float, top: float, r: float, colour=_WOOD) -> tuple[Part, ...]:
    return tuple(Part("box", (i * x, j * y, (top - 1) / 2), (r, r, (top + 1) / 2), colour=colour, optics="matt")
                 for i in (-1, 1) for j in (-1, 1))


SHAPES = {
    "sphere": Shape((1.0, 1.0, 1.0), (Part("ball"),)),
    "box": Shape((0.75, 0.75, 0.75), (Part("box"),)),
    "cylinder": Shape((0.82, 0.82, 0.85), (Part("cylinder"),)),
    "sedan": _car(0.32, 0.62, -0.60, _cabin(0.04, 0.32, -0.10, 0.62, 0.42)),
    "van": _car(0.42, 0.64, -0.62, _cabin(-0.06, 0.42, -0.22, 0.77, 0.22)),
    "pickup": _car(0.36, 0.62, -0.62, _cabin(0.0, 0.36, 0.12, 0.40, 0.30),
                   Part("box", (-0.63, 0, 0.015), (0.30, 0.32, 0.012), colour=(30, 31, 33), optics="matt")),
    "sofa": Shape((0.26, 0.62, 0.24), (
        Part("box", (0.06, 0, -0.5), (0.94, 0.98, 0.34)), Part("box", (-0.72, 0, 0.1), (0.28, 0.98, 0.9), (0.25, 0.02)),
        Part("box", (0, 0.86, -0.2), (0.98, 0.14, 0.6), colour=0.85),
        Part("box", (0, -0.86, -0.2), (0.98, 0.14, 0.6), colour=0.85),
        Part("box", (0.18, 0.36, -0.1), (0.72, 0.33, 0.12), colour=1.15),
        Part("box", (0.18, -0.36, -0.1), (0.72, 0.33, 0.12), colour=1.15))),
    "bed": Shape((0.56, 0.42, 0.24), (
        Part("box", (0, 0, -0.6), (1, 1, 0.26), colour=_WOOD, optics="matt"),
        Part("box", (0.02, 0, -0.16), (0.96, 0.95, 0.22), colour=_LINEN, optics="matt"),
        Part("box", (0.3, 0, -0.1), (0.7, 0.99, 0.24)),
        Part("box", (-0.96, 0, 0), (0.05, 1, 1), colour=_WOOD, optics="matt"),
        Part("ball", (-0.7, 0.45, 0.12), (0.22, 0.4, 0.2), colour=_LINEN, optics="matt"),
        Part("ball", (-0.7, -0.45, 0.12), (0.22, 0.4, 0.2), colour=_LINEN, optics="matt"))),
    "table": Shape((0.3, 0.38, 0.2), (
        Part("box", (0, 0, 0.9), (1, 1, 0.1), optics="matt"), *_legs(0.84, 0.88, 0.8, 0.07))),
    "chair": Shape((0.15, 0.15, 0.28), (
        Part("box", (0, 0, -0.1), (1, 1, 0.08)), Part("box", (-0.9, 0, 0.5), (0.1, 0.95, 0.5)),
        *_legs(0.84, 0.84, -0.18, 0.11))),
    "shelf": Shape((0.13, 0.34, 0.5), (Part("box", pattern=SHELF),)),
    "lamp": Shape((0.12, 0.12, 0.45), (
        Part("cylinder", (0, 0, -0.97), (0.75, 0.75, 0.03), colour=_STEEL, optics="matt"),
        Part("cylinder", (0, 0, -0.2), (0.09, 0.09, 0.8), colour=_STEEL, optics="matt"),
        Part("box", (0, 0, 0.72), (1, 1, 0.28), (0.35, 0.35), optics="matt", colour=1.5))),
    "plant": Shape((0.14, 0.14, 0.3), (
        Part("cylinder", (0, 0, -0.68), (0.62, 0.62, 0.32)),
        Part("ball", (0, 0, 0.25), (0.85, 0.85, 0.7), colour=(58, 112, 52), optics="matt"),
        Part("ball", (0.3, 0.35, -0.05), (0.6, 0.6, 0.4), colour=(74, 132, 58), optics="matt"))),
    "rug": Shape((0.45, 0.62, 0.006), (
        Part("cylinder", (0, 0, 0), (1, 1, 1), optics="matt"),
        Part("cylinder", (0, 0, 0.5), (0.8, 0.8, 0.6), colour=1.35, optics="matt"))),
}
NAMES = tuple(SHAPES)
# What the semantic map counts: the same numbers in every preset.
CLASSES = ("sky", "ground", *NAMES, "wall", "window")
SKY, GROUND, FIRST_SHAPE, WALL, WINDOW = 0, 1, 2, len(CLASSES) - 2, len(CLASSES) - 1


def index(name: str) -> int:
    """The number of a shape."""
    return NAMES.index(name)


def parts(names) -> int:
    """M: the most primitives that one of these shapes has."""
    return max(len(SHAPES[n].parts) for n in names)


def _table() -> dict[str, np.ndarray]:
    most = parts(NAMES)
    none = Part("box", half=(1e-3, 1e-3, 1e-3))
    rows = [[*s.parts, *(most - len(s.parts)) * [none]] for s in SHAPES.values()]

    def array(of) -> np.ndarray:
        return np.asarray([[of(p) for p in row] for row in rows], np.float32)

    swap = np.asarray([[1, 0, 0], [0, 0, 1], [0, 1, 0]], np.float32)  # a wheel's axis is y
    number = (int, float)
    return {
        "used": np.arange(most)[None] < np.asarray([[len(s.parts)] for s in SHAPES.values()]),
        "centre": array(lambda p: p.centre), "half": array(lambda p: p.half),
        "turn": array(lambda p: swap if p.kind == "wheel" else np.eye(3)),
        "box": array(lambda p: p.kind == "box"), "ball": array(lambda p: p.kind == "ball"),
        "taper": array(lambda p: p.taper), "pattern": array(lambda p: p.pattern),
        # Its colour is own * the object's + fixed.
        "own": array(lambda p: 1.0 if p.colour is None else p.colour if isinstance(p.colour, number) else 0.0),
        "fixed": array(lambda p: linear(p.colour) if isinstance(p.colour, tuple) else np.zeros(3)),
        # Its optics: those of the object's material where `as_object`.
        "as_object": array(lambda p: p.optics is None),
        "optics": array(lambda p: _OPTICS[p.optics or "matt"]),
    }


TABLE = _table()
ASPECT = np.asarray([s.aspect for s in SHAPES.values()], np.float32)  # [S,3]
RGB = linear(list(PALETTE.values()))  # [8,3]
OPTICS = np.asarray([_OPTICS[m] for m in MATERIALS], np.float32)  # [materials,5]
GLASS = np.asarray(_OPTICS["glass"], np.float32)
MATT = np.asarray(_OPTICS["matt"], np.float32)
