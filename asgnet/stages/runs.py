"""A run of the study put together: its source, its network, with fresh weights or trained ones."""

from pathlib import Path

from asgnet.backbones import Encoder, Tokens, build_encoder, build_vit
from asgnet.backbones.inference import for_inference
from asgnet.checkpoint import load_head
from asgnet.config import Study
from asgnet.data import open_dataset
from asgnet.device import compile_layers, fast_dtype, pick_device
from asgnet.errors import UserError
from asgnet.layout import Layout
from asgnet.model import ASGNet
from asgnet.sections import ComputeConfig, FeaturesConfig, ModelConfig
from asgnet.source import OnlineSource, Source, StoredSource
from asgnet.store import Store
from asgnet.train import init_model

DEFAULT_COMPUTE = ComputeConfig()


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
    encoder, vit = _frozen(study.features, config, study.compute)
    return _placed(init_model(config, seed, sources=source.sources, encoder=encoder, vit=vit), study.compute)


def load_run(study: Study, folder: Path) -> ASGNet:
    """The trained network in a run's folder, in eval mode."""
    return load_network(study.features, folder, study.compute)


def load_network(features: FeaturesConfig, folder: Path, compute: ComputeConfig = DEFAULT_COMPUTE) -> ASGNet:
    """`load_run` outside of a study: ``features`` says which frozen networks it needs, and where their weights are."""
    weights, config, sources = load_head(folder)
    encoder, vit = _frozen(features, config, compute)
    model = _placed(ASGNet(config, encoder, vit, sources), compute)
    model.load_trainable(weights, str(folder))
    return model.eval()


def _placed(model: ASGNet, compute: ComputeConfig) -> ASGNet:
    """``model`` on the device, compiled where asked: the context module and the classifier, which take most of the
    head's time."""
    if compute.compile:
        compile_layers(model.head.context, model.head.classifier)
    return model.to(pick_device())


def _frozen(
    features: FeaturesConfig, config: ModelConfig, compute: ComputeConfig
) -> tuple[Encoder | None, Tokens | None]:
    """Encoder and ViT that a run needs beside the store: none, where stored features say everything."""
    online = features.mode == "online"
    encoder = vit = None
    if online or config.residual or config.batch_statistics:
        encoder = build_encoder(config, features.weights, features.pretrained)
        dtype = fast_dtype(pick_device(), compute.precision)
        encoder = encoder if config.batch_statistics else for_inference(encoder, dtype)
    if online and config.vit != "none":
        vit = build_vit(config, features.weights, features.pretrained)
    return encoder, vit
