"""How K supports become one prediction (paper, table on K-shot fusion). With one support all ways are the same.

``pool``: the prototypes of all supports compete in one pool (the paper's way). ``features``: every support gives its
own guide and probability map, and their averages are decoded. ``votes``: every support gives its own prediction, and
each pixel goes to the majority; a tie goes to the larger mean probability.
"""

import torch
from torch import Tensor

from asgnet.head import Head

FUSIONS = ("pool", "features", "votes")


def fuse(
    head: Head,
    fusion: str,
    query: Tensor,
    prototypes: Tensor,
    valid: Tensor,
    layer1: Tensor | None,
    size: tuple[int, int],
) -> Tensor:
    """query (B, C, h, w), prototypes (B, K, N, C), valid (B, K, N) -> scores (B, 2, H, W): logits, or for votes the
    shares of the votes. The larger channel is the prediction."""
    if fusion == "pool":
        return head.decode(query, prototypes.flatten(1, 2), valid.flatten(1, 2), layer1, size)[0]
    if fusion not in FUSIONS:
        raise ValueError(f"fusion '{fusion}': expected one of {', '.join(FUSIONS)}")
    shots = prototypes.shape[1]
    each = query.repeat_interleave(shots, 0)  # (B K, C, h, w)
    guide, probability, _ = head.allocate(each, prototypes.flatten(0, 1), valid.flatten(0, 1))
    if fusion == "features":
        guide, probability = (x.unflatten(0, (-1, shots)).mean(1) for x in (guide, probability))
        return head.segment(query, guide, probability, layer1, size)[0]
    layer1 = None if layer1 is None else layer1.repeat_interleave(shots, 0)
    logits = (
        head.segment(each, guide, probability, layer1, size)[0].float().unflatten(0, (-1, shots))
    )  # (B, K, 2, H, W)
    votes = (logits[:, :, 1:] > logits[:, :, :1]).float().mean(1)  # (B, 1, H, W)
    doubt = logits.softmax(2)[:, :, 1:].mean(1) - 0.5  # (B, 1, H, W), within +-0.5, and a vote weighs 1 / K
    foreground = votes + doubt / (2 * shots)
    return torch.cat([1 - foreground, foreground], 1)  # (B, 2, H, W)
