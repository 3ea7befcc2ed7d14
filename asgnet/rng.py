"""Explicit random generators made from (random seed, purpose, index): nothing draws from global state."""

import zlib

import numpy as np
import torch

from asgnet.errors import UserError


def generator(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """A NumPy generator that depends only on its arguments, e.g. ``generator(0, "train-episodes", step)``.

    Raises UserError for a negative random seed."""
    if seed < 0:
        raise UserError(f"random seed {seed}: expected 0 or more")
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *index])


def torch_generator(seed: int, purpose: str, *index: int) -> torch.Generator:
    """The same for torch (on the CPU)."""
    state = generator(seed, purpose, *index).integers(2**62)
    return torch.Generator().manual_seed(int(state))
