"""Where several prototypes help, and how well superpixels fit true parts."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from asgnet.plots import counts, style

MEASURES = {  # of an object's shape
    "scale": "scale (% of the frame)",
    "solidity": "solidity (share of hull)",
    "elongation": "elongation",
    "hidden": "hidden share (0 to 1)",
}
QUALITY = {  # measure -> its name, and whether more is better
    "asa": ("achievable\naccuracy (ASA, %)", True),
    "ue": ("undersegmentation\nerror (UE, %)", False),
    "ari": ("adjusted Rand\nindex (ARI)", True),
    "apart": ("prototypes apart\n(1 − cosine)", True),
}


@style.paper
def shape(table: pd.DataFrame) -> Figure:
    """mIoU against the query object's shape, a column a measure and a line a setting: a point stands between the ends
    of its bin. Below, the paired difference to the reference. table: of `binned_table`."""
    measures, names = (list(dict.fromkeys(table[column])) for column in ("table", "setting"))
    figure = Figure(figsize=(style.PAGE, counts.HEIGHT))
    axes = figure.subplots(2, len(measures), sharex="col", sharey="row", squeeze=False)
    looks = style.looks(names)
    for column, measure in zip(axes.T, measures, strict=True):
        rows = table[table["table"] == measure]
        edges = [rows["from"].min(), *sorted(set(rows["to"]))]
        for i, (name, look) in enumerate(looks.items()):
            own = rows[rows["setting"] == name].sort_values("bin")
            place = own["bin"] + (i - (len(looks) - 1) / 2) * 0.17  # side by side, so that intervals do not overlap
            counts.level(column[0], place, own, look)
            if own["difference"].notna().any():
                counts.difference(column[1], place, own, look)
        column[1].set_xticks(np.arange(len(edges)) - 0.5, short_numbers(edges), fontsize=6.5)
        column[1].set_xlim(-0.5, len(edges) - 1.5)
        column[1].set_xlabel(MEASURES.get(measure, measure))
        for axis in column:
            axis.grid(axis="x")
    counts.name_axes(axes[:, 0], table["reference"].dropna().iloc[0], table["shots"].iloc[0])
    style.legend_above(figure, [counts.line(look, name) for name, look in looks.items()])
    return figure


@style.paper
def quality(table: pd.DataFrame) -> Figure:
    """Superpixel quality by method with its interval, a panel a measure. table: columns measure, method, mean, low,
    high."""
    methods = list(dict.fromkeys(table["method"]))
    figure = Figure(figsize=(style.PAGE, 0.75 + 0.2 * len(methods)))
    axes = figure.subplots(1, len(QUALITY), sharey=True)
    place = np.arange(len(methods))
    for axis, (measure, (name, more)) in zip(axes, QUALITY.items(), strict=True):
        rows = table[table["measure"] == measure].set_index("method").loc[methods]
        spread = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
        axis.errorbar(rows["mean"], place, xerr=spread, fmt="o", color="black", elinewidth=0.9, capsize=1.8)
        axis.set_xlabel(f"{name}\n" + ("more is better →" if more else "← less is better"))
        axis.set_yticks(place, methods)
        axis.set_ylim(len(methods) - 0.45, -0.55)  # the first method on top
        axis.tick_params(axis="y", length=0)
        axis.margins(x=0.12)
        axis.grid(axis="x")
    return figure


def short_numbers(values: Sequence[float]) -> list[str]:
    """Numbers in as few digits as keep different ones apart, at least two."""
    for digits in range(2, 7):
        texts = [np.format_float_positional(value, digits, fractional=False, trim="-") for value in values]
        if len(set(texts)) == len(set(values)):
            break
    return texts
