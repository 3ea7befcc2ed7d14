"""mIoU against numbers: how many prototypes, the settings of SGC, how many shots. Above stands the level; below, what
the pairing on identical episodes lets one say, the difference to the reference setting."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from asgnet.intervals import LEVEL
from asgnet.plots import style

MIOU = "test mIoU (%)"
HEIGHT = 3.4  # inches of two panels on each other
HEAT = "cividis"  # lightness rises with the value
MEAN = style.Look("black", "-", "o", "")


@style.paper
def counts(table: pd.DataFrame, n_max: Mapping[str, int]) -> Figure:
    """Networks trained with several N_max, a column for each number of shots. table: of `ablation_table`, one family
    of settings; n_max: the N_max of each setting."""
    table = table.assign(x=table["setting"].map(n_max)).sort_values("x")
    shots, ticks = sorted(set(table["shots"])), sorted(set(table["x"]))
    figure = Figure(figsize=(style.COLUMN, HEIGHT))
    axes = figure.subplots(2, len(shots), sharex=True, sharey="row", squeeze=False)
    for column, count in zip(axes.T, shots, strict=True):
        level_and_difference(column, table[table["shots"] == count])
        column[0].set_title(f"{count}-shot")
        column[1].set_xlabel("$N_\\mathrm{max}$ in training")
        column[1].set_xticks(ticks, [f"{x:d}" for x in ticks])
    name_axes(axes[:, 0])
    _fold_legend(figure, table)
    return figure


@style.paper
def settings(table: pd.DataFrame) -> Figure:
    """The settings of SGC at test time, a column each: the tables "iterations", "spatial weight" and "seed rule" of the
    variations, those that are there."""
    labels = {"iterations": "iterations of SGC", "spatial weight": "$r^2$ (squared cells)", "seed rule": "seed rule"}
    names = [name for name in labels if name in set(table["table"])]
    widths = [1 if name == "seed rule" else 2 for name in names]
    figure = Figure(figsize=(style.PAGE, HEIGHT))
    axes = figure.subplots(2, len(names), sharex="col", sharey="row", squeeze=False, width_ratios=widths)
    for column, name in zip(axes.T, names, strict=True):
        rows, axis = table[table["table"] == name], column[1]
        if name == "seed rule":
            level_and_difference(column, rows.assign(x=range(len(rows))), connect=False)
            axis.set_xticks(range(len(rows)), rows["setting"])
            axis.set_xlim(-0.6, len(rows) - 0.4)
        else:
            rows = rows.assign(x=rows["setting"].astype(float)).sort_values("x")
            level_and_difference(column, rows)
            if rows["x"].min() > 0:
                axis.set_xscale("log")
            else:
                axis.set_xscale("symlog", linthresh=1, linscale=0.5)  # 0 to 1 as wide as half a decade
            axis.set_xticks(rows["x"], [f"{x:,g}" for x in rows["x"]])
            axis.minorticks_off()
        axis.set_xlabel(labels[name])
    name_axes(axes[:, 0], shots=table["shots"].iloc[0])
    _fold_legend(figure, table)
    return figure


@style.paper
def shots_fusion(table: pd.DataFrame) -> Figure:
    """Ways to fuse the shots, a line each, against the number of shots. table: one family of settings, the reference
    one of them at every number of shots."""
    ways, shots = list(dict.fromkeys(table["setting"])), sorted(set(table["shots"]))
    figure = Figure(figsize=(style.COLUMN, HEIGHT))
    axes = figure.subplots(2, 1, sharex=True)
    looks = style.looks(ways)
    for i, (way, look) in enumerate(looks.items()):
        rows = table[table["setting"] == way].sort_values("shots")
        place = rows["shots"] * 1.035 ** (i - (len(ways) - 1) / 2)  # side by side, so that intervals do not overlap
        level(axes[0], place, rows, look)
        if rows["difference"].notna().any():
            difference(axes[1], place, rows, look)
    axes[1].set_xscale("log")
    axes[1].set_xticks(shots, [f"{count:d}" for count in shots])
    axes[1].minorticks_off()
    axes[1].set_xlabel("shots")
    name_axes(axes, table["reference"].dropna().iloc[0])
    style.legend_above(figure, [line(look, way) for way, look in looks.items()], handlelength=1.8)
    return figure


@style.paper
def count_heat(table: pd.DataFrame, n_max: Mapping[str, int]) -> Figure:
    """Every trained N_max (rows) tested at every N_max (columns), mIoU in numbers and colours. A frame marks the count
    of training; a star, a difference to it that the interval and the corrected p both find.

    table: the table "count" of the variations at one number of shots; n_max: the N_max of each ``arm``."""
    table = table.assign(trained=table["arm"].map(n_max), tested=table["setting"].astype(int))
    grid = table.pivot(index="trained", columns="tested", values="mean")
    clear = table["difference_low"].gt(0) | table["difference_high"].lt(0)
    table = table.assign(star=clear & table["p_holm"].le(1 - LEVEL))
    stars = table.pivot(index="trained", columns="tested", values="star")
    figure = Figure(figsize=(style.COLUMN, 0.75 + 0.42 * len(grid)))
    axis = figure.subplots()
    shown = axis.imshow(grid, cmap=HEAT, origin="lower", aspect="auto", interpolation="none")
    for (row, column), value in np.ndenumerate(grid.to_numpy()):
        red, green, blue, _ = colormaps[HEAT](shown.norm(value))
        ink = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "black"
        text = f"{value:.1f}" + ("*" if stars.iat[row, column] else "")
        axis.text(column, row, text, ha="center", va="center", color=ink)
        if grid.index[row] == grid.columns[column]:
            axis.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, color=ink, linewidth=0.9))
    axis.set_xticks(range(len(grid.columns)), grid.columns)
    axis.set_yticks(range(len(grid)), grid.index)
    axis.set_xlabel("$N_\\mathrm{max}$ in testing")
    axis.set_ylabel("$N_\\mathrm{max}$ in training")
    axis.tick_params(length=0)
    bar = figure.colorbar(shown, ax=axis, pad=0.02, label=f"{table['shots'].iloc[0]}-shot {MIOU}")
    bar.outline.set_linewidth(0.5)
    return figure


def level_and_difference(column: Sequence[Axes], rows: pd.DataFrame, connect: bool = True) -> None:
    """Rows against their column ``x``: above each fold thin and their mean thick with its interval, below the
    difference."""
    for name, look in _folds(rows).items():
        column[0].plot(rows["x"], rows[name], color=look.colour, linestyle=look.line if connect else "", linewidth=0.7,
                       marker=look.marker, markersize=2.4)  # fmt: skip
    if connect:
        column[0].fill_between(rows["x"], rows["low"], rows["high"], color="0.91", linewidth=0)
        column[0].plot(rows["x"], rows["mean"], color=MEAN.colour, marker=MEAN.marker)
        column[0].grid(axis="y")
    else:
        level(column[0], rows["x"], rows, MEAN, connect)
    difference(column[1], rows["x"], rows, MEAN, connect)


def level(axis: Axes, place: pd.Series, rows: pd.DataFrame, look: style.Look, connect: bool = True) -> None:
    """The mean over folds with its interval at the places of ``rows``."""
    _points(axis, place, rows["mean"], rows["low"], rows["high"], look, connect)
    axis.grid(axis="y")


def difference(axis: Axes, place: pd.Series, rows: pd.DataFrame, look: style.Look, connect: bool = True) -> None:
    """The paired difference with its interval; the reference stands hollow on the line at 0."""
    reference = rows["difference"].isna()
    value, low, high = (rows[name].fillna(0) for name in ("difference", "difference_low", "difference_high"))
    axis.axhline(0, color="black", linewidth=0.6)
    _points(axis, place, value, low, high, look, connect)
    axis.plot(place[reference], 0 * place[reference], look.marker, color="white", markeredgecolor="black",
              markeredgewidth=0.9, zorder=3)  # fmt: skip
    axis.grid(axis="y")


def line(look: style.Look, text: str, **options: Any) -> Line2D:
    """A legend's entry for a line with markers."""
    return Line2D([], [], color=look.colour, linestyle=look.line, marker=look.marker, label=text, **options)


