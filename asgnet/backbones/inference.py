"""A frozen encoder made fast: BatchNorm folded into the convolutions, channels last, the device's fast precision."""

import copy
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from asgnet.backbones.depthwise import FrozenDepthwise, replaceable
from asgnet.backbones.encoder import Encoder, LayerOutput
from asgnet.backbones.phases import by_phases
from asgnet.backbones.vit import Tokens


def for_inference(encoder: Encoder, dtype: torch.dtype = torch.float32) -> Encoder:
    """A copy of ``encoder`` that computes the same features (up to the rounding of ``dtype``) several times faster.

    The gradient still flows from the features to the input of each layer, never to the weights. ``prepare`` casts
    images to ``dtype``, in which the features leave. ``asgnet.device.fast_dtype`` knows the best ``dtype``.

    Raises ValueError for an encoder with ``batch_statistics``: those cannot be folded.
    """
    if encoder.batch_statistics:
        raise ValueError("BatchNorm in training mode cannot be folded: batch_statistics needs the encoder itself")
    folded = copy.deepcopy(encoder).eval()
    fold_batchnorm(folded)
    replace_depthwise(folded)
    by_phases(folded.layers)
    return _Fast(folded.requires_grad_(False).to(dtype).to(memory_format=torch.channels_last), dtype)


def for_statistics(encoder: Encoder) -> Encoder:
    """A copy of ``encoder``, whose BatchNorm still sees (and, in training mode, drifts with) each batch, that computes
    the same faster. Its weights stay float32: for autocast."""
    copied = copy.deepcopy(encoder)
    replace_depthwise(copied)
    return copied.requires_grad_(False).to(memory_format=torch.channels_last)


def for_autocast(tokens: Tokens, dtype: torch.dtype = torch.float32) -> Tokens:
    """A copy of ``tokens`` that computes the same under autocast to ``dtype``, to the last bit, without converting the
    weights of its layers anew each time."""
    cast = copy.deepcopy(tokens)
    for layer in cast.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.to(dtype)
    return cast


class _Fast(Encoder):
    def __init__(self, folded: Encoder, dtype: torch.dtype) -> None:
        super().__init__()
        self.folded, self.dtype = folded, dtype
        self.sources, self.layer_channels = folded.sources, folded.layer_channels
        self.layer_strides, self.mean, self.std = folded.layer_strides, folded.mean, folded.std

    @property
    def layers(self) -> nn.ModuleList:  # type: ignore[override]  # as a module of its own it would have two names
        return self.folded.layers

    def prepare(self, images: Tensor) -> Tensor:
        return self.folded.prepare(images).to(self.dtype, memory_format=torch.channels_last)

    def collect(self, outputs: Sequence[LayerOutput]) -> Tensor:
        return self.folded.collect(outputs)


def fold_batchnorm(module: nn.Module) -> None:
    """Fold, in place, each BatchNorm that directly follows a convolution among the children of one module.

    An activation that the BatchNorm carries (timm's ``BatchNormAct2d``) stays in its place.
    """
    children = list(module.named_children())
    for (name, child), (next_name, follower) in pairwise(children):
        if isinstance(child, nn.Conv2d) and isinstance(follower, nn.BatchNorm2d):
            module.add_module(name, fuse_conv_bn_eval(child, follower))
            module.add_module(next_name, getattr(follower, "act", nn.Identity()))
    for child in module.children():
        fold_batchnorm(child)


def replace_depthwise(module: nn.Module) -> None:
    """Put `FrozenDepthwise`, in place, wherever it can stand for a convolution."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d) and replaceable(child):
            module.add_module(name, FrozenDepthwise(child))
        else:
            replace_depthwise(child)
