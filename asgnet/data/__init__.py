"""The datasets behind one interface: ``open_dataset(name, root)`` returns a `asgnet.data.tree.Tree`."""

from pathlib import Path

from asgnet.data.tree import Tree
from asgnet.errors import UserError

DATASETS = ("parts", "pascal5i", "coco20i", "folder")


def open_dataset(name: str, root: Path | str, folds_of: str = "interleaved") -> Tree:
    """The tree of dataset ``name`` under ``root``, with its class names and folds.

    folds_of: the convention of COCO-20i's folds, "interleaved" or "blocks"; the other datasets have one.
    Raises UserError for an unknown name and where ``root`` holds no tree of the VOC layout, or for "folder" no folder
    of classes."""
    if name == "folder":
        from asgnet.data.folder import FolderTree

        return FolderTree(root)
    classes, folds = _definition(name, folds_of)
    if name == "coco20i":
        from asgnet.data.coco import rendered_tree

        root = rendered_tree(root)
    return Tree(root, classes, folds)


def open_classes(name: str, root: Path | str) -> tuple[str, ...]:
    """The class names of dataset ``name``; class id - 1 is the position. Of "folder" they are read from ``root``, the
    others need no tree for that."""
    if name == "folder":
        from asgnet.data.folder import class_names

        return class_names(root)
    return _definition(name)[0]


def _definition(name: str, folds_of: str = "interleaved") -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    # Each dataset's definition is imported when it is asked for.
    if name == "parts":
        from asgnet.data import parts

        return parts.CLASSES, parts.FOLDS
    if name == "pascal5i":
        from asgnet.data import voc

        return voc.CLASSES, voc.FOLDS
    if name == "coco20i":
        from asgnet.data import coco

        if folds_of not in coco.FOLDS:
            raise UserError(f"unknown convention of folds '{folds_of}': expected one of {', '.join(coco.FOLDS)}")
        return coco.CLASSES, coco.FOLDS[folds_of]
    raise UserError(f"unknown dataset '{name}': expected one of {', '.join(DATASETS)}")
