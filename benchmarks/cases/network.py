"""The published network, ResNet-50 with the deep stem: its decoder and inference."""

import torch
from torch import Tensor, nn

from asgnet.backbones import for_inference
from asgnet.device import autocast, fast_dtype
from asgnet.head import losses
from asgnet.model import ASGNet
from asgnet.sections import ModelConfig
from asgnet.train import init_model
from benchmarks import inputs
from benchmarks.case import Case, fast_tolerance
from benchmarks.plain.decoder import enrich
from benchmarks.plain.decoder import losses as plain_losses
from benchmarks.plain.network import Plain
from benchmarks.sizes import Sizes

SEED = 0
GRADIENTS = fast_tolerance(2e-3, 0.1)  # two argmaxes that tie within rounding may swap a cell's prototype


def network(sizes: Sizes, **options) -> ASGNet:
    """With random weights: they cost what trained ones cost. Dropout is off, so that results can be compared."""
    config = ModelConfig(backbone="resnet50", width=sizes.width, max_seeds=sizes.count, dropout=0.0)
    made = init_model(config, SEED, **options)
    without_dropout(made)
    return made


def fast_network(sizes: Sizes) -> ASGNet:
    """`network` as the project runs it: its frozen encoder folded, in the device's fast precision."""
    made = network(sizes)
    made.encoder = for_inference(made.encoder, fast_dtype())
    return made


def without_dropout(made: nn.Module) -> None:
    """Dropout draws differently in every implementation: take it out in place."""
    for module in made.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0


def fem_case(sizes: Sizes) -> Case:
    """The context module, classifier and losses of a batch, forward and backward, from query, guide and probability."""
    head = network(sizes, encoder=None).head.train()
    plain_head = Plain(network(sizes, encoder=None)).head.train()
    centres = inputs.prototypes("fem-centres", sizes.batch, 2 * sizes.count, width=sizes.width)
    query, guide = (inputs.features(name, centres, sizes.grid, noise=0.3) for name in ("fem-query", "fem-guide"))
    probability = inputs.images("fem", sizes.batch, pixels=sizes.grid)[:, :1]
    target = inputs.objects("fem-target", sizes.batch, pixels=sizes.pixels)

    def plain() -> tuple[Tensor, Tensor]:
        plain_head.zero_grad()
        context = torch.cat([query, guide, probability], 1)
        main, auxiliary = plain_losses(*enrich(plain_head.context, plain_head.classifier, context), target)
        (main + auxiliary).backward()
        return (main + auxiliary).detach(), gradients(plain_head)

    def ours() -> tuple[Tensor, Tensor]:
        head.zero_grad()
        with autocast():
            decoded = head.segment(query, guide, probability)
            main, auxiliary = losses(decoded.logits, decoded.auxiliary, target)
        (main + auxiliary).backward()
        return (main + auxiliary).detach(), gradients(head)

    title = f"FEM forward and backward, B {sizes.batch}, {sizes.grid} x {sizes.grid} x {sizes.width}"
    return Case(title, plain, ours, inputs=[query, guide, probability, target, head], **GRADIENTS)


def gradients(module: nn.Module) -> Tensor:
    """All gradients in one vector, in the order of the parameters."""
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


def inference_case(sizes: Sizes, shots: int, published: float) -> Case:
    """One episode from its images to logits."""
    plain_network = Plain(network(sizes)).eval()
    fast = fast_network(sizes).eval()
    x = inputs.images("query", 1, pixels=sizes.pixels)
    s_x = inputs.images("supports", 1, shots, pixels=sizes.pixels)
    s_y = inputs.objects("supports", 1, shots, pixels=sizes.pixels)

    @torch.no_grad()
    def ours() -> Tensor:
        with autocast():
            return fast(x, s_x, s_y)

    return Case(
        f"inference, ResNet-50, {sizes.pixels} x {sizes.pixels} pixels, {shots} shot{'s' if shots > 1 else ''}",
        plain=torch.no_grad()(lambda: plain_network(x, s_x, s_y)),
        ours=ours,
        published=published,
        inputs=[x, s_x, s_y, plain_network],
        **fast_tolerance(1e-3, 0.1),
    )
