"""The index of a dataset: which classes each image shows, and in which split it stands.

A table with one row per (image, class): ``split`` (train, val or test), ``id``, ``class`` (id), ``pixels`` (of that
class, at the image's own size)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from asgnet.data.tree import Tree
from asgnet.errors import UserError
from asgnet.files import atomic_path, read_csv
from asgnet.rng import generator

COLUMNS = ["split", "id", "class", "pixels"]


def build_index(tree: Tree, val_fraction: float, seed: int, min_pixels: int) -> pd.DataFrame:
    """Index every image of ``tree``. A share ``val_fraction`` of the training images, drawn with ``seed``, is held out
    as split val. A class counts in an image with at least ``min_pixels`` pixels (published: 2 * 32 * 32)."""
    train, test = tree.ids("train"), tree.ids("test")
    tested = set(test)
    both = sorted(tested.intersection(train))
    if both:
        raise UserError(f"{tree.root}: {both[0]} stands in the train and the test list: expected disjoint lists")
    order = generator(seed, "val-split").permutation(sorted(train))
    held_out = set(order[: round(val_fraction * len(order))].tolist())
    rows = []
    for image_id in sorted(train) + sorted(test):
        split = "val" if image_id in held_out else "test" if image_id in tested else "train"
        pixels = np.bincount(tree.mask(image_id).ravel(), minlength=256)[: len(tree.classes) + 1]
        pixels[0] = 0  # the background is no class
        rows += [(split, image_id, int(c), int(pixels[c])) for c in np.flatnonzero(pixels >= max(min_pixels, 1))]
    return pd.DataFrame(rows, columns=COLUMNS)


def images_by_class(index: pd.DataFrame, classes: Sequence[int], split: str) -> dict[int, list[str]]:
    """The sorted ids of the images of ``split`` in which each of ``classes`` counts (maybe none)."""
    rows = index[index["split"] == split]
    return {c: sorted(rows.loc[rows["class"] == c, "id"]) for c in classes}


def usable_classes(
    index: pd.DataFrame, classes: Sequence[int], split: str, min_images: int
) -> tuple[list[int], dict[int, int]]:
    """The ``classes`` with at least ``min_images`` images in ``split``, and those dropped with their image counts."""
    counts = {c: len(ids) for c, ids in images_by_class(index, classes, split).items()}
    return (
        [c for c, count in counts.items() if count >= min_images],
        {c: count for c, count in counts.items() if count < min_images},
    )


def novel_classes(index: pd.DataFrame, tree: Tree, fold: int, min_test_images: int) -> tuple[list[int], dict[int, int]]:
    """The novel classes of ``fold`` with at least ``min_test_images`` test images, and those dropped with their counts.
    Raises UserError where none is left."""
    kept, dropped = usable_classes(index, tree.novel_classes(fold), "test", min_test_images)
    if not kept:
        counts = ", ".join(f"{tree.classes[c - 1]} {count}" for c, count in dropped.items())
        raise UserError(
            f"fold {fold} has no novel class with {min_test_images} test images ({counts}): choose another fold or a "
            "lower min_test_images"
        )
    return kept, dropped


def without_classes(index: pd.DataFrame, classes: Sequence[int]) -> pd.DataFrame:
    """The index without the images in which any of ``classes`` counts."""
    shown = index.loc[index["class"].isin(classes), "id"]
    return index[~index["id"].isin(shown)]


def write_index(path: Path | str, index: pd.DataFrame) -> None:
    """Write an index as CSV, atomically."""
    with atomic_path(path) as temporary:
        index.to_csv(temporary, index=False)


def read_index(path: Path | str) -> pd.DataFrame:
    """Read what `write_index` wrote."""
    return read_table(path, COLUMNS, text=["split", "id"])


def read_table(path: Path | str, columns: list[str], text: list[str]) -> pd.DataFrame:
    """Read a CSV whose columns begin with ``columns``; ``text`` are kept as strings (an id may look like a number), the
    others of ``columns`` are integers. Raises UserError for a file that is missing, damaged or of another structure."""
    types = {name: str if name in text else int for name in columns} | dict.fromkeys(text, str)
    try:
        table = read_csv(path, dtype=types, keep_default_na=False)
    except (OSError, ValueError) as error:
        wanted = f"expected a whole CSV with columns {', '.join(columns)}"
        raise UserError(f"cannot read the table {path}: {wanted}; make it again") from error
    if list(table.columns[: len(columns)]) != columns:
        raise UserError(f"{path} has columns {', '.join(table.columns)}: expected {', '.join(columns)}")
    return table
