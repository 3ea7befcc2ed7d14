"""The ablations' figures and printed tables from made-up tables on disk. Run: pytest tests/test_ablation_figures.py"""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from imports import ROOT
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from asgnet.ablation_tables import MEASURED
from asgnet.config import Study, load_study
from asgnet.errors import UserError
from asgnet.layout import Layout
from asgnet.plots import ablations
from asgnet.rng import generator
from asgnet.stages.ablation_figures import FidelityDrawer, PrototypeDrawer

pytestmark = pytest.mark.filterwarnings("error")

FOLDS = [f"fold {fold}" for fold in range(4)]
PROTOTYPE_FIGURES = [
    "counts", "count_heat", "allocation", "clusterers", "iterations", "shots_fusion", "shape", "quality",
]  # fmt: skip


def family(table: str, settings: list[str], reference: str, shots: int = 1, arm: str = "", seeds: int = 2, **more):
    """Rows as `ablation_table` has them, with numbers drawn from the names, and ``more`` columns."""
    rows = []
    for i, setting in enumerate(settings):
        rng = generator(i, f"made-up {table} {arm}", shots, more.get("bin", 0))
        folds = 57 + 4 * (shots > 1) + 5 * more.get("bin", 0) + np.array([-6, 4, 3, -1]) + rng.normal(0, 0.5, 4)
        row = {"table": table, "arm": arm, "shots": shots, "setting": setting, **dict(zip(FOLDS, folds, strict=True))}
        row |= dict.fromkeys(MEASURED) | {"mean": folds.mean(), "low": folds.mean() - 4, "high": folds.mean() + 4}
        if setting != reference:
            value = rng.normal(-0.5, 1)
            row |= {"reference": reference, "difference": value, "difference_low": value - 0.8}
            row |= {"difference_high": value + 0.8, "p": 0.01, "p_holm": 0.04, "episodes": 4000}
            row |= {"sentence": f"{table}: {setting} against {reference}, {shots}-shot."}
        rows.append(row | {"seeds": seeds} | more)
    return rows


def made_up(study: Study) -> dict[str, pd.DataFrame]:
    """All tables of results/<dataset>/prototypes for the rows of ``study``."""
    config, labels = study.ablation, {name: arm.label for name, arm in study.trained.items()}
    baseline = labels["baseline"]
    trained, departures, variations, shape, quality = [], [], [], [], []
    for table in ("count", "count rule", "allocation"):
        names = [baseline, *(arm.label for arm in study.prototypes.arms.values() if arm.table == table)]
        trained += [row for shots in (1, 5) for row in family(table, names, baseline, shots)]
    for shots in (1, 5):
        names = [baseline, *(arm.label for arm in study.departures.arms.values())]
        departures += family("departures", names, baseline, shots, seeds=1)
    for name in config.arms:
        counts = [str(count) for count in config.counts]
        variations += family("count", counts, str(study.model_of(name).max_seeds), arm=labels[name])
    variations += family("clusterer", [*config.clusterers, "parts"], "sgc", arm=baseline)
    variations += family("iterations", [str(n) for n in config.iterations], "5", arm=baseline)
    variations += family("spatial weight", [f"{w:g}" for w in config.spatial_weights], "100", arm=baseline)
    variations += family("seed rule", list(config.seed_rules), "published", arm=baseline)
    for shots in config.shots:
        variations += family("fusion", list(config.fusions if shots > 1 else ["pool"]), "pool", shots, arm=baseline)
    edges = {"scale": [4, 6.5, 9.25, 14, 21, 63.4], "solidity": [0.31, 0.62, 0.7, 0.78, 0.9, 0.99],
             "elongation": [0.02, 0.17, 0.3, 0.4, 0.53, 0.86], "hidden": [0, 0, 0.07, 0.2, 0.91]}  # fmt: skip
    for measure, ends in edges.items():
        for number in range(len(ends) - 1):
            place = {"bin": number, "from": ends[number], "to": ends[number + 1]}
            shape += family(measure, ["count 1", "clusterer sgc", "clusterer parts"], "clusterer sgc", **place)
    for measure, level in {"asa": 78, "ue": 31, "ari": 0.42, "apart": 0.3}.items():
        for i, method in enumerate(["sgc", "soft_kmeans", "kmeans", "em", "slic"]):
            mean = level * (1 + 0.03 * i)
            row = {"measure": measure, "method": method, "mean": mean, "low": mean * 0.98, "high": mean * 1.02}
            quality.append(row | {"supports": 900})
    selection = [
        {"arm": name, "fold": fold, "seed": seed, "added": fold + seed}
        for name in study.arms for fold in study.folds for seed in study.seeds
    ]  # fmt: skip
    tables = {"trained": trained, "departures": departures, "variations": variations, "shape": shape}
    tables |= {"quality": quality, "selection": selection}
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def write(study: Study, tables: dict[str, pd.DataFrame]) -> None:
    folder = Layout.of(study).prototypes
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)


