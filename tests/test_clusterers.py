"""Every clusterer on planted clusters, and each against its formula or another library.

Run: pytest tests/test_clusterers.py
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.vq import kmeans2
from torch import Tensor

from asgnet.allocation import expand, gpa
from asgnet.clusterers import CLUSTERERS, KAPPA, Clusters, cluster
from asgnet.rng import torch_generator
from asgnet.superpixel import masked_average, place_seeds, sgc

NAMES = sorted(CLUSTERERS)
SEEDED = ["em", "kmeans", "sgc", "soft_kmeans"]  # start at the seed cells
HARD = ["kmeans", "parts", "slic"]
SPLITTING = sorted({*SEEDED, *HARD})  # all but the average


def planted() -> dict[str, Tensor]:
    """Two supports, of three and two parts far apart in place and feature, in soft masks; seeds in no order."""
    rng = torch_generator(0, "planted")
    parts = torch.zeros(2, 12, 14, dtype=torch.int64)
    parts[0, 3:7, 0:4], parts[0, 3:7, 5:9], parts[0, 3:7, 10:14] = 4, 7, 2
    parts[1, 1:5, 1:5], parts[1, 7:11, 9:13] = 4, 2
    features = 20 * torch.nn.functional.one_hot(parts, 8).movedim(-1, 1).float()  # (2, 8, 12, 14)
    features = features + 0.01 * torch.randn(features.shape, generator=rng)
    cells = (parts > 0).float()
    cells[:, 11, 1:5] = 0.5  # the object's soft border is not clustered
    seeds = torch.tensor([[[4, 12], [-1, -1], [5, 2], [6, 7]], [[3, 3], [8, 11], [-1, -1], [-1, -1]]])
    return {"features": features, "cells": cells, "seeds": seeds, "parts": parts}


def loose(batch: int = 3) -> dict[str, Tensor]:
    """Random features on masks of several sizes, with their published seed cells (5, 3 and 2)."""
    rng = torch_generator(0, "loose")
    cells = torch.zeros(batch, 17, 17)
    for support, side in enumerate((14, 9, 7)[:batch]):
        cells[support, 2 : 2 + side, 1 : 1 + side] = 1
    parts = torch.randint(1, 4, cells.shape, generator=rng) * (cells == 1)
    features = 3 * torch.randn(
        batch, 6, 17, 17, generator=rng
    )  # far enough apart for SGC's centres not to fall together
    return {"features": features, "cells": cells, "seeds": place_seeds(cells, (17, 17), 5, 25.0), "parts": parts}


def run(name: str, supports: dict[str, Tensor], iterations: int = 10, spatial_weight: float = 100.0) -> Clusters:
    return cluster(name, **supports, iterations=iterations, spatial_weight=spatial_weight)


def points(supports: dict[str, Tensor], support: int, spatial_weight: float) -> tuple[np.ndarray, np.ndarray]:
    """The cells to cluster (P, 2) of one support, and them as SGC sees them (P, C + 2)."""
    at = np.argwhere(supports["cells"][support].numpy() == 1)
    features = supports["features"][support].numpy()[:, at[:, 0], at[:, 1]].T
    return at, np.concatenate([features, at / spatial_weight**0.5], 1).astype(np.float64)


@pytest.mark.parametrize("name", SPLITTING)
def test_planted_clusters_are_found(name: str):
    supports = planted()
    prototypes, valid, label = run(name, supports)
    assert valid.sum(1).tolist() == [3, 2]
    assert ((label >= 0) == (supports["cells"] == 1)).all()
    for b, parts in enumerate(([4, 2, 7], [4, 2])):
        found = []
        for part in parts:
            cells = supports["parts"][b] == part
            (slot,) = label[b][cells].unique().tolist()
            mean = supports["features"][b][:, cells].mean(1)
            torch.testing.assert_close(prototypes[b, slot], mean, rtol=0, atol=1e-5 if name in HARD else 0.02)
            found.append(slot)
        assert sorted(found) == valid[b].nonzero()[:, 0].tolist()
    assert (prototypes[~valid] == 0).all()


@pytest.mark.parametrize("name", SEEDED)
def test_clusters_keep_the_slots_of_their_seed_cells(name: str):
    supports = planted()
    label = run(name, supports).label
    assert label[0, supports["seeds"][0, [0, 2, 3], 0], supports["seeds"][0, [0, 2, 3], 1]].tolist() == [0, 2, 3]


@pytest.mark.parametrize("name", ["em", "kmeans", "sgc", "slic", "soft_kmeans"])
def test_counts_are_those_of_the_seed_cells(name: str):
    supports = loose()
    prototypes, valid, label = run(name, supports, iterations=5)
    assert torch.equal(valid, (supports["seeds"] >= 0).all(2))
    assert valid.sum(1).tolist() == [5, 3, 2]
    assert (prototypes.dtype, label.dtype, label.shape) == (torch.float32, torch.int64, (3, 17, 17))
    assert ((label >= 0) == (supports["cells"] == 1)).all()
    for b in range(3):
        assert valid[b, label[b][label[b] >= 0]].all()


@pytest.mark.parametrize("name", ["em", "kmeans", "sgc", "slic", "soft_kmeans"])
def test_iterations_are_spent(name: str):
    supports = loose()
    first, last = (run(name, supports, iterations).prototypes for iterations in (1, 5))
    assert (first - last).abs().amax((1, 2)).min() > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_supports_of_a_batch_do_not_meet(name: str):
    supports = loose()
    together = run(name, supports)
    for b in range(3):
        alone = run(name, {key: value[b : b + 1] for key, value in supports.items()})
        count = alone.valid.shape[1]
        torch.testing.assert_close(alone.prototypes[0], together.prototypes[b, :count])
        assert torch.equal(alone.valid[0], together.valid[b, :count])
        assert torch.equal(alone.label[0], together.label[b])


@pytest.mark.parametrize("name", SEEDED)
@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(5)))
def test_the_order_of_seed_cells_is_that_of_prototypes_and_of_no_guide_feature(name: str, order: list[int]):
    supports = loose()
    first = run(name, supports)
    second = run(name, supports | {"seeds": supports["seeds"][:, order]})
    torch.testing.assert_close(second.prototypes, first.prototypes[:, order], rtol=1e-4, atol=1e-5)
    assert torch.equal(second.valid, first.valid[:, order])
    inside = second.label >= 0
    assert torch.equal(torch.tensor(order)[second.label[inside]], first.label[inside])
    query = torch.randn(3, 6, 7, 7, generator=torch_generator(0, "query"))
    guides = [gpa(query, found.prototypes, found.valid)[0] for found in (first, second)]
    torch.testing.assert_close(*guides, rtol=1e-4, atol=1e-5)


def test_with_one_prototype_allocating_is_expanding():
    supports = planted()
    prototypes, valid, _ = run("average", supports)
    assert prototypes.shape == (2, 1, 8)
    query = torch.randn(2, 8, 5, 6, generator=torch_generator(1, "query"))
    guide, probability, _ = gpa(query, prototypes, valid)
    assert torch.equal(guide, prototypes[:, 0, :, None, None].expand(-1, -1, 5, 6))
    for ours, theirs in zip(gpa(query, *expand(prototypes, valid)), (guide, probability), strict=False):
        torch.testing.assert_close(ours, theirs)


def test_true_parts_are_taken_as_they_are():
    supports = planted()
    parts = supports["parts"]
    parts[0, 3, 3] = 0  # a cell of the object without a part
    prototypes, valid, label = run("parts", supports)
    assert valid.tolist() == [[True, True, True], [True, True, False]]
    assert torch.equal(label[0], torch.tensor([-1, 9, 0, 9, 1, 9, 9, 2])[parts[0]])  # 2, 4, 7 -> 0, 1, 2
    expected = supports["features"][0][:, parts[0] == 4].mean(1)
    torch.testing.assert_close(prototypes[0, 1], expected)
    average = run("average", supports).prototypes
    parts[1] = 0  # no part at all
    prototypes, valid, _ = run("parts", supports)
    assert valid.tolist() == [[True, True, True], [True, False, False]]
    assert torch.equal(prototypes[1, :1], average[1])
    parts[0] = 0
    assert torch.equal(run("parts", supports).prototypes, average)


@pytest.mark.parametrize("name", NAMES)
def test_without_seeds_or_whole_cells_every_clusterer_is_the_masked_average(name: str):
    supports = {key: torch.cat([value, value]) for key, value in planted().items()}
    supports["seeds"][0] = -1
    supports["cells"][1] *= 0.5
    supports["cells"][2] = 0
    prototypes, valid, label = run(name, supports)
    published, _ = sgc(supports["features"], supports["cells"], supports["seeds"], 10)
    for b in (0, 1):
        assert torch.equal(prototypes[b, 0], published[b, 0])
        assert valid[b].sum() == valid[b, 0] == 1
        assert torch.equal(label[b], torch.where(supports["cells"][b] > 0, 0, -1))
    assert not valid[2].any()
    assert (prototypes[2] == 0).all()
    assert (label[2] == -1).all()
    assert valid[3].sum() == (1 if name == "average" else 2)
    assert prototypes.isfinite().all()


def test_average_is_the_published_one():
    supports = planted()
    flat = supports["features"].flatten(2).transpose(1, 2)
    assert torch.equal(run("average", supports).prototypes[:, 0], masked_average(flat, supports["cells"].flatten(1)))


@pytest.mark.parametrize("name", SPLITTING)
@settings(max_examples=8, deadline=None)
@given(iterations=st.integers(1, 12))
def test_constant_features_are_every_prototype(name: str, iterations: int):
    supports = loose()
    constant = torch.tensor([3.0, -1.0, 0.5, 0.0, 2.0, 7.0])
    supports["features"] = constant[:, None, None].expand(3, 6, 17, 17)
    prototypes, valid, _ = run(name, supports, iterations)
    assert valid.any(1).all()
    torch.testing.assert_close(prototypes[valid], constant.expand(int(valid.sum()), -1))


@settings(max_examples=10, deadline=None)
@given(iterations=st.integers(1, 12), spatial_weight=st.sampled_from([1.0, 10.0, 100.0]))
def test_a_centre_of_symmetry_is_a_fixed_point_of_sgc(iterations: int, spatial_weight: float):
    half = torch.randn(1, 6, 7, 9, generator=torch_generator(0, "symmetric"))
    middle = torch.arange(6.0)[:, None, None]
    features = half - half.flip(2, 3) + middle  # f(-p) - f(0) = -(f(p) - f(0))
    cells, seeds = torch.ones(1, 7, 9), torch.tensor([[[3, 4], [0, 0]]])
    prototypes = cluster("sgc", features, cells, seeds, iterations, spatial_weight).prototypes[0]
    torch.testing.assert_close(prototypes[0], middle[:, 0, 0], rtol=0, atol=1e-5)
    assert (prototypes[1] - features[0, :, 0, 0]).abs().max() > 0.1  # and a corner is none


def test_prototypes_of_sgc_do_not_see_each_other_and_those_of_soft_k_means_do():
    supports = loose(1)
    fewer = supports | {"seeds": supports["seeds"][:, :2]}
    torch.testing.assert_close(run("sgc", supports).prototypes[:, :2], run("sgc", fewer).prototypes)
    change = run("soft_kmeans", supports).prototypes[:, :2] - run("soft_kmeans", fewer).prototypes
    assert change.abs().max() > 0.01


@pytest.mark.parametrize("name", ["sgc", "soft_kmeans"])
def test_soft_clusters_follow_their_formulas(name: str):
    supports = loose()
    found = run(name, supports, iterations=3, spatial_weight=25.0)
    for b in range(3):
        at, cells = points(supports, b, 25.0)
        seeds = supports["seeds"][b][found.valid[b]].tolist()
        centres = np.stack([cells[(at == seed).all(1)][0] for seed in seeds])
        for _ in range(3):
            share = np.exp(-np.linalg.norm(centres[:, None] - cells, axis=2))  # (n, P)
            share /= share.sum(0) if name == "soft_kmeans" else 1
            centres = share @ cells / share.sum(1, keepdims=True)
        np.testing.assert_allclose(found.prototypes[b, : len(seeds)], centres[:, :-2], rtol=1e-4, atol=1e-5)
        closest = np.linalg.norm(centres[:, None] - cells, axis=2).argmin(0)
        assert found.label[b, at[:, 0], at[:, 1]].tolist() == closest.tolist()


def test_em_follows_its_formula():
    supports = loose()
    found = run("em", supports, iterations=3)
    for b in range(3):
        at, cells = points(supports, b, 1.0)
        cells = cells[:, :-2]
        directions = cells / np.linalg.norm(cells, axis=1, keepdims=True)
        seeds = supports["seeds"][b][found.valid[b]].tolist()
        centres = np.stack([directions[(at == seed).all(1)][0] for seed in seeds])
        for _ in range(3):
            share = np.exp(KAPPA * centres @ directions.T)  # (n, P)
            share /= share.sum(0)
            centres = share @ directions
            centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        expected = share @ cells / share.sum(1, keepdims=True)
        np.testing.assert_allclose(found.prototypes[b, : len(seeds)], expected, rtol=1e-4, atol=1e-4)
        assert found.label[b, at[:, 0], at[:, 1]].tolist() == (centres @ directions.T).argmax(0).tolist()


def test_converged_k_means_is_that_of_scipy():
    supports = loose()
    found = run("kmeans", supports, iterations=100, spatial_weight=25.0)
    for b in range(3):
        at, cells = points(supports, b, 25.0)
        seeds = supports["seeds"][b][found.valid[b]].tolist()
        start = np.stack([cells[(at == seed).all(1)][0] for seed in seeds])
        centres, label = kmeans2(cells, start, iter=100, minit="matrix", missing="raise")
        assert found.label[b, at[:, 0], at[:, 1]].tolist() == label.tolist()
        np.testing.assert_allclose(found.prototypes[b, : len(seeds)], centres[:, :-2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["kmeans", "sgc", "slic", "soft_kmeans"])
def test_spatial_weight_says_whether_place_or_feature_counts(name: str):
    row = torch.arange(20)[:, None].expand(20, 8)
    features = 4.0 * (row >= 7)[None, None]  # features change at a third, places at the half
    supports = {"features": features, "cells": torch.ones(1, 20, 8), "seeds": torch.tensor([[[4, 4], [15, 4]]])}
    for weight, border in ((1e4, 7), (0.01, 10)):
        label, truth = run(name, supports, 10, weight).label[0], (row >= border).long()
        assert torch.equal(label, truth) or torch.equal(label, 1 - truth)


@pytest.mark.parametrize("name", ["kmeans", "slic"])
def test_only_the_proportion_of_features_and_places_counts(name: str):
    supports = loose()
    scaled = supports | {"features": supports["features"] * 4 + 10}
    assert torch.equal(run(name, supports, 5, 1.0).label, run(name, scaled, 5, 1 / 16).label)
    assert not torch.equal(run(name, supports, 5, 1.0).label, run(name, scaled, 5, 1.0).label)


@pytest.mark.parametrize("name", ["kmeans", "sgc", "slic", "soft_kmeans"])
def test_a_constant_channel_changes_nothing(name: str):
    supports = loose()
    three = supports["features"][:, :3]  # three channels are no colours
    four = torch.cat([three, torch.ones_like(three[:, :1])], 1)
    first, second = (run(name, supports | {"features": features}, 5) for features in (three, four))
    assert torch.equal(first.label, second.label)
    torch.testing.assert_close(first.prototypes, second.prototypes[..., :3])


@pytest.mark.parametrize("name", ["kmeans", "slic"])
@pytest.mark.parametrize("count", [1, 3])
def test_fewer_cells_than_seeds_are_each_their_own_cluster(name: str, count: int):
    supports = loose(1)
    supports["cells"] = torch.zeros(1, 17, 17)
    supports["cells"][0, 4, 3 : 3 + count] = 1
    prototypes, valid, label = run(name, supports)
    assert valid.sum() == count
    assert label[0, 4, 3 : 3 + count].sort().values.tolist() == list(range(count))
    torch.testing.assert_close(prototypes[0, label[0, 4, 3]], supports["features"][0, :, 4, 3])


def test_cells_beyond_the_reach_of_slic_have_no_segment():
    cells = torch.zeros(1, 33, 33)
    cells[0, :25, :4] = 1
    cells[0, 16, 32] = 1  # a speck on the far side
    seeds = torch.tensor([[[row, 1] for row in range(2, 23, 3)]])
    features = torch.randn(1, 3, 33, 33, generator=torch_generator(0, "speck"))
    prototypes, valid, label = cluster("slic", features, cells, seeds, 5, 100.0)
    assert label[0, 16, 32] == -1
    assert (label[0, :25, :4] >= 0).all()
    assert prototypes[valid].isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_float32_without_gradient_also_under_autocast(name: str):
    supports = loose()
    plain = run(name, supports)
    supports["features"].requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        inside = run(name, supports)
    for a, b in zip(plain, inside, strict=True):
        assert torch.equal(a, b)
        assert not b.requires_grad
    half = run(name, supports | {"features": supports["features"].bfloat16()})
    assert half.prototypes.dtype == torch.float32


def test_what_cannot_be_done_is_said():
    supports = planted()
    with pytest.raises(ValueError, match="clusterer 'felzenszwalb': expected one of sgc, soft_kmeans, kmeans"):
        run("felzenszwalb", supports)
    with pytest.raises(ValueError, match="iterations = 0"):
        run("sgc", supports, iterations=0)
    with pytest.raises(ValueError, match=r"'parts': expected the true part map, parts \(B, h, w\)"):
        run("parts", supports | {"parts": None})
