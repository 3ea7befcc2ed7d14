"""Photographs of one's own from the inside: the prototypes of the supports, and where each is used on the query."""

from io import BytesIO

import numpy as np
import torch
from PIL import Image

from asgnet.data.transforms import fit
from asgnet.decoders import sides
from asgnet.look.inside import allocation_of, shots_of
from asgnet.model import ASGNet
from asgnet.plots import trace
from asgnet.plots.save import DPI
from asgnet.plots.tiles import png
from asgnet.predict import Learned, Prediction


@torch.inference_mode()
def superpixels(model: ASGNet, learned: Learned, found: Prediction) -> Image.Image:
    """Each support with its seed cells and superpixels, and the query with the prototype that each cell is given."""
    inside = learned.masks == 1  # (K, S, S)
    cells, seeds, _ = model.head.place(inside, sides(learned.reduced))
    pictures = list(zip(learned.images, inside.cpu().numpy(), strict=True))
    shots = shots_of(model.head, pictures, learned.reduced, cells, seeds, learned.valid)
    _, guide, _ = allocation_of(model.head, found.reduced, learned.prototypes, learned.valid)
    prediction = fit(found.photo, found.mask.astype(np.uint8), len(found.square))[1] == 1
    return Image.open(BytesIO(png(trace.own(shots, found.square, guide, prediction), DPI)))
