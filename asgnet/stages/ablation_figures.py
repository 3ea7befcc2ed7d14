"""The figures of the ablations, from the tables of results/<dataset>/prototypes alone (called by prototypes.ipynb and
fidelity.ipynb)."""

from collections.abc import Callable

import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure

from asgnet.config import Study
from asgnet.intervals import LEVEL
from asgnet.layout import Layout
from asgnet.plots import ablations, bars, counts
from asgnet.stages.figures import StudyDrawer
from asgnet.tables import gap_intervals

INTERVAL = f"{LEVEL:.0%} interval"


class AblationDrawer(StudyDrawer):
    """Draws one figure a call from the ablations' tables, saves it, and returns it.

    A figure whose table has no rows, or none but the reference's, is not drawn: a printed line says so, no file is
    written, and the call returns None. Raises UserError where `asgnet prototypes` has not been run yet.
    """

    command = "prototypes"

    def __init__(self, study: Study) -> None:
        super().__init__(study, Layout.of(study).prototypes)
        most = study.model.max_seeds
        self.names = {"sgc": "SGC", "soft_kmeans": "soft k-means", "kmeans": "k-means", "em": "EM mixture",
                      "slic": "SLIC", "parts": "true parts", "pool": "prototype pool", "features": "feature average",
                      "votes": "majority vote", "count 1": "one prototype", "clusterer sgc": f"SGC, up to {most}",
                      "clusterer parts": "true parts"}  # fmt: skip
        self.n_max = {arm.label: study.model_of(name).max_seeds for name, arm in study.trained.items()}

    def rows(self, file: str, *tables: str) -> pd.DataFrame:
        """The rows of <file>.csv, of the named tables or of all, settings under the names that are printed."""
        table = self._read(file)
        if tables:
            table = table[table["table"].isin(tables)]
        named = table.columns.intersection(["setting", "reference", "method"])
        return table.assign(**{column: table[column].replace(self.names) for column in named})

    def table(self, file: str, *tables: str) -> pd.DataFrame:
        """The same rows as they are printed."""
        return ablation_for_print(self.rows(file, *tables))

    def sentences(self, file: str, *tables: str) -> list[str]:
        """What their comparisons allow one to say."""
        return list(self.rows(file, *tables)["sentence"].dropna())

    def show(self, figure: Figure | None, file: str, *tables: str) -> None:
        """In a notebook: a figure, the rows behind it and their sentences."""
        if figure is not None:
            display(figure, self.table(file, *tables))
            print(*self.sentences(file, *tables), sep="\n")

    def _draw(self, name: str, plot: Callable[[pd.DataFrame], Figure], file: str, *tables: str) -> Figure | None:
        rows = self.rows(file, *tables)
        if rows.empty or ("reference" in rows and rows["reference"].isna().all()):
            wanted = f" of {' or '.join(repr(table) for table in tables)}" if tables else ""
            print(f"no figure '{name}': {self.folder / file}.csv has no rows{wanted} to show or to compare")
            return None
        return self._save(plot(rows), name, self._tables(file))

    def _forest(self, name: str, file: str, *tables: str) -> Figure | None:
        return self._draw(name, lambda rows: bars.forest(_families(rows)), file, *tables)


