"""The convolutions that learn, 1x1 and 3x3, on maps that lie channels last: what CPU libraries make slow of them, as
matrix products. Elsewhere (CUDA, half precision, compiled) they are torch's own."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conv2d(nn.Conv2d):
    """A drop-in for `torch.nn.Conv2d`, the same up to rounding.

    - 1x1: each cell's channels are a row, so the layer is a matrix product, and nothing is copied. On one thread torch
      would bring the map into channels-first order and back.
    - 3x3 with padding 1: the gradient of the weights is nine matrix products (`weight_gradient`), two to three times as
      fast as oneDNN's for maps that lie channels last.
    """

    def forward(self, x: Tensor) -> Tensor:
        plain = x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
        if plain or torch.compiler.is_compiling():
            return super().forward(x)
        form = (self.kernel_size, self.stride, self.padding, self.dilation, self.groups)
        if form == ((1, 1), (1, 1), (0, 0), (1, 1), 1):
            rows = x.movedim(1, -1)  # (B, h, w, C)
            return F.linear(rows, self.weight.flatten(1), self.bias).movedim(-1, 1)
        if form == ((3, 3), (1, 1), (1, 1), (1, 1), 1) and self.bias is None:
            return _Conv3x3.apply(x, self.weight)
        return super().forward(x)


class _Conv3x3(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, padding=1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight = ctx.needs_input_grad
        one, zero, wanted = [1, 1], [0, 0], [of_x, False, False]
        backward = torch.ops.aten.convolution_backward
        result, _, _ = backward(gradient, x, weight, None, one, one, one, False, zero, 1, wanted)
        return result, weight_gradient(x, gradient) if of_weight else None


def weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Of a 3x3 convolution with padding 1: its input (B, C, h, w) and the gradient of its output (B, O, h, w) -> the
    gradient of its weights (O, C, 3, 3).

    With a border of zeros around both, each map is a run of cells in which a tap of the kernel is a shift: what leaves
    a row at its end meets the border, where the output has no gradient."""
    inputs, outputs = (F.pad(maps.movedim(1, -1), (0, 0, 1, 1, 1, 1)).flatten(0, 2) for maps in (x, gradient))
    row = x.shape[3] + 2
    first, count = row + 1, len(outputs) - 2 * (row + 1)  # from the first cell within the border to the last
    outputs = outputs[first : first + count].T  # (O, n)
    taps = [outputs @ inputs[down * row + right :][:count] for down in range(3) for right in range(3)]  # 9 x (O, C)
    return torch.stack(taps, 2).unflatten(2, (3, 3))
