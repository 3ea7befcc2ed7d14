"""Contact sheet of a dataset: examples of every class with outline and part map."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from skimage.segmentation import find_boundaries
from skimage.transform import resize

from asgnet.plots import overlay, style

SIDE = 120  # pixels of a cell: about 140 to the inch in print, and a sheet of 20 classes stays a small file
GAP = 5
COLUMNS = 2

Example = tuple[
    np.ndarray, np.ndarray, np.ndarray | None
]  # image (H, W, 3) uint8, mask (H, W) bool, parts (H, W) or None


@style.paper
def contact_sheet(examples: Mapping[str, Sequence[Example]]) -> Figure:
    """One strip a class: each example's photograph with the outline of its mask, and its part map (one colour a
    part) where the dataset has one. parts: 0 = no part, 1.. = part."""
    strips = {name: _strip(some) for name, some in examples.items()}
    lines = -(-len(strips) // COLUMNS)
    height, width = (max(strip.shape[i] for strip in strips.values()) for i in (0, 1))
    figure = Figure(figsize=(style.PAGE, lines * (style.PAGE / COLUMNS * 0.97 * height / width + 0.19)))
    axes = figure.subplots(lines, COLUMNS, squeeze=False).T.flatten()  # down the first column, then the next
    for axis in axes:
        axis.set_axis_off()
    for axis, (name, strip) in zip(axes, strips.items(), strict=False):
        padded = np.ones((height, width, 3))
        padded[:, : strip.shape[1]] = strip
        overlay.picture(axis, padded)
        axis.set_title(name, loc="left", pad=1.5, fontsize=7)
    return figure


def _strip(examples: Sequence[Example]) -> np.ndarray:
    cells = []
    for image, mask, parts in examples:
        cells.append(_outlined(image, mask))
        if parts is not None:
            cells.append(_square(overlay.tint(image, parts.astype(int) - 1, strength=0.75), order=0, fill=1.0))
    between = np.ones((SIDE, GAP, 3))
    return np.concatenate([piece for cell in cells for piece in (cell, between)][:-1], axis=1)


def _outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    cell = _square(image / 255, order=1, fill=1.0)
    border = _square(mask.astype(float), order=0, fill=0.0) > 0.5
    line = find_boundaries(border, mode="thick")
    edge = find_boundaries(line, mode="outer")
    cell[edge] = 0.0
    cell[line] = 1.0
    return cell


def _square(image: np.ndarray, order: int, fill: float) -> np.ndarray:
    """Fit (H, W[, 3]) into SIDE x SIDE, aspect kept, centred on ``fill``."""
    scale = SIDE / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    fitted = resize(image, (height, width), order=order, anti_aliasing=order > 0)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    cell = np.full((SIDE, SIDE, *image.shape[2:]), fill)
    cell[top : top + height, left : left + width] = fitted
    return cell
