"""A study's stages, called in this process at a tiny size."""

import dataclasses
import json
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch

from asgnet.backbones.encoder import Features
from asgnet.cli import main
from asgnet.data.episodes import draw_episodes, read_episodes, supports_of
from asgnet.data.index import read_index
from asgnet.errors import UserError
from asgnet.evaluate import score_episodes
from asgnet.gallery import in_parts
from asgnet.layout import Layout
from asgnet.metrics import COUNTS, intersection_union, miou
from asgnet.sections import Arm, TrainingFree
from asgnet.source import OnlineSource
from asgnet.stages.runs import build_model, load_run, open_source
from asgnet.stages.test import run_test, run_training_free
from asgnet.stages.train import run_training
from asgnet.store import Extractor, Store
from asgnet.training_free import best_threshold, score_training_free


def test_no_novel_class_is_trained_on_and_all_are_tested(study):
    layout = Layout.of(study)
    novel = {6, 7, 8, 9, 10}  # fold 1
    for name in ("train", "val"):
        assert not novel & set(read_episodes(layout.episodes(1, name))["class"])
    assert set(read_episodes(layout.episodes(1, "test"))["class"]) == novel


def test_stored_and_online_features_agree_on_the_same_view(study):
    stored = open_source(study)
    online = OnlineSource(study, stored.tree)
    ids = list(stored.store.views["id"][:3])
    ours, theirs = stored.frozen(ids, [0] * 3), online.frozen(ids, [0] * 3)
    for a, b in ((ours.cnn, theirs.cnn), (ours.vit, theirs.vit)):
        similarity = torch.cosine_similarity(a.float().flatten(1), b.float().flatten(1))
        assert similarity.min() > 0.999  # bf16 rounds differently in batches of another size
    assert torch.equal(stored.masks(ids, [0] * 3, [1, 2, 3]), online.masks(ids, [0] * 3, [1, 2, 3]))


def test_online_training_gives_the_curves_of_stored_training(study):
    stored = run_training(study, "baseline", 1, 0, report=lambda row: None).history
    features = dataclasses.replace(study.features, mode="online")
    online = OnlineSource.views
    OnlineSource.views = 1  # the plain view only, as the store holds it
    try:
        fresh = run_training(dataclasses.replace(study, features=features), "baseline", 1, 0, lambda row: None).history
    finally:
        OnlineSource.views = online
    np.testing.assert_allclose(stored["loss"], fresh["loss"], rtol=0.02)


@pytest.mark.parametrize("arm", ["baseline", "residual_chain", "vit_cls", "vit_patch"])
def test_every_arm_trains_and_tests_with_its_own_weights(study, arm):
    trained = run_training(study, arm, 1, 0, report=lambda row: None)
    folder = Layout.of(study).run(arm, 1, 0)
    loaded = load_run(study, folder)
    for name, value in trained.model.trainable_state().items():
        assert torch.equal(value, loaded.trainable_state()[name])
    tables = run_test(study, arm, 1, 0)
    assert set(tables) == {1, 2}
    assert (folder / "examples.npz").exists()
    for name in ("train", "metrics_1shot", "metrics_2shot"):
        result = json.loads((folder / f"{name}.json").read_text())
        assert (result["novel_pixels"], result["selection"], result["label"]) == ("background", "val", "test")
    start = build_model(study, arm, 0, open_source(study)).trainable_state()
    moved = [name for name, value in trained.model.trainable_state().items() if not torch.equal(value, start[name])]
    weights = [name for name in start if name.endswith("weight")]
    assert set(weights) <= set(moved)


