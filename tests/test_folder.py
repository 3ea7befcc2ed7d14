"""A folder of one's own: read, checked file by file, trained on and tested like the other datasets."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny import tiny_study
from voc_tree import make_tree

from asgnet.cli import main
from asgnet.data import open_classes, open_dataset
from asgnet.data.folder import FolderTree
from asgnet.data.tree import LISTS, MASKS, write_mask
from asgnet.errors import UserError
from asgnet.stages.data import make_data
from asgnet.stages.episodes import make_episodes
from asgnet.stages.features import make_features
from asgnet.stages.test import run_test
from asgnet.stages.train import run_training

CLASSES = ("ant", "bee", "cod", "doe", "elk")


def object_mask(height: int = 40, width: int = 50) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[8:32, 10:40] = True
    return mask


def make_folder(root: Path, each: int = 8, classes: tuple[str, ...] = CLASSES) -> Path:
    for c, name in enumerate(classes):
        for kind in ("images", "masks"):
            (root / name / kind).mkdir(parents=True)
        for k in range(each):
            pixels = np.random.default_rng([c, k]).integers(0, 256, (40, 50, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / "images" / f"{k}.{'jpg' if k % 2 else 'png'}")
            Image.fromarray(object_mask()).save(root / name / "masks" / f"{k}.png")
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "own")


def test_classes_are_dealt_to_the_folds_and_every_fourth_photograph_is_for_testing(root):
    tree = open_dataset("folder", root)
    assert tree.classes == open_classes("folder", root) == CLASSES
    assert tree.folds == ((1, 5), (2,), (3,), (4,))
    assert tree.base_classes(0) == (2, 3, 4)
    assert tree.ids("test") == [f"{name}/{k}" for name in CLASSES for k in (3, 7)]
    assert sorted(tree.ids("train") + tree.ids("test")) == [f"{name}/{k}" for name in CLASSES for k in range(8)]
    np.testing.assert_array_equal(tree.mask("cod/2"), object_mask() * 3)
    assert tree.image("cod/2").shape == (*tree.size("cod/2"), 3) == (40, 50, 3)
    assert tree.parts("cod/2") is None
    assert tree.hidden() is None


def test_photographs_are_read_upright(root):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    Image.open(root / "ant/images/0.png").save(root / "ant/images/0.png", exif=exif)
    Image.fromarray(np.rot90(object_mask(), -1)).save(root / "ant/masks/0.png")
    tree = FolderTree(root)
    assert tree.size("ant/0") == tree.mask("ant/0").shape == (50, 40)


def test_folders_that_are_no_dataset(root, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        open_dataset("folder", tmp_path / "nowhere")
    with pytest.raises(UserError, match="has 0 class folders: expected 1 to 254, each with images/ and masks/"):
        open_dataset("folder", root / "ant")
    (root / "bee/masks/2.png").unlink()
    with pytest.raises(UserError, match=r"bee/images/2.png has no mask .*bee/masks/2.png \(1 such\)"):
        open_dataset("folder", root).ids("train")


def check(capsys, path: Path) -> tuple[int, list[str], str]:
    status = main(("data", "check", str(path)))
    said = capsys.readouterr()
    return status, [line for line in said.out.splitlines() if str(path) in line], said.err


def test_a_whole_folder_and_a_whole_tree_pass(root, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, lines, said = check(capsys, root)
    assert (status, lines, said) == (0, [f"{root}: 40 photographs, nothing wrong"], "")
    make_tree(tmp_path / "tree", train_per_class=2, test_per_class=2)
    assert check(capsys, tmp_path / "tree")[0] == 0


def test_what_is_wrong_with_a_folder_is_said_file_by_file(root, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (root / "ant/images/1.jpg").write_bytes((root / "ant/images/1.jpg").read_bytes()[:300])
    (root / "ant/masks/2.png").unlink()
    Image.new("L", (50, 40)).save(root / "ant/masks/3.png")
    Image.fromarray(object_mask(41)).save(root / "ant/masks/4.png")
    (root / "ant/images/notes.txt").write_text("?")
    Image.fromarray(object_mask()).save(root / "ant/masks/99.png")
    (root / "bee/images/a;b.png").write_bytes((root / "bee/images/0.png").read_bytes())
    (root / "bee/masks/a;b.png").write_bytes((root / "bee/masks/0.png").read_bytes())
    (root / "bee/images/1.png").write_bytes((root / "bee/images/0.png").read_bytes())
    (root / "cod/images/3.jpg").write_bytes((root / "cod/images/1.jpg").read_bytes())
    (root / "doe/images/0.png").unlink()
    (root / "loose").mkdir()
    status, lines, said = check(capsys, root)
    expected = {
        "ant/images/1.jpg: damaged": 1, "ant/images/2.png: has no mask": 1, "ant/masks/3.png is empty": 1,
        "ant/masks/4.png is 50 x 41 pixels but": 1, "ant/images/notes.txt: no photograph": 1,
        "ant/masks/99.png: the mask of no photograph": 1, "a;b.png: a ';' in its name": 1,
        "bee/images/1.*: 2 files of one name": 1, "cod/images/3.jpg: the same photograph as": 1,
        "doe/images: 7 photographs; at least 8": 1, "doe/masks/0.png: the mask of no photograph": 1,
        "loose: no class folder": 1,
    }  # fmt: skip
    assert {part: sum(part in line for line in lines) for part in expected} == expected
    assert status == 2
    assert "named above, are wrong" in said


def test_what_is_wrong_with_a_tree_is_said_file_by_file(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree = make_tree(tmp_path / "tree", train_per_class=2, test_per_class=2)
    (tree.root / MASKS / "t1_0.png").unlink()
    (tree.root / "JPEGImages/t2_0.jpg").write_bytes(b"no image")
    write_mask(tree.root / MASKS / "v1_0.png", np.full((40, 50), 77, np.uint8))
    (tree.root / LISTS / "val.txt").write_text("v1_0\nt3_0\ngone\n")
    assert main(("data", "check", "tree")) == 2
    said = capsys.readouterr()
    for part in (
        "t1_0.png is missing",
        "t2_0.jpg: damaged",
        "holds the value 77",
        "t3_0 stands in",
        "gone.jpg is missing",
    ):
        assert sum(part in line for line in said.out.splitlines()) == 1
    assert "tree: 5 of its files" in said.err
    assert main(("data", "check")) == 2
    assert "give the PATH" in capsys.readouterr().err


def test_trains_and_tests_like_the_others(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = tiny_study(
        tmp_path,
        data={
            "dataset": "folder",
            "root": "own",
            "size": 65,
            "min_pixels": 10,
            "min_test_images": 2,
            "val_fraction": 0.4,
        },
        episodes={"shots": 1, "test_shots": None, "train": 2, "val": 2, "novel": 2, "test": 4, "monitored_images": 2},
        features={"pretrained": False, "views": 1},
        test={"shots": [1], "examples": 1},
    )
    make_data(study)
    make_episodes(study)
    make_features(study)
    run_training(study, "baseline", 1, 0, report=lambda row: None)
    table = run_test(study, "baseline", 1, 0)[1]
    assert set(table["class"]) == {2}
    assert set(table["query"]) <= {"bee/3", "bee/7"}
    assert len(pd.read_csv("results/folder/baseline/fold1/seed0/episodes_1shot.csv")) == 4
    (root / "ant/masks/0.png").unlink()
    with pytest.raises(UserError, match="1 of its files"):
        make_data(study)