def name_axes(column: Sequence[Axes] | np.ndarray, to: str = "hollow mark", shots: int | None = None) -> None:
    """Names of the vertical axes of a column of two; to: what the differences are to; shots: if all have as many."""
    column[0].set_ylabel((f"{shots}-shot " if shots else "") + f"{MIOU},\n95 % interval")
    column[1].set_ylabel(f"difference to\n{to} (points)")
    column[0].figure.align_ylabels(column)


def _points(
    axis: Axes, place: pd.Series, values: pd.Series, low: pd.Series, high: pd.Series, look: style.Look, connect: bool
) -> None:
    axis.errorbar(
        place, values, yerr=[values - low, high - values], color=look.colour, linestyle=look.line if connect else "",
        marker=look.marker, elinewidth=0.9, capsize=1.8, markeredgecolor="black", markeredgewidth=0.5,
    )  # fmt: skip


def _folds(table: pd.DataFrame) -> dict[str, style.Look]:
    return style.looks([name for name in table if name.startswith("fold ") and table[name].notna().any()])


def _fold_legend(figure: Figure, table: pd.DataFrame) -> None:
    folds = [line(look, name, linewidth=0.7, markersize=2.4) for name, look in _folds(table).items()]
    style.legend_above(figure, [*folds, line(MEAN, "mean")], handlelength=1.8)
