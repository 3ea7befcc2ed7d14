"""A run of the study put together: its source, its network, with fresh weights or trained ones."""

from pathlib import Path

from torch import nn

from asgnet.backbones import build_encoder, build_vit
from asgnet.backbones.inference import for_inference
from asgnet.checkpoint import load_head
from asgnet.config import FeaturesConfig, ModelConfig, Study
from asgnet.data import open_dataset
from asgnet.device import fast_dtype, pick_device
from asgnet.layout import Layout
from asgnet.model import ASGNet
from asgnet.source import OnlineSource, Source, StoredSource
from asgnet.store import Store
from asgnet.train import init_model


def open_source(study: Study) -> Source:
    """Where the study's networks read from: the store, or the photographs."""
    tree = open_dataset(study.data.dataset, study.data.root, study.data.folds_of)
    if study.features.mode == "online":
        return OnlineSource(study, tree)
    return StoredSource(study, Store(Layout.of(study).features), tree)


def build_model(study: Study, arm: str, seed: int, source: Source) -> ASGNet:
    """The arm's network with fresh trainable weights that depend on the random seed alone."""
    config = study.model_of(arm)
    return init_model(config, seed, sources=source.sources, **_frozen(study.features, config)).to(pick_device())


def load_run(study: Study, folder: Path) -> ASGNet:
    """The trained network in a run's folder, in eval mode."""
    return load_network(study.features, folder)


def load_network(features: FeaturesConfig, folder: Path) -> ASGNet:
    """`load_run` outside of a study: ``features`` says which frozen networks it needs, and where their weights are."""
    weights, config, sources = load_head(folder)
    model = ASGNet(config, sources=sources, **_frozen(features, config)).to(pick_device())
    model.load_trainable(weights, str(folder))
    return model.eval()


def _frozen(features: FeaturesConfig, config: ModelConfig) -> dict[str, nn.Module | None]:
    """The frozen networks that a run needs beside the store: none, where stored features say everything."""
    online = features.mode == "online"
    encoder = vit = None
    if online or config.residual or config.batch_statistics:
        encoder = build_encoder(config, features.weights, features.pretrained)
        encoder = encoder if config.batch_statistics else for_inference(encoder, fast_dtype(pick_device()))
    if online and config.vit != "none":
        vit = build_vit(config, features.weights, features.pretrained)
    return {"encoder": encoder, "vit": vit}
