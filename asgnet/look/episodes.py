"""Single episodes run through a network: predictions, and what SGC and GPA did."""

import numpy as np
import pandas as pd
import torch

from asgnet.allocation import gpa
from asgnet.data.transforms import fit
from asgnet.data.tree import Tree
from asgnet.device import autocast
from asgnet.errors import UserError
from asgnet.evaluate import score_episodes
from asgnet.gallery import build_gallery
from asgnet.model import ASGNet
from asgnet.plots.panels import Clustering, Prediction
from asgnet.source import Source, class_target
from asgnet.superpixel import association


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
        raise UserError(f"no episode of class {class_name!r} from number {first} on; choose a novel class of the fold")
    return chosen


@torch.no_grad()
def clusterings(model: ASGNet, source: Source, episodes: pd.DataFrame) -> list[Clustering]:
    """SGC's superpixels on the (first) support and GPA's allocation on the query of each episode."""
    model.eval()
    episodes = episodes.drop_duplicates("episode")
    gallery = build_gallery(model, source, episodes, shots=1)
    tree, size, shown = source.tree, source.size, []
    for row in episodes.to_dict("records"):
        support, label = row["supports"].split(";")[0], int(row["class"])
        mask = source.masks([support], [0], [label]) == 1  # (1, S, S)
        reduced = gallery.reduced[[gallery.row[support]]]  # (1, C, h, w)
        cells, seeds, _ = model.head.place(mask, tuple(reduced.shape[2:]))
        iterations, weight = model.config.iterations_eval, model.config.spatial_weight
        close = association(reduced, cells, seeds, iterations, weight)[0]  # (N, h, w)
        superpixel = torch.where(cells[0] > 0, close.argmax(0), -1)  # without seeds all are of the one prototype
        prototypes, valid, _ = gallery.pool([[support]], [label])
        with autocast(source.device):
            query, _ = gallery.queries([row["query"]])
            _, probability, index = gpa(query, prototypes, valid)
        pictures = {name: fit(tree.image(i), tree.mask(i), size) for name, i in (("s", support), ("q", row["query"]))}
        shown.append(
            Clustering(
                title=tree.classes[label - 1],
                support=pictures["s"][0],
                mask=pictures["s"][1] == label,
                superpixel=superpixel.cpu().numpy(),
                seed_cells=seeds[0][(seeds[0] >= 0).all(1)].cpu().numpy(),
                query=pictures["q"][0],
                truth=pictures["q"][1] == label,
                guide=index[0].cpu().numpy(),
                probability=probability[0, 0].float().cpu().numpy(),
            )
        )
    return shown
