"""Testing a network again: on another tree, fold, number of shots or of episodes (`asgnet evaluate`), or as the
published code does (`asgnet import-reference`, `test.like_for_like`)."""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from asgnet.backbones import for_inference
from asgnet.config import Study
from asgnet.converted import ENCODER, load_converted
from asgnet.data import open_dataset
from asgnet.data.episodes import draw_episodes
from asgnet.data.index import build_index, images_by_class, novel_classes
from asgnet.data.transforms import unfit, unfit_published
from asgnet.data.tree import Tree
from asgnet.device import fast_dtype, pick_device
from asgnet.errors import UserError
from asgnet.evaluate import score_episodes
from asgnet.like_for_like import (
    PUBLISHED_TRAINING,
    PublishedSource,
    as_published,
    count_as_published,
    label_of,
    protocol_of,
)
from asgnet.model import ASGNet
from asgnet.report import run_metrics
from asgnet.source import OnlineSource
from asgnet.stages.runs import load_run


class Trial(NamedTuple):
    """What a network is to be tested on."""

    study: Study
    tree: Tree
    episodes: pd.DataFrame
    left_out: dict[str, int]  # novel classes without enough test images, and how many they have
    fold: int
    shots: int


def evaluate_run(
    study: Study, run_dir: Path, data_root: Path | None, fold: int | None, shots: int, episodes: int | None
) -> dict[str, Any]:
    """The metrics of the run in ``run_dir``, trained or imported, on episodes drawn afresh from the tree at
    ``data_root``.

    Features are computed online, so any tree of the same layout and classes will do. Raises UserError for a folder
    without a trained run and for trees, folds and shots that do not fit.
    """
    try:
        trained = json.loads((run_dir / "train.json").read_text())
        arm, its_fold, seed = trained["arm"], trained["fold"], trained["seed"]
    except OSError:
        raise UserError(f"{run_dir}: holds no train.json; expected the folder of a trained run") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{run_dir}/train.json: not what a training run writes; train the run again") from None
    data = dataclasses.replace(study.data, root=str(data_root or study.data.root))
    study = dataclasses.replace(study, data=data)
    trial = prepare(study, its_fold if fold is None else fold, shots, episodes)
    imported = (run_dir / ENCODER).is_file()
    network = made_fast(study, load_converted(run_dir)) if imported else load_run(trial.study, run_dir)
    named = {name: trained.get(name) for name in PUBLISHED_TRAINING}  # runs of before these were kept have none
    _, metrics = score_trial(trial, network, seed, named)
    return metrics | {"arm": arm}


def prepare(study: Study, fold: int, shots: int, episodes: int | None) -> Trial:
    """Draw ``episodes`` (default: the study's or the published number) of the novel classes of ``fold``."""
    if shots < 1:
        raise UserError(f"--shots {shots}: expected 1 or more")
    if episodes is not None and episodes < 1:
        raise UserError(f"--episodes {episodes}: expected 1 or more")
    if study.test.like_for_like:
        count, study = protocol_of(study.data.dataset).episodes, as_published(study, shots)
    else:
        count = study.episodes.test
    data = study.data
    study = dataclasses.replace(study, features=dataclasses.replace(study.features, mode="online"))
    tree = open_dataset(data.dataset, data.root, data.folds_of)
    tree.novel_classes(fold)  # a fold that does not exist is said before the masks are read
    index = build_index(tree, data.val_fraction, data.seed, data.min_pixels)
    kept, dropped = novel_classes(index, tree, fold, data.min_test_images)
    novel = images_by_class(index, kept, "test")
    table = draw_episodes(novel, tree.classes, shots, episodes or count, data.seed, "test-episodes")
    left_out = {tree.classes[c - 1]: count for c, count in dropped.items()}
    return Trial(study, tree, table, left_out, fold, shots)


def score_trial(
    trial: Trial, network: ASGNet, seed: int, named: dict[str, str | None]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Test ``network``: its table of episodes and its metrics, with ``protocol`` where they are like for like.
    ``named``: what they say of its training."""
    study = trial.study
    published = study.test.like_for_like
    if published:
        count_as_published(network)
    source = (PublishedSource if published else OnlineSource)(study, trial.tree)
    restore = unfit_published if published else unfit
    scored = score_episodes(network, source, trial.episodes, trial.shots, study.test.batch, restore=restore)
    metrics = run_metrics(scored, trial.tree.classes, trial.fold, seed, study.test.resamples)
    metrics |= {"fold": trial.fold, "shots": trial.shots, "like_for_like": published, **named, **study.labelled}
    if published:
        metrics["protocol"] = label_of(study, len(scored), trial.left_out, named)
        metrics["precision"] = str(source.dtype).removeprefix("torch.")
    return scored, metrics


def made_fast(study: Study, network: ASGNet) -> ASGNet:
    """``network`` on the device, with its encoder as a trained run's (`load_run`)."""
    device = pick_device()
    if network.encoder is not None:
        network.encoder = for_inference(network.encoder, fast_dtype(device, study.compute.precision))
    return network.to(device)
