"""Seeded inputs that look enough like the real ones: smooth images, one object a mask, features in a few clusters."""

import torch
import torch.nn.functional as F
from torch import Tensor

from asgnet.rng import torch_generator

SHARE = 0.25  # of the frame that an object covers: about 900 cells of 60 x 60


def images(purpose: str, *lead: int, pixels: int) -> Tensor:
    """ImageNet-normalised images (*lead, 3, pixels, pixels)."""
    noise = torch.randn(*lead, 3, 12, 12, generator=torch_generator(0, purpose))
    smooth = F.interpolate(noise.flatten(0, -4), size=(pixels, pixels), mode="bicubic", align_corners=True)
    return smooth.unflatten(0, lead)


def objects(purpose: str, *lead: int, pixels: int) -> Tensor:
    """Masks (*lead, pixels, pixels) uint8: 1 in an ellipse of a random place and shape, 0 elsewhere."""
    draw = torch.rand(*lead, 3, generator=torch_generator(0, purpose))
    aspect = 2 ** (draw[..., 0] - 0.5)  # 0.7 .. 1.4
    radius = (SHARE / torch.pi) ** 0.5
    tall, wide = radius * aspect, radius / aspect
    middle = [r + place * (1 - 2 * r) for r, place in ((tall, draw[..., 1]), (wide, draw[..., 2]))]
    along = torch.linspace(0, 1, pixels)
    down = ((along - middle[0][..., None]) / tall[..., None]) ** 2  # (*lead, pixels)
    across = ((along - middle[1][..., None]) / wide[..., None]) ** 2
    return (down[..., :, None] + across[..., None, :] < 1).to(torch.uint8)


def prototypes(purpose: str, *lead: int, width: int) -> Tensor:
    """(*lead, width), normal."""
    return torch.randn(*lead, width, generator=torch_generator(0, purpose))


def features(purpose: str, centres: Tensor, grid: int, noise: float) -> Tensor:
    """Cells (B, width, grid, grid), each near one of the sample's centres (B, M, width): none is a draw between two."""
    generator = torch_generator(0, purpose)
    batch, count, width = centres.shape
    which = torch.randint(count, (batch, grid * grid), generator=generator)
    cells = centres.gather(1, which[..., None].expand(-1, -1, width))  # (B, P, width)
    cells = cells + noise * torch.randn(cells.shape, generator=generator)
    return cells.transpose(1, 2).unflatten(2, (grid, grid)).contiguous()
