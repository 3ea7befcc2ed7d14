"""The network and its parts on small made-up inputs. Run: pytest tests/test_model.py"""

import subprocess
import sys

import pytest
import torch
from torch import nn

from asgnet import ASGNet
from asgnet.backbones.encoder import Encoder, Features
from asgnet.backbones.resnet import DeepStemResNet
from asgnet.decoders import ASPP, FEM, bin_sizes, enlarge
from asgnet.errors import UserError
from asgnet.head import Head, forgiving, losses, pixel_loss, recount, token_map
from asgnet.outline import along_edges
from asgnet.residual import ResidualChain
from asgnet.rng import torch_generator
from asgnet.sections import ModelConfig

SIDE = 65  # pixels; 9 cells


class TinyEncoder(Encoder):
    """Four 3x3 convolutions, the last tapped twice as Lite0's is."""

    sources = (6, 8, 10)
    layer_channels = ((3, 4), (4, 5), (5, 6), (6, 10))
    layer_strides = (2, 2, 2, 1)

    def __init__(self, batch_statistics: bool = False) -> None:
        super().__init__(batch_statistics)
        self.layers = nn.ModuleList([block(3, 4, 2), block(4, 5, 2), block(5, 6, 2), Taps(block(6, 8), block(8, 10))])
        self.freeze()

    def collect(self, outputs):
        return torch.cat([outputs[2], *outputs[3]], 1)


class Taps(nn.ModuleList):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__(parts)

    def forward(self, x):
        first = self[0](x)
        return first, self[1](first)


def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def network(**config) -> ASGNet:
    settings = {"backbone": "lite0", "width": 16, "vit_width": 8, "area_per_seed": 400.0} | config
    batch_statistics = settings.get("batch_statistics", False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ASGNet(ModelConfig(**settings), encoder=TinyEncoder(batch_statistics), vit=None)


def episode(batch: int = 2, shots: int = 2) -> tuple[torch.Tensor, ...]:
    rng = torch_generator(0, "episode", shots)
    s_y = torch.zeros(batch, shots, SIDE, SIDE)
    s_y[:, :, 8:56, 16:60] = 1
    y = (torch.rand(batch, SIDE, SIDE, generator=rng) > 0.5).long()
    y[:, :4] = 255
    x = torch.randn(batch, 3, SIDE, SIDE, generator=rng)
    return x, torch.randn(batch, shots, 3, SIDE, SIDE, generator=rng), s_y, y


@pytest.mark.parametrize("decoder", ["fem", "aspp"])
@pytest.mark.parametrize("residual", [False, True])
def test_forward_in_both_modes(decoder, residual):
    model = network(decoder=decoder, residual=residual, normalise_sources=True)
    x, s_x, s_y, y = episode()
    prediction, main, auxiliary = model(x, s_x, s_y, y=y)
    assert prediction.shape == (2, SIDE, SIDE)
    assert prediction.dtype == torch.int64
    (main + auxiliary).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.trainable_parameters())
    assert all(p.grad is None for p in model.encoder.parameters())
    with torch.no_grad():
        logits = model.eval()(x, s_x, s_y)
        features = model.forward_features(model.encode(x), model.encode(s_x.flatten(0, 1)), s_y)
    assert logits.shape == (2, 2, SIDE, SIDE)
    assert torch.equal(logits, features)


def test_outlines_follow_the_query_in_eval_mode_alone():
    cells, image = (network(outline=outline) for outline in ("cells", "image"))
    x, s_x, s_y, y = episode()
    torch.manual_seed(0)
    trained = cells(x, s_x, s_y, y=y)
    torch.manual_seed(0)  # of dropout
    for one, other in zip(trained, image(x, s_x, s_y, y=y), strict=True):
        assert torch.equal(one, other)
    with torch.no_grad():
        logits, drawn = (model.eval()(x, s_x, s_y) for model in (cells, image))
    assert torch.equal(drawn[:, 1] - drawn[:, 0], along_edges(logits[:, 1] - logits[:, 0], x))
    assert not torch.equal(drawn[:, 1] - drawn[:, 0], logits[:, 1] - logits[:, 0])


def test_down_conv_learns_under_autocast():
    model = network()
    x, s_x, s_y, y = episode()
    with torch.autocast("cpu", torch.bfloat16):
        _, main, auxiliary = model(x, s_x, s_y, y=y)
    (main + auxiliary).backward()
    assert (model.head.down_conv[0].weight.grad != 0).any()


