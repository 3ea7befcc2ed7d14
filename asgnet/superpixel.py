"""Seed cells and superpixel-guided clustering (SGC): one support mask becomes several prototypes.

Li et al., "Adaptive Prototype Learning and Allocation for Few-Shot Segmentation", CVPR 2021, section 4.1.
Neither has parameters, and neither loops over cells or prototypes: samples are computed together, on CPUs as many of
them as stay in the cache.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

FAR = 2**30  # a squared distance, in cells, beyond any grid
TOGETHER = {"cpu": 2**19}  # numbers of the cells clustered at a time: 2 MiB stay near a core; a GPU takes all


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
        inside = mask == 1  # (B, h, w)
        found = (seeds >= 0).all(2) & inside.flatten(1).any(1, keepdim=True)  # (B, N)
        centres = iterate(features, inside, seeds, iterations, spatial_weight, normalise)  # (B, N, C + 2)
        prototypes, valid = centres[..., :-2] * found[..., None], found.clone()
        alone = ~found.any(1) & (mask > 0).flatten(1).any(1)  # (B,)
        flat = features[alone].float().flatten(2).transpose(1, 2)  # (A, P, C)
        prototypes[alone, 0] = masked_average(flat, mask[alone].float().flatten(1))
        valid[alone, 0] = True
        return prototypes, valid


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
    inside = mask == 1
    centres = iterate(features, inside, seeds, iterations, spatial_weight, normalise)
    close = (-distances(centres, augmented_cells(features, spatial_weight))).exp()  # (B, N, P)
    return close.unflatten(2, inside.shape[1:]) * inside[:, None] * (seeds >= 0).all(2)[..., None, None]


def augmented_cells(features: Tensor, spatial_weight: float) -> Tensor:
    """Features (B, C, h, w) -> its cells, P = h w, with (row, col) / r appended: (B, P, C + 2) float32."""
    place = _places(features, spatial_weight).expand(len(features), -1, -1)
    return torch.cat([features.float().flatten(2).transpose(1, 2), place], 2)


def _places(features: Tensor, spatial_weight: float) -> Tensor:
    height, width = features.shape[2:]
    return torch.stack(coordinates(height, width, features.device), 1) / spatial_weight**0.5  # (P, 2)


def iterate(
    features: Tensor,
    inside: Tensor,
    seeds: Tensor,
    iterations: int,
    spatial_weight: float,
    normalise: str = "cells",
) -> Tensor:
    """SGC's centres (B, N, C + 2), as `augmented_cells`: from the seed cells, among the ``inside`` (B, h, w). Those of
    unused seeds mean nothing, and a sample without a cell inside or without a seed stays where it starts."""
    if normalise not in ("cells", "centres"):
        raise ValueError(f"normalise '{normalise}': expected 'cells' or 'centres'")
    flat, place = features.flatten(2).transpose(1, 2), _places(features, spatial_weight)  # (B, P, C), (P, 2)
    unused = (seeds < 0).any(2, keepdim=True)  # (B, N, 1)
    at = (seeds[..., 0] * features.shape[3] + seeds[..., 1]).clamp(min=0)  # (B, N)
    centres = torch.cat([flat.gather(1, at[..., None].expand(-1, -1, flat.shape[2])).float(), place[at]], 2)
    inside = inside.flatten(1) & ~unused.all(1)  # (B, P)
    counts = inside.sum(1).tolist()
    cells = inside.nonzero()[:, 1].split(counts)  # B x (cells,)
    most = TOGETHER.get(features.device.type, torch.inf) / centres.shape[2]
    for group in groups(counts, most) if iterations else ():
        points = centres.new_zeros(len(group), counts[group[-1]], centres.shape[2])  # (G, L, C + 2)
        outside = points.new_ones(len(group), 1, points.shape[1], dtype=torch.bool)  # (G, 1, L)
        for k, sample in enumerate(group):
            points[k, : counts[sample], :-2] = flat[sample, cells[sample]]
            points[k, : counts[sample], -2:] = place[cells[sample]]
            outside[k, 0, : counts[sample]] = False
        start, idle = centres[group], unused[group]
        centres[group] = _clustered(points, outside, start, idle, iterations, normalise)
    return centres


def groups(counts: list[int], most: float) -> Iterator[list[int]]:
    """The numbers of the samples that have any cells, ``counts`` of them, from few to many in groups: all of one padded
    to its last, it holds at most ``most`` cells, or one sample."""
    group: list[int] = []
    for sample in sorted((s for s, count in enumerate(counts) if count), key=counts.__getitem__):
        if (len(group) + 1) * counts[sample] > most and group:
            yield group
            group = []
        group.append(sample)
    if group:
        yield group


def _clustered(
    points: Tensor, outside: Tensor, centres: Tensor, unused: Tensor, iterations: int, normalise: str
) -> Tensor:
    """Centres (G, N, D) after ``iterations`` among points (G, L, D), those ``outside`` (G, 1, L) left out.

    Squared distances are matrix products, |p|^2 + |c|^2 - 2 p c, from the middle of the object, so that little cancels;
    what rounding leaves shows in the smallest one, so that of each centre's nearest point is taken from its difference.
    """
    lowest = torch.finfo(points.dtype).min
    middle = (~outside).float() @ points / (~outside).sum(2, keepdim=True)  # (G, 1, D)
    points, centres = points.sub_(middle), centres - middle
    squares = points.norm(dim=2)[:, None] ** 2  # (G, 1, L)
    for _ in range(iterations):
        square = torch.baddbmm(squares + centres.norm(dim=2, keepdim=True) ** 2, centres, points.mT, alpha=-2)
        nearest = square.argmin(2, keepdim=True)  # (G, N, 1)
        difference = points.gather(1, nearest.expand_as(centres)) - centres  # (G, N, D)
        square = square.scatter(2, nearest, difference.square().sum(2, keepdim=True))
        # The square root of 0 has no gradient; of the floor's constant it is 0.
        closeness = -square.clamp(min=torch.finfo(points.dtype).tiny).sqrt()  # (G, N, L), log Q
        if normalise == "centres":
            closeness = closeness.masked_fill(unused, lowest).log_softmax(1)
        centres = closeness.masked_fill(outside, lowest).softmax(2) @ points
    return centres + middle


def distances(centres: Tensor, points: Tensor) -> Tensor:
    """(B, N, D), (B, P, D) -> (B, N, P), exact to the last digits by plain differences."""
    return torch.cdist(centres, points, compute_mode="donot_use_mm_for_euclid_dist")


def masked_average(flat: Tensor, mask: Tensor) -> Tensor:
    """flat (B, P, C), mask (B, P) -> (B, C), the published masked average pooling."""
    return torch.einsum("bpc,bp->bc", flat, mask) / (mask.sum(1, keepdim=True) + 0.0005)
