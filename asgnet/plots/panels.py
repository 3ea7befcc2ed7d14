"""What the network predicted on single episodes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from asgnet.plots import overlay, style

SHARP = 180  # pixels along the longer side of a photograph: about 150 to the inch where six stand in a line


@dataclass(frozen=True)
class Prediction:
    """One episode with its first support and what was predicted."""

    title: str
    support: np.ndarray  # (H, W, 3) uint8
    mask: np.ndarray  # (H, W) bool
    query: np.ndarray  # (H', W', 3) uint8
    truth: np.ndarray  # (H', W') of 0, 1 and 255 (not scored)
    prediction: np.ndarray  # (H', W') bool
    iou: float  # per cent


@style.paper
def predictions(rows: Sequence[Prediction]) -> Figure:
    """Two episodes a line, three pictures each: support and mask, query and truth, prediction with its IoU. In the
    third the prediction keeps its colours under a tint (dashed yellow border), beside the truth (solid white)."""
    lines = -(-len(rows) // 2)
    figure = Figure(figsize=(style.PAGE, 1.32 * lines))
    axes = figure.subplots(lines, 7, squeeze=False, width_ratios=[1, 1, 1, 0.06, 1, 1, 1])
    for axis in axes.flat:
        axis.set_axis_off()
        axis.set_anchor("N")  # photographs of any aspect hang from the same line
    for i, row in enumerate(rows):
        support, query, result = axes[i // 2, 4 * (i % 2) : 4 * (i % 2) + 3]
        truth = row.truth == 1
        overlay.picture(support, row.support, SHARP)
        overlay.outline(support, row.mask)
        overlay.picture(query, row.query, SHARP)
        overlay.outline(query, truth)
        overlay.picture(result, overlay.tint(row.query, np.where(row.prediction, 1, -1), strength=0.35), SHARP)
        overlay.outline(result, truth, width=0.8)
        overlay.outline(result, row.prediction, colour=overlay.REGIONS[1], width=0.8, style="dashed")
        support.set_title(row.title, loc="left", fontsize=7, pad=3)
        result.set_title(f"IoU {row.iou:.0f} %", loc="right", fontsize=7, pad=3)
    return figure
