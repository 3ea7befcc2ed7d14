"""The candidates stage: what was tried beyond the notes, how the recipe was chosen, and what it is worth."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from asgnet.config import Study
from asgnet.data import open_classes
from asgnet.errors import UserError
from asgnet.files import atomic_path, read_csv
from asgnet.layout import Layout
from asgnet.look.saved import saved_predictions
from asgnet.metrics import COUNTS, class_iou, miou
from asgnet.plots import panels, style
from asgnet.plots.save import save
from asgnet.results import TYPES, Run, find_runs
from asgnet.tables import comparison, main_table, write_table

FAILURES = 2  # of each run


def gather_candidates(study: Study) -> None:
    """Write the tables of results/<dataset>/candidates, in per cent, and figures/<dataset>/candidates; only the first
    table, empty, without candidates.

    - selection.csv: every candidate on the withheld base classes of each split, the best first;
    - table.{csv,tex,md}: every row of the study and what ``selection.trained`` names, on novel classes
      (`asgnet.tables.main_table`);
    - classes.csv: IoU of each novel class, mean over random seeds, and the mean over classes;
    - comparison.csv: every row against the chosen recipe, paired (`asgnet.tables.comparison`);
    - the figure failures: the worst examples of the recipe with the first random seed (`draw_failures`).

    Raises UserError where ``selection.chosen`` names none of the candidates."""
    layout, chosen = Layout.of(study), study.selection.chosen
    with atomic_path(layout.candidates / "selection.csv") as temporary:
        selection_table(study).to_csv(temporary, index=False)
    figures = layout.figures / "candidates"
    figures.mkdir(parents=True, exist_ok=True)  # also where there is nothing to draw
    if not study.candidates.arms:
        return
    if chosen not in study.candidates.arms:
        known = ", ".join(study.candidates.arms)
        raise UserError(f"params.yaml: selection.chosen: {chosen!r} is no candidate; expected one of {known}")
    folds, seeds = study.candidates.folds, study.candidates.seeds
    runs = find_runs(layout.results, [*study.training_free, *study.arms, *study.selection.trained])
    runs = [run for run in runs if run.fold in folds and (run.seed in seeds or not run.trained)]
    tables = {
        "classes": classes_table(runs, open_classes(study.data.dataset, study.data.root)),
        "comparison": comparison(runs, chosen),
    }
    for name, table in tables.items():
        with atomic_path(layout.candidates / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    write_table(main_table(runs), layout.candidates / "table", study.label)
    draw_failures(study, [run for run in runs if run.arm == chosen and run.seed == seeds[0]], figures)


def draw_failures(study: Study, runs: list[Run], folder: Path) -> Figure:
    """The worst examples that each of ``runs`` kept (`asgnet.examples`: ranks evenly spaced from the worst on), saved
    as failures.png and .pdf. Raises UserError for a run whose examples are missing or damaged."""
    classes = open_classes(study.data.dataset, study.data.root)
    files = [run.folder / "examples.npz" for run in runs]
    worst = [episode for path in files for episode in saved_predictions(path, classes)[:FAILURES]]
    figure = panels.predictions(worst)
    if study.label:
        style.note_below(figure, study.label)
    save(figure, "failures", folder, "candidates", files)
    return figure


def selection_table(study: Study) -> pd.DataFrame:
    """One row a candidate and number of shots: arm, shots, mIoU on each split, mean (over splits); the arm with the
    best mean over shots first."""
    layout, rows = Layout.of(study), []
    for arm in study.selection.arms:
        for shots in study.test.shots:
            found = {split: _miou(layout, arm, split, shots) for split in study.selection.splits}
            rows.append({"arm": arm, "shots": shots, **found, "mean": sum(found.values()) / len(found)})
    table = pd.DataFrame(rows, columns=["arm", "shots", *study.selection.splits, "mean"])
    best = -table.groupby("arm")["mean"].transform("mean")
    return table.iloc[best.argsort(kind="stable")].reset_index(drop=True)


def _miou(layout: Layout, arm: str, split: str, shots: int) -> float:
    path = layout.selection(arm, split) / f"episodes_{shots}shot.csv"
    try:
        return miou(read_csv(path, dtype=TYPES).astype(dict.fromkeys(("class", *COUNTS), int)))
    except (OSError, ValueError, KeyError):
        command = f"asgnet select --arm {arm} --split {split}"
        raise UserError(f"{path}: missing or damaged; make it again with `{command}`") from None


def classes_table(runs: list[Run], names: tuple[str, ...]) -> pd.DataFrame:
    """One row an arm and number of shots: arm, shots, IoU of each novel class (of all folds, mean over random seeds),
    mean (over these classes)."""
    rows = [
        {"arm": run.arm, "shots": shots, "class": names[label - 1], "iou": value}
        for run in runs for shots in run.shots() for label, value in class_iou(run.episodes(shots)).items()
    ]  # fmt: skip
    table = pd.DataFrame(rows).pivot_table("iou", ["shots", "arm"], "class", sort=False)
    table.columns.name = None
    return table.assign(mean=table.mean(axis=1)).reset_index()[["arm", "shots", *table.columns, "mean"]]
