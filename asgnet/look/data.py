"""The dataset: examples of every class."""

import numpy as np
import pandas as pd

from asgnet.data.tree import Tree
from asgnet.plots.contact import Example


def contact_examples(tree: Tree, index: pd.DataFrame, each: int = 3) -> dict[str, list[Example]]:
    """The first training images of every class, with mask and parts, for the contact sheet. In a dataset with parts,
    the images whose largest object is of the class."""
    largest = index[index["split"] == "train"].sort_values("pixels", ascending=False).drop_duplicates("id")
    examples: dict[str, list[Example]] = {}
    for label, name in enumerate(tree.classes, 1):
        ids = sorted(largest.loc[largest["class"] == label, "id"])[:each]
        chosen = [(i, tree.mask(i) == label, tree.parts(i)) for i in ids]
        examples[name] = [
            (tree.image(i), mask, None if parts is None else np.where(mask, parts, 0)) for i, mask, parts in chosen
        ]
    return {name: some for name, some in examples.items() if some}
