"""Seed cells and superpixel-guided clustering (SGC): one support mask becomes several prototypes.

Li et al., "Adaptive Prototype Learning and Allocation for Few-Shot Segmentation", CVPR 2021, section 4.1.
Neither has parameters; both are batched and loop over nothing but seeds placed and iterations.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

FAR = 2**30  # a squared distance, in cells, beyond any grid


def to_grid(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """0/1 masks (B, H, W) -> masks (B, h, w) in [0, 1] on the feature grid: bilinear, aligned corners, as published.
    Where the sides are 8n + 1 pixels and n + 1 cells this samples every eighth pixel, so thin objects can vanish."""
    return F.interpolate(mask[:, None].float(), size=grid, mode="bilinear", align_corners=True)[:, 0]


def place_seeds(
    mask: Tensor, grid: tuple[int, int], max_seeds: int, area_per_seed: float, rule: str = "published"
) -> Tensor:
    """Spread seed cells over a mask: again and again the cell furthest from background and from earlier seeds.

    mask (H, W) or (B, H, W) of bool or 0/1; grid (h, w) the feature grid; area_per_seed in cells of that grid.
    Returns (max_seeds, 2) or (B, max_seeds, 2) int64 seed cells (row, col), -1 where unused. There are
    min(round(area / area_per_seed), max_seeds) of them; one seed is no better than none, so 1 counts as 0.

    ``published``: the mask comes to the grid by nearest neighbour, and distances see only the mask's bounding
    box, whose border is not background. ``padded``: the cells that SGC will use (see `to_grid`), with everything
    outside them and outside the frame background (facts page, departure 5).
    """
    if rule not in ("published", "padded"):
        raise ValueError(f"seed rule '{rule}': expected 'published' or 'padded'")
    if mask.dim() == 2:
        return place_seeds(mask[None], grid, max_seeds, area_per_seed, rule)[0]
    if rule == "published":
        cells = F.interpolate(mask[:, None].float(), size=grid, mode="nearest")[:, 0] == 1
        box = bounding_box(cells)
        distance = squared_distance(box & ~cells)
        first = torch.where(distance < FAR, distance, _distance_without_background(box))
    else:
        cells = to_grid(mask, grid) == 1
        distance = first = squared_distance(~F.pad(cells, (1, 1, 1, 1)))[:, 1:-1, 1:-1]
    area = cells.flatten(1).sum(1)  # (B,)
    count = torch.minimum((area.double() / area_per_seed).round().long().clamp(max=max_seeds), area)
    seeds = _furthest_cells(first, distance, cells, max_seeds)  # (B, max_seeds, 2)
    used = torch.arange(max_seeds, device=mask.device) < torch.where(count > 1, count, 0)[:, None]
    return torch.where(used[..., None], seeds, -1)


def squared_distance(background: Tensor) -> Tensor:
    """Exact squared Euclidean distance (B, h, w), int32 cells, from every cell to the nearest cell of ``background``
    (bool); FAR or more where there is none. Minimum within columns, then across them."""
    row, col = (torch.arange(n, dtype=torch.int32, device=background.device) for n in background.shape[1:])
    cost = torch.where(background, 0, FAR).int()
    cost = (cost[:, None] + ((row[:, None] - row) ** 2)[:, :, None]).amin(2)  # (B, h, h, w) -> (B, h, w)
    return (cost[:, :, None] + (col[:, None] - col) ** 2).amin(3)  # (B, h, w, w) -> (B, h, w)


def bounding_box(cells: Tensor) -> Tensor:
    """(B, h, w) bool -> (B, h, w) bool, the bounding box of the True cells."""

    def span(line: Tensor) -> Tensor:  # (B, n): from the first True to the last
        return (line.cumsum(1) > 0) & (line.flip(1).cumsum(1).flip(1) > 0)

    return span(cells.any(2))[:, :, None] & span(cells.any(1))[:, None, :]


def _distance_without_background(box: Tensor) -> Tensor:
    """What `scipy.ndimage.distance_transform_edt`, which the published rule calls, squared answers for a box without
    any background: the distance to the cell above the box's top left corner."""
    row, col = (box.any(axis).cumsum(1).int() for axis in (2, 1))  # counted from 1 inside the box
    return row[:, :, None] ** 2 + (col[:, None, :] - 1) ** 2


def _furthest_cells(first: Tensor, distance: Tensor, cells: Tensor, count: int) -> Tensor:
    """Take the first maximum ``count`` times, each time making the taken cell background. One more background cell
    can only bring background nearer, so the transform is not repeated. ``first`` (B, h, w) ranks the first choice."""
    height, width = cells.shape[1:]
    rows, cols = coordinates(height, width, cells.device)
    inside, scores, distance = cells.flatten(1), first.flatten(1), distance.flatten(1)
    seeds = rows.new_full((len(cells), count, 2), -1)
    for placed in range(count):
        at = scores.masked_fill(~inside, -1).argmax(1)  # (B,)
        seeds[:, placed] = torch.stack([rows[at], cols[at]], 1)
        scores = distance = torch.minimum(distance, (rows - rows[at, None]) ** 2 + (cols - cols[at, None]) ** 2)
    return seeds


