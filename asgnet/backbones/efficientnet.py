"""EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation) at stride 8, under timm's names of its tensors.

It computes what timm's ``tf_efficientnet_lite0`` with ``output_stride=8`` does, to the last bit; importing timm takes
longer than a prediction.
"""

import math

from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-3  # of BatchNorm, as trained in TensorFlow
STRIDE = 8  # of the output: later strides become dilation
STAGES = (  # blocks, kernel, stride (of the first block), expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class EfficientNetLite0(nn.Module):
    """Images (N, 3, H, W), normalised to -1..1 -> ImageNet's logits (N, 1000). `draw` gives it random weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = convolution(3, 32, 3, stride=2)
        self.bn1 = NormAct(32)
        channels, reached, dilation = 32, 2, 1
        stages = []
        for count, kernel, stride, expansion, outputs in STAGES:
            blocks: list[nn.Module] = []
            for block in range(count):
                step, spread = stride if block == 0 else 1, dilation
                if reached * step > STRIDE:
                    step, dilation = 1, dilation * step  # of the blocks after this one
                reached *= step
                kind = Separable if expansion == 1 else InvertedResidual
                blocks.append(kind(channels, outputs, kernel, step, spread, expansion))
                channels = outputs
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = convolution(channels, 1280, 1)
        self.bn2 = NormAct(1280)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.bn1(self.conv_stem(x)))
        return self.classifier(self.bn2(self.conv_head(x)).mean((2, 3)))


class InvertedResidual(nn.Module):
    """1x1 up, depthwise, 1x1 down, and the input added where it has the same shape."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, dilation: int, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.conv_pw = convolution(inputs, middle, 1)
        self.bn1 = NormAct(middle)
        self.conv_dw = convolution(middle, middle, kernel, stride, dilation, groups=middle)
        self.bn2 = NormAct(middle)
        self.conv_pwl = convolution(middle, outputs, 1)
        self.bn3 = NormAct(outputs, act=False)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv_pw(x))
        y = self.bn2(self.conv_dw(y))
        y = self.bn3(self.conv_pwl(y))
        return y + x if self.skip else y


class Separable(nn.Module):
    """Depthwise, then 1x1: the block without expansion."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, dilation: int, expansion: int) -> None:
        super().__init__()
        self.conv_dw = convolution(inputs, inputs, kernel, stride, dilation, groups=inputs)
        self.bn1 = NormAct(inputs)
        self.conv_pw = convolution(inputs, outputs, 1)
        self.bn2 = NormAct(outputs, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv_pw(self.bn1(self.conv_dw(x))))


class NormAct(nn.BatchNorm2d):
    """BatchNorm, followed by ReLU6 unless ``act`` is False."""

    def __init__(self, channels: int, act: bool = True) -> None:
        super().__init__(channels, eps=EPS)
        self.act = nn.ReLU6(inplace=True) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))


class StridedSame(nn.Conv2d):
    """TensorFlow's padding at a stride: (N, C, h, w) -> (N, C', ceil(h / stride), ceil(w / stride)), the odd cell of
    the padding at the right and below."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = (
            max((-(-side // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - side, 0)
            for side in x.shape[2:]
        )
        return super().forward(F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2)))


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A convolution with "same" padding and no bias."""
    if stride > 1:
        return StridedSame(inputs, outputs, kernel, stride, groups=groups, bias=False)
    padding = dilation * (kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, 1, padding, dilation, groups=groups, bias=False)


def draw(module: nn.Module) -> None:
    """Initial weights of a layer from torch's global generator: normal by fan-out for a convolution, uniform for the
    classifier. ``net.apply(draw)``."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
    elif isinstance(module, nn.Linear):
        nn.init.uniform_(module.weight, -1 / math.sqrt(module.out_features), 1 / math.sqrt(module.out_features))
        nn.init.zeros_(module.bias)
