"""How the time grows: one size of a case changed at a time."""

from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from benchmarks.case import Case
from benchmarks.cases.features import lite0_case
from benchmarks.cases.network import inference_case
from benchmarks.cases.prototypes import sgc_case
from benchmarks.sizes import Sizes
from benchmarks.timing import alternate

COLUMNS = ["axis", "value", "case", "plain_s", "ours_s"]


def axes(sizes: Sizes) -> dict[str, tuple[str, dict[int, Callable[[], Case]]]]:
    """What is changed -> the case that shows it, and its makers by value."""
    values = sizes.growth

    def sgc(field: str) -> dict[int, Callable[[], Case]]:
        return {value: lambda v=value: sgc_case(replace(sizes, **{field: v})) for value in values[field]}

    grids = {grid: lambda g=grid: sgc_case(replace(sizes, pixels=8 * (g - 1) + 1)) for grid in values["grid"]}
    return {
        "batch": ("SGC", sgc("batch")),
        "N_max": ("SGC", sgc("count")),
        "grid": ("SGC", grids),
        "shots": ("inference", {k: lambda k=k: inference_case(sizes, k, published=None) for k in values["shots"]}),
        "images": ("Lite0", {n: lambda n=n: lite0_case(replace(sizes, images=n)) for n in values["images"]}),
    }


def growth(sizes: Sizes, repeats: int) -> pd.DataFrame:
    """Median seconds of plain and ours at every value of every axis."""
    rows = []
    for axis, (name, makers) in axes(sizes).items():
        for value, make in makers.items():
            case = make()
            case.plain(), case.ours()
            rows.append((axis, value, name, *alternate(case.plain, case.ours, repeats)))
    return pd.DataFrame(rows, columns=COLUMNS)