@pytest.fixture
def study(tmp_path, monkeypatch) -> Study:
    """The project's study in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return load_study(ROOT / "params.yaml")


@pytest.fixture
def drawn(study) -> Study:
    """The same with made-up tables."""
    write(study, made_up(study))
    return study


@pytest.fixture
def unsaved(drawn, monkeypatch) -> Study:
    """The same, whose figures are drawn but not saved, which takes most of the time."""
    monkeypatch.setattr("asgnet.stages.figures.save", lambda *_: None)
    return drawn


def draw(study: Study, name: str) -> Figure:
    return getattr(FidelityDrawer(study) if name == "departures" else PrototypeDrawer(study), name)()


def boxes(texts: list[Text]) -> list:
    return [text.get_window_extent() for text in texts if text.get_visible() and text.get_text()]


def tick_labels(axis: Axes) -> list[list[Text]]:
    """Those of x and y that are drawn: ticks beyond the axis's ends have labels too."""
    shown = []
    for i, (line, ends) in enumerate(((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim()))):
        low, high = sorted(ends)
        shown.append([text for text in line.get_ticklabels(which="both") if low <= text.get_position()[i] <= high])
    return shown


@pytest.mark.parametrize("name", [*PROTOTYPE_FIGURES, "departures"])
def test_figures_are_saved_with_the_same_bytes_and_no_text_on_another(name, drawn):
    figure = draw(drawn, name)
    folder = Layout.of(drawn).figures / ("fidelity" if name == "departures" else "prototypes")
    paths = [folder / f"{name}.{suffix}" for suffix in ("pdf", "png")]
    first = [path.read_bytes() for path in paths]
    draw(drawn, name)
    assert [path.read_bytes() for path in paths] == first
    assert (b"fidelity_figures" if name == "departures" else b"prototype_figures") in first[0]
    FigureCanvasAgg(figure).draw()
    whole = figure.bbox
    for axis in figure.axes:
        x, y = tick_labels(axis)
        names = [axis.title, axis.xaxis.label, axis.yaxis.label, *axis.texts]
        for group in (x, y, axis.texts, [*names[:3], *x], [*names[:3], *y]):
            for one, other in combinations(boxes(group), 2):
                assert not one.overlaps(other), (axis.get_title(), one, other)
        for box in boxes([*x, *y, *names]):
            assert whole.x0 <= box.x0
            assert box.x1 <= whole.x1
            assert whole.y0 <= box.y0
            assert box.y1 <= whole.y1
        if axis.get_ylabel():
            assert axis.yaxis.label.get_window_extent().height <= 1.05 * axis.bbox.height
    labels = [text for axis in figure.axes for text in (axis.title, axis.xaxis.label, axis.yaxis.label)]
    ticks = [text for axis in figure.axes for text in tick_labels(axis)[0]]
    for group in (labels, ticks):
        for one, other in combinations(boxes(group), 2):
            assert not one.overlaps(other)
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert whole.x0 <= box.x0
        assert box.x1 <= whole.x1


def points(axis: Axes) -> list[int]:
    """How many points each series with intervals has."""
    return [len(container.lines[0].get_xdata()) for container in axis.containers]


