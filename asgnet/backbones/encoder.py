"""What every frozen convolutional encoder offers, and the features that leave it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

LayerOutput = Tensor | tuple[Tensor, ...]  # layer3 of Lite0 is tapped twice


class Features(NamedTuple):
    """What the frozen networks say about N images of H x W pixels, h = (H - 1) / 8 + 1, w likewise."""

    cnn: Tensor  # (N, sum(encoder.sources), h, w)
    vit: Tensor | None = None  # (N, 1 + T, D) tokens, the class token first
    layer1: Tensor | None = None  # (N, C1, h4, w4): the decoder of the ASPP context module reads it


class Encoder(nn.Module):
    """A frozen backbone as a chain of four layers, so that layers can be run one by one (`residual.py`).

    A subclass sets, besides ``layers``:

    - ``sources``: channels of the parts that ``collect`` concatenates, in that order;
    - ``layer_channels``: (input, output) channels of each layer (output: of the last tap);
    - ``layer_strides``: input grid over output grid of each layer, on images of 8n + 1 pixels a side;
    - ``mean``, ``std``: the normalisation that its weights were trained with.

    Its parameters take no gradient. BatchNorm stays in eval mode through ``.train()`` unless
    ``batch_statistics`` asks for the published drift (facts page, departure 2).
    """

    layers: nn.ModuleList  # layer0 .. layer3, each tensor -> tensor, or -> tuple of taps
    sources: tuple[int, ...]
    layer_channels: tuple[tuple[int, int], ...]
    layer_strides: tuple[int, ...]
    source: str  # of the weights; set by `asgnet.backbones.build_encoder`
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __init__(self, batch_statistics: bool = False) -> None:
        super().__init__()
        self.batch_statistics = batch_statistics

    def collect(self, outputs: Sequence[LayerOutput]) -> Tensor:
        """The outputs of layer0 .. layer3 -> (N, sum(sources), h, w)."""
        raise NotImplementedError

    def prepare(self, images: Tensor) -> Tensor:
        """ImageNet-normalised images (N, 3, H, W) -> images normalised as this backbone wants them."""
        if (self.mean, self.std) == (IMAGENET_MEAN, IMAGENET_STD):
            return images
        return renormalise(images, self.mean, self.std)

    def forward(self, images: Tensor) -> Features:
        """ImageNet-normalised images (N, 3, H, W) -> Features without ViT tokens."""
        outputs = list(self.run(self.prepare(images)))
        return Features(cnn=self.collect(outputs), layer1=last(outputs[1]))

    def run(self, prepared: Tensor) -> Iterator[LayerOutput]:
        """Prepared images -> the outputs of layer0 .. layer3, one after another."""
        x = prepared
        for layer in self.layers:
            x = layer(x)
            yield x

    def freeze(self) -> "Encoder":
        """Take the gradient from every parameter and put BatchNorm into its mode; call it when built."""
        self.requires_grad_(False)
        return self.train(self.training)

    def train(self, mode: bool = True) -> "Encoder":
        return super().train(mode and self.batch_statistics)


def last(output: LayerOutput) -> Tensor:
    """A layer's output; of several taps the last."""
    return output if isinstance(output, Tensor) else output[-1]


def renormalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(N, 3, H, W) normalised with ImageNet's mean and deviation -> normalised with the given ones."""
    shift = [(old - new) / new_std for old, new, new_std in zip(IMAGENET_MEAN, mean, std, strict=True)]
    scale = [old / new for old, new in zip(IMAGENET_STD, std, strict=True)]
    scale_, shift_ = (torch.tensor(v, dtype=images.dtype, device=images.device).view(3, 1, 1) for v in (scale, shift))
    return images * scale_ + shift_
