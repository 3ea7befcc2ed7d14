"""Lite0 and the 7x7-stem ResNet as ASGNet's encoders, and their fast form. Run: pytest tests/test_backbones.py"""

import copy

import pytest
import timm
import torch
import torchvision
from timm.layers import resample_abs_pos_embed
from torch import nn

from asgnet.backbones import build_encoder, build_vit, for_autocast, for_inference, for_statistics
from asgnet.backbones.depthwise import FrozenDepthwise
from asgnet.backbones.dinov2 import DinoV2
from asgnet.backbones.efficientnet import EfficientNetLite0
from asgnet.backbones.encoder import Encoder, renormalise
from asgnet.backbones.naming import resampled
from asgnet.backbones.phases import Phases, apart, depthwise, dilation, together
from asgnet.device import autocast, fast_dtype
from asgnet.errors import UserError
from asgnet.model import ASGNet
from asgnet.rng import torch_generator
from asgnet.sections import ModelConfig

LITE0 = ModelConfig(backbone="lite0")


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch_generator(0, "test", *shape))


@pytest.fixture(scope="module")
def lite0() -> Encoder:
    return build_encoder(LITE0, "no-such-folder")


@pytest.mark.parametrize("size", [257, 321])
@torch.no_grad()
def test_lite0_equals_timm_features(lite0, size):
    reference = timm.create_model("tf_efficientnet_lite0", features_only=True, output_stride=8).eval()
    stem, *stages = lite0.layers
    state = {f"conv_stem.{k}": v for k, v in stem[0].state_dict().items()}
    state |= {f"bn1.{k}": v for k, v in stem[1].state_dict().items()}
    stages = [stem[2], stages[0], stages[1], *stages[2][0], *stages[2][1]]
    state |= {f"blocks.{i}.{k}": v for i, stage in enumerate(stages) for k, v in stage.state_dict().items()}
    reference.load_state_dict(state)
    images = noise(1, 3, size, size)
    expected = reference(renormalise(images, (0.5,) * 3, (0.5,) * 3))
    outputs = list(lite0.run(lite0.prepare(images)))
    for output, map_ in zip([*outputs[:3], *outputs[3]], expected, strict=True):
        torch.testing.assert_close(output, map_)
    features = lite0.collect(outputs)
    torch.testing.assert_close(features, torch.cat(expected[2:], 1))
    side = (size - 1) // 8 + 1
    assert features.shape == (1, sum(lite0.sources), side, side)


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return module.state_dict()


@torch.no_grad()
def test_lite0_is_timms_to_the_last_bit():
    theirs, ours = timm.create_model("tf_efficientnet_lite0", output_stride=8).eval(), EfficientNetLite0().eval()
    take(ours, theirs)
    for side in (64, 65):  # TensorFlow's padding is lopsided on even sides
        assert torch.equal(ours(noise(1, 3, side, side)), theirs(noise(1, 3, side, side)))
    norm, other = ours.train().bn1, theirs.train().bn1
    assert torch.equal(norm(noise(2, 32, 5, 5)), other(noise(2, 32, 5, 5)))
    assert torch.equal(norm.running_var, other.running_var)


@torch.no_grad()
def test_dinov2_is_timms_to_the_last_bit():
    theirs, ours = timm.create_model("vit_small_patch14_dinov2", img_size=56, num_classes=0).eval(), DinoV2(56).eval()
    take(ours, theirs)
    assert torch.equal(ours.forward_features(noise(2, 3, 56, 56)), theirs.forward_features(noise(2, 3, 56, 56)))
    positions = noise(1, 1 + 37 * 37, 384)
    assert torch.equal(resampled(positions, (14, 14)), resample_abs_pos_embed(positions, [14, 14], [37, 37]))


def take(ours: nn.Module, theirs: nn.Module) -> None:
    """Weights in which no layer is hidden, the same for both, which have the same names in the same order."""
    state = {name: tensor for name, tensor in theirs.state_dict().items() if tensor.is_floating_point()}
    for name, tensor in state.items():
        tensor.copy_(noise(*tensor.shape) * (0.5 / tensor[0].numel() ** 0.5 if tensor.ndim > 1 else 0.1))
        if tensor.ndim == 1 and not name.endswith(("bias", "mean")):  # scales and variances
            tensor.add_(1)
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())


@torch.no_grad()
def test_declared_strides_and_channels_are_true(lite0):
    x = lite0.prepare(noise(1, 3, 65, 65))
    outputs = lite0.run(x)
    for (inputs, channels), stride, output in zip(lite0.layer_channels, lite0.layer_strides, outputs, strict=True):
        last = output[-1] if isinstance(output, tuple) else output
        assert (x.shape[1], last.shape[1]) == (inputs, channels)
        assert last.shape[2] == (x.shape[2] - 1) // stride + 1
        x = last


def test_renormalisation_undoes_imagenet():
    pixels = torch.rand(2, 3, 5, 5, generator=torch_generator(0, "pixels"))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(renormalise((pixels - mean) / std, (0.5,) * 3, (0.5,) * 3), pixels * 2 - 1)


