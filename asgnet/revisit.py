"""Testing a trained run again: on another tree, fold, number of shots or of episodes (`asgnet evaluate`)."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from asgnet.config import Study
from asgnet.data import open_dataset
from asgnet.data.episodes import draw_episodes
from asgnet.data.index import build_index, images_by_class, novel_classes
from asgnet.errors import UserError
from asgnet.evaluate import score_episodes
from asgnet.report import run_metrics
from asgnet.source import OnlineSource
from asgnet.stages.runs import load_run


def evaluate_run(
    study: Study, run_dir: Path, data_root: Path | None, fold: int | None, shots: int, episodes: int | None
) -> dict[str, Any]:
    """The metrics of the run in ``run_dir`` on episodes drawn afresh from the tree at ``data_root``.

    Features are computed online, so any tree of the same layout and classes will do. Raises UserError for a folder
    without a trained run and for trees, folds and shots that do not fit.
    """
    try:
        trained = json.loads((run_dir / "train.json").read_text())
    except (OSError, ValueError):
        raise UserError(f"{run_dir}: holds no train.json; expected the folder of a trained run") from None
    fold = trained["fold"] if fold is None else fold
    if shots < 1:
        raise UserError(f"--shots {shots}: expected 1 or more")
    data = dataclasses.replace(study.data, root=str(data_root or study.data.root))
    features = dataclasses.replace(study.features, mode="online")
    study = dataclasses.replace(study, data=data, features=features)
    tree = open_dataset(data.dataset, data.root)
    index = build_index(tree, data.val_fraction, data.seed, data.min_pixels)
    novel = images_by_class(index, novel_classes(index, tree, fold, data.min_test_images)[0], "test")
    table = draw_episodes(novel, tree.classes, shots, episodes or study.episodes.test, data.seed, "test-episodes")
    source = OnlineSource(study, tree)
    scored = score_episodes(load_run(study, run_dir), source, table, shots, study.test.batch)
    return run_metrics(scored, tree.classes, fold, trained["seed"], study.test.resamples) | {
        "arm": trained["arm"],
        "fold": fold,
        "shots": shots,
    }
