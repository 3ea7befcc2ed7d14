"""The threshold of an episode, read off its supports."""

from dataclasses import replace

import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from asgnet.calibration import Cut, among, calibrate, nearest, parting
from asgnet.errors import UserError
from asgnet.fusion import FUSIONS, fuse
from asgnet.head import Head, Voice, margin
from asgnet.model import ASGNet, cut_at
from asgnet.rng import torch_generator
from asgnet.sections import ModelConfig

CONFIG = ModelConfig(backbone="lite0", width=8, max_seeds=2, support_recall=0.8)


def made(config=CONFIG, episodes=3, shots=2):
    """A head with random weights, and supports (B, K, 8, 9, 9) with masks (B, K, 65, 65) and their prototypes."""
    rng = torch_generator(0, "calibration")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = Head(config, sources=(8,)).eval()
    supports = torch.randn(episodes, shots, 8, 9, 9, generator=rng)
    masks = torch.zeros(episodes, shots, 65, 65, dtype=torch.uint8)
    masks[:, :, 10:50, 20:60] = 1
    masks[:, :, :9] = 255
    prototypes, valid, _ = head.prototypes(supports.flatten(0, 1), masks.flatten(0, 1))
    return head, supports, masks, *(x.unflatten(0, (episodes, shots)) for x in (prototypes, valid))


def thresholds(*given):
    return calibrate(*given).at


def of_one(head, query, mask, pool, valid):
    """By hand, for one support."""
    margins = margin(head.decode(query[None], pool[None], valid[None])[0], (9, 9))[0]
    return margins[mask[::8, ::8] == 1].quantile(0.2)


@torch.no_grad()
def test_a_single_support_is_predicted_from_itself():
    head, supports, masks, prototypes, valid = made(shots=1)
    found = thresholds(head, supports, masks, prototypes, valid)
    for k in range(3):
        expected = of_one(head, supports[k, 0], masks[k, 0], prototypes[k, 0], valid[k, 0])
        torch.testing.assert_close(found[k], expected.clamp(max=0))


@torch.no_grad()
@pytest.mark.parametrize("at_a_time", [1, 7])
def test_how_many_supports_are_predicted_at_a_time_changes_nothing(monkeypatch, at_a_time):
    given = made(shots=4)
    expected = thresholds(*given)
    assert expected.abs().max() > 0
    monkeypatch.setattr("asgnet.calibration.TOGETHER", at_a_time)
    torch.testing.assert_close(thresholds(*given), expected)


@torch.no_grad()
def test_several_supports_are_predicted_from_the_others():
    head, supports, masks, prototypes, valid = made(shots=3)
    found = thresholds(head, supports, masks, prototypes, valid)
    for k in range(3):
        each = []
        for shot in range(3):
            others = [other for other in range(3) if other != shot]
            pool, there = prototypes[k, others].flatten(0, 1), valid[k, others].flatten(0, 1)
            each.append(of_one(head, supports[k, shot], masks[k, shot], pool, there))
        torch.testing.assert_close(found[k], torch.stack(each).mean().clamp(max=0))


def test_products_among_the_chosen_supports():
    cells = torch.randn(2, 4, 3, 5, generator=torch_generator(3, "calibration"))  # (B, K, n, D)
    products = torch.einsum("bknd,bjmd->bknjm", cells, cells)
    chosen = torch.tensor([[0, 2, 3], [3, 1, 0]])
    found = among(products, chosen).unflatten(0, (2, 2))  # (B, k, J n, J n)
    for b in range(2):
        for k, those in enumerate(chosen):
            rows = cells[b, those].flatten(0, 1)
            torch.testing.assert_close(found[b, k], rows @ rows.T)


@torch.no_grad()
@pytest.mark.parametrize("recall", [0.3, 0.6, 0.9])
def test_it_finds_as_much_of_the_support_as_asked_for(recall):
    head, supports, masks, prototypes, valid = made(replace(CONFIG, support_recall=recall), shots=1)
    cut = thresholds(head, supports, masks, prototypes, valid)
    margins = margin(head.decode(supports[:, 0], prototypes[:, 0], valid[:, 0])[0], (9, 9))
    inside = masks[:, 0, ::8, ::8] == 1
    share = ((margins > cut[:, None, None]) & inside).sum((1, 2)) / inside.sum((1, 2))
    assert (share >= recall - 1 / inside.sum((1, 2))).all()
    assert (cut <= 0).all()


