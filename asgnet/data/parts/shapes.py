"""Outlines of parts: tubes, blobs and polygons in object units (x right, y down, an object is about 2 across).

A ``Piece`` is one outline of one part; several pieces may belong to one part (the four legs are one part). Its area is
the union of its rings, which lets a tube bend over itself. Angles are in degrees: 0 points right, 90 down.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

Rings = list[np.ndarray]
Point = tuple[float, float] | np.ndarray  # (x, y)


@dataclass(frozen=True)
class Piece:
    """``rings``: closed polygons (n, 2). ``axis``: polyline (m >= 2, 2) that textures follow, u along it and v across.
    ``ink``: drawn plain and dark (an eye, a nostril) whatever the part's material."""

    part: str
    rings: Rings
    axis: np.ndarray
    ink: bool = False

    def moved(self, transform: "Transform") -> "Piece":
        moved = transform(np.concatenate([*self.rings, self.axis]))  # in one go: a tube has dozens of rings
        *rings, axis = np.split(moved, np.cumsum([len(ring) for ring in self.rings]))
        return replace(self, rings=rings, axis=axis)


def direction(angle: float) -> np.ndarray:
    """Unit vector (x, y) of an angle in degrees."""
    return np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))])


def smooth(points: np.ndarray, closed: bool, samples: int = 8) -> np.ndarray:
    """Catmull-Rom curve through ``points`` (n, 2), ``samples`` points per span."""
    points = np.asarray(points, float)
    if closed:
        before, start, end, after = (np.roll(points, shift, axis=0) for shift in (1, 0, -1, -2))
    else:
        padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
        before, start, end, after = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = np.linspace(0, 1, samples, endpoint=False)[None, :, None]
    before, start, end, after = (p[:, None] for p in (before, start, end, after))
    curve = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    ).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])


def blob(
    part: str, centre: Point, radii: tuple[float, float], angle: float = 0, lobes: int = 0, depth: float = 0.0
) -> Piece:
    """An ellipse with ``lobes`` waves of relative ``depth`` on its rim."""
    t = np.linspace(0, 2 * np.pi, max(40, 10 * lobes), endpoint=False)
    radius = 1 + depth * np.cos(lobes * t)
    along, across = direction(angle), direction(angle + 90)
    offsets = np.outer(radii[0] * radius * np.cos(t), along) + np.outer(radii[1] * radius * np.sin(t), across)
    centre = np.asarray(centre, float)
    return Piece(part, [centre + offsets], np.array([centre - radii[0] * along, centre + radii[0] * along]))


def polygon(part: str, points: Sequence[Point] | np.ndarray, angle: float = 0, curved: bool = False) -> Piece:
    """A polygon (its edges resampled, so that a warp can bend them) or the smooth closed curve through ``points``."""
    corners = np.asarray(points, float)
    if curved:
        ring = smooth(corners, closed=True)
    else:
        t = np.linspace(0, 1, 8, endpoint=False)[None, :, None]
        ring = (corners[:, None] * (1 - t) + np.roll(corners, -1, axis=0)[:, None] * t).reshape(-1, 2)
    centre, reach = corners.mean(axis=0), np.ptp(corners, axis=0).max() / 2
    return Piece(part, [ring], np.array([centre - reach * direction(angle), centre + reach * direction(angle)]))


def box(part: str, left: float, top: float, right: float, bottom: float, angle: float = 0) -> Piece:
    """An upright rectangle."""
    return polygon(part, [(left, top), (right, top), (right, bottom), (left, bottom)], angle)


def tube(part: str, points: list | np.ndarray, widths: list | np.ndarray) -> Piece:
    """A round-ended tube along the smooth curve through ``points``, its half widths interpolated from ``widths``."""
    axis = smooth(np.asarray(points, float), closed=False, samples=5)
    half = np.interp(np.linspace(0, 1, len(axis)), np.linspace(0, 1, len(widths)), widths)
    t = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    circle = np.stack([np.cos(t), np.sin(t)], axis=1)
    heading = np.gradient(axis, axis=0)
    heading /= np.maximum(np.linalg.norm(heading, axis=1, keepdims=True), 1e-9)
    normal = np.stack([-heading[:, 1], heading[:, 0]], axis=1) * half[:, None]
    left, right = axis + normal, axis - normal
    # short strips, since one outline would cross itself where the tube does; discs round the ends and the joints
    starts = range(0, len(axis) - 1, 4)
    rings = [np.concatenate([left[i : i + 5], right[i : i + 5][::-1]]) for i in starts]
    rings += [axis[i] + half[i] * circle for i in (*starts, -1)]
    return Piece(part, rings, axis)


def limb(
    part: str, start: Point, angle: float, length: float, width: float, bend: float = 0, taper: float = 0.6
) -> Piece:
    """A tube from ``start`` that sets off at ``angle`` and turns by ``bend`` degrees on its way; ``taper`` is the width
    at its end as a share of ``width``."""
    headings = np.array([direction(angle + bend * t) for t in (0.1, 0.5, 0.9)])
    points = np.concatenate([[start], np.asarray(start) + np.cumsum(headings, axis=0) * length / 3])
    return tube(part, points, np.linspace(width, width * taper, 4) / 2)


def tip(piece: Piece) -> np.ndarray:
    """Where a limb ends: a joint for what hangs on it."""
    return piece.axis[-1]


def eye(part: str, centre: Point, radius: float) -> Piece:
    return replace(blob(part, centre, (radius, radius)), ink=True)


@dataclass(frozen=True)
class Transform:
    """Warp, then an affine map: p -> matrix (p + sum_k amplitude_k sin(p . wave_k + phase_k)) + offset."""

    matrix: np.ndarray  # (2, 2)
    offset: np.ndarray  # (2,)
    waves: np.ndarray  # (k, 2)
    phases: np.ndarray  # (k,)
    amplitudes: np.ndarray  # (k, 2)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        warped = points + np.sin(points @ self.waves.T + self.phases) @ self.amplitudes
        return warped @ self.matrix.T + self.offset


def deformation(rng: np.random.Generator, spin: float) -> Transform:
    """A random smooth warp, stretch, shear, mirror and in-plane rotation (up to ``spin`` degrees), without scale."""
    turn = np.deg2rad(rng.uniform(-spin, spin))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    stretch = np.exp(rng.uniform(-0.16, 0.16))
    shape = np.array([[stretch, rng.uniform(-0.15, 0.15)], [0, 1 / stretch]])
    mirror = np.diag([rng.choice([-1.0, 1.0]), 1.0])
    return Transform(
        rotation @ shape @ mirror,
        np.zeros(2),
        rng.uniform(-3, 3, (4, 2)),
        rng.uniform(0, 2 * np.pi, 4),
        rng.normal(0, 0.022, (4, 2)),
    )


def placement(scale: float, offset: np.ndarray) -> Transform:
    """Uniform scale and shift: object units to pixels."""
    return Transform(np.eye(2) * scale, np.asarray(offset, float), np.zeros((1, 2)), np.zeros(1), np.zeros((1, 2)))
