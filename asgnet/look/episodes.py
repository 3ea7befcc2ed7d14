"""Single episodes run through a network, with what it predicted."""

import numpy as np
import pandas as pd

from asgnet.data.tree import Tree
from asgnet.errors import UserError
from asgnet.evaluate import score_episodes
from asgnet.model import ASGNet
from asgnet.plots.panels import Prediction
from asgnet.source import Source
from asgnet.store import class_target


def predictions(model: ASGNet, source: Source, episodes: pd.DataFrame, shots: int = 1) -> list[Prediction]:
    """Predict the given episodes, each shown with its first support."""
    masks: dict[int, np.ndarray] = {}
    scored = score_episodes(
        model, source, episodes, shots, watch=lambda row, mask: masks.update({row: mask.cpu().numpy() == 1})
    )
    tree, shown = source.tree, []
    for k, row in enumerate(scored.itertuples()):
        support, label = row.supports.split(";")[0], int(scored["class"].iloc[k])
        shown.append(
            Prediction(
                title=tree.classes[label - 1],
                support=tree.image(support),
                mask=tree.mask(support) == label,
                query=tree.image(row.query),
                truth=class_target(tree.mask(row.query)[None], np.array([label]))[0],
                prediction=masks[k],
                iou=100 * row.inter_fg / max(row.union_fg, 1),
            )
        )
    return shown


def choose_episodes(episodes: pd.DataFrame, tree: Tree, class_name: str | None, first: int, count: int) -> pd.DataFrame:
    """``count`` episodes from number ``first`` on, of one class by name or of all.

    Raises UserError where the class has no such episode."""
    if class_name is not None:
        if class_name not in tree.classes:
            raise UserError(f"class {class_name!r} is unknown; known are: {', '.join(tree.classes)}")
        episodes = episodes[episodes["class"] == tree.classes.index(class_name) + 1]
    chosen = episodes[episodes["episode"] >= first].head(count)
    if chosen.empty:
        of = "" if class_name is None else f" of class {class_name!r}, which must be a novel class of the fold,"
        raise UserError(f"no test episode{of} from number {first} on; choose a lower number or another class")
    return chosen
