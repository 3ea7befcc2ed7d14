"""The examples that tested runs kept."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from asgnet.errors import UserError
from asgnet.plots.panels import Prediction


def saved_predictions(path: Path, classes: tuple[str, ...]) -> list[Prediction]:
    """The examples that a tested run kept (`asgnet.examples`), worst first.

    Raises UserError for a file that is missing or damaged."""
    try:
        return _read(path, classes)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        raise UserError(f"{path}: missing or damaged; test the run again") from None


def _read(path: Path, classes: tuple[str, ...]) -> list[Prediction]:
    with np.load(path) as saved:
        return [
            Prediction(
                title=classes[label - 1],
                support=saved[f"support_{k}"],
                mask=saved[f"support_mask_{k}"] == 1,
                query=saved[f"query_{k}"],
                truth=saved[f"target_{k}"],
                prediction=saved[f"prediction_{k}"] == 1,
                iou=float(saved["iou"][k]),
            )
            for k, label in enumerate(saved["class"])
        ]
