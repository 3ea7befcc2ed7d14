"""The datasets behind one interface: ``open_dataset(name, root)`` returns a `asgnet.data.tree.Tree`."""

from pathlib import Path

from asgnet.data.tree import Tree
from asgnet.errors import UserError

DATASETS = ("parts", "pascal5i")


def open_dataset(name: str, root: Path | str) -> Tree:
    """The tree of dataset ``name`` under ``root``, with its class names and folds.

    Raises UserError for an unknown name and where ``root`` holds no tree of the VOC layout."""
    return Tree(root, *_definition(name))


def open_classes(name: str) -> tuple[str, ...]:
    """The class names of dataset ``name``, which needs no tree for that; class id - 1 is the position."""
    return _definition(name)[0]


def _definition(name: str) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    # Each dataset's definition is imported when it is asked for: `parts` brings its renderer along.
    if name == "parts":
        from asgnet.data.parts import CLASSES, FOLDS
    elif name == "pascal5i":
        from asgnet.data.voc import CLASSES, FOLDS
    else:
        raise UserError(f"unknown dataset '{name}': expected one of {', '.join(DATASETS)}")
    return CLASSES, FOLDS
