"""Training queries with a rectangle of another query in them: an episode that only its support can tell apart.

Most training images hold one kind of object, so a network may learn to find whatever looks like an object and never
look at the support. What is pasted holds objects too, of another class, and they are background here: CutMix (Yun et
al., ICCV 2019) on the maps of features, with true labels.
"""

from math import isqrt

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from asgnet.backbones.encoder import Features
from asgnet.decoders import sides

SIDES = (0.3, 0.7)  # of a rectangle, as shares of the image's


def with_distractors(
    query: Features, target: Tensor, of_other: Tensor, share: float, rng: np.random.Generator
) -> tuple[Features, Tensor]:
    """Paste into about ``share`` of B queries what the query before (for the first: the last one) shows in a random
    rectangle.

    query: features of B queries; target (B, H, W): their masks; of_other (B, H, W): the mask of the query before each,
    for this one's class. Returns features and masks in which both agree."""
    count = len(target)
    extent = rng.uniform(*SIDES, (count, 2))
    low = rng.uniform(size=(count, 2)) * (1 - extent)
    high = np.where(rng.uniform(size=(count, 1)) < share, low + extent, -1.0)
    low_, high_ = (torch.from_numpy(x)[..., None].to(target.device) for x in (low, high))  # (B, 2, 1)

    def inside(size: tuple[int, int]) -> Tensor:
        """Which cells of a grid, whose corners are the image's, lie in the rectangle: (B, h, w)."""
        rows, cols = (
            (place >= low_[:, axis]) & (place <= high_[:, axis])  # (B, n)
            for axis, place in enumerate(torch.linspace(0, 1, n, device=target.device) for n in size)
        )
        return rows[:, :, None] & cols[:, None]

    def pasted(maps: Tensor | None) -> Tensor | None:
        return None if maps is None else torch.where(inside(sides(maps))[:, None], maps.roll(1, 0), maps)

    with torch.autocast(target.device.type, enabled=False):  # it would not take half precision
        tokens = query.vit
        if tokens is not None:  # (B, 1 + T, D); the class token stays
            side = isqrt(tokens.shape[1] - 1)
            covered = F.pad(inside((side, side)).flatten(1), (1, 0))[..., None]  # (B, 1 + T, 1)
            tokens = torch.where(covered, tokens.roll(1, 0), tokens)
        cnn = pasted(query.cnn)
        assert cnn is not None
        return Features(cnn, tokens, pasted(query.layer1)), torch.where(inside(sides(target)), of_other, target)
