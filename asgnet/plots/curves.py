"""Training curves of each arm on train, val and novel episodes."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from asgnet.plots import style

SPLITS = {"train": "train", "val": "val (base classes)", "novel": "novel classes"}
QUANTITIES = {"miou": "mIoU (%)", "loss": "cross-entropy loss"}


@style.paper
def curves(histories: pd.DataFrame, arms: Sequence[str]) -> Figure:
    """mIoU (above) and loss (below) against the epoch, a column an arm: runs (folds x random seeds) thin, their mean
    thick. histories: as from ``results.histories``. At most five arms fit the width of a page."""
    figure = Figure(figsize=(max(style.COLUMN, 0.4 + 1.65 * len(arms)), 3.3))
    axes = figure.subplots(2, len(arms), sharex=True, sharey="row", squeeze=False)
    looks = style.looks(list(SPLITS))
    for column, arm in enumerate(arms):
        table = histories[histories["arm"] == arm]
        for axis, quantity in zip(axes[:, column], QUANTITIES, strict=True):
            for split, look in looks.items():
                runs = table.pivot(index="epoch", columns=["fold", "seed"], values=f"{split}_{quantity}")
                axis.plot(runs, color=look.colour, linewidth=0.5, alpha=0.35)
                axis.plot(runs.mean(axis=1), color=look.colour, linestyle=look.line)
            axis.grid(axis="y")
            axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes[0, column].set_title(style.label(arm))
        axes[1, column].set_xlabel("epoch")
    for axis, name in zip(axes[:, 0], QUANTITIES.values(), strict=True):
        axis.set_ylabel(name)
    axes[0, 0].set_ylim(bottom=0)
    figure.align_ylabels(axes[:, 0])
    handles = [
        Line2D([], [], color=look.colour, linestyle=look.line, label=SPLITS[split]) for split, look in looks.items()
    ]
    style.legend_above(figure, handles)
    return figure
