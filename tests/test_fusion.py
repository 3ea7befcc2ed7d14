"""Ways to make one prediction of several supports. Run: pytest tests/test_fusion.py"""

import pytest
import torch

from asgnet.fusion import FUSIONS, fuse
from asgnet.head import Head
from asgnet.rng import torch_generator
from asgnet.sections import ModelConfig


@pytest.fixture(scope="module")
@torch.no_grad()
def head() -> Head:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = Head(ModelConfig(backbone="lite0", width=8), (4, 4)).eval()
    query, prototypes, valid = episodes(4)
    margins = torch.cat(
        [fuse(head, "pool", query, prototypes[:, [k]], valid[:, [k]], None, (33, 33)) for k in range(4)]
    )
    head.classifier[-1].bias[1] -= margins.median()  # so that supports disagree
    return head


def episodes(shots: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch_generator(shots, "fusion")
    valid = torch.rand(2, shots, 3, generator=rng) > 0.4
    valid[:, :, 0] = True
    return torch.randn(2, 8, 5, 5, generator=rng), torch.randn(2, shots, 3, 8, generator=rng), valid


@torch.no_grad()
def test_with_one_support_all_ways_agree(head):
    query, prototypes, valid = episodes(1)
    masks = []
    for fusion in FUSIONS:
        margins = fuse(head, fusion, query, prototypes, valid, None, (33, 33))
        assert margins.shape == (2, 33, 33)
        masks.append(margins > 0)
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[0], masks[2])


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_order_of_supports_does_not_matter_and_repeats_change_no_average(head, fusion):
    query, prototypes, valid = episodes(3)
    first = fuse(head, fusion, query, prototypes, valid, None, (33, 33))
    order = [2, 0, 1]
    torch.testing.assert_close(fuse(head, fusion, query, prototypes[:, order], valid[:, order], None, (33, 33)), first)
    if fusion == "features":
        twice = fuse(head, fusion, query, prototypes.repeat(1, 2, 1, 1), valid.repeat(1, 2, 1), None, (33, 33))
        torch.testing.assert_close(twice, first)


@torch.no_grad()
def test_votes_are_the_majority_and_ties_go_to_the_mean_probability(head):
    query, prototypes, valid = episodes(4)
    each = [fuse(head, "pool", query, prototypes[:, [k]], valid[:, [k]], None, (33, 33)) for k in range(4)]
    votes = sum((margin > 0).int() for margin in each)  # (B, H, W)
    mean = sum(margin.sigmoid() for margin in each) / 4
    ours = fuse(head, "votes", query, prototypes, valid, None, (33, 33)) > 0
    assert ours[votes > 2].all()
    assert not ours[votes < 2].any()
    tied = (votes == 2) & ((mean - 0.5).abs() > 1e-6)
    assert tied.any()
    assert torch.equal(ours[tied], mean[tied] > 0.5)


def test_an_unknown_way_is_refused(head):
    with pytest.raises(ValueError, match="'mean'"):
        fuse(head, "mean", *episodes(1), None, (33, 33))
