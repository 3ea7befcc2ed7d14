"""The data stage: the dataset's tree, made or checked."""

from pathlib import Path

from asgnet.config import Study
from asgnet.data import open_classes
from asgnet.errors import UserError


def make_data(study: Study) -> None:
    """Make the embedded dataset, or complete a VOC tree (masks from SBD, lists), or render COCO's masks, or check that
    a folder of one's own is whole; downloads where asked."""
    data = study.data
    if data.dataset == "parts":
        from asgnet.data.parts.write import build  # its renderer takes a second to import

        build(data.root, train=data.train_images, test=data.test_images, size=data.size, seed=data.seed)
    elif data.dataset == "pascal5i":
        from asgnet.data.voc import prepare_pascal5i

        prepare_pascal5i(data.root, download=data.download)
    elif data.dataset == "folder":
        check_data(study, Path(data.root))
    else:
        from asgnet.data.coco import prepare_coco20i

        prepare_coco20i(data.root, download=data.download)


def check_data(study: Study | None, path: Path) -> None:
    """Print what is wrong with the dataset at ``path``, file by file, and raise UserError where anything is.

    A tree of the VOC layout is read with the classes of the study's dataset, or of VOC; else a folder is expected."""
    from asgnet.data.check import check_folder, check_voc, is_voc

    if is_voc(path):
        name = "pascal5i" if study is None or study.data.dataset == "folder" else study.data.dataset
        problems, count = check_voc(path, open_classes(name, path))
    else:
        problems, count = check_folder(path)
    for problem in problems:
        print(problem)
    if problems:
        raise UserError(f"{path}: {len(problems)} of its files or folders, named above, are wrong; mend them")
    print(f"{path}: {count} photographs, nothing wrong")