class PrototypeDrawer(AblationDrawer):
    """How many prototypes, made how, from which shots, and where they help."""

    stage, place = "prototype_figures", "prototypes"

    def counts(self) -> Figure | None:
        """Networks trained with several N_max."""
        return self._draw("counts", lambda rows: counts.counts(rows, self.n_max), "trained", "count")

    def count_heat(self) -> Figure | None:
        """Every trained N_max tested at every N_max."""
        return self._draw("count_heat", lambda rows: counts.count_heat(rows, self.n_max), "variations", "count")

    def allocation(self) -> Figure | None:
        """What the adaptive count, SGC and GPA buy: trained without each."""
        return self._forest("allocation", "trained", "count rule", "allocation")

    def clusterers(self) -> Figure | None:
        """Other clusterers in the place of SGC at test time."""
        return self._forest("clusterers", "variations", "clusterer")

    def iterations(self) -> Figure | None:
        """SGC's iterations, spatial weight and seed rule at test time."""
        return self._draw("iterations", counts.settings, "variations", "iterations", "spatial weight", "seed rule")

    def shots_fusion(self) -> Figure | None:
        """Numbers of shots, and ways to fuse them."""
        return self._draw("shots_fusion", counts.shots_fusion, "variations", "fusion")

    def shape(self) -> Figure | None:
        """One prototype, superpixels and true parts by the shape of the object."""
        return self._draw("shape", ablations.shape, "shape")

    def quality(self) -> Figure | None:
        """How well superpixels fit true parts; none where the dataset knows no parts."""
        return self._draw("quality", ablations.quality, "quality")

    def quality_table(self) -> pd.DataFrame:
        """Superpixel quality as it is printed."""
        rows = self.rows("quality")
        decimals = rows["measure"].map({"asa": 1, "ue": 1, "ari": 3, "apart": 3})
        shown = rows[["measure", "method"]].assign(measure=rows["measure"].str.upper())
        shown["mean"] = [f"{value:.{d}f}" for value, d in zip(rows["mean"], decimals, strict=True)]
        shown[INTERVAL] = [f"{low:.{d}f} to {high:.{d}f}"
                           for low, high, d in zip(rows["low"], rows["high"], decimals, strict=True)]  # fmt: skip
        return shown.assign(supports=rows["supports"])


class FidelityDrawer(AblationDrawer):
    """Which departures of the published code matter."""

    stage, place = "fidelity_figures", "fidelity"

    def departures(self) -> Figure | None:
        """Each corrected departure against the baseline."""
        return self._forest("departures", "departures")

    def selection(self) -> pd.DataFrame:
        """Departure 3, arm by arm: the points that picking the epoch on novel episodes adds to them, mean over runs
        with a Student t interval, as it is printed."""
        runs = self._read("selection")
        table = gap_intervals(runs.assign(gap="novel - val", points=runs["added"]))
        shown = pd.DataFrame({"arm": [self.study.arm(name).label for name in table["arm"]]})
        shown["added (points)"] = [f"{value:.1f}" for value in table["mean"]]
        shown[INTERVAL] = _ranges(table["low"], table["high"])
        return shown.assign(runs=table["runs"])


def ablation_for_print(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of `ablation_table` or `binned_table` as text: one decimal, intervals in one column, readable headings; what
    is the same in all rows of no meaning left out."""
    folds = [name for name in table if name.startswith("fold ") and table[name].notna().any()]
    shown = pd.DataFrame(index=table.index)
    if table["table"].nunique() > 1:
        shown["table"] = table["table"]
    if table["arm"].nunique() > 1:
        shown["trained as"] = table["arm"]
    if "bin" in table:
        shown["range"] = [f"{low:.3g} to {high:.3g}" for low, high in zip(table["from"], table["to"], strict=True)]
    shown[["setting", "shots"]] = table[["setting", "shots"]]
    for name in [*folds, "mean"]:
        shown[name] = ["–" if pd.isna(value) else f"{value:.1f}" for value in table[name]]
    shown[INTERVAL] = _ranges(table["low"], table["high"])
    shown["difference"] = ["–" if pd.isna(value) else f"{value:+.1f}" for value in table["difference"]]
    shown["its interval"] = _ranges(table["difference_low"], table["difference_high"], "+")
    shown["corrected p"] = ["–" if pd.isna(value) else f"{value:.3f}" for value in table["p_holm"]]
    return shown.assign(seeds=table["seeds"]).reset_index(drop=True)


def _ranges(lows: pd.Series, highs: pd.Series, sign: str = "") -> list[str]:
    return ["–" if pd.isna(low) else f"{low:{sign}.1f} to {high:{sign}.1f}"
            for low, high in zip(lows, highs, strict=True)]  # fmt: skip


def _families(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows of `ablation_table` as `bars.forest` takes them: table by table (under its name where there are several,
    and a word of caution where there is one random seed), without the rows of the references."""
    names = {"setting": "arm", "reference": "baseline", "difference_low": "low", "difference_high": "high"}
    compared = rows[rows["reference"].notna()].drop(columns=["arm", "low", "high"]).rename(columns=names)
    families = dict(list(compared.groupby("table", sort=False)))
    families = families if len(families) > 1 else {"": compared}
    caution = "one random seed: exploratory"
    return {", ".join(filter(None, (name, caution if table["seeds"].eq(1).all() else ""))): table
            for name, table in families.items()}  # fmt: skip
