"""Every kind of figure is drawn from made-up data and saved without a warning, with the same bytes each time."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from study import write_study

from asgnet import results, tables
from asgnet.plots import bars, contact, curves, overlay, panels, save, style, tiles, trace
from asgnet.rng import generator

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[results.Run]:
    return results.find_runs(write_study(tmp_path_factory.mktemp("results")))


def photograph(index: int, height: int = 49, width: int = 65) -> np.ndarray:
    return generator(index, "test-plots").integers(0, 256, (height, width, 3), dtype=np.uint8)


def disc(height: int = 49, width: int = 65, shift: int = 0) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (y - height // 2) ** 2 + (x - width // 2 - shift) ** 2 < (height // 3) ** 2


def traced(index: int, shots: int = 1) -> trace.Trace:
    """A square episode on a grid of 7 x 7 cells; each support has three prototypes, the last but one support one."""
    rng = generator(index, "test-trace")
    supports, first, square = [], 0, {"height": 49, "width": 49}
    for k in range(shots):
        n = 1 if k == 1 else 3
        labels = np.where(disc(7, 7), rng.integers(0, n, (3, 7, 7)), -1)
        seeds = np.array([[3, 4], [2, 3], [4, 3]])[: n * (n > 1)]
        centres = rng.uniform(2, 4, (3, len(seeds), 2))
        association = rng.uniform(0, 1, (n, 7, 7)) * disc(7, 7)
        image, mask = photograph(index + k, **square), disc(**square)
        supports.append(trace.Shot(image, mask, first, seeds, association, labels[1], (0, 2, 5), labels, centres))
        first += n
    truth = disc(**square, shift=3).astype(np.uint8)
    truth[:3] = 255
    similarity = rng.uniform(-1, 1, (first, 7, 7))
    return trace.Trace(
        "ASGNet", "cat", index, 3, 2, tuple(supports), photograph(index + 9, **square), truth, similarity,
        similarity.argmax(0), similarity.sum(0), disc(**square, shift=5), 61.5,
    )  # fmt: skip


def blank(one: trace.Trace) -> trace.Trace:
    """The episode with an empty support mask: no prototype, and nothing predicted."""
    shot, none = one.shots[0], np.full((3, 7, 7), -1)
    arrays = {"mask": shot.mask & False, "seed_cells": shot.seed_cells[:0], "association": shot.association[:0]}
    empty = replace(shot, **arrays, superpixels=none[0], evolution=none, centres=shot.centres[:, :0])
    arrays = {"similarity": one.similarity[:0], "guide": none[0], "probability": 0 * one.probability}
    return replace(one, **arrays, shots=(empty,), prediction=one.prediction & False, iou=0.0)


def prediction(index: int, predicted: np.ndarray) -> panels.Prediction:
    truth = disc().astype(np.uint8)
    truth[:3] = 255
    return panels.Prediction("dog", photograph(index), disc(), photograph(index + 1), truth, predicted, 41.5)


def tables_figure(name: str) -> Callable[[list[results.Run]], Figure]:
    def draw(runs: list[results.Run]) -> Figure:
        match name:
            case "curves":
                return curves.curves(results.histories(runs), ["baseline", "vit_patch"])
            case "gap":
                gaps = tables.gaps(results.histories(runs))
                return bars.gap(gaps, tables.gap_intervals(gaps))
            case "differences":
                return bars.differences(tables.comparison(runs), ["vit_patch"])
            case _:
                return getattr(bars, name)(tables.main_table(runs))

    return draw


FIGURES = {
    **{name: tables_figure(name) for name in ("curves", "test_miou", "per_fold", "gap", "differences")},
    "superpixels": lambda _: trace.superpixels([traced(0), traced(5)]),
    "evolution": lambda _: trace.evolution([traced(0), traced(5)], label="demo"),
    "overview": lambda _: trace.overview(traced(0)),
    "overview_of_shots": lambda _: trace.overview(traced(0, shots=3), shot=1, label="demo"),
    "overview_without_guide": lambda _: trace.overview(replace(traced(0), guide=np.full((7, 7), -1))),
    "overview_without_prototype": lambda _: trace.overview(blank(traced(0))),
    "predictions": lambda _: panels.predictions([
        prediction(0, disc(shift=4)), prediction(1, np.zeros((49, 65), bool)), prediction(2, np.ones((49, 65), bool)),
    ]),
    "contact": lambda _: contact.contact_sheet({
        "cat": [(photograph(0), disc(), None)],
        "cow": [(photograph(1, 65, 49), disc(65, 49), disc(65, 49) * 2)] * 2,
        "dog": [(photograph(2), disc(), disc() * 1)],
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_saved_with_its_source_and_the_same_bytes(name, runs, tmp_path):
    source = tmp_path / "input.csv"
    source.write_text("a,b\n")
    first, second = (
        save.save(FIGURES[name](runs), name, tmp_path / folder, "figures", [source]) for folder in ("first", "second")
    )
    assert [path.name for path in first] == [f"{name}.pdf", f"{name}.png"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    digest = save.hash_of([source])
    pdf = first[0].read_bytes()
    assert f"sha256:{digest}".encode() in pdf
    assert b"stage figures" in pdf
    assert b"CreationDate" not in pdf
    with Image.open(first[1]) as image:
        assert image.text["Source"] == f"inputs sha256:{digest}"
        assert image.text["Description"] == "stage figures"
        assert np.asarray(image.convert("L")).std() > 5  # something is drawn


def test_hash_depends_on_contents_alone(tmp_path):
    a, b, c = (tmp_path / name for name in "abc")
    a.write_text("1")
    b.write_text("2")
    c.write_text("1")
    assert save.hash_of([a, b]) == save.hash_of([b, c])
    assert save.hash_of([a, b]) != save.hash_of([a, c])
    inner = [hashlib.sha256(text).hexdigest() for text in (b"1", b"2")]
    assert save.hash_of([a, b]) == hashlib.sha256("\n".join(sorted(inner)).encode()).hexdigest()


def test_looks_differ_in_grey():
    for count in range(1, 7):
        looks = style.looks(range(count)).values()
        red, green, blue = (np.array([int(look.colour[i : i + 2], 16) for look in looks]) for i in (1, 3, 5))
        grey = 0.299 * red + 0.587 * green + 0.114 * blue
        assert (np.diff(grey) > 10).all()
    assert len({(look.line, look.colour) for look in style.looks(range(6)).values()}) == 6


def test_enlarging_keeps_corners_on_corners():
    grid = np.arange(6).reshape(2, 3)
    big = overlay.enlarge(grid, 9, 17)
    assert big.shape == (9, 17)
    assert [big[0, 0], big[0, -1], big[-1, 0], big[-1, -1]] == [0, 2, 3, 5]
    assert set(np.unique(big)) == set(range(6))


def test_borders_surround_regions_and_close_at_the_frame():
    labels = np.full((3, 5), -1)
    labels[:2, :2] = 0
    lines = tiles.borders(labels, size=9).tolist()  # cells are 4 x 2 pixels apart; ends are (row, col)
    assert sorted(lines) == [
        [[-0.5, -0.5], [-0.5, 3]], [[-0.5, -0.5], [6, -0.5]], [[-0.5, 3], [6, 3]], [[6, -0.5], [6, 3]],
    ]  # fmt: skip
    assert len(tiles.borders(np.zeros((3, 5), int), size=9)) == 4  # the frame
    assert len(tiles.borders(np.array([[0, 1], [1, 0]]), size=9)) == 6
    assert len(tiles.borders(np.full((3, 5), -1), size=9)) == 0


def test_tinting_on_the_grid_is_tinting():
    image, labels = photograph(3, 49, 49), generator(3, "test-tint").integers(-1, 14, (7, 7))
    expected = 255 * overlay.tint(image, overlay.enlarge(labels, 49, 49), 0.5)
    assert np.abs(trace._tint(image, labels, 0.5) - expected).max() <= 1


def test_large_pictures_are_thinned_on_the_screen_only():
    small = traced(0)
    large = np.kron(small.query, np.ones((10, 10, 1), np.uint8))[:473, :473]
    mask = np.kron(small.truth, np.ones((10, 10), np.uint8))[:473, :473]
    shot = replace(small.shots[0], image=large, mask=mask == 1)
    big = replace(small, query=large, truth=mask, prediction=mask == 1, shots=(shot,))
    widths = [figure.axes[0].images[0].get_size()[0] for figure in (trace.overview(big), trace.superpixels([big]))]
    assert widths == [237, 473]
    assert trace.overview(small).axes[0].images[0].get_size()[0] == 49


def test_a_large_picture_is_thinned_at_the_same_coordinates():
    figure = Figure()
    image = np.zeros((300, 525, 3), np.uint8)
    image[:, 270:] = 255
    for axis, longest, shape in zip(figure.subplots(2), (None, 260), ((300, 525, 3), (100, 175, 3)), strict=True):
        overlay.picture(axis, image, longest)
        (shown,) = axis.images
        assert shown.get_array().shape == shape
        assert shown.get_extent() == [-0.5, 524.5, 299.5, -0.5]
        columns = np.asarray(shown.get_array(), float)[0, :, 0]
        assert (columns > 0).argmax() / len(columns) == pytest.approx(270 / 525)


@style.paper
def test_the_note_below_meets_no_label():
    figure = Figure(figsize=(style.COLUMN, 2))
    axis = figure.subplots()
    axis.set_xlabel("difference to baseline in\ntest mIoU (points, 95 % interval)")
    style.note_below(figure, "demo: short schedules, the numbers mean nothing")
    figure.draw_without_rendering()
    assert not figure.legends[0].get_window_extent().overlaps(axis.xaxis.label.get_window_extent())


def test_a_difference_far_beyond_the_others_does_not_hide_them():
    values = {"near": 0.5, "nearer": -0.2, "other": 1.0, "lost": -67.0}
    table = pd.DataFrame({"arm": list(values), "difference": list(values.values()), "shots": 1})
    table = table.assign(low=table["difference"] - 1, high=table["difference"] + 1, p_holm=0.5, baseline="baseline")
    axis = bars.forest({"": table}).axes[0]
    assert axis.get_xlim()[0] > -5
    assert "\u25c2 -67.0" in [text.get_text() for text in axis.texts]
