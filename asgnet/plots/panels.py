"""What the network saw and did on single episodes: superpixels and guide maps, predictions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from asgnet.plots import overlay, style

SHARP = 260  # pixels along the longer side of a photograph: over 200 to the inch where six stand in a line
PROBABILITY = "cividis"  # lightness rises with the value


@dataclass(frozen=True)
class Clustering:
    """One support and one query of an episode as SGC and GPA saw them. The grid has h x w cells."""

    title: str
    support: np.ndarray  # (H, W, 3) uint8
    mask: np.ndarray  # (H, W) bool
    superpixel: np.ndarray  # (h, w) int: the cell's strongest prototype, -1 outside the support mask
    seed_cells: np.ndarray  # (N, 2) int: (row, col) on the grid
    query: np.ndarray  # (H, W, 3) uint8
    truth: np.ndarray  # (H, W) bool
    guide: np.ndarray  # (h, w) int: index of the allocated prototype
    probability: np.ndarray  # (h, w) float: sum of the similarities over prototypes, which may differ in range


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
def superpixels(rows: Sequence[Clustering]) -> Figure:
    """A row an episode: support with superpixels (colours, numbers) and seed cells (white dots); query with its true
    outline; guide map; probability map with its range."""
    figure = Figure(figsize=(style.PAGE, 0.25 + 1.68 * len(rows)))
    axes = figure.subplots(len(rows), 4, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        height, width = row.mask.shape
        labels = np.where(row.mask, overlay.enlarge(row.superpixel, height, width), -1)
        overlay.picture(line[0], overlay.tint(row.support, labels, strength=0.5))
        for index in range(labels.max() + 1):
            overlay.outline(line[0], labels == index, width=0.7)
        place = (np.array([height, width]) - 1) / (np.array(row.superpixel.shape) - 1)  # grid cell -> pixel
        for i, (y, x) in enumerate(row.seed_cells * place):
            line[0].plot(x, y, "o", color="white", markersize=6.5, markeredgecolor="black", markeredgewidth=0.7)
            line[0].text(x, y, str(i + 1), size=5.5, weight="bold", ha="center", va="center_baseline")
        overlay.picture(line[1], row.query)
        overlay.outline(line[1], row.truth)
        guide = overlay.enlarge(row.guide, *row.truth.shape)
        overlay.picture(line[2], overlay.tint(row.query, guide))
        overlay.number_regions(line[2], guide)
        shown = line[3].imshow(row.probability, cmap=PROBABILITY, interpolation="nearest")
        line[3].set_axis_off()
        bar = figure.colorbar(shown, ax=line[3], fraction=0.046, pad=0.03)
        bar.outline.set_linewidth(0.5)
        line[0].text(-0.03, 0.5, row.title, rotation=90, ha="right", va="center", transform=line[0].transAxes)
    titles = ("support, superpixels", "query, truth", "guide map", "probability map")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    return figure


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
