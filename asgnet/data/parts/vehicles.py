"""Vehicles. Object units: x right, y down, about 2 across; they drive to the right before mirroring."""

import numpy as np

from asgnet.data.parts.kinds import Kind, Material
from asgnet.data.parts.shapes import Piece, blob, box, eye, polygon, tube


def _wheels(rng: np.random.Generator, places: list[float], y: float, radius: float) -> list[Piece]:
    return [
        piece
        for x in places
        for piece in (blob("wheels", (x, y), (radius, radius), rng.uniform(0, 90)), eye("wheels", (x, y), radius * 0.3))
    ]


def car(rng: np.random.Generator) -> list[Piece]:
    high, nose = rng.uniform(0.35, 0.5), rng.uniform(0.45, 0.65)
    rear = rng.uniform(-0.7, -0.45)
    roof = [(rear - 0.15, -0.05), (rear + 0.12, -high), (0.2, -high), (nose, -0.05)]
    glass = [(rear + 0.02, -0.07), (rear + 0.2, -high + 0.08), (0.14, -high + 0.08), (nose - 0.16, -0.07)]
    body = [(-0.97, 0.0), (-0.9, -0.1), (0.55, -0.1), (0.92, 0.02), (0.98, 0.25), (0.9, 0.32), (-0.92, 0.32)]
    radius = rng.uniform(0.19, 0.25)
    return [
        polygon("roof", roof),
        polygon("windows", glass),
        polygon("body", body),
        *_wheels(rng, [-0.55 + rng.uniform(-0.06, 0.06), 0.56], 0.32, radius),
        blob("lights", (0.9, 0.1), (0.07, 0.06)),
    ]


def truck(rng: np.random.Generator) -> list[Piece]:
    high = rng.uniform(0.5, 0.8)
    front = rng.uniform(0.35, 0.5)
    gap = rng.uniform(0.04, 0.12)
    cab = [(front, -high * 0.55), (0.75, -high * 0.55), (0.9, -0.02), (0.95, 0.3), (front, 0.3)]
    glass = [(front + 0.1, -high * 0.45), (0.7, -high * 0.45), (0.8, -0.06), (front + 0.1, -0.06)]
    radius = rng.uniform(0.15, 0.2)
    return [
        box("chassis", -0.95, 0.2, 0.9, 0.34),
        box("cargo", -0.97, -high, front - gap, 0.24),
        polygon("cab", cab),
        polygon("windows", glass),
        *_wheels(rng, [-0.7, -0.7 + 2.3 * radius, 0.65], 0.36, radius),
    ]


def sailboat(rng: np.random.Generator) -> list[Piece]:
    x, high = rng.uniform(-0.15, 0.1), rng.uniform(0.95, 1.15)
    swell = rng.uniform(0.02, 0.14) * rng.choice([-1, 1])
    boom = rng.uniform(0.5, 0.75)
    main = [(x - 0.05, -high + 0.1), (x - boom * 0.4 + swell, -0.3), (x - boom, 0.3), (x - 0.05, 0.33)]
    jib = [(x + 0.06, -high + 0.2), (x + 0.38 + swell, -0.2), (x + rng.uniform(0.5, 0.75), 0.36), (x + 0.06, 0.32)]
    hull = [(-0.85, 0.42), (0.95, 0.4), (0.62, 0.78), (-0.65, 0.78)]
    return [
        tube("mast", [(x, 0.5), (x, -0.2), (x, -high)], [0.035, 0.025]),
        polygon("mainsail", main, 90),
        polygon("jib", jib, 90),
        polygon("hull", hull),
    ]


def airplane(rng: np.random.Generator) -> list[Piece]:
    sweep, span = rng.uniform(-0.55, -0.2), rng.uniform(0.55, 0.8)
    near = [(0.2, 0.04), (-0.12, 0.06), (sweep - 0.2, span), (sweep, span)]
    far = [(0.15, -0.04), (-0.1, -0.06), (sweep - 0.1, -span * 0.75), (sweep + 0.06, -span * 0.75)]
    fin = [(-0.62, -0.06), (-0.9, -0.06), (-1.05, -rng.uniform(0.35, 0.5)), (-0.9, -0.45)]
    stabiliser = [(-0.65, 0.02), (-0.88, 0.02), (-1.02, 0.25), (-0.92, 0.25)]
    engine, reach = np.array([sweep * 0.45 + 0.12, span * 0.5]), np.array([0.14, 0])
    fuselage = tube("fuselage", [(-0.95, -0.04), (-0.5, 0), (0.2, 0), (0.85, 0.02)], [0.05, 0.12, 0.15, 0.15, 0.09])
    return [
        polygon("wings", far),
        polygon("fin", fin),
        fuselage,
        polygon("fin", stabiliser),
        tube("engines", [engine - reach, engine, engine + reach], [0.06, 0.08]),
        polygon("wings", near),
        blob("cockpit", (0.78, -0.04), (0.1, 0.05)),
    ]


VEHICLES = (
    Kind(
        "car",
        {
            "body": Material("metal", 0, 4, 0.7),
            "roof": Material("metal", 0, 4, 0.7),
            "windows": Material("fade", 1, 3, 0.8),
            "wheels": Material("checks", 2, 9, 0.2),
            "lights": Material("plain", 3, gloss=0.8),
        },
        car,
        12,
    ),
    Kind(
        "truck",
        {
            "cargo": Material("bands", 0, 5),
            "cab": Material("metal", 1, 5, 0.5),
            "windows": Material("fade", 2, 3, 0.8),
            "wheels": Material("checks", 3, 9, 0.2),
            "chassis": Material("plain", 3),
        },
        truck,
        12,
    ),
    Kind(
        "sailboat",
        {
            "hull": Material("wood", 0, 6, 0.3),
            "mast": Material("plain", 1),
            "mainsail": Material("bands", 2, 4),
            "jib": Material("weave", 3, 7),
        },
        sailboat,
    ),
    Kind(
        "airplane",
        {
            "fuselage": Material("panes", 0, 7, 0.6),
            "wings": Material("metal", 1, 5, 0.4),
            "fin": Material("stripes", 2, 7, 0.4),
            "engines": Material("bands", 2, 10, 0.5),
            "cockpit": Material("plain", 3, gloss=0.8),
        },
        airplane,
        50,
    ),
)
