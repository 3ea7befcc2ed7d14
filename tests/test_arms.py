"""The heads of arms beyond the notes."""

import pytest
import torch

from asgnet.arms import head_class
from asgnet.arms.similarity import spread
from asgnet.backbones.encoder import Features
from asgnet.rng import torch_generator
from asgnet.sections import ModelConfig

CONFIG = ModelConfig(backbone="lite0", head="similarity", width=8, max_seeds=2, vit="patch")
SOURCES, WIDE = (6, 10), 12  # channels of the CNN's parts and of a token


def head_and_features(images=5, config=CONFIG):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = head_class("similarity")(config, SOURCES, vit_channels=WIDE).eval()
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
def test_the_order_of_the_supports_changes_nothing():
    head, features = head_and_features()
    order = [0, 3, 1, 4, 2]
    again = logits_of(head, Features(cnn=features.cnn[order], vit=features.vit[order]), some_masks(4))
    torch.testing.assert_close(again, logits_of(head, features, some_masks(4)), atol=1e-5, rtol=1e-4)


def test_everything_that_learns_gets_a_gradient():
    head, features = head_and_features()
    head.train()
    reduced = head.reduce(features)
    prototypes, valid, _ = head.prototypes(reduced[1:], some_masks(4))
    logits, auxiliary = head.decode(reduced[:1], prototypes.flatten(0, 1)[None], valid.flatten(0, 1)[None])
    (logits.square().mean() + sum(a.square().mean() for a in auxiliary)).backward()
    assert all(p.grad is not None for p in head.parameters())


@torch.no_grad()
@pytest.mark.parametrize("value", [0, 1])
def test_masks_of_one_value_leave_numbers(value):
    head, features = head_and_features()
    assert logits_of(head, features, torch.full((4, 129, 129), value)).isfinite().all()


def test_spread_goes_from_0_to_1():
    values = torch.tensor([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]])
    assert spread(values).tolist() == [[0, 1, 0.5], [0, 0, 0]]
