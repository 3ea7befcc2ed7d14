"""Seed placement, SGC and GPA by themselves."""

import torch
from torch import Tensor

from asgnet.allocation import gpa
from asgnet.superpixel import place_seeds, sgc, to_grid
from benchmarks import inputs
from benchmarks.case import Case
from benchmarks.plain.allocation import allocate_all
from benchmarks.plain.clustering import cluster_all
from benchmarks.plain.seeds import place_all
from benchmarks.sizes import Sizes

ITERATIONS = 10
AREA = 100 / 60**2  # of the grid, that a seed stands for


def seeds_case(sizes: Sizes) -> Case:
    """Seed cells of all supports of a batch, from their masks."""
    masks = inputs.objects("seeds", sizes.batch, sizes.shots, pixels=sizes.pixels)
    grid = (sizes.grid, sizes.grid)

    def ours() -> Tensor:
        placed = place_seeds(masks.flatten(0, 1), grid, sizes.count, AREA * sizes.grid**2)
        return placed.unflatten(0, masks.shape[:2])

    return Case(
        f"seed placement, B {sizes.batch}, K {sizes.shots}, {sizes.pixels} x {sizes.pixels} pixels, N {sizes.count}",
        plain=lambda: place_all(masks, grid, sizes.count, AREA * sizes.grid**2),
        ours=ours,
        tolerance=0,
        inputs=[masks],
    )


def sgc_case(sizes: Sizes) -> Case:
    """Prototypes of all supports of a batch, from features, masks and seed cells."""
    lead, grid = (sizes.batch, sizes.shots), (sizes.grid, sizes.grid)
    centres = inputs.prototypes("sgc-centres", sizes.batch * sizes.shots, sizes.count, width=sizes.width) / 16
    maps = inputs.features("sgc", centres, sizes.grid, noise=0.05)  # (B K, C, h, w)
    pixels = inputs.objects("sgc-masks", sizes.batch * sizes.shots, pixels=sizes.pixels)
    masks = to_grid(pixels, grid)
    seeds = place_seeds(pixels, grid, sizes.count, AREA * sizes.grid**2)

    def plain() -> Tensor:
        return cluster_all(*(x.unflatten(0, lead) for x in (maps, masks, seeds)), ITERATIONS)

    return Case(
        f"SGC, B {sizes.batch}, K {sizes.shots}, {sizes.grid} x {sizes.grid} x {sizes.width}, N {sizes.count}, "
        f"{ITERATIONS} iterations",
        plain=plain,
        ours=lambda: sgc(maps, masks, seeds, ITERATIONS)[0].unflatten(0, lead),
        published=0.42,
        inputs=[maps, masks, seeds],
    )


def gpa_case(sizes: Sizes) -> Case:
    """Guides and probability maps of a batch of queries."""
    pools = inputs.prototypes("gpa-pools", sizes.batch, sizes.count, width=sizes.width)
    query = inputs.features("gpa", pools, sizes.grid, noise=0.5)
    valid = torch.ones(sizes.batch, sizes.count, dtype=torch.bool)
    last = query.contiguous(memory_format=torch.channels_last)  # as the project's network hands it over
    return Case(
        f"GPA, B {sizes.batch}, {sizes.grid} x {sizes.grid} x {sizes.width}, {sizes.count} prototypes",
        plain=lambda: allocate_all(query, list(pools)),
        ours=lambda: gpa(last, pools, valid)[:2],
        published=0.013,
        inputs=[query, pools],
    )
