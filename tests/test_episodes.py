"""The index, the frozen episodes and the training episodes."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from voc_tree import CLASSES, make_tree

from asgnet.data.episodes import (
    base_images,
    draw_episodes,
    fold_episodes,
    read_episodes,
    used_supports,
    write_episodes,
)
from asgnet.data.index import build_index, images_by_class, novel_classes, read_index, usable_classes, write_index
from asgnet.data.sampling import TrainingEpisode, TrainingImages, training_batch
from asgnet.data.tree import LISTS, Tree, write_list
from asgnet.errors import UserError
from asgnet.loader import Steps, with_further
from asgnet.sections import TrainConfig


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return make_tree(tmp_path_factory.mktemp("data"), train_per_class=16, test_per_class=12)


@pytest.fixture(scope="module")
def index(tree: Tree) -> pd.DataFrame:
    return build_index(tree, val_fraction=0.25, seed=0, min_pixels=100)


IMAGES = {c: [f"{c}-{k:03d}" for k in range(9 + c)] for c in (1, 2, 4)}


def draw(images: dict = IMAGES, shots: int = 1, count: int = 30, **options: object) -> pd.DataFrame:
    return draw_episodes(images, CLASSES, shots, count, seed=3, purpose="test-episodes", **options)


def supports(episodes: pd.DataFrame) -> list[list[str]]:
    return [row.split(";") for row in episodes["supports"]]


def test_index_counts_pixels_and_splits(tree: Tree, index: pd.DataFrame) -> None:
    assert list(index.columns) == ["split", "id", "class", "pixels"]
    assert set(index["pixels"]) == {300}  # boxes of 20 x 15; background and 255 are no classes
    val, train, test = (set(index.loc[index["split"] == s, "id"]) for s in ("val", "train", "test"))
    assert (len(val), len(train), len(test)) == (16, 48, 48)
    assert not val & train
    assert val | train == set(tree.ids("train"))
    both = index[index["id"] == "t4_3"]
    assert set(both["class"]) == {4, 1}


def test_min_pixels_decides_which_classes_count(tree: Tree) -> None:
    assert len(build_index(tree, 0.25, 0, min_pixels=300)) > 0
    assert len(build_index(tree, 0.25, 0, min_pixels=301)) == 0


def test_val_split_depends_on_the_seed_and_not_on_the_lists_order(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, 4, 2)
    first = build_index(tree, 0.5, 0, 1)
    assert not first.equals(build_index(tree, 0.5, 1, 1))
    write_list(tree.root / LISTS / "train_aug.txt", tree.ids("train")[::-1])
    pd.testing.assert_frame_equal(build_index(tree, 0.5, 0, 1), first)


def test_train_and_test_lists_must_be_disjoint(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, 2, 2)
    write_list(tree.root / LISTS / "val.txt", ["v1_0", "t1_0"])
    with pytest.raises(UserError, match="t1_0 stands in the train and the test list"):
        build_index(tree, 0.5, 0, 1)


def test_classes_take_turns_and_no_query_supports_itself() -> None:
    episodes = draw(shots=5)
    assert episodes["class"].tolist() == [1, 2, 4] * 10
    for c, query, chosen in zip(episodes["class"], episodes["query"], supports(episodes), strict=True):
        assert query not in chosen
        assert len(set(chosen)) == 5
        assert {query, *chosen} <= set(IMAGES[c])


def test_more_shots_and_more_episodes_only_extend() -> None:
    few, many = draw(shots=1, count=12), draw(shots=5, count=30)
    assert few["query"].tolist() == many["query"].tolist()[:12]
    assert few["supports"].tolist() == [chosen[0] for chosen in supports(many)][:12]


def test_order_of_the_images_does_not_matter() -> None:
    shuffled = {c: IMAGES[c][::-1] for c in (4, 1, 2)}
    pd.testing.assert_frame_equal(draw(shuffled), draw())


def test_queries_are_uniform() -> None:
    counts = Counter(draw({1: IMAGES[1]}, count=2000)["query"])
    assert len(counts) == 10
    assert 140 < min(counts.values()) <= max(counts.values()) < 265  # 200 +- 13.4 each: over 4 standard deviations


def test_excluded_combinations_do_not_come_up() -> None:
    first = draw(count=120)
    second = draw_episodes(IMAGES, CLASSES, 5, 120, seed=4, purpose="test-episodes", exclude=first)
    used = used_supports(first)
    assert all(
        not used.get((c, query), set()) & set(chosen)
        for c, query, chosen in zip(second["class"], second["query"], supports(second), strict=True)
    )


def test_monitoring_uses_a_small_pool() -> None:
    episodes = draw(shots=2, count=90, max_images=5)
    for c, rows in episodes.groupby("class"):
        assert len(set(rows["query"]).union(*supports(rows))) == 5, c


def test_class_with_too_few_images() -> None:
    with pytest.raises(UserError, match="class bee has 5 images for test-episodes: 5-shot episodes need at least 6"):
        draw({1: IMAGES[1], 2: list("abcde")}, shots=5)
    everything = draw({1: list("abc")}, count=200)
    with pytest.raises(UserError, match="class ant has too few supports left"):
        draw({1: list("abc")}, exclude=everything)


def test_fold_tables(tree: Tree, index: pd.DataFrame) -> None:
    counts = {"train": 20, "val": 10, "novel": 30, "test": 60}
    tables = fold_episodes(index, tree, 1, 2, counts, seed=0, min_test_images=4, max_images={"train": 6, "novel": 6})
    assert {name: len(table) for name, table in tables.items()} == counts
    split_of = dict(zip(index["id"], index["split"], strict=True))
    for name, classes, split in (("train", {1, 2}, "train"), ("val", {1, 2}, "val"), ("novel", {3, 4}, "test")):
        assert set(tables[name]["class"]) == classes
        assert {split_of[i] for i in tables[name]["query"]} == {split}
    novel, test = used_supports(tables["novel"]), used_supports(tables["test"])
    assert set(tables["test"]["class"]) == {3, 4}
    assert all(not chosen & novel.get(key, set()) for key, chosen in test.items())


def test_small_classes_are_dropped_and_reported(tree: Tree, index: pd.DataFrame) -> None:
    thin = index[~((index["class"] == 3) & (index["split"] == "test") & (index["id"] != "v3_0"))]
    assert usable_classes(thin, (3, 4), "test", 5) == ([4], {3: 1})
    assert novel_classes(thin, tree, 1, 5) == ([4], {3: 1})
    with pytest.raises(UserError, match=r"fold 1 has no novel class with 50 test images \(cod 1, doe 15\)"):
        novel_classes(thin, tree, 1, 50)
    with pytest.raises(UserError, match="fold 1 has no base class with 101 images in split train"):
        base_images(index, tree, 1, 100, "train")


def test_tables_survive_the_file(tmp_path: Path, index: pd.DataFrame) -> None:
    episodes = draw({1: ["001", "002", "003", "NA"]}, shots=1)  # ids that look like numbers and missing values
    write_episodes(tmp_path / "a" / "test.csv", episodes)
    pd.testing.assert_frame_equal(read_episodes(tmp_path / "a" / "test.csv"), episodes)
    write_index(tmp_path / "index.csv", index)
    pd.testing.assert_frame_equal(read_index(tmp_path / "index.csv"), index)
    with pytest.raises(UserError, match=r"index.csv has columns split, id, class, pixels: expected episode"):
        read_episodes(tmp_path / "index.csv")
    with pytest.raises(UserError, match=r"cannot read the table .*none.csv"):
        read_episodes(tmp_path / "none.csv")


@pytest.fixture(scope="module")
def training(tree: Tree, index: pd.DataFrame) -> TrainingImages:
    return TrainingImages.of(base_images(index, tree, 0, 3, "train"))


def test_training_episodes(training: TrainingImages, index: pd.DataFrame) -> None:
    images = images_by_class(index, (3, 4), "train")
    steps = [training_batch(training, step, batch=4, shots=3, seed=1, views=2) for step in range(40)]
    episodes = [episode for batch in steps for episode in batch]
    for e in episodes:
        assert e.class_id in (3, 4)  # no novel class
        assert e.query not in e.supports
        assert len(set(e.supports)) == len(e.support_views) == 3
        assert {e.query, *e.supports} <= set(images[e.class_id])
    assert {e.class_id for e in episodes} == {3, 4}
    assert {e.query_view for e in episodes} == {v for e in episodes for v in e.support_views} == {0, 1}


def test_each_pass_shows_every_training_image_once(training: TrainingImages) -> None:
    count = len(training.by_image)
    queries = [training_batch(training, step, 1, 1, seed=1, views=1)[0].query for step in range(2 * count)]
    assert sorted(queries[:count]) == sorted(queries[count:]) == sorted(training.by_image)
    assert queries[:count] != queries[count:]


def test_step_is_a_pure_function(training: TrainingImages) -> None:
    assert training_batch(training, 7, 4, 1, 0, 4) == training_batch(training, 7, 4, 1, 0, 4)
    assert training_batch(training, 7, 4, 1, 0, 4) != training_batch(training, 7, 4, 1, 1, 4)
    # Larger batches regroup the same stream.
    halves = [*training_batch(training, 2, 2, 1, 0, 4), *training_batch(training, 3, 2, 1, 0, 4)]
    assert training_batch(training, 1, 4, 1, 0, 4) == halves


def test_training_class_with_too_few_images() -> None:
    with pytest.raises(UserError, match="training class 2 has 3 images: 3-shot training needs at least 4"):
        training_batch(TrainingImages.of({2: ["a", "b", "c"]}), 0, 1, 3, 0, 1)


def test_every_second_step_has_further_supports_and_the_first_ones_stay():
    class Source:
        views, makes_views = 3, False

        def make(self, ids, views):
            return {}

    training = TrainingImages.of({2: [*"abcdefgh"], 3: [*"ghijklm"]})
    plain, further = (
        [Steps(Source(), training, TrainConfig(batch=4, further_shots=more), 1)[k].episodes for k in range(20)]
        for more in (0, 5)
    )
    assert further[::2] == plain[::2]
    for before, after in zip(plain[1::2], further[1::2], strict=True):
        for one, other in zip(before, after, strict=True):
            assert (other.class_id, other.query, other.query_view) == (one.class_id, one.query, one.query_view)
            assert (other.supports[0], other.support_views[0]) == (one.supports[0], one.support_views[0])
            assert len(set(other.supports)) == len(other.support_views) == 5
            assert set(other.supports) <= set(training.by_class[one.class_id]) - {one.query}
    assert len({episode.supports[1:] for batch in further[1::2] for episode in batch}) > 30


def test_a_class_of_few_images_repeats_its_supports_in_other_views():
    episode = TrainingEpisode(2, "a", 0, ("b",), (7,))
    found = with_further(episode, 3, TrainingImages.of({2: ["a", "b", "c"]}), 5, seed=0, views=1000)
    assert found.supports == ("b", "c", "b", "c", "b")
    assert len({*found.support_views}) == 5
    alone = with_further(episode, 3, TrainingImages.of({2: ["a", "b"]}), 3, seed=0, views=9)
    assert alone.supports == ("b", "b", "b")


def test_fewer_further_supports_than_the_first_ones_are_refused():
    with pytest.raises(UserError, match=r"train\.further_shots: 2 is no more than train\.shots, 2"):
        TrainConfig(shots=2, further_shots=2)
