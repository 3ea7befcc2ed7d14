"""Training one run: an arm, a fold, a random seed (facts: "Training"; ARCHITECTURE: curves and selection).

The loop keeps nothing in global state: batches are functions of (random seed, step) and dropout of (random seed, step,
rank), so a run that was killed goes on from its last epoch to the same weights, bit for bit on the CPU. Several
processes (`asgnet.distributed`) share each batch and take the step that one would take, dropout and distractors aside.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from asgnet.checkpoint import load_state, save_state
from asgnet.data.sampling import TrainingImages
from asgnet.device import autocast
from asgnet.distractors import with_distractors
from asgnet.distributed import processes, rank, total
from asgnet.errors import UserError
from asgnet.evaluate import score_episodes
from asgnet.loader import Step, training_steps
from asgnet.metrics import miou
from asgnet.model import ASGNet
from asgnet.rng import generator
from asgnet.sections import ModelConfig, TrainConfig
from asgnet.source import Source

MONITORED = ("train", "val", "novel")
SHOWN = 40  # images of a class that a new head is shown


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
    workers: int = 0,
) -> Trained:
    """Train ``model`` and leave it with the weights of its best epoch.

    ``monitored`` holds frozen episodes named train, val and, where classes are novel, novel; ``config.selection`` says
    which picks the epoch.
    ``state`` names the file that resumable state is kept in (it must be keyed by everything the run depends on);
    ``report`` is called with every row of the history; pixels of the classes in ``void`` are ignored in queries;
    ``workers``: see `training_steps`.

    Raises UserError where several processes cannot share the batch or the network takes statistics of it.
    """
    optimiser = torch.optim.SGD(
        model.trainable_parameters(), config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )
    count = config.epochs * config.pass_steps
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimiser, count, config.power)
    scaler = torch.amp.GradScaler(source.device.type, enabled=source.dtype == torch.float16)
    history: list[dict[str, Any]] = []
    best: dict[str, Any] = {"miou": -1.0, "epoch": 0, "weights": {}}
    first = rank() == 0  # it reports and writes
    model.eval()
    model.head.acquaint(classes_of(model, source, images))
    if state is not None and (saved := load_state(state)) is not None:
        model.load_state_dict(saved["model"], strict=False)
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
        scaler.load_state_dict(saved["scaler"])
        history, best = saved["history"], saved["best"]
        for row in history if first else ():
            report(row)
    loss_of = shared(StepLoss(model, source, config, seed, void))
    steps = training_steps(source, images, config, seed, len(history) * config.pass_steps, workers)
    for epoch in range(len(history) + 1, config.epochs + 1):
        model.train()
        row = {"epoch": epoch, "lr": schedule.get_last_lr()[0]}
        losses = torch.zeros((), device=source.device)
        for _ in range(config.pass_steps):
            loss = loss_of(next(steps))
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()
            schedule.step()
            losses += loss.detach()
        row["loss"] = float(total(losses)) / processes() / config.pass_steps
        for name in monitored:
            scored = score_episodes(model, source, monitored[name], config.shots, loss=True, across=True)
            row |= {f"{name}_loss": float(scored["loss"].mean()), f"{name}_miou": miou(scored)}
        history.append(row)
        if first:
            report(row)
        if row[f"{config.selection}_miou"] > best["miou"]:
            weights = copy.deepcopy(model.trainable_state())
            best = {"miou": row[f"{config.selection}_miou"], "epoch": epoch, "weights": weights}
        if first and state is not None:
            save_state(
                state,
                {
                    "model": model.trainable_state(),
                    "optimiser": optimiser.state_dict(),
                    "schedule": schedule.state_dict(),
                    "scaler": scaler.state_dict(),
                    "history": history,
                    "best": best,
                },
            )
    model.load_state_dict(best["weights"], strict=False)
    model.eval()
    return Trained(model, pd.DataFrame(history), best["epoch"], count)


@torch.no_grad()
def classes_of(model: ASGNet, source: Source, images: TrainingImages) -> Iterator[tuple[Tensor, Tensor]]:
    """What `asgnet.head.Head.acquaint` is shown: the plain views of at most `SHOWN` images of each class, those with
    most images first."""
    for class_id in sorted(images.by_class, key=lambda c: -len(images.by_class[c])):
        ids = images.by_class[class_id]
        ids = ids[:: -(-len(ids) // SHOWN)]
        with autocast(source.device, source.dtype):
            reduced = model.head.reduce(source.features(model, ids, [0] * len(ids)))
        yield reduced, source.masks(ids, [0] * len(ids), [class_id] * len(ids))


def monitored_splits(fold: int | None) -> tuple[str, ...]:
    """The splits that a run is monitored on; without a fold, all classes are trained on and none is novel."""
    return MONITORED if fold is not None else MONITORED[:2]


class StepLoss(nn.Module):
    """The loss of a training step. A module, because DistributedDataParallel averages the gradients of what its own
    forward ran."""

    def __init__(self, model: ASGNet, source: Source, config: TrainConfig, seed: int, void: Sequence[int]) -> None:
        super().__init__()
        self.model, self.source, self.seed, self.void = model, source, seed, void
        self.auxiliary, self.distractors = config.auxiliary, config.distractors

    def forward(self, step: Step) -> Tensor:
        """The loss () of this process's episodes. Averaged over several processes, it is that of all their episodes
        together: the mean over known pixels, of which each may have another number."""
        source, episodes = self.source.holding(step.views), step.episodes
        classes = [e.class_id for e in episodes]
        ids = [i for e in episodes for i in e.supports]  # B K
        views = [v for e in episodes for v in e.support_views]
        queries, query_views = [e.query for e in episodes], [e.query_view for e in episodes]
        shots = len(ids) // len(episodes)
        y = source.masks(queries, query_views, classes, self.void)  # (B, S, S)
        s_y = source.masks(ids, views, [c for c in classes for _ in range(shots)])  # (B K, S, S)
        forked = [source.device] if source.device.type == "cuda" else []
        with torch.random.fork_rng(forked), autocast(source.device, source.dtype):
            torch.manual_seed(dropout_seed(self.seed, step.number))
            query = source.features(self.model, queries, query_views, differentiable=True)
            support = source.features(self.model, ids, views)
            if self.distractors:
                before = [*range(-1, len(episodes) - 1)]  # as `with_distractors` takes them
                others, other_views = [queries[k] for k in before], [query_views[k] for k in before]
                theirs = source.masks(others, other_views, classes, self.void)  # (B, S, S)
                rng = generator(self.seed, "distractors", step.number, rank())
                query, y = with_distractors(query, y, theirs, self.distractors, rng)
            _, main, auxiliary = self.model.forward_features(query, support, s_y.unflatten(0, (-1, shots)), y=y)
        loss = main + self.auxiliary * auxiliary
        if processes() > 1:
            known = (y != 255).sum()
            loss = loss * (processes() * known / total(known).clamp(min=1))
        return loss


def dropout_seed(seed: int, step: int) -> int:
    """What seeds dropout in this process; the first one draws what a single one does."""
    index = (step, rank()) if rank() else (step,)
    return int(generator(seed, "dropout", *index).integers(2**62))


def shared(loss: StepLoss) -> nn.Module:
    """``loss``, its gradients averaged over the processes where there are several."""
    if processes() == 1:
        return loss
    loss.model.train()
    if any(isinstance(module, _BatchNorm) and module.training for module in loss.model.modules()):
        raise UserError(
            "model.decoder aspp and model.batch_statistics normalise by statistics of the whole batch, which processes "
            "do not share: train in one (compute.devices: 1)"
        )
    return DistributedDataParallel(loss)


def init_model(config: ModelConfig, seed: int, **parts: Any) -> ASGNet:
    """A network whose trainable weights depend on the random seed alone; ``parts`` go to ASGNet."""
    with torch.random.fork_rng():
        torch.manual_seed(int(generator(seed, "init").integers(2**62)))
        return ASGNet(config, **parts)