def test_supports_without_a_cell_of_the_object_say_nothing():
    head, supports, masks, prototypes, valid = made()
    alone = thresholds(head, supports, masks, prototypes, valid)
    masks[0] = 0
    masks[1, 0] = 0
    found = thresholds(head, supports, masks, prototypes, valid)
    assert found[0] == 0
    assert found.isfinite().all()
    assert found[2] == alone[2]


def test_zero_is_the_default():
    assert ModelConfig().support_recall == 0
    head, *rest = made(replace(CONFIG, support_recall=0.0))
    assert calibrate(head, *rest) is None


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_is_fused_is_cut_there(fusion):
    head, supports, _, prototypes, valid = made()
    query, at = supports[:, 0], torch.tensor([-0.5, 0.0, -2.0])
    plain = fuse(head, fusion, query, prototypes, valid, None, (65, 65))
    found = fuse(head, fusion, query, prototypes, valid, None, (65, 65), Cut(torch.ones(3, 1), at))
    torch.testing.assert_close(found[1], plain[1])
    if fusion != "votes":
        torch.testing.assert_close(found, plain - at[:, None, None])
    assert (found[2] > 0).sum() >= (plain[2] > 0).sum()


def test_masks_at_cells_are_those_of_the_pixels_under_them():
    masks = torch.arange(17 * 17).view(1, 17, 17)
    assert nearest(masks, (3, 3)).tolist() == masks[:, ::8, ::8].tolist()


@torch.no_grad()
def test_a_whole_network_cuts_there_too():
    config = replace(CONFIG, width=4)
    rng = torch_generator(1, "calibration")
    x, s_x = torch.randn(2, 3, 33, 33, generator=rng), torch.randn(2, 1, 3, 33, 33, generator=rng)
    s_y = torch.zeros(2, 1, 33, 33)
    s_y[..., 4:24, 8:30] = 1
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = ASGNet(config).eval()
    found = network(x, s_x, s_y)
    network.head.config = replace(config, support_recall=0.0)
    logits = network(x, s_x, s_y)
    network.head.config = config
    reduced = network.head.reduce(network.encode(s_x[:, 0]))
    prototypes, valid, _ = network.head.prototypes(reduced, s_y[:, 0])
    cut = thresholds(network.head, reduced[:, None], s_y, prototypes[:, None], valid[:, None])
    assert (cut < 0).any()
    torch.testing.assert_close(found, cut_at(logits, cut))
    assert ((found[:, 1] > found[:, 0]).sum((1, 2)) >= (logits[:, 1] > logits[:, 0]).sum((1, 2))).all()


@pytest.mark.parametrize("name", ["support_recall", "bounded"])
def test_what_is_no_share_is_refused(name):
    with pytest.raises(UserError, match=rf"model\.{name}: 1 is no share"):
        ModelConfig(**{name: 1})


class Told(Head):
    """Voices that say what is given for each support, (V, K, 9, 9), the last of weight 0; which support they are asked
    about stands in its features."""

    def __init__(self, margins):
        super().__init__(CONFIG, sources=(8,))
        self.margins = margins

    def voices(self, query, prototypes, valid, products=None):
        shots = query[:, 0, 0, 0].long()
        weights = [1.0] * (len(self.margins) - 1) + [0.0]
        return [
            Voice(lambda *_, m=m: (torch.stack([torch.zeros_like(m[shots]), m[shots]], 1), []), *given, 0.0, weight)
            for m, weight in zip(self.margins, weights, strict=True)
            for given in [(query, prototypes, valid)]
        ]


def asked(margins, inside):
    """Calibration of one episode whose supports (K, 9, 9) have the object ``inside``."""
    shots = len(inside)
    supports = torch.arange(shots).view(1, shots, 1, 1, 1).expand(1, shots, 8, 9, 9).float()
    masks = torch.zeros(1, shots, 65, 65, dtype=torch.uint8)
    masks[0, :, ::8, ::8] = inside.to(torch.uint8)
    cut = calibrate(Told(margins), supports, masks, torch.zeros(1, shots, 2, 8), torch.ones(1, shots, 2, dtype=bool))
    return cut.weights[0], cut.at[0]


