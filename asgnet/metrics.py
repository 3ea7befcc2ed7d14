"""Intersection over union of few-shot segmentation: summed over episodes, then divided (facts: Evaluation)."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

COUNTS = ["inter_fg", "union_fg", "inter_bg", "union_bg"]
IGNORE = 255


def intersection_union(prediction: Tensor, target: Tensor) -> Tensor:
    """Pixel counts of binary masks, made on the CPU by numpy, which compares and counts bytes ten times as fast as
    torch does there.

    prediction: (B, H, W) of 0 and 1; target: (B, H, W) of 0, 1 and 255, where 255 counts nowhere.
    Returns (B, 4) int64, the columns in the order of ``COUNTS``.
    """
    marked, truth = (masks.flatten(1).cpu().numpy() for masks in (prediction, target))  # (B, P)
    known, true = truth != IGNORE, truth == 1
    predicted = (marked == 1) & known
    kinds = (predicted & true, predicted | true, known)
    both, either, seen = (np.array([np.count_nonzero(row) for row in kind]) for kind in kinds)  # (B,) each
    return torch.from_numpy(np.stack([both, either, seen - either, seen - both], 1).astype(np.int64))


def miou_of_sums(sums: np.ndarray) -> np.ndarray:
    """Mean over classes of the foreground IoU in per cent. sums: (..., C, 4) summed counts -> (...).

    A class without a pixel in the union (no episode of it was drawn) is left out of the mean."""
    inter, union = sums[..., 0], sums[..., 1]  # (..., C)
    present = union > 0
    iou = np.divide(inter, union, out=np.zeros(inter.shape), where=present)
    return 100 * iou.sum(-1) / present.sum(-1)


def fb_iou_of_sums(sums: np.ndarray) -> np.ndarray:
    """FB-IoU in per cent: mean of foreground and background IoU, classes put together. (..., C, 4) -> (...)."""
    total = sums.sum(-2)  # (..., 4)
    return 50 * (total[..., 0] / total[..., 1] + total[..., 2] / total[..., 3])


def class_sums(episodes: pd.DataFrame) -> pd.DataFrame:
    """Counts summed over the episodes of each class: one row a class (index: class id), columns ``COUNTS``."""
    return episodes.groupby("class")[COUNTS].sum()


def class_iou(episodes: pd.DataFrame) -> pd.Series:
    """Foreground IoU of each class in per cent, indexed by class id. episodes: columns class and ``COUNTS``."""
    sums = class_sums(episodes)
    return 100 * sums["inter_fg"] / sums["union_fg"]


def miou(episodes: pd.DataFrame) -> float:
    """Mean over classes of the foreground IoU in per cent. episodes: columns class and ``COUNTS``."""
    return float(miou_of_sums(class_sums(episodes).to_numpy()))


def fb_iou(episodes: pd.DataFrame) -> float:
    """Mean of foreground and background IoU over all episodes in per cent. episodes: columns class and ``COUNTS``."""
    return float(fb_iou_of_sums(class_sums(episodes).to_numpy()))
