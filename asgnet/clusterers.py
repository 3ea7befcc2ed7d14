"""Ways to turn one support mask into prototypes, all else equal: the same cells, features, seed cells and count.

SGC as published beside its neighbours: soft k-means, Lloyd's k-means, the EM mixture of PMMs, SLIC within the mask, the
true parts as an upper bound and the masked average as a lower one. For trained networks at test time: no gradient.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from skimage.segmentation import slic
from sklearn.cluster import KMeans
from torch import Tensor

from asgnet.superpixel import association, augmented_cells, masked_average, sgc

KAPPA = 20.0  # concentration of the mixture's directions, as in PMMs


class Clusters(NamedTuple):
    """What a clusterer makes of B supports. N is the number of seed cell slots, for ``parts`` the most parts that a
    support of the batch shows, for ``average`` 1."""

    prototypes: Tensor  # (B, N, C) float32, zero where not valid
    valid: Tensor  # (B, N) bool
    label: Tensor  # (B, h, w) int64, the prototype each cell belongs to, -1 outside the clustered cells


class Supports(NamedTuple):
    """What is clustered, as `cluster` takes it."""

    features: Tensor  # (B, C, h, w) float32
    cells: Tensor  # (B, h, w) float32 in [0, 1]
    seeds: Tensor  # (B, N, 2) int64 (row, col), negative where unused
    iterations: int
    spatial_weight: float  # r^2 in squared cells
    parts: Tensor | None  # (B, h, w) int, 0 where there is no part

    @property
    def inside(self) -> Tensor:
        """(B, h, w) bool, the cells that can be clustered."""
        return self.cells == 1

    @property
    def used(self) -> Tensor:
        """(B, N) bool, the slots that get a cluster: those with a seed cell, where there are cells to cluster."""
        return (self.seeds >= 0).all(2) & self.inside.flatten(1).any(1, keepdim=True)

    @property
    def clustered(self) -> Tensor:
        """(B, h, w) bool, the cells to cluster: those inside, of supports with a seed cell."""
        return self.inside & self.used.any(1)[:, None, None]

    @property
    def flat(self) -> Tensor:
        """(B, P, C), the features cell by cell."""
        return self.features.flatten(2).transpose(1, 2)


def cluster(
    name: str,
    features: Tensor,
    cells: Tensor,
    seeds: Tensor,
    iterations: int,
    spatial_weight: float,
    parts: Tensor | None = None,
) -> Clusters:
    """Prototypes of B supports by the clusterer ``name``, one of `CLUSTERERS`.

    features (B, C, h, w); cells (B, h, w) in [0, 1] and seeds (B, N, 2) as `Head.place` gives them: the cells that are
    exactly 1 are clustered, into as many clusters as the support has seed cells (``parts``: into the true parts that
    these cells show; ``kmeans`` and ``slic``: never into more clusters than cells). iterations >= 1 of the method;
    spatial_weight r^2 in squared cells, in the distance of all but ``em``, ``parts`` and ``average``; parts (B, h, w)
    int, the true part of each cell, 0 for none, for ``parts`` only.

    A support without seed cells, or without a cell that is exactly 1, has one prototype whatever the clusterer, that of
    `sgc`: the average weighted by the soft mask, which then labels all cells above 0. An empty mask has none.
    Raises ValueError for an unknown name, iterations below 1, and ``parts`` without a part map.
    """
    if name not in CLUSTERERS:
        raise ValueError(f"clusterer '{name}': expected one of {', '.join(CLUSTERERS)}")
    if iterations < 1:
        raise ValueError(f"iterations = {iterations}: expected 1 or more")
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        supports = Supports(features.float(), cells.float(), seeds, iterations, spatial_weight, parts)
        return _or_average(supports, CLUSTERERS[name](supports))


def _or_average(supports: Supports, found: Clusters) -> Clusters:
    """Gives supports of which no cell was clustered, if they have a cell above 0, the masked average of `sgc`."""
    average = masked_average(supports.flat, supports.cells.flatten(1))  # (B, C)
    alone = (found.label < 0).flatten(1).all(1) & (supports.cells > 0).flatten(1).any(1)  # (B,)
    first = alone[:, None] & (torch.arange(found.valid.shape[1], device=alone.device) == 0)  # (B, N)
    return Clusters(
        torch.where(first[..., None], average[:, None], found.prototypes),
        found.valid | first,
        torch.where(alone[:, None, None], (supports.cells > 0).long() - 1, found.label),
    )


def _guided(supports: Supports, normalise: str) -> Clusters:
    """SGC and its soft k-means. A prototype may be no cell's closest: it is still one. Association weights beyond
    D = 103 are 0 in float32, so a cell that is further from every centre than that falls to the first."""
    arguments = (supports.features, supports.cells, supports.seeds, supports.iterations, supports.spatial_weight)
    prototypes, valid = sgc(*arguments, normalise=normalise)
    close = association(*arguments, normalise=normalise)  # (B, N, h, w)
    return Clusters(prototypes, valid, torch.where(supports.clustered, close.argmax(1), -1))


def _em(supports: Supports) -> Clusters:
    """The mixture of PMMs (Yang et al., "Prototype Mixture Models for Few-Shot Semantic Segmentation", ECCV 2020).

    On directions alone: E step, exp(kappa cos) normalised over the centres; M step, the mean of the cells' directions
    weighted so, scaled to length 1. The prototype is the features' mean under the weights of the last E step. PMMs
    start at random directions and model the background too; here the start is the seed cells, as for the others.
    """
    directions = F.normalize(supports.flat, dim=2)  # (B, P, C)
    centres, used, inside = _start(supports, directions), supports.used[..., None], supports.inside.flatten(1)[:, None]
    for _ in range(supports.iterations):
        similarity = centres @ directions.transpose(1, 2)  # (B, N, P)
        share = (KAPPA * similarity).masked_fill(~used, torch.finfo(torch.float32).min).softmax(1) * inside
        weight = share / share.sum(2, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)  # (B, N, P)
        centres = F.normalize(weight @ directions, dim=2)  # (B, N, C)
    similarity = (centres @ directions.transpose(1, 2)).masked_fill(~used, -torch.inf)
    label = torch.where(supports.clustered, similarity.argmax(1).view_as(supports.clustered), -1)
    return Clusters(weight @ supports.flat * used, supports.used, label)


def _start(supports: Supports, points: Tensor) -> Tensor:
    """(B, P, D) -> (B, N, D), the points at the seed cells; for unused ones that of some cell."""
    at = (supports.seeds[..., 0] * supports.cells.shape[2] + supports.seeds[..., 1]).clamp(min=0)  # (B, N)
    return points.gather(1, at[..., None].expand(-1, -1, points.shape[2]))


def _kmeans(supports: Supports) -> Clusters:
    """Lloyd's k-means (scikit-learn) with the distance of SGC. A cluster that loses all its cells restarts at the cell
    furthest from its centre, so none is lost."""
    points = augmented_cells(supports.features, supports.spatial_weight)  # (B, P, C + 2)
    start = _start(supports, points)

    def split(support: int, inside: Tensor, slots: Tensor) -> np.ndarray:
        init = start[support, slots].cpu().numpy()
        lloyd = KMeans(len(slots), init=init, n_init=1, max_iter=supports.iterations, tol=0)
        return lloyd.fit_predict(points[support, inside.flatten()].cpu().numpy())

    return _split_each(supports, split)


def _slic(supports: Supports) -> Clusters:
    """SLIC within the mask (scikit-image), not started at the seed cells but by k-means on the cells' places.

    The channels are not scaled one by one: scikit-image divides all of them by one range, max - min over the cells,
    which keeps the geometry of the features. Its squared distance is |f|^2 / (compactness range)^2 + |xy|^2 / S^2, S
    the distance between starting centres, so compactness = S / (r range) makes it that of SGC up to a factor. The S
    put in here is the paper's interval, sqrt(cells / clusters); scikit-image measures its own, of the same order.

    Segments need not be connected, as SGC's are not. The start is a fixed random draw, so SLIC can miss even clear
    clusters; it may leave segments empty, and a cell out of reach of all centres (a speck far from the rest of the
    object, from about 7 clusters on) without a segment.
    """
    images = supports.features.movedim(1, -1).cpu().numpy()  # (B, h, w, C)

    def split(support: int, inside: Tensor, slots: Tensor) -> np.ndarray:
        image, mask = images[support], inside.cpu().numpy()
        interval, spread = (mask.sum() / len(slots)) ** 0.5, max(np.ptp(image[mask]), np.finfo(np.float32).eps)
        segments = slic(
            image,
            n_segments=len(slots),
            compactness=interval / (supports.spatial_weight**0.5 * spread),
            max_num_iter=supports.iterations,
            convert2lab=False,
            enforce_connectivity=False,
            start_label=0,
            mask=mask,
            channel_axis=-1,
        )
        return segments[mask]

    return _split_each(supports, split)


def _split_each(supports: Supports, split: Callable[[int, Tensor, Tensor], np.ndarray]) -> Clusters:
    """Hard clusters by a library that takes one support at a time: split(support, its cells to cluster (h, w), its
    n > 1 slots (n,)) -> (cells,) int, which of the slots each cell gets, -1 for none."""
    label = torch.full_like(supports.cells, -1, dtype=torch.int64)
    for support in supports.used.any(1).nonzero()[:, 0].tolist():
        inside = supports.inside[support]  # (h, w)
        slots = supports.used[support].nonzero()[: inside.sum(), 0]  # (n,)
        found = split(support, inside, slots) if len(slots) > 1 else np.zeros(int(inside.sum()))
        segment = torch.as_tensor(found, dtype=torch.int64, device=slots.device)
        label[support, inside] = torch.where(segment < 0, -1, slots[segment])
    return _means(supports, label, supports.seeds.shape[1])


def _parts(supports: Supports) -> Clusters:
    """The true parts, numbered anew in each support by their ids. Cells without a part belong to none."""
    if supports.parts is None:
        raise ValueError("clusterer 'parts': expected the true part map, parts (B, h, w); got None")
    part = torch.where(supports.clustered, supports.parts.long(), 0)  # (B, h, w)
    shown = F.one_hot(part.flatten(1)).amax(1)  # (B, 1 + parts), 1 where the support shows the part
    number = shown[:, 1:].cumsum(1)  # (B, parts), from 1
    number = F.pad(number, (1, 0)).gather(1, part.flatten(1)).view_as(part)  # (B, h, w), 0 where there is no part
    return _means(supports, number - 1, max(int(number.max()), 1))


def _means(supports: Supports, label: Tensor, count: int) -> Clusters:
    """Prototypes of hard clusters: each label's mean feature. label (B, h, w) of -1 to count - 1."""
    members = F.one_hot(label.flatten(1) + 1, count + 1)[..., 1:].float()  # (B, P, N)
    size = members.sum(1)  # (B, N)
    sums = members.transpose(1, 2) @ supports.flat  # (B, N, C); a product, as scattered sums vary from run to run
    return Clusters(sums / size.clamp(min=1)[..., None], size > 0, label)


def _average(supports: Supports) -> Clusters:
    """No clusters: the one prototype is the masked average."""
    return _means(supports, torch.full_like(supports.cells, -1, dtype=torch.int64), 1)


CLUSTERERS: dict[str, Callable[[Supports], Clusters]] = {
    "sgc": partial(_guided, normalise="cells"),
    "soft_kmeans": partial(_guided, normalise="centres"),
    "kmeans": _kmeans,
    "em": _em,
    "slic": _slic,
    "parts": _parts,
    "average": _average,
}
