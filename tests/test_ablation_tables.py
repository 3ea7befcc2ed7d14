"""Tables of the ablations from made-up episodes with planted differences. Run: pytest tests/test_ablation_tables.py"""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from imports import ROOT
from study import LEVELS, episodes, write_study

from asgnet.ablation_tables import MEASURED, NAMES, Comparison, ablation_table, binned_table, upper_ends
from asgnet.config import Study, load_study
from asgnet.errors import UserError
from asgnet.intervals import Blocks, holm, paired_difference
from asgnet.layout import Layout
from asgnet.metrics import miou
from asgnet.rng import generator
from asgnet.sections import AblationConfig, Arm, Group
from asgnet.stages import prototypes

KEYS = [(fold, seed) for fold in range(3) for seed in (0, 1)]


def blocks(points: float = 0.0, keys: list = KEYS, share: float = 1.0) -> dict:
    """Episodes of 1,000 pixels: the same in every call but for ``points`` of IoU, added to a ``share`` of them."""
    found = {}
    for fold, seed in keys:
        table = episodes(0.5 + 0.1 * seed, fold, shots=1)
        chosen = generator(fold, "test-ablation-tables", seed).random(len(table)) < share
        found[fold, seed] = table.assign(inter_fg=table["inter_fg"] + 10 * points * chosen)
    return found


def family(shots: int = 1, table: str = "count", **settings: Blocks) -> Comparison:
    return Comparison(table, "", shots, {"reference": blocks(), **settings}, "reference")


def test_planted_differences_are_found_in_their_direction():
    table = ablation_table([family(up=blocks(5), down=blocks(-3), same=blocks())]).set_index("setting")
    assert table["difference"].dropna().to_dict() == pytest.approx({"up": 5, "down": -3, "same": 0})
    assert table.loc["up", "difference_low"] > 0 > table.loc["down", "difference_high"]
    assert "5.0 points of mIoU above" in table.loc["up", "sentence"]
    assert "3.0 points of mIoU below" in table.loc["down", "sentence"]
    assert "no difference found" in table.loc["same", "sentence"]
    assert table.loc["same", "p_holm"] == 1
    assert table.loc["up", "sentence"].startswith("count: up against reference, 1-shot: ")


def test_values_by_hand_and_the_reference_row_has_no_difference():
    table = ablation_table([family(up=blocks(5))])
    row = table.iloc[0]
    by_fold = [np.mean([miou(blocks()[fold, seed]) for seed in (0, 1)]) for fold in range(3)]
    assert list(row[["fold 0", "fold 1", "fold 2"]]) == pytest.approx(by_fold)
    assert row["mean"] == pytest.approx(np.mean(by_fold))
    assert row["low"] < row["mean"] < row["high"]
    assert row["seeds"] == 2
    empty = ["reference", "difference", "difference_low", "difference_high", "p", "p_holm", "episodes", "sentence"]
    assert row[empty].isna().all()
    assert table.iloc[1][empty].notna().all()
    assert list(table) == [*NAMES, "fold 0", "fold 1", "fold 2", *MEASURED]


def test_p_values_are_corrected_within_a_table_over_its_shots():
    some = {"a": blocks(0.4, share=0.2), "b": blocks(0.2, share=0.1), "c": blocks()}
    table = ablation_table([family(1, **some), family(5, **some), family(1, "other", a=some["a"])])
    tested = table[table["reference"].notna()]
    for _, rows in tested.groupby("table"):
        assert list(rows["p_holm"]) == pytest.approx(holm(list(rows["p"])))
    p = tested.query("setting == 'a' and shots == 1").set_index("table")
    assert p.loc["count", "p"] == p.loc["other", "p"] == p.loc["other", "p_holm"] < p.loc["count", "p_holm"]


def test_fewer_random_seeds_are_compared_on_the_shared_blocks():
    half = [key for key in KEYS if key[1] == 0]
    row = ablation_table([family(half=blocks(2, half))]).set_index("setting").loc["half"]
    alone = paired_difference(blocks(2, half), blocks(0, half))
    assert (row["difference"], row["p"], row["seeds"]) == (pytest.approx(2), alone.p, 1)  # not 2 - 5: seed 1 is easier
    assert (row["difference_low"], row["difference_high"]) == (alone.low, alone.high)
    assert "exploratory" in row["sentence"]


def test_different_episodes_are_refused():
    other = {key: block.assign(query="elsewhere") for key, block in blocks().items()}
    with pytest.raises(UserError, match="identical episodes"):
        ablation_table([family(other=other)])


