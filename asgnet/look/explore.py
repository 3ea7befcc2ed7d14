"""Any test episode under any arm, number of seed cells, iterations and shots, fast enough to follow a slider."""

import copy
import dataclasses
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from asgnet.checkpoint import HEAD
from asgnet.config import Study
from asgnet.data.episodes import read_episodes
from asgnet.data.transforms import fit
from asgnet.decoders import sides
from asgnet.device import autocast
from asgnet.errors import UserError
from asgnet.evaluate import score
from asgnet.gallery import Maps, Prototypes
from asgnet.head import Head
from asgnet.layout import Layout
from asgnet.look.inside import allocation_of, shots_of
from asgnet.model import ASGNet
from asgnet.plots.trace import Trace
from asgnet.stages.runs import load_run, open_source
from asgnet.store import class_target
from asgnet.strict import unknown


class Explorer:
    """Traces test episodes of a study through its trained networks.

    The source is opened once; networks, and for each network and image the reduced features, are kept for later calls.
    """

    def __init__(self, study: Study) -> None:
        self.study, self.layout, self.source = study, Layout.of(study), open_source(study)
        self.episodes = lru_cache(self._episodes)
        self.model = lru_cache(8)(self._model)
        self._reduced = lru_cache(64)(self._reduce)
        self._picture = lru_cache(64)(self._fit)

    def arms(self, fold: int, seed: int) -> list[str]:
        """The arms that are trained on this fold with this random seed."""
        return [arm for arm in self.study.trained if (self.layout.run(arm, fold, seed) / HEAD).exists()]

    def classes(self, fold: int) -> list[str]:
        """The novel classes of the fold that have test episodes."""
        return [self.source.tree.classes[c - 1] for c in sorted(self.episodes(fold)["class"].unique())]

    def numbers(self, fold: int, class_name: str) -> list[int]:
        """The numbers of the class's test episodes. Raises UserError for a class without any."""
        classes = self.classes(fold)
        if class_name not in classes:
            raise unknown(f"fold {fold}: novel class", class_name, classes)
        table = self.episodes(fold)
        return table.loc[table["class"] == self.source.tree.classes.index(class_name) + 1, "episode"].tolist()

    def most_shots(self, fold: int) -> int:
        """How many supports the test episodes have."""
        return int(self.episodes(fold)["supports"].str.count(";").min()) + 1

    def own(self, arm: str, fold: int, seed: int) -> dict[str, int]:
        """The arm's own max_seeds, iterations and shots, which `trace` takes where it is given None."""
        config = self.model(arm, fold, seed).config
        shots = self.study.train_of(arm).shots
        return {"max_seeds": config.max_seeds, "iterations": config.iterations_eval, "shots": shots}

    @torch.no_grad()
    def trace(
        self,
        arm: str,
        fold: int,
        seed: int,
        class_name: str | None,
        episode: int,
        max_seeds: int | None = None,
        iterations: int | None = None,
        shots: int | None = None,
    ) -> Trace:
        """Run a test episode (of ``class_name``, or of any class where it is None) through a trained run's network.

        ``max_seeds``, ``iterations`` and ``shots`` replace the arm's own. Prediction and IoU are those of testing
        (`asgnet.evaluate`). Raises UserError for an unknown arm or class, a run that is not trained, an episode that
        fold or class do not have, and more shots than the frozen episodes have supports."""
        given = {"max_seeds": max_seeds, "iterations": iterations, "shots": shots}
        settings = self.own(arm, fold, seed) | {name: value for name, value in given.items() if value is not None}
        model, row = self.model(arm, fold, seed), self._episode(fold, class_name, episode)
        head = _adjusted(model.head, settings["max_seeds"], settings["iterations"])
        query, ids, label = row["query"], _first_supports(row["supports"], settings["shots"]), int(row["class"])

        images = [*ids, query]
        reduced, fine = zip(*(self._reduced(arm, fold, seed, i) for i in images), strict=True)
        layer1 = None if fine[0] is None else torch.cat(fine)
        maps = Maps(torch.cat(reduced), layer1, {i: k for k, i in enumerate(images)})
        masks = self.source.masks(ids, [0] * len(ids), [label] * len(ids)) == 1  # (K, S, S)
        cells, seeds, _ = head.place(masks, sides(maps.reduced))
        prototypes, valid, fallback = head.prototypes(maps.reduced[:-1], masks, seeds)
        found = Prototypes(prototypes, valid, fallback, {(i, label): k for k, i in enumerate(ids)})

        predicted: list[Tensor] = []
        table = score(
            model, self.source, maps, found, pd.DataFrame([row]), len(ids), watch=lambda _, mask: predicted.append(mask)
        )
        inter, union = table.loc[0, ["inter_fg", "union_fg"]]
        prediction = predicted[0].cpu().numpy().astype(np.uint8)  # at the query's original size
        similarity, guide, probability = allocation_of(head, maps.reduced[-1:], prototypes, valid)
        pictures = [(image, labels == label) for image, labels in map(self._picture, ids)]
        image, mask = self._picture(query)
        return Trace(
            arm=self.study.arm(arm).label,
            class_name=self.source.tree.classes[label - 1],
            episode=episode,
            max_seeds=settings["max_seeds"],
            iterations=settings["iterations"],
            shots=shots_of(head, pictures, maps.reduced[:-1], cells, seeds, valid),
            query=image,
            truth=class_target(mask[None], np.array([label]))[0],
            similarity=similarity,
            guide=guide,
            probability=probability,
            prediction=fit(self.source.tree.image(query), prediction, self.source.size)[1] == 1,
            iou=100 * float(inter) / max(float(union), 1),
        )

    def _episode(self, fold: int, class_name: str | None, episode: int) -> dict:
        """The episode's row in the table."""
        table = self.episodes(fold)
        numbers = table["episode"].tolist() if class_name is None else self.numbers(fold, class_name)
        if episode not in numbers:
            of = "" if class_name is None else f" of class {class_name!r}"
            some = ", ".join(str(number) for number in numbers[:3])
            raise UserError(
                f"fold {fold} has no test episode {episode}{of}: choose one of {some} and so on to {numbers[-1]}"
            )
        return table[table["episode"] == episode].iloc[0].to_dict()

    def _episodes(self, fold: int) -> pd.DataFrame:
        """The frozen test episodes of a fold."""
        return read_episodes(self.layout.episodes(self.study.check_fold(fold), "test"))

    def _model(self, arm: str, fold: int, seed: int) -> ASGNet:
        """The trained network of a run, in eval mode."""
        self.study.arm(arm)  # a misspelt arm is not an untrained one
        return load_run(self.study, self.layout.run(arm, self.study.check_fold(fold), seed))

    @torch.no_grad()
    def _reduce(self, arm: str, fold: int, seed: int, image_id: str) -> tuple[Tensor, Tensor | None]:
        """Reduced features (1, C, h, w) of an image and, for ASPP, its layer1, as in `asgnet.gallery.build_maps`."""
        model = self.model(arm, fold, seed)
        with autocast(self.source.device, self.source.dtype):
            features = self.source.features(model, [image_id], [0])
            return model.head.reduce(features), features.layer1 if model.config.decoder == "aspp" else None

    def _fit(self, image_id: str) -> tuple[np.ndarray, np.ndarray]:
        """Photograph (S, S, 3) and class ids (S, S) at the working size."""
        return fit(self.source.tree.image(image_id), self.source.tree.mask(image_id), self.source.size)


def _adjusted(head: Head, max_seeds: int, iterations: int) -> Head:
    """The head with another number of seed cells and of iterations: a shallow copy, so that the weights are the same
    and the head itself keeps its configuration."""
    for name, value, least in (("max_seeds", max_seeds, 1), ("iterations", iterations, 0)):
        if value < least:
            raise UserError(f"{name} is {value}: expected {least} or more")
    adjusted = copy.copy(head)
    adjusted.config = dataclasses.replace(head.config, max_seeds=max_seeds, iterations_eval=iterations)
    return adjusted


def _first_supports(supports: str, shots: int) -> list[str]:
    ids = supports.split(";")
    if not 1 <= shots <= len(ids):
        raise UserError(
            f"shots is {shots}: expected 1 to {len(ids)}, as many supports as the frozen episodes have (episodes.shots "
            "in params.yaml)"
        )
    return ids[:shots]
