"""The metrics file of one tested run."""

from typing import Any

import pandas as pd

from asgnet.intervals import interval
from asgnet.metrics import class_iou, fb_iou


def run_metrics(
    episodes: pd.DataFrame, classes: tuple[str, ...], fold: int, seed: int, resamples: int
) -> dict[str, Any]:
    """mIoU, FB-IoU and IoU per class in per cent, the interval over query images, and counts.

    One run is one block: its interval says nothing of other random seeds or folds (the tables over runs do)."""
    found = interval({(fold, seed): episodes}, resamples=resamples)
    return {
        "miou": found.value,
        "miou_low": found.low,
        "miou_high": found.high,
        "fb_iou": fb_iou(episodes),
        "iou": {classes[label - 1]: value for label, value in class_iou(episodes).items()},
        "episodes": len(episodes),
        "mean_prototypes": float(episodes["prototypes"].mean()),
        "vanished_masks": int(episodes["fallback"].sum()),
    }
