"""Training and testing, plainly: every image is read and goes through the backbone whenever an episode shows it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from asgnet.data.episodes import supports_of
from asgnet.data.sampling import TrainingImages, training_batch
from asgnet.data.transforms import normalise, unfit
from asgnet.data.tree import Tree
from asgnet.metrics import COUNTS, intersection_union, miou
from asgnet.sections import TrainConfig
from asgnet.store import class_target, make_view
from asgnet.train import MONITORED
from benchmarks.plain.network import Plain


class Photographs:
    """Episodes from the tree: each image read, brought to the square, normalised."""

    def __init__(self, tree: Tree, size: int, seed: int) -> None:
        self.tree, self.size, self.seed = tree, size, seed

    def views(self, ids: Sequence[str], views: Sequence[int], class_id: int) -> tuple[Tensor, Tensor]:
        """Images (n, 3, S, S) and the class's masks (n, S, S) of 0, 1 and 255."""
        images, masks = [], []
        for image_id, view in zip(ids, views, strict=True):
            image, mask = make_view(self.tree, image_id, view, self.size, self.seed)
            images.append(normalise(image))
            masks.append(torch.from_numpy(class_target(mask[None], np.array([class_id]))[0]))
        return torch.stack(images), torch.stack(masks)


@torch.no_grad()
def test(network: Plain, photographs: Photographs, episodes: pd.DataFrame, shots: int) -> pd.DataFrame:
    """One row an episode: class, the pixel counts of ``asgnet.metrics.COUNTS`` at the original size, and the loss."""
    network.eval()
    rows = []
    supports = supports_of(episodes, shots)
    for query, class_id, ids in zip(episodes["query"], episodes["class"], supports, strict=True):
        x, y = photographs.views([query], [0], class_id)
        s_x, s_y = photographs.views(ids, [0] * shots, class_id)
        logits = network(x, s_x[None], s_y[None])  # (1, 2, S, S)
        loss = torch.nn.functional.cross_entropy(logits, y.long(), ignore_index=255)
        mask = photographs.tree.mask(query)
        prediction = unfit(logits, *mask.shape).argmax(1)  # (1, H, W)
        target = torch.from_numpy(class_target(mask[None], np.array([class_id])))
        rows.append((class_id, *intersection_union(prediction, target)[0].tolist(), float(loss)))
    return pd.DataFrame(rows, columns=["class", *COUNTS, "loss"])


def step(
    network: Plain, optimiser: torch.optim.Optimizer, x: Tensor, s_x: Tensor, s_y: Tensor, y: Tensor, weight: float
) -> float:
    """One step of SGD; the loss, of which the auxiliary one counts ``weight`` times."""
    network.train()
    main, auxiliary = network(x, s_x, s_y, y)
    loss = main + weight * auxiliary
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def sgd(network: nn.Module, config: TrainConfig) -> torch.optim.SGD:
    """The published optimiser over what learns."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return torch.optim.SGD(learning, config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def epoch(
    network: Plain,
    photographs: Photographs,
    images: TrainingImages,
    monitored: dict[str, pd.DataFrame],
    config: TrainConfig,
    seed: int,
    views: int,
) -> dict[str, float]:
    """The only epoch of a schedule, and its row of the history: loss, and loss and mIoU of each monitored split."""
    optimiser, total = sgd(network, config), config.epochs * config.steps_per_epoch
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimiser, total, config.power)
    losses = []
    for number in range(config.steps_per_epoch):
        batch = training_batch(images, number, config.batch, config.shots, seed, views)
        queries = [photographs.views([e.query], [e.query_view], e.class_id) for e in batch]
        supports = [photographs.views(e.supports, e.support_views, e.class_id) for e in batch]
        x, y = torch.cat([image for image, _ in queries]), torch.cat([mask for _, mask in queries])
        s_x, s_y = torch.stack([image for image, _ in supports]), torch.stack([mask for _, mask in supports])
        losses.append(step(network, optimiser, x, s_x, s_y, y, config.auxiliary))
        schedule.step()
    row = {"loss": sum(losses) / len(losses)}
    for name in MONITORED:
        scored = test(network, photographs, monitored[name], config.shots)
        row |= {f"{name}_loss": float(scored["loss"].mean()), f"{name}_miou": miou(scored)}
    return row
