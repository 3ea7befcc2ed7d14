"""What is varied at test time on one trained network, never retrained: the clusterer, the counts, the fusion of shots.

Images are reduced once and every clustering is made once, so that a variation costs little more than its decoding.
"""

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from asgnet.clusterers import CLUSTERERS, cluster
from asgnet.data.episodes import Pair, pairs_of
from asgnet.data.transforms import fit
from asgnet.decoders import sides
from asgnet.errors import UserError
from asgnet.evaluate import score
from asgnet.fusion import FUSIONS
from asgnet.gallery import Clusterer, build_maps, build_prototypes
from asgnet.metrics import COUNTS
from asgnet.model import ASGNet
from asgnet.progress import track
from asgnet.sections import AblationConfig, ModelConfig
from asgnet.source import Source
from asgnet.strict import unknown


@dataclass(frozen=True)
class Variation:
    """One way to test a trained network: a row of a table."""

    table: str
    setting: str  # the row's name, as printed
    shots: int = 1
    model: tuple[tuple[str, Any], ...] = ()  # overrides of ModelConfig, of what has no weights
    clusterer: str = "sgc"
    fusion: str = "pool"


def variations(config: AblationConfig, model: ModelConfig, parts: bool, first: bool = True) -> list[Variation]:
    """The rows of all tables for a network trained with ``model``; only the counts where it is not the ``first`` arm.

    parts: the dataset knows true parts, which make a clusterer. Raises UserError for an unknown clusterer or fusion."""
    for name, given, known in (("clusterers", config.clusterers, CLUSTERERS), ("fusions", config.fusions, FUSIONS)):
        for value in given:
            if value not in known:
                raise unknown(f"params.yaml: ablation.{name}:", value, known)

    def override(table: str, name: str, values: tuple) -> list[Variation]:
        default = getattr(model, name)
        return [Variation(table, f"{v:g}" if isinstance(v, float) else str(v),
                          model=() if v == default else ((name, v),)) for v in values]  # fmt: skip

    rows = override("count", "max_seeds", config.counts)
    if first:
        clusterers = [*config.clusterers, *(["parts"] if parts else [])]
        rows += [Variation("clusterer", name, clusterer=name) for name in clusterers]
        rows += override("iterations", "iterations_eval", config.iterations)
        rows += override("spatial weight", "spatial_weight", config.spatial_weights)
        rows += override("seed rule", "seed_rule", config.seed_rules)
        for shots in config.shots:  # one support is its own pool: there is nothing to fuse
            names = config.fusions if shots > 1 else ("pool",)
            rows += [Variation("fusion", name, shots, fusion=name) for name in names]
    return rows


@torch.no_grad()
def score_variations(
    model: ASGNet, source: Source, episodes: pd.DataFrame, rows: list[Variation], batch: int = 16
) -> pd.DataFrame:
    """Test a network in eval mode on all ``episodes`` under every variation.

    Returns one row a variation and episode: table, setting, shots, episode, ``metrics.COUNTS``, prototypes.
    Raises UserError where the episodes have fewer supports than a variation asks for."""
    shots = max(row.shots for row in rows)
    have = int(episodes["supports"].str.count(";").min()) + 1
    if have < shots:
        raise UserError(f"ablation.shots: {shots} supports asked for, but the test episodes have {have}")
    maps = build_maps(model, source, episodes, shots, batch)
    clustered, scored, tables = {}, {}, []
    for row in track(
        sorted(rows, key=lambda row: -row.shots), "variations"
    ):  # most supports first: fewer then need none
        varied = reconfigured(model, **dict(row.model))
        recipe = (row.model, row.clusterer)
        if recipe not in clustered:
            clusterer = None if row.clusterer == "sgc" else clusterer_of(row.clusterer, varied, source)
            pairs = pairs_of(episodes, row.shots)
            clustered[recipe] = build_prototypes(varied, source, maps, pairs, clusterer, batch)
        key = (*recipe, row.shots, row.fusion)
        if key not in scored:
            prototypes = clustered[recipe]
            scored[key] = score(varied, source, maps, prototypes, episodes, row.shots, row.fusion, batch)
        table = scored[key][["episode", *COUNTS, "prototypes"]]
        tables.append(pd.DataFrame({"table": row.table, "setting": row.setting, "shots": row.shots, **table}))
    return pd.concat(tables, ignore_index=True)


def reconfigured(model: ASGNet, **changes: Any) -> ASGNet:
    """The same weights under another configuration of what has none, such as N_max. ``model`` is left alone."""
    varied, head = copy.copy(model), copy.copy(model.head)
    varied.config = head.config = dataclasses.replace(model.config, **changes)
    varied._modules = {**model._modules, "head": head}
    return varied


def clusterer_of(name: str, model: ASGNet, source: Source) -> Clusterer:
    """The clusterer ``name``, with the seed cells, iterations and spatial weight of ``model``."""

    def run(reduced: Tensor, masks: Tensor, pairs: list[Pair]) -> tuple[Tensor, Tensor, Tensor]:
        config, grid = model.config, sides(reduced)
        cells, seeds, fallback = model.head.place(masks, grid)
        parts = parts_on_grid(source, pairs, grid).to(reduced.device) if name == "parts" else None
        found = cluster(name, reduced, cells, seeds, config.iterations_eval, config.spatial_weight, parts)
        return found.prototypes, found.valid, fallback

    return run


def parts_on_grid(source: Source, pairs: list[Pair], grid: tuple[int, int]) -> Tensor:
    """The true part of every cell of the pairs' images, (n, h, w) int64, 0 where there is none: the part at the cell's
    centre, as aligned corners place it. Raises UserError where the dataset knows no parts."""
    maps = []
    for image_id, _ in pairs:
        parts = source.tree.parts(image_id)
        if parts is None:
            raise UserError(f"{image_id} has no map of true parts: leave 'parts' out of ablation.clusterers")
        _, square = fit(source.tree.image(image_id), parts, source.size)  # (S, S)
        rows, cols = (np.linspace(0, source.size - 1, side).round().astype(int) for side in grid)
        maps.append(square[np.ix_(rows, cols)] % 255)  # 255 pads
    return torch.from_numpy(np.stack(maps)).long()
