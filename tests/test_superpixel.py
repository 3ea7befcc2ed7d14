"""Seed cells and SGC. Run: pytest tests/test_superpixel.py"""

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from asgnet import superpixel
from asgnet.rng import generator, torch_generator
from asgnet.superpixel import FAR, groups, place_seeds, sgc, squared_distance, to_grid


def blobs(count: int, height: int, width: int) -> torch.Tensor:
    """Random smooth masks (count, height, width) bool."""
    noise = torch.rand(count, 1, 5, 5, generator=torch_generator(0, "blobs"))
    smooth = torch.nn.functional.interpolate(noise, (height, width), mode="bicubic", align_corners=True)
    return smooth[:, 0] > 0.45


def seeds_by_scipy(mask: np.ndarray, max_seeds: int, area: float) -> np.ndarray:
    """The published rule, word by word, on a mask that is already on the grid."""
    rows, cols = np.nonzero(mask)
    seeds = np.full((max_seeds, 2), -1)
    count = min(round(mask.sum() / area), max_seeds)
    if count < 2:
        return seeds
    crop = mask[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1].copy()
    for placed in range(count):
        distance = distance_transform_edt(crop)
        at = np.unravel_index(distance.argmax(), crop.shape)
        seeds[placed] = at[0] + rows.min(), at[1] + cols.min()
        crop[at] = False
    return seeds


def test_squared_distance_is_exact():
    background = ~blobs(8, 13, 17)
    for ours, theirs in zip(squared_distance(background), background, strict=True):
        assert np.array_equal(ours, np.rint(distance_transform_edt(~theirs.numpy()) ** 2))
    assert (squared_distance(torch.zeros(1, 3, 3, dtype=torch.bool)) >= FAR).all()


def test_published_seeds_match_scipy_on_random_masks():
    masks = blobs(12, 24, 31)
    masks[0] = True  # no background at all
    masks[1] = False
    masks[2] = False
    masks[2, 4:15, 6:20] = True  # none within its bounding box
    seeds = place_seeds(masks, (24, 31), max_seeds=6, area_per_seed=16.0)
    for ours, mask in zip(seeds, masks, strict=True):
        assert np.array_equal(ours, seeds_by_scipy(mask.numpy(), 6, 16.0))


def test_padded_rule_keeps_away_from_the_frame_and_inside_the_feature_mask():
    full = torch.ones(257, 257)
    assert place_seeds(full, (33, 33), 5, 30.0, "published")[0].tolist() == [32, 32]
    assert place_seeds(full, (33, 33), 5, 30.0, "padded")[0].tolist() == [16, 16]
    masks = blobs(10, 257, 257)
    inside = torch.nn.functional.interpolate(masks[:, None].float(), (33, 33), mode="bilinear", align_corners=True) == 1
    for seeds, cells in zip(place_seeds(masks, (33, 33), 5, 20.0, "padded"), inside[:, 0], strict=True):
        used = seeds[seeds[:, 0] >= 0]
        assert cells[used[:, 0], used[:, 1]].all()


@pytest.mark.parametrize(("cells", "count"), [(0, 0), (14, 0), (15, 2), (25, 2), (36, 4), (400, 5)])
def test_number_of_seeds(cells, count):
    mask = (torch.arange(400) < cells).view(20, 20)
    seeds = place_seeds(mask, (20, 20), 5, 10.0)
    assert seeds.dtype == torch.int64
    assert (seeds[:count] >= 0).all()
    assert (seeds[count:] == -1).all()