@pytest.mark.parametrize("backbone", ["lite0", "resnet50"])
def test_folding_changes_nothing_and_lets_the_gradient_through(backbone, lite0):
    encoder = lite0 if backbone == "lite0" else build_encoder(ModelConfig(backbone=backbone), pretrained=False)
    if backbone == "resnet50":
        for name, buffer in encoder.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5, generator=torch_generator(0, "var"))
    fast = for_inference(encoder)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())  # the original is untouched
    images = noise(1, 3, 33, 33)
    gradients = []
    for net in (encoder, fast):
        leaf = images.clone().requires_grad_()
        features = net(leaf).cnn
        (features * noise(*features.shape)).sum().backward()
        gradients.append((features.detach(), leaf.grad))
    (features, gradient), (fast_features, fast_gradient) = gradients
    assert (fast_features - features).norm() < 1e-4 * features.norm()
    # ReLUs pass or stop a gradient on either side of 0, where rounding decides
    assert (fast_gradient - gradient).norm() < 1e-2 * gradient.norm()


@torch.no_grad()
def test_bfloat16_features_point_the_same_way(lite0):
    images = noise(1, 3, 65, 65)
    fast = for_inference(lite0, torch.bfloat16)(images).cnn
    assert fast.dtype == torch.bfloat16
    assert torch.cosine_similarity(fast.float(), lite0(images).cnn).mean() > 0.99


