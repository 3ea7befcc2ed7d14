"""The selection stage: candidates on base classes that play novel ones, so that no novel class chooses the recipe.

A fold's own val episodes cannot choose it: their classes were trained on, and what learns them by heart wins.
"""

import shutil
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from asgnet.config import Study
from asgnet.data.episodes import draw_episodes
from asgnet.data.index import images_by_class, read_index, usable_classes
from asgnet.data.sampling import TrainingImages
from asgnet.data.tree import Tree
from asgnet.errors import UserError
from asgnet.evaluate import score_episodes
from asgnet.files import alone, atomic_path, write_json
from asgnet.fingerprint import fingerprint
from asgnet.layout import Layout
from asgnet.progress import epoch_line
from asgnet.provenance import record, write_receipt
from asgnet.report import run_metrics
from asgnet.sections import Split
from asgnet.stages.runs import build_model, open_source
from asgnet.stages.test import EPISODE_COLUMNS
from asgnet.strict import unknown
from asgnet.train import train

SEED = 0  # random seed


def run_selection(study: Study, arm: str, split: str) -> None:
    """Train one candidate on the fold of a split without its withheld classes, and test it on these in held-out images
    (the index's val split); write history.csv, episodes_<K>shot.csv and metrics_<K>shot.json.

    Withheld classes stay in the training images as background, as novel ones do, and val episodes of the other base
    classes pick the epoch. Withheld classes with too few held-out images are not asked for. Raises UserError for an
    unknown split, for withheld classes that are not the fold's base classes or have too few images, and for an arm
    whose training looks at novel classes."""
    if split not in study.selection.splits:
        raise unknown("params.yaml: selection.splits: split", split, study.selection.splits)
    rule, layout, config = study.selection.splits[split], Layout.of(study), study.train_of(arm)
    study.check_fold(rule.fold)
    if config.selection == "novel" or config.novel_pixels != "background":
        raise UserError(
            f"params.yaml: selection.arms: {arm} uses novel classes in training; choose an arm that does not"
        )
    folder = layout.selection(arm, split)
    with record(folder, "select"), alone(folder):
        source = open_source(study)
        index, withheld = read_index(layout.index), withheld_classes(source.tree, rule)
        trained_on = [c for c in source.tree.base_classes(rule.fold) if c not in withheld]
        drawn, of = study.episodes, {"train": trained_on, "val": trained_on, "novel": withheld}
        tables = {
            name: draw_episodes(
                _images(index, classes, "train" if name == "train" else "val", drawn.shots, split),
                *(source.tree.classes, drawn.shots, study.selection.episodes if name == "novel" else drawn.val),
                *(study.data.seed, f"selection-{name}-{split}"),
                max_images=None if name == "novel" else drawn.monitored_images,
            )
            for name, classes in of.items()
        }
        images = TrainingImages.of(_images(index, trained_on, "train", config.shots, split))
        model = build_model(study, arm, SEED, source)
        files = [layout.index] + [layout.features / "meta.json"] * (study.features.mode == "stored")
        key = fingerprint({"study": asdict(study), "arm": arm, "split": split}, files, tensors=model.state_dict())
        state = Path(".resume") / folder / f"{key[:16]}.pt"  # no output of the stage: DVC deletes those before it runs
        trained = train(model, source, images, tables, config.on(len(images.by_image)), SEED, state, epoch_line)
        with atomic_path(folder / "history.csv") as temporary:
            trained.history.to_csv(temporary, index=False)
        for shots in study.test.shots:
            table = score_episodes(trained.model, source, tables["novel"], shots, study.test.batch)
            with atomic_path(folder / f"episodes_{shots}shot.csv") as temporary:
                table[EPISODE_COLUMNS].to_csv(temporary, index=False)
            metrics = run_metrics(table, source.tree.classes, rule.fold, SEED, study.test.resamples)
            write_json(folder / f"metrics_{shots}shot.json", {**metrics, **study.labelled})
        shutil.rmtree(state.parent)  # with what other parameters or code have left there
    written = [folder / "history.csv", *folder.glob("episodes_*.csv")]
    write_receipt(written, layout.selection_receipt(arm, split))


def _images(index: pd.DataFrame, classes: list[int], images: str, shots: int, split: str) -> dict[int, list[str]]:
    """The images of those of ``classes`` that have more than ``shots`` in the index's split ``images``."""
    usable, too_few = usable_classes(index, classes, images, shots + 1)
    if not usable:
        raise UserError(
            f"params.yaml: selection.splits.{split}: no class to use has {shots + 1} images in split {images} (the "
            f"most: {max(too_few.values(), default=0)}): withhold others, or change data.val_fraction"
        )
    return images_by_class(index, usable, images)


def withheld_classes(tree: Tree, split: Split) -> list[int]:
    """The class ids of a split's withheld classes. Raises UserError where one is no base class of its fold."""
    base = {tree.classes[c - 1]: c for c in tree.base_classes(split.fold)}
    for name in split.withheld:
        if name not in base:
            raise unknown(f"params.yaml: selection.splits: base class of fold {split.fold}", name, base)
    if not split.withheld or len(split.withheld) == len(base):
        raise UserError(
            f"params.yaml: selection.splits: {len(split.withheld)} of the {len(base)} base classes of fold "
            f"{split.fold} are withheld; expected at least one, and one left to train on"
        )
    return [base[name] for name in split.withheld]
