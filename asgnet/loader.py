"""What training steps need, made ahead by worker processes where asked. Every step is a pure function of its number, so
the number of workers changes nothing."""

from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from asgnet.data.sampling import TrainingEpisode, TrainingImages, training_batch
from asgnet.distributed import share
from asgnet.errors import UserError
from asgnet.rng import generator
from asgnet.sections import TrainConfig
from asgnet.source import Source, Views


class Step(NamedTuple):
    """One training step of this process: its share of the batch."""

    number: int
    episodes: list[TrainingEpisode]
    views: Views  # of their images, as far as the source has to make them


class Steps(Dataset):
    """All training steps, by number."""

    def __init__(self, source: Source, images: TrainingImages, config: TrainConfig, seed: int) -> None:
        self.source, self.images, self.config, self.seed = source, images, config, seed
        self.mine = share(range(config.batch), "train.batch")  # here: a worker knows nothing of other processes

    def __getitem__(self, number: int) -> Step:
        config = self.config
        batch = training_batch(self.images, number, config.batch, config.shots, self.seed, self.source.views)
        if config.further_shots and number % 2:
            given = (self.images, config.further_shots, self.seed, self.source.views)
            batch = [with_further(episode, number * config.batch + k, *given) for k, episode in enumerate(batch)]
        episodes = [batch[k] for k in self.mine]
        ids = [i for e in episodes for i in (e.query, *e.supports)]
        views = [v for e in episodes for v in (e.query_view, *e.support_views)]
        return Step(number, episodes, self.source.make(ids, views))


def with_further(
    episode: TrainingEpisode, position: int, images: TrainingImages, shots: int, seed: int, views: int
) -> TrainingEpisode:
    """The training episode at ``position`` with ``shots`` supports, its own ones first: then other images of its class,
    uniform without replacement; where there are no more, all of them from the first on, in other views."""
    rng = generator(seed, "further-supports", position)
    taken = (episode.query, *episode.supports)
    others = [image for image in images.by_class[episode.class_id] if image not in taken]
    pool = [*episode.supports, *(others[k] for k in rng.permutation(len(others)))]
    further = rng.integers(views, size=shots - len(episode.supports)).tolist()
    supports = tuple(islice(cycle(pool), shots))
    return episode._replace(supports=supports, support_views=(*episode.support_views, *further))


def training_steps(
    source: Source, images: TrainingImages, config: TrainConfig, seed: int, first: int, workers: int
) -> Iterator[Step]:
    """The steps from number ``first`` on. A source that makes its views has that done by ``workers`` processes, a few
    steps ahead; 0: by this process, when a step is asked for.

    Raises UserError where the batch cannot be divided by the processes that train, and what making views raises."""
    total = config.epochs * config.pass_steps
    loader = DataLoader(
        Steps(source, images, config, seed),
        batch_size=None,
        sampler=range(first, total),
        num_workers=workers if source.makes_views else 0,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # or it would draw from the global one
    )
    return _plainly(iter(loader))


def _as_it_is(step: Any) -> Any:
    return step


def _plainly(steps: Iterator[Step]) -> Iterator[Step]:
    """``steps``; a user's mistake found in a worker is told without the worker's traceback."""
    try:
        yield from steps
    except UserError as error:
        raise UserError(str(error).strip().splitlines()[-1].removeprefix("asgnet.errors.UserError: ")) from None
