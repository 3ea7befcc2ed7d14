"""A dataset on disk in the layout of VOC 2012: photographs, palette-PNG masks and two lists of ids.

ROOT/VOC2012/JPEGImages/ID.jpg
ROOT/VOC2012/SegmentationClassAug/ID.png            0 background, 1..C classes, 255 ignored
ROOT/VOC2012/SegmentationPart/ID.png                (optional) part of its object that a pixel belongs to
ROOT/VOC2012/ImageSets/Segmentation/{train_aug,val}.txt
ROOT/VOC2012/hidden.csv                             (optional) share of each object that something in front covers
"""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from asgnet.data.photo import refuse_hollow
from asgnet.data.sbd import find_sbd
from asgnet.errors import UserError
from asgnet.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd

IGNORE = 255
IMAGES, MASKS, PARTS, LISTS = "JPEGImages", "SegmentationClassAug", "SegmentationPart", "ImageSets/Segmentation"
HIDDEN = "hidden.csv"
FORMATS = ("JPEG", "PNG")  # whatever a file's name says


class Tree:
    """The images and masks of one dataset.

    root: the folder that holds VOC2012/, or VOCdevkit/VOC2012/, or VOC2012 itself.
    classes: names; the class id is the position plus one (0 is the background).
    folds: the class ids of each fold, which are that fold's novel classes."""

    def __init__(self, root: Path | str, classes: Sequence[str], folds: Sequence[Sequence[int]]) -> None:
        self.root = find_voc(root)
        require_folders(self.root, IMAGES, MASKS, LISTS)
        self.classes = tuple(classes)
        self.folds = tuple(tuple(fold) for fold in folds)

    def novel_classes(self, fold: int | None) -> tuple[int, ...]:
        """Ids of the classes that fold ``fold`` keeps from training; without a fold, none."""
        if fold is None:
            return ()
        if fold not in range(len(self.folds)):
            raise UserError(f"fold {fold} does not exist: expected 0 to {len(self.folds) - 1}")
        return self.folds[fold]

    def base_classes(self, fold: int | None) -> tuple[int, ...]:
        """Ids of the classes that fold ``fold`` trains on: all the others."""
        novel = self.novel_classes(fold)
        return tuple(c for c in range(1, len(self.classes) + 1) if c not in novel)

    def ids(self, split: str) -> list[str]:
        """Image ids of ``split``: "train" (train_aug.txt, else VOC's train united with SBD's train_noval) or "test"
        (val.txt), each with its image and mask on disk."""
        if split not in ("train", "test"):
            raise UserError(f"unknown split '{split}': expected train or test")
        ids = train_ids(self.root) if split == "train" else read_list(self.root / LISTS / "val.txt")
        for folder, suffix in ((IMAGES, ".jpg"), (MASKS, ".png")):
            present = {path.name for path in (self.root / folder).iterdir()}
            missing = [i for i in ids if i + suffix not in present]
            if missing:
                path = self.root / folder / (missing[0] + suffix)
                raise UserError(
                    f"{path} is missing, though the {split} list names {missing[0]} ({len(missing)} such): "
                    "complete the tree or take the id off the list"
                )
        return ids

    def image(self, image_id: str) -> np.ndarray:
        """The photograph, uint8 (H, W, 3) RGB. EXIF orientation is not applied: the masks do not know of it."""
        with _opened(self._image_path(image_id)) as image:
            return np.array(image.convert("RGB"))

    def size(self, image_id: str) -> tuple[int, int]:
        """(height, width) of the photograph in pixels."""
        with _opened(self._image_path(image_id)) as image:
            return image.height, image.width

    def mask(self, image_id: str) -> np.ndarray:
        """Class ids of the pixels, uint8 (H, W): 0 background, 1..C, 255 ignored; checked against the image's size."""
        path = self._mask_path(image_id)
        mask = self._labels(image_id, path)
        wrong = mask[(mask > len(self.classes)) & (mask != IGNORE)]
        if wrong.size:
            raise UserError(
                f"{path} holds the value {wrong[0]}: expected 0 (background), 1 to {len(self.classes)} (classes) or "
                f"{IGNORE} (ignored); check that the tree belongs to this dataset"
            )
        return mask

    def parts(self, image_id: str) -> np.ndarray | None:
        """Part numbers of the pixels, uint8 (H, W): 0 no part, from 1 within the object's class; None where the
        dataset knows no parts."""
        path = self.root / PARTS / f"{image_id}.png"
        return self._labels(image_id, path) if path.exists() else None

    def hidden(self) -> "pd.DataFrame | None":
        """How much of each object is covered, columns id, class, hidden (share, 0 to 1); None where it is not known."""
        import pandas as pd  # takes longer than a prediction

        path = self.root / HIDDEN
        return pd.read_csv(path, dtype={"id": str}) if path.exists() else None

    def files(self, ids: Iterable[str]) -> list[Path]:
        """The files of these ids: photographs and masks."""
        return [path for i in ids for path in (self._image_path(i), self._mask_path(i))]

    def _image_path(self, image_id: str) -> Path:
        return self.root / IMAGES / f"{image_id}.jpg"

    def _mask_path(self, image_id: str) -> Path:
        return self.root / MASKS / f"{image_id}.png"

    def _labels(self, image_id: str, path: Path) -> np.ndarray:
        with _opened(path) as image:
            if image.format != "PNG" or image.mode not in ("P", "L"):
                raise UserError(
                    f"{path} is a {image.format} in mode {image.mode}: expected a palette or 8-bit grey PNG of classes"
                )
            labels = np.array(image)
        height, width = self.size(image_id)
        if labels.shape != (height, width):
            raise UserError(
                f"{path} is {labels.shape[1]} x {labels.shape[0]} pixels but {self._image_path(image_id)} is "
                f"{width} x {height}: expected equal sizes"
            )
        return labels


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """``Image.open`` whose failures, and those of decoding within the block, are UserErrors naming the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images, and of odd metadata
            with Image.open(path, formats=FORMATS) as image:
                refuse_hollow(image, path)
                yield image
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"the image {path} is missing: complete the tree") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"the image {path} is too large ({error}); replace the file") from error
    except Exception as error:  # each format's reader meets damage with errors of its own
        raise UserError(f"cannot read the image {path}: damaged, or not an image; replace the file") from error


def find_voc(root: Path | str) -> Path:
    """The VOC2012 folder that ``root`` is, holds, or holds inside VOCdevkit."""
    root = Path(root)
    for folder in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if (folder / "ImageSets").is_dir() or (folder / IMAGES).is_dir():
            return folder
    missing = "VOC2012/ is missing there" if root.is_dir() else "no such folder"
    raise UserError(
        f"no dataset at {root}: {missing}; expected VOC2012, a VOCdevkit that holds it, or its parent folder"
    )


def require_folders(voc: Path, *names: str) -> None:
    """Raise UserError for the first of ``names`` that is no folder of ``voc``."""
    for name in names:
        if not (voc / name).is_dir():
            raise UserError(f"{voc} has no folder {name}: expected the VOC 2012 layout with {', '.join(names)}")


def read_list(path: Path) -> list[str]:
    """The ids of a list file, one a line, blank lines skipped."""
    if not path.is_file():
        raise UserError(f"the list {path} is missing: expected a text file with one image id a line")
    try:
        ids = path.read_text(encoding="utf-8").split()
    except UnicodeDecodeError:
        raise UserError(f"the list {path} is no text: expected one image id a line") from None
    if not ids:
        raise UserError(f"the list {path} is empty: expected one image id a line")
    if twice := [i for i, count in Counter(ids).items() if count > 1]:
        raise UserError(f"the list {path} names {twice[0]} twice: expected each image id once")
    return ids


def train_ids(voc: Path) -> list[str]:
    """``train_aug.txt`` where it exists, else VOC's train united with SBD's train_noval (5,953 ids of the full
    sets), the latter beside VOC's lists or in the SBD folder."""
    lists = voc / LISTS
    if (lists / "train_aug.txt").is_file():
        return read_list(lists / "train_aug.txt")
    sbd = find_sbd(voc)
    noval = lists / "train_noval.txt"
    if not noval.is_file() and sbd is not None:
        noval = sbd / "train_noval.txt"
    return list(dict.fromkeys(read_list(lists / "train.txt") + read_list(noval)))


def voc_palette() -> list[int]:
    """The 256 colours of VOC's masks, flat: the bits of a class id, taken three by three, become the high bits of
    red, green and blue."""
    ids = np.arange(256)
    colours = np.zeros((256, 3), int)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((ids >> (3 * bit + channel)) & 1) << (7 - bit)
    return colours.ravel().tolist()


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write uint8 (H, W) class ids as a palette PNG in VOC's colours, atomically."""
    image = Image.fromarray(mask)
    image.putpalette(voc_palette())
    with atomic_path(path) as temporary:
        image.save(temporary)


def write_list(path: Path, ids: Iterable[str]) -> None:
    """Write ids one a line, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{i}\n" for i in ids))
