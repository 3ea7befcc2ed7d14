"""The linear classifier of an episode: what ridge regression promises, and what its scores mean."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asgnet.probe import RIDGE, probe
from asgnet.rng import torch_generator


def episode(index: int, count: int = 30, channels: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cells (2, n, D), shares (2, n) and queries (2, D, 11), all random."""
    rng = torch_generator(0, "test-probe", index)
    cells = torch.randn(2, count, channels, generator=rng)
    return cells, torch.rand(2, count, generator=rng), torch.randn(2, channels, 11, generator=rng)


@settings(deadline=None)
@given(index=st.integers(0, 10**6), count=st.integers(3, 40))
def test_it_is_ridge_regression_solved_for_the_channels(index, count):
    cells, share, query = episode(index, count)
    found = probe(query, cells, share)
    for k in range(2):
        x, t, q = cells[k].double(), share[k].double(), query[k].double()
        thing, rest = t / t.sum(), (1 - t) / (1 - t).sum()
        weights, target = (thing + rest) / 2, 2 * t - 1
        centred = x - weights @ x
        matrix = centred.T @ (weights[:, None] * centred)
        ridge = RIDGE * matrix.diagonal().mean() * torch.eye(len(matrix))
        normal = torch.linalg.solve(matrix + ridge, centred.T @ (weights * (target - weights @ target)))
        gap = (thing - rest) @ (centred @ normal)
        torch.testing.assert_close(found[k].double(), normal @ (q - (weights @ x)[:, None]) / gap, rtol=1e-3, atol=1e-3)


def test_products_that_are_known_change_nothing():
    cells, share, query = episode(2)
    torch.testing.assert_close(probe(query, cells, share, cells @ cells.mT), probe(query, cells, share))


def test_object_and_background_lie_1_apart_around_0():
    cells, share, _ = episode(0)
    scores = probe(cells.mT, cells, share)  # (2, n), of the supports themselves
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
    background, thing = probe(query, cells, share)[0].tolist()
    assert background < 0 < thing


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_without_an_object_or_a_background_all_scores_are_0(share):
    cells, _, query = episode(1)
    scores = probe(query, cells, torch.full((2, 30), share))
    torch.testing.assert_close(scores, torch.zeros(2, 11), atol=1e-3, rtol=0)


def test_large_episodes_are_solved_together_on_several_threads():
    rng, threads = torch_generator(0, "test-probe-large"), torch.get_num_threads()
    cells, share = torch.randn(5, 600, 640, generator=rng), torch.rand(5, 600, generator=rng)
    torch.set_num_threads(2)
    try:
        together = probe(cells.mT, cells, share)
    finally:
        torch.set_num_threads(threads)
    alone = torch.cat([probe(c[None].mT, c[None], s[None]) for c, s in zip(cells, share, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)
