"""One image of the dataset: background, distractors, the main object, occluders, light and camera."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from asgnet.data.parts.backgrounds import background, crop
from asgnet.data.parts.classes import CLASSES, KINDS
from asgnet.data.parts.drawing import Layer, Light, draw_object, outline
from asgnet.data.parts.shapes import Piece, box, deformation, placement
from asgnet.rng import generator

SMALLEST_SIDE, LARGEST_SIDE = 0.1, 0.9  # of an object's bounding box before occlusion, as a share of the frame
SMALLEST_VISIBLE = 0.025  # share of the frame that the main object keeps before its border is taken off
_LEAST_KEPT = 0.65  # of the main object, whatever stands before it


@dataclass(frozen=True)
class Sample:
    """``image`` uint8 (S, S, 3). ``mask`` uint8 (S, S): 0 background, class id 1..20, 255 on borders. ``parts`` uint8
    (S, S): index of the part within its class, from 1; 0 = no object (borders keep their part). ``hidden``: class id ->
    share (0 to 1) of the object's pixels in the frame that something in front of it covers."""

    image: np.ndarray
    mask: np.ndarray
    parts: np.ndarray
    hidden: dict[int, float]


def main_class(index: int) -> int:
    """Class id (1..20) of the main object of image ``index``: the classes take turns."""
    return index % len(CLASSES) + 1


def _light(rng: np.random.Generator) -> Light:
    azimuth, height = np.deg2rad(rng.uniform(200, 340)), np.deg2rad(rng.uniform(30, 65))
    towards = np.array([np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)])
    return Light(towards, rng.uniform(0.3, 0.6))


def _pose(rng: np.random.Generator, class_id: int, area: float, size: int) -> tuple[list[Piece], float]:
    """Pieces around the origin in pixels, scaled to cover about ``area`` of the frame; and pixels per object unit."""
    kind = KINDS[class_id - 1]
    bend = deformation(rng, kind.spin)
    pieces = [piece.moved(bend) for piece in kind.build(rng)]
    points = np.concatenate([ring for piece in pieces for ring in piece.rings])
    low, high = points.min(axis=0), points.max(axis=0)
    extent = float((high - low).max())
    probe = placement(60 / extent, np.array([4, 4]) - low * 60 / extent)
    drawn = outline([probe(ring) for piece in pieces for ring in piece.rings], 68)
    assert drawn is not None  # it fills the frame
    filled = float(drawn[0].sum()) / 60**2  # of the square around the object
    side = np.clip(np.sqrt(area / filled), SMALLEST_SIDE, LARGEST_SIDE)
    unit = side * size / extent
    centred = placement(unit, -(low + high) / 2 * unit)
    return [piece.moved(centred) for piece in pieces], unit


def _place(rng: np.random.Generator, pieces: list[Piece], size: int, inside: float) -> list[Piece]:
    """Shift to a random place where at least ``inside`` of the extent in each direction stays in the frame."""
    points = np.concatenate([ring for piece in pieces for ring in piece.rings])
    half = np.ptp(points, axis=0) / 2
    low, high = half * (2 * inside - 1), size - half * (2 * inside - 1)
    offset = rng.uniform(np.minimum(low, high), np.maximum(low, high))
    return [piece.moved(placement(1, offset)) for piece in pieces]


def _occluder(rng: np.random.Generator, split: str, size: int) -> Layer:
    """A bush, a stone or a post that belongs to the background: a piece of photograph in a simple outline."""
    if rng.random() < 0.5:
        wide, lean = rng.uniform(0.03, 0.08), rng.uniform(-0.15, 0.15)
        piece = box("", -wide, -2, wide, 2).moved(deformation(rng, 30))
        scale, centre = size / 2, np.array([rng.uniform(0.1, 0.9) * size + lean * size, size / 2])
    else:
        t = np.linspace(0, 2 * np.pi, 180, endpoint=False)
        waves = sum(rng.normal(0, 0.35) / k * np.cos(k * t + rng.uniform(0, 6)) for k in range(2, 30))
        rim = rng.uniform(0.2, 0.5) * np.exp(waves)[:, None] * np.stack([np.cos(t), np.sin(t)], axis=1)
        piece = Piece("", [rim], rim[[0, 90]])
        scale, centre = size / 2, rng.uniform(0.05, 0.95, 2) * size
    alpha = np.zeros((size, size), np.float32)
    drawn = outline(piece.moved(placement(scale, centre)).rings, size)
    if drawn is not None:
        alpha[drawn[1]] = drawn[0]
    shade = np.float32(rng.uniform(0.6, 1.1))
    colour = np.clip(crop(rng, split, size) * shade, 0, 1) * alpha[..., None]
    return Layer(colour, alpha, np.zeros((size, size), np.uint8))


