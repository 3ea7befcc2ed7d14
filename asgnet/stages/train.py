"""The training stage: one run."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from asgnet.checkpoint import save_head
from asgnet.config import Study
from asgnet.data.episodes import base_images, read_episodes
from asgnet.data.index import read_index, without_classes
from asgnet.data.sampling import TrainingImages
from asgnet.distributed import alone_first, launch, processes, rank
from asgnet.files import atomic_path, write_json
from asgnet.fingerprint import fingerprint
from asgnet.layout import Layout
from asgnet.model import ASGNet
from asgnet.progress import epoch_line
from asgnet.provenance import record
from asgnet.stages.runs import build_model, load_run, open_source
from asgnet.train import Trained, monitored_splits, train


def run_training(
    study: Study, arm: str, fold: int | None, seed: int, report: Callable[[dict[str, Any]], None] = epoch_line
) -> Trained:
    """Train one run and write history.csv, train.json, head.safetensors with meta.json, run.json. Without a fold, on
    all classes. Of several processes, all call this and the first one writes."""
    study.check_fold(fold)
    layout, config = Layout.of(study), study.train_of(arm)
    folder = layout.run(arm, fold, seed)
    with record(folder, "train"):
        source = open_source(study)
        model = build_model(study, arm, seed, source)
        monitored = {name: read_episodes(layout.episodes(fold, name)) for name in monitored_splits(fold)}
        novel = source.tree.novel_classes(fold)
        index = read_index(layout.index)
        if config.novel_pixels == "left_out":
            index = without_classes(index, novel)
        images = TrainingImages.of(base_images(index, source.tree, fold, config.shots, "train"))
        config = config.on(len(images.by_image))
        void = novel if config.novel_pixels == "ignored" else ()
        key = _key(study, arm, fold, seed, model)
        state = layout.resume(arm, fold, seed) / f"{key[:16]}.pt"
        with alone_first(folder):
            trained = train(
                model, source, images, monitored, config, seed, state, report, void, study.compute.workers
            )  # fmt: skip
            if rank():
                return trained
            with atomic_path(folder / "history.csv") as temporary:
                trained.history.to_csv(temporary, index=False)
            save_head(folder, model.trainable_state(), model.config, list(model.sources))
            parameters = sum(p.numel() for p in model.trainable_parameters())
            facts: dict[str, Any] = {"best_epoch": trained.best_epoch, "steps": trained.steps, "parameters": parameters}
            facts |= config.named | study.labelled
            write_json(folder / "train.json", {"arm": arm, "fold": fold, "seed": seed, **facts})
            shutil.rmtree(state.parent)  # with what other parameters or code have left there
    return trained


def train_in_processes(study: Study, params: Path | str, arm: str, fold: int, seed: int) -> Trained:
    """`run_training` in ``compute.devices`` processes of this machine, and what they wrote. ``params``: the file that
    holds ``study``."""
    cell = ["--arm", arm, "--fold", str(fold), "--seed", str(seed)]
    launch(["train", "--params", str(params), *cell], study.compute.devices)
    folder = Layout.of(study).run(arm, fold, seed)
    facts = json.loads((folder / "train.json").read_text())
    return Trained(load_run(study, folder), pd.read_csv(folder / "history.csv"), facts["best_epoch"], facts["steps"])


def _key(study: Study, arm: str, fold: int | None, seed: int, model: ASGNet) -> str:
    """The fingerprint of a run whose training has not begun: parameters, inputs, code, ``model`` with its weights. In
    the online mode the index stands for the photographs."""
    layout = Layout.of(study)
    params: dict[str, Any] = {"arm": asdict(study.model_of(arm)), "train": asdict(study.train_of(arm))}
    params |= {"data": asdict(study.data), "features": asdict(study.features), "fold": fold, "seed": seed}
    params |= {"compute": asdict(study.compute) | {"devices": processes(), "workers": None}}
    files = [layout.index, *(layout.episodes(fold, name) for name in monitored_splits(fold))]
    if study.features.mode == "stored":
        files.append(layout.features / "meta.json")  # holds the store's own key
    return fingerprint(params, files, tensors=model.state_dict())
