"""Stages that prepare: the dataset, the frozen episodes, the frozen features."""

from dataclasses import asdict

from asgnet.config import Study
from asgnet.data import open_dataset
from asgnet.data.episodes import fold_episodes, write_episodes
from asgnet.data.index import build_index, novel_classes, read_index, write_index
from asgnet.data.tree import Tree
from asgnet.fingerprint import fingerprint
from asgnet.layout import Layout
from asgnet.store import extract

SPLITS = ("train", "val", "novel", "test")


def make_data(study: Study) -> None:
    """Make the embedded dataset, or complete a VOC tree (masks from SBD, lists; download where asked)."""
    data = study.data
    if data.dataset == "parts":
        from asgnet.data.parts import build

        build(data.root, train=data.train_images, test=data.test_images, size=data.size, seed=data.seed)
    else:
        from asgnet.data.voc import prepare_pascal5i

        prepare_pascal5i(data.root, download=data.download)


def make_episodes(study: Study) -> None:
    """Index the dataset and freeze the episodes of every fold."""
    data, drawn, layout = study.data, study.episodes, Layout.of(study)
    tree = open_dataset(data.dataset, data.root)
    index = build_index(tree, data.val_fraction, data.seed, data.min_pixels)
    counts = {name: getattr(drawn, name) for name in SPLITS}
    pools = {name: drawn.monitored_images for name in ("train", "val", "novel")}
    limits = (data.seed, data.min_test_images, pools)
    folds = {fold: fold_episodes(index, tree, fold, drawn.shots, counts, *limits) for fold in study.folds}
    for fold, tables in folds.items():  # only now, when every fold is known to be possible
        for name, table in tables.items():
            write_episodes(layout.episodes(fold, name), table)
        kept, dropped = novel_classes(index, tree, fold, data.min_test_images)
        print(f"fold {fold}: novel {', '.join(tree.classes[c - 1] for c in kept)}" + _dropped(tree, dropped))
    write_index(layout.index, index)


def _dropped(tree: Tree, dropped: dict[int, int]) -> str:
    names = ", ".join(f"{tree.classes[c - 1]} ({count} test images)" for c, count in dropped.items())
    return f"; left out: {names}" if names else ""


def make_features(study: Study) -> None:
    """Fill the feature store; nothing is stored in the online mode."""
    layout = Layout.of(study)
    if study.features.mode == "online":
        layout.features.mkdir(parents=True, exist_ok=True)
        return
    model = {k: v for k, v in asdict(study.model).items() if k in ("backbone", "vit_model", "vit_size")}
    params = {"data": asdict(study.data), "features": asdict(study.features), "model": model}
    key = fingerprint(params, files=[layout.index], modules=["store", "backbones", "data", "device"])
    extract(study, read_index(layout.index), layout.features, key)
