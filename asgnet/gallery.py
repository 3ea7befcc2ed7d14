"""What testing can compute once per image instead of once per episode.

A thousand episodes over a few hundred images meet every image many times. With fixed weights, an image's reduced
features and the prototypes of (image, class) never change, so the gallery holds them and an episode only gathers.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from asgnet.device import autocast
from asgnet.model import ASGNet
from asgnet.source import Source


def supports_of(episodes: pd.DataFrame, shots: int) -> list[list[str]]:
    """The first ``shots`` support ids of every episode."""
    return [row.split(";")[:shots] for row in episodes["supports"]]


@dataclass
class Gallery:
    """Reduced features of M images and the prototypes of P (image, class) pairs."""

    reduced: Tensor  # (M, C, h, w)
    layer1: Tensor | None  # (M, C1, h4, w4), for the ASPP context module
    row: dict[str, int]
    prototypes: Tensor  # (P, N, C)
    valid: Tensor  # (P, N) bool
    fallback: Tensor  # (P,) bool: the mask vanished on the feature grid
    pair: dict[tuple[str, int], int]

    def queries(self, ids: Iterable[str]) -> tuple[Tensor, Tensor | None]:
        """Reduced features (B, C, h, w) and layer1 (B, C1, h4, w4) of query images."""
        rows = [self.row[i] for i in ids]
        return self.reduced[rows], None if self.layer1 is None else self.layer1[rows]

    def pool(self, supports: list[list[str]], classes: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """The pooled prototypes of B episodes of K supports: (B, K N, C), valid (B, K N), fallbacks (B,)."""
        index = torch.tensor([[self.pair[i, c] for i in ids] for ids, c in zip(supports, classes, strict=True)])
        index = index.to(self.prototypes.device)  # (B, K)
        return (
            self.prototypes[index].flatten(1, 2),
            self.valid[index].flatten(1, 2),
            self.fallback[index].sum(1),
        )


@torch.no_grad()
def build_gallery(model: ASGNet, source: Source, episodes: pd.DataFrame, shots: int, batch: int = 16) -> Gallery:
    """Reduce every image that ``episodes`` use, and cluster every (support, class) pair. The model is in eval mode."""
    supports = supports_of(episodes, shots)
    ids = sorted({*episodes["query"], *(i for row in supports for i in row)})
    row = {image_id: r for r, image_id in enumerate(ids)}
    reduced, layer1 = [], []
    for chunk in _chunks(ids, batch):
        with autocast(source.device):
            features = source.features(model, chunk, [0] * len(chunk))
            reduced.append(model.head.reduce(features))
        if model.config.decoder == "aspp":
            layer1.append(features.layer1)
    maps = torch.cat(reduced)
    pairs = sorted({(i, int(c)) for row_, c in zip(supports, episodes["class"], strict=True) for i in row_})
    clustered = []
    for chunk in _chunks(pairs, batch):
        names, classes = [i for i, _ in chunk], [c for _, c in chunk]
        masks = source.masks(names, [0] * len(chunk), classes) == 1
        at = torch.tensor([row[i] for i in names], device=maps.device)
        clustered.append(model.head.prototypes(maps[at], masks, None, model.config.iterations_eval))
    prototypes, valid, fallback = (torch.cat(parts) for parts in zip(*clustered, strict=True))
    return Gallery(
        maps, torch.cat(layer1) if layer1 else None, row, prototypes, valid, fallback,
        {pair: p for p, pair in enumerate(pairs)},
    )  # fmt: skip


def _chunks(items: list, size: int) -> Iterable[list]:
    return (items[first : first + size] for first in range(0, len(items), size))
