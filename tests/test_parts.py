"""The embedded dataset: what is promised of its images, masks, part maps, backgrounds and difficulty."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from asgnet.data.parts import CLASSES, FOLDS
from asgnet.data.parts.backgrounds import REGIONS, photographs
from asgnet.data.parts.classes import KINDS
from asgnet.data.parts.difficulty import colour_miou
from asgnet.data.parts.render import SMALLEST_VISIBLE, main_class, render
from asgnet.data.parts.textures import TEXTURES
from asgnet.data.parts.write import build
from asgnet.errors import UserError


@pytest.fixture(scope="module")
def samples():
    return [render("test", index, seed=0) for index in range(40)]


def _digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_classes_and_folds():
    assert len(CLASSES) == len(set(CLASSES)) == 20
    assert [class_id for fold in FOLDS for class_id in fold] == list(range(1, 21))
    assert all(len(fold) == 5 for fold in FOLDS)
    assert tuple(kind.name for kind in KINDS) == CLASSES
    for kind in KINDS:
        assert 1 <= len(kind.parts) <= 6
        assert {material.texture for material in kind.parts.values()} <= set(TEXTURES)


def test_every_part_of_every_class_gets_drawn():
    rng = np.random.default_rng(0)
    for kind in KINDS:
        drawn = {piece.part for _ in range(12) for piece in kind.build(rng)}
        assert drawn == set(kind.parts), kind.name


def test_render_depends_on_its_arguments_only():
    first = render("train", 3, seed=0)
    render("train", 4, seed=0)
    again, other_seed, other_split = render("train", 3, 0), render("train", 3, 1), render("test", 3, 0)
    for field in ("image", "mask", "parts"):
        np.testing.assert_array_equal(getattr(first, field), getattr(again, field))
        assert not np.array_equal(getattr(first, field), getattr(other_seed, field))
        assert not np.array_equal(getattr(first, field), getattr(other_split, field))


def test_masks_and_part_maps_agree(samples):
    for sample in samples:
        assert set(np.unique(sample.mask)) <= {*range(21), 255}
        assert (sample.mask[sample.parts > 0] != 0).all()  # a part is an object's, or lies under its border
        inside = (sample.mask > 0) & (sample.mask < 255)
        assert (sample.parts[inside] > 0).all()
        for class_id in np.unique(sample.mask[inside]):
            assert sample.parts[sample.mask == class_id].max() <= len(KINDS[class_id - 1].parts)


def test_different_labels_are_parted_by_a_border(samples):
    for sample in samples:
        for a, b in ((sample.mask[1:], sample.mask[:-1]), (sample.mask[:, 1:], sample.mask[:, :-1])):
            different = a != b
            assert ((a[different] == 255) | (b[different] == 255)).all()


def test_main_objects_are_there_at_all_sizes(samples):
    areas = []
    for index, sample in enumerate(samples):
        areas.append((sample.mask == main_class(index)).mean())
        columns = (sample.mask == main_class(index)).any(axis=0)
        assert columns.mean() <= 0.95
    assert min(areas) >= 0.02 < SMALLEST_VISIBLE
    assert 0.10 <= np.median(areas) <= 0.20
    assert max(areas) / min(areas) > 4  # their sides differ by more than a factor of two


def test_most_images_hold_other_classes_too(samples):
    counts = [len(np.setdiff1d(np.unique(sample.mask), [0, 255])) for sample in samples]
    assert 0.6 <= np.mean(np.array(counts) > 1) < 1


def test_half_of_the_supports_or_more_get_three_prototypes(samples):
    """Facts page: round(area / area_per_seed) prototypes, 100 cells of 60 x 60 each, on the 33 x 33 grid."""
    nearest = np.arange(33) * 257 // 33
    prototypes = []
    for sample in samples:
        for class_id in np.setdiff1d(np.unique(sample.mask), [0, 255]):
            area = sample.mask == class_id
            if area.sum() >= 2 * 32 * 32:
                prototypes.append(round(area[np.ix_(nearest, nearest)].sum() / (100 * 33 * 33 / 3600)))
    assert np.mean(np.array(prototypes) >= 3) >= 0.5


def test_training_and_test_backgrounds_share_no_pixel():
    for name, (train, test) in REGIONS.items():
        apart = train[2] < test[0] or test[2] < train[0] or train[3] < test[1] or test[3] < train[1]
        assert apart, name
    assert len(photographs("train")) == len(photographs("test")) == len(REGIONS)


def test_colours_of_single_pixels_say_little():
    miou = colour_miou(seed=0, per_class=2, pool=30, size=97)
    assert 5 < miou["all_foreground"] < 30
    assert miou["support"] - miou["all_foreground"] <= 5
    assert miou["pooled"] - miou["all_foreground"] <= 5


def test_build_writes_a_whole_tree_and_the_same_one_twice(tmp_path):
    for name in ("a", "b"):
        build(tmp_path / name, train=20, test=20, size=65, seed=5, workers=1)
    assert _digests(tmp_path / "a") == _digests(tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    root = tmp_path / "a" / "VOC2012"
    ids = (root / "ImageSets/Segmentation/train_aug.txt").read_text().split()
    assert ids == [f"train_{index:05d}" for index in range(20)]
    assert len((root / "ImageSets/Segmentation/val.txt").read_text().split()) == 20
    found = set()
    for index, name in enumerate(ids):
        image = Image.open(root / f"JPEGImages/{name}.jpg")
        mask = Image.open(root / f"SegmentationClassAug/{name}.png")
        part = Image.open(root / f"SegmentationPart/{name}.png")
        assert (image.size, image.mode, mask.mode, part.mode) == ((65, 65), "RGB", "P", "L")
        assert mask.size == part.size == image.size
        assert mask.getpalette()[3:6] == [128, 0, 0]  # VOC's colour of class 1
        assert mask.getpalette()[-3:] == [224, 224, 192]
        assert main_class(index) in np.unique(mask)
        found.add(main_class(index))
    assert found == set(range(1, 21))


def test_a_failed_build_leaves_the_old_tree(tmp_path, monkeypatch):
    root = tmp_path / "parts"
    root.mkdir()
    (root / "old").write_text("")

    def fail(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr("asgnet.data.parts.write.render", fail)
    with pytest.raises(KeyboardInterrupt):
        build(root, train=20, test=20, size=65, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]
    assert (root / "old").exists()


@pytest.mark.parametrize(("wrong", "named"), [({"train": 5}, "train = 5"), ({"size": 32}, "size = 32")])
def test_bad_counts_and_sizes_are_named(tmp_path, wrong, named):
    with pytest.raises(UserError, match=named):
        build(tmp_path / "parts", **{"train": 20, "test": 20, **wrong})
    assert not list(tmp_path.iterdir())
