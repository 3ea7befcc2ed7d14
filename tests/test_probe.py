"""The linear classifier of an episode: what ridge regression promises, and what its scores mean."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asgnet.probe import KNOWN, apart, probe
from asgnet.rng import torch_generator

NONE = torch.zeros(0, 7)  # known classes


def episode(index: int, count: int = 30, channels: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cells (2, n, D), shares (2, n) and queries (2, D, 11), all random."""
    rng = torch_generator(0, "test-probe", index)
    cells = torch.randn(2, count, channels, generator=rng)
    return cells, torch.rand(2, count, generator=rng), torch.randn(2, channels, 11, generator=rng)


@settings(deadline=None)
@given(index=st.integers(0, 10**6), count=st.integers(3, 40), classes=st.integers(0, 4), ridge=st.sampled_from([2, 16]))
def test_it_is_ridge_regression_solved_for_the_channels(index, count, classes, ridge):
    cells, share, query = episode(index, count)
    known = torch.randn(classes, 7, generator=torch_generator(0, "test-probe-known", index))
    found = probe(query, cells, share, torch.cat([known, torch.zeros(2, 7)]), ridge)
    for k in range(2):
        x, t, q = cells[k].double(), share[k].double(), query[k].double()
        others = known.double()
        if classes:
            nearest = torch.nn.functional.cosine_similarity(others, (t @ x)[None]).argmax()
            others = others[[c for c in range(classes) if c != nearest]]
        behind = KNOWN if len(others) else 0.0
        x, t = torch.cat([x, others]), torch.cat([t, torch.zeros(len(others)).double()])
        thing, rest = t / t.sum(), 1 - t
        rest[:count] *= (1 - behind) / rest[:count].sum()
        rest[count:] *= behind / max(len(others), 1)
        weights, target = (thing + rest) / 2, 2 * t - 1
        centred = x - weights @ x
        matrix = centred.T @ (weights[:, None] * centred)
        matrix = matrix + ridge * matrix.diagonal().mean() * torch.eye(len(matrix))
        normal = torch.linalg.solve(matrix, centred.T @ (weights * (target - weights @ target)))
        gap = (thing - rest) @ (centred @ normal)
        torch.testing.assert_close(found[k].double(), normal @ (q - (weights @ x)[:, None]) / gap, rtol=1e-3, atol=1e-3)


def test_products_that_are_known_change_nothing():
    cells, share, query = episode(2)
    known = torch.randn(3, 7, generator=torch_generator(0, "test-probe-known"))
    given_ = probe(query, cells, share, known, products=cells @ cells.mT)
    torch.testing.assert_close(given_, probe(query, cells, share, known))


def test_a_known_class_is_background_unless_the_object_resembles_it():
    """A query cell of a known class that no support shows."""
    share = (torch.arange(40) < 10).float()[None]
    noise = 0.1 * torch.randn(1, 40, 3, generator=torch_generator(0, "test-probe-class"))
    cells = noise + torch.stack([share, 1 - share, torch.zeros_like(share)], 2)
    known = torch.tensor([[1.0, 0.0, 0.1], [0.7, 0.0, 1.0]])  # the object's own class, and one of which it has a part
    query = torch.tensor([[[0.7], [0.0], [1.0]]])  # (1, 3, 1): a cell of the second class
    assert probe(query, cells, share, NONE[:, :3]) > probe(query, cells, share, known)
    assert apart((share[:, None] @ cells), known).tolist() == [[0, 1]]
    alone = probe(query, cells, share, known[:1])
    torch.testing.assert_close(alone, probe(query, cells, share, NONE[:, :3]))


def test_known_classes_weigh_the_same_but_for_the_one_that_is_left_out():
    known = torch.cat([torch.eye(4), torch.zeros(3, 4)])
    objects = torch.tensor([[[0.1, 0.9, 0.0, 0.0]], [[0.0, 0.0, 0.0, 1.0]]])
    third = 1 / 3
    expected = torch.tensor([[third, 0, third, third, 0, 0, 0], [third, third, third, 0, 0, 0, 0]])
    torch.testing.assert_close(apart(objects, known), expected)


def test_object_and_background_lie_1_apart_around_0():
    cells, share, _ = episode(0)
    scores = probe(cells.mT, cells, share, NONE)  # (2, n), of the supports themselves
    thing = (scores * share).sum(1) / share.sum(1)
    rest = (scores * (1 - share)).sum(1) / (1 - share).sum(1)
    torch.testing.assert_close(thing, torch.full((2,), 0.5))
    torch.testing.assert_close(rest, torch.full((2,), -0.5))


def test_it_tells_by_what_sets_the_object_apart():
    """Object and background share a strong first channel, which an average's cosine would follow."""
    rng = torch_generator(0, "test-probe-apart")
    strong = 5 + torch.randn(1, 40, 1, generator=rng)
    share = (torch.arange(40) < 10).float()[None]
    cells = torch.cat([strong, share[..., None] - 0.5 + 0.05 * torch.randn(1, 40, 1, generator=rng)], 2)
    query = torch.tensor([[[9.0, 1.0], [-0.5, 0.5]]])  # (1, 2, 2): a bright background cell, a dark one of the object
    background, thing = probe(query, cells, share, NONE[:, :2])[0].tolist()
    assert background < 0 < thing


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_without_an_object_or_a_background_all_scores_are_0(share):
    cells, _, query = episode(1)
    scores = probe(query, cells, torch.full((2, 30), share), NONE)
    torch.testing.assert_close(scores, torch.zeros(2, 11), atol=1e-3, rtol=0)


def test_large_episodes_are_solved_together_on_several_threads():
    rng, threads = torch_generator(0, "test-probe-large"), torch.get_num_threads()
    cells, share = torch.randn(5, 600, 640, generator=rng), torch.rand(5, 600, generator=rng)
    torch.set_num_threads(2)
    try:
        together = probe(cells.mT, cells, share, torch.zeros(0, 640))
    finally:
        torch.set_num_threads(threads)
    alone = torch.cat(
        [probe(c[None].mT, c[None], s[None], torch.zeros(0, 640)) for c, s in zip(cells, share, strict=True)]
    )
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)
