"""Masks and probabilities as picture files, without a plotting library: loading one takes longer than a prediction."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from asgnet.errors import UserError
from asgnet.files import atomic_path

COLOUR = "#f7de7c"


def grey(values: np.ndarray) -> Image.Image:
    """A mask (H, W) bool as black and white, a probability (H, W) in 0..1 as shades."""
    return Image.fromarray((255 * values.astype(np.float32)).round().astype(np.uint8))


def overlay(photo: np.ndarray, mask: np.ndarray) -> Image.Image:
    """The photograph (H, W, 3) uint8 with the mask (H, W) bool in colour inside a white line, the rest paled."""
    image, inside = Image.fromarray(photo), grey(mask)
    coloured = Image.blend(image, Image.new("RGB", image.size, COLOUR), 0.35)
    paled = Image.blend(image, Image.new("RGB", image.size, "white"), 0.55)
    laid = Image.composite(coloured, paled, inside)
    laid.paste("white", mask=ImageChops.difference(inside, inside.filter(ImageFilter.MinFilter(3))))
    return laid


def save_png(image: Image.Image, path: Path) -> None:
    """Write a PNG, atomically. Raises UserError where that is not possible."""
    try:
        with atomic_path(path) as temporary:
            image.save(temporary, "PNG", compress_level=3)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another place with -o") from None
