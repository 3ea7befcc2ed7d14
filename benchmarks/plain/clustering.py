"""Superpixel-guided clustering, plainly: the object's cells are repeated once for every centre."""

import torch
from torch import Tensor


@torch.no_grad()
def cluster(features: Tensor, mask: Tensor, seeds: Tensor, iterations: int, spatial_weight: float = 100.0) -> Tensor:
    """Prototypes of one support: features (C, h, w), soft mask (h, w), seeds (n, 2) (row, col) -> (n, C). Without
    seeds, or without a cell that is exactly 1: the masked average (1, C)."""
    inside = mask == 1
    if len(seeds) == 0 or not inside.any():
        return ((features * mask).sum((1, 2)) / (mask.sum() + 0.0005))[None]
    height, width = mask.shape
    rows = torch.arange(height).view(-1, 1).repeat(1, width)
    cols = torch.arange(width).view(1, -1).repeat(height, 1)
    augmented = torch.cat([features, torch.stack([rows, cols]).float()])  # (C + 2, h, w)
    centres = torch.stack([augmented[:, row, col] for row, col in seeds.tolist()], 1)  # (C + 2, n)
    cells = augmented[:, inside].unsqueeze(2).repeat(1, 1, len(seeds))  # (C + 2, P, n)
    for _ in range(iterations):
        squares = (cells - centres[:, None]) ** 2
        distance = (squares[:-2].sum(0) + squares[-2:].sum(0) / spatial_weight).sqrt()  # (P, n)
        closeness = (-distance).exp()
        closeness = closeness / closeness.sum(0, keepdim=True)
        centres = (cells * closeness).sum(1)
    return centres[:-2].T


def cluster_all(features: Tensor, masks: Tensor, seeds: Tensor, iterations: int) -> Tensor:
    """features (B, K, C, h, w), masks (B, K, h, w), seeds (B, K, N, 2) -> (B, K, N, C), zero where there is none."""
    samples, shots, count = seeds.shape[:3]
    prototypes = torch.zeros(samples, shots, count, features.shape[2])
    for sample in range(samples):
        for shot in range(shots):
            used = seeds[sample, shot][(seeds[sample, shot] >= 0).all(1)]
            found = cluster(features[sample, shot], masks[sample, shot], used, iterations)
            prototypes[sample, shot, : len(found)] = found
    return prototypes
