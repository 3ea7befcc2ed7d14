"""A training step of the published network, from images and from stored features."""

from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from asgnet.backbones.encoder import Features
from asgnet.config import TrainConfig
from asgnet.data.sampling import TrainingImages, training_batch
from asgnet.model import ASGNet
from asgnet.revisit import made_fast
from asgnet.train import _step as train_step
from benchmarks import inputs
from benchmarks.case import Case
from benchmarks.cases.network import GRADIENTS, SEED, gradients, network
from benchmarks.plain.network import Plain
from benchmarks.plain.study import sgd, step
from benchmarks.sizes import Sizes


@dataclass
class Tensors:
    """A source whose images, or their features, lie in memory: what the training loop asks of `asgnet.source`."""

    row: dict[str, int]
    images: Tensor  # (n, 3, S, S)
    targets: Tensor  # (n, S, S) uint8
    stored: Tensor | None = None  # (n, h, w, C) float16, as in the store; None to compute them every time
    device = torch.device("cpu")
    views = 1

    def features(self, model: ASGNet, ids: list[str], views: list[int], differentiable: bool = False) -> Features:
        """As the project's sources give them."""
        rows = self.rows(ids)
        if self.stored is None:
            return model.encode(self.images[rows], differentiable=differentiable)
        return Features(cnn=self.stored[rows].permute(0, 3, 1, 2).float())

    def masks(self, ids: list[str], *_) -> Tensor:
        """The only class's."""
        return self.targets[self.rows(ids)]

    def rows(self, ids: list[str]) -> list[int]:
        """Where the images lie."""
        return [self.row[i] for i in ids]


def training_case(sizes: Sizes, stored: bool) -> Case:
    """One step of SGD on a batch of 1-shot episodes; ``stored``: ours reads frozen features."""
    number = 2 * sizes.batch
    pictures = inputs.images("training", number, pixels=sizes.pixels)
    targets = inputs.objects("training", number, pixels=sizes.pixels)
    source = Tensors({f"image{i}": i for i in range(number)}, pictures, targets)
    images, config = TrainingImages.of({1: list(source.row)}), TrainConfig(batch=sizes.batch)
    plain_network, model = Plain(network(sizes)).train(), made_fast(network(sizes))
    if stored:
        with torch.no_grad():
            features = torch.cat([model.encoder(picture[None]).cnn for picture in pictures])
        source.stored, model = features.half().permute(0, 2, 3, 1).contiguous(), network(sizes, encoder=None)
    model.train()
    plain_sgd = sgd(plain_network, config)
    our_sgd = torch.optim.SGD(
        model.trainable_parameters(), config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )
    plain_steps, our_steps = count(), count()

    def plain() -> tuple[float, Tensor]:
        episodes = training_batch(images, next(plain_steps), config.batch, config.shots, SEED, source.views)
        queries = source.rows([e.query for e in episodes])
        supports = torch.tensor([source.rows(e.supports) for e in episodes])  # (B, K)
        batch = pictures[queries], pictures[supports], targets[supports], targets[queries]
        return step(plain_network, plain_sgd, *batch, config.auxiliary), gradients(plain_network)

    def ours() -> tuple[float, Tensor]:
        loss = train_step(model, source, images, config, SEED, next(our_steps), our_sgd, ())
        return float(loss), gradients(model)

    return Case(
        f"training step, ResNet-50, {sizes.pixels} x {sizes.pixels} pixels, B {sizes.batch}, "
        + ("stored features" if stored else "online"),
        plain,
        ours,
        published=4.8,
        inputs=[source.stored if stored else pictures, targets, model],
        **GRADIENTS,
    )
