"""A tiny COCO folder for tests: annotations of the published structure, noise photographs of 48 x 60 pixels."""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from asgnet.data.coco import CLASSES

HEIGHT, WIDTH = 48, 60
GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}  # ids up to 90 that COCO does not use
IDS = [number for number in range(1, 91) if number not in GAPS]
CATEGORIES = [{"id": number, "name": name} for number, name in zip(IDS, CLASSES, strict=True)]

Entry = dict[str, Any]


def box(top: int, left: int, bottom: int, right: int) -> list[float]:
    """The polygon of the pixels [top:bottom, left:right]."""
    return [left, top, right, top, right, bottom, left, bottom]


def runs(mask: np.ndarray) -> dict[str, Any]:
    """The uncompressed run-length encoding of a mask: down the columns, zeros first."""
    pixels = mask.astype(bool).ravel(order="F").tolist()
    counts = [len(list(group)) for _, group in itertools.groupby(pixels)]
    return {"size": list(mask.shape), "counts": [0, *counts] if pixels[0] else counts}


def annotation(label: int, segmentation: Any, crowd: bool = False) -> Entry:
    """An annotation of class id ``label``; its number and image are given by `write_annotations`."""
    return {"category_id": IDS[label - 1], "segmentation": segmentation, "iscrowd": int(crowd)}


def write_annotations(path: Path, images: Mapping[str, Sequence[Entry]], /, **changes: Any) -> None:
    """An instances file of the named images; ``changes`` replace its tables."""
    entries, annotations = [], []
    for number, (name, found) in enumerate(images.items(), 7):
        entries.append({"id": number, "file_name": f"{name}.jpg", "height": HEIGHT, "width": WIDTH})
        annotations += [entry | {"image_id": number} for entry in found]
    annotations = [{"id": 100 + place} | entry for place, entry in enumerate(annotations)]
    path.parent.mkdir(parents=True, exist_ok=True)
    tables = {"images": entries, "annotations": annotations, "categories": CATEGORIES}
    path.write_text(json.dumps(tables | changes))


def write_photograph(path: Path, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (HEIGHT, WIDTH, 3) if mode == "RGB" else (HEIGHT, WIDTH)
    Image.fromarray(np.random.default_rng(len(path.name)).integers(0, 256, shape, np.uint8)).save(path)


def make_coco(root: Path, train: Mapping[str, Sequence[Entry]], test: Mapping[str, Sequence[Entry]]) -> Path:
    """The folder, with the annotated images of each split; those whose name ends in "grey" are grey photographs."""
    for split, images in (("train2014", train), ("val2014", test)):
        write_annotations(root / "annotations" / f"instances_{split}.json", images)
        for name in images:
            write_photograph(root / split / f"{name}.jpg", "L" if name.endswith("grey") else "RGB")
    return root
