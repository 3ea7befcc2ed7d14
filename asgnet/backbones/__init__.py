"""Frozen backbones: ResNet-50/101 with a deep or a 7x7 stem, EfficientNet-Lite0 and ViT tokens, with their weights."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from asgnet.backbones.efficientnet import EfficientNetLite0, draw
from asgnet.backbones.encoder import Encoder, Features
from asgnet.backbones.inference import for_autocast, for_inference, for_statistics
from asgnet.backbones.lite0 import Lite0
from asgnet.backbones.naming import lite0_names, resnet_keys, vit_names, without_unused
from asgnet.backbones.resnet import DeepStemResNet, ResNet, SevenStemResNet
from asgnet.backbones.vit import Tokens
from asgnet.backbones.weights import BACKBONES, find_weights, load_strictly
from asgnet.rng import torch_generator
from asgnet.sections import ModelConfig

__all__ = [
    "ENCODERS",
    "Encoder",
    "Features",
    "Tokens",
    "build_encoder",
    "build_vit",
    "for_autocast",
    "for_inference",
    "for_statistics",
    "load_lite0_classifier",
]

RANDOM = "random initialisation"
RESNETS: dict[str, type[ResNet]] = {
    "resnet50": DeepStemResNet,
    "resnet101": DeepStemResNet,
    "resnet50_7x7": SevenStemResNet,
    "resnet101_7x7": SevenStemResNet,
}
ENCODERS: dict[str, type[Encoder]] = {**RESNETS, "lite0": Lite0}


def build_encoder(config: ModelConfig, weights_dir: Path | str = "initmodel", pretrained: bool = True) -> Encoder:
    """The frozen encoder that ``config.backbone`` names; ``encoder.source`` says where its weights came from.

    ``weights_dir`` is the local folder that wins over packages and hub. ``pretrained=False`` leaves the encoder
    randomly initialised, the same on every call. Raises UserError for weights that are missing or do not fit.
    """
    source = RANDOM
    encoder: Encoder
    with _repeatable():
        if config.backbone == "lite0":
            if pretrained:
                with torch.device("meta"):  # every weight is replaced
                    classifier = EfficientNetLite0()
                source = load_lite0_classifier(classifier, weights_dir)
            else:
                classifier = EfficientNetLite0().apply(draw)
            encoder = Lite0(classifier, config.batch_statistics)
        else:
            depth = int(config.backbone.removeprefix("resnet").removesuffix("_7x7"))
            encoder = resnet = RESNETS[config.backbone](depth, config.batch_statistics)
            if pretrained:
                source = _load_resnet(resnet, BACKBONES[config.backbone], weights_dir)
    encoder.source = source
    return encoder


def build_vit(config: ModelConfig, weights_dir: Path | str = "initmodel", pretrained: bool = True) -> Tokens:
    """The frozen ViT that ``config.vit_model`` names, on ``config.vit_size`` pixels; otherwise as ``build_encoder``."""
    if not pretrained:
        with _repeatable():
            return Tokens(config.vit_model, config.vit_size)
    with torch.device("meta"):  # every weight is replaced: drawing them first would take longer than loading them
        tokens = Tokens(config.vit_model, config.vit_size)
    weights = find_weights(config.vit_model, weights_dir)
    load_strictly(tokens.net, vit_names(weights.tensors, tokens.grid), weights.source)
    tokens.source = weights.source
    return tokens


def load_lite0_classifier(classifier: nn.Module, weights_dir: Path | str = "initmodel") -> str:
    """Load timm's ``tf_efficientnet_lite0`` strictly, whatever its dilation; returns the source of the weights."""
    weights = find_weights(BACKBONES["lite0"], weights_dir)
    tensors = lite0_names(weights.tensors, classifier.state_dict(), weights.source)
    load_strictly(classifier, tensors, weights.source)
    return weights.source


def _load_resnet(encoder: ResNet, model: str, weights_dir: Path | str) -> str:
    """Load layer0 .. layer3 strictly and say what else the file holds; returns the source of the weights."""
    weights = find_weights(model, weights_dir)
    tensors, dropped = without_unused(weights.tensors)
    load_strictly(encoder, tensors, weights.source, resnet_keys(encoder.state_dict(), tensors))
    if dropped:
        print(f"{weights.source}: dropped {dropped}, which ASGNet never runs", file=sys.stderr)
    return weights.source


@contextmanager
def _repeatable() -> Iterator[None]:
    # timm and torch draw initial weights from the global generator: lend it a state of ours, then give its own back.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(torch_generator(0, "random-backbone").get_state())
        yield
