"""Where to cut a prediction, and how far to trust each voice of a head with several: read off an episode's supports,
whose masks are known. Each is predicted from the other ones (a single one from itself).

*Threshold.* A class that stands in training images without being asked for is taught as background (departure 8), which
presses the margins of its objects down: a trained network still ranks their cells above the rest, but all of them may
lie below 0. How far down shows on the supports: the threshold is lowered until it finds most of their object. Where it
finds as much at 0, it stays there. A single support is no fair witness to a voice that compares the query with it: it
resembles itself (`asgnet.head.Voice.flattered`).

*Weights.* What a voice has learnt may mislead it in one episode and not in the next, which again shows on the supports:
where the head fails on them (by IoU), the weights that part object and background best there (stacked generalisation;
Wolpert 1992) replace its own if they find them better. That takes several supports: a single one would be predicted
from itself, and the voice that fits it best would win.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from asgnet.decoders import sides
from asgnet.head import Head, margin

RIDGE = 0.03  # of the weights, in units of each voice's variance
WELL = 0.6  # IoU of the supports from which on a head keeps its own weights
TOGETHER = 16  # supports predicted at a time: as much memory as the queries of a batch take


class Cut(NamedTuple):
    """How the margins of V voices become the masks of B queries: the object is where their weighted sum lies above
    ``at``."""

    weights: Tensor  # (B, V)
    at: Tensor  # (B,)


@torch.no_grad()
def calibrate(
    head: Head, supports: Tensor, masks: Tensor, prototypes: Tensor, valid: Tensor, layer1: Tensor | None = None
) -> Cut | None:
    """The `Cut` of each episode's queries, None where the head cuts at 0 (``model.support_recall`` is 0).

    supports (B, K, C, h, w), reduced; masks (B, K, H, W), where 1 is the object and anything else is not; their
    prototypes (B, K, N, C) and valid (B, K, N); layer1 (B, K, C1, h4, w4), for ASPP.

    With the head's own weights the threshold is at most 0: the weighted sum over voices of the mean over supports of
    the margin above which ``support_recall`` of their object lies, 0 where no support shows the object on the grid; for
    a single support, less what flatters each voice.
    Weights that are read off the supports come with the threshold that finds as much.
    """
    if not head.config.support_recall:
        return None
    (episodes, shots), grid = masks.shape[:2], sides(supports)
    others = torch.tensor([[k for k in range(shots) if k != shot] or [shot] for shot in range(shots)])  # (K, K - 1)
    products, told = head.products(prototypes) if shots > 1 else None, []
    for part in torch.arange(shots).split(max(TOGETHER // episodes, 1)):
        pool, there = (x[:, others[part]].flatten(2, 3).flatten(0, 1) for x in (prototypes, valid))
        fine = None if layer1 is None else layer1[:, part].flatten(0, 1)
        known = None if products is None else among(products, others[part])
        voices = head.voices(supports[:, part].flatten(0, 1), pool, there, known)
        each = torch.stack([margin(voice.decode(fine)[0], grid).flatten(1) for voice in voices], 1)  # (B k, V, P)
        told.append(each.unflatten(0, (episodes, -1)))
    margins = torch.cat(told, 1)  # (B, K, V, P)
    inside = nearest(masks.flatten(0, 1), grid).unflatten(0, (-1, shots)).flatten(2) == 1  # (B, K, P)
    weights = margins.new_tensor([voice.weight for voice in voices]).expand(len(margins), -1)  # (B, V)
    at = level(margins, inside, head.config.support_recall).clamp(max=0)  # (B, V)
    if shots == 1:
        at = at - at.new_tensor([voice.flattered for voice in voices])
    own = Cut(weights, (weights * at).sum(1))
    if shots == 1 or len(voices) == 1:
        return own
    weights = parting(margins.movedim(2, 1).flatten(2), inside.flatten(1))
    summed = torch.einsum("bv,bkvp->bkp", weights, margins)[:, :, None]  # (B, K, 1, P)
    read = Cut(weights, level(summed, inside, head.config.support_recall)[:, 0])
    with_own = found(own, margins, inside)  # (B,)
    better = (with_own < WELL) & (found(read, margins, inside) > with_own)
    return Cut(torch.where(better[:, None], read.weights, own.weights), torch.where(better, read.at, own.at))


def among(products: Tensor, chosen: Tensor) -> Tensor:
    """`Head.products` (B, K, n, K, n) for each of k choices among the K supports, (k, J): (B k, J n, J n)."""
    picked = products[:, chosen[:, :, None], :, chosen[:, None, :]]  # (k, J, J, B, n, n)
    return picked.permute(3, 0, 1, 4, 2, 5).flatten(4).flatten(2, 3).flatten(0, 1)


def level(margins: Tensor, inside: Tensor, recall: float) -> Tensor:
    """margins (B, K, V, P) and where the object is, (B, K, P) -> the margin (B, V) above which ``recall`` of it lies,
    mean over the supports that show it; 0 where none does."""
    within = margins.masked_fill(~inside[:, :, None], torch.nan)
    return within.nanquantile(1 - recall, dim=3).nanmean(1).nan_to_num(0)


def parting(margins: Tensor, inside: Tensor) -> Tensor:
    """margins (B, V, n) and where the object is, (B, n) -> weights (B, V) whose sum of margins parts it best from the
    rest: Fisher's discriminant, object and background weighing the same."""
    shares = torch.stack([inside, ~inside], 1).to(margins.dtype)
    shares = shares / shares.sum(2, keepdim=True).clamp(min=1)  # (B, 2, n)
    each, contrast = shares.mean(1, keepdim=True), shares[:, 0] - shares[:, 1]  # (B, 1, n), (B, n)
    centred = margins - (margins * each).sum(2, keepdim=True)
    spread = (centred * each) @ centred.mT  # (B, V, V)
    spread = spread + torch.diag_embed(RIDGE * spread.diagonal(dim1=1, dim2=2) + 1e-6)
    return torch.linalg.solve(spread, (margins @ contrast[..., None])).squeeze(2)


def found(cut: Cut, margins: Tensor, inside: Tensor) -> Tensor:
    """IoU (B,) of the objects of all supports together."""
    object_ = torch.einsum("bv,bkvp->bkp", cut.weights, margins) > cut.at[:, None, None]
    return (object_ & inside).sum((1, 2)) / (object_ | inside).sum((1, 2)).clamp(min=1)


def nearest(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Masks (B, H, W) at the cells of a grid with the same corners: (B, h, w)."""
    rows, cols = (
        torch.linspace(0, side - 1, cells, device=masks.device).round().long()
        for side, cells in zip(sides(masks), grid, strict=True)
    )
    return masks[:, rows[:, None], cols]
