"""How K supports become one prediction (paper, table on K-shot fusion). With one support all ways are the same.

``pool``: the prototypes of all supports compete in one pool (the paper's way). ``features``: every support gives its
own guide and probability map, and their averages are decoded. ``votes``: every support gives its own prediction, and
each pixel goes to the majority; a tie goes to the larger mean probability.
"""

import torch
from torch import Tensor

from asgnet.calibration import Cut
from asgnet.head import Head, heard, margin

FUSIONS = ("pool", "features", "votes")


def fuse(
    head: Head,
    fusion: str,
    query: Tensor,
    prototypes: Tensor,
    valid: Tensor,
    layer1: Tensor | None,
    size: tuple[int, int],
    cut: Cut | None = None,
) -> Tensor:
    """query (B, C, h, w), prototypes (B, K, N, C), valid (B, K, N) -> (B, H, W), above 0 where the object is:
    foreground minus background of the logits, or for votes of the shares of the votes. ``cut``: where the object
    begins, 0 by default; its layer counts in the pool."""
    at = torch.zeros(len(query), device=query.device) if cut is None else cut.at
    if fusion == "pool":
        pool, there = prototypes.flatten(1, 2), valid.flatten(1, 2)
        decoded = [voice.decode(layer1) for voice in head.voices(query, pool, there)]
        return margin(heard(decoded, None if cut is None else cut.layer), size) - at[:, None, None]
    if fusion not in FUSIONS:
        raise ValueError(f"fusion '{fusion}': expected one of {', '.join(FUSIONS)}")
    shots = prototypes.shape[1]
    each = query.repeat_interleave(shots, 0)  # (B K, C, h, w)
    guide, probability, _ = head.allocate(each, prototypes.flatten(0, 1), valid.flatten(0, 1))
    if fusion == "features":
        guide, probability = (x.unflatten(0, (-1, shots)).mean(1) for x in (guide, probability))
        return margin(head.segment(query, guide, probability, layer1).logits, size) - at[:, None, None]
    layer1 = None if layer1 is None else layer1.repeat_interleave(shots, 0)
    logits = head.segment(each, guide, probability, layer1).logits
    margins = margin(logits, size).unflatten(0, (-1, shots))  # (B, K, H, W)
    margins = margins - at[:, None, None, None]
    votes = margins.sign().mean(1)  # (B, H, W) in [-1, 1], in steps of 2 / K
    doubt = margins.sigmoid().mean(1) - 0.5  # within +-0.5
    return votes + doubt / shots
