"""Outlines that follow the query's image: a network knows one margin a cell, 8 pixels a side, and between cells it is
interpolated; the image knows where the object ends.

The guided filter (He, Sun and Tang, ECCV 2010; on a coarse grid: He and Sun, arXiv 1505.00996): in every window the
probability is a linear function of the colour, fitted by least squares, and a pixel gets the mean over the windows that
it lies in. Of the probability, not of the margin: what is sure is no surer far from an edge than beside it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from asgnet.decoders import enlarge, sides

STEP = 4  # pixels from one point of the fit's grid to the next: half a cell
REACH = 5  # points, from the middle of a window to its border: two and a half cells
EVEN = 1e-3  # variance of a normalised colour below which a window is one surface, which gets the mean
SURE = 1e-4  # probabilities stay so far from 0 and 1


@torch.no_grad()
def along_edges(margins: Tensor, images: Tensor) -> Tensor:
    """margins (B, S, S), above 0 where the object is, and the images (B, 3, S, S) that they are of, ImageNet-normalised
    -> margins (B, S, S) float32 whose sign changes where the colour does. S is 8 n + 1."""
    with torch.autocast(margins.device.type, enabled=False):
        images = images.float()
        share = margins[:, None, ::STEP, ::STEP].float().sigmoid()  # (B, 1, s, s)
        colour = F.avg_pool2d(images, STEP + 1, STEP, STEP // 2, count_include_pad=False)  # (B, 3, s, s)
        lines = enlarge(window_mean(fit(share, colour)), sides(images))  # (B, 4, S, S)
        return ((lines[:, :3] * images).sum(1) + lines[:, 3]).clamp(SURE, 1 - SURE).logit()


def fit(share: Tensor, colour: Tensor) -> Tensor:
    """share (B, 1, s, s), colour (B, 3, s, s) -> share as a linear function of colour in the window around every point:
    three slopes and an offset, (B, 4, s, s)."""
    squares = (colour[:, :, None] * colour[:, None]).flatten(1, 2)  # (B, 9, s, s)
    means = window_mean(torch.cat([colour, share, colour * share, squares], 1))
    mean, middle, mixed, square = means.split([3, 1, 3, 9], 1)
    together = (mixed - mean * middle).movedim(1, -1)  # (B, s, s, 3)
    spread = (square.unflatten(1, (3, 3)) - mean[:, :, None] * mean[:, None]).movedim((1, 2), (-2, -1))
    slopes = torch.linalg.solve(spread + EVEN * torch.eye(3, device=spread.device), together).movedim(-1, 1)
    return torch.cat([slopes, middle - (slopes * mean).sum(1, keepdim=True)], 1)


def window_mean(maps: Tensor) -> Tensor:
    """Maps (B, C, s, s) -> the mean over each window of 2 `REACH` + 1 points a side, of those that lie on the map."""
    side = 2 * REACH + 1
    rows = F.avg_pool2d(maps, (side, 1), 1, (REACH, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, side), 1, (0, REACH), count_include_pad=False)
