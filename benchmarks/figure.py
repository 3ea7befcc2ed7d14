"""benchmarks/results.png: ratios, memory, the distance from the machine's limit, and growth."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asgnet.files import atomic_path
from asgnet.plots import style
from asgnet.plots.save import DPI


@style.paper
def draw(results: pd.DataFrame, growth: pd.DataFrame | None) -> Figure:
    """results: of `table.complete`; growth: of `growth.growth`, or None."""
    axes_below = [] if growth is None else list(growth["axis"].unique())
    height = 0.6 + 0.17 * len(results)
    figure = Figure(figsize=(style.PAGE, height + (1.9 if axes_below else 0)))
    above, below = figure.subfigures(2, height_ratios=[height, 1.9]) if axes_below else (figure, None)
    times, memory, limit = above.subplots(1, 3, sharey=True)
    bars(times, results, results["ratio"], "time, plain / ours")
    bars(memory, results, results["plain_mib"] / results["ours_mib"], "peak memory, plain / ours")
    bars(limit, results, 100 * results["reached"], "of the machine's limit (%)", line=100)
    times.invert_yaxis()
    if below is not None:
        axes = below.subplots(1, len(axes_below), squeeze=False)[0]
        for axis, name in zip(axes, axes_below, strict=True):
            lines(axis, growth[growth["axis"] == name], name)
        below.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    note = results.iloc[0]
    style.note_below(figure, f"{note['cpu']}, {note['threads']} threads, {', '.join(results['precision'].unique())}")
    return figure


def bars(axis: Axes, results: pd.DataFrame, values: pd.Series, label: str, line: float = 1) -> None:
    """One bar a case."""
    axis.barh(results["case"], values, color=style.COLOURS[3], height=0.7)
    axis.axvline(line, color="0.3", linewidth=0.6)
    axis.set_xlabel(label)
    axis.grid(axis="x")
    axis.margins(x=0.18)
    for row, value in enumerate(values):
        text = axis.annotate(f"{value:.3g}", (value, row), (2, 0), textcoords="offset points", va="center", fontsize=6)
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.4})


def lines(axis: Axes, table: pd.DataFrame, name: str) -> None:
    """Seconds against one size, on logarithmic axes."""
    looks = style.looks(["plain", "ours"])
    for side, look in looks.items():
        axis.loglog(
            table["value"], table[f"{side}_s"], color=look.colour, linestyle=look.line, marker=look.marker, label=side
        )
    axis.set_xticks(table["value"], [str(value) for value in table["value"]])
    axis.minorticks_off()
    axis.set_xlabel(name)
    axis.set_title(f"{table['case'].iloc[0]} (s)")


def write(path: Path, results: pd.DataFrame, growth: pd.DataFrame | None) -> None:
    """Write the figure, atomically."""
    with atomic_path(path) as temporary:
        draw(results, growth).savefig(temporary, dpi=DPI)
