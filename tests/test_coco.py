"""COCO-20i: classes, folds, masks rendered pixel by pixel, going on after an interruption, one line for each damage."""

import contextlib
import io
import json
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import torchvision.datasets.utils
import yaml
from coco_folder import CATEGORIES, HEIGHT, WIDTH, annotation, box, make_coco, runs, write_annotations
from pycocotools.coco import COCO
from tiny import ROOT

from asgnet.config import load_study
from asgnet.data import coco, open_classes, open_dataset
from asgnet.data.coco import CLASSES, FOLDS, TREE, download_coco, prepare_coco20i
from asgnet.data.coco_masks import read_pictures, render
from asgnet.data.tree import IMAGES, LISTS, MASKS
from asgnet.errors import UserError
from asgnet.stages.data import make_data
from asgnet.stages.episodes import make_episodes

PERSON, CAR, DOG = 1, 3, 17
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in pycocotools

TRIANGLE = [10.3, 5.2, 50.9, 11.7, 22.4, 44.1]


def region(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


RUNS = runs(region(1, 2, 30, 9))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Every kind of annotation, in train2014; one photograph in val2014."""
    crowd = runs(region(0, 0, 30, 30))
    train = {
        "parts": [annotation(PERSON, [box(2, 3, 12, 13), box(20, 30, 40, 33), [1, 1, 5, 5]])],
        "overlap": [annotation(DOG, [box(10, 10, 15, 15)]), annotation(CAR, [box(5, 5, 30, 40)])],
        "crowd": [annotation(CAR, [box(20, 20, 40, 40)]), annotation(PERSON, crowd, crowd=True)],
        "runs": [annotation(80, RUNS)],
        "triangle": [annotation(DOG, [TRIANGLE])],
        "grey": [annotation(PERSON, [box(0, 0, HEIGHT, WIDTH)])],
        "empty": [],
        "only_crowd": [annotation(PERSON, crowd, crowd=True)],
    }
    return make_coco(tmp_path / "coco", train, {"tested": [annotation(CAR, [box(0, 0, 20, 20)])]})


def test_classes_are_in_the_order_of_cocos_ids() -> None:
    assert open_classes("coco20i", "nowhere") == CLASSES
    assert len(set(CLASSES)) == 80
    known = {1: "person", 10: "traffic light", 17: "dog", 40: "bottle", 63: "tv", 80: "toothbrush"}
    known |= {12: "stop sign", 21: "elephant", 61: "dining table", 79: "hair drier"}
    assert {label: CLASSES[label - 1] for label in known} == known


@pytest.mark.parametrize("convention", FOLDS)
def test_folds_cover_every_class_once(convention: str) -> None:
    assert [len(fold) for fold in FOLDS[convention]] == [20] * 4
    assert sorted(sum(FOLDS[convention], ())) == list(range(1, 81))


def test_both_conventions_of_folds(folder: Path) -> None:
    prepare_coco20i(folder)
    for fold in range(4):
        assert open_dataset("coco20i", folder).novel_classes(fold) == tuple(range(fold + 1, 81, 4))
        assert open_dataset("coco20i", folder, "blocks").novel_classes(fold) == tuple(
            range(20 * fold + 1, 20 * fold + 21)
        )
    with pytest.raises(UserError, match="'thirds': expected one of interleaved, blocks"):
        open_dataset("coco20i", folder, "thirds")


def test_masks_are_rendered_pixel_by_pixel(folder: Path) -> None:
    assert prepare_coco20i(folder) == folder / TREE
    tree = open_dataset("coco20i", folder)
    expected = {name: np.zeros((HEIGHT, WIDTH), np.uint8) for name in tree.ids("train")}
    expected["parts"][region(2, 3, 12, 13) | region(20, 30, 40, 33)] = PERSON  # two points are no polygon
    expected["overlap"][region(5, 5, 30, 40)] = CAR
    expected["overlap"][region(10, 10, 15, 15)] = DOG  # the smaller one on top, though it comes first in the file
    expected["crowd"][region(0, 0, 30, 30)] = 255
    expected["crowd"][region(20, 20, 40, 40)] = CAR  # annotated objects stand before crowds
    expected["runs"][region(1, 2, 30, 9)] = 80
    expected["grey"][:] = PERSON
    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO(folder / "annotations" / "instances_train2014.json")
    number = next(n for n, entry in api.anns.items() if entry["segmentation"] == [TRIANGLE])
    expected["triangle"][api.annToMask(api.anns[number]) == 1] = DOG
    for name, mask in expected.items():
        np.testing.assert_array_equal(tree.mask(name), mask, err_msg=name)
    assert tree.ids("test") == ["tested"]
    assert set(tree.ids("train")) == {"crowd", "grey", "overlap", "parts", "runs", "triangle"}  # those with an object


def test_equal_objects_are_painted_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    source = tmp_path / "instances.json"
    pair = [annotation(label, [box(0, 0, 5, 5)]) for label in (DOG, CAR)]
    write_annotations(source, {"pair": [pair[0] | {"id": 9}, pair[1] | {"id": 3}]})
    (picture,) = read_pictures(source, CLASSES)
    assert set(np.unique(render(picture))) == {0, DOG}


def test_photographs_are_links_and_the_folder_may_move(folder: Path, tmp_path: Path) -> None:
    prepare_coco20i(folder)
    assert (folder / TREE / IMAGES / "grey.jpg").is_symlink()
    moved = folder.rename(tmp_path / "moved")
    tree = open_dataset("coco20i", moved)
    assert tree.image("grey").shape == (HEIGHT, WIDTH, 3)
    assert prepare_coco20i(moved) == tree.root


def test_photographs_that_moved_away_are_linked_again(folder: Path) -> None:
    prepare_coco20i(folder)
    away = folder.parent / "other_disk" / "photographs"
    away.parent.mkdir()
    (folder / TREE / IMAGES / "parts.jpg").unlink()
    (folder / TREE / IMAGES / "parts.jpg").symlink_to(away / "parts.jpg")
    (folder / "train2014").rename(away)
    (folder / "train2014").symlink_to(away)
    tree = open_dataset("coco20i", prepare_coco20i(folder).parents[1])
    assert tree.image("parts").shape == (HEIGHT, WIDTH, 3)


def test_hard_links_where_symbolic_ones_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError("not on this file system")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    photograph = prepare_coco20i(folder) / IMAGES / "parts.jpg"
    assert not photograph.is_symlink()
    assert photograph.samefile(folder / "train2014" / "parts.jpg")


def test_rendering_goes_on_and_leaves_finished_work_alone(folder: Path) -> None:
    source = folder / "annotations" / "instances_train2014.json"
    whole = source.read_text()
    source.write_text(whole.replace(json.dumps(RUNS), json.dumps(RUNS | {"size": [48, 61]})))
    with pytest.raises(UserError, match=r"train2014.json: annotation \d+ of runs, 60 x 48 pixels, is neither"):
        prepare_coco20i(folder)
    masks = folder / TREE / MASKS
    assert {path.name for path in masks.iterdir()} == {"crowd.png", "grey.png", "overlap.png", "parts.png"}
    with pytest.raises(UserError, match=r"no rendered masks in .*: coco20i/VOC2012 is missing or unfinished"):
        open_dataset("coco20i", folder)
    source.write_text(whole)
    (masks / "grey.png").write_bytes((masks / "grey.png").read_bytes()[:60])
    before = (masks / "crowd.png").stat().st_mtime_ns
    prepare_coco20i(folder)
    assert (masks / "crowd.png").stat().st_mtime_ns == before
    assert set(np.unique(open_dataset("coco20i", folder).mask("grey"))) == {PERSON}
    times = {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}
    source.unlink()
    prepare_coco20i(folder, download=True)  # complete: nothing is fetched, read or written
    del times[source], times[source.parent]
    assert {path: path.lstat().st_mtime_ns for path in folder.rglob("*") if path in times} == times
    source.write_text(whole)
    (masks / "runs.png").unlink()
    prepare_coco20i(folder)
    assert open_dataset("coco20i", folder).mask("runs").max() == 80


def test_processes_render_the_same_bytes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    prepare_coco20i(folder, workers=1)
    monkeypatch.setattr(coco, "CHUNK", 3)
    prepare_coco20i(other, workers=2)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    assert all((folder / path).read_bytes() == (other / path).read_bytes() for path in files)


TRAIN = Path("annotations", "instances_train2014.json")
STRANGERS = [CATEGORIES[0], {"id": 2, "name": "unicorn"}, *CATEGORIES[2:]]
SWAPPED = [CATEGORIES[0] | {"name": CLASSES[1]}, CATEGORIES[1] | {"name": CLASSES[0]}, *CATEGORIES[2:]]


def damaged(**changes: object) -> Callable[[Path], None]:
    return lambda root: write_annotations(
        root / TRAIN, {"parts": [{**annotation(PERSON, [box(0, 0, 9, 9)]), **changes}]}
    )


def tables(**changes: object) -> Callable[[Path], None]:
    return lambda root: write_annotations(root / TRAIN, {"parts": [annotation(PERSON, [box(0, 0, 9, 9)])]}, **changes)


DAMAGE = {
    "cut off": (
        lambda r: (r / TRAIN).write_text('{"images": ['),
        "cannot read the annotations .*train2014.json: damaged",
    ),
    "bytes": (lambda r: (r / TRAIN).write_bytes(b"\xff\xfe\x00"), "cannot read the annotations .*train2014.json"),
    "a list": (lambda r: (r / TRAIN).write_text("[]"), "train2014.json: not the structure of COCO's instances"),
    "no file": (lambda r: (r / TRAIN).unlink(), "annotations .*train2014.json are missing"),
    "no folder": (lambda r: shutil.rmtree(r / "val2014"), "no COCO 2014 at .*coco: the folder val2014 is missing"),
    "no photograph": (lambda r: (r / "train2014/parts.jpg").unlink(), r"train2014/parts.jpg is missing.*\(1 such\)"),
    "stranger": (tables(categories=STRANGERS), "train2014.json: category 'unicorn' is unknown; expected the 80"),
    "swapped": (tables(categories=SWAPPED), "train2014.json: 80 categories in another order"),
    "nothing": (tables(annotations=[]), "train2014.json: no object is annotated"),
    "no size": (tables(images=[{"id": 7, "file_name": "parts.jpg"}]), r"not the structure .*\(KeyError: 'height'\)"),
    "path": (tables(images=[{"id": 7, "file_name": "../parts.jpg", "height": 9, "width": 9}]), "image ../parts.jpg"),
    "category": (damaged(category_id=12), "train2014.json: annotation 100 is of the unknown category 12"),
    "image": (tables(images=[]), "train2014.json: annotation 100 is of the unlisted image 7"),
    "half a point": (damaged(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "annotation 100 of parts.* half a point"),
    "words": (damaged(segmentation=[["a"] * 6]), "annotation 100 of parts"),
    "a number": (damaged(segmentation=5), "annotation 100 of parts"),
    "long runs": (damaged(segmentation={"size": [48, 60], "counts": [5, 9999]}), "its runs add up to 10004"),
    "packed": (damaged(segmentation={"size": [48, 60], "counts": "Zh2"}), "of parts.*its runs are not listed"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_line_that_names_the_file(folder: Path, kind: str) -> None:
    harm, message = DAMAGE[kind]
    harm(folder)
    with pytest.raises(UserError, match=message) as error:
        prepare_coco20i(folder)
    assert "\n" not in str(error.value)
    assert not (folder / TREE / LISTS).exists()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no COCO 2014 at .*nowhere: the folder annotations is missing"):
        prepare_coco20i(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no rendered masks in .*nowhere.* run `asgnet data`"):
        open_dataset("coco20i", tmp_path / "nowhere")


def test_a_folder_that_cannot_be_written_to(folder: Path) -> None:
    (folder / TREE.parent).write_text("a file where the tree should be")
    with pytest.raises(UserError, match=r"cannot write .*coco20i/VOC2012 .* give a folder of your own with links"):
        prepare_coco20i(folder)


def test_a_truncated_photograph_is_named(folder: Path) -> None:
    photograph = folder / "train2014" / "parts.jpg"
    photograph.write_bytes(photograph.read_bytes()[:-200])
    prepare_coco20i(folder)
    with pytest.raises(UserError, match=r"cannot read the image .*JPEGImages/parts.jpg: damaged"):
        open_dataset("coco20i", folder).image("parts")


def test_download_without_a_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.datasets.utils.urllib.request, "urlopen", refuse)
    shutil.rmtree(folder / "val2014")
    message = r"cannot download COCO 2014's val2014 \(.*no route.*place the folder val2014 .*\(val2014.zip\) in .*coco"
    with pytest.raises(UserError, match=message) as error:
        prepare_coco20i(folder, download=True)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in folder.iterdir()) == ["annotations", "train2014"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address at which the files of ``tmp_path`` are served."""
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def test_download_unpacks_inside_the_folder(
    folder: Path, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in coco.ARCHIVES:
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr("../../escaped.txt", "")
            for path in (folder / name).iterdir():
                archive.write(path, path.relative_to(folder))
    monkeypatch.setattr(coco, "ARCHIVES", {name: f"{server}/{name}.zip" for name in coco.ARCHIVES})
    fetched = tmp_path / "one" / "two" / "fetched"
    prepare_coco20i(fetched, download=True)
    assert {path.name for path in fetched.iterdir()} == {"annotations", "coco20i", "train2014", "val2014"}
    assert not list(tmp_path.rglob("escaped.txt"))
    np.testing.assert_array_equal(
        open_dataset("coco20i", fetched).image("grey"),
        open_dataset("coco20i", prepare_coco20i(folder).parents[1]).image("grey"),
    )
    (tmp_path / "val2014.zip").write_bytes((tmp_path / "val2014.zip").read_bytes()[:300])
    shutil.rmtree(fetched / "val2014")
    with pytest.raises(UserError, match="cannot download COCO 2014's val2014"):
        download_coco(fetched)
    assert not list(fetched.glob(".download-*"))


SHOWN = (1, 2, 3, 4, 21, 22, 23, 24)
NOVEL = {"interleaved": [{1, 21}, {2, 22}], "blocks": [{1, 2, 3, 4}, {21, 22, 23, 24}]}


@pytest.mark.parametrize("convention", NOVEL)
def test_episodes_from_photographs_to_tables(convention: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def images(split: str, count: int) -> dict:  # an object each; in every other test image, class 2's is small
        side = {(c, k): 3 if split == "val" and c == 2 and k % 2 else 20 for c in SHOWN for k in range(count)}
        return {f"COCO_{split}2014_{c}_{k}": [annotation(c, [box(4, 5, 4 + s, 5 + s)])] for (c, k), s in side.items()}

    monkeypatch.chdir(tmp_path)
    make_coco(tmp_path / "COCO", images("train", 8), images("val", 7))
    params = yaml.safe_load((ROOT / "pipelines/coco20i/params.yaml").read_text()) | {"folds": [0, 1]}
    params["data"] |= {"size": 65, "min_pixels": 200, "min_test_images": 4, "val_fraction": 0.4}
    params["data"]["folds_of"] = convention
    params["episodes"] = {"shots": 1, "train": 8, "val": 8, "novel": 4, "test": 8, "monitored_images": 3}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    study = load_study()
    make_data(study)
    make_episodes(study)
    for fold, novel in enumerate(NOVEL[convention]):
        tables = {name: pd.read_csv(f"episodes/coco20i/fold{fold}/{name}.csv") for name in ("train", "val", "test")}
        assert set(tables["test"]["class"]) == novel
        assert set(tables["train"]["class"]) == set(SHOWN) - novel
        assert tables["test"]["query"].str.startswith("COCO_val2014_").all()
        assert tables["val"]["query"].str.startswith("COCO_train2014_").all()
    index = pd.read_csv("episodes/coco20i/index.csv")
    assert len(index[(index["split"] == "test") & (index["class"] == 2)]) == 4  # the three small ones do not count
    assert index["pixels"].min() == 400


def test_the_pipeline_is_the_published_protocol() -> None:
    assert (ROOT / "pipelines/coco20i/dvc.yaml").resolve() == ROOT / "dvc.yaml"
    study = load_study(ROOT / "pipelines/coco20i/params.yaml")
    assert (study.data.dataset, study.data.size, study.data.min_pixels) == ("coco20i", 641, 2 * 32 * 32)
    assert (study.model.backbone, study.features.mode, study.folds) == ("resnet50", "online", (0, 1, 2, 3))
    assert (study.train.batch, study.train.lr, study.train.epochs, study.episodes.test) == (8, 0.05, 50, 20000)
