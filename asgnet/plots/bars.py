"""Test results of all arms: mIoU, per fold, overfitting gap, paired difference to the baseline. Arms run down the
vertical axis, so that their names never collide however many there are."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from asgnet.plots import style

LINE = 0.17  # inches of height for one bar or marker
FAR = 10  # times the median end of an interval: beyond it a difference would hide all others
FILLS = ("#7fb0c9", "#f2dcae", "#b06f8f")


@style.paper
def test_miou(table: pd.DataFrame) -> Figure:
    """Mean test mIoU of each arm with its interval, a bar for each number of shots. table: ``tables.main_table``."""
    arms, shots = list(dict.fromkeys(table["arm"])), sorted(set(table["shots"]))
    figure = Figure(figsize=(style.COLUMN, 0.65 + len(arms) * (LINE * len(shots) + 0.08)))
    axis = figure.subplots()
    looks = _shot_looks(shots)
    height = 0.8 / len(shots)
    for i, count in enumerate(shots):
        rows = table[table["shots"] == count].set_index("arm").reindex(arms)
        place = _places(arms, i, len(shots))
        look = looks[count]
        axis.barh(
            place, rows["mean"], height * 0.92, color=look.colour, hatch=look.hatch, edgecolor="black", linewidth=0.5
        )
        spread = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
        axis.errorbar(rows["mean"], place, xerr=spread, fmt="none", ecolor="black", elinewidth=0.9)
        for y, value, high in zip(place, rows["mean"], rows["high"], strict=True):
            if np.isfinite(value):
                axis.annotate(f"{value:.1f}", (high, y), (3, 0), textcoords="offset points", va="center", fontsize=6.5)
    _arm_axis(axis, arms)
    axis.set_xlim(0, min(100, table["high"].max()) * 1.12)
    axis.set_xlabel("test mIoU (%), 95 % interval")
    axis.grid(axis="x")
    if len(shots) > 1:
        style.legend_above(
            figure,
            [
                Patch(
                    facecolor=looks[n].colour, hatch=looks[n].hatch, edgecolor="black", linewidth=0.5, label=f"{n}-shot"
                )
                for n in shots
            ],
        )
    return figure


@style.paper
def per_fold(table: pd.DataFrame) -> Figure:
    """Test mIoU of each arm on each fold (mean over random seeds), small multiples. table: ``tables.main_table``."""
    arms, shots = list(dict.fromkeys(table["arm"])), sorted(set(table["shots"]))
    folds = [name for name in table if name.startswith("fold ")]
    figure = Figure(figsize=(style.PAGE, 0.75 + len(arms) * LINE * 1.15))
    axes = figure.subplots(1, len(folds), sharex=True, sharey=True, squeeze=False)[0]
    looks = _shot_looks(shots)
    for axis, fold in zip(axes, folds, strict=True):
        for i, (count, look) in enumerate(looks.items()):
            values = table[table["shots"] == count].set_index("arm")[fold].reindex(arms)
            place = _places(arms, i, len(shots), spread=0.4)
            axis.plot(values, place, look.marker, color=look.colour, markeredgecolor="black", markeredgewidth=0.5)
        axis.set_title(fold)
        axis.set_xlabel("test mIoU (%)")
        axis.grid()
        axis.xaxis.set_major_locator(MaxNLocator(5))
        _arm_axis(axis, arms)
    if len(shots) > 1:
        style.legend_above(figure, [_marker(look, f"{n}-shot") for n, look in looks.items()], handlelength=1)
    return figure


@style.paper
def gap(gaps: pd.DataFrame, intervals: pd.DataFrame) -> Figure:
    """Overfitting gap of each arm: runs as small circles, mean and interval over them. ``tables.gaps`` and
    ``tables.gap_intervals``."""
    arms, kinds = list(dict.fromkeys(intervals["arm"])), list(dict.fromkeys(intervals["gap"]))
    figure = Figure(figsize=(style.COLUMN, 0.75 + len(arms) * LINE * 1.4))
    axes = figure.subplots(1, len(kinds), sharex=True, sharey=True, squeeze=False)[0]
    for axis, kind in zip(axes, kinds, strict=True):
        runs = gaps[gaps["gap"] == kind]
        place = runs["arm"].map(arms.index) + 0.24
        axis.plot(runs["points"], place, "o", color="0.55", markersize=2.2, markerfacecolor="none", markeredgewidth=0.6)
        means = intervals[intervals["gap"] == kind].set_index("arm").loc[arms]
        _interval_points(axis, means["mean"], means, np.arange(len(arms)) - 0.1, style.looks([kind])[kind])
        axis.axvline(0, color="black", linewidth=0.6)
        axis.set_title(kind.replace("-", "−"))
        axis.grid(axis="x")
        axis.xaxis.set_major_locator(MaxNLocator(5))
        _arm_axis(axis, arms)
    figure.supxlabel("gap in mIoU (percentage points)", fontsize=7.5)
    return figure


@style.paper
def differences(comparison: pd.DataFrame, arms: Sequence[str]) -> Figure:
    """Forest plot of the paired difference of ``arms`` to the baseline with interval and corrected p, a marker for
    each number of shots. comparison: ``tables.comparison``."""
    return forest({"": comparison.set_index("arm").loc[list(arms)].reset_index()})


@style.paper
def forest(families: Mapping[str, pd.DataFrame]) -> Figure:
    """The same for several families of rows, a panel each under its title ("" for none), all against one baseline. A
    family has the columns of ``tables.comparison``; its rows stand in the order given. A difference far beyond most
    stands as an arrow with its number at the edge."""
    arms = [list(dict.fromkeys(table["arm"])) for table in families.values()]
    shots = sorted({shots for table in families.values() for shots in table["shots"]})
    line = LINE * len(shots) + 0.08
    height = 0.65 + sum(len(names) * line for names in arms) + 0.2 * sum(map(bool, families)) + 0.1 * (len(arms) - 1)
    figure = Figure(figsize=(style.COLUMN, height))
    ratios = [len(names) for names in arms]
    axes = figure.subplots(len(arms), sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    looks = _shot_looks(shots)
    ends = pd.concat([table[["low", "high"]] for table in families.values()]).abs().stack()
    far = FAR * ends.median()
    for axis, (title, table), names in zip(axes, families.items(), arms, strict=True):
        _forest(axis, table, names, looks, far)
        axis.set_title(title)
    baseline = style.label(next(iter(families.values()))["baseline"].iloc[0])
    axes[-1].set_xlabel(f"difference to {baseline} in\ntest mIoU (points, 95 % interval)")
    if len(shots) > 1:
        style.legend_above(figure, [_marker(look, f"{n}-shot") for n, look in looks.items()], handlelength=1)
    return figure


def _forest(
    axis: Axes, comparison: pd.DataFrame, arms: Sequence[str], looks: dict[int, style.Look], far: float
) -> None:
    for i, (count, look) in enumerate(looks.items()):
        rows = comparison[comparison["shots"] == count].set_index("arm").reindex(arms)
        place = _places(arms, i, len(looks))
        beyond = rows["difference"].abs() > far
        _interval_points(axis, rows["difference"].mask(beyond), rows, place, look)
        for y, value in zip(place[beyond], rows["difference"][beyond], strict=True):
            edge, arrow = (0, f"\u25c2 {value:+.1f}") if value < 0 else (1, f"{value:+.1f} \u25b8")
            side: dict[str, Any] = {"ha": ("left", "right")[edge], "xytext": ((4, -4)[edge], 0)}
            axis.annotate(
                arrow, (edge, y), xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
                fontsize=6.5, **side,
            )  # fmt: skip
        for y, p in zip(place, rows["p_holm"], strict=True):
            if np.isfinite(p):
                text = "p < 0.01" if p < 0.01 else f"p = {p:.2f}"
                axis.annotate(text, (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=6.5)
    axis.axvline(0, color="black", linewidth=0.6)
    _arm_axis(axis, arms)
    axis.grid(axis="x")


def _places(arms: Sequence[str], i: int, count: int, spread: float = 0.8) -> np.ndarray:
    """Heights of the arms for the i-th of ``count`` series side by side."""
    return np.arange(len(arms)) + (i - (count - 1) / 2) * spread / count


def _shot_looks(shots: Sequence[int]) -> dict[int, style.Look]:
    """Light fills, so that an interval drawn in black shows on a bar."""
    return {
        shot: replace(look, colour=FILLS[i % len(FILLS)]) for i, (shot, look) in enumerate(style.looks(shots).items())
    }


def _interval_points(axis: Axes, values: pd.Series, ends: pd.DataFrame, place: np.ndarray, look: style.Look) -> None:
    spread = [values - ends["low"], ends["high"] - values]
    axis.errorbar(
        values, place, xerr=spread, fmt=look.marker, color=look.colour, ecolor="black", elinewidth=0.9, capsize=1.8,
        markeredgecolor="black", markeredgewidth=0.5,
    )  # fmt: skip


def _marker(look: style.Look, text: str) -> Line2D:
    return Line2D(
        [],
        [],
        color=look.colour,
        marker=look.marker,
        linestyle="",
        markeredgecolor="black",
        markeredgewidth=0.5,
        label=text,
    )


def _arm_axis(axis: Axes, arms: Sequence[str]) -> None:
    axis.set_yticks(range(len(arms)), [style.label(arm) for arm in arms])
    axis.set_ylim(len(arms) - 0.45, -0.55)  # the first arm on top
    axis.tick_params(axis="y", length=0)
