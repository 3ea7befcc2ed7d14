"""Drawing masks and label maps on photographs."""

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from scipy.ndimage import distance_transform_edt
from skimage.transform import resize_local_mean

# neighbours differ in lightness as well as in hue; repeats after twelve (numbers on the regions tell them apart)
REGIONS = ("#1f4e9c", "#f7de7c", "#a3274f", "#86d0c5", "#e8773a", "#3d3b8e",
           "#c5e063", "#a44a9c", "#f7b2bd", "#1e7145", "#fb8b24", "#5b8def")  # fmt: skip


def region_colours(labels: np.ndarray) -> np.ndarray:
    """Label map (H, W) int, negative = none -> colours (H, W, 3) in [0, 1], white where none."""
    table = np.array([to_rgb(colour) for colour in REGIONS])
    return np.where((labels >= 0)[..., None], table[labels % len(table)], 1.0)


def tint(image: np.ndarray, labels: np.ndarray, strength: float = 0.6) -> np.ndarray:
    """Photograph (H, W, 3) uint8 with the regions of labels (H, W) int laid over it -> (H, W, 3) in [0, 1].

    What lies outside all regions is paled."""
    photograph = image / 255
    paled = 0.45 * photograph + 0.55
    return np.where((labels >= 0)[..., None], (1 - strength) * photograph + strength * region_colours(labels), paled)


def enlarge(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map on the feature grid (h, w) -> (height, width), nearest cell with aligned corners: the grid's corner cells
    sit on the image's corner pixels, as in the network."""
    rows = np.rint(np.linspace(0, grid.shape[0] - 1, height)).astype(int)
    columns = np.rint(np.linspace(0, grid.shape[1] - 1, width)).astype(int)
    return grid[np.ix_(rows, columns)]


def picture(axis: Axes, image: np.ndarray, longest: int | None = None) -> None:
    """Show an image (H, W, 3) without ticks, in at most ``longest`` pixels a side, at the same coordinates."""
    height, width = image.shape[:2]
    step = 1 if longest is None else -(-max(height, width) // longest)
    if step > 1:
        image = resize_local_mean(image, (height // step, width // step), channel_axis=-1)
    axis.imshow(image, interpolation="none", extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    axis.set_axis_off()


def outline(axis: Axes, mask: np.ndarray, colour: str = "white", width: float = 1.0, style: str = "solid") -> None:
    """The border of mask (H, W) bool as a line of ``width`` points with a dark edge, closed at the frame."""
    if not mask.any():
        return
    height, wide = mask.shape
    border = axis.contour(
        np.arange(-1, wide + 1), np.arange(-1, height + 1), np.pad(mask, 1).astype(float), [0.5],
        colors=colour, linewidths=width, linestyles=style,
    )  # fmt: skip
    border.set_path_effects([patheffects.Stroke(linewidth=width + 1.0, foreground="black"), patheffects.Normal()])
    axis.set_xlim(-0.5, wide - 0.5)
    axis.set_ylim(height - 0.5, -0.5)


def number(axis: Axes, text: str, row: float, column: float, size: float = 6.5) -> None:
    """White text with a black edge, readable on anything."""
    edge = [patheffects.withStroke(linewidth=1.6, foreground="black")]
    axis.text(column, row, text, color="white", size=size, weight="bold", ha="center", va="center", path_effects=edge)


def number_regions(axis: Axes, labels: np.ndarray, least: float = 0.006) -> None:
    """Write each label + 1 at the innermost point of its region; regions under ``least`` of the frame get none."""
    for index in range(labels.max() + 1):
        region = labels == index
        if region.mean() > least:
            depth = distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
            number(axis, str(index + 1), *np.unravel_index(depth.argmax(), depth.shape))
