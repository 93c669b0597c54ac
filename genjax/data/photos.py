"""`builtin:photos/NAME`: the photographs that scikit-image carries in its wheel; never a download.

scikit-image has about a hundred sample files but ships only some of them; the rest would be fetched over the
network. Here a name counts only when its file lies in the installed package, so every name that
`photo_names()` lists works offline. The package is located, not imported: reading a picture costs no
scikit-image import.
"""

import importlib.util
from functools import cache
from pathlib import Path

from genjax import errors

# Photographs in the wheels of scikit-image 0.22 to 0.26, the best known first: "builtin:photos" is the first.
_PHOTOS = {
    "astronaut": "astronaut.png",  # 512x512 colour, NASA, public domain
    "cat": "chelsea.png",  # 451x300 colour (width x height)
    "coffee": "coffee.png",  # 600x400 colour
    "camera": "camera.png",  # 512x512 grey
    "rocket": "rocket.jpg",  # 640x427 colour
    "motorcycle_left": "motorcycle_left.png",  # 741x500 colour, a stereo pair
    "motorcycle_right": "motorcycle_right.png",
    "coins": "coins.png",  # 384x303 grey
    "moon": "moon.png",  # 512x512 grey
    "hubble_deep_field": "hubble_deep_field.jpg",  # 1000x872 colour
    "ihc": "ihc.png",  # 512x512 colour, stained tissue
    "retina": "retina.jpg",  # 1411x1411 colour
}
_ALIASES = {"chelsea": "cat", "cameraman": "camera", "immunohistochemistry": "ihc"}
_TEXTURES = {"brick": "brick.png", "grass": "grass.png", "gravel": "gravel.png"}  # 512x512 grey each


@cache
def _folder() -> Path:
    """Where the installed scikit-image keeps its pictures."""
    found = importlib.util.find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise errors.UserError(
            "the builtin photographs come with scikit-image, which is not installed; pip install scikit-image")
    return Path(list(found.submodule_search_locations)[0]) / "data"


def _present(files: dict[str, str]) -> tuple[str, ...]:
    folder = _folder()
    return tuple(name for name, file in files.items() if (folder / file).is_file())


def photo_names() -> tuple[str, ...]:
    """Names NAME for which `builtin:photos/NAME` works here, offline; the first is the default."""
    return _present(_PHOTOS)


def texture_names() -> tuple[str, ...]:
    """Names of the bundled grey 512x512 textures, the classes of `builtin:textures`."""
    return _present(_TEXTURES)


def photo_path(name: str = "") -> Path:
    """The file of one bundled photograph or texture.

    Args:
      name: one of `photo_names()` or `texture_names()`, or "" for the first photograph.

    Returns:
      A path inside the installed scikit-image.

    Raises:
      UserError: for an unknown name (with the nearest valid one), or without scikit-image.
    """
    names = photo_names() + texture_names()
    if not names:
        raise errors.UserError(f"scikit-image carries no photographs in {_folder()}; reinstall scikit-image")
    name = _ALIASES.get(name, name) or names[0]
    if name not in names:
        raise errors.unknown("builtin photo", name, names)
    return _folder() / (_PHOTOS | _TEXTURES)[name]
