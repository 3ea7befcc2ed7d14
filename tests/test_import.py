"""A published checkpoint, converted and tested like for like, on a made-up one. Run: pytest tests/test_import.py"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_reference import VECTORS, reference_weights
from tiny import write_params
from torch import Tensor
from torch.nn import functional as F
from voc_tree import add_image

from asgnet import load_reference_checkpoint
from asgnet.cli import main
from asgnet.config import load_study
from asgnet.converted import load_converted
from asgnet.data import open_dataset
from asgnet.data.transforms import fit_published, normalise, published_content_size, unfit_published
from asgnet.data.tree import LISTS, write_list
from asgnet.data.voc import CLASSES
from asgnet.gallery import in_parts
from asgnet.like_for_like import label_of
from asgnet.metrics import intersection_union

SIZE = 65


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """The reference vectors' weights under published names, without layer4."""
    state = reference_weights(VECTORS / "keys_aspp_r50.txt")
    return {key: value for key, value in state.items() if not key.startswith("layer4.")}


@pytest.fixture(scope="module")
def checkpoint(weights, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("published") / "split0.pth"
    torch.save({"epoch": 1, "state_dict": {f"module.{key}": value for key, value in weights.items()}}, path)
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A VOC tree of 70 x 100 noise: four test images of aeroplanes (1), three of bicycles (2), one small bird (3)."""
    folder = tmp_path_factory.mktemp("tree")
    voc = folder / "VOC2012"

    def add(image_id: str, label: int, bottom: int) -> str:
        mask = np.zeros((70, 100), np.uint8)
        mask[10:bottom, 5 + 3 * label : 55 + 3 * label] = label  # 50 pixels wide; 2,048 are reached at 41 rows
        mask[10:bottom, 4 + 3 * label] = 255
        add_image(voc, image_id, mask)
        return image_id

    write_list(voc / LISTS / "train_aug.txt", [add("train", 6, 60)])
    sizes = [("plane", 1, 4, 60), ("bike", 2, 3, 55), ("bird", 3, 1, 30)]
    ids = [add(f"{name}{k}", c, bottom - k) for name, c, count, bottom in sizes for k in range(count)]
    write_list(voc / LISTS / "val.txt", ids)
    return folder


@pytest.fixture
def params(root, tmp_path) -> Path:
    return write_params(tmp_path, data={"dataset": "pascal5i", "root": str(root)})


def run(capsys, *arguments: str | Path) -> dict:
    assert main([str(argument) for argument in (*arguments, "--json")]) == 0
    return json.loads(capsys.readouterr().out)


SMALL = ("--episodes", "5", "--size", str(SIZE))


@pytest.fixture
def imported(checkpoint, params, tmp_path, capsys) -> tuple[dict, Path]:
    """Metrics and folder of the checkpoint, imported at a size of seconds."""
    out = tmp_path / "out"
    return run(capsys, "import-reference", checkpoint, "--params", params, "--fold", "0", "--out", out, *SMALL), out


def test_a_checkpoint_is_converted_and_tested_like_for_like(imported, checkpoint, params, capsys):
    metrics, out = imported
    assert metrics["protocol"] == (
        "like for like, except: 65 pixels a side instead of 473; 5 episodes instead of 1,001; without bird (0 images), "
        "boat (0 images), bottle (0 images)"
    )
    assert (metrics["backbone"], metrics["decoder"], metrics["checkpoint"]) == ("resnet50", "aspp", "split0.pth")
    assert (metrics["shots"], metrics["fold"], metrics["episodes"], metrics["folder"]) == (1, 0, 5, str(out))
    assert set(metrics["iou"]) == {CLASSES[0], CLASSES[1]}
    table = pd.read_csv(out / "episodes_1shot.csv")
    assert list(table["class"]) == [1, 2, 1, 2, 1]
    assert json.loads((out / "metrics_1shot.json").read_text())["miou"] == metrics["miou"]
    # Without the .pth: the same weights, and the same counts from `asgnet evaluate`
    ours, theirs = load_converted(out), load_reference_checkpoint(checkpoint)
    assert ours.config == theirs.config
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    study = json.loads(json.dumps({"size": SIZE, "dataset": "pascal5i", "root": str(load_study(params).data.root)}))
    again = write_params(params.parent, data=study, test={"like_for_like": True})
    tested = run(capsys, "evaluate", out, "--params", again, "--episodes", "5")
    flagged = write_params(params.parent, data=study)
    assert run(capsys, "evaluate", out, "--params", flagged, "--like-for-like", "--episodes", "5") == tested
    assert {key: tested[key] for key in ("miou", "fb_iou", "iou", "protocol")} == {
        key: metrics[key] for key in ("miou", "fb_iou", "iou", "protocol")
    }
    plain = run(capsys, "evaluate", out, "--params", write_params(params.parent, data=study | {"min_pixels": 2048,
        "min_test_images": 2}), "--episodes", "5")  # fmt: skip
    assert not plain["like_for_like"]
    assert "protocol" not in plain


def test_the_counts_are_those_of_the_published_steps(checkpoint, root, tmp_path, capsys):
    out = tmp_path / "out"
    params = write_params(tmp_path, data={"dataset": "pascal5i", "root": str(root)}, compute={"precision": "float32"})
    run(capsys, "import-reference", checkpoint, "--params", params, "--fold", "0", "--out", out, *SMALL)
    tree, network = open_dataset("pascal5i", root), load_reference_checkpoint(checkpoint)
    for row in pd.read_csv(out / "episodes_1shot.csv").head(2).to_dict("records"):
        (x, _), (s_x, s_y) = (fit_published(tree.image(i), tree.mask(i), SIZE) for i in (row["query"], row["supports"]))
        support = torch.from_numpy(np.where(s_y == row["class"], 1, 0))[None, None]
        with torch.no_grad():
            logits = network(normalise(x)[None], normalise(s_x)[None, None], support)  # (1, 2, S, S)
        # The published steps: stretch the whole square to the long side, arg-max, compare within the image
        prediction = F.interpolate(logits, (100, 100), mode="bilinear", align_corners=True).argmax(1)[:, :70]
        mask = tree.mask(row["query"])
        target = torch.from_numpy(np.where(mask == 255, 255, mask == row["class"]))[None]
        counts = intersection_union(prediction, target)[0].tolist()
        ours = [row[name] for name in ("inter_fg", "union_fg", "inter_bg", "union_bg")]
        assert np.abs(np.subtract(ours, counts)).max() <= 5
        assert min(counts) > 0


def refused(capsys, *arguments: str | Path) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--fold", "9"), "fold 9 does not exist: expected 0 to 3"),
        (("--fold", "2"), "fold 2 has no novel class with 2 test images"),
        (("--fold", "0", "--dataset", "pascal"), "dataset 'pascal' has no published numbers"),
        (("--fold", "0", "--dataset", "coco20i"), "the study's tree is one of pascal5i, not of coco20i"),
        (("--fold", "0", "--size", "64"), "64 is not 8 n + 1; try 65"),
        (("--fold", "0", "--shots", "0"), "--shots 0: expected 1 or more"),
        (("--fold", "0", "--shots", "5"), "no novel class with 6 test images"),
        (("--fold", "0", "--data-root", "nowhere"), "no dataset at nowhere"),
    ],
)
def test_what_does_not_fit_the_dataset_is_one_line(checkpoint, params, capsys, options, said):
    line = refused(capsys, "import-reference", checkpoint, "--params", params, *options)
    assert "split0.pth: " in line
    assert said in line
    assert list(checkpoint.parent.iterdir()) == [checkpoint]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("truncated", "split0.pth: truncated"),
        ("missing", r"1 missing (encoder.layers.2.1.bn2.bias)"),
        ("shape", "1 of another shape (head.down_conv.0.weight)"),
        ("absent", "split0.pth: no such file"),
    ],
)
def test_a_damaged_checkpoint_is_one_line(weights, checkpoint, params, tmp_path, capsys, damage, said):
    path = tmp_path / "split0.pth"
    if damage == "truncated":
        path.write_bytes(checkpoint.read_bytes()[:100_000])
    elif damage == "missing":
        torch.save({"state_dict": {k: v for k, v in weights.items() if k != "layer2.1.bn2.bias"}}, path)
    elif damage == "shape":
        torch.save({"state_dict": weights | {"down_conv.0.weight": torch.ones(1)}}, path)
    line = refused(capsys, "import-reference", path, "--params", params, "--fold", "0")
    assert "split0.pth: " in line
    assert said in line
    assert not (tmp_path / "split0-imported").exists()


def test_like_for_like_needs_published_numbers(imported, tmp_path, capsys):
    params = write_params(tmp_path, test={"like_for_like": True})
    line = refused(capsys, "evaluate", imported[1], "--params", params)
    assert "dataset 'parts' has no published numbers to be like: expected one of pascal5i, coco20i" in line


def test_the_label_says_in_what_it_is_not_like(params):
    study = load_study(params)
    coco = dataclasses.replace(study.data, dataset="coco20i", size=641)
    assert label_of(dataclasses.replace(study, data=coco), 20_001, {}) == "like for like"
    ours = {"novel_pixels": "background", "selection": "val"}
    assert label_of(dataclasses.replace(study, data=coco), 20_001, {}, ours) == (
        "like for like, except: selection val instead of novel"
    )
    blocks = dataclasses.replace(coco, folds_of="blocks")
    label = label_of(dataclasses.replace(study, data=blocks), 20_001, {"bear": 1})
    assert label == "like for like, except: folds of blocks instead of interleaved ones; without bear (1 images)"


@pytest.mark.parametrize(
    ("shape", "content"),
    [((375, 500), (352, 472)), ((500, 375), (472, 352)), ((473, 473), (472, 472)), ((3, 500), (8, 472))],
)
def test_published_content_sizes(shape, content):
    assert published_content_size(*shape, 473) == content


def test_the_published_square_has_its_content_at_the_top_left():
    rng = np.random.default_rng(0)
    image, mask = rng.integers(1, 256, (70, 100, 3), np.uint8), rng.integers(0, 3, (70, 100), np.uint8)
    photo, labels = fit_published(image, mask, SIZE)
    h, w = published_content_size(70, 100, SIZE)
    assert (h, w) == (40, 64)
    outside = np.ones((SIZE, SIZE), bool)
    outside[:h, :w] = False
    assert (photo[outside] == 0).all()
    assert (labels[outside] == 255).all()
    rows, cols = np.arange(h) * 70 // h, np.arange(w) * 100 // w  # OpenCV's nearest pixel
    np.testing.assert_array_equal(labels[:h, :w], mask[np.ix_(rows, cols)])
    assert np.abs(photo[:h, :w].mean() - image.mean()) < 2


def test_the_published_prediction_is_the_stretched_square():
    columns = torch.arange(SIZE).float().expand(1, SIZE, SIZE)
    restored = unfit_published(columns, 70, 100)
    assert restored.shape == (1, 70, 100)
    torch.testing.assert_close(restored[0, 0], torch.linspace(0, SIZE - 1, 100))
    assert torch.equal(unfit_published(columns.mT, 100, 70)[0], unfit_published(columns, 70, 100)[0].T)


def test_episodes_are_split_by_the_images_they_use():
    table = pd.DataFrame({"query": list("abcdef"), "supports": ["b", "a", "d", "c", "f", "e"]})
    assert [list(part["query"]) for part in in_parts(table, 1, most=4)] == [list("abcd"), list("ef")]
    assert [len(part) for part in in_parts(table, 1, most=1)] == [1] * 6
    assert [len(part) for part in in_parts(table, 1)] == [6]
