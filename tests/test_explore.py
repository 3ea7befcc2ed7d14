"""Exploring episodes: the trace is what testing scores, the overrides stay where they are, the controls redraw."""

import copy
import shutil
from contextlib import nullcontext
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import share, tiny_study

from asgnet.data.transforms import fit
from asgnet.errors import UserError
from asgnet.evaluate import score_episodes
from asgnet.layout import Layout
from asgnet.look import widgets
from asgnet.look.episodes import choose_episodes
from asgnet.look.explore import Explorer
from asgnet.look.inside import EVOLUTION, allocation_of
from asgnet.plots import trace as plots
from asgnet.stages.train import run_training

FOLD, SEED = 1, 0
RUN = ("baseline", FOLD, SEED)
CLASSES = ["giraffe", "snake", "flowerpot", "teapot", "sailboat"]  # the novel ones of fold 1


@pytest.fixture(scope="module")
def explorer(prepared, tmp_path_factory):
    """A tiny study with two trained arms, opened in its own folder."""
    folder = tmp_path_factory.mktemp("explored")
    share(prepared, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        study = tiny_study(folder)
        for arm in ("baseline", "vit_patch"):
            run_training(study, arm, FOLD, SEED, report=lambda row: None)
        yield Explorer(study)


@pytest.fixture
def exact(monkeypatch):
    """In float32, where batches of another size round alike."""
    for module in ("asgnet.evaluate", "asgnet.gallery", "asgnet.look.explore"):
        monkeypatch.setattr(f"{module}.autocast", lambda *_: nullcontext())


def assert_same(one: plots.Trace, other: plots.Trace) -> None:
    for name in ("similarity", "guide", "probability", "prediction", "iou"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for first, second in zip(one.shots, other.shots, strict=True):
        for name in ("seed_cells", "association", "superpixels", "evolution", "centres", "steps"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("arm", ["baseline", "vit_patch"])
@pytest.mark.parametrize("shots", [1, 2])
def test_a_trace_predicts_what_testing_scores(explorer, exact, arm, shots):
    explorer = Explorer(explorer.study)  # nothing reduced in another precision
    model = explorer.model(arm, FOLD, SEED)
    for number in explorer.episodes(FOLD)["episode"][:3]:
        masks = []
        row = explorer.episodes(FOLD).query("episode == @number")
        scored = score_episodes(
            model, explorer.source, row, shots, watch=lambda _, mask, masks=masks: masks.append(mask.numpy())
        ).iloc[0]
        trace = explorer.trace(arm, FOLD, SEED, None, number, shots=shots)
        image = explorer.source.tree.image(scored["query"])
        expected = fit(image, masks[0].astype(np.uint8), explorer.source.size)[1] == 1
        assert (trace.prediction != expected).sum() <= 3
        assert trace.iou == pytest.approx(100 * scored["inter_fg"] / max(scored["union_fg"], 1), abs=0.2)
        assert len(trace.similarity) == sum(len(shot.association) for shot in trace.shots) == scored["prototypes"]
        assert [shot.first for shot in trace.shots] == [0, *np.cumsum([len(s.association) for s in trace.shots[:-1]])]
        assert set(np.unique(trace.guide)) <= set(range(len(trace.similarity)))
        chosen = np.take_along_axis(trace.similarity, trace.guide[None], 0)[0]
        np.testing.assert_allclose(chosen, trace.similarity.max(0), atol=1e-5)  # two may be alike to the last digit
        np.testing.assert_allclose(trace.probability, trace.similarity.sum(0), atol=1e-5)


@pytest.mark.parametrize("iterations", [None, 0, 3, 20])
def test_the_evolution_ends_at_the_association_that_is_shown(explorer, iterations):
    clustered = 0
    for number in explorer.episodes(FOLD)["episode"]:
        trace = explorer.trace(*RUN, None, number, iterations=iterations, shots=2)
        for shot in trace.shots:
            assert shot.steps == tuple(sorted({*EVOLUTION, trace.iterations}))
            labels = shot.evolution[shot.steps.index(trace.iterations)]
            np.testing.assert_array_equal(labels, shot.superpixels)
            if len(shot.seed_cells):
                clustered += 1
                inside = labels >= 0
                np.testing.assert_array_equal(shot.association.argmax(0)[inside], labels[inside])
                np.testing.assert_array_equal(shot.association.sum(0) > 0, inside)
                np.testing.assert_allclose(shot.centres[0], shot.seed_cells, atol=1e-4)
    assert clustered > 3


def test_another_number_of_seed_cells_or_iterations_leaves_nothing_behind(explorer):
    model = explorer.model(*RUN)
    before = explorer.trace(*RUN, None, 0, shots=2)
    configuration, weights = model.config, {name: value.clone() for name, value in model.state_dict().items()}
    for most in (1, 2, 9):
        other = explorer.trace(*RUN, None, 0, max_seeds=most, iterations=0, shots=2)
        assert all(len(shot.association) <= most for shot in other.shots)
        assert (other.max_seeds, other.iterations) == (most, 0)
    assert model.config is model.head.config is configuration
    for name, value in model.state_dict().items():
        assert (value == weights[name]).all()
    assert_same(before, explorer.trace(*RUN, None, 0, shots=2))
    assert_same(before, Explorer(explorer.study).trace(*RUN, None, 0, shots=2))


def test_one_seed_cell_is_the_masked_average(explorer):
    trace = explorer.trace(*RUN, None, 0, max_seeds=1)
    (shot,) = trace.shots
    assert shot.seed_cells.shape == (0, 2)
    assert (shot.evolution == shot.superpixels).all()
    assert set(np.unique(shot.superpixels)) == {-1, 0}
    assert (trace.guide == 0).all()
    assert plots.overview(trace).axes


def test_an_arm_that_expands_the_mean_prototype_has_no_guide_map(explorer):
    head = copy.copy(explorer.model(*RUN).head)
    head.config = replace(head.config, allocation="expanded", probability="mean")
    query, prototypes = torch.randn(1, 16, 5, 5), torch.randn(2, 3, 16)
    valid = torch.tensor([[True, True, False], [True, False, False]])
    similarity, guide, probability = allocation_of(head, query, prototypes, valid)
    assert (guide == -1).all()
    mean = prototypes[valid].mean(0)
    expected = torch.cosine_similarity(query[0], mean[:, None, None], 0)
    np.testing.assert_allclose(probability, expected, atol=1e-5)
    expected = torch.cosine_similarity(query, prototypes[valid][..., None, None], 1)
    np.testing.assert_allclose(similarity, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arm": "basline"}, "did you mean 'baseline'"),
        ({"arm": "residual_chain"}, "train the run first"),
        ({"seed": 7}, "train the run first"),
        ({"fold": 9}, "fold 9 is not in params.yaml"),
        ({"class_name": "snak"}, "did you mean 'snake'"),
        ({"class_name": "bird"}, "novel class 'bird' is unknown"),  # a base class of fold 1
        ({"episode": 999}, "no test episode 999: choose one of 0, 1, 2"),
        ({"class_name": "snake", "episode": 0}, "no test episode 0 of class 'snake'"),
        ({"shots": 0}, "expected 1 to"),
        ({"shots": 99}, "as many supports as the frozen episodes have"),
        ({"max_seeds": 0}, "max_seeds is 0: expected 1 or more"),
        ({"iterations": -1}, "iterations is -1: expected 0 or more"),
    ],
)
def test_what_is_not_there_is_named(explorer, change, message):
    asked = {"arm": "baseline", "fold": FOLD, "seed": SEED, "class_name": None, "episode": 0} | change
    with pytest.raises(UserError, match=message):
        explorer.trace(**asked)


def test_choices_are_what_the_study_has(explorer):
    assert explorer.arms(FOLD, SEED) == ["baseline", "vit_patch"]
    assert explorer.arms(FOLD, 7) == []
    assert explorer.classes(FOLD) == CLASSES
    numbers = explorer.numbers(FOLD, "snake")
    table = explorer.episodes(FOLD)
    assert len(numbers) == (table["class"] == 7).sum() > 0
    assert list(choose_episodes(table, explorer.source.tree, "snake", 2, 1)["episode"]) == [numbers[1]]
    for name in CLASSES:
        assert explorer.trace(*RUN, name, explorer.numbers(FOLD, name)[0]).class_name == name


class Shown:
    """Stands for the front end: what was displayed, and what replaced it."""

    def __init__(self):
        self.first, self.later = [], []

    def display(self, thing, display_id=False):
        self.first.append(thing)
        return self if display_id else None

    def update(self, thing):
        self.later.append(thing)


@pytest.fixture
def front(monkeypatch):
    shown = Shown()
    monkeypatch.setattr(widgets, "display", shown.display)
    return shown


def test_every_control_redraws_the_picture_once(explorer, front):
    panel = widgets.Panel(explorer, *RUN, "giraffe", explorer.numbers(FOLD, "giraffe")[0])
    panel.show()
    box, picture = front.first
    assert picture.data == panel.picture
    assert len(box.children) == 3
    moves = [
        ("max_seeds", 2), ("iterations", 0), ("shots", 2), ("shown", 2), ("class_name", "snake"),
        ("episode", explorer.numbers(FOLD, "snake")[1]), ("arm", "vit_patch"), ("shots", 1),
    ]  # fmt: skip
    for count, (name, value) in enumerate(moves, 1):
        before = panel.picture
        getattr(panel, name).value = value
        assert panel.picture != before, name
        assert len(front.later) == count
        assert front.later[-1].data == panel.picture
    with Image.open(BytesIO(panel.picture)) as image:
        assert image.width == 1080
        assert np.asarray(image.convert("L")).std() > 20
    assert (panel.max_seeds.value, panel.iterations.value) == (2, 0)  # moved by hand, so the new arm leaves them
    assert panel.shown.value == panel.shown.max == 1  # followed the shots
    trace = explorer.trace("vit_patch", FOLD, SEED, "snake", panel.episode.value, 2, 0, 1)
    assert panel.message.value == f"IoU {trace.iou:.1f} %"


def test_a_panel_starts_where_the_parameters_say(explorer, front):
    number = explorer.numbers(FOLD, "teapot")[1]
    panel = widgets.Panel(explorer, *RUN, "teapot", number, max_seeds=12, iterations=30, shots=2)
    assert [control.value for control in panel.controls] == ["baseline", "teapot", number, 12, 30, 2, 1]
    with pytest.raises(UserError, match="novel class 'bird'"):
        widgets.Panel(explorer, *RUN, "bird", 0)


def test_a_failing_redraw_is_raised_and_shown(explorer, front, tmp_path, monkeypatch):
    copied = Explorer(explorer.study)
    panel = widgets.Panel(copied, *RUN, "giraffe", copied.numbers(FOLD, "giraffe")[0])
    panel.show()
    head = Layout.of(explorer.study).run("vit_patch", FOLD, SEED) / "head.safetensors"
    shutil.move(head, tmp_path / "head")
    try:
        with pytest.raises(UserError, match="train the run first"):
            panel.arm.value = "vit_patch"
    finally:
        shutil.move(tmp_path / "head", head)
    assert "UserError" in panel.message.value
    assert front.later == []
    panel.arm.value = "baseline"
    assert panel.message.value.startswith("IoU")
    assert len(front.later) == 1
