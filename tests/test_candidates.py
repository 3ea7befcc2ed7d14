"""Candidates: the recipe is chosen on base classes that play novel ones."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from tiny import share, tiny_study

from asgnet.config import load_study
from asgnet.data.episodes import base_images, read_episodes, supports_of
from asgnet.data.index import read_index
from asgnet.data.parts import CLASSES, FOLDS
from asgnet.data.sampling import TrainingImages
from asgnet.errors import UserError
from asgnet.evaluate import score_episodes
from asgnet.layout import Layout
from asgnet.outline import along_edges
from asgnet.sections import Arm, Group, SelectionConfig, Split
from asgnet.stages import select
from asgnet.stages.candidates import gather_candidates, selection_table
from asgnet.stages.runs import build_model, load_run, open_source
from asgnet.stages.train import run_training
from asgnet.train import classes_of


@pytest.fixture(scope="module")
def study(prepared, tmp_path_factory):
    """The tiny study; its folder is the working one while a test runs."""
    folder = tmp_path_factory.mktemp("candidates")
    share(prepared, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield tiny_study(folder)


def test_nothing_asks_for_a_withheld_or_novel_class_in_training(study, monkeypatch):
    seen = {}

    def watched(model, source, images, monitored, config, seed, state, report):
        seen["trained"] = set(images.by_class)
        seen.update({name: set(table["class"]) for name, table in monitored.items()})
        raise KeyboardInterrupt

    monkeypatch.setattr(select, "train", watched)
    with pytest.raises(KeyboardInterrupt):
        select.run_selection(study, "calibrated", "first")
    withheld, novel = {c + 1 for c in range(5)}, set(FOLDS[1])
    for name in ("trained", "train", "val"):
        assert seen[name]
        assert not seen[name] & (withheld | novel)
    assert seen["novel"]
    assert seen["novel"] <= withheld


def test_the_selection_is_tested_on_held_out_images(study):
    select.run_selection(study, "calibrated", "first")
    layout = Layout.of(study)
    index = pd.read_csv(layout.index)
    held_out = set(index.loc[index["split"] == "val", "id"].astype(str))
    table = pd.read_csv(layout.selection("calibrated", "first") / "episodes_2shot.csv", dtype=str)
    assert set(table["query"]) <= held_out
    assert {one for row in table["supports"] for one in row.split(";")} <= held_out
    assert layout.selection_receipt("calibrated", "first").exists()
    found = selection_table(study)
    assert found["shots"].tolist() == [1, 2]
    assert (found["first"] == found["mean"]).all()


@pytest.mark.parametrize(
    ("withheld", "message"),
    [
        (("unicorn",), "base class of fold 1 'unicorn' is unknown"),
        ((CLASSES[FOLDS[1][0] - 1],), "base class of fold 1 .* is unknown"),
        ((), "0 of the 15 base classes"),
        (tuple(c for k, c in enumerate(CLASSES) if k + 1 not in FOLDS[1]), "15 of the 15 base classes"),
    ],
)
def test_only_some_base_classes_can_be_withheld(study, withheld, message):
    selection = replace(study.selection, splits={"first": Split(1, withheld)})
    with pytest.raises(UserError, match=message):
        select.run_selection(replace(study, selection=selection), "calibrated", "first")


def test_an_arm_that_looks_at_novel_classes_cannot_be_chosen(study):
    arm = Arm("ignored", train={"novel_pixels": "ignored"})
    looking = replace(study, candidates=Group((1,), (0,), {"ignored": arm}))
    with pytest.raises(UserError, match="ignored uses novel classes in training"):
        select.run_selection(looking, "ignored", "first")


@torch.no_grad()
def test_episodes_are_scored_at_the_threshold_of_their_supports_along_the_edges_of_the_query(study):
    study = replace(study, compute=replace(study.compute, precision="float32"))  # random margins lie close together
    source = open_source(study)
    model = build_model(study, "calibrated", 0, source).eval()
    model.head.classifier[-1].bias.copy_(torch.tensor([3.0, -3.0]))  # taught as background: no margin reaches 0
    episodes, seen = read_episodes(Layout.of(study).episodes(1, "test"))[:3], {}
    score_episodes(model, source, episodes, 1, watch=lambda row, prediction: seen.update({row: prediction}))
    rows = zip(episodes["query"], supports_of(episodes, 1), episodes["class"], strict=True)
    for row, (query, support, c) in enumerate(rows):
        masks = source.masks(support, [0], [c])[None]
        logits = model.forward_features(*(source.features(model, ids, [0]) for ids in ([query], support)), masks)
        margins = along_edges(logits[:, 1] - logits[:, 0], source.images([query], [0]))
        assert (seen[row] == (margins[0] > 0)).float().mean() > 0.999
        assert seen[row].any()  # at 0 there would be nothing


@torch.no_grad()
def test_what_is_drawn_along_the_edges_is_scored(study, monkeypatch):
    source = open_source(study)
    model = build_model(study, "calibrated", 0, source).eval()
    episodes, seen = read_episodes(Layout.of(study).episodes(1, "test"))[:3], {}
    monkeypatch.setattr("asgnet.evaluate.along_edges", lambda margins, images: images[:, 0])  # the brightest pixels
    score_episodes(model, source, episodes, 1, watch=lambda row, prediction: seen.update({row: prediction}))
    bright = source.images(list(episodes["query"]), [0] * 3)[:, 0] > 0
    for row in range(3):
        assert torch.equal(seen[row], bright[row])
        assert 0 < bright[row].float().mean() < 1


def test_a_head_is_shown_its_base_classes_before_the_first_step(study, monkeypatch):
    row = Arm("two decoders", model={"head": "together", "vit": "patch", "vit_width": 8})
    study, novel = replace(study, candidates=Group((1,), (0,), {"both": row})), set(FOLDS[1])
    shown, source = [], open_source(study)
    masks = source.masks
    monkeypatch.setattr(
        source, "masks", lambda ids, views, classes: shown.extend(classes) or masks(ids, views, classes)
    )
    images = TrainingImages.of(base_images(read_index(Layout.of(study).index), source.tree, 1, 1, "train"))
    model = build_model(study, "both", 0, source).eval()
    model.head.acquaint(classes_of(model, source, images))
    assert set(shown) == set(images.by_class)
    assert not set(shown) & novel
    known = model.head.similarity.known
    assert (known.norm(dim=1) > 0).sum() == len(images.by_class)
    trained = run_training(study, "both", 1, 0, report=lambda row: None)
    torch.testing.assert_close(trained.model.head.similarity.known, known)
    load_run(study, Layout.of(study).run("both", 1, 0))  # which has as many rows as a new network


def test_an_unknown_split_is_named(study):
    with pytest.raises(UserError, match=r"split 'frist' is unknown; did you mean 'first'\?"):
        select.run_selection(study, "calibrated", "frist")


def test_a_study_without_candidates_has_an_empty_table(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gather_candidates(replace(study, candidates=Group(), selection=SelectionConfig()))
    table = pd.read_csv(Layout.of(study).candidates / "selection.csv")
    assert table.empty
    assert list(table) == ["arm", "shots", "mean"]


def test_the_recipe_must_be_a_candidate(study):
    with pytest.raises(UserError, match=r"chosen: 'baseline' is no candidate; expected one of rejected, calibrated"):
        gather_candidates(replace(study, selection=SelectionConfig(chosen="baseline")))


def test_the_recipe_is_trained_on_the_folds_themselves(tmp_path):
    raw = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text())
    raw["selection"]["trained"] = []
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(UserError, match=r"params.yaml: selection.trained: together, the recipe .* add it"):
        load_study(tmp_path / "params.yaml")
