"""The features stage: the frozen-feature store."""

from dataclasses import asdict

from asgnet.config import Study
from asgnet.data.index import read_index
from asgnet.fingerprint import fingerprint
from asgnet.layout import Layout
from asgnet.store import extract


def make_features(study: Study) -> None:
    """Fill the feature store; nothing is stored in the online mode."""
    layout = Layout.of(study)
    if study.features.mode == "online":
        layout.features.mkdir(parents=True, exist_ok=True)
        return
    index = read_index(layout.index)
    model = {k: v for k, v in asdict(study.model).items() if k in ("backbone", "vit_model", "vit_size")}
    params = {"data": asdict(study.data), "features": asdict(study.features), "model": model}
    params["precision"] = study.compute.precision
    key = fingerprint(params, files=[layout.index], modules=["store", "backbones", "data", "device"])
    extract(study, index, layout.features, key)
