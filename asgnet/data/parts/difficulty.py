"""How far single pixels' colours go: a yardstick for how much the dataset asks of features.

For every class, query images are segmented by a Bayes classifier on smoothed histograms of RGB colours, fitted to the
foreground and background pixels of support images, and scored at its best threshold (chosen on the queries themselves,
in the classifier's favour). The gain over calling every pixel foreground says what colour alone gives away.
"""

from itertools import pairwise

import numpy as np
from scipy import ndimage

from asgnet.data.parts.classes import CLASSES
from asgnet.data.parts.render import Sample, main_class, render

_BINS = 12  # per channel
_THRESHOLDS = np.linspace(-6, 4, 61)  # log likelihood ratio; the lowest calls everything foreground


def _histogram(pixels: np.ndarray) -> np.ndarray:
    """Smoothed colour density of pixels uint8 (n, 3): (_BINS, _BINS, _BINS)."""
    bins = (pixels.astype(np.int32) * _BINS // 256).T
    counts = np.bincount(np.ravel_multi_index(tuple(bins), (_BINS,) * 3), minlength=_BINS**3).astype(float)
    density = ndimage.gaussian_filter(counts.reshape((_BINS,) * 3) / max(len(pixels), 1), 0.8)
    return density + 1e-5


def _ratio(supports: list[tuple[Sample, int]]) -> np.ndarray:
    """Log likelihood ratio foreground : background of every colour bin, over (image, class id) supports."""
    foreground = np.concatenate([sample.image[sample.mask == label] for sample, label in supports])
    background = np.concatenate([s.image[(s.mask != label) & (s.mask != 255)] for s, label in supports])
    return np.log(_histogram(foreground) / _histogram(background))


def _score(ratio: np.ndarray, query: Sample, label: int) -> np.ndarray:
    """(thresholds, 2): intersection and union of the foreground, without the pixels of value 255."""
    known = query.mask != 255
    bins = (query.image[known].astype(np.int32) * _BINS // 256).T
    scores, truth = ratio[tuple(bins)], query.mask[known] == label
    chosen = scores[None] > _THRESHOLDS[:, None]
    chosen[0] = True
    return np.stack([(chosen & truth).sum(axis=1), (chosen | truth).sum(axis=1)], axis=1)


def colour_miou(seed: int, per_class: int = 10, pool: int = 60, size: int = 129) -> dict[str, float]:
    """mIoU in per cent over ``per_class`` test queries a class of

    - ``all_foreground``;
    - ``support``: the classifier fitted to one other test image of the class, as in a 1-shot episode;
    - ``pooled``: fitted to the main objects of ``pool`` training images of all classes, which asks whether objects as
      such differ in colour from what is around them.
    """
    pooled = _ratio([(render("train", index, seed, size), main_class(index)) for index in range(pool)])
    totals = {name: np.zeros((len(CLASSES), len(_THRESHOLDS), 2)) for name in ("support", "pooled")}
    for label in range(1, len(CLASSES) + 1):
        samples = [render("test", k * len(CLASSES) + label - 1, seed, size) for k in range(per_class + 1)]
        for support, query in pairwise(samples):
            totals["support"][label - 1] += _score(_ratio([(support, label)]), query, label)
            totals["pooled"][label - 1] += _score(pooled, query, label)
    miou = {name: 100 * (total[..., 0] / total[..., 1]).mean(axis=0) for name, total in totals.items()}
    best = {name: float(values.max()) for name, values in miou.items()}
    return {"all_foreground": float(miou["support"][0]), **best}