def _shadow(rng: np.random.Generator, alpha: np.ndarray, light: Light, size: int) -> np.ndarray:
    """How much light a layer leaves on what is behind it, float32 (S, S, 1)."""
    reach = rng.uniform(0.01, 0.05) * size
    offset = -light.towards[1] * reach, -light.towards[0] * reach
    moved = ndimage.shift(alpha, offset, order=0, prefilter=False)
    soft = ndimage.gaussian_filter(moved, 0.6 * reach, truncate=2.5)
    return (1 - np.float32(rng.uniform(0.3, 0.6)) * soft)[..., None]


def _camera(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """A light gradient over the frame, a colour cast, slight blur and sensor noise on objects and background alike."""
    size = image.shape[0]
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.3)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    gradient = 1 + strength * (np.cos(angle) * ramp[None] + np.sin(angle) * ramp[:, None])
    cast = (rng.uniform(0.85, 1.1) * rng.uniform(0.92, 1.08, 3)).astype(np.float32)
    image = image * gradient[..., None].astype(np.float32) * cast
    sigma = rng.uniform(0.2, 0.75) * size / 257
    image = ndimage.gaussian_filter(image, (sigma, sigma, 0), truncate=2.5)
    image = image + rng.uniform(0.004, 0.02) * rng.standard_normal(image.shape, np.float32)
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def render(split: str, index: int, seed: int, size: int = 257) -> Sample:
    """Image ``index`` of ``split`` ("train" or "test"), a function of the arguments: any order will do."""
    rng = generator(seed, f"parts-{split}", index)
    light = _light(rng)
    main = main_class(index)

    def place(class_id: int, area: float, inside: float) -> Layer:
        pieces, unit = _pose(rng, class_id, area, size)
        pieces = _place(rng, pieces, size, inside)
        return draw_object(KINDS[class_id - 1], pieces, unit, light, split, rng, size)

    area = float(np.clip(np.exp(rng.normal(np.log(0.25), 0.45)), 0.07, 0.6))
    layers = [(main, place(main, area, 1.0 if rng.random() < 0.75 else 0.85))]  # (class id or 0, layer), back to front
    target = visible = layers[0][1].area

    others = rng.permutation([c for c in range(1, len(CLASSES) + 1) if c != main])
    for class_id in others[: rng.choice(3, p=[0.3, 0.45, 0.25])].tolist():
        layer = place(class_id, float(np.exp(rng.uniform(np.log(0.01), np.log(0.08)))), 0.6)
        kept = visible & ~layer.area
        in_front = rng.random() < 0.5 and _enough(kept, target)
        if in_front:
            visible = kept
        layers.insert(len(layers) if in_front else 0, (class_id, layer))
    if rng.random() < 0.4:
        layer = _occluder(rng, split, size)
        if _enough(visible & ~layer.area, target):
            layers.append((0, layer))
    return _compose(rng, layers, light, split, size)


def _enough(kept: np.ndarray, target: np.ndarray) -> bool:
    return kept.mean() > SMALLEST_VISIBLE and kept.sum() > _LEAST_KEPT * target.sum()


def _compose(rng: np.random.Generator, layers: list[tuple[int, Layer]], light: Light, split: str, size: int) -> Sample:
    """Layers (class id or 0, back to front) over a background, photographed; and their labels."""
    image = background(rng, split, size)
    mask, instance, parts = (np.zeros((size, size), np.uint8) for _ in range(3))
    for number, (class_id, layer) in enumerate(layers, 1):
        image = image * _shadow(rng, layer.alpha, light, size)
        image = layer.colour + image * (1 - layer.alpha[..., None])
        mask[layer.area] = class_id
        instance[layer.area] = number if class_id else 0
        parts[layer.area] = layer.part[layer.area]
    hidden = {
        class_id: 1 - float((instance[layer.area] == number).mean())
        for number, (class_id, layer) in enumerate(layers, 1)
        if class_id and layer.area.any()
    }
    border = ndimage.maximum_filter(instance, 3) != ndimage.minimum_filter(instance, 3)
    mask[border] = 255
    return Sample(_camera(rng, image), mask, parts, hidden)
