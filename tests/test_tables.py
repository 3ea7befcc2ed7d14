"""Tables of a small made-up study."""

import numpy as np
import pandas as pd
import pytest
from study import CLASSES, write_study

from asgnet import metrics, results, tables
from asgnet.errors import UserError


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[results.Run]:
    return results.find_runs(
        write_study(tmp_path_factory.mktemp("results")), ["all_foreground", "baseline", "vit_patch"]
    )


def test_runs_come_in_the_order_of_the_arms(runs):
    assert len(runs) == 4 + 8 + 8
    assert list(dict.fromkeys(run.arm for run in runs)) == ["all_foreground", "baseline", "vit_patch"]
    assert [run.trained for run in runs] == [False] * 4 + [True] * 16
    assert runs[0].shots() == [1, 5]


def test_missing_arms_are_named(tmp_path):
    with pytest.raises(UserError, match="no runs of vit_cls"):
        results.find_runs(write_study(tmp_path), ["baseline", "vit_cls"])
    with pytest.raises(UserError, match="no runs of any arm"):
        results.find_runs(tmp_path / "nowhere")


def test_summary(runs):
    table = tables.summary(runs, CLASSES)
    assert list(table) == tables.KEYS
    one = table.query("arm == 'baseline' and fold == 2 and seed == 1").set_index(["shots", "split", "metric"])["value"]
    run = next(run for run in runs if (run.arm, run.fold, run.seed) == ("baseline", 2, 1))
    assert one[1, "test", "miou"] == pytest.approx(metrics.miou(run.episodes(1)))
    assert one[5, "test", "iou_class5"] == pytest.approx(metrics.class_iou(run.episodes(5))[5])
    assert one[1, "novel", "miou"] == pytest.approx(run.history().novel_miou[9])  # epoch 10, the chosen one
    assert set(table.query("arm == 'all_foreground'").split) == {"test"}


def test_comparison_pairs_training_free_arms_with_every_seed(runs):
    table = tables.comparison(runs).set_index(["arm", "shots"])
    assert len(table) == 4
    assert table.loc[("vit_patch", 1), "difference"] == pytest.approx(10, abs=0.5)
    assert table.loc[("all_foreground", 5), "difference"] == pytest.approx(-35, abs=0.5)
    assert set(table.seeds) == {2}
    assert set(table.episodes) == {160}
    assert (table.p_holm >= table.p).all()
    assert "above" in table.loc[("vit_patch", 1), "sentence"]


def test_comparison_on_the_blocks_that_both_have(runs):
    some = [run for run in runs if (run.arm, run.fold, run.seed) != ("vit_patch", 3, 2)]
    table = tables.comparison(some).set_index(["arm", "shots"])
    assert table.loc[("vit_patch", 1), "difference"] == pytest.approx(10, abs=0.5)
    with pytest.raises(UserError, match="'nothing' has no run; arms with runs are all_foreground, baseline"):
        tables.comparison(runs, baseline="nothing")


def test_main_table_and_its_files(runs, tmp_path):
    table = tables.main_table(runs)
    assert list(table) == ["arm", "shots", *(f"fold {k}" for k in range(4)), "mean", "low", "high", "fb_iou", "seeds"]
    row = table.set_index(["arm", "shots"]).loc[("baseline", 1)]
    assert row["mean"] == pytest.approx(row[[f"fold {k}" for k in range(4)]].mean())
    assert row.low < row["mean"] < row.high
    paths = tables.write_table(table, tmp_path / "main")
    assert [path.name for path in paths] == ["main.csv", "main.tex", "main.md"]
    pd.testing.assert_frame_equal(pd.read_csv(paths[0]), table)
    latex = paths[1].read_text()
    assert r"\toprule" in latex
    assert r"vit\_patch & 1 &" in latex
    assert r"95\% interval" in latex
    assert f"{row['mean']:.1f} | {row.low:.1f} to {row.high:.1f}" in paths[2].read_text().replace("  ", "")


def test_gaps_by_hand():
    history = pd.DataFrame({"epoch": [1, 2, 3, 4], "train_miou": [0, 70, 80, 90.0], "val_miou": [9, 60, 60, 60.0]})
    history["novel_miou"] = 50.0
    both = pd.concat([history.assign(arm="a", fold=fold, seed=1) for fold in (0, 1)])
    both.loc[both.fold == 1, "train_miou"] += 6
    table = tables.gaps(both)
    assert sorted(table.points) == pytest.approx([20, 26, 30, 36])
    found = tables.gap_intervals(table).set_index("gap")
    assert found["mean"].to_dict() == pytest.approx({"train - val": 23, "train - novel": 33})
    assert found.low["train - val"] == pytest.approx(23 - 12.7062 * 3)  # t with one degree of freedom
    alone = tables.gap_intervals(table[table.fold == 0])
    assert np.isnan(alone.low).all()
