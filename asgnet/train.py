"""Training one run: an arm, a fold, a random seed (facts: "Training"; ARCHITECTURE: curves and selection).

The loop keeps nothing in global state: batches and dropout are functions of (random seed, step), so a run that was
killed goes on from its last epoch to the same weights, bit for bit on the CPU.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from asgnet.checkpoint import load_state, save_state
from asgnet.config import ModelConfig, TrainConfig
from asgnet.data.sampling import TrainingImages, training_batch
from asgnet.device import autocast
from asgnet.evaluate import score_episodes
from asgnet.metrics import miou
from asgnet.model import ASGNet
from asgnet.rng import generator
from asgnet.source import Source

MONITORED = ("train", "val", "novel")


@dataclass
class Trained:
    """A finished run: the network with its selected weights, its curves, and what picked them."""

    model: ASGNet
    history: pd.DataFrame  # one row an epoch: epoch, lr, loss, and loss and miou of each monitored split
    best_epoch: int
    steps: int


def train(
    model: ASGNet,
    source: Source,
    images: TrainingImages,
    monitored: dict[str, pd.DataFrame],
    config: TrainConfig,
    seed: int,
    state: Path | None = None,
    report: Callable[[dict[str, Any]], None] = lambda row: None,
    void: Sequence[int] = (),
) -> Trained:
    """Train ``model`` and leave it with the weights of its best epoch.

    ``monitored`` holds frozen episodes named train, val and, where classes are novel, novel; ``config.selection`` says
    which picks the epoch.
    ``state`` names the file that resumable state is kept in (it must be keyed by everything the run depends on);
    ``report`` is called with every row of the history; pixels of the classes in ``void`` are ignored in queries.
    """
    optimiser = torch.optim.SGD(
        model.trainable_parameters(), config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )
    total = config.epochs * config.steps_per_epoch
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimiser, total, config.power)
    history: list[dict[str, Any]] = []
    best = {"miou": -1.0, "epoch": 0, "weights": {}}
    if state is not None and (saved := load_state(state)) is not None:
        model.load_state_dict(saved["model"], strict=False)
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
        history, best = saved["history"], saved["best"]
        for row in history:
            report(row)
    for epoch in range(len(history) + 1, config.epochs + 1):
        model.train()
        row = {"epoch": epoch, "lr": schedule.get_last_lr()[0]}
        losses = torch.zeros(())
        for step in range((epoch - 1) * config.steps_per_epoch, epoch * config.steps_per_epoch):
            losses += _step(model, source, images, config, seed, step, optimiser, void)
            schedule.step()
        row["loss"] = float(losses) / config.steps_per_epoch
        for name in monitored:
            scored = score_episodes(model, source, monitored[name], config.shots, loss=True)
            row |= {f"{name}_loss": float(scored["loss"].mean()), f"{name}_miou": miou(scored)}
        history.append(row)
        report(row)
        if row[f"{config.selection}_miou"] > best["miou"]:
            weights = copy.deepcopy(model.trainable_state())
            best = {"miou": row[f"{config.selection}_miou"], "epoch": epoch, "weights": weights}
        if state is not None:
            save_state(
                state,
                {
                    "model": model.trainable_state(),
                    "optimiser": optimiser.state_dict(),
                    "schedule": schedule.state_dict(),
                    "history": history,
                    "best": best,
                },
            )
    model.load_state_dict(best["weights"], strict=False)
    model.eval()
    return Trained(model, pd.DataFrame(history), best["epoch"], total)


def monitored_splits(fold: int | None) -> tuple[str, ...]:
    """The splits that a run is monitored on; without a fold, all classes are trained on and none is novel."""
    return MONITORED if fold is not None else MONITORED[:2]


def _step(
    model: ASGNet,
    source: Source,
    images: TrainingImages,
    config: TrainConfig,
    seed: int,
    step: int,
    optimiser: torch.optim.Optimizer,
    void: Sequence[int],
) -> torch.Tensor:
    """One step of SGD on a batch of episodes; returns the loss."""
    episodes = training_batch(images, step, config.batch, config.shots, seed, source.views)
    classes = [e.class_id for e in episodes]
    ids = [i for e in episodes for i in e.supports]  # B K
    views = [v for e in episodes for v in e.support_views]
    queries, query_views = [e.query for e in episodes], [e.query_view for e in episodes]
    shots = len(ids) // len(episodes)
    y = source.masks(queries, query_views, classes, void)  # (B, S, S)
    s_y = source.masks(ids, views, [c for c in classes for _ in range(shots)])  # (B K, S, S)
    with torch.random.fork_rng(), autocast(source.device):
        torch.manual_seed(int(generator(seed, "dropout", step).integers(2**62)))
        query = source.features(model, queries, query_views, differentiable=True)
        support = source.features(model, ids, views)
        _, main, auxiliary = model.forward_features(query, support, s_y.unflatten(0, (-1, shots)), y=y)
    loss = main + config.auxiliary * auxiliary
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return loss.detach().cpu()


def init_model(config: ModelConfig, seed: int, **parts: Any) -> ASGNet:
    """A network whose trainable weights depend on the random seed alone; ``parts`` go to ASGNet."""
    with torch.random.fork_rng():
        torch.manual_seed(int(generator(seed, "init").integers(2**62)))
        return ASGNet(config, **parts)