def coordinates(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Row and column of every cell of the flattened grid, (h w,) int64 each."""
    at = torch.arange(height * width, device=device)
    return at // width, at % width


def sgc(
    features: Tensor,
    mask: Tensor,
    seeds: Tensor,
    iterations: int,
    spatial_weight: float = 100.0,
    differentiable: bool = False,
    normalise: str = "cells",
) -> tuple[Tensor, Tensor]:
    """Superpixel-guided clustering: one prototype per seed cell, a mean of the object's cells weighted by closeness.

    features (B, C, h, w); mask (B, h, w) soft in [0, 1], clustered are the cells that are exactly 1; seeds (B, N, 2)
    int64 (row, col), negative where unused; spatial_weight r^2 in squared cells. Returns prototypes (B, N, C), float32,
    zero where unused, and valid (B, N) bool.

    Each iteration: D = sqrt(|f_p - c_i|^2 + |xy_p - xy_i|^2 / r^2), Q = exp(-D) normalised over the cells p, centre
    i = sum_p Q_pi (f_p, xy_p). With ``normalise`` = "centres", Q is normalised over the centres i first: a soft k-means
    (facts page, departure 7).

    Without any seed, or without a cell that is exactly 1, the only prototype (the first) is the average weighted by the
    soft mask, its area enlarged by 0.0005 as published; of an empty mask there is none (no valid prototype, no NaN).
    """
    with (
        torch.set_grad_enabled(differentiable and torch.is_grad_enabled()),
        torch.autocast(features.device.type, enabled=False),
    ):
        flat, points = augmented_cells(features, spatial_weight)
        mask = mask.float().flatten(1)  # (B, P)
        inside, used = mask == 1, (seeds >= 0).all(2)  # (B, P), (B, N)
        centres = iterate(points, inside, seeds, features.shape[3], iterations, normalise)  # (B, N, C + 2)
        average = masked_average(flat, mask)  # (B, C)
        clustered = used & inside.any(1)[:, None]  # (B, N)
        alone = ~clustered.any(1, keepdim=True) & (mask.sum(1, keepdim=True) > 0)  # (B, 1)
        first = torch.arange(used.shape[1], device=used.device) == 0
        valid = clustered | (alone & first)
        prototypes = torch.where(alone[..., None], average[:, None], centres[..., :-2])
        return prototypes * valid[..., None], valid


def association(
    features: Tensor,
    mask: Tensor,
    seeds: Tensor,
    iterations: int,
    spatial_weight: float = 100.0,
    normalise: str = "cells",
) -> Tensor:
    """How closely each cell belongs to each centre after ``iterations`` of SGC: exp(-D), (B, N, h, w) in [0, 1], zero
    outside the mask and for unused seeds. Arguments as for `sgc`. The arg-max over N are the superpixels."""
    _, points = augmented_cells(features, spatial_weight)
    inside = mask.flatten(1) == 1
    centres = iterate(points, inside, seeds, features.shape[3], iterations, normalise)
    close = (-distances(centres, points)).exp() * inside[:, None] * (seeds >= 0).all(2)[..., None]
    return close.unflatten(2, tuple(features.shape[2:]))


def augmented_cells(features: Tensor, spatial_weight: float) -> tuple[Tensor, Tensor]:
    """Features (B, C, h, w) -> cells (B, P, C), P = h w, and the same with (row, col) / r appended (B, P, C + 2)."""
    flat = features.float().flatten(2).transpose(1, 2)  # (B, P, C)
    height, width = features.shape[2:]
    place = torch.stack(coordinates(height, width, features.device), 1) / spatial_weight**0.5  # (P, 2)
    return flat, torch.cat([flat, place.expand(len(flat), -1, -1)], 2)


def iterate(
    points: Tensor, inside: Tensor, seeds: Tensor, width: int, iterations: int, normalise: str = "cells"
) -> Tensor:
    """From seed cells (B, N, 2) to SGC's centres (B, N, C + 2), among the ``inside`` (B, P) of the points."""
    if normalise not in ("cells", "centres"):
        raise ValueError(f"normalise '{normalise}': expected 'cells' or 'centres'")
    at = (seeds[..., 0] * width + seeds[..., 1]).clamp(min=0)  # (B, N)
    centres = points.gather(1, at[..., None].expand(-1, -1, points.shape[2]))  # (B, N, C + 2)
    outside, unused = ~inside[:, None], (seeds < 0).any(2)[..., None]  # (B, 1, P), (B, N, 1)
    lowest = torch.finfo(torch.float32).min
    for _ in range(iterations):
        closeness = -distances(centres, points)  # (B, N, P), log Q
        if normalise == "centres":
            closeness = closeness.masked_fill(unused, lowest).log_softmax(1)
        centres = closeness.masked_fill(outside, lowest).softmax(2) @ points
    return centres


def distances(centres: Tensor, points: Tensor) -> Tensor:
    """(B, N, D), (B, P, D) -> (B, N, P). By plain differences: a matrix product would cancel where a cell is its own
    centre, and its square root has no gradient there."""
    return torch.cdist(centres, points, compute_mode="donot_use_mm_for_euclid_dist")


def masked_average(flat: Tensor, mask: Tensor) -> Tensor:
    """flat (B, P, C), mask (B, P) -> (B, C), the published masked average pooling."""
    return torch.einsum("bpc,bp->bc", flat, mask) / (mask.sum(1, keepdim=True) + 0.0005)
