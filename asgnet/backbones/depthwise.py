"""Depthwise convolution with frozen weights whose gradient costs about as much as its output.

CPU libraries take a slow path for the gradient of a strided or dilated depthwise convolution (20 times the forward
pass), and for the forward pass itself once the padding is wide. Both have a way round that changes no result:

- With an odd kernel and "same" padding, the gradient with respect to the input is the same convolution, at stride 1,
  of the output's gradient with the kernel turned by 180 degrees; stride 2 puts zeros between that gradient's cells.
- What is too wide of the padding is written into the tensor first.

The weights get no gradient: this is for frozen backbones.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asgnet.backbones.efficientnet import StridedSame

WIDEST_PADDING = 4  # cells; from 7 on, oneDNN was measured 12 times slower


class FrozenDepthwise(nn.Module):
    """A drop-in for a depthwise ``Conv2d`` with same padding and stride 1, or stride 2 on odd sides.

    (N, C, h, w) -> (N, C, h, w) or (N, C, (h + 1) / 2, (w + 1) / 2); raises ValueError for stride 2 on even sides,
    where the padding of TensorFlow is lopsided.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        if not replaceable(conv):
            raise ValueError(f"expected a depthwise convolution with same padding and stride 1 or 2, got {conv}")
        self.stride, self.dilation = conv.stride[0], conv.dilation[0]
        self.weight, self.bias = (
            None if learnt is None else nn.Parameter(learnt.detach().clone(), requires_grad=False)
            for learnt in (conv.weight, conv.bias)  # (C, 1, k, k), (C,)
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 2 and not (x.shape[2] % 2 and x.shape[3] % 2):
            raise ValueError(f"stride 2 needs odd sides, got {tuple(x.shape[2:])}; use images of 8n + 1 pixels a side")
        return _Depthwise.apply(x, self.weight, self.bias, self.stride, self.dilation)


def replaceable(conv: nn.Conv2d) -> bool:
    """Whether ``FrozenDepthwise`` can stand for this convolution."""
    kernel, stride, dilation = conv.kernel_size[0], conv.stride[0], conv.dilation[0]
    same = conv.padding == (dilation * (kernel // 2),) * 2 or isinstance(conv, StridedSame)
    return (
        conv.groups == conv.in_channels == conv.out_channels
        and conv.kernel_size == (kernel, kernel)
        and kernel % 2 == 1
        and conv.stride == (stride, stride)
        and conv.dilation == (dilation, dilation)
        and (stride == 1 or (stride == 2 and dilation == 1))
        and conv.padding_mode == "zeros"
        and same
    )


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.stride, ctx.dilation, ctx.dtype, ctx.sides = stride, dilation, x.dtype, x.shape[2:]
        return _convolve(x, weight, bias, stride, dilation)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (weight,) = ctx.saved_tensors
        if ctx.stride == 2:
            shape = (*gradient.shape[:2], *ctx.sides)  # (N, C, h, w)
            spread = torch.empty(
                shape, dtype=gradient.dtype, device=gradient.device, memory_format=torch.channels_last
            ).zero_()
            spread[:, :, ::2, ::2] = gradient
            gradient = spread
        turned = weight.flip(2, 3).to(gradient.dtype)  # autocast may have made the output narrower than the weight
        return _convolve(gradient, turned, None, 1, ctx.dilation).to(ctx.dtype), None, None, None, None


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, dilation: int) -> Tensor:
    padding = dilation * (weight.shape[-1] // 2)
    ahead = max(0, padding - WIDEST_PADDING)
    if ahead:
        x = F.pad(x, (ahead,) * 4)
    return F.conv2d(x, weight, bias, stride, padding - ahead, dilation, groups=weight.shape[0])
