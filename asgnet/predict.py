"""Masks for photographs of one's own: some photographs with the object's mask in, masks of other photographs out.

The network works on squares (`asgnet.data.transforms.fit`); photographs of any size go in, and the answer has the
query's own size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asgnet.backbones.encoder import Features
from asgnet.calibration import Cut, calibrate
from asgnet.data.photo import Picture, read_pair, read_photo
from asgnet.data.transforms import fit, normalise, unfit
from asgnet.device import autocast
from asgnet.errors import UserError
from asgnet.fusion import fuse
from asgnet.model import ASGNet, check_size
from asgnet.outline import along_edges
from asgnet.sections import DataConfig


@dataclass(frozen=True)
class Learned:
    """What K supports say of an object: all that a query needs of them."""

    images: np.ndarray  # (K, S, S, 3) uint8, the squares that the network saw
    masks: Tensor  # (K, S, S) uint8 of 0, 1 and 255 (beside the photograph)
    reduced: Tensor  # (K, C, h, w)
    prototypes: Tensor  # (K, N, C)
    valid: Tensor  # (K, N) bool
    cut: Cut | None  # where the object begins, None at 0


@dataclass(frozen=True)
class Prediction:
    """The object in one query."""

    photo: np.ndarray  # (H, W, 3) uint8, the query upright
    mask: np.ndarray  # (H, W) bool
    probability: np.ndarray  # (H, W) float32 in 0..1; above a half where the mask is
    square: np.ndarray  # (S, S, 3) uint8, the square that the network saw
    reduced: Tensor  # (1, C, h, w)


def segment(
    model: ASGNet,
    query: Picture,
    supports: Sequence[Picture],
    masks: Sequence[Picture],
    size: int = DataConfig.size,
    class_id: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find in ``query`` what ``masks`` show in ``supports``: the mask (H, W) bool and the probability (H, W) float32 in
    0..1, the softmax of the two logits, at the query's own size.

    Pictures are files, PIL images or arrays as `asgnet.data.photo.read_photo` and `read_mask` take them; ``class_id``
    picks a class of masks of class numbers. size: pixels a side of the network's square, 8 n + 1, best what it was
    trained at. The model is left in eval mode. For many queries, `learn` once and `find` in each.
    Raises UserError for pictures that cannot be read, masks that are empty or do not fit, and a model without its
    frozen networks."""
    found = find(model, learn(model, supports, masks, size, class_id), query)
    return found.mask, found.probability


@torch.inference_mode()
def learn(
    model: ASGNet,
    supports: Sequence[Picture],
    masks: Sequence[Picture],
    size: int = DataConfig.size,
    class_id: int | None = None,
) -> Learned:
    """Cluster the supports into prototypes; arguments and errors as of `segment`."""
    if len(supports) != len(masks) or not supports:
        raise UserError(f"{len(supports)} supports and {len(masks)} masks: expected one mask for each, at least one")
    check_size(size, size)
    squares = [_square(*pair, size, class_id, k + 1) for k, pair in enumerate(zip(supports, masks, strict=True))]
    images, inside = (np.stack(pictures) for pictures in zip(*squares, strict=True))
    features, reduced = _reduce(model, images)
    found = torch.from_numpy(inside).to(reduced.device)
    prototypes, valid, _ = model.head.prototypes(reduced, found)
    layer1 = None if features.layer1 is None else features.layer1[None]
    with autocast(reduced.device):
        cut = calibrate(model.head, reduced[None], found[None], prototypes[None], valid[None], layer1)
    return Learned(images, found, reduced, prototypes, valid, cut)


@torch.inference_mode()
def find(model: ASGNet, learned: Learned, query: Picture) -> Prediction:
    """The object of the supports in one query."""
    photo = read_photo(query, "the query")
    height, width = photo.shape[:2]
    size = learned.images.shape[1]
    square, _ = fit(photo, np.zeros((height, width), np.uint8), size)
    features, reduced = _reduce(model, square[None])
    with autocast(reduced.device):
        pool, valid = learned.prototypes[None], learned.valid[None]
        margins = fuse(model.head, "pool", reduced, pool, valid, features.layer1, (size, size), learned.cut)
    if model.config.outline == "image":
        margins = along_edges(margins, normalise(square[None]).to(margins.device))
    margin = unfit(margins, height, width)[0]  # (H, W), foreground minus background
    return Prediction(photo, (margin > 0).cpu().numpy(), margin.sigmoid().cpu().numpy(), square, reduced)


def _square(
    support: Picture, mask: Picture, size: int, class_id: int | None, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """A support and its mask on the network's square."""
    photo, found = read_pair(support, mask, class_id, number)
    square, inside = fit(photo, found.astype(np.uint8), size)
    if not (inside == 1).any():
        raise UserError(
            f"the object of support {number} vanishes at {size} pixels a side: give a crop of the photograph around it"
        )
    return square, inside


def _reduce(model: ASGNet, squares: np.ndarray) -> tuple[Features, Tensor]:
    """Squares (N, S, S, 3) uint8 -> their features, and these reduced to (N, C, h, w)."""
    if model.vit is None and model.config.vit != "none":
        raise UserError(f"this network was built without its ViT ({model.config.vit_model}): give it one")
    device = next(model.head.parameters()).device
    model.eval()
    with autocast(device):
        features = model.encode(normalise(squares).to(device))
        return features, model.head.reduce(features)
