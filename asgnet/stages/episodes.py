"""The episodes stage: the index of the dataset and the frozen episodes of every fold."""

from asgnet.config import Study
from asgnet.data import open_dataset
from asgnet.data.episodes import fold_episodes, write_episodes
from asgnet.data.index import build_index, novel_classes, write_index
from asgnet.data.tree import Tree
from asgnet.layout import Layout

SPLITS = ("train", "val", "novel", "test")


def make_episodes(study: Study) -> None:
    """Index the dataset and freeze the episodes of every fold."""
    data, drawn, layout = study.data, study.episodes, Layout.of(study)
    tree = open_dataset(data.dataset, data.root, data.folds_of)
    index = build_index(tree, data.val_fraction, data.seed, data.min_pixels)
    counts = {name: getattr(drawn, name) for name in SPLITS}
    pools = {name: drawn.monitored_images for name in ("train", "val", "novel")}
    limits = (data.seed, data.min_test_images, pools)
    folds = {
        fold: fold_episodes(index, tree, fold, drawn.shots, counts, *limits, drawn.test_shots) for fold in study.folds
    }
    for fold, tables in folds.items():  # only now, when every fold is known to be possible
        for name, table in tables.items():
            write_episodes(layout.episodes(fold, name), table)
        kept, dropped = novel_classes(index, tree, fold, data.min_test_images)
        print(f"fold {fold}: novel {', '.join(tree.classes[c - 1] for c in kept)}" + _dropped(tree, dropped))
    write_index(layout.index, index)


def _dropped(tree: Tree, dropped: dict[int, int]) -> str:
    names = ", ".join(f"{tree.classes[c - 1]} ({count} test images)" for c, count in dropped.items())
    return f"; left out: {names}" if names else ""
