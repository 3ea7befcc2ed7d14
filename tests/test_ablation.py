"""What is varied at test time. Run: pytest tests/test_ablation.py"""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from asgnet.ablation import reconfigured, score_variations, variations
from asgnet.data.episodes import read_episodes
from asgnet.errors import UserError
from asgnet.evaluate import score_episodes
from asgnet.layout import Layout
from asgnet.metrics import COUNTS
from asgnet.sections import AblationConfig
from asgnet.stages.ablate import QUALITY, run_ablation
from asgnet.stages.prototypes import gather_prototypes
from asgnet.stages.runs import build_model, open_source
from asgnet.stages.test import run_test
from asgnet.stages.train import run_training

CONFIG = AblationConfig(counts=(1, 5), clusterers=("sgc", "kmeans", "average"), iterations=(0, 5),
                        spatial_weights=(100.0,), shots=(1, 3), fusions=("pool", "votes"))  # fmt: skip


@pytest.fixture
def tested(study):
    """A source, an untrained network and a few test episodes."""
    source = open_source(study)
    model = build_model(study, "baseline", 0, source).eval()
    return source, model, read_episodes(Layout.of(study).episodes(1, "test")).head(6)


def test_a_variation_is_the_network_tested_so(tested):
    source, model, episodes = tested
    table = score_variations(model, source, episodes, variations(CONFIG, model.config, parts=True), batch=4)
    scored = {key: part.reset_index(drop=True) for key, part in table.groupby(["table", "setting", "shots"])}
    assert {len(part) for part in scored.values()} == {6}
    plain = score_episodes(model, source, episodes, 1, batch=4)
    for key in (("count", "5", 1), ("clusterer", "sgc", 1), ("iterations", "5", 1), ("fusion", "pool", 1)):
        pd.testing.assert_frame_equal(scored[key][COUNTS], plain[COUNTS])
    one = score_episodes(reconfigured(model, max_seeds=1), source, episodes, 1, batch=4)
    pd.testing.assert_frame_equal(scored["count", "1", 1][COUNTS], one[COUNTS])
    # one seed cell is the masked average, whoever makes it; true parts are others
    pd.testing.assert_frame_equal(scored["clusterer", "average", 1][COUNTS], one[COUNTS])
    assert (one["prototypes"] == 1).all()
    assert (plain["prototypes"] > 1).any()
    assert not scored["clusterer", "parts", 1][COUNTS].equals(plain[COUNTS])
    three = score_episodes(model, source, episodes, 3, batch=4)
    pd.testing.assert_frame_equal(scored["fusion", "pool", 3][COUNTS], three[COUNTS])


def test_reconfiguring_leaves_the_network_alone(tested):
    _, model, _ = tested
    varied = reconfigured(model, max_seeds=9)
    assert (varied.config.max_seeds, varied.head.config.max_seeds) == (9, 9)
    assert (model.config.max_seeds, model.head.config.max_seeds) == (5, 5)
    assert varied.head.down_conv[0].weight is model.head.down_conv[0].weight


def test_bad_settings_are_named(tested, study):
    source, model, episodes = tested
    with pytest.raises(UserError, match="'kmean' is unknown; did you mean 'kmeans'"):
        variations(dataclasses.replace(CONFIG, clusterers=("kmean",)), model.config, parts=False)
    rows = variations(dataclasses.replace(CONFIG, shots=(4,)), model.config, parts=False)
    with pytest.raises(UserError, match="4 supports asked for, but the test episodes have 3"):
        score_variations(model, source, episodes, rows)
    with pytest.raises(UserError, match="arm vit_cls is not in"):
        run_ablation(study, "vit_cls", 1, 0)


@pytest.mark.parametrize(
    ("arm", "drifts"),
    [("nmax_1", False), ("late_dropout", False), ("batch_statistics", True), ("novel_ignored", False)],
)
def test_rows_beside_the_arms_train(study, arm, drifts):
    rows = {
        "batch_statistics": {"model": {"batch_statistics": True}},
        "novel_ignored": {"train": {"novel_pixels": "ignored"}},
    }
    if arm in rows:
        other = dataclasses.replace(study.departures.arms["late_dropout"], **{"model": {}, "train": {}, **rows[arm]})
        study = dataclasses.replace(study, departures=dataclasses.replace(study.departures, arms={arm: other}))
    before = run_training(study, "baseline", 1, 0, report=lambda row: None)
    after = run_training(study, arm, 1, 0, report=lambda row: None)
    assert before.history["loss"].tolist() != after.history["loss"].tolist()
    assert any(name.startswith("encoder.") for name in after.model.trainable_state()) == drifts
    run_test(study, arm, 1, 0)  # which loads what was saved


def test_the_ablations_end_in_tables(study):
    for arm in ("baseline", "nmax_1", "late_dropout"):
        run_training(study, arm, 1, 0, report=lambda row: None)
        run_test(study, arm, 1, 0)
    for arm in ("baseline", "nmax_1"):
        run_ablation(study, arm, 1, 0)
    gather_prototypes(dataclasses.replace(study, arms={"baseline": study.arms["baseline"]}))
    layout = Layout.of(study)
    tables = {path.stem: pd.read_csv(path) for path in layout.prototypes.iterdir()}
    assert set(tables) == {"trained", "departures", "selection", "variations", "shape", "quality"}
    assert set(tables["trained"]["setting"]) == {study.arms["baseline"].label, "N_max 1"}
    varied = tables["variations"]
    assert set(varied["table"]) == {"count", "clusterer", "iterations", "spatial weight", "seed rule", "fusion"}
    counts = varied[varied["table"] == "count"].set_index(["arm", "setting"])["difference"]
    assert counts.isna().sum() == 2
    assert len(counts) == 4
    assert varied["mean"].between(0, 100).all()
    assert set(tables["shape"]["table"]) >= {"scale", "hidden"}
    assert (tables["shape"]["from"] <= tables["shape"]["to"]).all()
    assert tables["quality"]["supports"].gt(0).all()
    assert list(pd.read_csv(layout.run("baseline", 1, 0) / "quality.csv")) == QUALITY


def test_images_with_novel_classes_can_be_left_out_of_training(study):
    void = (6, 7, 8, 9, 10)
    source = open_source(study)
    views = source.store.views
    ids = [i for i in views.loc[views["split"] == "train", "id"].unique() if np.isin(source.tree.mask(i), void).any()][
        :2
    ]
    plain, ignored = source.masks(ids, [0, 0], [1, 1]), source.masks(ids, [0, 0], [1, 1], void)
    changed = plain != ignored
    assert changed.any()
    assert (plain[changed] == 0).all()
    assert (ignored[changed] == 255).all()
    kept = []
    rule = dataclasses.replace(study.train, novel_pixels="left_out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asgnet.stages.train.train", lambda model, source, images, *rest: kept.append(images) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_training(dataclasses.replace(study, train=rule), "baseline", 1, 0)
    assert kept[0].by_image
    for image in kept[0].by_image:
        area = np.isin(source.tree.mask(image), void).sum()
        assert area < study.data.min_pixels * len(void)