def test_an_epoch_may_be_one_pass_over_the_training_images(study):
    train = dataclasses.replace(study.train, epochs=1, steps_per_epoch=None, batch=32)
    trained = run_training(dataclasses.replace(study, train=train), "baseline", 1, 0, lambda row: None)
    index = read_index(Layout.of(study).index)
    shown = index[(index["split"] == "train") & ~index["class"].between(6, 10)]["id"].nunique()
    assert trained.steps == -(-shown // 32)
    assert dataclasses.replace(train, steps_per_epoch=7).on(100).steps_per_epoch == 7
    with pytest.raises(ValueError, match="follow from the fold's images"):
        _ = train.pass_steps


def test_a_killed_run_goes_on_to_the_same_weights(study):
    whole = run_training(study, "baseline", 1, 0, report=lambda row: None).model.trainable_state()

    class Killed(BaseException):
        pass

    def stop_at_two(row):
        if row["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        run_training(study, "baseline", 1, 0, report=stop_at_two)
    rows = []
    again = run_training(study, "baseline", 1, 0, report=rows.append)
    assert [row["epoch"] for row in rows] == [1, 2]
    for name, value in again.model.trainable_state().items():
        assert torch.equal(value, whole[name])


def test_changed_parameters_do_not_resume_old_state(study):
    def stop(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(study, "baseline", 1, 0, report=stop)
    resume = Layout.of(study).resume("baseline", 1, 0)
    state = set(resume.iterdir())
    other = dataclasses.replace(study, train=dataclasses.replace(study.train, lr=0.01))
    with pytest.raises(KeyboardInterrupt):
        run_training(other, "baseline", 1, 0, report=stop)
    assert len(set(resume.iterdir()) - state) == 1
    run_training(other, "baseline", 1, 0, report=lambda row: None)
    assert not resume.exists()


def test_scores_from_the_gallery_are_those_of_single_episodes(study, monkeypatch):
    for module in ("evaluate", "gallery"):  # in float32, where batches of another size round alike
        monkeypatch.setattr(f"asgnet.{module}.autocast", lambda *_: nullcontext())
    source = open_source(study)
    model = build_model(study, "baseline", 0, source).eval()
    episodes = read_episodes(Layout.of(study).episodes(1, "test")).head(3)
    scored = score_episodes(model, source, episodes, shots=2)
    for k, ids in enumerate(supports_of(episodes, 2)):
        query, label = episodes["query"].iloc[k], int(episodes["class"].iloc[k])
        masks = source.masks(ids, [0, 0], [label, label])[None]
        with torch.no_grad():
            features = source.features(model, [query], [0]), source.features(model, ids, [0, 0])
            logits = model.forward_features(*features, masks)
        counts = intersection_union(logits[:, 1] > logits[:, 0], source.masks([query], [0], [label]))[0]
        ours = scored[["inter_fg", "union_fg", "inter_bg", "union_bg"]].iloc[k].to_numpy()
        assert np.abs(ours - counts.numpy()).max() <= 5


def test_many_images_are_scored_part_by_part_to_the_same_numbers(study, monkeypatch):
    monkeypatch.setattr("asgnet.gallery.autocast", lambda *_: nullcontext())
    source = open_source(study)
    model = build_model(study, "baseline", 0, source).eval()
    val, test = (read_episodes(Layout.of(study).episodes(1, name)) for name in ("val", "test"))
    arm, seen = TrainingFree("cosine", features="vit"), []

    def run(most):
        for module in ("evaluate", "training_free"):
            monkeypatch.setattr(f"asgnet.{module}.in_parts", lambda table, shots, _=None: in_parts(table, shots, most))
        scored = score_episodes(model, source, test, 2, watch=lambda row, mask: seen.append(row))
        return scored, score_training_free(arm, source, test, 2, best_threshold(arm, source, val, 2))

    whole, parts = run(800), run(6)
    assert seen == [*range(len(test))] * 2
    for one, other in zip(whole, parts, strict=True):
        pd.testing.assert_frame_equal(one[["episode", "supports"]], other[["episode", "supports"]])
        assert np.abs(one[COUNTS] - other[COUNTS]).to_numpy().max() <= 5  # batches of another size round differently


def test_all_foreground_is_the_share_of_the_object(study):
    run_training_free(study, "all_foreground", 1)
    folder = Layout.of(study).run("all_foreground", 1, 0)
    assert json.loads((folder / "metrics_1shot.json").read_text())["novel_pixels"] is None
    table = pd.read_csv(folder / "episodes_1shot.csv")
    tree = open_source(study).tree
    for row in table.to_dict("records"):
        mask = tree.mask(row["query"])
        assert row["inter_fg"] == (mask == row["class"]).sum()
        assert row["union_fg"] == (mask != 255).sum()


class Planted:
    """A source whose features say outright which cells belong to which class."""

    device, size = torch.device("cpu"), 65

    def __init__(self):
        rng = np.random.default_rng(0)
        self.labels = {}
        for k in range(12):
            mask = np.zeros((65, 65), np.uint8)
            top, left = rng.integers(1, 30, 2)
            mask[top : top + 30, left : left + 30] = 1 + k % 2
            self.labels[f"i{k}"] = mask

    def frozen(self, ids, views):
        cells = np.stack([self.labels[i][::8, ::8] for i in ids])  # (n, 9, 9)
        cnn = torch.nn.functional.one_hot(torch.from_numpy(cells).long(), 4).movedim(-1, 1)
        return Features(cnn=cnn.float() + 0.01)

    def masks(self, ids, views, classes):
        return torch.from_numpy(
            np.stack([self.labels[i] == c for i, c in zip(ids, classes, strict=True)]).astype("uint8")
        )

    def original_mask(self, image_id, class_id):
        return self.masks([image_id], [0], [class_id])[0]


@pytest.mark.parametrize("background", [False, True])
def test_a_cosine_row_finds_planted_objects_and_its_threshold_on_val(background):
    source = Planted()
    images = {c: [i for i, mask in source.labels.items() if c in mask] for c in (1, 2)}
    val, test = (draw_episodes(images, ["one", "two"], 2, 10, 0, name) for name in ("val", "test"))
    arm = TrainingFree("planted", features="cnn", background=background)
    for shots in (1, 2):
        table = score_training_free(arm, source, test, shots, best_threshold(arm, source, val, shots))
        assert miou(table) > 70  # 30-pixel squares on a grid of 8 pixels


def test_a_row_whose_vit_sees_a_size_that_is_not_stored_is_refused(study):
    rows = {"odd": Arm(label="odd", model={"vit": "patch", "vit_size": 70})}
    changed = dataclasses.replace(study, candidates=dataclasses.replace(study.candidates, arms=rows))
    with pytest.raises(UserError, match=r"arm odd: model.vit_size 70 is not stored .*56, 28 is.*features.vit_sizes"):
        changed.check_stored("odd")
    online = dataclasses.replace(study.features, mode="online")
    dataclasses.replace(changed, features=online).check_stored("odd")


def test_the_store_keeps_the_tokens_of_every_size(study):
    store, source = Store(Layout.of(study).features), open_source(study)
    rows = np.arange(3)
    images = store.images(rows)
    extractor = Extractor(study)
    for size in (56, 28):
        tokens = store.features(rows, size).vit
        assert tokens.shape[1] == 1 + (size // 14) ** 2
        alike = torch.cosine_similarity(tokens.float(), extractor.tokens(images, size).float(), dim=2)
        assert alike.min() > 0.99  # bf16 rounds differently in batches of another size
    model = build_model(study, "calibrated", 0, source)
    ids = store.views["id"].head(3).tolist()
    assert source.features(model, ids, [0] * 3).vit.shape[1] == 5  # the row's own size
    assert source.frozen(ids, [0] * 3).vit.shape[1] == 17  # the study's


def test_the_index_knows_every_split(study):
    assert set(read_index(Layout.of(study).index)["split"]) == {"train", "val", "test"}


def test_a_run_without_training_says_so(study):
    with pytest.raises(UserError, match="train the run first"):
        run_test(study, "baseline", 1, 0)


def test_a_trained_run_is_evaluated_on_any_tree_of_the_layout(study, capsys, tmp_path):
    run_training(study, "baseline", 1, 0, report=lambda row: None)
    folder = Layout.of(study).run("baseline", 1, 0)
    common = (str(folder), "--episodes", "5", "--json")
    assert main(("evaluate", *common)) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert (metrics["episodes"], metrics["novel_pixels"], metrics["selection"]) == (5, "background", "val")
    assert set(metrics["iou"]) == {"giraffe", "snake", "flowerpot", "teapot", "sailboat"}
    (tmp_path / "elsewhere").symlink_to((tmp_path / study.data.root).resolve())
    assert main(("evaluate", *common, "--data-root", str(tmp_path / "elsewhere"))) == 0
    assert json.loads(capsys.readouterr().out) == metrics
    assert main(("evaluate", *common, "--shots", "99")) == 2
    assert "99-shot episodes need at least 100" in capsys.readouterr().err
    (folder / "head.safetensors").write_bytes(b"cut off")
    assert main(("evaluate", *common)) == 2
    assert "not readable as trained weights" in capsys.readouterr().err
