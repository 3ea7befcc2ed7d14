"""The feature enrichment module and its losses, plainly: every pooling and resizing is done, in float32."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asgnet.decoders import FEM, bin_sizes


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear with aligned corners."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def enrich(weights: FEM, classifier: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """x (B, 2 width + 1, h, w): query, guide, probability -> logits (B, 2, h, w) and each scale's auxiliary logits,
    with the convolutions of the project's module."""
    grid, features, probability = tuple(x.shape[2:]), x[:, :-1], x[:, -1:]
    scales: list[Tensor] = []
    auxiliary = []
    for level, size in enumerate(bin_sizes(grid)):
        pooled = F.adaptive_avg_pool2d(features, size)
        y = weights.merge[level](torch.cat([pooled, resize(probability, size)], 1))
        if level:
            y = y + weights.descend[level - 1](torch.cat([y, resize(scales[-1], size)], 1))
        y = y + weights.refine[level](y)
        auxiliary.append(weights.auxiliary[level](y))
        scales.append(resize(y, grid))
    context = weights.fuse(torch.cat(scales, 1))
    return classifier(context + weights.polish(context)), auxiliary


def losses(logits: Tensor, auxiliary: list[Tensor], target: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the logits at the target's size, and the mean of the auxiliary ones; target (B, H, W), 255 is
    ignored."""
    size, target = tuple(target.shape[1:]), target.long()
    main = F.cross_entropy(resize(logits, size), target, ignore_index=255)
    each = [F.cross_entropy(resize(output, size), target, ignore_index=255) for output in auxiliary]
    return main, torch.stack(each).mean()
