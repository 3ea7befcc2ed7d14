"""Metrics against scikit-learn's Jaccard score."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import jaccard_score

from asgnet import metrics
from asgnet.rng import generator


@pytest.fixture
def masks() -> tuple[np.ndarray, np.ndarray]:
    rng = generator(0, "test-metrics")
    target = rng.choice([0, 1, 255], size=(6, 17, 25), p=[0.5, 0.4, 0.1])
    return rng.integers(0, 2, target.shape), target


def test_counts_agree_with_sklearn_where_the_target_is_known(masks):
    prediction, target = masks
    counts = metrics.intersection_union(torch.tensor(prediction), torch.tensor(target, dtype=torch.uint8))
    assert counts.dtype == torch.int64
    assert counts.shape == (6, 4)
    for one, p, t in zip(counts.tolist(), prediction, target, strict=True):
        known = t != 255
        assert one[0] / one[1] == pytest.approx(jaccard_score(t[known], p[known]))
        assert one[2] / one[3] == pytest.approx(jaccard_score(t[known], p[known], pos_label=0))


def test_iou_is_summed_over_episodes_then_divided(masks):
    prediction, target = masks
    counts = metrics.intersection_union(torch.tensor(prediction), torch.tensor(target)).numpy()
    classes = np.array([3, 7, 3, 7, 7, 3])
    episodes = pd.DataFrame(counts, columns=metrics.COUNTS).assign(**{"class": classes})
    known = target != 255
    expected = {}
    for label in (3, 7):
        rows = (classes == label)[:, None, None] & known
        expected[label] = 100 * jaccard_score(target[rows], prediction[rows])
    assert metrics.class_iou(episodes).to_dict() == pytest.approx(expected)
    assert metrics.miou(episodes) == pytest.approx(np.mean(list(expected.values())))
    both = jaccard_score(target[known], prediction[known], average=None)
    assert metrics.fb_iou(episodes) == pytest.approx(100 * both.mean())


def test_a_frame_of_ignored_pixels_counts_nothing():
    counts = metrics.intersection_union(torch.ones(1, 4, 4), torch.full((1, 4, 4), 255))
    assert counts.tolist() == [[0, 0, 0, 0]]


def test_a_class_without_pixels_is_left_out_of_the_mean():
    sums = np.array([[[5, 10, 1, 2], [0, 0, 0, 0]], [[5, 10, 1, 2], [1, 10, 1, 2]]])
    assert metrics.miou_of_sums(sums) == pytest.approx([50, 30])
