"""COCO-20i: COCO 2014, 80 classes in 4 folds of 20, its masks rendered once into a tree of the VOC layout.

ROOT/annotations/instances_{train,val}2014.json     as published
ROOT/{train,val}2014/                               the photographs
ROOT/coco20i/VOC2012/                               what `prepare_coco20i` adds: links to the photographs, masks, lists
"""

import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from asgnet.data.coco_masks import Picture, read_pictures, write_rendered
from asgnet.data.fetch import fetch
from asgnet.data.tree import IMAGES, LISTS, MASKS, read_list, write_list
from asgnet.errors import UserError
from asgnet.progress import track

CLASSES = (  # in the order of COCO's category ids, which have gaps; the class id is the position plus one
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    *("microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush"),
)
# Both conventions are in use (facts: "Evaluation"); numbers of one do not compare with numbers of the other.
FOLDS = {
    "interleaved": tuple(tuple(range(fold + 1, 81, 4)) for fold in range(4)),
    "blocks": tuple(tuple(range(20 * fold + 1, 20 * fold + 21)) for fold in range(4)),
}
SPLITS = {"train2014": "train_aug.txt", "val2014": "val.txt"}  # folder of photographs -> list in the tree
TREE = Path("coco20i", "VOC2012")
CHUNK = 64  # photographs that a process renders at a time
ARCHIVES = {
    "annotations": "http://images.cocodataset.org/annotations/annotations_trainval2014.zip",
    "train2014": "http://images.cocodataset.org/zips/train2014.zip",
    "val2014": "http://images.cocodataset.org/zips/val2014.zip",
}


def rendered_tree(root: Path | str) -> Path:
    """The finished tree inside the COCO folder ``root``; UserError where `prepare_coco20i` has not made it."""
    voc = Path(root) / TREE
    if not all((voc / LISTS / name).is_file() for name in SPLITS.values()):
        raise UserError(f"no rendered masks in {root}: {TREE} is missing or unfinished there; run `asgnet data`")
    return voc


def prepare_coco20i(root: Path | str, download: bool = False, workers: int | None = None) -> Path:
    """Render the masks of the COCO folder ``root`` and return the tree that `rendered_tree` finds: train from
    train2014, test from val2014, without the photographs in which no object is annotated. The photographs are linked.

    A complete tree is only read, and an interrupted run goes on. The lists come last: they say that it is complete.
    download: fetch COCO 2014 (20 GB) where its folders are missing. workers: processes (default: one a core).
    Raises UserError for missing folders and photographs, damaged annotations, and a download that fails."""
    root = Path(root)
    if download:
        download_coco(root)
    voc = root / TREE
    if _complete(voc):
        return voc
    for folder in ARCHIVES:
        if not (root / folder).is_dir():
            raise UserError(
                f"no COCO 2014 at {root}: the folder {folder} is missing; expected {', '.join(ARCHIVES)} "
                "(data.download: true fetches them)"
            )
    try:
        ids = {name: _prepare_split(root, split, voc, workers or _cores()) for split, name in SPLITS.items()}
        for name, listed in ids.items():
            write_list(voc / LISTS / name, listed)
    except OSError as error:
        raise UserError(
            f"cannot write {voc} ({error.strerror}): the masks need 1 GB there; where {root} may only be read, give a "
            f"folder of your own with links to its {', '.join(ARCHIVES)}"
        ) from error
    return voc


def _complete(voc: Path) -> bool:
    """Whether the lists are there and every photograph and mask that they name."""
    lists = [voc / LISTS / name for name in SPLITS.values()]
    if not all(path.is_file() for path in lists):
        return False
    files = (((voc / IMAGES / f"{i}.jpg"), (voc / MASKS / f"{i}.png")) for path in lists for i in read_list(path))
    return all(image.exists() and mask.exists() for image, mask in files)


def _prepare_split(root: Path, split: str, voc: Path, workers: int) -> list[str]:
    """Link the photographs and render the masks of ``split``; returns the ids."""
    source = root / "annotations" / f"instances_{split}.json"
    pictures = read_pictures(source, CLASSES)
    if not pictures:
        raise UserError(f"{source}: no object is annotated; replace the file")
    present = {path.name for path in (root / split).iterdir()}
    missing = [p.id for p in pictures if f"{p.id}.jpg" not in present]
    if missing:
        path = root / split / f"{missing[0]}.jpg"
        raise UserError(f"{path} is missing, though {source} names it ({len(missing)} such): complete the folder")
    _link(root / split, voc / IMAGES, [f"{p.id}.jpg" for p in pictures])
    _render(pictures, voc / MASKS, workers, f"masks of {split}")
    return [p.id for p in pictures]


def _link(photographs: Path, folder: Path, names: list[str]) -> None:
    """Link files into ``folder``: by relative symbolic links, so that the COCO folder may move, or by hard links where
    a file system has none."""
    folder.mkdir(parents=True, exist_ok=True)
    way = Path(os.path.relpath(photographs.resolve(), folder.resolve()))
    for name in names:
        link = folder / name
        if link.exists():
            continue
        link.unlink(missing_ok=True)  # it points to where the photographs were
        try:
            link.symlink_to(way / name)
        except (OSError, NotImplementedError):
            os.link(photographs / name, link)


def _render(pictures: list[Picture], folder: Path, workers: int, label: str) -> None:
    write = partial(write_rendered, folder)
    workers = min(workers, -(-len(pictures) // CHUNK))
    if workers == 1:
        for picture in track(pictures, label):
            write(picture)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        done = pool.map(write, pictures, chunksize=CHUNK)
        for _ in zip(track(pictures, label), done, strict=True):
            pass


def _cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def download_coco(root: Path) -> None:
    """Fetch what is missing of annotations/, train2014/ and val2014/. Each folder appears under its name when it is
    whole. COCO publishes no checksums; a cut-off archive cannot be unpacked."""
    root.mkdir(parents=True, exist_ok=True)
    for folder, url in ARCHIVES.items():
        if not (root / folder).is_dir():
            place = f"the folder {folder} of COCO 2014 ({url.rsplit('/', 1)[1]}) in {root}"
            fetch(f"COCO 2014's {folder}", place, _unpack, url, root, folder)


def _unpack(url: str, root: Path, folder: str) -> None:
    from torchvision.datasets.utils import download_and_extract_archive  # three seconds, which no stage should wait

    with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as temporary:
        download_and_extract_archive(url, temporary, remove_finished=True)
        (Path(temporary) / folder).replace(root / folder)
