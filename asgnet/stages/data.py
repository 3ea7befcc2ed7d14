"""The data stage: the dataset's tree."""

from asgnet.config import Study


def make_data(study: Study) -> None:
    """Make the embedded dataset, or complete a VOC tree (masks from SBD, lists; download where asked)."""
    data = study.data
    if data.dataset == "parts":
        from asgnet.data.parts import build

        build(data.root, train=data.train_images, test=data.test_images, size=data.size, seed=data.seed)
    else:
        from asgnet.data.voc import prepare_pascal5i

        prepare_pascal5i(data.root, download=data.download)
