"""The studies that the long cases run on: a small one on `parts`, made once and kept, and photographs of VOC 2012."""

from contextlib import chdir
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from asgnet.config import Study, load_study
from asgnet.data import open_dataset
from asgnet.data.tree import Tree
from asgnet.fingerprint import fingerprint
from asgnet.layout import Layout
from asgnet.sections import EpisodesConfig
from asgnet.stages.data import make_data
from asgnet.stages.episodes import make_episodes
from asgnet.stages.features import make_features
from benchmarks.sizes import FULL, Sizes

ROOT = Path(__file__).resolve().parents[1]
FOLD = 0


@dataclass(frozen=True)
class Workspace:
    """``folder`` keeps the study on `parts`; ``voc`` is a VOCdevkit folder, or None to test on `parts`."""

    folder: Path
    voc: Path | None = None

    def study(self, sizes: Sizes) -> tuple[Study, Path]:
        """The study of `params.yaml` with fewer images, and the folder where its data, episodes and features lie.
        Dropout is off, so that results can be compared."""
        study = load_study(ROOT / "params.yaml")
        train, test, pixels = sizes.parts
        data = replace(study.data, train_images=train, test_images=test, size=pixels, val_fraction=0.4)
        shrunk = (pixels / study.data.size) ** 2
        data = replace(data, min_pixels=round(study.data.min_pixels * shrunk), min_test_images=3)
        counts = dict(zip(("train", "val", "novel"), sizes.monitored, strict=True))
        study = replace(
            study,
            folds=(FOLD,),
            data=data,
            episodes=EpisodesConfig(shots=1, test=1, monitored_images=study.episodes.monitored_images, **counts),
            features=replace(study.features, pretrained=sizes == FULL, vit_sizes=()),
            model=replace(study.model, dropout=0.0),
            train=replace(study.train, epochs=1, steps_per_epoch=sizes.steps),
        )
        if sizes != FULL:
            study = replace(study, model=replace(study.model, width=sizes.width, vit_size=sizes.vit_pixels))
        folder = self.folder / fingerprint(asdict(study))[:16]
        return replace(study, data=replace(data, root=str(folder / study.data.root))), folder

    def made(self, sizes: Sizes) -> tuple[Study, Path]:
        """`study`, its data, episodes and features made unless they are there."""
        study, folder = self.study(sizes)
        if not (folder / Layout.of(study).features / "meta.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            with chdir(folder):
                make_data(study)
                make_episodes(study)
                make_features(study)
        return study, folder

    def photographs(self, sizes: Sizes) -> tuple[Study, Tree, dict[int, list[str]]]:
        """What test episodes are drawn from: a study, its tree and the images of each class, over as many of the tree's
        test images as ``sizes.parts`` says."""
        if self.voc is None:
            study, _ = self.made(sizes)
        else:
            study = load_study(ROOT / "pipelines" / "voc_animals" / "params.yaml")
            study = replace(study, data=replace(study.data, root=str(self.voc)))
        tree = open_dataset(study.data.dataset, study.data.root)
        images: dict[int, list[str]] = {}
        for image_id in sorted(tree.ids("test")[: sizes.parts[1]]):
            pixels = np.bincount(tree.mask(image_id).ravel(), minlength=256)[1 : len(tree.classes) + 1]
            for class_id in np.flatnonzero(pixels >= study.data.min_pixels) + 1:
                images.setdefault(int(class_id), []).append(image_id)
        return study, tree, images
