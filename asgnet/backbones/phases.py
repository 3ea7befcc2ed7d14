"""Dilated depthwise layers as undilated ones, on each phase of the grid by itself.

A convolution dilated by d joins only cells that are d apart, and everything else in such a layer works cell by cell:
the d x d phases of the grid (every d-th cell, from each start) are images of their own, on which nothing is dilated.
CPU libraries run dilated depthwise convolutions two to three times slower.
"""

from collections.abc import Sequence
from itertools import groupby, product
from typing import Any

import torch
from torch import Tensor, nn

from asgnet.backbones.depthwise import FrozenDepthwise


class Phases(nn.Module):
    """``layers``, all of one dilation and stride 1, without it: (N, C, h, w) -> (N, C', h, w), the same result."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers, self.dilation = layers, dilation(layers)
        for layer in depthwise(layers):
            layer.dilation = 1

    def forward(self, x: Tensor) -> Tensor:
        sides = (x.shape[2], x.shape[3])
        done = [self.layers(phases) for phases in _Apart.apply(x, self.dilation)]
        return _Together.apply(sides, self.dilation, *done)


class _Apart(torch.autograd.Function):
    """`apart`, whose gradient is `together`: torch's own would fill a whole map with zeros for each phase."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: int) -> tuple[Tensor, ...]:
        ctx.sides, ctx.step = (x.shape[2], x.shape[3]), step
        return apart(x, step)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return together(gradients, ctx.sides, ctx.step), None


class _Together(torch.autograd.Function):
    """The other way round."""

    @staticmethod
    def forward(ctx: Any, sides: tuple[int, int], step: int, *phases: Tensor) -> Tensor:
        ctx.step = step
        return together(phases, sides, step)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *apart(gradient, ctx.step)


def apart(x: Tensor, step: int) -> tuple[Tensor, ...]:
    """(N, C, h, w) -> its step x step phases, those of one size behind each other: (n N, C, about h / step, w / step)
    each, channels last."""
    return tuple(
        torch.cat([x[:, :, row::step, col::step].movedim(1, -1) for row, col in starts]).movedim(-1, 1)
        for starts in groups((x.shape[2], x.shape[3]), step)
    )


def together(phases: Sequence[Tensor], sides: tuple[int, int], step: int) -> Tensor:
    """What `apart` took: (N, C, h, w), channels last."""
    every = groups(sides, step)
    shape = (len(phases[0]) // len(every[0]), phases[0].shape[1], *sides)
    out = torch.empty(shape, dtype=phases[0].dtype, device=phases[0].device, memory_format=torch.channels_last)
    for starts, done in zip(every, phases, strict=True):
        for (row, col), phase in zip(starts, done.chunk(len(starts)), strict=True):
            out[:, :, row::step, col::step] = phase
    return out


def groups(sides: tuple[int, int], step: int) -> list[list[tuple[int, int]]]:
    """The first cells of the phases of a grid, together where the phases have one size."""
    rows, cols = (
        # the first ones have one cell more than the others, which may have none
        [starts for starts in (range(side % step), range(side % step, min(step, side))) if starts]
        for side in sides
    )
    return [list(product(*starts)) for starts in product(rows, cols)]


def by_phases(module: nn.Module) -> None:
    """Put `Phases`, in place, around each run of dilated depthwise blocks of a Sequential within ``module``."""
    for name, child in list(module.named_children()):
        by_phases(child)
        if isinstance(child, nn.Sequential) and any(dilation(block) > 1 for block in child):
            runs = [(step, nn.Sequential(*blocks)) for step, blocks in groupby(child, dilation)]
            module.add_module(name, nn.Sequential(*(Phases(run) if step > 1 else run for step, run in runs)))


def dilation(module: nn.Module) -> int:
    """That of a module's depthwise convolutions; 1 where it has none, or other spatial ones, a stride or several."""
    strided = any(layer.stride > 1 for layer in depthwise(module))
    spatial = any(isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1) for layer in module.modules())
    found = {layer.dilation for layer in depthwise(module)}
    return found.pop() if len(found) == 1 and not strided and not spatial else 1


def depthwise(module: nn.Module) -> list[FrozenDepthwise]:
    """The depthwise convolutions within a module."""
    return [layer for layer in module.modules() if isinstance(layer, FrozenDepthwise)]
