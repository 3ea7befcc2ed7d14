"""Distractors: a training query and its mask agree after a piece of another query is pasted into both."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from online_study import changed, online_study, write_noise

from asgnet.backbones.encoder import Features
from asgnet.distractors import with_distractors
from asgnet.errors import UserError
from asgnet.rng import generator
from asgnet.sections import TrainConfig
from asgnet.stages.train import run_training

COUNT = 4


def queries(grid: int, tokens: int, pixels: int) -> tuple[Features, torch.Tensor]:
    """Maps that hold the number of their query everywhere."""
    number = torch.arange(COUNT, dtype=torch.float32)
    cnn, layer1 = (number[:, None, None, None].expand(COUNT, 3, n, n).contiguous() for n in (grid, 2 * grid - 1))
    vit = number[:, None, None].expand(COUNT, 1 + tokens**2, 2).contiguous()
    return Features(cnn, vit, layer1), number.byte()[:, None, None].expand(COUNT, pixels, pixels).contiguous()


def paste(share: float, index: int, grid: int = 9, tokens: int = 5, pixels: int = 65) -> tuple[Features, torch.Tensor]:
    query, target = queries(grid, tokens, pixels)
    return with_distractors(query, target, target.roll(1, 0), share, generator(0, "test-distractors", index))


@settings(deadline=None)
@given(index=st.integers(0, 10**6), grid=st.integers(2, 12))
def test_features_and_mask_change_together(index, grid):
    pixels = 8 * (grid - 1) + 1  # so that each cell of the grid lies on a pixel
    query, target = paste(1.0, index, grid, pixels=pixels)
    assert torch.equal(query.cnn[:, 0], target[:, ::8, ::8].float())
    assert torch.equal(query.layer1[:, 0, ::2, ::2], query.cnn[:, 0])
    before = torch.arange(COUNT).roll(1)[:, None]
    for k in range(COUNT):
        assert set(target[k].unique().tolist()) == {k, int(before[k])}  # its own, and the one before it


def test_tokens_change_with_the_maps_but_for_the_class_token():
    query, _ = paste(1.0, 0, grid=5, tokens=5)
    assert torch.equal(query.vit[:, 1:, 0].unflatten(1, (5, 5)), query.cnn[:, 0])
    assert query.vit[:, 0, 0].tolist() == [0, 1, 2, 3]


def test_half_precision_under_autocast():
    query, target = queries(9, 5, 65)
    half = Features(query.cnn.half(), query.vit.half())
    with torch.autocast("cpu", torch.bfloat16):
        pasted, _ = with_distractors(half, target, target.roll(1, 0), 1.0, np.random.default_rng(0))
    assert (pasted.cnn.dtype, pasted.vit.dtype) == (torch.float16, torch.float16)


def test_about_the_share_of_the_queries_change():
    changed = [(paste(0.25, k)[1] != queries(9, 5, 65)[1]).flatten(1).any(1) for k in range(250)]
    assert torch.stack(changed).float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert not any(each.any() for each in ((paste(0.0, k)[1] != queries(9, 5, 65)[1]) for k in range(20)))


def test_networks_without_vit_or_layer1():
    query, target = queries(9, 5, 65)
    bare = Features(query.cnn)
    given_, _ = with_distractors(bare, target, target.roll(1, 0), 1.0, np.random.default_rng(0))
    assert (given_.vit, given_.layer1) == (None, None)


def test_a_share_lies_between_0_and_1():
    with pytest.raises(UserError, match=r"train.distractors: 1.5 is no share; expected 0 to 1"):
        TrainConfig(distractors=1.5)


def test_training_with_distractors_goes_the_same_way_twice(tmp_path, monkeypatch):
    tree, losses = write_noise(tmp_path / "tree"), []
    for number, share in enumerate((0.0, 1.0, 1.0)):
        (folder := tmp_path / f"{number}").mkdir()
        monkeypatch.chdir(folder)
        study = changed(online_study(tree, precision="float32"), "train", distractors=share)
        losses.append(run_training(study, "baseline", 0, 0, report=lambda row: None).history["loss"].tolist())
    assert losses[1] == losses[2]
    assert losses[0][0] != losses[1][0]


def test_what_is_pasted_brings_its_own_labels(tmp_path, monkeypatch):
    """Of the query before each: unknown where that is unknown, and its object only where it is of the same class."""
    seen = []

    def watched(query, target, of_other, share, rng):
        seen.append((target, of_other))
        return with_distractors(query, target, of_other, share, rng)

    monkeypatch.setattr("asgnet.train.with_distractors", watched)
    tree = write_noise(tmp_path / "tree")
    monkeypatch.chdir(tmp_path)
    study = changed(online_study(tree, precision="float32"), "train", distractors=1.0)
    run_training(study, "baseline", 0, 0, report=lambda row: None)
    alike = []
    for target, of_other in seen:
        before = target.roll(1, 0)  # the masks of the queries before, each for its own class
        assert torch.equal(of_other == 255, before == 255)
        for mine, own in zip(of_other, before, strict=True):
            alike.append(torch.equal(mine, own))
            assert alike[-1] or not ((mine == 1) & (own == 1)).any()
    assert set(alike) == {True, False}  # queries of the same class, and of another
