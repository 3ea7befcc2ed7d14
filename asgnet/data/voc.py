"""PASCAL-5i: VOC 2012 with SBD's masks, 20 classes in 4 folds of 5 (Shaban et al., BMVC 2017)."""

import shutil
from pathlib import Path

from asgnet.data.fetch import fetch
from asgnet.data.sbd import find_sbd, read_sbd_mask
from asgnet.data.tree import (
    IMAGES,
    LISTS,
    MASKS,
    find_voc,
    read_list,
    require_folders,
    train_ids,
    write_list,
    write_mask,
)
from asgnet.errors import UserError
from asgnet.files import atomic_path

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle"),
    *("bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person"),
    *("pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
FOLDS = tuple(tuple(range(5 * fold + 1, 5 * fold + 6)) for fold in range(4))


def prepare_pascal5i(root: Path | str, download: bool = False) -> Path:
    """Complete the VOC tree under ``root`` and return its VOC2012 folder: SegmentationClassAug/ from VOC's own masks
    where they exist and from SBD's elsewhere, and train_aug.txt. What is already there stays as it is, so a complete
    tree is only read, and an interrupted run goes on.

    download: fetch VOC 2012 (2 GB) and SBD (1.4 GB) through torchvision where they are missing.
    Raises UserError for a missing tree or list, an unreadable SBD mask, and a download that fails."""
    if download:
        download_pascal5i(Path(root))
    voc = find_voc(root)
    require_folders(voc, IMAGES, LISTS)
    train = train_ids(voc)
    for image_id in dict.fromkeys(train + read_list(voc / LISTS / "val.txt")):
        target = voc / MASKS / f"{image_id}.png"
        if not target.exists():
            _add_mask(voc, image_id, target)
    if not (voc / LISTS / "train_aug.txt").exists():  # last, so that its presence says that the masks are complete
        write_list(voc / LISTS / "train_aug.txt", train)
    return voc


def _add_mask(voc: Path, image_id: str, target: Path) -> None:
    own, sbd = voc / "SegmentationClass" / f"{image_id}.png", find_sbd(voc)
    if own.exists():
        with atomic_path(target) as temporary:
            shutil.copyfile(own, temporary)
    elif sbd is not None:
        write_mask(target, read_sbd_mask(sbd / "cls" / f"{image_id}.mat"))
    else:
        raise UserError(
            f"no mask for {image_id}: neither {own} nor an SBD folder; place SBD (cls/, train_noval.txt) as sbd/ "
            f"beside {voc.parent.name}/, or the finished masks in {target.parent}"
        )


def download_pascal5i(root: Path) -> None:
    """Fetch what is missing under ``root``: VOCdevkit/VOC2012, sbd/ and SBD's list train_noval.txt."""
    from torchvision.datasets import SBDataset, VOCSegmentation  # three seconds, which no other stage should wait
    from torchvision.datasets.utils import download_url

    root.mkdir(parents=True, exist_ok=True)
    try:
        voc = find_voc(root)
    except UserError:
        place = f"the VOCdevkit folder of VOC 2012 (VOCtrainval_11-May-2012.tar) in {root}"
        fetch("VOC 2012", place, VOCSegmentation, root, year="2012", image_set="train", download=True)
        voc = find_voc(root)
    if (voc / LISTS / "train_aug.txt").exists() and (voc / MASKS).is_dir():
        return
    sbd = find_sbd(voc)
    if sbd is None:
        sbd = root / "sbd"
        place = f"the SBD folder (benchmark.tgz: cls/, train.txt) as {sbd}"
        fetch("SBD", place, SBDataset, sbd, image_set="train", mode="segmentation", download=True)
    if not (sbd / "train_noval.txt").exists() and not (voc / LISTS / "train_noval.txt").exists():
        source = (SBDataset.voc_train_url, sbd, SBDataset.voc_split_filename, SBDataset.voc_split_md5)
        fetch("SBD's list train_noval.txt", f"it in {sbd}", download_url, *source)
