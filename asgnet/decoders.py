"""Context modules: they turn query, guide and probability map into a map that a classifier reads.

Both take the same input (B, 2 width + 1, h, w) = query (width), guide (width), probability (1), on any grid,
and follow PFENet (FEM) and CANet / DeepLab (ASPP) as the published ASGNet does. Their auxiliary logits serve the
training loss alone: in eval mode there are none.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asgnet.convolution import Conv2d

LOW_LEVEL = 64  # channels of layer1 after its reduction


def sides(maps: Tensor) -> tuple[int, int]:
    """Height and width of maps (..., h, w)."""
    height, width = maps.shape[-2:]
    return height, width


@lru_cache(maxsize=64)
def interpolation(cells: int, pixels: int) -> Tensor:
    """(pixels, cells) float32: the weights with which linear interpolation with aligned corners makes a line of
    ``pixels`` of one of ``cells``."""
    with torch.inference_mode(False):  # kept for whoever asks next: a prediction's tensor could not train
        place = torch.linspace(0, cells - 1, pixels, dtype=torch.float64)[:, None]
        return (1 - (place - torch.arange(cells)).abs()).clamp(min=0).float()


def enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """`resize` of maps (..., h, w) to (..., H, W), float32, as two small matrix products: for maps of few channels
    several times as fast, forward and backward."""
    if sides(maps) == tuple(size):
        return maps.float()
    rows, cols = (interpolation(*pair).to(maps.device) for pair in zip(sides(maps), size, strict=True))
    with torch.autocast(maps.device.type, enabled=False):
        return rows @ (maps.float() @ cols.T)  # (H, h) (..., h, w) (w, W)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear with aligned corners, the only resizing in this network: (B, C, h, w) -> (B, C, H, W)."""
    if sides(x) == tuple(size):
        return x  # what aligned corners give, without the work
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def join(parts: list[Tensor]) -> Tensor:
    """Maps (B, *, h, w) behind each other, channels last: of those that lie so, each cell's channels are copied as one
    run, several times as fast as along dimension 1."""
    return torch.cat([part.movedim(1, -1) for part in parts], -1).movedim(-1, 1)


def conv(inputs: int, outputs: int, kernel: int) -> Conv2d:
    return Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)


def classifier(width: int, classes: int = 2) -> nn.Sequential:
    """(B, width, h, w) -> (B, 2, h, w) logits; its last convolution is the only one with a bias."""
    return nn.Sequential(
        conv(width, width, 3), nn.ReLU(inplace=True), nn.Dropout2d(0.1), Conv2d(width, classes, kernel_size=1)
    )


def bin_sizes(grid: tuple[int, int]) -> list[tuple[int, int]]:
    """The grid over 1, 2, 4 and 8, rounded half up: 60 -> 60, 30, 15, 8."""
    height, width = grid
    return [(_rounded(height, over), _rounded(width, over)) for over in (1, 2, 4, 8)]


def _rounded(side: int, over: int) -> int:
    return max((2 * side + over) // (2 * over), 1)


class FEM(nn.Module):
    """Feature enrichment: four scales, each enriched by the finer one before it.

    (B, 2 width + 1, h, w) -> context (B, width, h, w) and, in training mode, the auxiliary logits of each scale,
    (B, 2, bin, bin).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        scales = range(4)
        self.merge = nn.ModuleList(nn.Sequential(conv(2 * width + 1, width, 1), nn.ReLU(inplace=True)) for _ in scales)
        self.descend = nn.ModuleList(
            nn.Sequential(conv(2 * width, width, 1), nn.ReLU(inplace=True)) for _ in scales[1:]
        )
        self.refine = nn.ModuleList(double_conv(width) for _ in scales)
        self.auxiliary = nn.ModuleList(classifier(width) for _ in scales)
        self.fuse = nn.Sequential(conv(4 * width, width, 1), nn.ReLU(inplace=True))
        self.polish = double_conv(width)

    def forward(self, x: Tensor, layer1: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        grid = sides(x)
        features, probability = x[:, :-1], x[:, -1:]
        scales: list[Tensor] = []  # (B, width, h, w) each
        auxiliary: list[Tensor] = []
        for i, size in enumerate(bin_sizes(grid)):
            pooled = features if size == grid else F.adaptive_avg_pool2d(features, size)  # (B, 2 width, *size)
            y = self.merge[i](join([pooled, resize(probability, size)]))  # (B, width, *size)
            if scales:
                y = y + self.descend[i - 1](join([y, resize(scales[-1], size)]))
            y = y + self.refine[i](y)
            if self.training:
                auxiliary.append(self.auxiliary[i](y))
            scales.append(resize(y, grid))
        context = self.fuse(join(scales))  # (B, 4 width, h, w) -> (B, width, h, w)
        return context + self.polish(context), auxiliary


def double_conv(width: int) -> nn.Sequential:
    return nn.Sequential(conv(width, width, 3), nn.ReLU(inplace=True), conv(width, width, 3), nn.ReLU(inplace=True))


class ASPP(nn.Module):
    """Alternative context module: residual blocks, atrous pyramid, and a decoder that joins layer1's finer grid.

    (B, 2 width + 1, h, w) and layer1 (B, C1, h4, w4) -> context (B, width, h4, w4) and, in training mode,
    one auxiliary output (B, 2, h, w), read from the pyramid before the decoder.
    """

    def __init__(self, width: int, layer1_channels: int) -> None:
        super().__init__()
        self.merge = nn.Sequential(conv(2 * width + 1, width, 3), nn.ReLU(inplace=True), nn.Dropout2d(0.5))
        self.residuals = nn.ModuleList(
            nn.Sequential(conv(width, width, 3), nn.ReLU(inplace=True), conv(width, width, 3)) for _ in range(3)
        )
        self.everywhere = nn.Sequential(Conv2d(width, width, 1), nn.ReLU(inplace=True))
        self.branches = nn.ModuleList(atrous(width, rate) for rate in (1, 6, 12, 18))
        self.fuse = nn.Sequential(Conv2d(5 * width, width, 1), nn.ReLU(inplace=True))
        self.auxiliary = classifier(width)
        self.low_level = nn.Sequential(
            conv(layer1_channels, LOW_LEVEL, 1), nn.BatchNorm2d(LOW_LEVEL), nn.ReLU(inplace=True)
        )
        self.join = nn.Sequential(conv(width + LOW_LEVEL, width, 3), nn.BatchNorm2d(width), nn.ReLU(inplace=True))

    def forward(self, x: Tensor, layer1: Tensor) -> tuple[Tensor, list[Tensor]]:
        y = self.merge(x)  # (B, width, h, w)
        for residual in self.residuals:
            y = y.relu()  # the published block opens with an in-place ReLU, so its shortcut is rectified too
            y = y + residual(y)
        everywhere = self.everywhere(y.mean((2, 3), keepdim=True)).expand_as(y)
        y = self.fuse(join([everywhere, *(branch(y) for branch in self.branches)]))
        fine = self.low_level(layer1)  # (B, 64, h4, w4)
        auxiliary = [self.auxiliary(y)] if self.training else []
        return self.join(join([resize(y, sides(fine)), fine])), auxiliary


def atrous(width: int, rate: int) -> nn.Sequential:
    """One branch of the pyramid; rate 1 is a 1x1 convolution."""
    kernel = 1 if rate == 1 else 3
    padding = rate * (kernel // 2)
    return nn.Sequential(Conv2d(width, width, kernel, padding=padding, dilation=rate), nn.ReLU(inplace=True))
