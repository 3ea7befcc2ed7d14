"""The residual chain: the notes' arm 5.3."""

import torch
from torch import Tensor, nn

from asgnet.backbones.encoder import Encoder, Features, LayerOutput, last
from asgnet.sections import ModelConfig


class ResidualChain(nn.Module):
    """x_{l+1} = layer_l(x_l) + P_l(x_l), l = 0..3, P_l a learnt 1x1 convolution without bias, strided to the output's
    grid. The layers stay frozen; a gradient passes through them on its way to the P_l. Where a layer has several taps
    (Lite0's layer3) the last one is chained.

    ``model.residual_layers`` names the l that have a P_l; with ``model.residual_gates`` each P_l is multiplied by a
    learnt number that starts at 0, so that training starts from the frozen features; without ``model.residual_learns``
    the P_l stay as they were drawn.

    The encoder is the caller's and no part of this module's parameters.
    """

    def __init__(self, encoder: Encoder | type[Encoder], config: ModelConfig) -> None:
        super().__init__()
        shapes = dict(enumerate(zip(encoder.layer_channels, encoder.layer_strides, strict=True)))
        self.projections = nn.ModuleDict(
            {
                str(layer): nn.Conv2d(*shapes[layer][0], kernel_size=1, stride=shapes[layer][1], bias=False)
                for layer in config.residual_layers
            }
        )
        self.projections.requires_grad_(config.residual_learns)
        if config.residual_gates:
            self.gates = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in self.projections})

    def forward(self, encoder: Encoder, images: Tensor) -> Features:
        """ImageNet-normalised images (N, 3, H, W) -> Features without ViT tokens."""
        x, outputs = encoder.prepare(images), list[LayerOutput]()
        for number, layer in enumerate(encoder.layers):
            output = layer(x)
            taps = output if isinstance(output, tuple) else (output,)
            x = taps[-1] + self.added(number, x).to(taps[-1].dtype) if str(number) in self.projections else taps[-1]
            outputs.append((*taps[:-1], x) if isinstance(output, tuple) else x)
        return Features(cnn=encoder.collect(outputs), layer1=last(outputs[1]))

    def added(self, layer: int, x: Tensor) -> Tensor:
        """What is added to the output of a layer with the input x."""
        y = projected(self.projections[str(layer)], x)
        return y * self.gates[str(layer)] if hasattr(self, "gates") else y


def projected(projection: nn.Module, x: Tensor) -> Tensor:
    """projection(x), for an x in the encoder's precision: autocast takes it as it is, else the weights' is needed."""
    cast = torch.is_autocast_enabled(x.device.type)
    return projection(x if cast else x.to(next(projection.parameters()).dtype))
