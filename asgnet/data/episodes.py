"""Episodes as data: drawn once from (random seed, purpose, number), written to a file, read by every arm.

A table with one row per episode: ``episode`` (number), ``class`` (id), ``query`` (image id), ``supports`` (image ids
joined by ";"). A K-shot test uses the first K supports."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from asgnet.data.index import images_by_class, novel_classes, read_table, usable_classes
from asgnet.data.tree import Tree
from asgnet.errors import UserError
from asgnet.files import atomic_path
from asgnet.rng import generator

COLUMNS = ["episode", "class", "query", "supports"]

Pair = tuple[str, int]  # (image id, class id)


def draw_episodes(
    images: Mapping[int, Sequence[str]],
    names: Sequence[str],
    shots: int,
    count: int,
    seed: int,
    purpose: str,
    exclude: pd.DataFrame | None = None,
    max_images: int | None = None,
) -> pd.DataFrame:
    """Draw ``count`` episodes over the classes of ``images`` (class id -> image ids); ``names`` are all the dataset's
    class names, for messages.

    Classes take turns; the query is uniform among the class's images, the supports uniform without replacement among
    the others. Episode e depends only on (images, seed, purpose, e), and with more shots only gains supports.

    exclude: episodes whose (class, query, support) combinations must not come up again.
    max_images: use only so many images of each class, chosen by ``seed`` and ``purpose``.
    Raises UserError for a class with ``shots`` images or fewer, or where ``exclude`` leaves too few."""
    pools = {c: _pool(sorted(images[c]), max_images, seed, purpose, c) for c in sorted(images)}
    for c, pool in pools.items():
        if len(pool) <= shots:
            raise UserError(
                f"class {names[c - 1]} has {len(pool)} images for {purpose}: {shots}-shot episodes need at least "
                f"{shots + 1}; lower the shots or leave the class out"
            )
    taken = used_supports(exclude)
    classes = list(pools)
    rows = []
    for episode in range(count):
        c = classes[episode % len(classes)]
        rng = generator(seed, purpose, episode)
        for query in rng.permutation(pools[c]):  # the first one, unless `exclude` has used it up
            others = [i for i in rng.permutation(pools[c]) if i != query and i not in taken.get((c, query), ())]
            if len(others) >= shots:
                break
        else:
            raise UserError(
                f"class {names[c - 1]} has too few supports left for {purpose} beside the monitored ones: lower the "
                "monitored images or the shots"
            )
        rows.append((episode, c, str(query), ";".join(others[:shots])))
    return pd.DataFrame(rows, columns=COLUMNS)


def _pool(images: list[str], max_images: int | None, seed: int, purpose: str, class_id: int) -> list[str]:
    if max_images is None or len(images) <= max_images:
        return images
    return sorted(generator(seed, f"{purpose}-pool", class_id).permutation(images)[:max_images].tolist())


def used_supports(episodes: pd.DataFrame | None) -> dict[tuple[int, str], set[str]]:
    """The supports that each (class, query) of ``episodes`` has met; {} for None."""
    used: dict[tuple[int, str], set[str]] = {}
    if episodes is not None:
        for c, query, supports in zip(episodes["class"], episodes["query"], episodes["supports"], strict=True):
            used.setdefault((c, query), set()).update(supports.split(";"))
    return used


def fold_episodes(
    index: pd.DataFrame,
    tree: Tree,
    fold: int,
    shots: int,
    counts: Mapping[str, int],
    seed: int,
    min_test_images: int,
    max_images: Mapping[str, int],
    test_shots: int | None = None,
) -> dict[str, pd.DataFrame]:
    """The four fixed episode tables of ``fold``, each with ``counts[name]`` episodes:

    train: base classes in split train; val: base classes in split val; novel: the novel classes with at least
    ``min_test_images`` test images, for looking at during training; test: the same classes, scored once, with no
    (class, query, support) of novel. ``max_images``: the most images of a class that the named table uses. Test
    episodes have ``test_shots`` supports (default: ``shots``); with more, they only gain supports.
    A base class with ``shots`` images or fewer in a split is left out of that split's table."""
    novel = images_by_class(index, novel_classes(index, tree, fold, min_test_images)[0], "test")
    tables: dict[str, pd.DataFrame] = {}
    for name in ("train", "val", "novel", "test"):
        images = novel if name in ("novel", "test") else base_images(index, tree, fold, shots, name)
        tables[name] = draw_episodes(
            *(images, tree.classes, test_shots or shots if name == "test" else shots),
            *(counts[name], seed, f"{name}-episodes"),
            exclude=tables["novel"] if name == "test" else None,
            max_images=max_images.get(name),
        )
    return tables


def base_images(index: pd.DataFrame, tree: Tree, fold: int | None, shots: int, split: str) -> dict[int, list[str]]:
    """The images of ``split`` (train or val) per base class of ``fold``, over the classes with more than ``shots``."""
    classes, dropped = usable_classes(index, tree.base_classes(fold), split, shots + 1)
    if not classes:
        most = max(dropped.values(), default=0)
        where = "the dataset" if fold is None else f"fold {fold}"
        raise UserError(
            f"{where} has no base class with {shots + 1} images in split {split} (the most: {most}): lower the "
            "shots or add images"
        )
    return images_by_class(index, classes, split)


def write_episodes(path: Path | str, episodes: pd.DataFrame) -> None:
    """Write episodes as CSV, atomically."""
    with atomic_path(path) as temporary:
        episodes.to_csv(temporary, index=False)


def read_episodes(path: Path | str) -> pd.DataFrame:
    """Read what `write_episodes` wrote."""
    return read_table(path, COLUMNS, text=["query", "supports"])


def supports_of(episodes: pd.DataFrame, shots: int) -> list[list[str]]:
    """The first ``shots`` support ids of every episode. Raises UserError where one has fewer."""
    found = [row.split(";")[:shots] for row in episodes["supports"]]
    if fewest := min((ids for ids in found if len(ids) < shots), key=len, default=None):
        raise UserError(
            f"an episode has {len(fewest)} supports, not {shots}: ask for fewer shots, or raise episodes.shots (or "
            "episodes.test_shots) and run `asgnet episodes`"
        )
    return found


def pairs_of(episodes: pd.DataFrame, shots: int) -> list[Pair]:
    """Every (support, class) that the episodes use, sorted."""
    supports = supports_of(episodes, shots)
    return sorted({(i, int(c)) for ids, c in zip(supports, episodes["class"], strict=True) for i in ids})
