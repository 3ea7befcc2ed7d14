"""Weights and resumable state on disk, loaded without unpickling code."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file

from asgnet.errors import UserError
from asgnet.files import atomic_path, write_json
from asgnet.sections import ModelConfig
from asgnet.strict import build

HEAD, META = "head.safetensors", "meta.json"


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write resumable training state, atomically."""
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path) -> dict[str, Any] | None:
    """Resumable state, or None where there is none. A file from a broken disk is a UserError."""
    if not path.exists():
        return None
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch.load raises many types on a damaged file
        raise UserError(f"{path}: not readable as training state ({type(error).__name__}); delete it") from None


def save_head(folder: Path | str, weights: dict[str, torch.Tensor], config: ModelConfig, sources: list[int]) -> None:
    """Write the trained weights (head, and residual projections where there are some) with a readable meta.json."""
    folder = Path(folder)
    (folder / META).unlink(missing_ok=True)  # written last: an old one must not describe the new weights
    with atomic_path(folder / HEAD) as temporary:
        save_file({name: value.contiguous() for name, value in weights.items()}, temporary)
    write_json(folder / META, {"model": asdict(config), "sources": sources})


def load_head(folder: Path | str) -> tuple[dict[str, torch.Tensor], ModelConfig, tuple[int, ...]]:
    """Trained weights, the network they belong to and its feature sources.

    Raises UserError where a file is missing, truncated or not what `save_head` writes.
    """
    folder = Path(folder)
    try:
        meta = json.loads((folder / META).read_text())
        weights, sources = load_file(folder / HEAD), tuple(meta["sources"])
        config = build(ModelConfig, meta["model"], str(folder / META))
    except FileNotFoundError as error:
        raise UserError(f"{error.filename or folder / HEAD}: no such file; train the run first") from None
    except (ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise UserError(f"{folder}: not readable as trained weights ({error}); train the run again") from None
    for name, value in weights.items():
        if not value.isfinite().all():
            raise UserError(f"{folder / HEAD}: {name} is not finite; lower train.lr and train the run again")
    return weights, config, sources
