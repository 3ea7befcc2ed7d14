"""GPA. Run: pytest tests/test_allocation.py"""

import pytest
import torch

from asgnet.allocation import expand, gpa
from asgnet.rng import torch_generator

QUERY = torch.tensor([[[[3.0, 0.0]], [[4.0, -2.0]]]])  # (1, 2, 1, 2): cells (3, 4) and (0, -2)


def test_by_hand():
    prototypes = torch.tensor([[[2.0, 0.0], [0.0, 5.0], [0.0, -1.0]]])
    guide, probability, index = gpa(QUERY, prototypes, torch.tensor([[True, True, False]]))
    # cosines: cell 0: 0.6, 0.8; cell 1: 0, -1
    assert index.tolist() == [[[1, 0]]]
    assert guide.tolist() == [[[[0.0, 2.0]], [[5.0, 0.0]]]]
    torch.testing.assert_close(probability, torch.tensor([[[[1.4, -1.0]]]]))
    guide, probability, index = gpa(QUERY, prototypes, torch.tensor([[True, True, True]]))
    assert index.tolist() == [[[1, 2]]]
    torch.testing.assert_close(probability, torch.tensor([[[[0.6, 0.0]]]]))


def test_prototypes_that_are_not_there_change_nothing():
    rng = torch_generator(0, "gpa")
    query, prototypes = torch.randn(2, 8, 5, 7, generator=rng), torch.randn(2, 6, 8, generator=rng)
    valid = torch.tensor([[True, False, True, False, False, True], [False, True, False, False, False, False]])
    first = gpa(query, prototypes, valid)
    second = gpa(query, prototypes.masked_fill(~valid[..., None], 1e3), valid)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    assert (first[2][1] == 1).all()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_as_by_repeating_the_query_for_every_prototype(memory_format):
    rng = torch_generator(4, "gpa")
    query, prototypes = torch.randn(3, 16, 9, 7, generator=rng), torch.randn(3, 5, 16, generator=rng)
    valid = torch.rand(3, 5, generator=rng) < 0.6
    valid[0] = True
    guide, probability, index = gpa(query.contiguous(memory_format=memory_format), prototypes, valid)
    for b in range(3):
        pool = prototypes[b][valid[b]]  # (m, 16)
        cosines = torch.nn.functional.cosine_similarity(query[b][None], pool[:, :, None, None])  # (m, 9, 7)
        torch.testing.assert_close(probability[b, 0], cosines.sum(0))
        assert torch.equal(guide[b], pool[cosines.argmax(0)].movedim(-1, 0))
        assert torch.equal(index[b], valid[b].nonzero()[:, 0][cosines.argmax(0)])


def test_no_prototype_at_all_gives_zeros():
    guide, probability, _ = gpa(QUERY, torch.full((1, 2, 2), 3.0), torch.zeros(1, 2, dtype=torch.bool))
    assert (guide == 0).all()
    assert (probability == 0).all()


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_gradient_reaches_the_query(scale):
    query = (QUERY * scale).requires_grad_()
    _, probability, _ = gpa(query, torch.tensor([[[2.0, 1.0]]]), torch.tensor([[True]]))
    probability.sum().backward()
    assert query.grad.isfinite().all()
    assert (query.grad != 0).any()


def test_float32_under_autocast():
    rng = torch_generator(1, "gpa")
    query, prototypes = torch.randn(1, 8, 5, 5, generator=rng), torch.randn(1, 3, 8, generator=rng)
    valid = torch.ones(1, 3, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        inside = gpa(query, prototypes, valid)
    for a, b in zip(inside, gpa(query, prototypes, valid), strict=True):
        assert torch.equal(a, b)


def test_the_mean_does_not_grow_with_the_number_of_prototypes():
    rng = torch_generator(2, "gpa")
    query, prototypes = torch.randn(2, 8, 5, 5, generator=rng), torch.randn(2, 4, 8, generator=rng)
    valid = torch.tensor([[True, True, False, True], [False] * 4])
    guide, total, index = gpa(query, prototypes, valid)
    guide_, mean, index_ = gpa(query, prototypes, valid, probability="mean")
    assert torch.equal(guide, guide_)
    assert torch.equal(index, index_)
    torch.testing.assert_close(mean[0], total[0] / 3)
    assert (mean[1] == 0).all()
    with pytest.raises(ValueError, match="'median'"):
        gpa(query, prototypes, valid, probability="median")


def test_one_prototype_makes_gpa_equal_to_expanding_it():
    rng = torch_generator(3, "gpa")
    query, prototypes = torch.randn(2, 8, 5, 5, generator=rng), torch.randn(2, 3, 8, generator=rng)
    one = torch.tensor([[False, True, False], [True, False, False]])
    mean, valid = expand(prototypes, one)
    torch.testing.assert_close(mean[:, 0], prototypes[one])
    for ours, theirs in zip(gpa(query, mean, valid)[:2], gpa(query, prototypes, one)[:2], strict=True):
        torch.testing.assert_close(ours, theirs)
    several = torch.tensor([[True, True, False], [False, False, False]])
    mean, valid = expand(prototypes, several)
    torch.testing.assert_close(mean[0, 0], prototypes[0, :2].mean(0))
    assert valid.tolist() == [[True], [False]]
    guide, *_ = gpa(query, mean, valid)
    assert torch.equal(guide[0], mean[0, 0][:, None, None].expand(-1, 5, 5))
    assert (guide[1] == 0).all()