def clusters(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    features = torch.randn(batch, 6, 9, 11, generator=torch_generator(0, "sgc"))
    mask = torch.zeros(batch, 9, 11)
    mask[:, 1:8, 2:10] = 1
    seeds = torch.tensor([[2, 3], [6, 8], [4, 5], [-1, -1]]).expand(batch, -1, -1)
    return features, mask, seeds


def test_sgc_follows_its_formula():
    features, mask, seeds = clusters()
    prototypes, valid = sgc(features, mask, seeds, iterations=3, spatial_weight=25.0)
    assert valid.tolist() == [[True, True, True, False]] * 2
    for b in range(2):
        cells = np.argwhere(mask[b].numpy() == 1)
        points = np.concatenate([features[b].numpy()[:, cells[:, 0], cells[:, 1]].T, cells], 1).astype(np.float64)
        for n, (row, col) in enumerate(seeds[b, :3].tolist()):
            centre = np.concatenate([features[b, :, row, col].numpy(), [row, col]]).astype(np.float64)
            for _ in range(3):
                square = (points - centre) ** 2
                weight = np.exp(-np.sqrt(square[:, :-2].sum(1) + square[:, -2:].sum(1) / 25.0))
                centre = (weight / weight.sum()) @ points
            np.testing.assert_allclose(prototypes[b, n], centre[:-2], rtol=1e-5, atol=1e-6)


def plainly(features, mask, seeds, iterations, normalise):
    """SGC of one support in float64, straight from its formula: (C, h, w), (h, w), (n, 2) -> (n, C)."""
    height, width = mask.shape
    place = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")) / 10
    cells = torch.cat([features.double(), place])  # (C + 2, h, w)
    points, centres = cells[:, mask == 1].T, cells[:, seeds[:, 0], seeds[:, 1]].T
    for _ in range(iterations):
        closeness = -(points - centres[:, None]).norm(dim=2)  # (n, cells)
        if normalise == "centres":
            closeness = closeness.log_softmax(0)
        centres = closeness.softmax(1) @ points
    return centres[:, :-2]


@pytest.mark.parametrize("together", [1, 2**12, 2**19])
@pytest.mark.parametrize("normalise", ["cells", "centres"])
@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("shift", [0.0, 20.0])
def test_any_masks_in_any_groups_are_clustered_as_one_by_one(monkeypatch, together, normalise, scale, shift):
    monkeypatch.setitem(superpixel.TOGETHER, "cpu", together)
    masks = torch.cat([blobs(5, 65, 89), torch.zeros(1, 65, 89).bool(), torch.ones(1, 65, 89).bool()])
    masks[1, 20:], masks[2, :, :50] = False, False
    features = scale * torch.randn(7, 12, 9, 12, generator=torch_generator(0, "ragged")) + shift
    features = features.contiguous(memory_format=torch.channels_last if together == 1 else torch.contiguous_format)
    cells, seeds = to_grid(masks, (9, 12)), place_seeds(masks, (9, 12), 5, 6.0)
    prototypes, valid = sgc(features, cells, seeds, 5, normalise=normalise)
    assert valid.any(1).tolist() == [True] * 5 + [False, True]
    assert len(set((cells == 1).sum((1, 2)).tolist())) > 5
    for found, used, *support in zip(prototypes, valid, features, cells, seeds, strict=True):
        if used.sum() > 1:
            expected = plainly(*support[:2], support[2][used], 5, normalise)
            assert ((found[used] - expected).norm(dim=1) <= 1e-5 * expected.norm(dim=1)).all()
        assert (found[~used] == 0).all()


def test_groups_hold_every_sample_with_cells_once_and_no_more_than_fit():
    assert list(groups([3, 0, 9, 4, 3, 20], 9)) == [[0, 4], [3], [2], [5]]
    assert list(groups([3, 0, 9], torch.inf)) == [[0, 2]]
    assert list(groups([0, 0], 1)) == []


def test_half_precision_features_are_clustered_in_float32():
    features, mask, seeds = clusters()
    for dtype in (torch.bfloat16, torch.float16):
        prototypes, _ = sgc(features.to(dtype), mask, seeds, 5)
        assert prototypes.dtype == torch.float32
        torch.testing.assert_close(prototypes, sgc(features.to(dtype).float(), mask, seeds, 5)[0])


def test_normalised_over_centres_it_is_a_soft_k_means():
    features, mask, seeds = clusters(1)
    prototypes, _ = sgc(features, mask, seeds, iterations=3, spatial_weight=25.0, normalise="centres")
    cells = np.argwhere(mask[0].numpy() == 1)
    points = np.concatenate([features[0].numpy()[:, cells[:, 0], cells[:, 1]].T, cells / 5.0], 1).astype(np.float64)
    at = seeds[0, :3].numpy()
    centres = np.concatenate([features[0].numpy()[:, at[:, 0], at[:, 1]].T, at / 5.0], 1).astype(np.float64)
    for _ in range(3):
        weight = np.exp(-np.linalg.norm(points[None] - centres[:, None], axis=2))  # (N, cells)
        share = weight / weight.sum(0)  # what each cell gives to each centre
        centres = (share / share.sum(1, keepdims=True)) @ points
    np.testing.assert_allclose(prototypes[0, :3], centres[:, :-2], rtol=1e-4, atol=1e-5)
    assert (prototypes[0, 3] == 0).all()
    with pytest.raises(ValueError, match="'cell'"):
        sgc(features, mask, seeds, 1, normalise="cell")


def test_sgc_is_equivariant_to_the_order_of_seeds_and_of_samples():
    features, mask, seeds = clusters()
    prototypes, valid = sgc(features, mask, seeds, 5)
    order = [3, 1, 0, 2]
    shuffled, valid_ = sgc(features.flip(0), mask.flip(0), seeds[:, order], 5)
    torch.testing.assert_close(shuffled, prototypes.flip(0)[:, order])
    assert torch.equal(valid_, valid[:, order])


def test_sgc_without_seeds_is_the_masked_average():
    features, mask, _ = clusters()
    prototypes, valid = sgc(features, mask, torch.full((2, 3, 2), -1), 5)
    expected = (features * mask[:, None]).sum((2, 3)) / (mask.sum((1, 2))[:, None] + 0.0005)
    torch.testing.assert_close(prototypes[:, 0], expected)
    assert valid.tolist() == [[True, False, False]] * 2
    assert (prototypes[:, 1:] == 0).all()


def test_vanishing_and_empty_masks_stay_finite():
    features, mask, seeds = clusters()
    soft = torch.stack([mask[0] * 0.5, mask[1] * 0])
    prototypes, valid = sgc(features, soft, seeds, 5)
    expected = (features[0] * soft[0]).sum((1, 2)) / (soft[0].sum() + 0.0005)
    torch.testing.assert_close(prototypes[0, 0], expected)
    assert valid.tolist() == [[True, False, False, False], [False] * 4]
    assert (prototypes[1] == 0).all()
    far, _ = sgc(features * 1e4, mask, seeds, 5)  # exp(-D) of every other cell underflows
    assert far.isfinite().all()


def test_sgc_takes_no_gradient_unless_asked():
    features, mask, seeds = clusters()
    features.requires_grad_()
    assert not sgc(features, mask, seeds, 2)[0].requires_grad
    prototypes, _ = sgc(features, mask, seeds, 2, differentiable=True)
    prototypes.sum().backward()
    assert features.grad.isfinite().all()
    assert (features.grad.abs().sum((0, 1))[mask[0] == 0] == 0).all()


def test_sgc_is_float32_under_autocast():
    features, mask, seeds = clusters()
    plain, _ = sgc(features, mask, seeds, 5)
    with torch.autocast("cpu", torch.bfloat16):
        inside, _ = sgc(features, mask, seeds, 5)
    assert torch.equal(plain, inside)


def test_rules_are_known():
    size = int(generator(0, "size").integers(8, 16))
    with pytest.raises(ValueError, match="'floor'"):
        place_seeds(torch.ones(size, size), (size, size), 5, 10.0, "floor")
