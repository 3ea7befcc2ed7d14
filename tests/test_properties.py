"""What must hold for any input, drawn by Hypothesis: seed cells, SGC, GPA, metrics, views, episodes.

The geometry of `fit` and `unfit` is in test_transforms.py, that of shapes in test_shape.py, other clusterers in
test_clusterers.py."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_superpixel import seeds_by_scipy

from asgnet import metrics
from asgnet.allocation import gpa
from asgnet.data.episodes import base_images, draw_episodes, fold_episodes, supports_of
from asgnet.data.sampling import TrainingImages, training_batch
from asgnet.data.transforms import augment, content_size, fit, fit_published
from asgnet.data.tree import Tree
from asgnet.rng import torch_generator
from asgnet.superpixel import place_seeds, sgc, to_grid

few = settings(max_examples=40, deadline=None)
sides = st.integers(1, 14)
masks = st.tuples(sides, sides).flatmap(lambda shape: arrays(bool, shape))
seeds_of_draws = st.integers(0, 2**16)


# Seed cells


@few
@given(mask=masks, most=st.integers(1, 7), area=st.floats(1, 20), rule=st.sampled_from(["published", "padded"]))
def test_seed_cells_are_different_cells_of_the_object_as_many_as_its_area_says(mask, most, area, rule):
    seeds = place_seeds(torch.from_numpy(mask), mask.shape, most, area, rule)
    used = seeds[seeds[:, 0] >= 0].tolist()
    assert seeds.shape == (most, 2)
    assert all(mask[row, col] for row, col in used)
    assert len({tuple(cell) for cell in used}) == len(used)
    wanted = min(round(mask.sum() / area), most)
    assert len(used) == (wanted if wanted > 1 else 0)
    assert (seeds[len(used) :] == -1).all()


@few
@given(mask=masks, most=st.integers(1, 7), area=st.floats(1, 20))
def test_published_seed_cells_are_those_of_scipy(mask, most, area):
    seeds = place_seeds(torch.from_numpy(mask), mask.shape, most, area)
    np.testing.assert_array_equal(seeds, seeds_by_scipy(mask, most, area))


# SGC


@st.composite
def supports(draw):
    """Features (1, C, h, w), a mask (1, h, w) with a cell at least, seeds (1, N, 2) among its cells, some unused."""
    mask = draw(masks.filter(np.any))
    features = torch.randn(1, 3, *mask.shape, generator=torch_generator(draw(seeds_of_draws), "cells"))
    cells = np.argwhere(mask)
    chosen = draw(st.lists(st.integers(-1, len(cells) - 1), min_size=1, max_size=5))
    seeds = torch.tensor([[cells[k].tolist() if k >= 0 else [-1, -1] for k in chosen]])
    return features, torch.from_numpy(mask)[None].float(), seeds


@few
@given(support=supports(), iterations=st.integers(0, 6), r2=st.floats(0.5, 1000))
def test_prototypes_lie_among_the_features_of_the_object(support, iterations, r2):
    features, mask, seeds = support
    prototypes, valid = sgc(features, mask, seeds, iterations, r2)
    used = (seeds >= 0).all(2)
    assert torch.equal(valid, used if used.any() else torch.arange(seeds.shape[1])[None] == 0)
    cells = features[0][:, mask[0] == 1]  # (C, cells)
    room = 1e-3 * cells.abs().max() + 1e-4  # the published average enlarges the area by 0.0005
    assert (prototypes[valid] >= cells.amin(1) - room).all()
    assert (prototypes[valid] <= cells.amax(1) + room).all()
    assert (prototypes[~valid] == 0).all()


@few
@given(support=supports(), iterations=st.integers(1, 6), noise=seeds_of_draws)
def test_what_lies_outside_of_the_object_changes_no_prototype(support, iterations, noise):
    features, mask, seeds = support
    other = torch.randn(features.shape, generator=torch_generator(noise, "outside"))
    changed = torch.where(mask[:, None] == 1, features, other)
    for ours, theirs in zip(sgc(features, mask, seeds, iterations), sgc(changed, mask, seeds, iterations), strict=True):
        torch.testing.assert_close(ours, theirs)


# GPA


@few
@given(grid=st.tuples(sides, sides), count=st.integers(1, 6), draw=seeds_of_draws, data=st.data())
def test_gpa_against_brute_force(grid, count, draw, data):
    rng = torch_generator(draw, "gpa")
    query, prototypes = torch.randn(1, 4, *grid, generator=rng), torch.randn(1, count, 4, generator=rng)
    valid = data.draw(st.lists(st.booleans(), min_size=count, max_size=count).filter(any))
    guide, probability, index = gpa(query, prototypes, torch.tensor([valid]))
    pool, there = prototypes[0].double().numpy(), np.flatnonzero(valid)
    for row, col in np.ndindex(*grid):
        cell = query[0, :, row, col].double().numpy()
        cosine = pool @ cell / (np.linalg.norm(pool, axis=1) * np.linalg.norm(cell) + 1e-7)
        chosen = int(index[0, row, col])
        assert chosen in there
        assert cosine[chosen] == pytest.approx(cosine[there].max(), abs=1e-5)
        np.testing.assert_array_equal(guide[0, :, row, col], prototypes[0, chosen])
        assert float(probability[0, 0, row, col]) == pytest.approx(cosine[there].sum(), abs=1e-4)


# Metrics

pairs = st.tuples(st.integers(1, 5), sides, sides).flatmap(
    lambda shape: st.tuples(arrays(np.uint8, shape, elements=st.integers(0, 1)),
                            arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 255])),
                            st.lists(st.integers(1, 3), min_size=shape[0], max_size=shape[0])))  # fmt: skip


@few
@given(given_=pairs)
def test_metrics_against_brute_force(given_):
    predictions, targets, classes = given_
    counts = metrics.intersection_union(torch.from_numpy(predictions), torch.from_numpy(targets)).numpy()
    sums: dict[int, list[int]] = {c: [0, 0, 0, 0] for c in classes}
    for c, prediction, target, found in zip(classes, predictions, targets, counts, strict=True):
        own = [0, 0, 0, 0]
        for p, t in zip(prediction.ravel().tolist(), target.ravel().tolist(), strict=True):
            if t != 255:
                own = [n + add for n, add in zip(own, (p and t, p or t, not (p or t), not (p and t)), strict=True)]
        assert found.tolist() == own
        sums[c] = [a + b for a, b in zip(sums[c], own, strict=True)]
    inter, union, inter_bg, union_bg = (sum(column) for column in zip(*sums.values(), strict=True))
    assume(union and union_bg)
    episodes = pd.DataFrame(counts, columns=metrics.COUNTS).assign(**{"class": classes})
    ious = [own[0] / own[1] for own in sums.values() if own[1]]
    assert metrics.miou(episodes) == pytest.approx(100 * sum(ious) / len(ious))
    assert metrics.fb_iou(episodes) == pytest.approx(50 * (inter / union + inter_bg / union_bg))


# Views: a pixel's colour says its label, so image and mask can be compared pixel by pixel


@st.composite
def pictures(draw):
    """A rectangle of colour on black and its mask, of any size that does not vanish between the pixels of a view."""
    height, width = draw(st.integers(8, 160)), draw(st.integers(8, 160))
    tall, wide = (min(side, max(height, width) // 10 + 2) for side in (height, width))
    top, left = draw(st.integers(0, height - tall)), draw(st.integers(0, width - wide))
    mask = np.zeros((height, width), np.uint8)
    mask[top : draw(st.integers(top + tall, height)), left : draw(st.integers(left + wide, width))] = 7
    return (mask[..., None] == 7) * np.array([255, 200, 150], np.uint8), mask


def agree(photo: np.ndarray, labels: np.ndarray, blur: int) -> bool:
    """Whether the labels are what the colours say, ``blur`` pixels beside every border left out, and the frame:
    a crop may end just before the object does, whose blurred edge then shows."""
    inside = torch.from_numpy((labels == 7).astype(np.float32))[None]
    known = torch.from_numpy((labels != 255).astype(np.float32))[None]
    window = 2 * blur + 1

    def eroded(area: torch.Tensor) -> np.ndarray:
        framed = torch.nn.functional.pad(area, (blur,) * 4)
        return (-torch.nn.functional.max_pool2d(-framed, window, 1))[0].numpy() == 1

    sure_in, sure_out = eroded(inside), eroded(known * (1 - inside))
    return bool((photo[sure_in] > 70).all() and (photo[sure_out] < 125).all())


@settings(max_examples=25, deadline=None)
@given(picture=pictures(), size=st.sampled_from([41, 65, 97]), draw=seeds_of_draws)
def test_image_and_mask_stay_aligned_in_every_view(picture, size, draw):
    image, mask = picture
    view = augment(image, mask, size, np.random.default_rng(draw))
    for photo, labels in (fit(image, mask, size), fit_published(image, mask, size), view):
        assert (photo.shape, labels.shape) == ((size, size, 3), (size, size))
        assert set(np.unique(labels)) <= {0, 7, 255}
        assert agree(photo, labels, blur=4)
    h, w = content_size(*mask.shape, size)
    assert (fit(image, mask, size)[1][:h, :w] != 255).all()


# Episodes


class Classes(Tree):
    """Classes and folds without files."""

    def __init__(self, count: int, folds: int) -> None:
        self.classes = tuple(f"class{c}" for c in range(1, count + 1))
        self.folds = tuple(tuple(range(fold + 1, count + 1, folds)) for fold in range(folds))


@st.composite
def pools(draw, least: int) -> Mapping[int, list[str]]:
    """Class -> its images, some of which show a second class too."""
    classes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=5, unique=True))
    own = {c: [f"{c}_{k}" for k in range(draw(st.integers(least, least + 6)))] for c in classes}
    shared = draw(st.integers(0, 3))
    return {
        c: images + [i for other in classes if other != c for i in own[other][:shared]] for c, images in own.items()
    }


@few
@given(shots=st.integers(1, 5), count=st.integers(0, 40), seed=seeds_of_draws, data=st.data())
def test_no_query_is_among_its_supports_and_all_classes_are_covered(shots, count, seed, data):
    images = data.draw(pools(shots + 1))
    episodes = draw_episodes(images, [f"c{c}" for c in range(1, 10)], shots, count, seed, "test-episodes")
    for c, query, chosen in zip(episodes["class"], episodes["query"], supports_of(episodes, shots), strict=True):
        assert query not in chosen
        assert len(set(chosen)) == shots
        assert {query, *chosen} <= set(images[c])
    turns = episodes["class"].value_counts().reindex(sorted(images), fill_value=0)
    assert turns.max() - turns.min() <= 1
    assert (turns > 0).all() or count < len(images)


@few
@given(shots=st.integers(1, 3), seed=seeds_of_draws, views=st.integers(1, 3), data=st.data())
def test_training_episodes_of_a_pass_cover_all_images_and_no_query_supports_itself(shots, seed, views, data):
    images = TrainingImages.of(data.draw(pools(shots + 1)))
    count = len(images.by_image)
    batch = [training_batch(images, step, 1, shots, seed, views)[0] for step in range(count)]
    assert sorted(episode.query for episode in batch) == sorted(images.by_image)
    for episode in batch:
        assert episode.query not in episode.supports
        assert len(set(episode.supports)) == shots
        assert {episode.query, *episode.supports} <= set(images.by_class[episode.class_id])
        assert all(0 <= view < views for view in (episode.query_view, *episode.support_views))


@settings(max_examples=15, deadline=None)
@given(classes=st.integers(4, 9), folds=st.integers(2, 4), seed=seeds_of_draws, data=st.data())
def test_no_novel_class_is_trained_on_and_every_class_has_its_turn(classes, folds, seed, data):
    tree = Classes(classes, folds)
    rows = [
        (split, f"{split}{c}_{k}", label, 500)
        for split in ("train", "val", "test")
        for c in range(1, classes + 1)
        for k in range(data.draw(st.integers(6, 8)))
        for label in {c, c % classes + 1 if k == 0 else c}
    ]
    index = pd.DataFrame(rows, columns=["split", "id", "class", "pixels"])
    tested: set[int] = set()
    for fold in range(folds):
        novel, base = set(tree.novel_classes(fold)), set(tree.base_classes(fold))
        images = TrainingImages.of(base_images(index, tree, fold, 1, "train"))
        trained = {e.class_id for step in range(5 * classes) for e in training_batch(images, step, 4, 1, seed, 1)}
        assert trained <= set(images.by_class) == base
        counts = dict.fromkeys(("train", "val", "novel", "test"), 2 * classes)
        tables = fold_episodes(index, tree, fold, 2, counts, seed, 3, {"train": 6, "val": 6, "novel": 6})
        assert {name: set(table["class"]) for name, table in tables.items()} == {
            "train": base, "val": base, "novel": novel, "test": novel,
        }  # fmt: skip
        for name, table in tables.items():
            split = "test" if name in ("novel", "test") else name
            used = {*table["query"], *(i for row in supports_of(table, 2) for i in row)}
            assert used <= set(index.loc[index["split"] == split, "id"])
        tested |= novel
    assert tested == set(range(1, classes + 1))


def test_a_mask_on_its_own_grid_is_left_as_it_is():
    mask = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    assert torch.equal(to_grid(mask, (2, 2)), mask)
