"""The threshold of an episode, read off its supports."""

from dataclasses import replace

import pytest
import torch
from sklearn.linear_model import Ridge

from asgnet.calibration import RIDGE, Cut, among, calibrate, nearest, refitted
from asgnet.errors import UserError
from asgnet.fusion import FUSIONS, fuse
from asgnet.head import Decoded, Head, Voice, heard, margin
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
    found = fuse(head, fusion, query, prototypes, valid, None, (65, 65), Cut(at))
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
    """A voice that says what is given for each support, margins (K, 9, 9) and features (K, C, 9, 9); which support it
    is asked about stands in its features."""

    def __init__(self, margins, features):
        super().__init__(CONFIG, sources=(8,))
        self.told = margins, features

    def voices(self, query, prototypes, valid, products=None):
        margins, features = (each[query[:, 0, 0, 0].long()] for each in self.told)
        logits = torch.stack([torch.zeros_like(margins), margins], 1)
        return [Voice(lambda *_: Decoded(logits, [], features), query, prototypes, valid, 0.0)]


def asked(margins, features, inside):
    """Calibration of one episode whose supports (K, 9, 9) have the object ``inside``, and what it makes of them."""
    shots = len(inside)
    supports = torch.arange(shots).view(1, shots, 1, 1, 1).expand(1, shots, 8, 9, 9).float()
    masks = torch.zeros(1, shots, 65, 65, dtype=torch.uint8)
    masks[0, :, ::8, ::8] = inside.to(torch.uint8)
    head, none = Told(margins, features), (torch.zeros(1, shots, 2, 8), torch.ones(1, shots, 2, dtype=torch.bool))
    cut = calibrate(head, supports, masks, *none)
    decoded = [voice.decode() for voice in head.voices(supports[0], *none)]
    logits = heard(decoded, None if cut.layer is None else cut.layer.expand(shots, -1))
    return cut, logits[:, 1] - logits[:, 0] - cut.at


def objects(shots):
    """Where the object is, (K, 9, 9), and five features of which the last shows it faintly."""
    rng = torch_generator(2, "calibration")
    inside = torch.zeros(shots, 9, 9, dtype=torch.bool)
    inside[:, 2:6, 3:8] = True
    features = torch.randn(shots, 5, 9, 9, generator=rng)
    features[:, -1] = 0.1 * inside + 0.01 * features[:, -1]
    return inside, features


def test_where_the_margins_miss_the_supports_the_features_are_read_anew():
    inside, features = objects(3)
    misled = torch.randn(3, 9, 9, generator=torch_generator(4, "calibration"))
    cut, margins = asked(misled, features, inside)
    assert cut.layer.any()
    found = margins > 0
    before = misled > cut.at
    assert (found & inside).sum() / (found | inside).sum() > 0.1 + (before & inside).sum() / (before | inside).sum()
    torch.testing.assert_close((margins + cut.at - misled).std(), misled.std())  # both weigh the same
    alone = margins + cut.at - misled > 0
    assert (alone & inside).sum() == 48  # 80 % of the 60 cells, as asked for
    assert not (alone & ~inside).any()


def test_what_finds_the_supports_well_is_left_alone():
    inside, features = objects(3)
    cut, margins = asked(10 * inside - 5.0, features, inside)
    assert not cut.layer.any()
    torch.testing.assert_close(margins, 10 * inside - 5.0)


def test_a_single_support_draws_no_layer():
    inside, features = objects(1)
    cut, _ = asked(torch.randn(1, 9, 9, generator=torch_generator(4, "calibration")), features, inside)
    assert cut.layer is None


@pytest.mark.parametrize("value", [False, True])
def test_supports_of_one_kind_leave_numbers(value):
    _, features = objects(3)
    cut, margins = asked(torch.randn(3, 9, 9), features, torch.full((3, 9, 9), value))
    assert margins.isfinite().all()
    assert value or not cut.layer.any()


def test_a_layer_is_ridge_regression_that_weighs_object_and_rest_the_same():
    rng = torch_generator(3, "calibration")
    inside = torch.rand(2, 3, 40, generator=rng) < 0.2
    features = (
        torch.randn(2, 3, 4, 40, generator=rng) + torch.tensor([2.0, 0.0, -1.0, 0.5])[:, None] * inside[:, :, None]
    )
    features[:, :, 1] *= 7  # no feature weighs more for being large
    layer = refitted(features, inside, 0.8, torch.tensor([1.0, 3.0]))
    for one, cells, there, deviation in zip(layer, features, inside.flatten(1), (1.0, 3.0), strict=True):
        rows = cells.movedim(1, 2).flatten(0, 1)
        rows, scale = rows / rows.std(0), rows.std(0)
        weights = torch.where(there, 0.5 / there.sum(), 0.5 / (~there).sum())
        variance = (weights @ (rows - weights @ rows).square()).mean()
        ridge = Ridge(alpha=float(RIDGE * variance)).fit(rows, 2.0 * there - 1, sample_weight=weights)
        expected = torch.tensor(ridge.coef_).float() / scale
        torch.testing.assert_close(one[:-1] / one[:-1].norm(), expected / expected.norm(), atol=1e-4, rtol=1e-3)
        scores = cells.movedim(1, 2).flatten(0, 1) @ one[:-1] + one[-1]
        assert float(scores.std()) == pytest.approx(deviation, rel=1e-3)
        assert abs(float((scores[there] > 0).float().mean()) - 0.8) <= 1 / int(there.sum())


@torch.no_grad()
def test_what_a_voice_is_flattered_by_counts_for_a_single_support_only(monkeypatch):
    for shots, less in ((1, 0.75), (2, 0.0)):
        head, *given_ = made(shots=shots)
        before, own = thresholds(head, *given_), head.voices
        monkeypatch.setattr(head, "voices", lambda *a, own=own: [v._replace(flattered=0.75) for v in own(*a)])
        torch.testing.assert_close(thresholds(head, *given_), before - less)


@torch.no_grad()
def test_a_layer_is_fitted_and_read_in_float32_where_networks_compute_in_less():
    inside, features = objects(3)
    features = features + 100  # bfloat16 would round the faint one away
    misled = torch.randn(3, 9, 9, generator=torch_generator(4, "calibration"))
    cut, margins = asked(misled, features, inside)
    with torch.autocast("cpu", torch.bfloat16):
        again, same = asked(misled, features, inside)
    torch.testing.assert_close(again.layer, cut.layer)
    torch.testing.assert_close(same, margins)
