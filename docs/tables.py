"""Write the tables of README.md and docs/*.md anew from the committed results.

    python -m docs.tables

A table stands below a comment that names it and the folder of its pipeline (`<!-- results: main pipelines/demo -->`)
and reaches to the next blank line; `TABLES` lists the names. tests/test_docs.py fails where a page says something else.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import chdir
from functools import partial
from pathlib import Path

import pandas as pd

from asgnet.config import load_study
from asgnet.errors import UserError
from asgnet.files import atomic_path
from asgnet.layout import Layout
from asgnet.stages.ablation_figures import FidelityDrawer, PrototypeDrawer
from asgnet.tables import for_print

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PLACE = re.compile(r"^(<!-- results: ([\w-]+) (\S+) -->\n)((?:.+\n)*)", re.MULTILINE)


def filled(text: str) -> str:
    """The page with every table as the results have it. Raises UserError for a name that `TABLES` does not know and a
    pipeline without the results."""
    return PLACE.sub(lambda place: place[1] + table(place[2], place[3]), text)


def table(name: str, pipeline: str) -> str:
    """One of `TABLES`, of the study in the folder ``pipeline``, as lines of Markdown."""
    if name not in TABLES:
        raise UserError(f"no table {name!r}; expected one of {', '.join(TABLES)}")
    with chdir(ROOT / pipeline):
        try:
            return TABLES[name]().strip() + "\n"
        except OSError as error:
            raise UserError(f"{pipeline}: {error.filename} is missing; run its pipeline first") from None


def markdown(shown: pd.DataFrame) -> str:
    return shown.to_markdown(index=False, disable_numparse=True)


def rounded(values: pd.DataFrame) -> pd.DataFrame:
    """Numbers with one decimal, all else as it is."""
    return values.apply(lambda column: column.map("{:.1f}".format) if column.dtype == float else column)


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(Layout.of(load_study()).results / name)


def compared() -> pd.DataFrame:
    """The comparisons of trained arms with the baseline."""
    rows = read("comparison.csv")
    return rows[~rows["arm"].isin(load_study().training_free)]


def sentences(rows: pd.DataFrame) -> str:
    """What comparisons allow one to say, one line each."""
    return "\n".join(f"- {sentence}" for sentence in rows["sentence"])


def differences(rows: pd.DataFrame) -> str:
    """The same as numbers, in points of mIoU with their interval and the corrected p."""
    shown = [
        f"{row.difference:+.1f} ({row.low:+.1f} to {row.high:+.1f}, p = {row.p_holm:.3f})" for row in rows.itertuples()
    ]
    return markdown(by_shots(rows.assign(shown=shown), "shown", "{}"))


def by_shots(rows: pd.DataFrame, column: str, heading: str) -> pd.DataFrame:
    """A row for each arm, a column for each number of shots."""
    wide = rows.pivot(index="arm", columns="shots", values=column).loc[rows["arm"].unique()]
    wide.columns = [heading.format(f"{shots} shot{'s' if shots > 1 else ''}") for shots in wide.columns]
    return wide.reset_index()


def gaps() -> str:
    """The overfitting gaps with their intervals."""
    rows = read("gap_intervals.csv")
    rows["shown"] = [f"{row.mean:.1f} ({row.low:.1f} to {row.high:.1f})" for row in rows.itertuples(name="Gap")]
    wide = rows.pivot(index="arm", columns="gap", values="shown").loc[rows["arm"].unique()]
    return markdown(wide[sorted(wide)].reset_index())


def schedule() -> str:
    """Training for twice as long (benchmarks/schedule.py), mean over random seeds."""
    means = read("schedule.csv").groupby("fold").mean().drop(columns="seed")
    means = pd.concat([means, means.mean().to_frame("mean").T]).rename_axis("fold").reset_index()
    return markdown(rounded(means).astype(str))


def inference() -> str:
    """Time of a prediction, and what it is a multiple of (benchmarks/arms.py)."""
    rows = read("inference.csv")
    rows["milliseconds"] = rows["seconds"].map(lambda seconds: f"{1000 * seconds:.0f}")
    rows["times"] = rows["ratio"].map("{:.2f}".format)
    parts = [by_shots(rows, "milliseconds", "{} (ms)"), by_shots(rows, "times", "{} (ratio)")]
    return markdown(parts[0].merge(parts[1], on="arm"))


def prototypes(file: str, *names: str) -> str:
    """A table of the notebook of prototypes; with one fold, that is the mean."""
    shown = PrototypeDrawer(load_study()).table(file, *names)
    folds = [name for name in shown if name.startswith("fold ")]
    return markdown(shown.drop(columns=folds) if len(folds) == 1 else shown)


TABLES: dict[str, Callable[[], str]] = {
    "main": lambda: markdown(for_print(read("main_table.csv"))),
    "sentences": lambda: sentences(compared()),
    "differences": lambda: differences(compared()),
    "gaps": gaps,
    "schedule": schedule,
    "inference": inference,
    "classes": lambda: markdown(rounded(read("candidates/classes.csv"))),
    "selection": lambda: markdown(rounded(read("candidates/selection.csv"))),
    "recipe": lambda: differences(read("candidates/comparison.csv")),
    "trained": partial(prototypes, "trained"),
    "count": partial(prototypes, "trained", "count"),
    "allocation": partial(prototypes, "trained", "count rule", "allocation"),
    "clusterer": partial(prototypes, "variations", "clusterer"),
    "quality": lambda: markdown(PrototypeDrawer(load_study()).quality_table()),
    "departures": lambda: markdown(FidelityDrawer(load_study()).table("departures")),
    "epoch": lambda: markdown(FidelityDrawer(load_study()).selection()),
}


def main(pages: Sequence[Path] = PAGES) -> None:
    for page in pages:
        old = page.read_text()
        try:
            new = filled(old)
        except UserError as error:
            raise SystemExit(f"{page.relative_to(ROOT)}: {error}") from None
        if new != old:
            with atomic_path(page) as temporary:
                temporary.write_text(new)
            print(f"{page.relative_to(ROOT)}: tables written anew")


if __name__ == "__main__":
    main()
