"""Photographic backgrounds: crops of the photographs that ship with scikit-image and scikit-learn.

Every photograph is cut in two regions with a gap between them, one for training images and one for test images, so
that no background pixel of a test image (nor a colour or detail taken from a photograph) was seen in training.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import skimage
import sklearn
from PIL import Image
from scipy import ndimage

from asgnet.errors import UserError

# photograph -> (training region, test region); a region is (left, top, right, bottom) in fractions of the photograph
REGIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "astronaut.png": ((0.0, 0.0, 0.60, 1.0), (0.62, 0.0, 1.0, 1.0)),
    "brick.png": ((0.0, 0.0, 1.0, 0.60), (0.0, 0.62, 1.0, 1.0)),
    "camera.png": ((0.45, 0.0, 1.0, 1.0), (0.0, 0.0, 0.43, 1.0)),
    "chelsea.png": ((0.0, 0.0, 0.58, 1.0), (0.60, 0.0, 1.0, 1.0)),
    "china.jpg": ((0.0, 0.0, 0.58, 1.0), (0.60, 0.0, 1.0, 1.0)),
    "coffee.png": ((0.42, 0.0, 1.0, 1.0), (0.0, 0.0, 0.40, 1.0)),
    "coins.png": ((0.0, 0.0, 0.55, 1.0), (0.57, 0.0, 1.0, 1.0)),
    "flower.jpg": ((0.0, 0.0, 0.58, 1.0), (0.60, 0.0, 1.0, 1.0)),
    "grass.png": ((0.0, 0.0, 0.60, 1.0), (0.62, 0.0, 1.0, 1.0)),
    "gravel.png": ((0.0, 0.42, 1.0, 1.0), (0.0, 0.0, 1.0, 0.40)),
    "hubble_deep_field.jpg": ((0.0, 0.0, 0.60, 1.0), (0.62, 0.0, 1.0, 1.0)),
    "ihc.png": ((0.0, 0.0, 0.58, 1.0), (0.60, 0.0, 1.0, 1.0)),
    "moon.png": ((0.0, 0.45, 1.0, 1.0), (0.0, 0.0, 1.0, 0.43)),
    "motorcycle_left.png": ((0.42, 0.0, 1.0, 1.0), (0.0, 0.0, 0.40, 1.0)),
    "retina.jpg": ((0.12, 0.15, 0.50, 0.85), (0.52, 0.15, 0.90, 0.85)),
    "rocket.jpg": ((0.0, 0.0, 0.58, 1.0), (0.60, 0.0, 1.0, 1.0)),
}

_SMALLEST_CROP = 110  # pixels of the photograph: smaller crops would be blurs beside the sharp objects


def luminance(pixels: np.ndarray) -> np.ndarray:
    """Weighted sum over the last axis, red, green, blue (Rec. 601)."""
    return 0.3 * pixels[..., 0] + 0.59 * pixels[..., 1] + 0.11 * pixels[..., 2]


def _file(name: str) -> Path:
    for folder in (Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets" / "images"):
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"photograph {name}: expected it inside scikit-image or scikit-learn; install their PyPI wheels")


@lru_cache(maxsize=2)
def photographs(split: str) -> tuple[np.ndarray, ...]:
    """The regions of ``split`` ("train" or "test"), each uint8 (h, w, 3), in the order of ``REGIONS``."""
    which = ("train", "test").index(split)
    regions = []
    for name, boxes in REGIONS.items():
        with Image.open(_file(name)) as file:
            image = file.convert("RGB")
        left, top, right, bottom = boxes[which]
        width, height = image.size
        box = round(left * width), round(top * height), round(right * width), round(bottom * height)
        region = image.crop(box)
        if min(region.size) > 700:  # the retina has four times the resolution of the others
            region = region.reduce(2)
        regions.append(np.asarray(region))
    return tuple(regions)


def crop(rng: np.random.Generator, split: str, size: int) -> np.ndarray:
    """A random square crop of a random photograph, flipped and colour-jittered: float32 (size, size, 3) in 0..1."""
    regions = photographs(split)
    region = regions[rng.integers(len(regions))]
    height, width = region.shape[:2]
    side = int(rng.uniform(_SMALLEST_CROP, min(height, width)))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    patch = Image.fromarray(region[top : top + side, left : left + side])
    if rng.random() < 0.5:
        patch = patch.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = np.asarray(patch.resize((size, size), Image.Resampling.BICUBIC), np.float32) / 255
    return _jitter(rng, pixels)


def _jitter(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Exposure, saturation and tint; grey photographs get a tint of their own, or they would give the split away."""
    grey = luminance(pixels)[..., None]
    saturation = float(np.abs(pixels[..., 0] - pixels[..., 2]).mean())
    pixels = grey + (pixels - grey) * np.float32(rng.uniform(0.5, 1.7))
    tint = rng.uniform(-1, 1, 3) * (0.4 if saturation < 0.01 else 0.15)
    pixels = pixels * (1 + tint - tint.mean()).astype(np.float32)
    pixels = np.clip(pixels, 0, 1) ** np.float32(np.exp(rng.uniform(-0.45, 0.35)))
    return np.clip((pixels - 0.5) * np.float32(rng.uniform(0.7, 1.1)) + np.float32(rng.uniform(0.42, 0.58)), 0, 1)


def background(rng: np.random.Generator, split: str, size: int) -> np.ndarray:
    """A background: one crop, or a second one as the ground below a soft, wavy horizon. float32 (size, size, 3)."""
    pixels = crop(rng, split, size)
    if rng.random() < 0.35:
        ground = crop(rng, split, size)
        across = np.linspace(0, 2 * np.pi, size, dtype=np.float32)
        horizon = rng.uniform(0.4, 0.75) + 0.03 * np.sin(rng.uniform(0.3, 2) * across + rng.uniform(0, 6))
        down = np.linspace(0, 1, size, dtype=np.float32)[:, None]
        weight = 1 / (1 + np.exp(np.clip((horizon[None] - down) * rng.uniform(30, 200), -30, 30)))
        pixels = pixels + (ground - pixels) * weight[..., None].astype(np.float32)
    if rng.random() < 0.3:  # out of focus behind the objects
        sigma = rng.uniform(0.5, 2.0) * size / 257
        pixels = ndimage.gaussian_filter(pixels, (sigma, sigma, 0))
    return pixels.astype(np.float32)


def palette(rng: np.random.Generator, split: str, count: int) -> np.ndarray:
    """``count`` colours for the parts of an object, float32 (count, 3) in 0..1.

    Most come from photographs, jittered, and the rest from anywhere in the hue circle: objects and backgrounds share
    their colours, so that the colour of a single pixel says little about its class.
    """
    regions, colours = photographs(split), []
    for _ in range(count):
        if rng.random() < 0.7:
            region = regions[rng.integers(len(regions))]
            row, column = rng.integers(region.shape[0]), rng.integers(region.shape[1])
            patch = region[row : row + 6, column : column + 6].reshape(-1, 3) / 255
            colour = patch.mean(axis=0)
            colour = colour.mean() + (colour - colour.mean()) * rng.uniform(0.4, 1.2)
        else:
            hue, saturation = rng.uniform(0, 6), rng.beta(1.5, 2.5)
            wheel = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
            colour = 1 - saturation * (1 - wheel)
        brightness = rng.uniform(0.2, 0.8) / max(float(luminance(colour)), 0.08)
        colours.append(np.clip(colour * brightness, 0.03, 0.95))
    return np.array(colours, np.float32)
