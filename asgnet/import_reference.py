"""A published checkpoint made into a run of this project, and its numbers like for like (`asgnet import-reference`)."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asgnet.config import Study
from asgnet.converted import save_converted
from asgnet.errors import UserError
from asgnet.files import atomic_path, write_json
from asgnet.like_for_like import PUBLISHED_TRAINING, protocol_of
from asgnet.reference import load_reference_checkpoint
from asgnet.revisit import made_fast, prepare, score_trial
from asgnet.weights_listing import checksum


def import_reference(
    study: Study,
    checkpoint: Path,
    fold: int,
    shots: int = 1,
    dataset: str | None = None,
    data_root: Path | None = None,
    episodes: int | None = None,
    size: int | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Convert the published ``.pth`` at ``checkpoint`` and test it like for like (see `asgnet.like_for_like`).

    ``dataset`` and ``data_root``: the study's by default. ``episodes``, ``size`` (pixels a side): as published by
    default; the result says where they are not. Returns the metrics.

    ``out`` (default: NAME-imported beside the checkpoint) receives the network as head.safetensors, meta.json and
    encoder.safetensors, and train.json, metrics_<K>shot.json and episodes_<K>shot.csv as any run has them. Without the
    ``.pth`` it is loaded again by ``asgnet.converted.load_converted(out)``, and tested by ``asgnet evaluate OUT``.

    Raises UserError, naming the checkpoint, for a file that is no published checkpoint or is damaged, and for datasets,
    folds and shots that do not fit; nothing is written then.
    """
    with _about(checkpoint):
        dataset = dataset or study.data.dataset
        published = protocol_of(dataset)
        if data_root is None and dataset != study.data.dataset:
            raise UserError(
                f"the study's tree is one of {study.data.dataset}, not of {dataset}: name another with --data-root, or "
                "the study of that dataset with --params"
            )
        root = str(data_root or study.data.root)
        changes: dict[str, Any] = {"dataset": dataset, "root": root, "size": size or published.size}
        data = dataclasses.replace(study.data, **changes)
    network = load_reference_checkpoint(checkpoint)
    test = dataclasses.replace(study.test, like_for_like=True)
    with _about(checkpoint):
        trial = prepare(dataclasses.replace(study, data=data, test=test), fold, shots, episodes)
    folder = out or checkpoint.parent / f"{checkpoint.stem}-imported"
    origin = {"checkpoint": checkpoint.name, "sha256": checksum(checkpoint)}
    try:
        save_converted(network, folder)
        write_json(folder / "train.json", {"arm": "reference", "fold": fold, "seed": 0, **PUBLISHED_TRAINING, **origin})
    except OSError as error:
        raise UserError(f"{checkpoint}: cannot write to {folder} ({error.strerror}); choose another --out") from None
    scored, metrics = score_trial(trial, made_fast(trial.study, network), 0, dict(PUBLISHED_TRAINING))
    config = network.config
    metrics |= {"arm": "reference", **origin, "backbone": config.backbone, "decoder": config.decoder}
    write_json(folder / f"metrics_{shots}shot.json", metrics)
    with atomic_path(folder / f"episodes_{shots}shot.csv") as temporary:
        scored.to_csv(temporary, index=False)
    return metrics | {"folder": str(folder)}


@contextmanager
def _about(checkpoint: Path) -> Iterator[None]:
    """Let errors of the dataset name the checkpoint that was to be tested on it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{checkpoint}: {error}") from None
