"""The plain implementation computes what the project does, and a quick run of the benchmarks writes everything. No test
looks at a time. Run: pytest tests/test_benchmarks.py"""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import ROOT, tiny_study

from asgnet.layout import Layout
from asgnet.superpixel import place_seeds, sgc
from benchmarks import arms, inputs, memory, roofline, table
from benchmarks.__main__ import main
from benchmarks.case import Case, relative_error
from benchmarks.cases import ARMS, CASES
from benchmarks.cases.prototypes import gpa_case, seeds_case, sgc_case
from benchmarks.measure import ResultsDifferError, measure
from benchmarks.plain.clustering import cluster
from benchmarks.plain.seeds import place_seeds as place_plainly
from benchmarks.sizes import QUICK
from benchmarks.workspace import Workspace


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The folder that a quick run of everything wrote to."""
    folder = tmp_path_factory.mktemp("bench")
    # several threads wait for each other where another test holds a core: five times as long
    assert main(["--quick", "--repeats", "1", "--threads", "1", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def results(quick):
    return pd.read_csv(quick / "results.csv").set_index("case")


@pytest.mark.parametrize("name", CASES)
def test_plain_equals_ours(results, name):
    row = results.loc[name]
    assert row["error"] <= row["tolerance"]
    if row["precision"] == "fp32":
        assert row["tolerance"] <= 0.05  # points of mIoU; all others are relative


def test_a_quick_run_writes_every_column_of_every_case(quick, results):
    assert list(results.index) == list(CASES)
    assert [results.index.name, *results.columns] == table.COLUMNS
    of_the_full_size = {"published_s", "expected_s", "plain_over_expected", "fair"}
    assert results.drop(columns=list(of_the_full_size)).notna().all(axis=None)
    assert results["threads"].nunique() == results["cpu"].nunique() == results["revision"].nunique() == 1
    assert (results[["plain_s", "ours_s", "ratio", "bytes", "floor_s"]] > 0).all(axis=None)
    assert set(pd.read_csv(quick / "peaks.csv")["peak"]) >= {"matrix fp32", "convolution fp32", "bandwidth"}
    assert set(pd.read_csv(quick / "growth.csv")["axis"]) == {"batch", "N_max", "grid", "shots", "images"}
    assert (quick / "results.png").stat().st_size > 10_000


def test_the_arms_are_those_of_the_study():
    study, _ = Workspace(ROOT).study(QUICK)
    assert tuple(study.arms) == ARMS


@pytest.mark.parametrize("case", [seeds_case, sgc_case, gpa_case])
def test_plain_equals_ours_at_other_sizes(case):
    made = case(dataclasses.replace(QUICK, pixels=121, batch=3, shots=1, count=9))
    assert relative_error(made.plain(), made.ours()) <= 1e-5


@pytest.mark.parametrize("share", [0.0, 0.004, 1.0])
def test_plain_seeds_and_averages_of_an_empty_a_tiny_and_a_full_mask(share):
    mask = torch.zeros(97, 97)
    side = round(97 * share**0.5)
    mask[:side, :side] = 1
    seeds = place_seeds(mask, (13, 13), 5, 5.0)
    assert torch.equal(seeds[(seeds >= 0).all(1)], place_plainly(mask, (13, 13), 5, 5.0))
    features = torch.randn(1, 8, 13, 13, generator=torch.Generator().manual_seed(0))
    soft = torch.nn.functional.interpolate(mask[None, None], (13, 13), mode="bilinear", align_corners=True)[0]
    ours, valid = sgc(features, soft, seeds[None], 5)
    plain = cluster(features[0], soft[0], seeds[(seeds >= 0).all(1)], 5)
    torch.testing.assert_close(ours[0][valid[0]], plain[: int(valid.sum())])


def test_a_case_that_differs_is_not_timed():
    case = Case("wrong", plain=lambda: torch.ones(2), ours=lambda: torch.tensor([1.0, 1.1]))
    with pytest.raises(ResultsDifferError, match=r"wrong: plain and ours differ by 0\.07"):
        measure("wrong", case, repeats=1, long_repeats=1)


def test_rows_of_another_revision_are_not_kept(tmp_path):
    row = dict.fromkeys(table.COLUMNS, 1) | table.machine()
    path = tmp_path / "results.csv"
    for case, revision in (("a", "old"), ("b", "new"), ("c", "new"), ("b", "new")):
        table.write(path, pd.DataFrame([row | {"case": case, "revision": revision}], columns=table.COLUMNS))
    assert list(pd.read_csv(path)["case"]) == ["c", "b"]


def test_the_published_seconds_are_scaled_by_the_convolution_rate():
    row = {"case": "gpa", "precision": "fp32", "published_s": 0.013, "plain_s": 0.030, "ours_s": 0.01, "bytes": 0}
    row |= {"matrix_operations": 0, "convolution_operations": 50}
    peaks = {"matrix fp32": 1, "convolution fp32": 250e9, "bandwidth": 1}
    done = table.complete([row], peaks).iloc[0]
    assert done["expected_s"] == pytest.approx(0.026)
    assert done["fair"]
    assert not table.complete([row | {"plain_s": 0.040}], peaks).iloc[0]["fair"]


def test_memory_and_operations_are_those_of_a_known_product():
    a = torch.ones(512, 1024)
    assert memory.allocated_peak(lambda: a + 1) == pytest.approx(2, rel=0.01)  # MiB
    assert memory.allocated_peak(lambda: ((a + 1) * 2).sum()) == pytest.approx(4, rel=0.01)
    assert roofline.operations(lambda: a @ a.T) == {"matrix": 2 * 512 * 1024 * 512, "convolution": 0}
    case = Case("product", plain=lambda: a @ a.T, ours=lambda: a @ a.T, inputs=[a])
    assert roofline.bytes_at_least(case, a @ a.T) == 4 * (512 * 1024 + 512 * 512)


def test_objects_cover_their_share_of_the_frame():
    masks = inputs.objects("test", 20, pixels=129).float()
    assert np.allclose(masks.mean((1, 2)), inputs.SHARE, atol=0.01)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--case", "sgcc"], "invalid choice: 'sgcc'"),
        (["--repeats", "0"], "--repeats 0: expected 1 or more"),
        (["--threads", "0"], "--threads 0: expected 1 or more"),
        (["--case", "episodes_1shot", "--voc", "nowhere", "--quick"], "nowhere: no such folder"),
    ],
)
def test_bad_arguments_end_with_status_2(tmp_path, capsys, arguments, said):
    try:
        status = main([*arguments, "--out", str(tmp_path)])
    except SystemExit as refused:
        status = refused.code
    torch.set_num_threads(1)
    assert status == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "results.csv").exists()


def test_the_frontier_holds_what_no_faster_row_equals():
    rows = [("a", 1.0, 20), ("b", 2.0, 50), ("c", 2.5, 50), ("d", 3.0, 40), ("e", 4.0, 60), ("f", 2.0, 30)]
    table = pd.DataFrame(rows, columns=["arm", "seconds", "mean"])
    assert arms.frontier(table)["arm"].tolist() == ["a", "b", "e"]


def test_every_row_has_a_mark_of_its_own():
    names = [f"row {k}" for k in range(16)]
    table = pd.DataFrame({"arm": names, "shots": 1, "seconds": 1.0, "mean": 50.0})
    figure = arms.draw(table, dict(zip(names, names, strict=True)), names[:5], "a note")
    lines = [line for line in figure.axes[0].lines if line.get_label() in names]
    looks = {(line.get_marker(), line.get_color(), line.get_markerfacecolor()) for line in lines}
    assert len(lines) == len(looks) == len(names)
    assert [line.get_markerfacecolor() for line in lines[:6]].count("none") == 5


def test_every_row_of_a_study_is_timed_and_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = tiny_study(tmp_path)
    folder = Layout.of(study).candidates
    folder.mkdir(parents=True)
    names = [*study.training_free, *study.arms, *study.candidates.arms]
    rows = [(name, shots, 50.0 + k) for k, name in enumerate(names) for shots in study.test.shots]
    pd.DataFrame(rows, columns=["arm", "shots", "mean"]).to_csv(folder / "classes.csv", index=False)
    monkeypatch.setattr(arms, "REPEATS", 1)
    table = arms.run(study)
    assert table["arm"].tolist() == names * len(study.test.shots)
    assert (table.loc[table["arm"] == arms.AGAINST, "ratio"] == 1).all()
    assert (table["seconds"] > 0).all()
    assert (folder.parent / "inference.csv").exists()
    assert (folder.parent / "inference.png").exists()
