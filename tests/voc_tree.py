"""A tiny tree of the VOC 2012 layout for tests: 40 x 50 noise images whose masks hold one or two class boxes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from asgnet.data.tree import IMAGES, LISTS, MASKS, Tree, write_list, write_mask

CLASSES = ("ant", "bee", "cod", "doe")
FOLDS = ((1, 2), (3, 4))


def box_mask(*classes: int, height: int = 40, width: int = 50) -> np.ndarray:
    """Each class a box of 20 x 15 pixels, side by side, with a column of 255 after the last."""
    mask = np.zeros((height, width), np.uint8)
    for place, c in enumerate(classes):
        mask[10:30, 15 * place : 15 * place + 15] = c
    mask[10:30, 15 * len(classes)] = 255
    return mask


def add_image(voc: Path, image_id: str, mask: np.ndarray, masks: str = MASKS) -> None:
    pixels = np.random.default_rng(len(image_id)).integers(0, 256, (*mask.shape, 3), np.uint8)
    (voc / IMAGES).mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(voc / IMAGES / f"{image_id}.jpg")
    write_mask(voc / masks / f"{image_id}.png", mask)


def make_tree(root: Path, train_per_class: int = 8, test_per_class: int = 6) -> Tree:
    """Per class as many images as stated; every fourth shows the next class (of both folds) as well."""
    voc = root / "VOC2012"
    for name, count in (("train_aug", train_per_class), ("val", test_per_class)):
        ids: Sequence[str] = [f"{name[:1]}{c}_{k}" for c in range(1, 5) for k in range(count)]
        for image_id in ids:
            c, k = int(image_id[1]), int(image_id[3:])
            add_image(voc, image_id, box_mask(c, c % 4 + 1) if k % 4 == 3 else box_mask(c))
        write_list(voc / LISTS / f"{name}.txt", ids)
    return Tree(root, CLASSES, FOLDS)
