"""PASCAL-5i's folds, SBD's conversion, and what a user reads without a network."""

import os
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torchvision.datasets.utils
import torchvision.datasets.voc
from PIL import Image
from scipy.io import savemat
from tiny import ROOT
from voc_tree import add_image, box_mask

from asgnet.config import load_study
from asgnet.data import open_dataset
from asgnet.data.episodes import base_images, fold_episodes, used_supports
from asgnet.data.index import build_index, novel_classes
from asgnet.data.sbd import read_sbd_mask
from asgnet.data.tree import IMAGES, LISTS, MASKS, voc_palette, write_list
from asgnet.data.voc import CLASSES, FOLDS, prepare_pascal5i
from asgnet.errors import UserError


def write_mat(path: Path, mask: np.ndarray) -> None:
    """SBD's structure: a 1 x 1 struct GTcls with Boundaries, Segmentation and CategoriesPresent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    boundaries = np.empty((20, 1), object)
    boundaries[:] = [[np.zeros((2, 2))] for _ in range(20)]
    present = np.unique(mask[mask > 0])[:, None]
    savemat(path, {"GTcls": {"Boundaries": boundaries, "Segmentation": mask, "CategoriesPresent": present}})


def raw_voc(root: Path) -> Path:
    """VOC as it comes: own masks for `own` (also in SBD, with other labels) and `test`, SBD's alone for `bare`."""
    voc = root / "VOCdevkit" / "VOC2012"
    for image_id in ("own", "test"):
        add_image(voc, image_id, box_mask(7), masks="SegmentationClass")
    Image.new("RGB", (50, 40)).save(voc / IMAGES / "bare.jpg")
    write_list(voc / LISTS / "train.txt", ["own"])
    write_list(voc / LISTS / "val.txt", ["test"])
    write_list(root / "sbd" / "train_noval.txt", ["own", "bare"])
    sbd_mask = np.where(box_mask(20) == 255, 0, box_mask(20)).astype(np.uint8)
    write_mat(root / "sbd" / "cls" / "own.mat", sbd_mask)
    write_mat(root / "sbd" / "cls" / "bare.mat", sbd_mask)
    return voc


def test_folds_are_contiguous() -> None:
    assert [[CLASSES[c - 1] for c in fold] for fold in FOLDS][1] == ["bus", "car", "cat", "chair", "cow"]
    assert sorted(sum(FOLDS, ())) == list(range(1, 21))


def test_prepare_takes_vocs_masks_first_and_converts_the_rest(tmp_path: Path) -> None:
    voc = raw_voc(tmp_path)
    assert prepare_pascal5i(tmp_path) == voc
    tree = open_dataset("pascal5i", tmp_path)
    assert tree.ids("train") == ["own", "bare"]
    assert set(np.unique(tree.mask("own"))) == {0, 7, 255}
    assert set(np.unique(tree.mask("bare"))) == {0, 20}
    with Image.open(voc / MASKS / "bare.png") as image:
        assert image.mode == "P"
        colours = image.getpalette()
    assert colours[: 3 * 21] == voc_palette()[: 3 * 21]


def test_sbd_is_found_beside_the_tree_that_a_link_leads_to(tmp_path: Path) -> None:
    raw_voc(tmp_path / "data")
    (tmp_path / "VOCdevkit").symlink_to(tmp_path / "data" / "VOCdevkit")
    prepare_pascal5i(tmp_path / "VOCdevkit")
    assert open_dataset("pascal5i", tmp_path / "VOCdevkit").ids("train") == ["own", "bare"]


def test_prepare_goes_on_and_leaves_finished_work_alone(tmp_path: Path) -> None:
    voc = raw_voc(tmp_path)
    mat = tmp_path / "sbd" / "cls" / "bare.mat"
    whole = mat.read_bytes()
    mat.write_bytes(whole[:200])
    with pytest.raises(UserError, match=r"SBD mask .*bare.mat: damaged"):
        prepare_pascal5i(tmp_path)
    assert not (voc / LISTS / "train_aug.txt").exists()
    assert sorted(path.name for path in (voc / MASKS).iterdir()) == ["own.png"]
    mat.write_bytes(whole)
    prepare_pascal5i(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in voc.rglob("*")}
    prepare_pascal5i(tmp_path, download=True)  # complete: nothing is fetched and nothing is written
    assert {path: path.stat().st_mtime_ns for path in voc.rglob("*")} == before


