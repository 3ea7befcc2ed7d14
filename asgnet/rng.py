"""Explicit random generators made from (random seed, purpose, index): nothing draws from global state."""

import zlib

import numpy as np
import torch


def generator(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """A NumPy generator that depends only on its arguments, e.g. ``generator(0, "train-episodes", step)``."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *index])


def torch_generator(seed: int, purpose: str, *index: int) -> torch.Generator:
    """The same for torch (on the CPU)."""
    state = generator(seed, purpose, *index).integers(2**62)
    return torch.Generator().manual_seed(int(state))
