"""EfficientNet-Lite0 as ASGNet's backbone (facts page, "Weights"; Tan and Le 2019, without squeeze-and-excitation)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from asgnet.backbones.efficientnet import EfficientNetLite0
from asgnet.backbones.encoder import Encoder, LayerOutput, last


class Lite0(Encoder):
    """Features of 40 + 112 + 320 channels at stride 8.

    layer0 is the stem and stage 0 (16 channels, stride 2), layer1 stage 1 (24, stride 4), layer2 stage 2 (40,
    stride 8), layer3 stages 3-6, dilated so that the stride stays 8, tapped after stage 4 (112) and stage 6 (320).
    """

    sources = (40, 112, 320)
    layer_channels = ((3, 16), (16, 24), (24, 40), (40, 320))
    layer_strides = (2, 2, 2, 1)
    mean = std = (0.5, 0.5, 0.5)

    def __init__(self, classifier: EfficientNetLite0, batch_statistics: bool = False) -> None:
        """Take the layers of ``classifier``."""
        super().__init__(batch_statistics)
        stages = classifier.blocks
        self.layers = nn.ModuleList(
            [
                nn.Sequential(classifier.conv_stem, classifier.bn1, stages[0]),
                stages[1],
                stages[2],
                TappedStages([stages[3:5], stages[5:7]]),
            ]
        )
        self.freeze()

    def collect(self, outputs: Sequence[LayerOutput]) -> Tensor:
        _, _, layer2, taps = outputs
        return torch.cat([last(layer2), *taps], dim=1)  # (N, 40 + 112 + 320, h, w)


class TappedStages(nn.ModuleList):
    """Run the parts one after another and return the output of each."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        taps = []
        for part in self:
            x = part(x)
            taps.append(x)
        return tuple(taps)
