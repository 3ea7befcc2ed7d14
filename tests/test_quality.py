"""Superpixel quality against hand counts, loops over cells and pairs, and scikit-image.

Run: pytest tests/test_quality.py
"""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import contingency_table

from asgnet.quality import apart, quality
from asgnet.rng import generator


def by_loops(label: np.ndarray, parts: np.ndarray) -> dict[str, float]:
    """The definitions, cell by cell and pair by pair."""
    pairs = [(s, p) for s, p in zip(label.flat, parts.flat, strict=True) if s >= 0 and p > 0]
    right = leaked = 0
    for superpixel in {s for s, _ in pairs}:
        own = [p for s, p in pairs if s == superpixel]
        right += max(own.count(part) for part in own)
        leaked += sum(min(own.count(part), len(own) - own.count(part)) for part in set(own))
    together = [(a[0] == b[0], a[1] == b[1]) for a, b in combinations(pairs, 2)]
    same, by_label, by_part = (sum(f) for f in ([a and b for a, b in together], *zip(*together, strict=True)))
    expected = by_label * by_part / len(together)
    best = (by_label + by_part) / 2
    ari = 1.0 if best == expected else (same - expected) / (best - expected)
    return {"asa": 100 * right / len(pairs), "ue": 100 * leaked / len(pairs), "ari": ari}


def test_by_hand():
    parts = np.array([[1, 1, 1, 0], [2, 2, 2, 3]])
    label = np.array([[0, 0, 1, 1], [1, 1, 4, -1]])
    # Known: 6 cells. Superpixel 0: part 1 twice; 1: part 1 once, part 2 twice; 4: part 2 once.
    # Of the 15 pairs 2 share both, 1 + 3 their superpixel, 3 + 3 their part: expected 4 * 6 / 15, at best 5.
    assert quality(label, parts) == pytest.approx({"asa": 500 / 6, "ue": 200 / 6, "ari": (2 - 1.6) / (5 - 1.6)})


@settings(max_examples=60, deadline=None)
@given(
    label=arrays(np.int64, (3, 5), elements=st.integers(-1, 3)),
    parts=arrays(np.int64, (3, 5), elements=st.integers(0, 3)),
)
def test_agrees_with_the_definitions(label: np.ndarray, parts: np.ndarray):
    label[0, :2], parts[0, :2] = 0, 1  # two known cells at least
    assert quality(label, parts) == pytest.approx(by_loops(label, parts))


def test_agrees_with_the_contingency_table_of_scikit_image():
    rng = generator(0, "test-quality")
    label, parts = rng.integers(0, 5, (20, 20)), rng.integers(0, 4, (20, 20))
    table = contingency_table(parts, label, ignore_labels=[0], normalize=True).toarray()  # in shares of the known cells
    assert quality(label, parts)["asa"] == pytest.approx(100 * table.max(0).sum())


def test_names_of_superpixels_and_cells_outside_change_nothing():
    rng = generator(1, "test-quality")
    label, parts = rng.integers(0, 4, (9, 9)), rng.integers(0, 4, (9, 9))
    renamed, other = np.array([7, 2, 9, 0])[label], np.where(parts == 3, 8, parts)
    assert quality(renamed, other) == pytest.approx(quality(label, parts))
    label[parts == 0] = -1
    assert quality(label, parts) == pytest.approx(quality(renamed, parts))


def test_perfect_refined_and_single_superpixels():
    parts = np.repeat([[1, 1, 2, 2]], 4, axis=0)
    assert quality(parts - 1, parts) == pytest.approx({"asa": 100, "ue": 0, "ari": 1})
    refined = quality(np.arange(16).reshape(4, 4), parts)
    assert refined == pytest.approx({"asa": 100, "ue": 0, "ari": 0})
    assert quality(np.zeros_like(parts), parts) == pytest.approx({"asa": 50, "ue": 100, "ari": 0})


def test_nothing_known_is_nan():
    parts = np.array([[0, 0], [1, 1]])
    assert all(np.isnan(value) for value in quality(np.array([[0, 0], [-1, -1]]), parts).values())
    with pytest.raises(ValueError, match=r"\(2, 2\) and parts \(2, 3\)"):
        quality(parts, np.ones((2, 3), int))


def test_prototypes_apart_by_hand():
    prototypes = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]], [[1.0, 1.0], [2.0, 2.0], [5.0, 0.0]]])
    valid = torch.tensor([[True, True, True], [True, True, False]])
    torch.testing.assert_close(apart(prototypes, valid), torch.tensor([(1 + 2 + 1) / 3, 0.0]))
    assert apart(prototypes[:1], torch.tensor([[False, True, False]])).isnan().all()
