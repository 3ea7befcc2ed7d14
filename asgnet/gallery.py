"""What testing can compute once per image instead of once per episode.

A thousand episodes over a few hundred images meet every image many times. With fixed weights, an image's reduced
features and the prototypes of (image, class) never change, so they are kept and an episode only gathers.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from asgnet.data.episodes import Pair, supports_of
from asgnet.device import autocast
from asgnet.distributed import deal_tensors
from asgnet.model import ASGNet
from asgnet.source import Source

MOST_IMAGES = 800  # whose features are kept at a time: 3 GB of reduced ones, 256 x 60 x 60 in float32
# reduced features (n, C, h, w), masks (n, S, S) bool and pairs -> prototypes (n, N, C), valid (n, N), fallback (n,)
Clusterer = Callable[[Tensor, Tensor, list[Pair]], tuple[Tensor, Tensor, Tensor]]


@dataclass
class Maps:
    """Reduced features of M images."""

    reduced: Tensor  # (M, C, h, w)
    layer1: Tensor | None  # (M, C1, h4, w4), for the ASPP context module
    row: dict[str, int]

    def of(self, ids: Iterable[str]) -> tuple[Tensor, Tensor | None]:
        """Reduced features (B, C, h, w) and layer1 (B, C1, h4, w4) of images."""
        rows = [self.row[i] for i in ids]
        return self.reduced[rows], None if self.layer1 is None else self.layer1[rows]


@dataclass
class Prototypes:
    """The prototypes of P (image, class) pairs."""

    prototypes: Tensor  # (P, N, C)
    valid: Tensor  # (P, N) bool
    fallback: Tensor  # (P,) bool: the mask vanished on the feature grid
    row: dict[Pair, int]

    def of(self, supports: list[list[str]], classes: Iterable[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Those of B episodes of K supports: prototypes (B, K, N, C), valid (B, K, N), fallbacks (B,) int."""
        index = torch.tensor([[self.row[i, int(c)] for i in ids] for ids, c in zip(supports, classes, strict=True)])
        index = index.to(self.prototypes.device)  # (B, K)
        return self.prototypes[index], self.valid[index], self.fallback[index].sum(1)


@torch.no_grad()
def build_maps(
    model: ASGNet, source: Source, episodes: pd.DataFrame, shots: int, batch: int = 16, across: bool = False
) -> Maps:
    """Reduce every image that ``episodes`` use, ``across`` processes or in this one. The model is in eval mode."""
    ids = sorted({*episodes["query"], *(i for row in supports_of(episodes, shots) for i in row)})

    def reduce(chunk: list[str]) -> tuple[Tensor, ...]:
        with autocast(source.device, source.dtype):
            features = source.features(model, chunk, [0] * len(chunk))
            reduced = model.head.reduce(features)
        if model.config.decoder == "aspp" and features.layer1 is not None:
            return reduced, features.layer1
        return (reduced,)

    reduced, *layer1 = zip(*deal_tensors(chunks(ids, batch), reduce, source.device, across), strict=True)
    return Maps(torch.cat(reduced), torch.cat(layer1[0]) if layer1 else None, {i: r for r, i in enumerate(ids)})


@torch.no_grad()
def build_prototypes(
    model: ASGNet,
    source: Source,
    maps: Maps,
    pairs: list[Pair],
    clusterer: Clusterer | None = None,
    batch: int = 16,
    across: bool = False,
) -> Prototypes:
    """Cluster every (support, class) pair: with the network's own SGC, or with ``clusterer``. The model evaluates."""
    cluster = clusterer or (lambda reduced, masks, _: model.head.prototypes(reduced, masks))

    def find(chunk: list[Pair]) -> tuple[Tensor, Tensor, Tensor]:
        names, classes = [i for i, _ in chunk], [c for _, c in chunk]
        masks = source.masks(names, [0] * len(chunk), classes) == 1  # (n, S, S)
        return cluster(maps.of(names)[0], masks, chunk)

    found = deal_tensors(chunks(pairs, batch), find, source.device, across)
    prototypes, valid, fallback = zip(*found, strict=True)
    most = max(v.shape[1] for v in valid)  # a clusterer may give every batch its own N
    return Prototypes(
        torch.cat([torch.nn.functional.pad(p, (0, 0, 0, most - p.shape[1])) for p in prototypes]),
        torch.cat([torch.nn.functional.pad(v, (0, most - v.shape[1])) for v in valid]),
        torch.cat(fallback),
        {pair: p for p, pair in enumerate(pairs)},
    )


def in_parts(episodes: pd.DataFrame, shots: int, most: int = MOST_IMAGES) -> Iterator[pd.DataFrame]:
    """``episodes`` in runs that use at most ``most`` images each, for what testing keeps of an image is large."""
    first, seen = 0, set[str]()
    for row, (query, supports) in enumerate(zip(episodes["query"], supports_of(episodes, shots), strict=True)):
        ids = {query, *supports}
        if row > first and len(seen | ids) > most:
            yield episodes.iloc[first:row]
            first, seen = row, set()
        seen |= ids
    yield episodes.iloc[first:]


def chunks(items: list, size: int) -> list[list]:
    """Lists of ``size`` items, the last maybe shorter."""
    return [items[first : first + size] for first in range(0, len(items), size)]
