"""Guided prototype allocation, plainly: the query is repeated once for every prototype."""

import torch
from torch import Tensor

EPS = 1e-7


def allocate(query: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
    """One query: (C, h, w), prototypes (M, C) -> guide (C, h, w) and probability (1, h, w), the sum of similarities."""
    queries = query.unsqueeze(0).repeat(len(prototypes), 1, 1, 1)  # (M, C, h, w)
    products = (queries * prototypes[:, :, None, None]).sum(1)  # (M, h, w)
    lengths = (queries**2).sum(1).sqrt() * prototypes.norm(dim=1)[:, None, None]  # torch's norm(dim=1) is slower
    similarity = products / (lengths + EPS)
    guide = prototypes[similarity.argmax(0)].permute(2, 0, 1)  # (C, h, w)
    return guide, similarity.sum(0, keepdim=True)


def allocate_all(query: Tensor, prototypes: list[Tensor]) -> tuple[Tensor, Tensor]:
    """query (B, C, h, w), each sample's prototypes (M, C) -> guide (B, C, h, w), probability (B, 1, h, w)."""
    pairs = [allocate(one, pool) for one, pool in zip(query, prototypes, strict=True)]
    return torch.stack([guide for guide, _ in pairs]), torch.stack([probability for _, probability in pairs])
