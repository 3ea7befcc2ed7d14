"""The training stage: one run."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from asgnet.checkpoint import save_head
from asgnet.config import Study
from asgnet.data.episodes import base_images, read_episodes
from asgnet.data.index import read_index, without_classes
from asgnet.data.sampling import TrainingImages
from asgnet.files import atomic_path, write_json
from asgnet.fingerprint import fingerprint
from asgnet.layout import Layout
from asgnet.progress import epoch_line
from asgnet.provenance import record
from asgnet.stages.runs import build_model, open_source
from asgnet.train import Trained, monitored_splits, train


def run_training(
    study: Study, arm: str, fold: int | None, seed: int, report: Callable[[dict[str, Any]], None] = epoch_line
) -> Trained:
    """Train one run and write history.csv, train.json, head.safetensors with meta.json, run.json. Without a fold, on
    all classes."""
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
        images = base_images(index, source.tree, fold, config.shots, "train")
        params = {"arm": asdict(study.model_of(arm)), "train": asdict(config), "data": asdict(study.data)}
        params |= {"features": asdict(study.features), "fold": fold, "seed": seed}
        inputs = [layout.index, *(layout.episodes(fold, name) for name in monitored)]
        state = layout.resume / f"{arm}-{fold}-{seed}-{fingerprint(params, files=inputs)[:16]}.pt"
        void = novel if config.novel_pixels == "ignored" else ()
        trained = train(model, source, TrainingImages.of(images), monitored, config, seed, state, report, void)
        with atomic_path(folder / "history.csv") as temporary:
            trained.history.to_csv(temporary, index=False)
        save_head(folder, model.trainable_state(), model.config, list(model.sources))
        parameters = sum(p.numel() for p in model.trainable_parameters())
        facts = {"best_epoch": trained.best_epoch, "steps": trained.steps, "parameters": parameters}
        write_json(folder / "train.json", {"arm": arm, "fold": fold, "seed": seed, **facts})
        state.unlink(missing_ok=True)
    return trained
