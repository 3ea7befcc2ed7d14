"""Bootstrap intervals against simulations with a known truth, Holm's correction against hand numbers."""

import numpy as np
import pandas as pd
import pytest

from asgnet import intervals
from asgnet.errors import UserError
from asgnet.metrics import fb_iou, fb_iou_of_sums, miou
from asgnet.rng import generator

AREA, CLASSES, EPISODES = 1000, 2, 60


def simulate(rng: np.random.Generator, seeds=(1, 2), shift=0.0, folds=4, block_sd=0.03) -> dict:
    """Blocks whose classes' true IoU is 0.5 + shift + a block's own deviation; each episode's union is AREA."""
    blocks = {}
    for fold in range(folds):
        for seed in seeds:
            truth = 0.5 + shift + rng.normal(0, block_sd)
            inter = np.clip(rng.normal(truth, 0.15, EPISODES), 0, 1) * AREA
            blocks[fold, seed] = table(inter, fold)
    return blocks


def table(inter_fg: np.ndarray, fold: int = 0) -> pd.DataFrame:
    number = np.arange(len(inter_fg))
    return pd.DataFrame({
        "episode": number,
        "class": fold * CLASSES + number % CLASSES + 1,
        "query": [f"image{i // 2:03d}" for i in number],
        "supports": "other",
        "inter_fg": inter_fg,
        "union_fg": AREA,
        "inter_bg": 2 * AREA,
        "union_bg": 3 * AREA,
    })  # fmt: skip


def test_value_is_the_mean_over_folds():
    blocks = simulate(generator(0, "test-intervals"))
    by_fold = [np.mean([miou(blocks[fold, seed]) for seed in (1, 2)]) for fold in range(4)]
    assert intervals.interval(blocks, resamples=10).value == pytest.approx(np.mean(by_fold))
    del blocks[3, 2]  # an incomplete study still weighs its folds alike
    by_fold[3] = miou(blocks[3, 1])
    assert intervals.interval(blocks, resamples=10).value == pytest.approx(np.mean(by_fold))


def test_interval_covers_the_truth_at_about_its_rate():
    rng = generator(1, "test-intervals")
    repeats = 200
    found = [intervals.interval(simulate(rng), resamples=300, seed=i) for i in range(repeats)]
    covered = sum(one.low <= 50 <= one.high for one in found) / repeats
    assert 0.90 <= covered <= 0.99
    assert np.mean([one.high - one.low for one in found]) < 8  # not by being idle: the blocks alone make about 4


def test_paired_difference_covers_and_its_p_rejects_at_about_its_rate():
    rng = generator(2, "test-intervals")
    repeats = 100
    covered = rejected = 0
    for i in range(repeats):
        found = intervals.paired_difference(simulate(rng), simulate(rng), resamples=300, seed=i)
        covered += found.low <= 0 <= found.high
        rejected += found.p < 0.05
    assert 0.90 <= covered / repeats <= 0.99
    assert 0.01 <= rejected / repeats <= 0.10


def test_shared_images_cancel_in_a_paired_difference():
    rng = generator(3, "test-intervals")
    baseline = simulate(rng, block_sd=0)
    arm = {key: one.assign(inter_fg=one["inter_fg"] * 0.9) for key, one in baseline.items()}
    found = intervals.paired_difference(arm, baseline)
    assert found.value == pytest.approx(-0.1 * intervals.interval(baseline).value)
    assert found.high < 0
    assert found.high - found.low < 0.5
    assert found.p < 0.01
    assert found.episodes == 4 * EPISODES
    assert found.seeds == 2


def test_an_arm_does_not_differ_from_itself():
    blocks = simulate(generator(4, "test-intervals"))
    found = intervals.paired_difference(blocks, dict(reversed(blocks.items())), resamples=50)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_seeds_of_a_fold_share_the_drawn_images():
    """Testing the same run twice is no new evidence: one block or two copies of it give the same interval."""
    inter = generator(5, "test-intervals").uniform(0, AREA, EPISODES)
    once = intervals.interval({(0, 1): table(inter)}, resamples=200)
    twice = intervals.interval({(0, 1): table(inter), (0, 2): table(inter)}, resamples=200)
    assert [once.low, once.high] == pytest.approx([twice.low, twice.high])


def test_same_seed_same_interval():
    blocks = simulate(generator(6, "test-intervals"))
    first = intervals.interval(blocks, resamples=100, seed=3)
    assert first == intervals.interval(blocks, resamples=100, seed=3)
    assert first != intervals.interval(blocks, resamples=100, seed=4)


def test_other_metrics():
    blocks = simulate(generator(7, "test-intervals"))
    expected = np.mean([fb_iou(one) for one in blocks.values()])
    assert intervals.interval(blocks, fb_iou_of_sums, resamples=10).value == pytest.approx(expected)


def test_unpaired_tables_are_refused():
    blocks = simulate(generator(8, "test-intervals"))
    other = {**blocks, (0, 1): blocks[0, 1].assign(query="elsewhere")}
    with pytest.raises(UserError, match="identical episodes, but those of fold 0, random seed 1"):
        intervals.paired_difference(blocks, other)
    with pytest.raises(UserError, match=r"same .fold, random seed. blocks"):
        intervals.paired_difference(blocks, {(0, 1): blocks[0, 1]})


def test_holm_by_hand():
    assert intervals.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert intervals.holm([0.6, 0.7]) == pytest.approx([1, 1])
    assert intervals.holm([]).shape == (0,)


@pytest.mark.parametrize(
    ("low", "high", "p", "seeds", "expected"),
    [
        (-0.5, 2.0, 0.3, 2, "no difference found (+1.0"),
        (0.5, 2.0, 0.01, 2, "1.0 points of mIoU above"),
        (0.5, 2.0, 0.2, 2, "no difference found after correction"),
        (0.5, 2.0, 0.01, 1, "exploratory"),
    ],
)
def test_sentence(low, high, p, seeds, expected):
    difference = intervals.Difference(1.0, low, high, p=p, episodes=4000, seeds=seeds)
    text = intervals.sentence("vit_patch", "baseline", 1, difference, p)
    assert expected in text
    assert text.startswith("vit_patch against baseline, 1-shot: ")
    assert "\n" not in text
    assert ("exploratory" in text) == (seeds == 1)
    assert "4,000 episodes" in text
