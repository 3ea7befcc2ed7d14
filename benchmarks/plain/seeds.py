"""Seed placement, plainly: a distance transform of the whole object for every seed placed."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor


def place_seeds(mask: Tensor, grid: tuple[int, int], max_seeds: int, area_per_seed: float) -> Tensor:
    """Seed cells of one object: mask (H, W) of 0/1 -> (n, 2) int64 (row, col) on the grid, n = 0 or 2 .. max_seeds."""
    cells = F.interpolate(mask[None, None].float(), size=grid, mode="nearest")[0, 0].numpy() == 1  # (h, w)
    area = int(cells.sum())
    count = min(round(area / area_per_seed), max_seeds, area)
    if count < 2:
        return torch.zeros(0, 2, dtype=torch.int64)
    rows, cols = np.nonzero(cells)
    top, left = rows.min(), cols.min()
    box = cells[top : rows.max() + 1, left : cols.max() + 1].copy()  # the bounding box; its border is no background
    inside, seeds = box.copy(), []
    for _ in range(count):
        distance = np.where(inside, distance_transform_edt(box), -1)
        row, col = np.unravel_index(distance.argmax(), box.shape)
        box[row, col] = False
        seeds.append((row + top, col + left))
    return torch.tensor(np.array(seeds))


def place_all(masks: Tensor, grid: tuple[int, int], max_seeds: int, area_per_seed: float) -> Tensor:
    """masks (B, K, H, W) -> (B, K, max_seeds, 2), -1 where unused: one object after another."""
    placed = torch.full((*masks.shape[:2], max_seeds, 2), -1)
    for sample in range(masks.shape[0]):
        for shot in range(masks.shape[1]):
            seeds = place_seeds(masks[sample, shot], grid, max_seeds, area_per_seed)
            placed[sample, shot, : len(seeds)] = seeds
    return placed
