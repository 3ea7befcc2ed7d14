"""A training step of the published network, from images and from stored features."""

from torch import Tensor

from asgnet.backbones.encoder import Features
from asgnet.device import autocast
from asgnet.sections import TrainConfig
from benchmarks import inputs
from benchmarks.case import Case
from benchmarks.cases.network import GRADIENTS, fast_network, gradients, network
from benchmarks.plain.network import Plain
from benchmarks.plain.study import sgd, step
from benchmarks.sizes import Sizes


def training_case(sizes: Sizes, stored: bool) -> Case:
    """One step of SGD on a batch of 1-shot episodes, its images in memory; ``stored``: ours reads frozen features, in
    half precision and channels last, as they lie in the store."""
    config = TrainConfig(batch=sizes.batch)
    x = inputs.images("training-queries", sizes.batch, pixels=sizes.pixels)
    s_x = inputs.images("training-supports", sizes.batch, 1, pixels=sizes.pixels)
    y = inputs.objects("training-queries", sizes.batch, pixels=sizes.pixels)
    s_y = inputs.objects("training-supports", sizes.batch, 1, pixels=sizes.pixels)
    plain_network, model = Plain(network(sizes)).train(), fast_network(sizes).train()
    query, support = (store(model.encode(images)) for images in (x, s_x.flatten(0, 1))) if stored else (None, None)
    if stored:
        model.encoder = None
    plain_sgd, our_sgd = sgd(plain_network, config), sgd(model, config)

    def plain() -> tuple[float, Tensor]:
        loss = step(plain_network, plain_sgd, x, s_x, s_y, y, config.auxiliary)
        return loss, gradients(plain_network)

    def ours() -> tuple[float, Tensor]:
        with autocast():
            if stored:
                _, main, auxiliary = model.forward_features(read(query), read(support), s_y, y=y)
            else:
                _, main, auxiliary = model(x, s_x, s_y, y=y)
        loss = main + config.auxiliary * auxiliary
        our_sgd.zero_grad(set_to_none=True)
        loss.backward()
        our_sgd.step()
        return loss.item(), gradients(model)

    return Case(
        f"training step, ResNet-50, {sizes.pixels} x {sizes.pixels} pixels, B {sizes.batch}, "
        + ("stored features" if stored else "online"),
        plain,
        ours,
        published=4.8,
        inputs=[query, support, s_y, y, model] if stored else [x, s_x, s_y, y, model],
        **GRADIENTS,
    )


def store(features: Features) -> Tensor:
    """(n, h, w, C) float16."""
    return features.cnn.half().permute(0, 2, 3, 1).contiguous()


def read(stored: Tensor) -> Features:
    """What `asgnet.source.StoredSource` makes of it."""
    return Features(cnn=stored.permute(0, 3, 1, 2).float())