def test_residual_chain_adds_its_projections_and_only_they_learn():
    encoder = TinyEncoder()
    chain = ResidualChain(encoder, ModelConfig())
    images = episode()[0]
    features = chain(encoder, images)
    features.cnn.sum().backward()
    projections = chain.projections.values()
    assert all((p.weight.grad != 0).any() for p in projections)
    assert all(p.grad is None for p in encoder.parameters())
    x = images
    for layer, projection in zip(list(encoder.layers)[:3], projections, strict=False):
        x = layer(x) + nn.functional.conv2d(x, projection.weight, stride=projection.stride)
    torch.testing.assert_close(features.cnn[:, :6], x)
    for projection in projections:
        nn.init.zeros_(projection.weight)
    assert torch.equal(chain(encoder, images).cnn, encoder(images).cnn)


def test_a_gated_chain_starts_from_the_frozen_features_and_learns():
    encoder, images = TinyEncoder(), episode()[0]
    chain = ResidualChain(encoder, ModelConfig(residual_gates=True))
    features = chain(encoder, images)
    assert torch.equal(features.cnn, encoder(images).cnn)
    features.cnn.sum().backward()
    assert all(gate.grad != 0 for gate in chain.gates.values())


def test_a_chain_of_some_layers_leaves_the_others_as_they_are():
    encoder, images = TinyEncoder(), episode()[0]
    whole, last = (ResidualChain(encoder, ModelConfig(residual_layers=layers)) for layers in ((0, 1, 2, 3), (3,)))
    assert list(last.projections) == ["3"]
    changed = (last(encoder, images).cnn != encoder(images).cnn).any(0).any(1).any(1)  # (C,)
    assert changed.any()
    assert not changed[:6].any()
    assert (whole(encoder, images).cnn != encoder(images).cnn)[:, :6].any()


def test_projections_that_do_not_learn_stay_as_drawn():
    model = network(residual=True, residual_learns=False)
    assert not any(p.requires_grad for p in model.chain.parameters())
    assert any(name.startswith("chain.") for name in model.trainable_state())  # kept with the run all the same
    with pytest.raises(UserError, match=r"residual_layers: \[4\]: expected some of 0, 1, 2 and 3"):
        network(residual_layers=(4,))


def test_support_and_plain_query_carry_no_gradient():
    x = episode()[0]
    assert not network().encode(x, differentiable=True).cnn.requires_grad
    chained = network(residual=True)
    assert not chained.encode(x).cnn.requires_grad
    assert chained.encode(x, differentiable=True).cnn.requires_grad


def test_batchnorm_is_frozen_unless_its_drift_is_asked_for():
    x, s_x, s_y, y = episode()
    for drifts in (False, True):
        model = network(batch_statistics=drifts).train()
        norm = model.encoder.layers[0][1]
        assert norm.training == drifts
        before = norm.running_mean.clone()
        model(x, s_x, s_y, y=y)
        assert torch.equal(norm.running_mean, before) != drifts
        assert any(name.startswith("encoder.") for name in model.trainable_state()) == drifts


