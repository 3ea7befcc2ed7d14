"""Figures of the walkthrough notebook: the operations that one forward pass is made of, and what it does to an
episode."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asgnet.plots import overlay, style

MAP = "cividis"  # lightness rises with the value
DOT: dict[str, Any] = {"color": "white", "markeredgecolor": "black", "markeredgewidth": 0.7}


@style.paper
def episode(supports: Sequence[tuple[np.ndarray, np.ndarray]], query: tuple[np.ndarray, np.ndarray]) -> Figure:
    """K supports and the query, each a picture (H, W, 3) uint8 and a mask (H, W) of 0, 1 (outlined) and 255
    (hatched)."""
    titles = [f"support {k + 1}" for k in range(len(supports))] + ["query"]
    figure, axes = _row(len(titles))
    for axis, title, (picture, mask) in zip(axes, titles, [*supports, query], strict=True):
        overlay.picture(axis, picture)
        overlay.outline(axis, mask == 1)
        if (mask == 255).any():
            axis.contourf((mask == 255).astype(float), [0.5, 1.5], colors="none", hatches=["////"])
        axis.set_title(title)
    return figure


@style.paper
def maps(shown: Mapping[str, np.ndarray]) -> Figure:
    """Photographs (H, W, 3) uint8 and maps (h, w) in a row, at one size, each map on a colour scale of its own."""
    figure, axes = _row(len(shown))
    for axis, (title, image) in zip(axes, shown.items(), strict=True):
        axis.imshow(image, cmap=MAP, interpolation="none")
        axis.set_axis_off()
        axis.set_title(title)
    return figure


@style.paper
def running_statistics(values: Mapping[str, Sequence[float]], batch_value: float) -> Figure:
    """A running statistic of BatchNorm after each batch, a line a mode, and the mean of the batches' own values."""
    figure = Figure(figsize=(style.COLUMN, 1.7))
    axis = figure.subplots()
    axis.axhline(batch_value, color="0.6", linewidth=0.8)
    axis.annotate("mean of the batches", (0, batch_value), (2, 3), textcoords="offset points", color="0.4")
    for (name, line), look in zip(values.items(), style.looks(list(values)).values(), strict=True):
        axis.plot(line, color=look.colour, linestyle=look.line, label=name)
    axis.set_xlabel("batches seen")
    axis.set_ylabel("running mean")
    axis.margins(y=0.18)
    axis.legend(loc="center right")
    return figure


@style.paper
def receptive_fields(fields: Mapping[str, np.ndarray]) -> Figure:
    """How strongly one output cell depends on each input cell, maps (n, n) >= 0: white is not at all. Logarithmic,
    relative to the strongest."""
    figure, axes = _row(len(fields), space=0.35)
    logarithms = [np.log10(np.where(field > 0, field, np.nan) / field.max()) for field in fields.values()]
    lowest = min(np.nanmin(values) for values in logarithms)
    for axis, title, values in zip(axes, fields, logarithms, strict=True):
        shown = axis.imshow(values, cmap=MAP, vmin=lowest, vmax=0, interpolation="none")
        axis.set_title(title)
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(True)
    bar = figure.colorbar(
        shown, ax=list(axes), fraction=0.02, pad=0.01, shrink=0.85, label="$\\log_{10}$ of the gradient"
    )
    bar.outline.set_linewidth(0.5)
    return figure


@style.paper
def dropped_channels(before: np.ndarray, after: np.ndarray) -> Figure:
    """Channels (C, h, w) above, the same after Dropout2d below, on one colour scale; a cross marks a dropped one."""
    count = len(before)
    figure = Figure(figsize=(style.PAGE, 2 * style.PAGE / count + 0.35))
    axes = figure.subplots(2, count)
    low, high = min(after.min(), 0), np.quantile(after, 0.995)
    for column, (one, other) in zip(axes.T, zip(before, after, strict=True), strict=True):
        for axis, channel in zip(column, (one, other), strict=True):
            axis.imshow(channel, cmap=MAP, vmin=low, vmax=high, interpolation="none")
            axis.set_xticks([])
            axis.set_yticks([])
        dropped = not other.any()
        column[1].set_xlabel("dropped" if dropped else "kept")
        if dropped:
            height, width = other.shape
            column[1].plot([0, width - 1, np.nan, 0, width - 1], [0, height - 1, np.nan, height - 1, 0], "w", lw=0.8)
    axes[0, 0].set_ylabel("before")
    axes[1, 0].set_ylabel("after")
    return figure


@style.paper
def align_corners(grid: np.ndarray, aligned: np.ndarray, unaligned: np.ndarray) -> Figure:
    """A small grid (n, n) enlarged to (m, m) with and without aligned corners: where the samples (dots) are taken, and
    what they give."""
    n, m = len(grid), len(aligned)
    places = {"True": np.linspace(0, n - 1, m), "False": (np.arange(m) + 0.5) * n / m - 0.5}
    figure, axes = _row(4)
    for (setting, place), result, (source, target) in zip(
        places.items(), (aligned, unaligned), (axes[:2], axes[2:]), strict=True
    ):
        _values(source, grid, grid, size=17, alpha=0.5)
        rows, columns = np.meshgrid(place, place, indexing="ij")
        source.plot(columns.ravel(), rows.ravel(), "o", markersize=3, **DOT)
        source.set_title(f"align_corners={setting}: samples")
        _values(target, result, grid)
        target.set_title("result")
    return figure


