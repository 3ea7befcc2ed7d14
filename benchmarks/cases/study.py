"""The study's own work on Lite0: test episodes with everything they need, and an epoch of training."""

import copy
from contextlib import chdir
from dataclasses import replace

import pandas as pd
import torch

from asgnet.backbones import build_encoder, build_vit, for_inference
from asgnet.config import Study
from asgnet.data.episodes import base_images, draw_episodes, read_episodes, supports_of
from asgnet.data.index import read_index
from asgnet.data.sampling import TrainingImages
from asgnet.device import fast_dtype
from asgnet.evaluate import score_episodes
from asgnet.layout import Layout
from asgnet.metrics import miou
from asgnet.model import ASGNet
from asgnet.sections import ModelConfig
from asgnet.source import OnlineSource
from asgnet.stages.runs import build_model, open_source
from asgnet.train import MONITORED, init_model, train
from benchmarks.case import Case, fast_tolerance
from benchmarks.cases.network import SEED, without_dropout
from benchmarks.plain.network import Plain
from benchmarks.plain.study import Photographs, epoch, test
from benchmarks.sizes import Sizes
from benchmarks.workspace import FOLD, Workspace

LOSSES = ("loss", *(f"{name}_loss" for name in MONITORED))


def whole_network(study: Study, config: ModelConfig) -> ASGNet:
    """The network with all its frozen parts as they are defined, nothing folded; what learns is as `build_model` gives
    it."""
    features = study.features
    encoder = build_encoder(config, features.weights, features.pretrained)
    vit = None if config.vit == "none" else build_vit(config, features.weights, features.pretrained)
    made = init_model(config, SEED, encoder=encoder, vit=vit)
    without_dropout(made)
    return made


def episodes_case(sizes: Sizes, workspace: Workspace, shots: int) -> Case:
    """Test episodes from photographs on disk to counted pixels. Compared in mIoU."""
    study, tree, images = workspace.photographs(sizes)
    drawn = {class_id: ids for class_id, ids in images.items() if len(ids) > shots}
    episodes = draw_episodes(drawn, tree.classes, shots, sizes.episodes, study.data.seed, "benchmark-episodes")
    model = whole_network(study, study.model).eval()
    photographs = Photographs(tree, study.data.size, study.data.seed)
    find_something(model, photographs, episodes.head(4))
    plain_network = Plain(model).eval()
    model.encoder = for_inference(model.encoder, fast_dtype())
    source = OnlineSource(study, tree)
    return Case(
        f"{len(episodes)} test episodes over {sizes.parts[1]} images of {study.data.dataset}, {study.model.backbone}, "
        f"{study.data.size} x {study.data.size} pixels, {shots} shot{'s' if shots > 1 else ''}",
        plain=lambda: test(plain_network, photographs, episodes, shots),
        ours=lambda: score_episodes(model, source, episodes, shots, study.test.batch),
        long=True,
        inputs=[plain_network],
        error=miou_difference,
        **fast_tolerance(0.05, 0.4),  # cut at their median, many margins of random weights lie close to it
    )


@torch.no_grad()
def find_something(model: ASGNet, photographs: Photographs, episodes: pd.DataFrame) -> None:
    """Shift the output so that half of the pixels of ``episodes`` are the object's. Random weights may else find it
    nowhere, and mIoU would be 0 whatever is computed."""
    margins = []
    for query, class_id, (support,) in zip(episodes["query"], episodes["class"], supports_of(episodes, 1), strict=True):
        (x, _), (s_x, s_y) = (photographs.views([image], [0], class_id) for image in (query, support))
        logits = model(x, s_x[None], s_y[None])  # (1, 2, S, S)
        margins.append(logits[0, 1] - logits[0, 0])
    model.head.classifier[-1].bias[1] -= torch.stack(margins).median()


def miou_difference(plain: pd.DataFrame, ours: pd.DataFrame) -> float:
    """Points of mIoU between two tables of episodes; infinite where the plain one found nothing, which compares
    nothing."""
    return abs(miou(plain) - miou(ours)) if miou(plain) > 0 else float("inf")


def epoch_case(sizes: Sizes, workspace: Workspace, arm: str) -> Case:
    """An epoch of an arm with its monitored episodes; ours reads frozen features from the store. Compared in losses."""
    study, folder = workspace.made(sizes)
    layout, config = Layout.of(study), replace(study.train_of(arm), epochs=1)
    with chdir(folder):
        source = open_source(study)
        model = build_model(study, arm, SEED, source)
        monitored = {name: read_episodes(layout.episodes(FOLD, name)) for name in MONITORED}
        index = read_index(layout.index)
    without_dropout(model)
    images = TrainingImages.of(base_images(index, source.tree, FOLD, config.shots, "train"))
    network = Plain(whole_network(study, study.model_of(arm)))
    photographs = Photographs(source.tree, study.data.size, study.data.seed)
    views = study.features.views

    def plain() -> list[float]:
        row = epoch(copy.deepcopy(network), photographs, images, monitored, config, SEED, views)
        return [row[name] for name in LOSSES]

    def ours() -> list[float]:
        history = train(copy.deepcopy(model), source, images, monitored, config, SEED).history
        return history[list(LOSSES)].iloc[0].tolist()

    return Case(
        f"an epoch of {arm} on {study.data.dataset}: {config.steps_per_epoch} steps, {sum(sizes.monitored)} episodes",
        plain,
        ours,
        long=True,
        inputs=[network],
        **fast_tolerance(0.02, 0.05),
    )
