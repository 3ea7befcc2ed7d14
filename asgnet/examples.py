"""A few test episodes with their predictions, kept for the figures: from the worst to the best, by rank."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from asgnet.evaluate import score_episodes
from asgnet.files import atomic_path
from asgnet.model import ASGNet
from asgnet.source import Source
from asgnet.store import class_target


def save_examples(path: Path, model: ASGNet, source: Source, scored: pd.DataFrame, shots: int, count: int) -> None:
    """Write ``count`` episodes at evenly spaced ranks of IoU, worst first, as a compressed npz.

    Keys, for example k: query_k (H, W, 3), target_k and prediction_k (H, W), support_k (H', W', 3), support_mask_k,
    all uint8 at the images' own sizes, and the arrays class (n,), episode (n,), iou (n,) in per cent.
    """
    iou = 100 * scored["inter_fg"] / scored["union_fg"].clip(lower=1)
    ranks = np.linspace(0, len(scored) - 1, count).round().astype(int)
    chosen = scored.assign(iou=iou).sort_values(["iou", "episode"]).iloc[ranks]
    arrays: dict[str, np.ndarray] = {name: chosen[name].to_numpy() for name in ("class", "episode", "iou")}

    def keep(row: int, prediction: torch.Tensor) -> None:
        arrays[f"prediction_{row}"] = prediction.cpu().numpy().astype(np.uint8)

    score_episodes(model, source, chosen, shots, watch=keep)
    for k, (query, supports, label) in enumerate(
        zip(chosen["query"], chosen["supports"], chosen["class"], strict=True)
    ):
        support = supports.split(";")[0]
        for name, image_id in (("query", query), ("support", support)):
            arrays[f"{name}_{k}"] = source.tree.image(image_id)
        for name, image_id in (("target", query), ("support_mask", support)):
            arrays[f"{name}_{k}"] = class_target(source.tree.mask(image_id)[None], np.array([label]))[0]
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]  # none is called allow_pickle
