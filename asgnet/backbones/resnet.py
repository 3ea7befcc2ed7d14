"""ResNet-50 and ResNet-101, dilated for ASGNet, with either of two stems."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from asgnet.backbones.encoder import Encoder, LayerOutput, last

BLOCKS = {50: (3, 4, 6), 101: (3, 4, 23)}  # bottlenecks of layer1, layer2, layer3
EXPANSION = 4


class ResNet(Encoder):
    """layer0 (the stem, stride 4), layer1 (256 channels, stride 4), layer2 (512, 8), layer3 (1024, 8).

    Every 3x3 convolution of layer3 is dilated by 2 and none has a stride, so layer2 and layer3 share one grid:
    60 x 60 for 473 x 473 pixels. layer4 of the published weights is never used and does not exist here.
    Parameters are named as published within each layer: `layers.1.0.conv1.weight` is `layer1.0.conv1.weight` there.
    """

    sources = (1024, 512)  # layer3, layer2
    layer_strides = (4, 1, 2, 1)

    def __init__(self, depth: int = 50, batch_statistics: bool = False) -> None:
        super().__init__(batch_statistics)
        first, second, third = BLOCKS[depth]
        self.layers = nn.ModuleList(
            [
                self.stem(),
                bottlenecks(self.layer_channels[0][1], 64, first),
                bottlenecks(256, 128, second, stride=2),
                bottlenecks(512, 256, third, dilation=2),
            ]
        )
        self.freeze()

    def stem(self) -> nn.Sequential:
        """Images (N, 3, H, W) -> (N, C, H / 4, W / 4), C = ``layer_channels[0][1]``."""
        raise NotImplementedError

    def collect(self, outputs: Sequence[LayerOutput]) -> Tensor:
        return torch.cat([last(outputs[3]), last(outputs[2])], dim=1)  # (N, 1536, h, w)


class DeepStemResNet(ResNet):
    """The backbone of the notes: three 3x3 convolutions in place of one 7x7, 128 channels in layer0 (semseg's
    `resnet50_v2.pth` has this structure)."""

    layer_channels = ((3, 128), (128, 256), (256, 512), (512, 1024))

    def stem(self) -> nn.Sequential:
        parts: list[nn.Module] = []
        for inputs, outputs, stride in ((3, 64, 2), (64, 64, 1), (64, 128, 1)):
            conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
            parts += [conv, nn.BatchNorm2d(outputs), nn.ReLU(True)]
        return nn.Sequential(*parts, nn.MaxPool2d(3, stride=2, padding=1))


class SevenStemResNet(ResNet):
    """torchvision's ResNet, with a 7x7 convolution and 64 channels in layer0: a baseline of its own, to be labelled so
    (facts page, "Weights"). Its layer3 is dilated as above, which torchvision's and timm's own dilation is not."""

    layer_channels = ((3, 64), (64, 256), (256, 512), (512, 1024))

    def stem(self) -> nn.Sequential:
        conv = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(64), nn.ReLU(True), nn.MaxPool2d(3, stride=2, padding=1))


def bottlenecks(inputs: int, planes: int, count: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """One layer; only its first bottleneck changes the stride and the channels, and so has a projection shortcut."""
    first = Bottleneck(inputs, planes, stride, dilation)
    return nn.Sequential(first, *(Bottleneck(planes * EXPANSION, planes, 1, dilation) for _ in range(count - 1)))


class Bottleneck(nn.Module):
    """1x1 down, 3x3 (stride and dilation here), 1x1 up, added to the input or its projection."""

    def __init__(self, inputs: int, planes: int, stride: int, dilation: int) -> None:
        super().__init__()
        outputs = planes * EXPANSION
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))