def test_prepare_without_sbd_says_where_to_place_it(tmp_path: Path) -> None:
    voc = raw_voc(tmp_path)
    (tmp_path / "sbd").rename(tmp_path / "elsewhere")
    write_list(voc / LISTS / "train_noval.txt", ["bare"])
    with pytest.raises(UserError, match=r"no mask for bare: .* place SBD .* as sbd/ beside VOCdevkit/"):
        prepare_pascal5i(tmp_path)


def test_sbd_masks_of_another_structure(tmp_path: Path) -> None:
    savemat(tmp_path / "other.mat", {"GTinst": np.zeros((3, 3))})
    with pytest.raises(UserError, match=r"other.mat: damaged, or no GTcls"):
        read_sbd_mask(tmp_path / "other.mat")
    write_mat(tmp_path / "wide.mat", np.full((3, 3), 21, np.uint8))
    with pytest.raises(UserError, match=r"wide.mat is not a uint8"):
        read_sbd_mask(tmp_path / "wide.mat")
    with pytest.raises(UserError, match=r"none.mat is missing"):
        read_sbd_mask(tmp_path / "none.mat")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.datasets.utils.urllib.request, "urlopen", refuse)


@pytest.mark.usefixtures("offline")
def test_download_without_a_network(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"cannot download VOC 2012 \(.*\): without a network, place the VOCdevkit"
    ) as e:
        prepare_pascal5i(tmp_path / "new", download=True)
    assert "\n" not in str(e.value)
    raw_voc(tmp_path)
    (tmp_path / "sbd" / "train_noval.txt").unlink()
    with pytest.raises(UserError, match=r"cannot download SBD's list train_noval.txt .* place it in .*sbd"):
        prepare_pascal5i(tmp_path, download=True)
    (tmp_path / "sbd").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"cannot download SBD .* place the SBD folder"):
        prepare_pascal5i(tmp_path, download=True)


@pytest.mark.parametrize("name", ["pascal5i", "check"])
def test_the_pipeline_is_the_published_protocol(name: str) -> None:
    study = load_study(ROOT / "pipelines" / name / "params.yaml")
    assert (study.data.dataset, study.data.size, study.features.mode) == ("pascal5i", 473, "online")
    assert (study.model.backbone, study.model.width, study.model.vit_width) == ("resnet50", 256, 512)
    assert (study.train.batch, study.train.lr, study.train.shots, study.test.shots) == (4, 0.025, 1, (1, 5))
    assert set(study.arms) == {"baseline", "vit_cls", "vit_patch", "residual_chain"}
    steps = study.train.epochs * study.train.on(5953).steps_per_epoch
    if name == "check":
        assert (steps, study.episodes.test, study.features.pretrained) == (20, 20, False)
        assert "random weights" in study.label
    else:
        assert (steps, study.data.min_pixels, study.folds) == (200 * 1489, 2 * 32 * 32, (0, 1, 2, 3))


def test_the_animal_part_of_voc_2012() -> None:
    sibling = Path(__file__).parents[2] / "shared" / "data" / "voc-animals" / "VOCdevkit"
    root = Path(os.environ.get("ASGNET_VOC", sibling))
    if not root.is_dir():
        pytest.skip(f"needs real photographs: set ASGNET_VOC to the animal part of VOC 2012 (no folder {root})")
    tree = open_dataset("pascal5i", prepare_pascal5i(root))
    index = build_index(tree, val_fraction=0.1, seed=0, min_pixels=1300)
    found = [[CLASSES[c - 1] for c in novel_classes(index, tree, fold, 40)[0]] for fold in (1, 2, 3)]
    assert found == [["cat", "cow"], ["dog", "horse", "person"], ["sheep"]]
    with pytest.raises(UserError, match="fold 0 has no novel class with 40 test images"):
        novel_classes(index, tree, 0, 40)
    assert not set(base_images(index, tree, 1, 1, "train")) & set(FOLDS[1])
    tables = fold_episodes(
        *(index, tree, 3, 5),
        counts={"train": 50, "val": 50, "novel": 200, "test": 200},
        seed=0,
        min_test_images=40,
        max_images={"train": 12, "val": 12, "novel": 12},
    )
    novel, test = used_supports(tables["novel"]), used_supports(tables["test"])
    assert all(not supports & novel.get(key, set()) for key, supports in test.items())
