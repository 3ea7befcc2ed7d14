"""Bringing an image and its mask to the square working size, and predictions back to the original size.

Images are uint8 (H, W, 3) RGB, masks uint8 (H, W) of class ids with 255 ignored. The content lies at the top left of
the square; the rest is the mean colour in the image and 255 in the mask, as the published evaluation does it."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter

from asgnet.data.tree import IGNORE

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MEAN_COLOUR = tuple(round(255 * m) for m in IMAGENET_MEAN)
BLUR_SIGMA = 1.1  # pixels: what a 5 x 5 kernel means in OpenCV's rule, 0.3 * ((5 - 1) / 2 - 1) + 0.8


def content_size(height: int, width: int, long_side: float) -> tuple[int, int]:
    """(height, width) of an image after scaling its long side to ``long_side`` pixels, aspect kept."""
    scale = long_side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def fit(image: np.ndarray, mask: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask scaled so that the long side is ``size``, padded at the right and bottom to (size, size)."""
    return _on_square(*_scaled(image, mask, size), size, left=0, top=0)


def augment(image: np.ndarray, mask: np.ndarray, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One random training view as published: scale 0.9-1.1 of the fitted image, rotation by up to 10 degrees, Gaussian
    blur (half of the views), horizontal flip (half), random crop to (size, size), padded evenly where it is smaller."""
    # Every number is drawn whether used or not, so that one choice does not shift the others.
    scale, angle = rng.uniform(0.9, 1.1), rng.uniform(-10, 10)
    blurred, flipped = rng.random(2) < 0.5
    crop_x, crop_y = rng.random(2)
    photo, labels = _scaled(image, mask, scale * size)
    photo = photo.rotate(angle, Image.Resampling.BILINEAR, fillcolor=MEAN_COLOUR)
    labels = labels.rotate(angle, Image.Resampling.NEAREST, fillcolor=IGNORE)
    if blurred:
        photo = photo.filter(ImageFilter.GaussianBlur(BLUR_SIGMA))
    if flipped:
        photo, labels = (picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for picture in (photo, labels))
    left, top = (
        -int(place * (side - size + 1)) if side > size else (size - side) // 2
        for place, side in zip((crop_x, crop_y), photo.size, strict=True)
    )
    return _on_square(photo, labels, size, left, top)


def unfit(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Undo `fit` on logits or probabilities: (..., S, S) -> (..., height, width), the original size, bilinear."""
    size = maps.shape[-1]
    h, w = content_size(height, width, size)
    content = maps[..., :h, :w].reshape(1, -1, h, w)  # (1, N, h, w)
    restored = F.interpolate(content, size=(height, width), mode="bilinear", align_corners=False)
    return restored.reshape(*maps.shape[:-2], height, width)


def published_content_size(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) that the published evaluation gives an image within a square of ``size`` pixels: the long side
    becomes ``size``, the short one keeps the aspect and loses its fraction, then both are rounded down to multiples of
    8 (facts page, departure 13). 8n + 1 is wanted of the square alone, so no 1 is added: on 473 x 473 the long side is
    472 pixels. A side of less than 8 pixels, which would vanish, becomes 8."""
    longest = max(height, width)
    sides = (size if side == longest else int(side * (size / longest)) for side in (height, width))
    h, w = (max(side // 8 * 8, 8) for side in sides)
    return h, w


def fit_published(image: np.ndarray, mask: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """`fit` as the published evaluation does it: `published_content_size`, bilinear without antialiasing, the mask by
    the nearest pixel to the upper left, as OpenCV does both; the padding is black.

    The facts page gives the rounding; which interpolation and which colour it does not. Both are taken from PFENet, of
    which the published code says that it builds on it, and are not certain."""
    height, width = published_content_size(mask.shape[0], mask.shape[1], size)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()  # (1, 3, H, W)
    photo = F.interpolate(pixels, (height, width), mode="bilinear", align_corners=False)[0]
    labels = F.interpolate(torch.from_numpy(mask)[None, None].float(), (height, width), mode="nearest")[0, 0]
    square, square_labels = np.zeros((size, size, 3), np.uint8), np.full((size, size), IGNORE, np.uint8)
    square[:height, :width] = photo.round().permute(1, 2, 0).numpy().astype(np.uint8)
    square_labels[:height, :width] = labels.numpy().astype(np.uint8)
    return square, square_labels


def unfit_published(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """How the published evaluation undoes `fit_published`: the whole square (..., S, S) is stretched to the image's
    long side, with aligned corners, though the content's long side is up to 7 pixels shorter than S: predictions lie
    up to 7 / S of the long side too far up and left. Returns (..., height, width)."""
    size, longest = maps.shape[-1], max(height, width)
    stretched = F.interpolate(
        maps.reshape(1, -1, size, size), size=(longest, longest), mode="bilinear", align_corners=True
    )
    return stretched[..., :height, :width].reshape(*maps.shape[:-2], height, width)


def normalise(
    image: np.ndarray, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD
) -> torch.Tensor:
    """uint8 (..., H, W, 3) -> float32 (..., 3, H, W), ``(image / 255 - mean) / std`` per channel."""
    values = torch.from_numpy(image).movedim(-1, -3).float() / 255  # (..., 3, H, W)
    return (values - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def _scaled(image: np.ndarray, mask: np.ndarray, long_side: float) -> tuple[Image.Image, Image.Image]:
    height, width = content_size(mask.shape[0], mask.shape[1], long_side)
    photo = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return photo, Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)


def _on_square(
    photo: Image.Image, labels: Image.Image, size: int, left: int, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Paste with the top left corner at (left, top), which crops where it is negative and pads where it is not."""
    square, square_labels = Image.new("RGB", (size, size), MEAN_COLOUR), Image.new("L", (size, size), IGNORE)
    square.paste(photo, (left, top))
    square_labels.paste(labels, (left, top))
    return np.array(square), np.array(square_labels)
