"""The heads of arms beyond the notes."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from asgnet.arms import head_class
from asgnet.arms.similarity import SIDE, spread
from asgnet.arms.together import FLATTERED
from asgnet.backbones.encoder import Features
from asgnet.calibration import calibrate
from asgnet.head import losses
from asgnet.model import ASGNet
from asgnet.probe import RIDGE, probe
from asgnet.rng import torch_generator
from asgnet.sections import ModelConfig

CONFIG = ModelConfig(backbone="lite0", head="similarity", width=8, max_seeds=2, vit="patch")
SOURCES, WIDE = (6, 10), 12  # channels of the CNN's parts and of a token


HEADS = ("similarity", "together")


def head_and_features(images=5, config=CONFIG, name="similarity"):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = head_class(name)(config, SOURCES, vit_channels=WIDE).eval()
    rng = torch_generator(0, "similarity-head")
    cnn, vit = torch.randn(images, sum(SOURCES), 17, 17, generator=rng), torch.randn(images, 17, WIDE, generator=rng)
    return head, Features(cnn=cnn, vit=vit)


def logits_of(head, features, masks):
    """One query (the first image), the others its supports."""
    reduced = head.reduce(features)
    prototypes, valid, _ = head.prototypes(reduced[1:], masks)
    return head.decode(reduced[:1], prototypes.flatten(0, 1)[None], valid.flatten(0, 1)[None])[0]


def some_masks(count):
    masks = torch.zeros(count, 129, 129, dtype=torch.uint8)
    masks[:, 30:90, 20:100] = 1
    return masks


def turned(features, rng):
    """The same features, each source turned in its own space: all similarities stay."""
    *parts, tokens = *features.cnn.split(SOURCES, 1), features.vit
    turns = [torch.linalg.qr(torch.randn(n, n, generator=rng))[0] for n in (*SOURCES, WIDE)]
    cnn = torch.cat([torch.einsum("nchw,cd->ndhw", p, t) for p, t in zip(parts, turns, strict=False)], 1)
    return Features(cnn=cnn, vit=tokens @ turns[-1])


@torch.no_grad()
def test_the_decoder_sees_nothing_but_similarities():
    head, features = head_and_features()
    found = logits_of(head, features, some_masks(4))
    again = logits_of(head, turned(features, torch_generator(1, "turn")), some_masks(4))
    torch.testing.assert_close(again, found, atol=0.01 * float(found.std()), rtol=0.01)
    other = logits_of(head, features._replace(cnn=features.cnn.flip(0)), some_masks(4))
    assert (other - found).abs().max() > 0.1 * found.std()


@torch.no_grad()
@pytest.mark.parametrize("name", HEADS)
def test_the_order_of_the_supports_changes_nothing(name):
    head, features = head_and_features(name=name)
    order = [0, 3, 1, 4, 2]
    again = logits_of(head, Features(cnn=features.cnn[order], vit=features.vit[order]), some_masks(4))
    torch.testing.assert_close(again, logits_of(head, features, some_masks(4)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_everything_that_learns_gets_a_gradient(name):
    head, features = head_and_features(name=name)
    head.train()
    reduced = head.reduce(features)
    prototypes, valid, _ = head.prototypes(reduced[1:], some_masks(4))
    logits, auxiliary, _ = head.decode(reduced[:1], prototypes.flatten(0, 1)[None], valid.flatten(0, 1)[None])
    (logits.square().mean() + sum(a.square().mean() for a in auxiliary)).backward()
    assert all(p.grad is not None for p in head.parameters())


@torch.no_grad()
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("value", [0, 1])
def test_masks_of_one_value_leave_numbers(name, value):
    head, features = head_and_features(name=name)
    assert logits_of(head, features, torch.full((4, 129, 129), value)).isfinite().all()


@torch.no_grad()
def test_the_classifier_sees_the_cells_of_all_supports():
    head, features = head_and_features(name="similarity")
    reduced, masks = head.reduce(features).float(), some_masks(4)
    prototypes, _, _ = head.prototypes(reduced[1:], masks)
    score = head.score(reduced[:1], prototypes.flatten(0, 1)[None])
    cells = F.adaptive_avg_pool2d(reduced[1:], SIDE).movedim(1, -1).flatten(0, 2)[None]  # (1, 4 SIDE^2, D)
    share = F.adaptive_avg_pool2d((masks == 1).float(), SIDE).flatten()[None]
    torch.testing.assert_close(
        score.flatten(1), probe(reduced[:1].flatten(2), cells, share, head.known, RIDGE / 4), atol=1e-4, rtol=1e-4
    )
    assert score.std() > 0


def test_spread_goes_from_0_to_1():
    values = torch.tensor([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]])
    assert spread(values).tolist() == [[0, 1, 0.5], [0, 0, 0]]


@torch.no_grad()
def test_two_voices_are_the_two_heads_by_themselves():
    both, features = head_and_features(name="together")
    own, masks = head_class("")(CONFIG, SOURCES, vit_channels=WIDE).eval(), some_masks(4)
    own.load_state_dict({k: v for k, v in both.state_dict().items() if not k.startswith("similarity.")})
    apart = logits_of(own, features, masks) + logits_of(both.similarity, features, masks)
    torch.testing.assert_close(logits_of(both, features, masks), apart, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_each_voice_has_its_own_threshold():
    config = replace(CONFIG, support_recall=0.85)
    both, features = head_and_features(config=config, name="together")
    own, masks = head_class("")(config, SOURCES, vit_channels=WIDE).eval(), some_masks(1)
    own.load_state_dict({k: v for k, v in both.state_dict().items() if not k.startswith("similarity.")})

    def cut(head):
        supports = head.reduce(features)[1:2]
        prototypes, valid, _ = head.prototypes(supports, masks)
        return calibrate(head, supports[None], masks[None], prototypes[None], valid[None]).at

    apart = cut(own) + cut(both.similarity) - FLATTERED  # which looks at its single support itself
    torch.testing.assert_close(cut(both), apart, atol=1e-5, rtol=1e-4)
    assert (cut(both) <= 0).all()


def test_each_voice_learns_by_its_own_loss():
    config = replace(CONFIG, head="together", bounded=0.7, dropout=0.0)
    model = ASGNet(config, encoder=None, vit=None, sources=SOURCES).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout2d):
            module.p = 0.0
    wide = model.head.project_vit.in_channels
    rng = torch_generator(0, "voices")
    cnn, vit = torch.randn(2, sum(SOURCES), 17, 17, generator=rng), torch.randn(2, 17, wide, generator=rng)
    query, support = (Features(cnn=cnn[k : k + 1], vit=vit[k : k + 1]) for k in (0, 1))
    masks = some_masks(2).long()
    _, main, auxiliary = model.forward_features(query, support, masks[None, :1], y=masks[1:])
    apart = []
    voices = _voices(model.head, query, support, masks[:1])
    for voice in voices:
        decoded = voice.decode()
        apart.append(losses(decoded.logits, decoded.auxiliary, masks[1:], voice.bounded))
    torch.testing.assert_close(main, apart[0][0] + apart[1][0])
    torch.testing.assert_close(auxiliary, apart[0][1] + apart[1][1])
    assert [voice.bounded for voice in voices] == [0.7, 0.0]


def _voices(head, query, support, masks):
    prototypes, valid, _ = head.prototypes(head.reduce(support), masks)
    return head.voices(head.reduce(query), prototypes, valid)


@torch.no_grad()
def test_products_of_the_supports_change_no_voice():
    head, features = head_and_features(name="together")
    reduced = head.reduce(features)
    prototypes, valid, _ = head.prototypes(reduced[1:], some_masks(4))
    products = head.products(prototypes[None]).flatten(3).flatten(1, 2)  # (1, K n, K n)
    pool, there = prototypes.flatten(0, 1)[None], valid.flatten(0, 1)[None]
    for voice, other in zip(
        head.voices(reduced[:1], pool, there), head.voices(reduced[:1], pool, there, products), strict=True
    ):
        torch.testing.assert_close(other.decode()[0], voice.decode()[0], atol=1e-4, rtol=1e-3)
    assert not torch.equal(head.voices(reduced[:1], pool, there, 2 * products)[1].decode()[0], voice.decode()[0])


@torch.no_grad()
@pytest.mark.parametrize("name", HEADS)
def test_a_head_keeps_an_average_of_each_class_that_it_is_shown(name):
    head, features = head_and_features(name=name)
    reduced, masks = head.reduce(features), some_masks(5)
    before = logits_of(head, features, masks[:4])
    head.acquaint((reduced[part], masks[part]) for part in (slice(2), slice(2, 5)))
    known = getattr(head, "similarity", head).known
    cells = F.adaptive_avg_pool2d(reduced[:, -known.shape[1] :].float(), SIDE)
    covered = F.adaptive_avg_pool2d((masks == 1).float()[:, None], SIDE)
    averages = (cells * covered).sum((2, 3)) / covered.sum((2, 3))
    expected = torch.stack([averages[:2].mean(0), averages[2:].mean(0)])
    torch.testing.assert_close(known[:2], expected, atol=1e-4, rtol=1e-3)
    assert not known[2:].any()
    assert not torch.equal(logits_of(head, features, masks[:4]), before)


@torch.no_grad()
def test_a_head_that_is_shown_more_classes_than_it_keeps_takes_the_first():
    head, features = head_and_features()
    reduced, masks = head.reduce(features), some_masks(5)
    count = len(head.known)
    head.acquaint((reduced[:1] * (1 if k < count else 2), masks[:1]) for k in range(count + 2))
    torch.testing.assert_close(head.known, head.known[:1].expand(count, -1))
