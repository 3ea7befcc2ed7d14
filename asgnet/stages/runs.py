"""A run of the study put together: its source, its network, with fresh weights or trained ones."""

from pathlib import Path

from asgnet.config import Study
from asgnet.data import open_dataset
from asgnet.errors import UserError
from asgnet.layout import Layout
from asgnet.model import ASGNet
from asgnet.networks import frozen_networks, load_network, placed
from asgnet.source import OnlineSource, Source, StoredSource
from asgnet.store import Store
from asgnet.train import init_model


def open_source(study: Study) -> Source:
    """Where the study's networks read from: the store, or the photographs."""
    tree = open_dataset(study.data.dataset, study.data.root, study.data.folds_of)
    if study.features.mode == "online":
        return OnlineSource(study, tree)
    return StoredSource(study, Store(Layout.of(study).features), tree)


def refuse_like_for_like(study: Study) -> None:
    """Raise UserError where the study asks for the published scoring, which the frozen episodes of a stage are not."""
    if study.test.like_for_like:
        raise UserError(
            "params.yaml: test.like_for_like is true, but the pipeline's stages test on frozen episodes that all arms "
            "share: set it to false, and score a trained run with `asgnet evaluate RUN_DIR --like-for-like`"
        )


def build_model(study: Study, arm: str, seed: int, source: Source) -> ASGNet:
    """The arm's network with fresh trainable weights that depend on the random seed alone."""
    config = study.model_of(arm)
    encoder, vit = frozen_networks(study.features, config, study.compute)
    return placed(init_model(config, seed, sources=source.sources, encoder=encoder, vit=vit), study.compute)


def load_run(study: Study, folder: Path) -> ASGNet:
    """The trained network in a run's folder, in eval mode."""
    return load_network(study.features, folder, study.compute)
