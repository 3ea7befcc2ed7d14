"""The published network, plainly, on the weights of the project's."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asgnet.head import PUBLISHED_CELLS, token_map
from asgnet.model import ASGNet
from benchmarks.plain.allocation import allocate_all
from benchmarks.plain.clustering import cluster
from benchmarks.plain.decoder import enrich, losses, resize
from benchmarks.plain.seeds import place_seeds


class Plain(nn.Module):
    """One episode after another, one image after another; parameters are named as in the project's network."""

    def __init__(self, network: ASGNet) -> None:
        """A copy of ``network``'s weights; its encoder is the unfolded one, as `build_encoder` gives it, in float32."""
        super().__init__()
        own = copy.deepcopy(network)
        self.config = own.config
        self.encoder, self.vit, self.head, self.chain = own.encoder, own.vit, own.head, own.chain

    def forward(self, x: Tensor, s_x: Tensor, s_y: Tensor, y: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """As `ASGNet.forward`: logits (B, 2, H, W), or with y (B, H, W) the main and the auxiliary loss."""
        query = torch.cat([self.reduce(image[None]) for image in x])  # (B, width, h, w)
        pools = [self.prototypes(images, masks) for images, masks in zip(s_x, s_y, strict=True)]
        guide, probability = allocate_all(query, pools)
        logits, auxiliary = enrich(self.head.context, self.head.classifier, torch.cat([query, guide, probability], 1))
        return resize(logits, tuple(x.shape[2:])) if y is None else losses(logits, auxiliary, y)

    @torch.no_grad()
    def prototypes(self, images: Tensor, masks: Tensor) -> Tensor:
        """The supports of one sample, (K, 3, H, W) and (K, H, W) of 0, 1 and 255 -> their prototypes (M, width)."""
        config, found = self.config, []
        iterations = config.iterations_train if self.training else config.iterations_eval
        for image, mask in zip(images, masks == 1, strict=True):
            features = self.reduce(image[None])[0]  # (width, h, w)
            grid = tuple(features.shape[1:])
            area = config.area_per_seed * grid[0] * grid[1] / PUBLISHED_CELLS
            seeds = place_seeds(mask, grid, config.max_seeds, area)
            soft = resize(mask[None, None].float(), grid)[0, 0]
            found.append(cluster(features, soft, seeds, iterations, config.spatial_weight))
        return torch.cat(found)

    def reduce(self, image: Tensor) -> Tensor:
        """One image (1, 3, H, W) -> (1, width, h, w)."""
        with torch.set_grad_enabled(self.chain is not None and torch.is_grad_enabled()):
            features = self.encode(image)
        if self.vit is not None:
            with torch.no_grad():
                tokens = token_map(self.vit(image), self.config.vit)
            features = torch.cat([features, resize(self.head.project_vit(tokens), tuple(features.shape[2:]))], 1)
        if self.config.normalise_sources:
            features = normalise_sources(features, self.head.parts)
        return self.head.down_conv(features)

    def encode(self, image: Tensor) -> Tensor:
        """The backbone's features; with a residual chain x_{l+1} = layer_l(x_l) + P_l(x_l)."""
        if self.chain is None:
            return self.encoder(image).cnn
        x, outputs = self.encoder.prepare(image), []
        for layer, projection in zip(self.encoder.layers, self.chain.projections.values(), strict=True):
            output = layer(x)
            *taps, last = output if isinstance(output, tuple) else (output,)
            x = last + projection(x)
            outputs.append((*taps, x) if isinstance(output, tuple) else x)
        return self.encoder.collect(outputs)


def normalise_sources(features: Tensor, channels: list[int]) -> Tensor:
    """Each source's channels of every cell brought to mean 0 and variance 1."""
    parts = []
    for part in features.split(channels, 1):
        parts.append(F.layer_norm(part.permute(0, 2, 3, 1), part.shape[1:2]).permute(0, 3, 1, 2))
    return torch.cat(parts, 1)