def objects(shots):
    rng = torch_generator(2, "calibration")
    inside = torch.zeros(shots, 9, 9, dtype=torch.bool)
    inside[:, 2:6, 3:8] = True
    return inside, rng


def test_where_a_silent_voice_finds_the_supports_better_it_is_heard():
    inside, rng = objects(3)
    misled = torch.randn(2, 3, 9, 9, generator=rng)
    right = 0.1 * inside + 0.01 * torch.randn(3, 9, 9, generator=rng)
    weights, at = asked(torch.stack([*misled, right]), inside)
    assert weights[2] * 0.1 > 10 * weights[:2].abs().max()
    found = torch.einsum("v,vkhw->khw", weights, torch.stack([*misled, right])) > at
    assert not (found & ~inside).any()
    assert found.sum() == 48  # 80 % of the 60 cells, as asked for


def test_where_the_others_find_the_supports_as_well_it_stays_silent():
    inside, rng = objects(3)
    right = (10 * inside - 5.0).expand(2, 3, 9, 9)
    misled = torch.randn(1, 3, 9, 9, generator=rng)
    weights, at = asked(torch.cat([right, misled]), inside)
    assert weights.tolist() == [1, 1, 0]
    assert at == 0


def test_what_finds_most_of_the_supports_keeps_its_weights():
    inside, rng = objects(3)
    right = 10 * inside - 5.0 + torch.rand(3, 9, 9, generator=rng)
    nearly = right.clone()
    nearly[:, 7] = 5.0  # beside the object, where the last voice knows better
    assert asked(torch.stack([nearly, nearly, right]), inside)[0].tolist() == [1, 1, 0]
    nearly[:, 6:] = 5.0  # more than the object itself
    weights, _ = asked(torch.stack([nearly, nearly, right]), inside)
    assert weights[2] > weights[0]


def test_a_single_support_moves_no_weight():
    inside, rng = objects(1)
    misled = torch.randn(2, 1, 9, 9, generator=rng)
    weights, _ = asked(torch.stack([*misled, inside.float()]), inside)
    assert weights.tolist() == [1, 1, 0]


@pytest.mark.parametrize("value", [False, True])
def test_supports_of_one_kind_leave_numbers(value):
    _, rng = objects(3)
    weights, at = asked(torch.randn(3, 3, 9, 9, generator=rng), torch.full((3, 9, 9), value))
    assert weights.isfinite().all()
    assert at.isfinite()


def test_parting_is_a_discriminant_that_weighs_object_and_rest_the_same():
    rng = torch_generator(3, "calibration")
    inside = torch.rand(2, 400, generator=rng) < 0.1
    margins = torch.randn(2, 3, 400, generator=rng) + torch.tensor([2.0, 0.0, -1.0])[:, None] * inside[:, None]
    weights = parting(margins, inside)
    for one, cells, there in zip(weights, margins, inside, strict=True):
        discriminant = LinearDiscriminantAnalysis(solver="lsqr", priors=[0.5, 0.5])
        # the same number of cells on both sides: what balances them
        balanced = torch.cat([cells[:, ~there], cells[:, there].repeat(1, int((~there).sum() / there.sum()))], 1)
        labels = torch.arange(balanced.shape[1]) >= int((~there).sum())
        expected = torch.tensor(discriminant.fit(balanced.T.numpy(), labels.numpy()).coef_[0])
        assert torch.cosine_similarity(one, expected.float(), dim=0) > 0.99
        assert one[2] < 0 < one[0]
        torch.testing.assert_close(parting(cells[None], there[None])[0], one)


@torch.no_grad()
def test_what_a_voice_is_flattered_by_counts_for_a_single_support_only(monkeypatch):
    for shots, less in ((1, 0.75), (2, 0.0)):
        head, *given_ = made(shots=shots)
        before, own = thresholds(head, *given_), head.voices
        monkeypatch.setattr(head, "voices", lambda *a, own=own: [v._replace(flattered=0.75) for v in own(*a)])
        torch.testing.assert_close(thresholds(head, *given_), before - less)
