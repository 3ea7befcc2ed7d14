"""Where to cut a prediction, and when to read it anew: from an episode's supports, whose masks are known. Each is
predicted from the other ones (a single one from itself).

*Threshold.* A class that stands in training images without being asked for is taught as background (departure 8), which
presses the margins of its objects down: a trained network still ranks their cells above the rest, but all of them may
lie below 0. How far down shows on the supports: the threshold is lowered until it finds most of their object. Where it
finds as much at 0, it stays there. A single support is no fair witness to a voice that compares the query with it: it
resembles itself (`asgnet.head.Voice.flattered`).

*Last layer.* What a decoder has learnt may mislead it in one episode and not in the next, which again shows on the
supports. Where it misses them (by IoU), its features still tell the object from the rest, only not in the direction
that the last layer reads: one more is fitted to the supports in closed form (ridge regression: Bertinetto et al., ICLR
2019) and added. That takes several supports: a single one would be predicted from itself.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from asgnet.decoders import resize, sides
from asgnet.head import Head, margin

RIDGE = 0.1  # of the last layer, in units of the mean variance of a feature
WELL = 0.8  # IoU of the supports from which on a head needs no other last layer
TOGETHER = 16  # supports predicted at a time: as much memory as the queries of a batch take


class Cut(NamedTuple):
    """How what the voices of a head say becomes the masks of B queries: the object is where the sum of their margins,
    and of what one more layer reads in their features, lies above ``at``."""

    at: Tensor  # (B,)
    layer: Tensor | None = None  # (B, C + 1), see `asgnet.head.heard`; all 0 where none is needed


@torch.no_grad()
def calibrate(
    head: Head, supports: Tensor, masks: Tensor, prototypes: Tensor, valid: Tensor, layer1: Tensor | None = None
) -> Cut | None:
    """The `Cut` of each episode's queries, None where the head cuts at 0 (``model.support_recall`` is 0).

    supports (B, K, C, h, w), reduced; masks (B, K, H, W), where 1 is the object and anything else is not; their
    prototypes (B, K, N, C) and valid (B, K, N); layer1 (B, K, C1, h4, w4), for ASPP.

    The threshold is at most 0: the sum over voices of the mean over supports of the margin above which
    ``support_recall`` of their object lies, 0 where no support shows the object on the grid; for a single support, less
    what flatters each voice. A last layer that is fitted to the supports finds as much of them.
    """
    if not head.config.support_recall:
        return None
    (episodes, shots), grid = masks.shape[:2], sides(supports)
    others = torch.tensor([[k for k in range(shots) if k != shot] or [shot] for shot in range(shots)])  # (K, K - 1)
    products, told, shown = head.products(prototypes) if shots > 1 else None, [], []
    for part in torch.arange(shots).split(max(TOGETHER // episodes, 1)):
        pool, there = (x[:, others[part]].flatten(2, 3).flatten(0, 1) for x in (prototypes, valid))
        fine = None if layer1 is None else layer1[:, part].flatten(0, 1)
        known = None if products is None else among(products, others[part])
        voices = head.voices(supports[:, part].flatten(0, 1), pool, there, known)
        decoded = [voice.decode(fine) for voice in voices]
        each = torch.stack([margin(one.logits, grid).flatten(1) for one in decoded], 1)  # (B k, V, P)
        told.append(each.unflatten(0, (episodes, -1)))
        if shots > 1:
            features = resize(torch.cat([one.features for one in decoded], 1).float(), grid)  # (B k, C, h, w)
            shown.append(features.flatten(2).unflatten(0, (episodes, -1)))
    margins = torch.cat(told, 1)  # (B, K, V, P)
    inside = nearest(masks.flatten(0, 1), grid).unflatten(0, (-1, shots)).flatten(2) == 1  # (B, K, P)
    at = level(margins, inside, head.config.support_recall).clamp(max=0)  # (B, V)
    if shots == 1:
        return Cut((at - at.new_tensor([voice.flattered for voice in voices])).sum(1))
    own = margins.sum(2) - at.sum(1)[:, None, None]  # (B, K, P)
    with torch.autocast(own.device.type, enabled=False):  # sums over thousands of cells
        layer = refitted(torch.cat(shown, 1), inside, head.config.support_recall, own.flatten(1).std(1))
    return Cut(at.sum(1), layer * ((found(own, inside) < WELL) & inside.flatten(1).any(1))[:, None])


def among(products: Tensor, chosen: Tensor) -> Tensor:
    """`Head.products` (B, K, n, K, n) for each of k choices among the K supports, (k, J): (B k, J n, J n)."""
    picked = products[:, chosen[:, :, None], :, chosen[:, None, :]]  # (k, J, J, B, n, n)
    return picked.permute(3, 0, 1, 4, 2, 5).flatten(4).flatten(2, 3).flatten(0, 1)


def level(margins: Tensor, inside: Tensor, recall: float) -> Tensor:
    """margins (B, K, V, P) and where the object is, (B, K, P) -> the margin (B, V) above which ``recall`` of it lies,
    mean over the supports that show it; 0 where none does."""
    within = margins.masked_fill(~inside[:, :, None], torch.nan)
    return within.nanquantile(1 - recall, dim=3).nanmean(1).nan_to_num(0)


def refitted(features: Tensor, inside: Tensor, recall: float, deviation: Tensor) -> Tensor:
    """features (B, K, C, P) of the cells of K supports and where the object is, (B, K, P) -> a layer (B, C + 1), the
    last number a bias, that lies above 0 for ``recall`` of the object, and all over the supports has the standard
    ``deviation`` (B,). Object and background weigh the same, and so do all features."""
    rows, object_ = features.movedim(2, 3).flatten(1, 2), inside.flatten(1)  # (B, n, C), (B, n)
    shares = torch.stack([object_, ~object_], 1).to(rows.dtype)
    shares = shares / shares.sum(2, keepdim=True).clamp(min=1)  # (B, 2, n)
    weights, contrast = shares.mean(1), shares[:, 0] - shares[:, 1]  # (B, n)
    scale = rows.std(1, keepdim=True).clamp(min=1e-3)  # (B, 1, C)
    rows = rows / scale
    centred = rows - weights[:, None] @ rows
    spread = centred.mT @ (weights[..., None] * centred)  # (B, C, C)
    spread.diagonal(dim1=1, dim2=2).add_(RIDGE * spread.diagonal(dim1=1, dim2=2).mean(1, keepdim=True) + 1e-6)
    normal = torch.cholesky_solve(centred.mT @ contrast[..., None], torch.linalg.cholesky(spread))  # (B, C, 1)
    scores = (rows @ normal)[..., 0]  # (B, n)
    at = scores.masked_fill(~object_, torch.nan).nanquantile(1 - recall, dim=1).nan_to_num(0)  # (B,)
    gain = deviation / scores.std(1).clamp(min=1e-6)
    return gain[:, None] * torch.cat([normal[..., 0] / scale[:, 0], -at[:, None]], 1)


def found(margins: Tensor, inside: Tensor) -> Tensor:
    """margins (B, K, P), above 0 where an object is predicted -> IoU (B,) with all that are there."""
    predicted = margins > 0
    return (predicted & inside).sum((1, 2)) / (predicted | inside).sum((1, 2)).clamp(min=1)


def nearest(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Masks (B, H, W) at the cells of a grid with the same corners: (B, h, w)."""
    rows, cols = (
        torch.linspace(0, side - 1, cells, device=masks.device).round().long()
        for side, cells in zip(sides(masks), grid, strict=True)
    )
    return masks[:, rows[:, None], cols]
