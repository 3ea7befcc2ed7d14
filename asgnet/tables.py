"""The tables of a study: tidy summary, comparisons with the baseline, the main table, the overfitting gap."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from asgnet.errors import UserError
from asgnet.files import atomic_path
from asgnet.intervals import LEVEL, holm, interval, paired_difference, sentence
from asgnet.metrics import class_iou, fb_iou, miou
from asgnet.results import Run, blocks_of

KEYS = ["arm", "fold", "seed", "shots", "split", "metric", "value"]
GAPS = {"train - val": "val_miou", "train - novel": "novel_miou"}


def summary(runs: Sequence[Run], classes: Sequence[str], monitor_shots: int = 1) -> pd.DataFrame:
    """One row a number (columns ``KEYS``, values in per cent), nothing averaged over folds or random seeds.

    classes: names, class id - 1 is the position. Test rows: miou, fb_iou, iou_<class>. Train, val and novel rows:
    miou of the chosen epoch on the monitoring episodes, which have ``monitor_shots`` supports."""
    rows = []
    for run in runs:
        key = (run.arm, run.fold, run.seed)
        for shots in run.shots():
            episodes = run.episodes(shots)
            rows.append((*key, shots, "test", "miou", miou(episodes)))
            rows.append((*key, shots, "test", "fb_iou", fb_iou(episodes)))
            for label, value in class_iou(episodes).items():
                rows.append((*key, shots, "test", f"iou_{classes[label - 1]}", value))
        if run.trained:
            chosen = run.history().set_index("epoch").loc[run.training()["best_epoch"]]
            for split in ("train", "val", "novel"):
                rows.append((*key, monitor_shots, split, "miou", chosen[f"{split}_miou"]))
    return pd.DataFrame(rows, columns=KEYS)


def comparison(runs: Sequence[Run], baseline: str = "baseline", seed: int = 0) -> pd.DataFrame:
    """Every arm against the baseline on identical episodes, for each number of shots that both were tested with.

    Trained arms are paired seed by seed on the blocks that both have; a training-free arm is the same for every
    random seed, so it meets each of the baseline's. The p values of one number of shots are corrected together.
    Columns: arm, baseline, shots, difference, low, high, p, p_holm, episodes, seeds, sentence."""
    trained = {run.arm for run in runs if run.trained}
    if baseline not in {run.arm for run in runs}:
        raise UserError(
            f"baseline {baseline!r} has no run; arms with runs are {', '.join({run.arm: 0 for run in runs})}"
        )
    rows = []
    for shots in sorted({shots for run in runs for shots in run.shots()}):
        blocks = blocks_of(runs, shots)
        reference = blocks.pop(baseline, {})
        family = []
        for arm, tested in blocks.items():
            ours = {key: tested.get(key if arm in trained else (key[0], 0)) for key in reference}
            ours = {key: table for key, table in ours.items() if table is not None}
            if ours:
                family.append((arm, paired_difference(ours, {key: reference[key] for key in ours}, seed=seed)))
        for (arm, found), p_holm in zip(family, holm([found.p for _, found in family]), strict=True):
            numbers = (found.value, found.low, found.high, found.p, p_holm, found.episodes, found.seeds)
            rows.append((arm, baseline, shots, *numbers, sentence(arm, baseline, shots, found, p_holm)))
    names = ["difference", "low", "high", "p", "p_holm", "episodes", "seeds", "sentence"]
    return pd.DataFrame(rows, columns=["arm", "baseline", "shots", *names])


def main_table(runs: Sequence[Run], seed: int = 0) -> pd.DataFrame:
    """Test results, one row for an arm and a number of shots, in per cent: arm, shots, fold <k> (mIoU, mean over
    random seeds), mean (over folds), low, high (its interval), fb_iou (mean over folds), seeds (how many)."""
    rows = []
    for shots in sorted({shots for run in runs for shots in run.shots()}):
        for arm, blocks in blocks_of(runs, shots).items():
            table = pd.DataFrame([(*key, miou(one), fb_iou(one)) for key, one in blocks.items()])
            folds = table.groupby(0)[[2, 3]].mean()  # index: fold; columns: mIoU, FB-IoU
            found = interval(blocks, seed=seed)
            row = {"arm": arm, "shots": shots, **{f"fold {fold}": value for fold, value in folds[2].items()}}
            row |= {"mean": found.value, "low": found.low, "high": found.high, "fb_iou": folds[3].mean()}
            rows.append(row | {"seeds": table[1].nunique()})
    table = pd.DataFrame(rows)
    ends = ["mean", "low", "high", "fb_iou", "seeds"]
    return table[["arm", "shots", *sorted(name for name in table if name.startswith("fold ")), *ends]]


def gaps(histories: pd.DataFrame, last: int = 3) -> pd.DataFrame:
    """The overfitting gap of each run, in points of mIoU averaged over the last epochs: what the training episodes
    show above held-out images (train - val) and above novel classes (train - novel).

    histories: as from ``results.histories``. Columns: arm, fold, seed, gap, points."""
    runs = histories.sort_values("epoch", kind="stable").groupby(["arm", "fold", "seed"], sort=False).tail(last)
    means = runs.groupby(["arm", "fold", "seed"], sort=False).mean(numeric_only=True)
    table = pd.DataFrame({gap: means["train_miou"] - means[other] for gap, other in GAPS.items()})
    return table.rename_axis(columns="gap").stack().rename("points").reset_index()


def gap_intervals(gaps: pd.DataFrame) -> pd.DataFrame:
    """Mean gap of each arm with a Student t interval over its runs (NaN with one run). Columns: arm, gap, mean, low,
    high, runs. gaps: as from ``gaps``."""
    table = gaps.groupby(["arm", "gap"], sort=False)["points"].agg(["mean", "sem", "size"]).reset_index()
    half = table.pop("sem") * stats.t.ppf((1 + LEVEL) / 2, np.maximum(table["size"] - 1, 1))
    table.insert(3, "low", table["mean"] - half)
    table.insert(4, "high", table["mean"] + half)
    return table.rename(columns={"size": "runs"})


def for_print(table: pd.DataFrame) -> pd.DataFrame:
    """``main_table`` as text: one decimal, the interval in one column, readable headings."""
    folds = [name for name in table if name.startswith("fold ")]
    shown = table[["arm", "shots", *folds, "mean"]].copy()
    shown[f"{LEVEL:.0%} interval"] = [
        f"{low:.1f} to {high:.1f}" for low, high in zip(table["low"], table["high"], strict=True)
    ]
    shown[["FB-IoU", "seeds"]] = table[["fb_iou", "seeds"]]
    decimals = [*folds, "mean", "FB-IoU"]
    return shown.assign(
        **{name: ["–" if np.isnan(value) else f"{value:.1f}" for value in shown[name]] for name in decimals}
    )


def write_table(table: pd.DataFrame, stem: Path | str, label: str = "") -> list[Path]:
    """Write ``table`` as <stem>.csv (full precision), and as <stem>.tex (booktabs) and <stem>.md as ``for_print``
    shows it, the latter two headed by the study's ``label``. Returns the paths."""
    shown = for_print(table)
    style = shown.style.hide(axis="index").format(escape="latex")
    columns = "ll" + "r" * (len(shown.columns) - 2)
    texts = {
        ".csv": table.to_csv(index=False),
        ".tex": (f"% {label}\n" if label else "")
        + style.to_latex(hrules=True, column_format=columns).replace("%", r"\%").replace("–", "--"),
        ".md": (f"{label}\n\n" if label else "") + shown.to_markdown(index=False, disable_numparse=True) + "\n",
    }
    paths = [Path(f"{stem}{suffix}") for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        with atomic_path(path) as temporary:
            temporary.write_text(text)
    return paths
