"""A trained network put together from its run's folder: its weights, its frozen networks, on the device."""

from pathlib import Path

from asgnet.backbones import Encoder, Tokens, build_encoder, build_vit
from asgnet.backbones.inference import for_inference, for_statistics
from asgnet.checkpoint import load_head
from asgnet.device import compile_layers, fast_dtype, pick_device
from asgnet.model import ASGNet
from asgnet.sections import ComputeConfig, FeaturesConfig, ModelConfig

DEFAULT_COMPUTE = ComputeConfig()


def load_network(features: FeaturesConfig, folder: Path, compute: ComputeConfig = DEFAULT_COMPUTE) -> ASGNet:
    """The trained network in a run's folder, in eval mode. ``features`` says which frozen networks it needs, and where
    their weights are."""
    weights, config, sources = load_head(folder)
    encoder, vit = frozen_networks(features, config, compute)
    model = placed(ASGNet(config, encoder, vit, sources), compute)
    model.load_trainable(weights, str(folder))
    return model.eval()


def placed(model: ASGNet, compute: ComputeConfig) -> ASGNet:
    """``model`` on the device, compiled where asked: the context module and the classifier's 3x3 convolution, which
    take most of the head's time."""
    if compute.compile:
        compile_layers(model.head.context, model.head.classifier[0])
    return model.to(pick_device())


def frozen_networks(
    features: FeaturesConfig, config: ModelConfig, compute: ComputeConfig
) -> tuple[Encoder | None, Tokens | None]:
    """Encoder and ViT that a run needs beside the store: none, where stored features say everything."""
    online = features.mode == "online"
    encoder = vit = None
    if online or config.residual or config.batch_statistics:
        encoder = build_encoder(config, features.weights, features.pretrained)
        dtype = fast_dtype(pick_device(), compute.precision)
        encoder = for_statistics(encoder) if config.batch_statistics else for_inference(encoder, dtype)
    if online and config.vit != "none":
        vit = build_vit(config, features.weights, features.pretrained)
    return encoder, vit
