"""Trees of the VOC layout: reading, and one clear line for each kind of damage."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from voc_tree import CLASSES, FOLDS, add_image, box_mask, make_tree

from asgnet.data import open_dataset
from asgnet.data.tree import IMAGES, LISTS, MASKS, PARTS, Tree, train_ids, voc_palette, write_list, write_mask
from asgnet.errors import UserError


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return make_tree(tmp_path / "VOCdevkit", train_per_class=1, test_per_class=1)


def test_reads_what_was_written(tree: Tree) -> None:
    assert tree.ids("train") == ["t1_0", "t2_0", "t3_0", "t4_0"]
    image = tree.image("t3_0")
    assert (image.shape, image.dtype) == ((40, 50, 3), np.uint8)
    assert tree.size("t3_0") == (40, 50)
    np.testing.assert_array_equal(tree.mask("t3_0"), box_mask(3))
    assert tree.parts("t3_0") is None
    write_mask(tree.root / PARTS / "t3_0.png", box_mask(2))
    np.testing.assert_array_equal(tree.parts("t3_0"), box_mask(2))


def test_folds_split_the_classes(tree: Tree) -> None:
    assert tree.novel_classes(1) == (3, 4)
    assert tree.base_classes(1) == (1, 2)
    with pytest.raises(UserError, match="fold 2 does not exist: expected 0 to 1"):
        tree.novel_classes(2)


def test_palette_is_that_of_voc() -> None:
    colours = np.array(voc_palette()).reshape(256, 3)
    known = {0: (0, 0, 0), 1: (128, 0, 0), 8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {i: tuple(colours[i].tolist()) for i in known} == known


@pytest.mark.parametrize("inner", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_root_may_be_any_of_three_folders(tree: Tree, tmp_path: Path, inner: str) -> None:
    assert Tree(tmp_path / inner, CLASSES, FOLDS).root == tree.root


def test_root_without_a_tree(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no dataset at .*nowhere: no such folder; expected VOC2012"):
        open_dataset("pascal5i", tmp_path / "nowhere")
    with pytest.raises(UserError, match="VOC2012/ is missing there"):
        open_dataset("pascal5i", tmp_path)
    (tmp_path / "VOC2012" / IMAGES).mkdir(parents=True)
    with pytest.raises(UserError, match="no folder SegmentationClassAug"):
        open_dataset("pascal5i", tmp_path)


def test_unknown_dataset(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown dataset 'pascal': expected one of parts, pascal5i"):
        open_dataset("pascal", tmp_path)


def test_exif_orientation_is_ignored(tree: Tree) -> None:
    path = tree.root / IMAGES / "t1_0.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    Image.open(path).save(path, exif=exif)
    assert tree.image("t1_0").shape == (40, 50, 3)


def test_damaged_files_are_named(tree: Tree) -> None:
    for folder, suffix, read in ((IMAGES, ".jpg", tree.image), (MASKS, ".png", tree.mask)):
        for keep in (0, 300, None):
            path = tree.root / folder / f"t1_0{suffix}"
            whole = path.read_bytes()
            path.write_bytes(b"not an image" if keep is None else whole[: min(keep, len(whole) - 20)])
            with pytest.raises(UserError, match=f"cannot read the image .*{folder}/t1_0"):
                read("t1_0")
            path.write_bytes(whole)


def test_mask_that_does_not_fit(tree: Tree) -> None:
    write_mask(tree.root / MASKS / "t1_0.png", box_mask(1, width=49))
    with pytest.raises(UserError, match=r"t1_0.png is 49 x 40 pixels but .*t1_0.jpg is 50 x 40"):
        tree.mask("t1_0")
    write_mask(tree.root / MASKS / "t2_0.png", box_mask(5))
    with pytest.raises(UserError, match=r"t2_0.png holds the value 5: expected 0 .* 1 to 4"):
        tree.mask("t2_0")
    Image.fromarray(tree.image("t3_0")).save(tree.root / MASKS / "t3_0.png")
    with pytest.raises(UserError, match=r"t3_0.png is a PNG in mode RGB: expected a palette"):
        tree.mask("t3_0")


def test_list_that_names_a_missing_file(tree: Tree) -> None:
    (tree.root / MASKS / "v2_0.png").unlink()
    with pytest.raises(UserError, match=r"SegmentationClassAug/v2_0.png is missing, though the test list"):
        tree.ids("test")
    (tree.root / LISTS / "val.txt").write_text("\n")
    with pytest.raises(UserError, match=r"val.txt is empty"):
        tree.ids("test")


def test_train_list_is_voc_train_united_with_train_noval(tmp_path: Path) -> None:
    voc = tmp_path / "VOCdevkit" / "VOC2012"
    write_list(voc / LISTS / "train.txt", ["a", "b"])
    with pytest.raises(UserError, match=r"train_noval.txt is missing"):
        train_ids(voc)
    sbd = tmp_path / "sbd"
    (sbd / "cls").mkdir(parents=True)
    write_list(sbd / "train_noval.txt", ["b", "c"])
    assert train_ids(voc) == ["a", "b", "c"]
    shutil.move(sbd / "train_noval.txt", voc / LISTS / "train_noval.txt")
    assert train_ids(voc) == ["a", "b", "c"]
    write_list(voc / LISTS / "train_aug.txt", ["z"])
    assert train_ids(voc) == ["z"]


def test_grey_masks_are_read_like_palette_masks(tree: Tree) -> None:
    add_image(tree.root, "t1_0", box_mask(1))
    Image.fromarray(box_mask(1)).save(tree.root / MASKS / "t1_0.png")  # mode L
    np.testing.assert_array_equal(tree.mask("t1_0"), box_mask(1))
