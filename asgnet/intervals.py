"""Intervals and paired comparisons by a hierarchical bootstrap over fold x random-seed blocks and query images.

A *block* is one tested run: the episode table of an arm on one fold with one random seed. One resample

1. draws as many blocks as there are, with replacement, from all fold x random-seed blocks;
2. draws the query images of each fold with replacement, an image with all its episodes. The random seeds of a fold
   are tested on the same episodes, so they share the draw: drawing apart for each would count the same images as
   independent evidence;
3. recomputes each class's summed intersection over summed union, their mean over the classes of a block, and the
   mean over the drawn blocks.

Folds hold different classes, so drawing blocks treats the folds as a sample of class splits, not as fixed strata: the
interval says what to expect of other classes too, and is wider than one for these classes alone. With few blocks a
percentile interval is rough (with one block it holds the query images alone): with one random seed, call it
exploratory.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from asgnet.errors import UserError
from asgnet.metrics import COUNTS, miou_of_sums
from asgnet.rng import generator

RESAMPLES = 2000
LEVEL = 0.95

Blocks = Mapping[tuple[int, int], pd.DataFrame]  # (fold, random seed) -> episodes: class, query, supports, COUNTS
Metric = Callable[[np.ndarray], np.ndarray]  # summed counts (..., C, 4) -> per cent (...)


@dataclass(frozen=True)
class Interval:
    """A value and its bootstrap interval, in per cent (points of mIoU)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """A paired difference (arm minus baseline) with its two-sided bootstrap p and what it rests on."""

    p: float
    episodes: int
    seeds: int


def interval(blocks: Blocks, metric: Metric = miou_of_sums, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The metric of one arm over its blocks (mean over folds) with its percentile interval at ``LEVEL``."""
    return Interval(*_summary(*_resample(blocks, metric, resamples, seed)))


def paired_difference(
    arm: Blocks, baseline: Blocks, metric: Metric = miou_of_sums, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """Arm minus baseline on identical episodes, both recomputed on the same drawn blocks and query images.

    p is twice the smaller share of resamples on either side of zero, at least 2 / (resamples + 1).
    Raises UserError where the two were tested on different blocks or episodes."""
    _check_paired(arm, baseline)
    value, values = _resample(arm, metric, resamples, seed)
    value_baseline, values_baseline = _resample(baseline, metric, resamples, seed)
    differences = values - values_baseline
    tail = min((differences <= 0).sum(), (differences >= 0).sum())
    p = min(1.0, 2 * (tail + 1) / (resamples + 1))
    episodes = sum(len(blocks) for blocks in {fold: table for (fold, _), table in arm.items()}.values())
    seeds = len({seed for _, seed in arm})
    return Difference(*_summary(value - value_baseline, differences), p=float(p), episodes=episodes, seeds=seeds)


def holm(pvalues: Sequence[float]) -> np.ndarray:
    """Holm's step-down correction: p values in any order -> corrected p values in the same order."""
    p = np.asarray(pvalues, dtype=float)
    order = np.argsort(p)
    corrected = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(corrected, 1)[np.argsort(order)]


def sentence(arm: str, baseline: str, shots: int, difference: Difference, p_holm: float) -> str:
    """What the comparison allows one to say, in one sentence."""
    covers_zero = difference.low <= 0 <= difference.high
    if covers_zero or p_holm > 1 - LEVEL:
        finding = "no difference found" if covers_zero else "no difference found after correction"
        finding = f"{finding} ({difference.value:+.1f} points of mIoU,"
    else:
        direction = "above" if difference.value > 0 else "below"
        finding = f"{abs(difference.value):.1f} points of mIoU {direction} ({difference.value:+.1f},"
    seeds = "1 random seed: exploratory" if difference.seeds == 1 else f"{difference.seeds} random seeds"
    return (
        f"{arm} against {baseline}, {shots}-shot: {finding} {LEVEL:.0%} interval {difference.low:+.1f} to "
        f"{difference.high:+.1f}, corrected p = {p_holm:.3f}; {difference.episodes:,} episodes, {seeds})."
    )


def mean_interval(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, float]:
    """Mean of independent values (n,) with its percentile interval at ``LEVEL``: mean, low, high."""
    values = values[~np.isnan(values)]
    counts = generator(seed, "bootstrap-mean").multinomial(
        len(values), np.full(len(values), 1 / len(values)), resamples
    )
    return dict(zip(("mean", "low", "high"), _summary(values.mean(), counts @ values / len(values)), strict=True))


def _summary(value: float, values: np.ndarray) -> tuple[float, float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(value), float(low), float(high)


def _resample(blocks: Blocks, metric: Metric, resamples: int, seed: int) -> tuple[float, np.ndarray]:
    """The metric on the whole sample and on each resample (R,)."""
    keys = sorted(blocks)
    folds = [fold for fold, _ in keys]
    share = np.array([1 / folds.count(fold) for fold in folds])  # every fold weighs the same, whatever its seeds
    counts = generator(seed, "bootstrap-blocks").multinomial(len(keys), np.full(len(keys), 1 / len(keys)), resamples)
    whole, drawn = [], []
    for fold, random_seed in keys:
        sums = _query_sums(blocks[fold, random_seed])  # (Q, C, 4)
        queries = len(sums)
        weights = _query_weights(seed, fold, queries, resamples)
        resampled = weights @ sums.reshape(queries, -1)
        whole.append(metric(sums.sum(0)))
        drawn.append(metric(resampled.reshape(resamples, *sums.shape[1:])))  # (R,)
    weight = counts * share  # (R, blocks)
    return float(np.average(whole, weights=share)), (np.stack(drawn, 1) * weight).sum(1) / weight.sum(1)


@lru_cache(maxsize=1)
def _query_weights(seed: int, fold: int, queries: int, resamples: int) -> np.ndarray:
    """How often each query image of a fold is drawn, (R, Q); kept for the fold's next random seed, which shares it."""
    draw = generator(seed, "bootstrap-queries", fold).multinomial(queries, np.full(queries, 1 / queries), resamples)
    return draw.astype(float)


def _query_sums(episodes: pd.DataFrame) -> np.ndarray:
    """Counts summed over the episodes of each query image and class, (Q, C, 4), images and classes sorted."""
    queries, query = np.unique(episodes["query"].to_numpy(str), return_inverse=True)
    classes, label = np.unique(episodes["class"].to_numpy(), return_inverse=True)
    sums = np.zeros((len(queries), len(classes), len(COUNTS)))
    np.add.at(sums, (query, label), episodes[COUNTS].to_numpy(float))
    return sums


def _check_paired(arm: Blocks, baseline: Blocks) -> None:
    if sorted(arm) != sorted(baseline):
        raise UserError(
            f"a paired comparison needs the same (fold, random seed) blocks, but one arm has {sorted(arm)} and the "
            f"other {sorted(baseline)}; test both on the same folds and seeds"
        )
    identity = ["episode", "class", "query", "supports"]
    for fold, seed in arm:
        ours, theirs = (
            table[identity].sort_values("episode").astype(str) for table in (arm[fold, seed], baseline[fold, seed])
        )
        if not np.array_equal(ours.to_numpy(), theirs.to_numpy()):
            raise UserError(
                f"a paired comparison needs identical episodes, but those of fold {fold}, random seed {seed} differ; "
                f"test both arms on the same episode file"
            )
