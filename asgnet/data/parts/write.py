"""Writing the dataset: a VOC-layout tree on disk."""

import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image

from asgnet.data.parts.classes import CLASSES
from asgnet.data.parts.render import render
from asgnet.data.tree import HIDDEN, IMAGES, MASKS, PARTS, write_mask
from asgnet.data.tree import LISTS as LIST_FOLDER
from asgnet.errors import UserError
from asgnet.files import temporary_name

LISTS = {"train": "train_aug.txt", "test": "val.txt"}
JPEG_QUALITY = 92


def _write(root: Path, seed: int, size: int, job: tuple[str, int]) -> list[str]:
    """Write one image with its labels; returns its lines of hidden.csv."""
    split, index = job
    sample = render(split, index, seed, size)
    name = image_id(split, index)
    Image.fromarray(sample.image).save(root / IMAGES / f"{name}.jpg", quality=JPEG_QUALITY)
    write_mask(root / MASKS / f"{name}.png", sample.mask)
    Image.fromarray(sample.parts).save(root / PARTS / f"{name}.png")
    return [f"{name},{class_id},{share:.4f}\n" for class_id, share in sorted(sample.hidden.items())]


def image_id(split: str, index: int) -> str:
    return f"{split}_{index:05d}"


def build(
    root: Path | str, train: int = 1200, test: int = 480, size: int = 257, seed: int = 0, workers: int = 2
) -> None:
    """Make the tree ``root``/VOC2012 with ``train`` and ``test`` images of ``size`` x ``size`` pixels.

    The classes take turns as main object, so counts that are multiples of 20 are balanced. The tree is made beside
    ``root`` and renamed at the end: a reader sees a whole tree or none. An older tree at ``root`` is replaced.

    Raises:
        UserError: fewer images than classes, or images too small to show an object.
    """
    for name, count in (("train", train), ("test", test)):
        if count < len(CLASSES):
            raise UserError(f"parts: {name} = {count} images; expected at least {len(CLASSES)}, one per class")
    if size < 65:
        raise UserError(f"parts: size = {size} pixels; expected at least 65 (257 is the usual size)")
    root = Path(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(root)
    try:
        _fill(temporary / "VOC2012", {"train": train, "test": test}, size, seed, workers)
        if root.exists():
            shutil.rmtree(root)
        os.replace(temporary, root)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fill(root: Path, counts: dict[str, int], size: int, seed: int, workers: int) -> None:
    lists = root / LIST_FOLDER
    for folder in (root / IMAGES, root / MASKS, root / PARTS, lists):
        folder.mkdir(parents=True)
    for split, count in counts.items():
        (lists / LISTS[split]).write_text("".join(f"{image_id(split, index)}\n" for index in range(count)))
    jobs = [(split, index) for split, count in counts.items() for index in range(count)]
    write = partial(_write, root, seed, size)
    if workers <= 1:
        lines = [write(job) for job in jobs]
    else:  # spawned, not forked: the caller may hold torch's threads
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            lines = list(pool.map(write, jobs, chunksize=16))
    (root / HIDDEN).write_text("id,class,hidden\n" + "".join(line for some in lines for line in some))
