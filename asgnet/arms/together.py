"""Two decoders whose margins are added: ASGNet's own, which knows what base classes look like, and that of similarities
alone (`asgnet.arms.similarity`), which cannot learn a class by heart. Each errs in its own way; each learns by its own
loss and has its own threshold from the supports; several supports may also draw the last layer of both anew
(`asgnet.calibration`).
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from asgnet.arms.similarity import Head as Similarity
from asgnet.backbones.encoder import Features
from asgnet.head import Decoded, Voice, heard
from asgnet.head import Head as Published
from asgnet.sections import ModelConfig

FLATTERED = 0.5  # what resembles itself: on withheld classes, 0.3 to 0.6 do as well


class Head(Published):
    """ASGNet's head with one of similarities, half as wide, beside it.

    "Reduced" are ASGNet's features (width), then the sources of unit length (D). Of the M prototypes of a support the
    first N_max are ASGNet's, 0 in the last D + 1 channels, the others those of `Similarity`, 0 in the first ones."""

    def __init__(
        self,
        config: ModelConfig,
        sources: tuple[int, ...],
        layer1_channels: int | None = None,
        vit_channels: int | None = None,
    ) -> None:
        super().__init__(config, sources, layer1_channels, vit_channels)
        half = replace(config, width=max(config.width // 2, 1), bounded=0.0)
        self.similarity = Similarity(half, sources, layer1_channels, vit_channels)

    def acquaint(self, classes: Iterable[tuple[Tensor, Tensor]]) -> None:
        """As `asgnet.head.Head.acquaint`, of the decoder of similarities."""
        self.similarity.acquaint((reduced[:, self.config.width :], masks) for reduced, masks in classes)

    def reduce(self, features: Features) -> Tensor:
        """Features of N images -> (N, width + D, h, w) float32."""
        return torch.cat([super().reduce(features).float(), self.similarity.units(features)], 1)

    @torch.no_grad()
    def prototypes(
        self, reduced: Tensor, masks: Tensor, seeds: Tensor | None = None, iterations: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `asgnet.head.Head.prototypes`, (N, M, width + D + 1); given seeds are ASGNet's."""
        width = self.config.width
        own, there, fallback = super().prototypes(reduced[:, :width], masks, seeds, iterations)
        others, found, _ = self.similarity.prototypes(reduced[:, width:], masks, iterations=iterations)
        padded = F.pad(own, (0, others.shape[2])), F.pad(others, (width, 0))
        return torch.cat(padded, 1), torch.cat([there, found], 1), fallback

    def products(self, prototypes: Tensor) -> Tensor:
        """As `asgnet.head.Head.products`, of the classifier's cells."""
        return self.similarity.products(prototypes[:, :, self.config.max_seeds :, self.config.width :])

    def voices(self, query: Tensor, prototypes: Tensor, valid: Tensor, products: Tensor | None = None) -> list[Voice]:
        """As `asgnet.head.Head.voices`: ASGNet's, and that of similarities."""
        width, first = self.config.width, self.config.max_seeds
        each = first + sum(self.similarity.rows)  # M
        prototypes, valid = prototypes.unflatten(1, (-1, each)), valid.unflatten(1, (-1, each))  # (B, K, M, ...)
        own, there = prototypes[:, :, :first, :width].flatten(1, 2), valid[:, :, :first].flatten(1, 2)
        others, found = prototypes[:, :, first:, width:].flatten(1, 2), valid[:, :, first:].flatten(1, 2)
        units = query[:, width:]
        decode = partial(self.similarity.decode, score=self.similarity.score(units, others, products))
        return [
            Voice(super().decode, query[:, :width], own, there, self.config.bounded),
            Voice(decode, units, others, found, self.similarity.config.bounded, FLATTERED),
        ]

    def decode(self, query: Tensor, prototypes: Tensor, valid: Tensor, layer1: Tensor | None = None) -> Decoded:
        """As `asgnet.head.Head.decode`: the sum of the decoders' logits, and what else both say."""
        decoded = [voice.decode(layer1) for voice in self.voices(query, prototypes, valid)]
        auxiliary = [output for each in decoded for output in each.auxiliary]
        return Decoded(heard(decoded), auxiliary, torch.cat([each.features for each in decoded], 1))
