"""Rows without training: what frozen features and a threshold reach. Every table of the study starts with them.

``all_foreground`` predicts the object everywhere. The cosine rows compare every query cell with the support's masked
average; the foreground-minus-background rows subtract the similarity to the average of the support's background. The
one threshold is chosen on val episodes (base classes, held-out images), never on novel ones.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from asgnet.data.episodes import supports_of
from asgnet.data.transforms import unfit
from asgnet.gallery import in_parts
from asgnet.metrics import COUNTS, intersection_union, miou
from asgnet.sections import TrainingFree
from asgnet.source import Source
from asgnet.superpixel import masked_average, to_grid

THRESHOLDS = torch.linspace(-1, 1, 81)  # of a cosine, or of a difference of two
MOST_IMAGES = 200  # whose features are kept at a time: 4 GB of 1536 x 60 x 60 in float32


@dataclass
class _Frozen:
    """Unit-length features of the images of some episodes, on their grid, on the CPU."""

    maps: Tensor  # (M, C, h, w)
    row: dict[str, int]


def best_threshold(arm: TrainingFree, source: Source, val: pd.DataFrame, shots: int) -> float | None:
    """The threshold of a row with the best mIoU on ``val`` episodes; None for a row without features."""
    if arm.features == "none":
        return None
    tables = _sweep(arm, source, val, shots)
    return max((miou(table), float(t)) for t, table in zip(THRESHOLDS, tables, strict=True))[1]


def score_training_free(
    arm: TrainingFree, source: Source, test: pd.DataFrame, shots: int, threshold: float | None
) -> pd.DataFrame:
    """Test a row on ``test`` episodes at the ``threshold`` that `best_threshold` chose.

    Returns what `asgnet.evaluate.score_episodes` returns, without loss."""
    if threshold is None:
        return _score(source, test, shots, None, arm, None)
    parts = in_parts(test, shots, MOST_IMAGES)
    scored = [_score(source, part, shots, _frozen(arm, source, part, shots), arm, threshold) for part in parts]
    return pd.concat(scored, ignore_index=True)


def _sweep(arm: TrainingFree, source: Source, episodes: pd.DataFrame, shots: int) -> list[pd.DataFrame]:
    """The episodes' counts at the working size, at every threshold."""
    counts = []
    for part in in_parts(episodes, shots, MOST_IMAGES):
        frozen = _frozen(arm, source, part, shots)
        for k in range(len(part)):
            episode = part.iloc[k]
            score = _similarity(arm, source, frozen, episode, shots)  # (S, S)
            target = source.masks([episode["query"]], [0], [int(episode["class"])])  # (1, S, S)
            level = torch.bucketize(score, THRESHOLDS.to(score.device))  # thresholds below the score
            counts.append(_counts_at_levels(level, target[0], len(THRESHOLDS)))
    stacked = torch.stack(counts).numpy()  # (E, thresholds, 4)
    return [
        episodes[["class"]].assign(**dict(zip(COUNTS, stacked[:, t].T, strict=True))) for t in range(len(THRESHOLDS))
    ]


def _counts_at_levels(level: Tensor, target: Tensor, thresholds: int) -> Tensor:
    """Counts (thresholds, 4) of the predictions "score above threshold t", for all t at once."""
    above = [  # pixels of the object, and of the rest, whose score is above each threshold
        torch.bincount(level[target == value], minlength=thresholds + 1).flip(0).cumsum(0).flip(0)[1:]
        for value in (1, 0)
    ]
    total = [(target == 1).sum(), (target == 0).sum()]
    inter_fg, union_fg = above[0], total[0] + above[1]
    inter_bg, union_bg = total[1] - above[1], total[0] + total[1] - above[0]
    return torch.stack([inter_fg, union_fg, inter_bg, union_bg], 1).cpu()


def _score(
    source: Source,
    episodes: pd.DataFrame,
    shots: int,
    frozen: _Frozen | None,
    arm: TrainingFree,
    threshold: float | None,
) -> pd.DataFrame:
    counts = []
    for k in range(len(episodes)):
        part = episodes.iloc[k]
        target = source.original_mask(part["query"], int(part["class"]))[None]  # (1, H, W)
        if frozen is None:
            prediction = torch.ones_like(target)
        else:
            assert threshold is not None
            score = _similarity(arm, source, frozen, part, shots)[None]
            prediction = unfit(score, *target.shape[1:]) > threshold
        counts.append(intersection_union(prediction, target)[0])
    return episodes[["episode", "class", "query"]].assign(
        supports=[";".join(ids) for ids in supports_of(episodes, shots)],
        **dict(zip(COUNTS, torch.stack(counts).T.numpy(), strict=True)),
        prototypes=0 if frozen is None else shots,
        fallback=0,
    )


def _frozen(arm: TrainingFree, source: Source, episodes: pd.DataFrame, shots: int) -> _Frozen:
    ids = sorted({*episodes["query"], *(i for row in supports_of(episodes, shots) for i in row)})
    maps = []
    for first in range(0, len(ids), 16):
        chunk = ids[first : first + 16]
        features = source.frozen(chunk, [0] * len(chunk))
        if arm.features == "cnn":
            chosen = features.cnn
        else:
            assert features.vit is not None
            chosen = tokens_to_map(features.vit)
        maps.append(F.normalize(chosen.float(), dim=1))
    return _Frozen(torch.cat(maps), {image_id: row for row, image_id in enumerate(ids)})


def tokens_to_map(tokens: Tensor) -> Tensor:
    """ViT tokens (n, 1 + T, D), class token first -> the patch tokens as a map (n, D, sqrt T, sqrt T)."""
    side = int(np.sqrt(tokens.shape[1] - 1))
    return rearrange(tokens[:, 1:], "n (h w) d -> n d h w", h=side)


def _similarity(arm: TrainingFree, source: Source, frozen: _Frozen, episode: pd.Series, shots: int) -> Tensor:
    """Cosine to the supports' foreground (minus that to their background), (S, S) in [-1, 1] or [-2, 2]."""
    ids = episode["supports"].split(";")[:shots]
    masks = source.masks(ids, [0] * shots, [int(episode["class"])] * shots)  # (K, S, S)
    maps = frozen.maps[[frozen.row[i] for i in ids]].to(masks.device)  # (K, C, h, w)
    grid = (maps.shape[2], maps.shape[3])
    query = frozen.maps[frozen.row[episode["query"]]].to(masks.device).flatten(1)  # (C, P)
    score = to_prototype(query, maps, to_grid((masks == 1).float(), grid))
    if arm.background:
        score = score - to_prototype(query, maps, to_grid((masks == 0).float(), grid))
    size = (source.size, source.size)
    return F.interpolate(score.view(1, 1, *grid), size=size, mode="bilinear", align_corners=True)[0, 0]


def to_prototype(query: Tensor, maps: Tensor, weight: Tensor) -> Tensor:
    """query (C, P) -> (P,): cosine to the average of the supports' cells, maps (K, C, h, w), weight (K, h, w)."""
    average = masked_average(maps.flatten(2).transpose(1, 2), weight.flatten(1)).mean(0)  # (C,)
    return F.normalize(average, dim=0) @ query