@torch.no_grad()
def test_tokens_with_converted_weights_are_the_same_to_the_last_bit():
    tokens, images = build_vit(ModelConfig(vit="patch", vit_size=56), pretrained=False), noise(2, 3, 56, 56)
    converted = for_autocast(tokens, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(converted(images), tokens(images))
    assert {w.dtype for w in tokens.parameters()} == {torch.float32}  # the original is untouched


@torch.no_grad()
def test_an_encoder_that_drifts_drifts_the_same_when_it_is_fast():
    images = noise(2, 3, 65, 65)
    encoder = build_encoder(ModelConfig(backbone="lite0", batch_statistics=True), pretrained=False).train()
    fast = for_statistics(encoder)
    mean = next(name for name in encoder.state_dict() if name.endswith("running_mean"))
    start = encoder.state_dict()[mean].clone()
    for _ in range(2):
        torch.testing.assert_close(fast(images).cnn, encoder(images).cnn, rtol=1e-3, atol=1e-4)
    own, other = encoder.state_dict(), fast.state_dict()
    assert own.keys() == other.keys()
    for name in own:
        torch.testing.assert_close(other[name], own[name], rtol=1e-3, atol=1e-4)
    assert not torch.equal(own[mean], start)
    assert not any(parameter.requires_grad for parameter in fast.parameters())


def test_frozen_encoder_stays_in_eval(lite0):
    lite0.train()
    assert not any(module.training for module in lite0.modules())
    assert not any(parameter.requires_grad for parameter in lite0.parameters())
    with pytest.raises(ValueError, match="batch_statistics"):
        for_inference(build_encoder(ModelConfig(backbone="lite0", batch_statistics=True), pretrained=False))


@pytest.mark.parametrize("dilation", [1, 2, 4, 5])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("sides", [(1, 1), (7, 9), (8, 13), (33, 33)])
def test_depthwise_equals_convolution(kernel, dilation, sides):
    conv = nn.Conv2d(6, 6, kernel, padding=dilation * (kernel // 2), dilation=dilation, groups=6)
    _agree(conv, FrozenDepthwise(conv), sides)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("sides", [(1, 3), (9, 13), (33, 17)])
def test_strided_depthwise_equals_convolution(kernel, sides):
    _agree(conv := nn.Conv2d(6, 6, kernel, stride=2, padding=kernel // 2, groups=6), FrozenDepthwise(conv), sides)
    with pytest.raises(ValueError, match="odd sides"):
        FrozenDepthwise(conv)(noise(1, 6, 8, 9))


def _agree(plain: nn.Module, fast: nn.Module, sides: tuple[int, int]) -> None:
    results = []
    for layer in (plain, fast):
        x = noise(2, 6, *sides).requires_grad_()
        y = layer(x)
        y.backward(noise(*y.shape))
        results.append((y.detach(), x.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("step", [2, 4, 5])
@pytest.mark.parametrize("sides", [(1, 1), (3, 9), (8, 13), (33, 33)])
def test_phases_equal_what_is_dilated(step, sides):
    conv = nn.Conv2d(6, 6, 5, padding=2 * step, dilation=step, groups=6)
    layers = nn.Sequential(nn.Conv2d(6, 6, 1), FrozenDepthwise(conv), nn.ReLU(), nn.Conv2d(6, 6, 1))
    assert dilation(layers) == step
    phases = Phases(copy.deepcopy(layers))
    assert dilation(phases) == 1
    _agree(layers, phases, sides)


def test_a_grid_comes_apart_into_phases_and_together_again():
    x = torch.arange(2 * 3 * 7 * 5).view(2, 3, 7, 5)
    parts = apart(x, 2)
    assert [part.shape for part in parts] == [(2, 3, 4, 3), (2, 3, 4, 2), (2, 3, 3, 3), (2, 3, 3, 2)]
    assert torch.equal(parts[1], x[:, :, ::2, 1::2])
    assert torch.equal(together(parts, (7, 5), 2), x)


def test_every_dilated_block_of_a_fast_lite0_runs_by_phases(lite0):
    steps = [m.dilation for m in for_inference(lite0).modules() if isinstance(m, Phases)]
    assert steps == [2, 2, 2, 4, 4]
    assert all(layer.dilation == 1 for layer in depthwise(for_inference(lite0)))


def test_depthwise_under_autocast_returns_the_inputs_precision():
    conv = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4)
    x = noise(1, 4, 9, 9).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = FrozenDepthwise(conv)(x)
    y.float().sum().backward()
    assert (y.dtype, x.grad.dtype) == (torch.bfloat16, torch.float32)


def test_random_backbones_are_labelled_and_repeatable():
    before = torch.get_rng_state()
    one, two = (build_encoder(LITE0, pretrained=False) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())  # the global generator is left alone
    assert one.source == "random initialisation"
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    vit = build_vit(ModelConfig(vit_size=28), pretrained=False)
    assert vit.source == "random initialisation"
    assert vit(noise(1, 3, 28, 28)).shape == (1, 5, 384)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("resnet50", 196, "model.vit_model: 'resnet50' is no ViT"),
        ("vit_small_patch14_reg4_dinov2", 196, "5 tokens before its patches"),
        ("vit_small_patch14_dinov2", 200, "model.vit_size: 200 is no multiple of the patch size 14"),
    ],
)
def test_unfit_vits_are_refused(name, size, message):
    with pytest.raises(UserError, match=message):
        build_vit(ModelConfig(vit_model=name, vit_size=size), pretrained=False)


def test_fast_precision_multiplies():
    assert fast_dtype() in (torch.bfloat16, torch.float32)
    with autocast():
        assert (noise(3, 3) @ noise(3, 3)).dtype == fast_dtype()


@torch.no_grad()
def test_the_7x7_resnet_is_torchvisions_with_layer3_dilated(tmp_path, capsys):
    torch.manual_seed(0)
    model = torchvision.models.resnet50().eval()
    for name, buffer in model.named_buffers():  # else a swapped BatchNorm would go unseen
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    torch.save(model.state_dict(), tmp_path / "resnet50-0676ba61.pth")
    encoder = build_encoder(ModelConfig(backbone="resnet50_7x7"), tmp_path)
    assert encoder.source.endswith("resnet50-0676ba61.pth")
    assert "dropped layer4 (" in capsys.readouterr().err
    for conv in (m for m in model.layer3.modules() if isinstance(m, nn.Conv2d)):
        conv.stride = (1, 1)
        if conv.kernel_size == (3, 3):
            conv.dilation = conv.padding = (2, 2)
    x = model.maxpool(model.relu(model.bn1(model.conv1(noise(1, 3, 65, 65)))))
    expected = [x]
    for layer in (model.layer1, model.layer2, model.layer3):
        expected.append(layer(expected[-1]))
    outputs = list(encoder.run(noise(1, 3, 65, 65)))
    for ours, theirs in zip(outputs, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert [tuple(o.shape[1:]) for o in outputs] == [(64, 17, 17), (256, 17, 17), (512, 9, 9), (1024, 9, 9)]
    channels = zip(encoder.layer_channels, [3, *(o.shape[1] for o in outputs)], outputs, strict=False)
    assert all(stated == (inputs, output.shape[1]) for stated, inputs, output in channels)
    features = encoder(noise(1, 3, 65, 65))
    assert (features.cnn.shape, features.layer1.shape) == ((1, 1536, 9, 9), (1, 256, 17, 17))


@pytest.mark.parametrize("decoder", ["fem", "aspp"])
def test_the_7x7_resnet_carries_the_whole_network(decoder):
    config = ModelConfig(backbone="resnet50_7x7", decoder=decoder, width=16, residual=True)
    network = ASGNet(config)
    assert [tuple(p.weight.shape[:2]) for p in list(network.chain.projections.values())[:2]] == [(64, 3), (256, 64)]
    masks = torch.zeros(1, 1, 65, 65)
    masks[..., 10:50, 10:50] = 1
    _, main, auxiliary = network.train()(noise(1, 3, 65, 65), noise(1, 1, 3, 65, 65), masks, y=masks[:, 0].long())
    (main + auxiliary).backward()
    assert all(p.grad is not None for p in network.trainable_parameters())


def test_the_7x7_resnet101_is_deeper():
    with torch.device("meta"):
        encoder = build_encoder(ModelConfig(backbone="resnet101_7x7"), pretrained=False)
    assert len(encoder.layers[3]) == 23
