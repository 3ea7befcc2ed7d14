"""Pages of square pictures with outlines, borders, numbers and paths on them, fast enough to follow a slider."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from skimage.measure import find_contours

from asgnet.plots import overlay

GAP = 0.04  # between pictures, as a share of their side
MARGIN, TITLE, HEADING = 0.06, 0.18, 0.22  # inches


@dataclass
class Tile:
    """A square picture (S, S, 3) uint8 and what is drawn over it. Places are (row, col) in its pixels."""

    image: np.ndarray
    title: str = ""
    strong: bool = False  # a bold title
    truth: np.ndarray | None = None  # (S, S) bool: a solid outline
    prediction: np.ndarray | None = None  # (S, S) bool: a dashed outline
    regions: np.ndarray | None = None  # (h, w) int: borders between the cells of different regions
    numbers: Sequence[tuple[str, float, float]] = ()  # text and place
    first: int = 0  # the number of the first seed and of the first path, from 0
    seeds: np.ndarray | None = None  # (n, 2) places of numbered discs
    paths: np.ndarray | None = None  # (T, n, 2) places: lines from the first to the last, where a dot stands


@dataclass
class Row:
    """Tiles beside one another, under a heading or, for print, beside a label."""

    tiles: Sequence[Tile]
    heading: str = ""
    label: str = ""


@dataclass
class Placed:
    """A tile on the page, whose coordinates (x, y) are inches from the top left corner."""

    tile: Tile
    left: float
    top: float
    side: float

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """(row, col) in pixels -> (x, y) on the page, for an array (..., 2)."""
        return (places[..., ::-1] + 0.5) * self.side / len(self.tile.image) + (self.left, self.top)


def page(rows: Sequence[Row], width: float, columns: int, title: str = "", label: str = "") -> Figure:
    """A figure of rows, ``width`` inches wide, of ``columns`` tiles each; the tiles of longer rows are smaller.

    ``title`` stands at the top left, ``label`` small at the top right. All of it is one axis whose places are computed
    here, and lines of a kind are drawn together: an axis a tile and matplotlib's own layout would take seconds."""
    left = MARGIN + 0.14 * any(row.label for row in rows)
    top = 0.2 * bool(title or label)
    counts = [max(columns, len(row.tiles)) for row in rows]
    sides = [(width - left - MARGIN) / (count + (count - 1) * GAP) for count in counts]
    height = top + sum(sides) + sum(TITLE + HEADING * bool(row.heading) for row in rows) + MARGIN
    figure = Figure(figsize=(width, height), layout="none")  # type: ignore[arg-type]  # which the stubs do not know
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axis.set_axis_off()
    axis.text(left, 0.04, title, va="top", weight="bold", fontsize=8)
    axis.text(width - MARGIN, 0.04, label, va="top", ha="right", fontsize=6, style="italic")
    every: list[Placed] = []
    for row, side in zip(rows, sides, strict=True):
        axis.text(left, top + 0.08, row.heading, va="top", fontsize=7.5)
        top += TITLE + HEADING * bool(row.heading)
        axis.text(left - 0.05, top + side / 2, row.label, rotation=90, ha="right", va="center")
        placed = [Placed(tile, left + k * side * (1 + GAP), top, side) for k, tile in enumerate(row.tiles)]
        _pictures(axis, placed)
        every += placed
        top += side
    _lines(axis, every)
    _marks(axis, every)
    return figure


