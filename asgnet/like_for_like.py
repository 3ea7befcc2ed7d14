"""Scoring as the published code does, so that like is compared with like (`test.like_for_like`).

Of the facts page's departures, these belong to the evaluation, and the switch brings them back together:

- 9: seed cells are counted by their non-zero coordinates (``published_seed_count``);
- 10: one episode too many is scored, 1,001 on PASCAL-5i and 20,001 on COCO-20i;
- 13: content sizes are rounded down to multiples of 8 and the prediction is then stretched (`fit_published`).

A class counts in an image with at least 2 * 32 * 32 of its pixels, and every class with more images than shots takes
part. Departure 3, choosing the checkpoint on the test fold, is in a published checkpoint already and cannot be taken
out of it; for a run of this project it is `train.selection: novel`, and the label says where it was not.

What stays different. The published episodes change with the number of loader workers (departure 11), so nobody can draw
them again: these are this project's, whose classes take turns, where the published queries run through the test list. A
published query may also show fewer pixels of its class than a support must. And this project computes in the fast
precision of the device, which the result names.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from asgnet.config import Study
from asgnet.data.transforms import fit_published
from asgnet.errors import UserError
from asgnet.model import ASGNet
from asgnet.source import OnlineSource

MIN_PIXELS = 2 * 32 * 32  # of a class in an image, at its original size


class Protocol(NamedTuple):
    """What the published evaluation fixes for a dataset (facts page: "Training", "Evaluation", departure 10)."""

    size: int  # pixels a side
    episodes: int


PUBLISHED_TRAINING = {"novel_pixels": "background", "selection": "novel"}  # departures 8 and 3
PROTOCOLS = {"pascal5i": Protocol(473, 1001), "coco20i": Protocol(641, 20_001)}


class PublishedSource(OnlineSource):
    """Images from the photographs, fitted into the square as published."""

    def _view(self, image_id: str, view: int) -> tuple[np.ndarray, np.ndarray]:
        return fit_published(self.tree.image(image_id), self.tree.mask(image_id), self.size)


def protocol_of(dataset: str) -> Protocol:
    """The published protocol for ``dataset``; UserError where nothing was published on it."""
    if dataset not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise UserError(f"dataset '{dataset}' has no published numbers to be like: expected one of {known}")
    return PROTOCOLS[dataset]


def as_published(study: Study, shots: int) -> Study:
    """``study`` with the published rule for the classes of an image, and with every class that has enough images."""
    data = dataclasses.replace(study.data, min_pixels=MIN_PIXELS, min_test_images=shots + 1)
    return dataclasses.replace(study, data=data, test=dataclasses.replace(study.test, like_for_like=True))


def count_as_published(network: ASGNet) -> None:
    """Let ``network`` count seed cells as published (departure 9)."""
    network.config = network.head.config = dataclasses.replace(network.config, published_seed_count=True)


def label_of(
    study: Study, episodes: int, left_out: Mapping[str, int], trained: Mapping[str, str | None] = PUBLISHED_TRAINING
) -> str:
    """ "like for like", and in what it is not: size, number of episodes, classes without enough images, and what was
    ``trained`` otherwise (`TrainConfig.named`)."""
    published = protocol_of(study.data.dataset)
    exceptions = []
    if study.data.size != published.size:
        exceptions.append(f"{study.data.size} pixels a side instead of {published.size}")
    if episodes != published.episodes:
        exceptions.append(f"{episodes:,} episodes instead of {published.episodes:,}")
    if study.data.dataset == "coco20i" and study.data.folds_of != "interleaved":  # the published configurations' own
        exceptions.append(f"folds of {study.data.folds_of} instead of interleaved ones")
    for name, value in PUBLISHED_TRAINING.items():
        if trained[name] != value:
            exceptions.append(f"{name} {trained[name] or 'unknown'} instead of {value}")
    if left_out:
        exceptions.append("without " + ", ".join(f"{name} ({count} images)" for name, count in left_out.items()))
    return "like for like" + (f", except: {'; '.join(exceptions)}" if exceptions else "")