def test_an_empty_table_is_readable_from_its_file(tmp_path):
    for table in (ablation_table([]), binned_table({"a": blocks()}, "a", measured(np.nan), 1)):
        assert table.empty
        table.to_csv(tmp_path / "table.csv", index=False)
        assert list(pd.read_csv(tmp_path / "table.csv")) == list(table)


def measured(values: float | np.ndarray) -> pd.DataFrame:
    """A measure of every (image, class) that the blocks of `blocks` query."""
    objects = pd.concat(blocks().values())[["query", "class"]].drop_duplicates().rename(columns={"query": "id"})
    return objects.assign(size=values)


def test_bins_hold_the_right_episodes_and_find_what_is_planted_in_them():
    objects = measured(0.0)
    objects["size"] = generator(0, "test-sizes").permutation(len(objects)) + 1.0  # 1 to 120
    large = {}
    for key, block in blocks().items():
        size = block.merge(objects, left_on=["query", "class"], right_on=["id", "class"])["size"].to_numpy()
        large[key] = block.assign(inter_fg=block["inter_fg"] + 60 * (size > 72))
    table = binned_table({"five": blocks(), "one": large}, "five", objects, shots=1, bins=5)
    assert len(table) == 10
    assert list(table.loc[table["setting"] == "one", "bin"]) == [0, 1, 2, 3, 4]
    ends = table[table["setting"] == "one"].set_index("bin")
    assert list(ends["from"]) == [1, 24, 48, 72, 96]
    assert list(ends["to"]) == [24, 48, 72, 96, 120]
    assert list(ends["episodes"]) == [24] * 5
    assert list(ends["difference"]) == pytest.approx([0, 0, 0, 6, 6])
    assert list(ends["p_holm"]) == pytest.approx(holm(list(ends["p"])))
    assert (ends.loc[3:, "difference_low"] > 0).all()
    assert ends.loc[4, "sentence"].startswith("size 96 to 120: one against five, 1-shot: 6.0 points of mIoU above")


def test_objects_without_a_value_are_left_out():
    objects = measured(0.0)
    objects["size"] = np.where(np.arange(len(objects)) % 4 == 0, np.nan, np.arange(len(objects)))
    table = binned_table({"five": blocks(), "one": blocks(1)}, "five", objects, shots=1, bins=3)
    assert list(table.loc[table["setting"] == "one", "episodes"]) == [30] * 3


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.arange(1, 11), [2, 4, 6, 8, 10]),
        ([0] * 6 + [1, 2, 3, 4], [0, 1, 2, 3, 4]),  # many equal values have a bin of their own
        ([1, 2], [1, 2]),
        ([7] * 9, [7]),
        ([1, 1, 2, 2, 2, 2, 3, 3, 3, 3], [1, 2, 3]),
    ],
)
def test_upper_ends(values, expected):
    shuffled = generator(0, "test-ends").permutation(values)
    assert upper_ends(shuffled, 5) == expected


@pytest.fixture
def study(tmp_path, monkeypatch) -> Study:
    """The project's study in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return load_study(ROOT / "params.yaml")


def test_trained_rows_meet_the_baseline_on_their_folds(study):
    write_study(Path("results/parts"))
    arms = {"vit_patch": Arm("better", table="one"), "all_foreground": Arm("worse", table="two")}
    found = list(prototypes.trained_comparisons(study, Group(folds=(1, 3), seeds=(1,), arms=arms)))
    label = study.arms["baseline"].label
    assert [(one.table, one.shots, list(one.settings)) for one in found] == [
        ("one", 1, [label, "better"]), ("one", 5, [label, "better"]),
        ("two", 1, [label, "worse"]), ("two", 5, [label, "worse"]),
    ]  # fmt: skip
    assert {fold for one in found for blocks in one.settings.values() for fold, _ in blocks} == {1, 3}
    row = ablation_table(found[:1]).iloc[1]
    assert row["difference"] == pytest.approx(100 * (LEVELS["vit_patch"] - LEVELS["baseline"]), abs=0.5)
    assert list(prototypes.trained_comparisons(study, Group())) == []


def test_variations_are_compared_with_what_was_trained_or_published(study):
    names = [("count", "1", 1), ("count", "5", 1), ("count", "7", 1), ("clusterer", "em", 1), ("clusterer", "sgc", 1),
             ("spatial weight", "100", 1), ("spatial weight", "10000", 1), ("fusion", "pool", 1), ("fusion", "pool", 5),
             ("fusion", "votes", 5)]  # fmt: skip
    varied = {"baseline": dict.fromkeys(names, blocks()), "nmax_7": dict.fromkeys(names[:3], blocks(1))}
    found = {(one.table, one.arm, one.shots): one for one in prototypes.varied_comparisons(study, varied)}
    label = study.arms["baseline"].label
    assert found["count", label, 1].reference == "5"
    assert found["count", "N_max 7", 1].reference == "7"
    assert found["clusterer", label, 1].reference == "sgc"
    assert found["spatial weight", label, 1].reference == "100"
    assert list(found["fusion", label, 5].settings) == ["pool", "votes"]
    assert list(found["fusion", label, 1].settings) == ["pool"]
    sentences = ablation_table([found["count", "N_max 7", 1]])["sentence"]
    assert sentences[0].startswith("count: 1 (trained as N_max 7) against 7, 1-shot: ")


class Objects:
    """A tree whose images hold a rectangle of class 1 that is as wide as the image's number, the odd ones hidden."""

    def mask(self, image_id: str) -> np.ndarray:
        mask = np.zeros((10, 20), np.uint8)
        mask[2:8, : int(image_id)] = 1
        return mask

    def hidden(self) -> pd.DataFrame | None:
        ids = [f"{i:02d}" for i in range(1, 21)]
        return pd.DataFrame({"id": ids, "class": 1, "hidden": [0.1 * int(i) * (int(i) % 2) for i in ids]})


