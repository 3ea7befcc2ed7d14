"""Testing a network on frozen episodes."""

from collections.abc import Callable
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from asgnet.calibration import Cut, calibrate
from asgnet.data.episodes import pairs_of, supports_of
from asgnet.data.transforms import unfit
from asgnet.device import autocast
from asgnet.distributed import deal
from asgnet.fusion import fuse
from asgnet.gallery import Maps, Prototypes, build_maps, build_prototypes, in_parts
from asgnet.head import pixel_loss
from asgnet.metrics import COUNTS, intersection_union
from asgnet.model import ASGNet
from asgnet.outline import along_edges
from asgnet.source import Source

# margins (1, S, S) on the square that the network saw, the query's height and width -> (1, height, width)
Restore = Callable[[Tensor, int, int], Tensor]
Watcher = Callable[[int, Tensor], None]  # (row of the episode, its mask prediction at the original size)


@torch.no_grad()
def score_episodes(
    model: ASGNet,
    source: Source,
    episodes: pd.DataFrame,
    shots: int,
    batch: int = 16,
    watch: Watcher | None = None,
    loss: bool = False,
    restore: Restore = unfit,
    across: bool = False,
) -> pd.DataFrame:
    """Test ``model`` on every episode with its first ``shots`` supports; see `score`. The model's mode is restored."""
    training = model.training
    model.eval()
    tables: list[pd.DataFrame] = []
    for part in in_parts(episodes, shots):
        maps = build_maps(model, source, part, shots, batch, across)
        prototypes = build_prototypes(model, source, maps, pairs_of(part, shots), batch=batch, across=across)
        seen = partial(_after, watch, sum(map(len, tables))) if watch else None
        tables.append(
            score(
                model, source, maps, prototypes, part, shots,
                batch=batch, watch=seen, loss=loss, restore=restore, across=across,
            )
        )  # fmt: skip
    model.train(training)
    return pd.concat(tables, ignore_index=True)


def _after(watch: Watcher, first: int, row: int, prediction: Tensor) -> None:
    watch(first + row, prediction)


@torch.no_grad()
def score(
    model: ASGNet,
    source: Source,
    maps: Maps,
    prototypes: Prototypes,
    episodes: pd.DataFrame,
    shots: int,
    fusion: str = "pool",
    batch: int = 16,
    watch: Watcher | None = None,
    loss: bool = False,
    restore: Restore = unfit,
    across: bool = False,
) -> pd.DataFrame:
    """Test a network in eval mode on every episode, from what `build_maps` and `build_prototypes` made of its images.
    ``restore`` undoes what the source did to fit images into its square. ``across``: the processes of a torchrun, which
    all call this, share the work and get the same table, that of one process; each watches its own episodes.

    Returns one row an episode: episode, class, query, supports, inter_fg, union_fg, inter_bg, union_bg (pixels at the
    query's original size, void left out), prototypes (how many the supports gave), fallback (supports whose mask
    vanished on the feature grid) and, where asked for, loss (cross-entropy at the working size)."""

    def score_batch(first: int) -> pd.DataFrame:
        part = episodes.iloc[first : first + batch]
        queries, classes = list(part["query"]), [int(c) for c in part["class"]]
        query, layer1 = maps.of(queries)
        pool, valid, fallback = prototypes.of(supports_of(part, shots), classes)
        with autocast(query.device, source.dtype):
            cut = _cut(model, source, maps, part, shots, pool, valid)
            margins = fuse(model.head, fusion, query, pool, valid, layer1, (source.size, source.size), cut)  # (B, S, S)
        if model.config.outline == "image":
            margins = along_edges(margins, source.images(queries, [0] * len(part)))
        target = source.masks(queries, [0] * len(part), classes)  # (B, S, S)
        counts = _counts(source, margins, target, queries, classes, watch, first, restore)  # (B, 4)
        columns = dict(zip(COUNTS, counts.T.cpu().numpy(), strict=True))
        columns |= {"prototypes": valid.sum((1, 2)).cpu().numpy(), "fallback": fallback.cpu().numpy()}
        if loss:
            known = (target != 255).sum((1, 2)).clamp(min=1)
            columns["loss"] = (pixel_loss(margins, target).sum((1, 2)) / known).cpu().numpy()
        named = part[["episode", "class", "query"]]
        return named.assign(supports=[";".join(ids) for ids in supports_of(part, shots)], **columns)

    return pd.concat(deal(range(0, len(episodes), batch), score_batch, across), ignore_index=True)


def _cut(
    model: ASGNet, source: Source, maps: Maps, episodes: pd.DataFrame, shots: int, pool: Tensor, valid: Tensor
) -> Cut | None:
    """Where the network cuts the predictions of B episodes, None for at 0."""
    if not model.config.support_recall:
        return None
    supports = supports_of(episodes, shots)
    ids, classes = [i for row in supports for i in row], [int(c) for c in episodes["class"] for _ in range(shots)]
    reduced, layer1 = (None if x is None else x.unflatten(0, (-1, shots)) for x in maps.of(ids))
    assert reduced is not None
    masks = source.masks(ids, [0] * len(ids), classes).unflatten(0, (-1, shots))  # (B, K, S, S)
    return calibrate(model.head, reduced, masks, pool, valid, layer1)


def _counts(
    source: Source,
    margins: Tensor,
    target: Tensor,
    queries: list[str],
    classes: list[int],
    watch: Watcher | None,
    row: int,
    restore: Restore,
) -> Tensor:
    """Intersections and unions (B, 4) at the queries' original sizes. ``row`` is the number of the first episode."""
    sizes = [source.original_size(query) for query in queries]
    if restore is unfit and set(sizes) == {tuple(target.shape[1:])}:  # nothing to map back: all episodes at once
        prediction = margins > 0  # (B, H, W)
        if watch is not None:
            for k in range(len(prediction)):
                watch(row + k, prediction[k])
        return intersection_union(prediction, target)
    counts = []
    for k, (height, width) in enumerate(sizes):
        prediction = restore(margins[k][None], height, width)[0] > 0  # (H, W)
        if watch is not None:
            watch(row + k, prediction)
        counts.append(intersection_union(prediction[None], source.original_mask(queries[k], classes[k])[None])[0])
    return torch.stack(counts)
