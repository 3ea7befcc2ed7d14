"""A project of seconds: noise images of three base classes and two novel ones of fold 1, in a tree of VOC's layout."""

from pathlib import Path

import numpy as np
from PIL import Image
from tiny import write_params
from voc_tree import add_image, box_mask

from asgnet.data.tree import IMAGES, LISTS, write_list
from asgnet.rng import generator

SECTIONS = {
    "data": {"dataset": "pascal5i", "root": "tree", "size": 65, "min_pixels": 100, "val_fraction": 0.3},
    "episodes": {"test_shots": 2},
    "features": {"views": 2, "batch": 2},
    "train": {"epochs": 3},
    "test": {"batch": 4},
}


def write_noise(folder: Path) -> None:
    """params.yaml and the tree, in ``folder``."""
    voc = folder / "tree" / "VOC2012"
    for name in ("train_aug", "val"):
        ids = [f"{name[0]}{c}_{k}" for c in (1, 2, 3, 6, 7) for k in range(8)]
        for number, image_id in enumerate(ids):
            add_image(voc, image_id, box_mask(int(image_id[1])))
            pixels = generator(0, name, number).integers(0, 256, (40, 50, 3), np.uint8)
            Image.fromarray(pixels).save(voc / IMAGES / f"{image_id}.jpg")
        write_list(voc / LISTS / f"{name}.txt", ids)
    write_params(folder, **SECTIONS)