def test_shape_of_the_query_objects(study):
    table = episodes(0.5, 0, 1).assign(**{"class": 1, "query": [f"{i % 20 + 1:02d}" for i in range(40)]})
    narrow = table["query"].astype(int) <= 4
    one = table.assign(inter_fg=table["inter_fg"] - 100 * narrow)
    varied = {("clusterer", "sgc", 1): {(0, 0): table}, ("count", "1", 1): {(0, 0): one}}
    found = prototypes.shape_table(varied, Objects(), {0: table})
    assert set(found["table"]) == {"scale", "solidity", "elongation", "hidden"}
    assert set(found["setting"]) == {"count 1", "clusterer sgc"}
    assert set(found["reference"].dropna()) == {"clusterer sgc"}
    scale = found[(found["table"] == "scale") & found["reference"].notna()].set_index("bin")
    assert list(scale["to"]) == pytest.approx([12, 24, 36, 48, 60])  # per cent: 6 x width of 200 pixels
    assert list(scale["difference"]) == pytest.approx([-10, 0, 0, 0, 0])
    hidden = found[(found["table"] == "hidden") & found["reference"].notna()].set_index("bin")
    assert list(hidden.loc[0, ["from", "to", "episodes"]]) == [0, 0, 20]  # those that nothing covers
    assert hidden["episodes"][1:].sum() == 20
    assert found.loc[found["table"] == "solidity", "bin"].eq(0).all()  # all alike: one bin


def test_selection_on_the_novel_episodes(study):
    history = pd.DataFrame({"epoch": [1, 2, 3], "val_miou": [50, 60, 55.0], "novel_miou": [40, 41, 47.5]})
    for arm in study.arms:
        folder = Layout.of(study).run(arm, 0, 1)
        folder.mkdir(parents=True)
        history.to_csv(folder / "history.csv", index=False)
    found = prototypes.selection_table(study)
    assert list(found["arm"]) == list(study.arms)
    assert list(found.iloc[0])[1:] == [0, 1, 2, 3, 41, 47.5, 6.5]


def test_superpixel_quality_averages_random_seeds_and_skips_the_unknown(study):
    config = AblationConfig(arms=("baseline",), folds=(0,), seeds=(0, 1))
    study = dataclasses.replace(study, ablation=config)
    for seed in (0, 1):
        folder = Layout.of(study).run("baseline", 0, seed)
        folder.mkdir(parents=True)
        rows = [("sgc", name, 1, 3, 80 + 10 * seed, 20, 0.5, 0.1) for name in "ab"]
        rows += [("sgc", "c", 1, 3, *[np.nan] * 4)]
        columns = ["method", "image", "class", "superpixels", "asa", "ue", "ari", "apart"]
        pd.DataFrame(rows, columns=columns).to_csv(folder / "quality.csv", index=False)
    found = prototypes.quality_table(study).set_index("measure")
    assert found["mean"].to_dict() == {"asa": 85, "ue": 20, "ari": 0.5, "apart": 0.1}
    assert set(found["supports"]) == {2}
    for seed in (0, 1):
        pd.DataFrame(columns=columns).to_csv(Layout.of(study).run("baseline", 0, seed) / "quality.csv", index=False)
    assert prototypes.quality_table(study).empty


def test_nothing_varied_is_said(study):
    with pytest.raises(UserError, match=r"ablation\.arms is empty"):
        prototypes.gather_prototypes(dataclasses.replace(study, ablation=AblationConfig()))
