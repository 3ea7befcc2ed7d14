"""The data stage: the dataset's tree."""

from asgnet.config import Study


def make_data(study: Study) -> None:
    """Make the embedded dataset, or complete a VOC tree (masks from SBD, lists), or render COCO's masks; downloads
    where asked."""
    data = study.data
    if data.dataset == "parts":
        from asgnet.data.parts import build

        build(data.root, train=data.train_images, test=data.test_images, size=data.size, seed=data.seed)
    elif data.dataset == "pascal5i":
        from asgnet.data.voc import prepare_pascal5i

        prepare_pascal5i(data.root, download=data.download)
    else:
        from asgnet.data.coco import prepare_coco20i

        prepare_coco20i(data.root, download=data.download)
