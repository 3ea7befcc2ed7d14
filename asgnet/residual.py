"""The residual chain: the notes' arm 5.3."""

import torch
from torch import Tensor, nn

from asgnet.backbones.encoder import Encoder, Features, LayerOutput, last


class ResidualChain(nn.Module):
    """x_{l+1} = layer_l(x_l) + P_l(x_l), l = 0..3, P_l a learnt 1x1 convolution without bias, strided to the output's
    grid. The layers stay frozen; a gradient passes through them on its way to the P_l. Where a layer has several taps
    (Lite0's layer3) the last one is chained.

    The encoder is the caller's and no part of this module's parameters.
    """

    def __init__(self, encoder: Encoder | type[Encoder]) -> None:
        super().__init__()
        self.projections = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False)
            for (inputs, outputs), stride in zip(encoder.layer_channels, encoder.layer_strides, strict=True)
        )

    def forward(self, encoder: Encoder, images: Tensor) -> Features:
        """ImageNet-normalised images (N, 3, H, W) -> Features without ViT tokens."""
        x, outputs = encoder.prepare(images), list[LayerOutput]()
        for layer, projection in zip(encoder.layers, self.projections, strict=True):
            output = layer(x)
            taps = output if isinstance(output, tuple) else (output,)
            x = taps[-1] + projected(projection, x).to(taps[-1].dtype)
            outputs.append((*taps[:-1], x) if isinstance(output, tuple) else x)
        return Features(cnn=encoder.collect(outputs), layer1=last(outputs[1]))


def projected(projection: nn.Module, x: Tensor) -> Tensor:
    """projection(x), for an x in the encoder's precision: autocast takes it as it is, else the weights' is needed."""
    cast = torch.is_autocast_enabled(x.device.type)
    return projection(x if cast else x.to(next(projection.parameters()).dtype))