def png(figure: Figure, dpi: int = 120) -> bytes:
    """The figure as a PNG for the screen, packed lightly: speed counts."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, pil_kwargs={"compress_level": 1})
    return buffer.getvalue()


def borders(labels: np.ndarray, size: int) -> np.ndarray:
    """Straight lines (n, 2, 2) between cells of different labels (h, w), closed at the frame. Their ends are (row, col)
    in a picture of ``size`` pixels a side, whose corner pixels are the centres of the corner cells."""
    padded = np.pad(labels, 1, constant_values=-1)
    lines = []
    for grid, turn in ((padded, 1), (padded.T, -1)):
        scale = (size - 1) / (np.array(grid.shape) - 3)  # pixels a cell
        edge = np.pad((grid[1:-1, 1:] != grid[1:-1, :-1]).T, ((0, 0), (1, 1))).astype(int)  # (column, row)
        column, start = np.nonzero(np.diff(edge) == 1)
        _, stop = np.nonzero(np.diff(edge) == -1)
        ends = [np.stack([row - 0.5, column - 0.5], 1) * scale for row in (start, stop)]
        lines.append(np.stack(ends, 1)[..., ::turn])
    return np.concatenate(lines).clip(-0.5, size - 0.5)


def _pictures(axis: Axes, row: Sequence[Placed]) -> None:
    """The photographs and maps of a row as one image."""
    size = len(row[0].tile.image)
    blank = np.full((size, round(GAP * size), 3), 255, np.uint8)
    strip = [part for placed in row for part in (placed.tile.image, blank)][:-1]
    first, last = row[0], row[-1]
    extent = (first.left, last.left + last.side, first.top + first.side, first.top)
    axis.imshow(np.concatenate(strip, 1), extent=extent, aspect="auto", interpolation="none")


def _lines(axis: Axes, every: Sequence[Placed]) -> None:
    """Borders of regions, outlines, and the paths of centres."""
    regions, truths, predictions, paths = [], [], [], []
    for placed in every:
        tile = placed.tile
        regions += [] if tile.regions is None else list(placed(borders(tile.regions, len(tile.image))))
        truths += [placed(line) for line in _outline(tile.truth)]
        predictions += [placed(line) for line in _outline(tile.prediction)]
        paths += [] if tile.paths is None else list(placed(tile.paths).swapaxes(0, 1))
    _edged(axis, regions, 0.6, capstyle="projecting")
    _edged(axis, truths, 0.8)
    _edged(axis, predictions, 0.8, overlay.REGIONS[1], "dashed")
    _edged(axis, paths, 0.8, zorder=2.5)


def _edged(
    axis: Axes, lines: list[np.ndarray], width: float, colour: str = "white", style: str = "solid", **options: Any
) -> None:
    """Lines (n, 2) of places (x, y) on a dark edge."""
    for hue, wide, dashes in (("black", width + 0.9, "solid"), (colour, width, style)):
        drawn = LineCollection(lines, colors=hue, linewidths=wide, linestyles=dashes, **options)
        axis.add_collection(drawn, autolim=False)


def _outline(mask: np.ndarray | None) -> list[np.ndarray]:
    """The border of a mask (S, S) as lines of places, closed at the frame."""
    return [] if mask is None else [line - 1 for line in find_contours(np.pad(mask, 1).astype(float), 0.5)]


def _marks(axis: Axes, every: Sequence[Placed]) -> None:
    """Titles, numbers, seed cells and the centres at the ends of their paths."""
    seeds, wide, ends, colours = [], [], [], []
    for placed in every:
        tile, weight = placed.tile, "bold" if placed.tile.strong else "normal"
        axis.text(placed.left + placed.side / 2, placed.top - 0.05, tile.title, ha="center", weight=weight)
        for text, *place in tile.numbers:
            x, y = placed(np.array(place))
            overlay.number(axis, text, y, x)
        for k, (x, y) in enumerate(() if tile.seeds is None else placed(tile.seeds)):
            number = str(tile.first + k + 1)
            seeds.append((x, y))
            wide.append(6.5 if len(number) == 1 else 9)
            axis.text(x, y, number, size=5.5, weight="bold", ha="center", va="center_baseline", zorder=5)
        for k, end in enumerate(() if tile.paths is None else placed(tile.paths[-1])):
            ends.append(end)
            colours.append(overlay.REGIONS[(tile.first + k) % len(overlay.REGIONS)])
    if seeds:
        x, y = np.array(seeds).T
        axis.scatter(x, y, s=np.square(wide), c="white", edgecolors="black", linewidths=0.7, zorder=4)
    if ends:
        x, y = np.array(ends).T
        axis.scatter(x, y, s=4.5**2, c=colours, edgecolors="white", linewidths=0.8, zorder=4)
