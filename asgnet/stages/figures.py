"""The figures stage: the paper's figures, from results alone (called by figures.ipynb)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from asgnet.config import Study
from asgnet.data import open_classes
from asgnet.errors import UserError
from asgnet.layout import Layout
from asgnet.look.saved import saved_predictions
from asgnet.plots import bars, curves, panels, style
from asgnet.plots.save import save
from asgnet.results import find_runs, histories
from asgnet.tables import for_print


class StudyDrawer:
    """Reads a study's tables from one folder and saves figures under figures/<dataset>/, in the name of a stage."""

    stage: str  # of the pipeline, written into every file
    command: str  # of asgnet, makes the tables
    place: str = ""  # folder below figures/<dataset>/

    def __init__(self, study: Study, folder: Path) -> None:
        self.study, self.layout, self.folder = study, Layout.of(study), folder
        self.figures = self.layout.figures / self.place
        self.figures.mkdir(parents=True, exist_ok=True)  # also where there is nothing to draw

    def _tables(self, *names: str) -> list[Path]:
        return [self.folder / f"{name}.csv" for name in names]

    def _read(self, name: str) -> pd.DataFrame:
        (path,) = self._tables(name)
        try:
            return pd.read_csv(path, dtype={"setting": str})  # settings are names, though some look like numbers
        except OSError:
            raise UserError(f"{path}: no such file; run `asgnet {self.command}` first") from None
        except ValueError:
            raise UserError(f"{path}: damaged; run `asgnet {self.command}` again") from None

    def _save(self, figure: Figure, name: str, files: Sequence[Path]) -> Figure:
        if self.study.label:
            style.note_below(figure, self.study.label)
        save(figure, name, self.figures, self.stage, files)
        return figure


class Drawer(StudyDrawer):
    """Draws one figure a call from the collected tables, saves it, and returns it.

    Rows carry the labels of params.yaml. Raises UserError where a study has not been collected yet.
    """

    stage, command = "figures", "collect"

    def __init__(self, study: Study) -> None:
        super().__init__(study, Layout.of(study).results)
        arms: dict[str, Any] = {**study.training_free, **study.arms}
        self.labels = {name: arm.label for name, arm in arms.items()}

    def _read(self, name: str) -> pd.DataFrame:
        table = super()._read(name)
        return table.assign(arm=table["arm"].map(self.labels))

    def _trained(self) -> list[str]:
        return [arm.label for arm in self.study.arms.values()]

    def table(self) -> pd.DataFrame:
        """The main table as it is printed."""
        return for_print(self._read("main_table"))

    def test_miou(self) -> Figure:
        """Mean test mIoU of every row with its interval."""
        return self._save(bars.test_miou(self._read("main_table")), "test_miou", self._tables("main_table"))

    def per_fold(self) -> Figure:
        """Test mIoU by fold."""
        return self._save(bars.per_fold(self._read("main_table")), "per_fold", self._tables("main_table"))

    def differences(self) -> Figure:
        """Paired differences to the baseline."""
        table = self._read("comparison")
        arms = [label for label in self.labels.values() if label in set(table["arm"])]
        return self._save(bars.differences(table, arms), "differences", self._tables("comparison"))

    def sentences(self) -> list[str]:
        """What the comparisons allow one to say."""
        return list(self._read("comparison")["sentence"])

    def gaps(self) -> Figure:
        """The overfitting gap of every trained arm."""
        files = self._tables("gaps", "gap_intervals")
        return self._save(bars.gap(self._read("gaps"), self._read("gap_intervals")), "gaps", files)

    def curves(self) -> Figure:
        """Loss and mIoU by epoch of every trained arm."""
        runs = find_runs(self.folder, list(self.study.arms))
        table = histories(runs)
        figure = curves.curves(table.assign(arm=table["arm"].map(self.labels)), self._trained())
        return self._save(figure, "curves", [run.folder / "history.csv" for run in runs])

    def predictions(self, arm: str = "baseline") -> Figure:
        """Episodes of every fold from the worst to the best: failures are half of the picture."""
        files = [self.layout.run(arm, fold, self.study.seeds[0]) / "examples.npz" for fold in self.study.folds]
        rows = [saved_predictions(path, open_classes(self.study.data.dataset, self.study.data.root)) for path in files]
        shown = [episode for fold in rows for episode in fold[:: max(1, len(fold) // 4)]]
        return self._save(panels.predictions(shown), "predictions", files)
