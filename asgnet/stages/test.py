"""The testing stages: trained runs and training-free rows, on the same frozen episodes."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from asgnet.config import Study
from asgnet.data.episodes import read_episodes
from asgnet.distributed import alone_first, rank
from asgnet.evaluate import score_episodes
from asgnet.examples import save_examples
from asgnet.files import alone, atomic_path, write_json
from asgnet.layout import Layout
from asgnet.metrics import COUNTS
from asgnet.provenance import record, write_receipt
from asgnet.report import run_metrics
from asgnet.stages.runs import load_run, open_source, refuse_like_for_like
from asgnet.strict import unknown
from asgnet.training_free import best_threshold, score_training_free

EPISODE_COLUMNS = ["episode", "class", "query", "supports", *COUNTS, "prototypes", "fallback"]


def run_test(study: Study, arm: str, fold: int, seed: int) -> dict[int, pd.DataFrame]:
    """Test one trained run at every number of shots; write metrics, per-episode tables and a few examples. Of several
    processes, all call this and the first one writes."""
    study.arm(arm), study.check_fold(fold)
    refuse_like_for_like(study)
    layout = Layout.of(study)
    folder = layout.run(arm, fold, seed)
    with record(folder, "test"):
        source, model = open_source(study), load_run(study, folder)
        episodes = read_episodes(layout.episodes(fold, "test"))
        tables = {}
        named = study.train_of(arm).named
        with alone_first(folder):
            for shots in study.test.shots:
                tables[shots] = score_episodes(model, source, episodes, shots, study.test.batch, across=True)
                if rank() == 0:
                    write_scores(study, folder, tables[shots], shots, source.tree.classes, fold, seed, named)
            if rank():
                return tables
            few = min(tables)
            save_examples(folder / "examples.npz", model, source, tables[few], few, study.test.examples)
    write_receipt(_measured(folder), layout.receipt(arm, fold, seed))
    return tables


def run_training_free(study: Study, arm: str, fold: int) -> None:
    """Test a training-free row on the same episodes; its threshold is chosen on val episodes."""
    if arm not in study.training_free:
        raise unknown("params.yaml: training-free arm", arm, study.training_free)
    study.check_fold(fold)
    refuse_like_for_like(study)
    layout = Layout.of(study)
    folder, source = layout.run(arm, fold, 0), open_source(study)
    with record(folder, "test"):
        val, test = (read_episodes(layout.episodes(fold, name)) for name in ("val", "test"))
        with alone(folder):
            named = dict.fromkeys(study.train.named)
            row = study.training_free[arm]
            for shots in study.test.shots:
                table = score_training_free(row, source, test, shots, best_threshold(row, source, val, shots))
                write_scores(study, folder, table, shots, source.tree.classes, fold, 0, named)
    write_receipt(_measured(folder), layout.receipt(arm, fold, 0))


def write_scores(
    study: Study,
    folder: Path,
    table: pd.DataFrame,
    shots: int,
    classes: tuple[str, ...],
    fold: int,
    seed: int,
    named: Mapping[str, str | None],
) -> None:
    """episodes_<K>shot.csv, and metrics_<K>shot.json with what is ``named`` of the training (None: it has none)."""
    with atomic_path(folder / f"episodes_{shots}shot.csv") as temporary:
        table[EPISODE_COLUMNS].to_csv(temporary, index=False)
    metrics = run_metrics(table, classes, fold, seed, study.test.resamples)
    write_json(folder / f"metrics_{shots}shot.json", {**metrics, **named, **study.labelled})


def _measured(folder: Path) -> list[Path]:
    return [*folder.glob("history.csv"), *folder.glob("episodes_*.csv"), *folder.glob("examples.npz")]
