"""The episodes that training steps learn from: a pure function of (random seed, step), so that resuming a run and
changing the number of workers change nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from asgnet.errors import UserError
from asgnet.rng import generator


class TrainingEpisode(NamedTuple):
    """One query and its K supports, each an (image id, number of its augmented view)."""

    class_id: int
    query: str
    query_view: int
    supports: tuple[str, ...]
    support_views: tuple[int, ...]


@dataclass(frozen=True)
class TrainingImages:
    """The images that a fold trains on, looked up both ways: base class -> image ids and image id -> base classes."""

    by_class: dict[int, list[str]]
    by_image: dict[str, list[int]]

    @classmethod
    def of(cls, by_class: Mapping[int, Sequence[str]]) -> "TrainingImages":
        """From class -> image ids, as `asgnet.data.episodes.base_images` gives them."""
        classes = sorted(by_class)
        images = sorted(set().union(*by_class.values()))
        by_image: dict[str, list[int]] = {image: [] for image in images}
        for c in classes:
            for image in by_class[c]:
                by_image[image].append(c)
        return cls({c: sorted(by_class[c]) for c in classes}, by_image)


def training_batch(
    images: TrainingImages, step: int, batch: int, shots: int, seed: int, views: int
) -> list[TrainingEpisode]:
    """The ``batch`` episodes of training step ``step`` (from 0).

    As published: query images come in shuffled passes over all training images, the class is uniform among the query's
    base classes, the supports uniform without replacement among the class's other images. Views are uniform.
    Raises UserError for a class with ``shots`` images or fewer."""
    queries = list(images.by_image)
    episodes = []
    for position in range(step * batch, (step + 1) * batch):
        epoch, place = divmod(position, len(queries))
        query = queries[generator(seed, "training-order", epoch).permutation(len(queries))[place]]
        rng = generator(seed, "training-episode", position)
        class_id = images.by_image[query][rng.integers(len(images.by_image[query]))]
        others = [image for image in images.by_class[class_id] if image != query]
        if len(others) < shots:
            raise UserError(
                f"training class {class_id} has {len(others) + 1} images: {shots}-shot training needs at least "
                f"{shots + 1}; lower the shots or leave the class out"
            )
        chosen = rng.choice(len(others), size=shots, replace=False).tolist()
        query_view, *support_views = rng.integers(views, size=1 + shots).tolist()
        supports = tuple(others[i] for i in chosen)
        episodes.append(TrainingEpisode(class_id, query, query_view, supports, tuple(support_views)))
    return episodes