def test_counts_show_folds_mean_and_difference_at_the_trained_n_max(unsaved):
    figure = draw(unsaved, "counts")
    assert [axis.get_title() for axis in figure.axes[:2]] == ["1-shot", "5-shot"]
    for above, below in zip(figure.axes[:2], figure.axes[2:], strict=True):
        assert [len(one.get_xdata()) for one in above.lines[:4]] == [5] * 4
        assert len(above.collections) == 1  # the interval of the mean
        assert list(above.lines[4].get_xdata()) == [1, 3, 5, 7, 9]
        assert points(below) == [5]
    rows = PrototypeDrawer(unsaved).rows("trained", "count").query("shots == 1").set_index("setting")
    means = figure.axes[0].lines[4].get_ydata()
    differences = figure.axes[2].containers[0].lines[0].get_ydata()
    assert means[2] == pytest.approx(rows.loc[unsaved.arms["baseline"].label, "mean"])
    assert means[4] == pytest.approx(rows.loc["N_max 9", "mean"])
    assert differences[2] == 0
    assert differences[0] == pytest.approx(rows.loc["N_max 1", "difference"])


def test_the_heat_map_has_training_in_rows_and_testing_in_columns(unsaved):
    figure = draw(unsaved, "count_heat")
    axis = figure.axes[0]
    assert len(axis.texts) == 25
    assert len(axis.patches) == 5
    rows = PrototypeDrawer(unsaved).rows("variations", "count").set_index(["arm", "setting"])
    value = rows.loc[("N_max 3", "7"), "mean"]
    text = next(text for text in axis.texts if text.get_position() == (3, 1))
    assert text.get_text().rstrip("*") == f"{value:.1f}"
    assert axis.images[0].get_array()[1, 3] == pytest.approx(value)
    low, high = rows.loc[("N_max 3", "7"), ["difference_low", "difference_high"]]
    assert text.get_text().endswith("*") == (low > 0 or high < 0)


@pytest.mark.parametrize(
    ("name", "titles", "rows", "shots"),
    [
        ("allocation", ["count rule", "allocation"], [1, 2], 2),
        ("clusterers", [""], [5], 1),
        ("departures", ["one random seed: exploratory"], [7], 2),
    ],
)
def test_forests_show_every_row_but_the_reference(name, titles, rows, shots, unsaved):
    figure = draw(unsaved, name)
    assert [axis.get_title() for axis in figure.axes] == titles
    for axis, count in zip(figure.axes, rows, strict=True):
        assert points(axis) == [count] * shots
        assert [text.get_text() for text in axis.texts] == ["p = 0.04"] * count * shots
    names = [label.get_text() for label in figure.axes[-1].get_yticklabels()]
    wanted = {"allocation": "SGC + expand", "clusterers": "true parts", "departures": "8 novel pixels ignored"}
    assert names[-1] == wanted[name]
    reference = "SGC" if name == "clusterers" else unsaved.arms["baseline"].label
    assert figure.axes[-1].get_xlabel().startswith(f"difference to {reference} in")


def test_lines_of_settings_shots_and_shape(unsaved):
    axes = draw(unsaved, "iterations").axes
    assert [points(axis) for axis in axes] == [[], [], [2], [6], [5], [2]]
    assert list(axes[3].containers[0].lines[0].get_xdata()) == [0, 1, 2, 5, 10, 20]
    assert [axis.get_xscale() for axis in axes[3:]] == ["symlog", "log", "linear"]
    axes = draw(unsaved, "shots_fusion").axes
    assert [points(axis) for axis in axes] == [[4, 3, 3], [3] * 2]
    axes = draw(unsaved, "shape").axes
    assert [points(axis) for axis in axes] == [*[[5] * 3] * 3, [4] * 3, *[[5] * 2] * 3, [4] * 2]
    assert [label.get_text() for label in axes[4].get_xticklabels()] == ["4", "6.5", "9.2", "14", "21", "63"]
    assert [label.get_text() for label in axes[7].get_xticklabels()] == ["0", "0", "0.07", "0.2", "0.91"]


