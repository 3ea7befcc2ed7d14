"""Guided prototype allocation, plainly: query and prototypes are both repeated to one map for every prototype."""

import torch
import torch.nn.functional as F
from torch import Tensor


def allocate(query: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
    """One query: (C, h, w), prototypes (M, C) -> guide (C, h, w) and probability (1, h, w), the sum of similarities."""
    count = len(prototypes)
    queries = query.unsqueeze(0).repeat(count, 1, 1, 1)  # (M, C, h, w)
    maps = prototypes[:, :, None, None].repeat(1, 1, *query.shape[1:])  # (M, C, h, w)
    similarity = F.cosine_similarity(queries, maps, dim=1, eps=1e-7)  # (M, h, w)
    guide = prototypes[similarity.argmax(0)].permute(2, 0, 1)  # (C, h, w)
    return guide, similarity.sum(0, keepdim=True)


def allocate_all(query: Tensor, prototypes: list[Tensor]) -> tuple[Tensor, Tensor]:
    """query (B, C, h, w), each sample's prototypes (M, C) -> guide (B, C, h, w), probability (B, 1, h, w)."""
    pairs = [allocate(one, pool) for one, pool in zip(query, prototypes, strict=True)]
    return torch.stack([guide for guide, _ in pairs]), torch.stack([probability for _, probability in pairs])
