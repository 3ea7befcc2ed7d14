"""How many operations a training step takes at the paper's scale: `python benchmarks/operations.py`, from the root.

Counted by torch's FlopCounterMode (a multiplication and an addition are two) on tensors without data. Seed cells, SGC
and GPA are left out: they take less than a hundredth. docs/pascal5i.md and docs/coco20i.md divide by a card's rate.
"""

from collections.abc import Callable

import torch
from tabulate import tabulate
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from asgnet.backbones.encoder import Features
from asgnet.config import load_study
from asgnet.model import ASGNet
from asgnet.sections import ModelConfig

TERA = 1e12


def count(run: Callable[[], object]) -> float:
    """Operations of the call."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / TERA


def step(config: ModelConfig, size: int, batch: int) -> float:
    """TFLOP of a 1-shot training step: a query and a support through the frozen networks, the query with gradient
    through what learns (and the chain's backbone)."""
    with torch.device("meta"):
        model, image = ASGNet(config), torch.empty(1, 3, size, size)
        cells = (size - 1) // 8 + 1
        reduced, probability = torch.empty(1, config.width, cells, cells), torch.empty(1, 1, cells, cells)

    def encode() -> Features:
        if model.chain is None:
            return model.encode(image)
        x, outputs = image, []
        for layer, projection in zip(model.encoder.layers, model.chain.projections, strict=True):
            x = layer(x) + projection(x)  # as the chain does, which asks for autocast, unknown to tensors without data
            outputs.append(x)
        return Features(cnn=model.encoder.collect(outputs))

    def total(features: Features) -> Tensor:
        logits, auxiliary, _ = model.head.segment(model.head.reduce(features), reduced, probability)
        return logits.sum() + sum(output.sum() for output in auxiliary)

    with torch.no_grad():
        support = count(lambda: model.head.reduce(encode()))
    return batch * (support + count(lambda: total(encode()).backward()))


def main() -> None:
    """Print TFLOP a step of every arm of both pipelines."""
    rows = []
    for name in ("pascal5i", "coco20i"):
        study = load_study(f"pipelines/{name}/params.yaml")
        for backbone in ("resnet50", "resnet101"):
            counts = {arm: step(ModelConfig(**{**vars(study.model_of(arm)), "backbone": backbone}), study.data.size,
                                study.train.batch) for arm in study.arms}  # fmt: skip
            rows.append({"pipeline": name, "backbone": backbone, **counts})
    print(tabulate(rows, headers="keys", floatfmt=".2f"))


if __name__ == "__main__":
    main()
