"""A dataset of one's own: for each class a folder of photographs and a folder of their masks.

ROOT/CLASS/images/NAME.jpg      a photograph (any of `asgnet.data.photo.SUFFIXES`)
ROOT/CLASS/masks/NAME.png       its mask, of the same name and size: the object in white (see `read_mask`)

Classes are numbered from 1 in the order of their names and dealt in turn to up to four folds. Of each class, every
fourth photograph in the order of names is for testing, the others are for training.
"""

from pathlib import Path

import numpy as np

from asgnet.data.photo import SUFFIXES, read_pair, read_photo
from asgnet.data.tree import Tree
from asgnet.errors import UserError

IMAGES, MASKS = "images", "masks"
FOLDS = 4
EVERY = 4  # one photograph in so many is for testing
MOST_CLASSES = 254  # 0 and 255 are background and void


class FolderTree(Tree):
    """The photographs and masks of a folder, behind the interface of `Tree`. An image id is CLASS/NAME.

    Raises UserError where ``root`` is no such folder; `asgnet.data.check` says all that is wrong with one."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.classes = class_names(root)
        count = len(self.classes)
        self.folds = tuple(tuple(range(fold + 1, count + 1, FOLDS)) for fold in range(min(FOLDS, count)))
        self._paths: dict[str, Path] = {}
        self.split: dict[str, str] = {}  # image id -> train or test
        for name in self.classes:
            for k, path in enumerate(photographs(self.root / name / IMAGES)):
                self._paths[f"{name}/{path.stem}"] = path
                self.split[f"{name}/{path.stem}"] = "test" if k % EVERY == EVERY - 1 else "train"

    def ids(self, split: str) -> list[str]:
        """Image ids of ``split``, "train" or "test", by class and name; each has its mask on disk."""
        if split not in ("train", "test"):
            raise UserError(f"unknown split '{split}': expected train or test")
        missing = [i for i in self._paths if not self._mask_path(i).is_file()]
        if missing:
            raise UserError(
                f"{self._paths[missing[0]]} has no mask {self._mask_path(missing[0])} ({len(missing)} such): draw it; "
                f"`asgnet data check {self.root}` names all"
            )
        return [i for i, own in self.split.items() if own == split]

    def image(self, image_id: str) -> np.ndarray:
        """The photograph, upright, uint8 (H, W, 3) RGB."""
        return read_photo(self._image_path(image_id))

    def size(self, image_id: str) -> tuple[int, int]:
        """(height, width) of the photograph in pixels."""
        return self.image(image_id).shape[:2]

    def mask(self, image_id: str) -> np.ndarray:
        """Class ids of the pixels, uint8 (H, W): the number of the image's class, and 0 elsewhere."""
        _, found = read_pair(self._image_path(image_id), self._mask_path(image_id))
        return found * np.uint8(self.classes.index(image_id.partition("/")[0]) + 1)

    def _image_path(self, image_id: str) -> Path:
        return self._paths[image_id]

    def _mask_path(self, image_id: str) -> Path:
        name, _, stem = image_id.partition("/")
        return self.root / name / MASKS / f"{stem}.png"


def class_names(root: Path | str) -> tuple[str, ...]:
    """The names of the class folders of ``root``, sorted. Raises UserError where there are none, or too many."""
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"no dataset at {root}: no such folder; expected a folder for each class")
    names = sorted(path.name for path in root.iterdir() if (path / IMAGES).is_dir())
    if not 1 <= len(names) <= MOST_CLASSES:
        raise UserError(
            f"{root} has {len(names)} class folders: expected 1 to {MOST_CLASSES}, each with {IMAGES}/ and {MASKS}/"
        )
    return tuple(names)


def photographs(folder: Path) -> list[Path]:
    """The photographs in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