def test_quality_says_which_way_is_better(unsaved):
    figure = draw(unsaved, "quality")
    labels = [axis.get_xlabel() for axis in figure.axes]
    assert ["more is better →" in label for label in labels] == [True, False, True, True]
    assert [points(axis) for axis in figure.axes] == [[5]] * 4
    table = PrototypeDrawer(unsaved).quality_table()
    assert list(table.iloc[0]) == ["ASA", "SGC", "78.0", "76.4 to 79.6", 900]
    assert list(table["mean"])[10] == "0.420"


def test_close_ends_of_bins_stay_apart():
    assert ablations.short_numbers([0.901, 0.904, 14, 100.3]) == ["0.901", "0.904", "14", "100"]
    assert ablations.short_numbers([0, 0, 140.2]) == ["0", "0", "140"]


@pytest.mark.parametrize("name", [*PROTOTYPE_FIGURES, "departures"])
def test_a_table_without_rows_has_no_figure(name, study, capsys):
    write(study, {file: table.iloc[:0] for file, table in made_up(study).items()})
    assert draw(study, name) is None
    assert f"no figure '{name}'" in capsys.readouterr().out
    assert not [path for path in Layout.of(study).figures.rglob("*") if path.is_file()]
    drawer = PrototypeDrawer(study)
    drawer.show(None, "variations", "fusion")
    assert drawer.table("shape").empty
    assert drawer.quality_table().empty
    assert drawer.sentences("trained", "count") == []


def test_a_small_study_with_one_fold_seed_and_number_of_shots(unsaved):
    tables = made_up(unsaved)
    small = {name: tables[name].drop(columns=FOLDS[1:]) for name in ("trained", "variations")}
    small["trained"] = small["trained"].query("shots == 1 and table != 'count rule'").copy()
    small["trained"]["seeds"] = 1
    small["variations"] = small["variations"].query("setting not in ('1', '2', '10', '20')")
    write(unsaved, tables | small)
    for name in PROTOTYPE_FIGURES:
        FigureCanvasAgg(draw(unsaved, name)).draw()
    assert [axis.get_title() for axis in draw(unsaved, "allocation").axes] == ["one random seed: exploratory"]


def test_a_reference_alone_is_no_comparison(study):
    tables = made_up(study)
    write(study, tables | {"departures": tables["departures"][tables["departures"]["reference"].isna()]})
    assert draw(study, "departures") is None


def test_missing_tables_name_the_command(study):
    with pytest.raises(UserError, match=r"trained\.csv: no such file; run `asgnet prototypes` first"):
        draw(study, "counts")


def test_printed_tables_and_sentences(unsaved, capsys):
    drawer = PrototypeDrawer(unsaved)
    table = drawer.table("variations", "clusterer")
    assert list(table) == ["setting", "shots", *FOLDS, "mean", "95% interval", "difference", "its interval",
                           "corrected p", "seeds"]  # fmt: skip
    assert list(table["setting"]) == ["SGC", "soft k-means", "k-means", "EM mixture", "SLIC", "true parts"]
    assert list(table.iloc[0][["difference", "its interval", "corrected p"]]) == ["–"] * 3
    assert table.iloc[1]["difference"][0] in "+-"
    assert list(drawer.table("variations", "count"))[:2] == ["trained as", "setting"]
    assert list(drawer.table("trained", "count rule", "allocation"))[:2] == ["table", "setting"]
    assert list(drawer.table("shape"))[:3] == ["table", "range", "setting"]
    assert drawer.table("shape").iloc[0]["range"] == "4 to 6.5"
    assert len(drawer.sentences("variations", "count")) == 20
    drawer.show(drawer.clusterers(), "variations", "clusterer")
    assert "clusterer: em against sgc, 1-shot." in capsys.readouterr().out


def test_selection_by_hand(unsaved):
    table = FidelityDrawer(unsaved).selection()
    assert list(table["arm"]) == [arm.label for arm in unsaved.arms.values()]
    added = [0, 1, 2, 3, 1, 2, 3, 4]
    half = 2.364624 * np.std(added, ddof=1) / 8**0.5  # t with seven degrees of freedom
    assert list(table.iloc[0])[1:] == ["2.0", f"{2 - half:.1f} to {2 + half:.1f}", 8]