@pytest.mark.parametrize(("depth", "blocks"), [(50, 6), (101, 23)])
def test_resnet_layers(depth, blocks):
    with torch.device("meta"):
        encoder = DeepStemResNet(depth).train()
        outputs = list(encoder.run(torch.zeros(1, 3, 473, 473)))
    shapes = [(128, 119, 119), (256, 119, 119), (512, 60, 60), (1024, 60, 60)]
    assert [tuple(o.shape[1:]) for o in outputs] == shapes
    assert not any(m.training for m in encoder.modules() if isinstance(m, nn.BatchNorm2d))
    three = [m for m in encoder.layers[3].modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(three) == blocks
    assert all(m.dilation == (2, 2) and m.stride == (1, 1) for m in three)


@pytest.mark.parametrize(("decoder", "count"), [("fem", 10_423_818), ("aspp", 9_278_852)])
def test_trainable_parameters_are_as_many_as_published(decoder, count):
    with torch.device("meta"):
        model = ASGNet(ModelConfig(decoder=decoder), encoder=None)
    assert sum(p.numel() for p in model.trainable_parameters()) == count


def test_token_slices_on_a_ramp():
    ramp = torch.arange(197.0)[None, :, None].expand(2, -1, 3)
    patch, cls = token_map(ramp, "patch"), token_map(ramp, "cls")
    assert patch.shape == cls.shape == (2, 3, 14, 14)
    assert torch.equal(patch[0, 0].flatten(), torch.arange(1.0, 197))
    assert cls[0, 0, 0, 0] == 0  # the class token
    assert torch.equal(cls.flatten(2)[..., 1:], patch.flatten(2)[..., :-1])  # every patch one cell to the right
    assert 196 not in cls


@pytest.mark.parametrize("vit", ["cls", "patch"])
def test_vit_tokens_are_projected_beside_the_cnn(vit):
    head = Head(ModelConfig(width=16, vit=vit, vit_width=8, normalise_sources=True), (4, 5), vit_channels=12).eval()
    rng = torch_generator(0, "tokens")
    features = Features(torch.randn(2, 9, 6, 6, generator=rng).half(), torch.randn(2, 26, 12, generator=rng).half())
    reduced = head.reduce(features)
    assert reduced.shape == (2, 16, 6, 6)
    changed = features.vit.clone()
    changed[:, 0] += torch.randn(12, generator=rng)
    assert torch.equal(head.reduce(features._replace(vit=changed)), reduced) == (vit == "patch")


@pytest.mark.parametrize("grid", [(60, 60), (33, 33), (9, 14), (3, 3)])
def test_context_modules_on_any_grid(grid):
    x, layer1 = torch.randn(2, 17, *grid), torch.randn(2, 5, 2 * grid[0] - 1, 2 * grid[1] - 1)
    fem, aspp = FEM(8), ASPP(8, 5)
    context, auxiliary = fem.train()(x)
    assert context.shape == (2, 8, *grid)
    assert [tuple(a.shape[2:]) for a in auxiliary] == bin_sizes(grid)
    finer, read = aspp.train()(x, layer1)
    assert finer.shape == (2, 8, *layer1.shape[2:])
    assert read[0].shape == (2, 2, *grid)
    evaluated, nothing = fem.eval()(x)  # what a prediction does not need is not computed
    assert torch.equal(evaluated, context)
    assert nothing == []
    assert aspp.eval()(x, layer1)[1] == []


def test_bins():
    assert [b[0] for b in bin_sizes((60, 60))] == [60, 30, 15, 8]
    assert [b[0] for b in bin_sizes((33, 33))] == [33, 17, 8, 4]
    assert [b[0] for b in bin_sizes((3, 3))] == [3, 2, 1, 1]


def test_only_ones_are_the_object_and_vanishing_masks_fall_back():
    head = network().head.eval()
    reduced = torch.randn(3, 16, 9, 9, generator=torch_generator(0, "reduced"))
    masks = torch.zeros(3, SIDE, SIDE)
    masks[0, 8:40, 8:40] = 1
    masks[1, 20:22, 20:60] = 1  # thinner than a cell
    prototypes, valid, fallback = head.prototypes(reduced, masks)
    assert fallback.tolist() == [False, True, True]
    assert valid.any(1).tolist() == [True, True, False]
    torch.testing.assert_close(fallback_mean(reduced[1], masks[1]), prototypes[1, 0], rtol=1e-3, atol=1e-3)
    assert (prototypes[2] == 0).all()
    void = masks.clone()
    void[:, 50:] = 255
    for plain, other in zip((prototypes, valid, fallback), head.prototypes(reduced, void), strict=True):
        assert torch.equal(plain, other)
    logits, _, _ = head.decode(reduced[:1], prototypes[2:], valid[2:])
    assert logits.isfinite().all()


def fallback_mean(reduced: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average of the cells (C, h, w) weighted by how much of each the mask covers."""
    shares = nn.functional.adaptive_avg_pool2d(mask[None], reduced.shape[1:])
    return (reduced * shares).sum((1, 2)) / shares.sum()


def test_given_seeds_and_one_seed():
    head = network().head.eval()
    reduced = torch.randn(1, 16, 9, 9, generator=torch_generator(0, "reduced"))
    mask = torch.ones(1, SIDE, SIDE)
    seeds = torch.tensor([[[0, 4], [5, 5], [-1, -1]]])
    assert head.prototypes(reduced, mask, seeds)[1].tolist() == [[True, True, False]]
    one, valid, _ = head.prototypes(reduced, mask, torch.tensor([[[5, 5], [-1, -1]]]))
    assert valid.tolist() == [[True, False]]
    torch.testing.assert_close(one[0, 0], reduced[0].mean((1, 2)), atol=1e-4, rtol=1e-4)


def test_published_count_loses_seeds_on_the_border():
    seeds = torch.tensor([[[0, 0], [8, 8], [0, 8]], [[0, 0], [0, 8], [-1, -1]], [[3, 0], [4, 0], [0, 0]]])
    assert ((recount(seeds) >= 0).all(2)).sum(1).tolist() == [2, 2, 2]


def test_losses_ignore_void():
    logits = torch.randn(1, 2, 9, 9, generator=torch_generator(0, "loss"))
    target = torch.randint(2, (1, 9, 9), generator=torch_generator(1, "loss"))
    void = target.clone()
    void[:, :, 4:] = 255
    main, auxiliary = losses(logits, [logits, logits], void)
    expected = nn.functional.cross_entropy(logits[..., :4], target[..., :4])
    torch.testing.assert_close(main, expected)
    torch.testing.assert_close(auxiliary, expected)


def test_wrong_inputs_are_user_errors():
    model = network()
    x, s_x, s_y, y = episode()
    with pytest.raises(UserError, match="nearest are 65 x 57"):
        model(x[..., :60], s_x[..., :60], s_y[..., :60])
    with pytest.raises(UserError, match=r"s_y has shape \(2, 65, 65\): expected \(2, 2, 65, 65\)"):
        model(x, s_x, s_y[:, 0])
    with pytest.raises(UserError, match="s_seed has shape"):
        model(x, s_x, s_y, torch.zeros(2, 5, 2, dtype=torch.int64), y)
    with pytest.raises(UserError, match="y, the query's mask"):
        model(x, s_x, s_y)
    with pytest.raises(UserError, match="without its encoder"):
        ASGNet(ModelConfig(backbone="lite0"), encoder=None)(x, s_x, s_y)
    other = network(width=24)
    with pytest.raises(UserError, match=r"run1: .*another network"):
        model.load_trainable(other.trainable_state(), "run1")


def test_trainable_state_round_trip():
    first, second = network(residual=True), network(residual=True)
    nn.init.ones_(first.head.down_conv[0].weight)
    nn.init.ones_(first.chain.projections["2"].weight)
    second.load_trainable(first.trainable_state(), "first")
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_importing_the_package_does_not_import_torch():
    code = "import sys, asgnet; assert 'torch' not in sys.modules; assert asgnet.ASGNet"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("cells", "pixels"), [((9, 7), (65, 49)), ((5, 5), (5, 5)), ((1, 3), (4, 2)), ((12, 8), (3, 5))]
)
def test_enlarging_by_matrices_is_bilinear_interpolation(cells, pixels):
    maps = torch.randn(2, 3, *cells, generator=torch_generator(0, "enlarge"), requires_grad=True)
    expected = nn.functional.interpolate(maps, pixels, mode="bilinear", align_corners=True)
    torch.testing.assert_close(enlarge(maps, pixels), expected)
    weight = torch.randn(expected.shape, generator=torch_generator(1, "enlarge"))
    ours, theirs = (torch.autograd.grad((out * weight).sum(), maps)[0] for out in (enlarge(maps, pixels), expected))
    torch.testing.assert_close(ours, theirs)


def test_what_a_prediction_kept_can_be_trained_with():
    maps = torch.randn(1, 2, 3, 7, requires_grad=True)
    with torch.inference_mode():
        enlarge(maps, (11, 13))
    enlarge(maps, (11, 13)).sum().backward()
    assert maps.grad is not None


def test_background_labels_that_the_network_doubts_are_forgiven():
    margins = torch.linspace(-8, 8, 33).requires_grad_()
    loss = pixel_loss(margins, torch.zeros(33))
    forgiven = forgiving(loss, torch.zeros(33), 0.7)
    torch.testing.assert_close(forgiven, (1 - (-margins).sigmoid() ** 0.7) / 0.7)
    (gradient,) = torch.autograd.grad(forgiven.sum(), margins)
    assert gradient[-1] < gradient.max() / 10  # sure that it is an object
    assert forgiven.max() < 1 / 0.7


def test_only_background_labels_are_forgiven():
    rng = torch_generator(0, "forgiving")
    logits, target = torch.randn(2, 2, 9, 9, generator=rng), torch.randint(0, 3, (2, 9, 9), generator=rng)
    target[target == 2] = 255
    plain, _ = losses(logits, [logits], target)
    forgiven, auxiliary = losses(logits, [logits], target, bounded=0.7)
    assert forgiven == auxiliary
    assert forgiven < plain
    ones = torch.where(target == 0, 255, target)
    assert losses(logits, [logits], ones)[0] == losses(logits, [logits], ones, bounded=0.7)[0]
