"""Tables of the ablations: each row of a table against the table's reference, on identical episodes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from asgnet.intervals import Blocks, Difference, holm, interval, paired_difference, sentence
from asgnet.metrics import miou

NAMES = ["table", "arm", "shots", "setting"]
MEASURED = ["mean", "low", "high", "reference", "difference", "difference_low", "difference_high", "p", "p_holm",
            "episodes", "seeds", "sentence"]  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """One family of rows: settings of one thing, tested on the same episodes, one of them the reference."""

    table: str
    arm: str  # the trained row whose weights were tested; "" where every setting was trained
    shots: int
    settings: Mapping[str, Blocks]
    reference: str  # one of the settings


def ablation_table(comparisons: Iterable[Comparison]) -> pd.DataFrame:
    """All comparisons in one tidy table, in per cent and points of mIoU; p values corrected (Holm) within each table.

    Columns: table, arm, shots, setting, fold <k> (mIoU, mean over random seeds), mean (over folds), low, high (its
    interval), reference, difference (to the reference, paired), difference_low, difference_high, p, p_holm, episodes,
    seeds, sentence; from reference on empty in the reference's own row. A row with fewer blocks than the reference (one
    random seed of two) is compared on the blocks that both have."""
    rows, found = [], []
    for one in comparisons:
        for setting, blocks in one.settings.items():
            row, difference = _row(one, setting, blocks)
            rows.append(row)
            found.append(difference)
    table = pd.DataFrame(rows)
    if table.empty:
        return pd.DataFrame(columns=[*NAMES, *MEASURED])
    for _, members in table.groupby("table", sort=False):
        tested = [i for i in members.index if found[i] is not None]
        for i, p_holm in zip(tested, holm([found[i].p for i in tested]), strict=True):
            row = table.loc[i]
            table.loc[i, "p_holm"] = p_holm
            name = f"{row['table']}: {row['setting']}" + (f" (trained as {row['arm']})" if row["arm"] else "")
            table.loc[i, "sentence"] = sentence(name, row["reference"], row["shots"], found[i], p_holm)
    folds = sorted(name for name in table if name.startswith("fold "))
    return table[[*NAMES, *folds, *MEASURED]]


def _row(one: Comparison, setting: str, blocks: Blocks) -> tuple[dict, Difference | None]:
    folds = pd.Series({key: miou(block) for key, block in blocks.items()}).groupby(level=0).mean()
    own = interval(blocks)
    row = dict(zip(NAMES, (one.table, one.arm, one.shots, setting), strict=True))
    row |= {f"fold {fold}": value for fold, value in folds.items()}
    row |= dict.fromkeys(MEASURED) | {"mean": own.value, "low": own.low, "high": own.high}
    row |= {"seeds": len({seed for _, seed in blocks})}
    if setting == one.reference:
        return row, None
    other = one.settings[one.reference]
    both = [key for key in other if key in blocks]
    found = paired_difference({key: blocks[key] for key in both}, {key: other[key] for key in both})
    row |= {"reference": one.reference, "difference": found.value, "difference_low": found.low}
    row |= {"difference_high": found.high, "p": found.p, "episodes": found.episodes, "seeds": found.seeds}
    return row, found


def binned_table(
    settings: Mapping[str, Blocks], reference: str, measures: pd.DataFrame, shots: int, bins: int = 5
) -> pd.DataFrame:
    """Where several prototypes help: each setting against the reference, apart for small and large values of a measure.

    measures: columns id, class and one for each measure of an object (numbers, NaN where unknown), a row an (image,
    class); an episode has those of its query. The bins hold about equally many episodes; a value that many share has a
    bin of its own. Returns the columns of `ablation_table` (table: the measure) with bin (from 0), from, to (its range,
    to included, from in the first bin alone); p values are corrected within each measure. A measure that is nowhere
    known has no rows."""
    tables = []
    for measure in measures.columns.drop(["id", "class"]):
        known = measures[["id", "class", measure]].dropna().rename(columns={"id": "query", measure: "value"})
        joined = {
            name: {key: block.merge(known, on=["query", "class"]) for key, block in blocks.items()}
            for name, blocks in settings.items()
        }
        values = pd.concat(joined[reference].values())["value"].to_numpy()
        if not len(values):
            continue
        comparisons, ranges = [], []
        for number, (low, high) in enumerate(pairwise([values.min(), *upper_ends(values, bins)])):
            above = -np.inf if number == 0 else low
            within = {name: _within(blocks, above, high) for name, blocks in joined.items()}
            comparisons.append(Comparison(measure, "", shots, within, reference))
            ranges += [{"bin": number, "from": low, "to": high}] * len(within)
        table = pd.concat([ablation_table(comparisons), pd.DataFrame(ranges)], axis=1)
        for i, row in table[table["reference"].notna()].iterrows():
            place = f"{measure} {row['from']:.3g} to {row['to']:.3g}"
            table.loc[i, "sentence"] = row["sentence"].replace(measure, place, 1)
        tables.append(table)
    empty = pd.DataFrame(columns=[*NAMES, *MEASURED, "bin", "from", "to"])
    return pd.concat(tables, ignore_index=True) if tables else empty


def upper_ends(values: np.ndarray, bins: int) -> list[float]:
    """Up to ``bins`` of the values (n,) that part them into about equal bins, each end included in its bin. What equal
    values take beyond a bin's share is taken from the later bins."""
    rest, ends = np.sort(values), list[float]()
    while len(rest):
        ends.append(float(rest[-(-len(rest) // (bins - len(ends))) - 1]))
        rest = rest[rest > ends[-1]]
    return ends


def _within(blocks: Blocks, above: float, to: float) -> Blocks:
    """The episodes whose value lies in (above, to]; a block without any is left out."""
    inside = {key: block[block["value"].gt(above) & block["value"].le(to)] for key, block in blocks.items()}
    return {key: block for key, block in inside.items() if len(block)}
