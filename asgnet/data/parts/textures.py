"""Procedural textures: functions of object coordinates (u along a part's axis, v across it, an object is 2 units
across) that return a field in 0..1, the mix between a part's two colours."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy import ndimage

from asgnet.rng import generator

Field = np.ndarray  # float32, of the shape of u and v

_TILE = 1024  # noise pixels, periodic
_GRAIN = 24  # noise pixels per feature


@lru_cache(maxsize=1)
def _noise_tile() -> np.ndarray:
    tile = generator(0, "parts-noise").standard_normal((_TILE, _TILE)).astype(np.float32)
    tile = ndimage.gaussian_filter(tile, _GRAIN / 3, mode="wrap")
    return np.clip(tile / tile.std() * 0.25 + 0.5, 0, 1)


def noise(u: Field, v: Field) -> Field:
    """Smooth noise with about one feature per unit."""
    row = (u * _GRAIN).astype(np.int32) % _TILE
    return _noise_tile()[row, (v * _GRAIN).astype(np.int32) % _TILE]


def _cloud(u: Field, v: Field) -> Field:
    return noise(u, v) * 0.55 + noise(2.1 * u + 7, 2.1 * v) * 0.3 + noise(4.3 * u, 4.3 * v + 5) * 0.15


def _edge(x: Field, softness: float) -> Field:
    """0 below zero, 1 above, with a soft step."""
    return np.clip(x / softness * 0.5 + 0.5, 0, 1)


def plain(u: Field, v: Field, frequency: float, rng: np.random.Generator) -> Field:
    return 0.3 * _cloud(u * 4, v * 4)


def bands(u: Field, v: Field, frequency: float, rng: np.random.Generator) -> Field:
    """Rings round the axis, as on a tail or a wasp."""
    phase = u * frequency + rng.uniform(0.3, 0.9) * noise(u * 2, v * 3)
    return _edge(np.sin(2 * np.pi * phase) + rng.uniform(-0.35, 0.35), 0.35)


def stripes(u: Field, v: Field, frequency: float, rng: np.random.Generator) -> Field:
    """Lines along the axis."""
    return bands(v, u, frequency, rng)


def _cells(u: Field, v: Field, frequency: float, rng: np.random.Generator) -> Field:
    """Distance to the nearest point of a jittered grid, in cells."""
    jitter = rng.uniform(0.2, 0.8, (16, 16, 3)).astype(np.float32)
    u, v = u * frequency, v * frequency
    column, row = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    nearest = np.full(u.shape, 9.0, np.float32)
    for i in (-1, 0, 1):
        for k in (-1, 0, 1):
            point = jitter[(row + i) % 16, (column + k) % 16]
            distance = np.hypot(column + k + point[..., 0] - u, row + i + point[..., 1] - v)
            nearest = np.minimum(nearest, distance / (0.5 + point[..., 2]))
    return nearest


def spots(u: Field, v: Field, frequency: float, rng: np.random.Generator) -> Field:
    return _edge(rng.uniform(0.3, 0.42) - _cells(u, v, frequency, rng), 0.1)


def patches(u: Field, v: Field, frequency: float, rng: np.random.Generator) -> Field:
    """Large patches with thin seams, as on a giraffe or a tortoise."""
    return _edge(rng.uniform(0.45, 0.6) - _cells(u, v, frequency, rng), 0.12)


def scales(u: Field, v: Field, frequency: float, rng: np.random.Generator) -> Field:
    """Rows of overlapping arcs."""
    row = np.floor(v * frequency)
    across = (u * frequency + 0.5 * (row % 2)) % 1 - 0.5
    down = v * frequency - row
    return np.clip(1.4 * (down - 0.55 + 2.2 * across**2) + 0.35, 0, 1)


def checks(u: Field, v: Field, frequency: float, rng: np.random.Generator) -> Field:
    return _edge(np.sin(np.pi * u * frequency) * np.sin(np.pi * v * frequency), 0.2)


def wood(u: Field, v: Field, frequency: float, rng: np.random.Generator) -> Field:
    grain = np.sin(2 * np.pi * frequency * (v + 0.25 * noise(u * 0.9, v * 2)))
    return 0.5 + 0.35 * grain + 0.3 * (noise(u * 2, v * 22) - 0.5)


def fur(u: Field, v: Field, frequency: float, rng: np.random.Generator) -> Field:
    lean = v + 0.15 * noise(u * 2, v * 2)
    strokes = noise(u * frequency * 0.6, lean * frequency * 3) * 0.6 + noise(u * frequency, lean * frequency * 6) * 0.4
    return np.clip((strokes - 0.5) * 1.6 + _cloud(u * 1.5, v * 1.5), 0, 1)


def mottle(u: Field, v: Field, frequency: float, rng: np.random.Generator) -> Field:
    return _edge(_cloud(u * frequency * 0.5, v * frequency * 0.5) - rng.uniform(0.42, 0.55), 0.08)


def foliage(u: Field, v: Field, frequency: float, rng: np.random.Generator) -> Field:
    """Light and dark leaf clumps."""
    return np.clip(1.2 * _cells(u, v, frequency, rng) - 0.25 + 0.5 * (noise(u * 3, v * 3) - 0.5), 0, 1)


def veins(u: Field, v: Field, frequency: float, rng: np.random.Generator) -> Field:
    """A midrib and slanting side veins."""
    side = np.abs(((u - 0.8 * np.abs(v)) * frequency) % 1 - 0.5)
    return np.maximum(_edge(0.02 - np.abs(v), 0.02), 0.8 * _edge(0.09 - side, 0.08))


def ribs(u: Field, v: Field, frequency: float, rng: np.random.Generator) -> Field:
    """Rounded ridges along the axis, as on a cactus."""
    return np.abs(np.sin(np.pi * v * frequency + 0.2 * noise(u * 3, v))) ** 0.7


def metal(u: Field, v: Field, frequency: float, rng: np.random.Generator) -> Field:
    """Brushed, with a broad reflection."""
    return np.clip(0.5 + 0.35 * np.sin(3 * v + rng.uniform(0, 6)) + 0.3 * (noise(u, v * frequency * 3) - 0.5), 0, 1)


def weave(u: Field, v: Field, frequency: float, rng: np.random.Generator) -> Field:
    over = (np.floor(u * frequency) + np.floor(v * frequency)) % 2
    warp, weft = np.abs(np.sin(np.pi * u * frequency)), np.abs(np.sin(np.pi * v * frequency))
    return np.where(over > 0, warp, 0.75 * weft).astype(np.float32)


def panes(u: Field, v: Field, frequency: float, rng: np.random.Generator) -> Field:
    """A row of windows on a plain wall."""
    return _edge(0.28 - np.abs((u * frequency) % 1 - 0.5), 0.06) * _edge(0.3 / frequency - np.abs(v + 0.05), 0.02)


def fade(u: Field, v: Field, frequency: float, rng: np.random.Generator) -> Field:
    """From one colour to the other along the axis, with fine rays."""
    return np.clip(u * rng.uniform(1.2, 2.2) + 0.4 * (noise(u, v * frequency * 2) - 0.5), 0, 1)


_ALL = (plain, bands, stripes, spots, patches, scales, checks, wood, fur, mottle, foliage, veins, ribs, metal, weave)
TEXTURES: dict[str, Callable[[Field, Field, float, np.random.Generator], Field]] = {
    function.__name__: function for function in (*_ALL, panes, fade)
}
