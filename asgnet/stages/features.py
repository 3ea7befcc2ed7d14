"""The features stage: the frozen-feature store."""

from dataclasses import asdict
from typing import Any

from asgnet.config import Study
from asgnet.data import open_dataset
from asgnet.data.index import read_index
from asgnet.fingerprint import fingerprint
from asgnet.layout import Layout
from asgnet.store import Extractor, extract

MODULES = ("store", "backbones", "data", "device", "rng")  # whose code decides what the features are


def make_features(study: Study) -> None:
    """Fill the feature store; nothing is stored in the online mode."""
    layout = Layout.of(study)
    if study.features.mode == "online":
        layout.features.mkdir(parents=True, exist_ok=True)
        return
    index = read_index(layout.index)
    tree, extractor = open_dataset(study.data.dataset, study.data.root, study.data.folds_of), Extractor(study)
    model = {k: v for k, v in asdict(study.model).items() if k in ("backbone", "vit_model", "vit_size")}
    params: dict[str, Any] = {"data": asdict(study.data), "features": asdict(study.features), "model": model}
    params["precision"] = study.compute.precision
    files = [layout.index, *tree.files(index["id"].unique())]
    key = fingerprint(params, files, MODULES, extractor.weights())
    extract(study, tree, extractor, index, layout.features, key)
