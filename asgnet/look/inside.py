"""What SGC and GPA made of supports and query, as the arrays that asgnet.plots.trace draws."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from asgnet.allocation import gpa
from asgnet.head import Head
from asgnet.plots.trace import Shot
from asgnet.superpixel import association, augmented_cells, distances, iterate

EVOLUTION = (0, 1, 2, 5, 10, 20)  # iterations after which the superpixels are shown, beside those asked for


def shots_of(
    head: Head,
    pictures: Sequence[tuple[np.ndarray, np.ndarray]],
    reduced: Tensor,
    cells: Tensor,
    seeds: Tensor,
    valid: Tensor,
) -> tuple[Shot, ...]:
    """SGC on K supports: their pictures and masks ((S, S, 3) uint8 and (S, S) bool), reduced (K, C, h, w), cells
    (K, h, w), seeds (K, N, 2) and valid (K, N)."""
    config, inside = head.config, cells == 1
    steps = tuple(sorted({*EVOLUTION, config.iterations_eval}))
    weight, normalise = config.spatial_weight, config.association
    close = association(reduced, cells, seeds, config.iterations_eval, weight, normalise)  # (K, N, h, w)
    points, unused = augmented_cells(reduced, weight), (seeds < 0).any(2)[..., None]  # (K, P, C + 2), (K, N, 1)
    centres = [iterate(reduced, inside, seeds, step, weight, normalise) for step in steps]
    each = [(-distances(centre, points)).exp().masked_fill(unused, -1) for centre in centres]  # T x (K, N, P)
    nearest = torch.stack(each).argmax(2).unflatten(2, cells.shape[1:]).masked_fill(~inside, -1)  # (T, K, h, w)
    places = torch.stack(centres)[..., -2:] * weight**0.5  # (T, K, N, 2), (row, col) in cells
    shots: list[Shot] = []
    for k, (image, mask) in enumerate(pictures):
        count = int(valid[k].sum())
        clustered = not unused[k].all() and bool(inside[k].any())  # else there is the masked average at most
        n = count if clustered else 0  # used seeds come first
        evolution = nearest[:, k] if clustered else torch.where(cells[k] > 0, 0, -1).expand(len(steps), -1, -1)
        arrays = {
            "seed_cells": seeds[k, :n],
            "association": close[k, :n] if clustered else cells[k][None][:count],
            "superpixels": evolution[steps.index(config.iterations_eval)],
            "evolution": evolution,
            "centres": places[:, k, :n],
        }
        first = shots[-1].first + len(shots[-1].association) if shots else 0
        arrays = {name: array.cpu().numpy() for name, array in arrays.items()}
        shots.append(Shot(image=image, mask=mask, first=first, steps=steps, **arrays))
    return tuple(shots)


def allocation_of(
    head: Head, query: Tensor, prototypes: Tensor, valid: Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """GPA on a query (1, C, h, w) with its supports' prototypes (K, N, C), valid (K, N): the similarity to each of the
    M valid ones (M, h, w), the guide map (h, w) of their numbers, and the probability map (h, w)."""
    pool, used = prototypes.flatten(0, 1), valid.flatten()  # (K N, C), (K N,)
    _, probability, index = head.allocate(query, pool[None], used[None])
    each = pool[used][:, None]  # (M, 1, C)
    # Of a pool of one prototype, the probability is the similarity.
    _, similarity, _ = gpa(query.expand(len(each), -1, -1, -1), each, used[used][:, None])
    guide = (used.cumsum(0) - 1)[index[0]]  # (h, w), unused prototypes not counted
    if head.config.allocation != "guided" or not used.any():
        guide = torch.full_like(guide, -1)
    return similarity[:, 0].cpu().numpy(), guide.cpu().numpy(), probability[0, 0].float().cpu().numpy()
