"""Testing a trained network on frozen episodes."""

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from asgnet.data.transforms import unfit
from asgnet.device import autocast
from asgnet.gallery import Gallery, build_gallery, supports_of
from asgnet.metrics import COUNTS, intersection_union
from asgnet.model import ASGNet
from asgnet.source import Source

Watcher = Callable[[int, Tensor], None]  # (row of the episode, its mask prediction at the original size)


@torch.no_grad()
def score_episodes(
    model: ASGNet, source: Source, episodes: pd.DataFrame, shots: int, batch: int = 16, watch: Watcher | None = None
) -> pd.DataFrame:
    """Test ``model`` on every episode with its first ``shots`` supports.

    Returns one row an episode: episode, class, query, supports, inter_fg, union_fg, inter_bg, union_bg (pixels at the
    query's original size, void left out), loss (cross-entropy at the working size), prototypes (how many the
    supports gave) and fallback (supports whose mask vanished on the feature grid). The model's mode is restored.
    """
    training = model.training
    model.eval()
    gallery = build_gallery(model, source, episodes, shots, batch)
    rows = []
    for first in range(0, len(episodes), batch):
        part = episodes.iloc[first : first + batch]
        logits, prototypes, fallback = _decode(model, gallery, part, shots, source.size)
        queries, classes = list(part["query"]), [int(c) for c in part["class"]]
        target = source.masks(queries, [0] * len(part), classes)  # (B, S, S)
        loss = F.cross_entropy(logits, target.long(), ignore_index=255, reduction="none").sum((1, 2))
        loss = loss / (target != 255).sum((1, 2)).clamp(min=1)
        counts = torch.stack([_count(source, *item, watch, first + k) for k, item in enumerate(
            zip(logits, target, queries, classes, strict=True))])  # (B, 4)  # fmt: skip
        rows.append(
            part[["episode", "class", "query"]].assign(
                supports=[";".join(ids) for ids in supports_of(part, shots)],
                **dict(zip(COUNTS, counts.T.cpu().numpy(), strict=True)),
                loss=loss.cpu().numpy(),
                prototypes=prototypes.cpu().numpy(),
                fallback=fallback.cpu().numpy(),
            )
        )
    model.train(training)
    return pd.concat(rows, ignore_index=True)


def _decode(
    model: ASGNet, gallery: Gallery, part: pd.DataFrame, shots: int, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (B, 2, S, S) in float32, prototypes used (B,), fallbacks (B,)."""
    query, layer1 = gallery.queries(part["query"])
    prototypes, valid, fallback = gallery.pool(supports_of(part, shots), [int(c) for c in part["class"]])
    with autocast(query.device):
        logits, _ = model.head.decode(query, prototypes, valid, layer1, (size, size))
    return logits.float(), valid.sum(1), fallback


def _count(
    source: Source, logits: Tensor, target: Tensor, query: str, class_id: int, watch: Watcher | None, row: int
) -> Tensor:
    """Intersections and unions (4,) of one episode, at the query's original size."""
    height, width = source.original_size(query)
    if (height, width) != tuple(target.shape):
        logits = unfit(logits[None], height, width)[0]
        target = source.original_mask(query, class_id)
    prediction = logits[1] > logits[0]  # (H, W)
    if watch is not None:
        watch(row, prediction)
    return intersection_union(prediction[None], target[None])[0]