@style.paper
def token_slices(pictures: Mapping[str, np.ndarray], side: int) -> Figure:
    """Pictures (H, W, 3) uint8 put together from patches of ``side`` pixels, with the seams drawn."""
    figure, axes = _row(len(pictures))
    for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
        overlay.picture(axis, picture)
        for at in range(side, len(picture), side):
            axis.axhline(at - 0.5, color="white", linewidth=0.4)
            axis.axvline(at - 0.5, color="white", linewidth=0.4)
        axis.set_title(title)
    return figure


@style.paper
def allocation(
    supports: Sequence[tuple[np.ndarray, np.ndarray]],
    query: tuple[np.ndarray, np.ndarray],
    cells: np.ndarray,
    closeness: np.ndarray,
    seeds: np.ndarray,
    features: np.ndarray,
    guide: np.ndarray,
    probability: np.ndarray,
) -> Figure:
    """An episode of K shots as SGC and GPA saw it, on a grid of h x w cells.

    supports and query: picture (H, W, 3) uint8 and mask (H, W), 1 is the object. Of the supports: the masks on the grid
    cells (K, h, w), the closeness (K, N, h, w) of cells to centres, the seed cells (K, N, 2), -1 where unused. Of the
    query: features (C, h, w), guide map (h, w) into the K N prototypes, probability map (h, w).

    Above: supports with superpixels and seed cells (discs with the prototype's number), the query with its outline.
    Below: the query's features as colours (three principal components), guide map, probability map."""
    columns, slots = max(len(supports) + 1, 3), closeness.shape[1]
    figure = Figure(figsize=(style.PAGE, 2 * (style.PAGE / columns + 0.12)))
    axes = figure.subplots(2, columns)
    for axis in axes.flat:
        axis.set_axis_off()
    for k, (axis, (picture, mask)) in enumerate(zip(axes[0], supports, strict=False)):
        superpixels = np.where(cells[k] > 0, closeness[k].argmax(0) + k * slots, -1)
        labels = np.where(mask == 1, overlay.enlarge(superpixels, *mask.shape), -1)
        overlay.picture(axis, overlay.tint(picture, labels, strength=0.5))
        _discs(axis, seeds[k], mask.shape, superpixels.shape, first=k * slots)
        axis.set_title(f"support {k + 1}, superpixels", pad=8)  # a disc can sit on the frame
    asked, (colours, allocated, similar) = axes[0, len(supports)], axes[1, :3]
    overlay.picture(asked, query[0])
    overlay.outline(asked, query[1] == 1)
    asked.set_title("query, truth", pad=8)
    overlay.picture(colours, _three_colours(features))
    colours.set_title("features of the query")
    labels = overlay.enlarge(guide, *query[1].shape)
    overlay.picture(allocated, overlay.tint(query[0], labels))
    overlay.number_regions(allocated, labels)
    allocated.set_title("guide map")
    shown = similar.imshow(probability, cmap=MAP, interpolation="none")
    bar = figure.colorbar(shown, ax=similar, fraction=0.046, pad=0.03)
    bar.outline.set_linewidth(0.5)
    similar.set_title("probability map")
    return figure


def _discs(axis: Axes, seeds: np.ndarray, pixels: tuple[int, ...], grid: tuple[int, ...], first: int) -> None:
    """Seed cells (N, 2) as discs, numbered from first + 1, on a picture of that many pixels."""
    place = (np.array(pixels) - 1) / (np.array(grid) - 1)  # grid cell -> pixel
    for i, (y, x) in enumerate(seeds[(seeds >= 0).all(1)] * place):
        axis.plot(x, y, "o", markersize=8.5, clip_on=False, **DOT)
        axis.text(x, y, str(first + i + 1), size=6, weight="bold", ha="center", va="center_baseline")


def _three_colours(features: np.ndarray) -> np.ndarray:
    """Features (C, h, w) -> (h, w, 3) in [0, 1]: their first three principal components."""
    flat = features.reshape(len(features), -1)  # (C, P)
    flat = flat - flat.mean(1, keepdims=True)
    _, _, components = np.linalg.svd(flat, full_matrices=False)  # (C, P), the strongest first
    low, high = np.quantile(components[:3], [0.02, 0.98], axis=1)[..., None]
    colours = ((components[:3] - low) / (high - low)).clip(0, 1)
    return colours.T.reshape(*features.shape[1:], 3)


def _row(count: int, space: float = 0.0) -> tuple[Figure, np.ndarray]:
    """A figure of the page's width with a row of square axes; ``space`` inches of the width are for a colour bar."""
    figure = Figure(figsize=(style.PAGE, min((style.PAGE - space) / count, 2.4) + 0.2))
    return figure, figure.subplots(1, count, squeeze=False)[0]


def _values(axis: Axes, grid: np.ndarray, scale: np.ndarray, size: float = 6.5, alpha: float = 1.0) -> None:
    """A grid as cells coloured on the range of ``scale``, with their values."""
    axis.imshow(grid, cmap=MAP, vmin=scale.min(), vmax=scale.max(), interpolation="none")
    axis.set_axis_off()
    middle = (scale.min() + scale.max()) / 2
    for (row, column), value in np.ndenumerate(grid):
        colour = "black" if value > middle else "white"
        axis.text(column, row, f"{value:.3g}", color=colour, size=size, alpha=alpha, ha="center", va="center_baseline")
