"""COCO's instance annotations as semantic masks.

Where objects overlap, the smaller one is seen: larger objects are painted first, of equal ones that with the lower
annotation id, and crowd regions, which become 255 (ignored), before all objects. The script that made the published
masks is no longer to be had (PFENet's issues 20 and 32), so its rule is not known."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from asgnet.data.tree import IGNORE, write_mask
from asgnet.errors import UserError


class Annotation(NamedTuple):
    """One object or crowd region."""

    number: int  # COCO's annotation id
    label: int  # class id, 1..C, or 255 for a crowd
    segmentation: Any  # polygons [[x, y, x, y, ...], ...] in pixels, or run lengths {"size", "counts"} down the columns


class Picture(NamedTuple):
    """One photograph with what is annotated in it."""

    source: Path  # the annotation file, for messages
    id: str  # the photograph's name without .jpg
    height: int
    width: int
    annotations: list[Annotation]


def read_pictures(source: Path, classes: Sequence[str]) -> list[Picture]:
    """The photographs with at least one object (crowds alone do not count) of a COCO ``instances_*.json``, by id.

    classes: the names that its categories must have, in the order of their ids; class id = position + 1.
    Raises UserError naming the file where it is missing, damaged, of other categories or of another structure."""
    try:
        data = json.loads(source.read_bytes())
    except FileNotFoundError:
        raise UserError(f"the annotations {source} are missing: complete the COCO folder") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the annotations {source}: damaged, or not JSON; replace the file") from error
    try:
        pictures = _pictures(source, data, _class_ids(source, data["categories"], classes))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{source}: not the structure of COCO's instances ({type(error).__name__}: {error}); replace the file"
        ) from error
    return sorted(
        (p for p in pictures if any(a.label != IGNORE for a in p.annotations)), key=lambda picture: picture.id
    )


def _class_ids(source: Path, categories: list[dict[str, Any]], classes: Sequence[str]) -> dict[int, int]:
    """COCO's category id (1..90 with gaps) -> class id (1..80)."""
    listed = sorted((category["id"], category["name"]) for category in categories)
    names = [name for _, name in listed]
    if names != list(classes):
        other = next((n for n in names if n not in classes), None)
        reason = f"category '{other}' is unknown" if other else f"{len(names)} categories in another order"
        raise UserError(f"{source}: {reason}; expected the {len(classes)} of COCO 2014, {classes[0]} to {classes[-1]}")
    return {number: label for label, (number, _) in enumerate(listed, 1)}


def _pictures(source: Path, data: dict[str, Any], class_ids: dict[int, int]) -> list[Picture]:
    pictures: dict[int, Picture] = {}
    for entry in data["images"]:
        name, height, width = entry["file_name"], int(entry["height"]), int(entry["width"])
        if not name.endswith(".jpg") or "/" in name or "\\" in name or min(height, width) < 1:
            raise ValueError(f"image {name}, {width} x {height} pixels")
        pictures[entry["id"]] = Picture(source, name.removesuffix(".jpg"), height, width, [])
    for entry in data["annotations"]:
        number, image, category = entry["id"], entry["image_id"], entry["category_id"]
        if category not in class_ids:
            raise UserError(f"{source}: annotation {number} is of the unknown category {category}; replace the file")
        if image not in pictures:
            raise UserError(f"{source}: annotation {number} is of the unlisted image {image}; replace the file")
        label = IGNORE if entry.get("iscrowd", 0) else class_ids[category]
        pictures[image].annotations.append(Annotation(number, label, entry["segmentation"]))
    return list(pictures.values())


def render(picture: Picture) -> np.ndarray:
    """The mask of a photograph, uint8 (H, W): 0 background, 1..C, 255 in crowds where no object stands."""
    painted = []
    for number, label, segmentation in picture.annotations:
        try:
            shape = _shape(segmentation, picture.height, picture.width)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(
                f"{picture.source}: annotation {number} of {picture.id}, {picture.width} x {picture.height} pixels, is "
                f"neither polygons nor run lengths of that size ({error}); replace the file"
            ) from error
        painted.append(((label != IGNORE, -int(shape.sum()), number), label, shape))
    mask = np.zeros((picture.height, picture.width), np.uint8)
    for _, label, shape in sorted(painted, key=lambda item: item[0]):
        mask[shape] = label
    return mask


def _shape(segmentation: Any, height: int, width: int) -> np.ndarray:
    """The pixels of one annotation, bool (H, W), as pycocotools' annToMask. Polygons of fewer than three points cover
    none (annToMask takes those of two for boxes)."""
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        if any(len(polygon) % 2 for polygon in polygons):
            raise ValueError("a polygon with half a point")
        encoded = rle.frPyObjects(polygons, height, width) if polygons else []
        return rle.decode(rle.merge(encoded)).astype(bool) if encoded else np.zeros((height, width), bool)
    if list(segmentation["size"]) != [height, width]:
        raise ValueError(f"its size is {segmentation['size']}")
    counts = segmentation["counts"]
    if not isinstance(counts, list):  # of a compressed one that is too short, pycocotools makes pixels at random
        raise ValueError("its runs are not listed")
    if min(counts, default=0) < 0 or sum(counts) != height * width:
        raise ValueError(f"its runs add up to {sum(counts)}")
    return rle.decode(rle.frPyObjects(segmentation, height, width)).astype(bool)


def write_rendered(folder: Path, picture: Picture) -> None:
    """Write the mask of ``picture`` to ``folder``/ID.png, unless a whole one of its size lies there."""
    path = folder / f"{picture.id}.png"
    if not _whole(path, picture):
        write_mask(path, render(picture))


def _whole(path: Path, picture: Picture) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
            return image.format == "PNG" and image.mode == "P" and image.size == (picture.width, picture.height)
    except (OSError, SyntaxError, ValueError, EOFError):  # missing or damaged
        return False
