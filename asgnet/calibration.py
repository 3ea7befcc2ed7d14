"""Where to cut a prediction: a threshold for each episode, read off its supports, whose masks are known.

A class that stands in training images without being asked for is taught as background (departure 8), which presses the
margins of its objects down: a trained network still ranks their cells above the rest, but all of them may lie below 0.
How far down shows on the supports: each is predicted from the other ones (a single one from itself), and the threshold
is lowered until it finds most of their object. Where it finds as much at 0, it stays there.
"""

import torch
from torch import Tensor

from asgnet.decoders import sides
from asgnet.head import Head, margin


@torch.no_grad()
def thresholds(
    head: Head, supports: Tensor, masks: Tensor, prototypes: Tensor, valid: Tensor, layer1: Tensor | None = None
) -> Tensor:
    """The margin (B,) above which a query of each episode shows the object, at most 0: the mean over the supports of
    the margin above which ``model.support_recall`` of their object lies; of a head with several voices, the sum of
    theirs.

    supports (B, K, C, h, w), reduced; masks (B, K, H, W), where 1 is the object and anything else is not; their
    prototypes (B, K, N, C) and valid (B, K, N); layer1 (B, K, C1, h4, w4), for ASPP. It is 0 where no support shows the
    object on the grid, and where ``model.support_recall`` is 0.
    """
    shots, grid, recall = masks.shape[1], sides(supports), head.config.support_recall
    if not recall:
        return supports.new_zeros(len(supports), dtype=torch.float32)
    found = []
    for shot in range(shots):  # one after another: as much memory as the queries take
        others = [k for k in range(shots) if k != shot] or [shot]
        pool, there = prototypes[:, others].flatten(1, 2), valid[:, others].flatten(1, 2)
        fine = None if layer1 is None else layer1[:, shot]
        logits = torch.stack([voice.decode(fine)[0] for voice in head.voices(supports[:, shot], pool, there)])
        inside = nearest(masks[:, shot], grid) == 1  # (B, h, w)
        margins = margin(logits.flatten(0, 1), grid).unflatten(0, (-1, len(inside)))  # (V, B, h, w)
        found.append(margins.masked_fill(~inside, torch.nan).flatten(2).nanquantile(1 - recall, dim=2))
    return torch.stack(found).nanmean(0).nan_to_num(0).clamp(max=0).sum(0)  # (shots, V, B) -> (B,)


def nearest(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Masks (B, H, W) at the cells of a grid with the same corners: (B, h, w)."""
    rows, cols = (
        torch.linspace(0, side - 1, cells, device=masks.device).round().long()
        for side, cells in zip(sides(masks), grid, strict=True)
    )
    return masks[:, rows[:, None], cols]
