"""From the pieces of an object to pixels: texture, relief shading and antialiased edges."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from asgnet.data.parts.backgrounds import crop, luminance, palette
from asgnet.data.parts.kinds import Kind, Material
from asgnet.data.parts.shapes import Piece
from asgnet.data.parts.textures import TEXTURES, noise

_SUPERSAMPLE = 3  # outlines are drawn this much larger and averaged down
_ODD_TEXTURE = 0.15  # share of parts that wear another texture than their class's


@dataclass
class Layer:
    """An object on a transparent canvas: ``colour`` float32 (H, W, 3) already multiplied by ``alpha`` float32 (H, W);
    ``part`` uint8 (H, W), 0 outside."""

    colour: np.ndarray
    alpha: np.ndarray
    part: np.ndarray

    @property
    def area(self) -> np.ndarray:
        """bool (H, W): where the object is."""
        return self.alpha > 0.5


def empty_layer(size: int) -> Layer:
    return Layer(
        np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32), np.zeros((size, size), np.uint8)
    )


@dataclass(frozen=True)
class Light:
    """Unit vector towards the light (x right, y down, z to the viewer) and the share of ambient light."""

    towards: np.ndarray
    ambient: float


def outline(rings: list[np.ndarray], size: int, margin: int = 2) -> tuple[np.ndarray, tuple[slice, slice]] | None:
    """Antialiased area of the union of ``rings`` (pixel coordinates) and its window: alpha float32 (h, w) in 0..1, or
    None where all of it lies outside the ``size`` x ``size`` frame."""
    points = np.concatenate(rings)
    left, top = np.clip(np.floor(points.min(axis=0)).astype(int) - margin, 0, size)
    right, bottom = np.clip(np.ceil(points.max(axis=0)).astype(int) + margin, 0, size)
    if right - left < 2 or bottom - top < 2:
        return None
    large = Image.new("L", ((right - left) * _SUPERSAMPLE, (bottom - top) * _SUPERSAMPLE))
    draw = ImageDraw.Draw(large)
    for ring in rings:
        draw.polygon(((ring - (left, top)) * _SUPERSAMPLE).ravel().tolist(), fill=255)
    alpha = np.asarray(large.reduce(_SUPERSAMPLE), np.float32) / 255
    return alpha, (slice(top, bottom), slice(left, right))


def _coordinates(axis: np.ndarray, window: tuple[slice, slice], unit: float) -> tuple[np.ndarray, np.ndarray]:
    """(u, v) of every pixel of the window in object units: along the axis and across it."""
    rows, columns = np.arange(window[0].start, window[0].stop), np.arange(window[1].start, window[1].stop)
    axis = axis.astype(np.float32)
    steps = np.diff(axis, axis=0)
    lengths = np.maximum(np.linalg.norm(steps, axis=1), 1e-3)
    if len(axis) == 2:
        heading = steps[0] / lengths[0]
        x, y = (columns - axis[0, 0])[None], (rows - axis[0, 1])[:, None]
        return (x * heading[0] + y * heading[1]) / unit, (y * heading[0] - x * heading[1]) / unit
    middle = (axis[1:] + axis[:-1]) / 2  # a bent axis: follow the nearest segment
    x, y = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
    nearest = ((x[..., None] - middle[:, 0]) ** 2 + (y[..., None] - middle[:, 1]) ** 2).argmin(axis=-1)
    heading = (steps / lengths[:, None])[nearest]
    x, y = x - axis[nearest, 0], y - axis[nearest, 1]
    start = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.float32)[nearest]
    along, across = x * heading[..., 0] + y * heading[..., 1], y * heading[..., 0] - x * heading[..., 1]
    return (start + along) / unit, across / unit


def _relief(alpha: np.ndarray, light: Light, gloss: float) -> tuple[np.ndarray, np.ndarray]:
    """Light on the inflated outline: factor for the colour and highlight to add, float32 (h, w)."""
    depth = ndimage.distance_transform_edt(np.pad(alpha > 0.5, 1))[1:-1, 1:-1].astype(np.float32)
    reach = max(float(depth.max()), 1.0)
    height = reach * np.sqrt(np.clip(1 - (1 - depth / reach) ** 2, 0, 1))
    height = ndimage.gaussian_filter(height, 0.5 + 0.12 * reach)
    slope_y, slope_x = np.gradient(height) if min(height.shape) > 1 else (height * 0, height * 0)
    norm = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
    facing = norm * (light.towards[2] - slope_x * light.towards[0] - slope_y * light.towards[1])
    diffuse = np.clip(facing, 0, 1)
    halfway = light.towards + np.array([0, 0, 1])
    halfway = halfway / np.linalg.norm(halfway)
    mirror = np.clip(norm * (halfway[2] - slope_x * halfway[0] - slope_y * halfway[1]), 0, 1)
    highlight = gloss * mirror**24 * 0.7
    return (light.ambient + (1.25 - light.ambient) * diffuse).astype(np.float32), highlight.astype(np.float32)


@dataclass(frozen=True)
class _Paint:
    """Two colours and the texture of a part, drawn once per instance."""

    base: np.ndarray
    accent: np.ndarray
    material: Material
    frequency: float
    texture: str
    key: int

    def colour(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """float32 (h, w, 3) at object coordinates (h, w); all pieces of a part are of one stuff."""
        bend = 0.05 * noise(u * 2 + self.key % 97, v * 2)
        field = TEXTURES[self.texture](u + bend, v + bend, self.frequency, np.random.default_rng(self.key))
        return self.base + (self.accent - self.base) * field[..., None]


def _paints(kind: Kind, rng: np.random.Generator, split: str) -> dict[str, _Paint]:
    tones = palette(rng, split, 4)
    paints = {}
    for name, material in kind.parts.items():
        base = np.clip(tones[material.tone] * rng.uniform(0.85, 1.15, 3), 0, 1)
        other = tones[(material.tone + 1) % 4] if rng.random() < 0.5 else base
        lift = rng.uniform(0.2, 0.4) * (1 if base.mean() < 0.45 else -1)
        accent = np.clip(other - other.mean() + base.mean() + lift, 0.02, 0.98)
        frequency = material.frequency * np.exp(rng.uniform(-0.25, 0.25))
        texture = material.texture if rng.random() > _ODD_TEXTURE else str(rng.choice(list(TEXTURES)))
        paints[name] = _Paint(base, accent, material, frequency, texture, int(rng.integers(2**31)))
    return paints


def draw_object(
    kind: Kind, pieces: list[Piece], unit: float, light: Light, split: str, rng: np.random.Generator, size: int
) -> Layer:
    """Draw ``pieces`` (pixel coordinates, back to front; ``unit`` pixels per object unit) with random colours."""
    paints = _paints(kind, rng, split)
    index = {name: k for k, name in enumerate(kind.parts, 1)}
    detail = luminance(crop(rng, split, size))  # real surfaces are not clean: a photograph's texture shines through
    detail = 1 + (detail - ndimage.uniform_filter(detail, 25)) * np.float32(rng.uniform(0.2, 0.9))
    layer = empty_layer(size)
    for piece in pieces:
        drawn = outline(piece.rings, size)
        if drawn is None:
            continue
        alpha, window = drawn
        paint = paints[piece.part]
        if piece.ink:
            colour = np.full((*alpha.shape, 3), 0.06, np.float32)
            relief, highlight = _relief(alpha, light, 0.8)
        else:
            u, v = _coordinates(piece.axis, window, unit)
            u, v = np.broadcast_arrays(u.astype(np.float32), v.astype(np.float32))
            colour = paint.colour(u, v) * detail[window][..., None]
            relief, highlight = _relief(alpha, light, paint.material.gloss)
        colour = np.clip(colour * relief[..., None] + highlight[..., None], 0, 1).astype(np.float32)
        below = 1 - alpha[..., None]
        layer.colour[window] = layer.colour[window] * below + colour * alpha[..., None]
        layer.alpha[window] = layer.alpha[window] * below[..., 0] + alpha
        part = layer.part[window]  # thin seams between pieces go to the first that touches them
        part[(alpha > 0.5) | ((alpha > 0) & (part == 0))] = index[piece.part]
    layer.part[~layer.area] = 0
    return layer
