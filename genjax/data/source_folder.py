"""`folder:PATH`: picture files as a data set, subfolders as splits and classes."""

import dataclasses
from pathlib import Path

import numpy as np

from genjax import errors
from genjax.data import images
from genjax.data.source_array import Listing, file_listing

_SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "test", "testing")


@dataclasses.dataclass(frozen=True, eq=False)
class FolderSource:
    """Picture files, decoded when asked for. Attributes as `Source`; `labels` is [N] int32 or None,
    `root` the folder that was read."""

    paths: tuple[Path, ...]
    labels: np.ndarray | None
    name: str
    classes: tuple[str, ...]
    channels: int = 3
    root: Path = Path()

    @property
    def labelled(self) -> bool:
        return self.labels is not None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        element = {"image": images.load_pixels(self.paths[i], channels=self.channels)}
        if self.labels is not None:
            element["label"] = np.int32(self.labels[i])
        return element

    def listing(self) -> Listing:
        """See `Source`: the pictures, named from `root` on."""
        return file_listing(self.paths, self.root)


def folder(path: str, split: str, channels: int = 3) -> FolderSource:
    """Every picture under a folder, subfolders too, in one fixed order.

    Args:
      path: the folder. Where it has a subfolder named as the split (train, test …), that one is read; a folder
        without such subfolders is one set, read by split "train" or "all".
      split: see above.
      channels: 1 or 3.

    Returns:
      A source; when every picture lies in a subfolder and there are at least two, the first subfolder's name is
      its class, and labels number the sorted names.
    """
    root = Path(path).expanduser()
    images.to_channels(np.zeros((1, 1, 1), np.uint8), channels)  # a wrong `channels` shows now, not at batch 0
    present = [s for s in _SPLIT_FOLDERS if (root / s).is_dir()]
    if (root / split).is_dir():
        root = root / split
    elif present and split != "all":
        raise errors.unknown(f"split: {root} has no such subfolder", split, [*present, "all"])
    elif split not in ("train", "all"):
        raise errors.UserError(
            f"{root} has no subfolder {split!r}, so it is one set; use split 'train' or 'all', or add that folder")
    files = images.list_images(root)
    tops = [f.relative_to(root).parts[0] if f.parent != root else None for f in files]
    classes = tuple(sorted({t for t in tops if t}))
    if None in tops or len(classes) < 2:
        return FolderSource(tuple(files), None, f"folder:{root}", (), channels, root)
    number = {c: n for n, c in enumerate(classes)}
    labels = np.array([number[t] for t in tops], np.int32)
    return FolderSource(tuple(files), labels, f"folder:{root}", classes, channels, root)
