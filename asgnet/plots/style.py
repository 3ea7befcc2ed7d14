"""One look for all figures: sizes of a two-column paper, and colours that keep their order when printed in grey."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import seaborn as sns
from matplotlib import rc_context
from matplotlib.figure import Figure

COLUMN, PAGE = 3.4, 7.0  # widths in inches of one column and of the text

RC = {
    **sns.axes_style("ticks"),
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "grid.linewidth": 0.4,
    "grid.color": "0.88",
    "hatch.linewidth": 0.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,  # of notebooks; files have their own (`asgnet.plots.save`)
}

# from dark to light: CIE lightness about 13, 30, 47, 60, 74, 85
COLOURS = ("#1b1f3b", "#7b1e5a", "#c8443a", "#2a9d8f", "#f2a541", "#c9dca0")
LINES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P")
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")

paper = rc_context(RC)  # a decorator: figures drawn inside have this style


@dataclass(frozen=True)
class Look:
    """How one series is told apart: by colour, and without colour by line, marker or hatch."""

    colour: str
    line: Any  # a name or a pattern of Matplotlib
    marker: str
    hatch: str


def looks(names: Sequence) -> dict:
    """A look for each of a few series (arms, splits, numbers of shots), dark to light in the order given."""
    step = max(1, len(COLOURS) // max(len(names), 1))  # few series: spread them over the lightness range
    return {
        name: Look(
            COLOURS[i * step % len(COLOURS)],
            LINES[i % len(LINES)],
            MARKERS[i % len(MARKERS)],
            HATCHES[i % len(HATCHES)],
        )
        for i, name in enumerate(names)
    }


def label(arm: str) -> str:
    """An arm's name in print."""
    return arm.replace("_", " ")


def legend_above(figure: Figure, handles: Sequence, **options: Any) -> None:
    """One row of legend above all axes."""
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), columnspacing=1.6, **options)


def note_below(figure: Figure, text: str) -> None:
    """A small line under everything, for which the layout makes room."""
    font = {"size": 6, "style": "italic"}
    figure.legend([], [], title=text, title_fontproperties=font, loc="outside lower right", frameon=False)
