"""Animals. Object units: x right, y down, about 2 across; heads look to the right before mirroring."""

import numpy as np

from asgnet.data.parts.kinds import Kind, Material
from asgnet.data.parts.shapes import Piece, blob, direction, eye, limb, polygon, tip, tube


def _quadruped_legs(rng: np.random.Generator, x: float, y: float, length: float, width: float) -> list[Piece]:
    """Two far and two near legs under a trunk that spans -x..x, in a random gait."""
    swing = rng.uniform(-32, 32, 2)
    return [
        limb("legs", (side * x + shift, y), 90 + s, length, width, bend=rng.uniform(-25, 25), taper=0.55)
        for shift, sign in ((0.09, 1), (-0.05, -1))
        for side, s in ((-1, sign * swing[0]), (1, sign * swing[1]))
    ]


def bird(rng: np.random.Generator) -> list[Piece]:
    lean = rng.uniform(-30, 10)
    head = 0.52 * direction(lean - 18)
    look = rng.uniform(-25, 25)
    beak = head + 0.17 * direction(look)
    side = 0.09 * direction(look + 90)
    flap = rng.uniform(120, 200) if rng.random() < 0.6 else rng.uniform(200, 290)
    wing = limb("wing", (0.1, -0.05), flap, rng.uniform(0.6, 0.9), 0.5, bend=rng.uniform(-30, 30), taper=0.25)
    rear = -0.45 * direction(lean)
    legs = [limb("legs", (x, 0.22), rng.uniform(70, 115), 0.42, 0.07, rng.uniform(-20, 20), 0.8) for x in (-0.1, 0.08)]
    tail = limb("tail", rear, lean + 180 + rng.uniform(-20, 20), rng.uniform(0.35, 0.6), 0.2, taper=1.5)
    return [
        *legs,
        tail,
        blob("body", (0, 0), (0.55, 0.34), lean),
        polygon("beak", [beak + side, head + rng.uniform(0.4, 0.52) * direction(look), beak - side]),
        blob("head", head, (0.24, 0.22)),
        eye("head", head + 0.1 * direction(look - 35), 0.045),
        wing,
    ]


def fish(rng: np.random.Generator) -> list[Piece]:
    bend = rng.uniform(-0.22, 0.22)
    deep = rng.uniform(0.3, 0.42)
    spread = rng.uniform(0.28, 0.45)
    fork = [(-0.62, bend), (-1.05, bend - spread), (-0.88, bend * 1.3), (-1.05, bend + spread)]
    top = [(-0.3, -deep * 0.7), (-0.15, -deep - rng.uniform(0.15, 0.3)), (0.25, -deep - 0.1), (0.3, -deep * 0.7)]
    belly = [(-0.25, deep * 0.6), (-0.35, deep + rng.uniform(0.1, 0.25)), (0.05, deep * 0.8)]
    body = [(0.75, 0.02), (0.45, -deep * 0.8), (0, -deep), (-0.45, bend * 0.7 - 0.14), (-0.72, bend - 0.06)]
    body += [(-0.72, bend + 0.06), (-0.45, bend * 0.7 + 0.14), (0, deep), (0.45, deep * 0.75)]
    side = limb("fins", (0.15, 0.08), rng.uniform(110, 200), 0.32, 0.13, taper=1.6)
    head = [(0.76, 0.02), (0.5, -deep * 0.7), (0.34, -deep * 0.75), (0.4, 0), (0.34, deep * 0.75), (0.5, deep * 0.7)]
    return [
        polygon("tail", fork, curved=True),
        polygon("fins", top, angle=90, curved=True),
        polygon("fins", belly, angle=90, curved=True),
        polygon("body", body, curved=True),
        polygon("head", head, curved=True),
        eye("head", (0.53, -0.09), 0.055),
        side,
    ]


def giraffe(rng: np.random.Generator) -> list[Piece]:
    neck = limb("neck", (0.3, -0.05), rng.uniform(-85, -35), rng.uniform(0.75, 0.95), 0.24, rng.uniform(-25, 30), 0.6)
    top = tip(neck)
    look = rng.uniform(0, 45)
    horn = limb("head", top - np.array([0.02, 0.05]), rng.uniform(-110, -80), 0.2, 0.05, taper=1)
    return [
        limb("tail", (-0.42, 0.0), rng.uniform(95, 150), 0.45, 0.06, rng.uniform(-40, 40)),
        *_quadruped_legs(rng, 0.3, 0.25, rng.uniform(0.7, 0.85), 0.14),
        neck,
        blob("body", (-0.03, 0.1), (0.48, 0.27), rng.uniform(-18, 0)),
        horn,
        blob("head", top + 0.1 * direction(look), (0.2, 0.11), look),
        eye("head", top + 0.07 * direction(look) - np.array([0, 0.04]), 0.03),
    ]


def snake(rng: np.random.Generator) -> list[Piece]:
    x = np.linspace(-1, 0.8, 9)
    height = rng.uniform(0.18, 0.42) * np.sin(x * rng.uniform(3, 6.5) + rng.uniform(0, 6))
    points = np.stack([x * rng.uniform(0.6, 1), height + x * rng.uniform(-0.4, 0.4)], axis=1)
    heading = points[-1] - points[-2]
    angle = np.rad2deg(np.arctan2(heading[1], heading[0]))
    head = points[-1] + 0.12 * direction(angle)
    tongue = limb("head", head, angle + rng.uniform(-15, 15), 0.34, 0.03, taper=1)
    return [
        tube("body", points, np.array([0.02, 0.07, 0.12, 0.15, 0.15, 0.13, 0.1]) * rng.uniform(0.85, 1.2)),
        tongue,
        blob("head", head, (0.21, 0.14), angle),
        eye("head", head + 0.07 * direction(angle - 60), 0.03),
    ]


def turtle(rng: np.random.Generator) -> list[Piece]:
    high = rng.uniform(0.42, 0.58)
    neck = limb("head", (0.5, 0.08), rng.uniform(-45, 15), rng.uniform(0.3, 0.45), 0.2, rng.uniform(-20, 20), 0.85)
    head = tip(neck)
    dome = [(-0.7, 0.12), (-0.55, -high * 0.6), (-0.1, -high), (0.4, -high * 0.7), (0.66, 0.12), (0, 0.24)]
    legs = [
        limb("legs", (x, 0.1), a + rng.uniform(-25, 25), rng.uniform(0.32, 0.42), 0.22, rng.uniform(-40, 40), 0.8)
        for x, a in ((-0.45, 110), (0.35, 75), (-0.3, 100), (0.45, 65))
    ]
    return [
        limb("tail", (-0.6, 0.1), rng.uniform(150, 200), 0.25, 0.12, taper=0.2),
        *legs,
        neck,
        blob("head", head, (0.17, 0.13), rng.uniform(-15, 15)),
        eye("head", head + np.array([0.06, -0.03]), 0.03),
        polygon("shell", dome, curved=True),
        polygon("rim", [(-0.78, 0.1), (-0.4, 0.06), (0.3, 0.06), (0.74, 0.1), (0.4, 0.26), (-0.4, 0.26)], curved=True),
    ]


def butterfly(rng: np.random.Generator) -> list[Piece]:
    fold = rng.uniform(0.35, 1.0)  # one pair of wings foreshortened: seen from the side
    up, low = rng.uniform(-0.95, -0.6), rng.uniform(0.5, 0.8)
    fore = np.array([(0.04, -0.25), (0.4, up), (0.85, up * 0.95), (0.82, -0.35), (0.4, 0.0), (0.04, 0.05)])
    hind = np.array([(0.04, -0.05), (0.55, 0.0), (0.68, low * 0.6), (0.42, low), (0.15, low * 0.7), (0.04, 0.25)])
    pieces = []
    for side in ((-1, 1), (fold, 1)):
        pieces += [polygon("hindwings", hind * side, 90, True), polygon("forewings", fore * side, 20 * side[0], True)]
    feelers = [limb("body", (0.02 * s, -0.4), -90 + s * 22, 0.4, 0.03, s * rng.uniform(10, 50), 1) for s in (-1, 1)]
    return [*pieces, *feelers, tube("body", [(0, -0.42), (0, 0), (0, 0.45)], [0.08, 0.1, 0.09, 0.04])]


def dog(rng: np.random.Generator) -> list[Piece]:
    neck = limb("body", (0.4, -0.12), rng.uniform(-75, -15), rng.uniform(0.3, 0.42), 0.3, taper=0.75)
    top, look = tip(neck), rng.uniform(-20, 45)
    hang, long = rng.uniform(70, 140), rng.uniform(0.28, 0.42)
    ear = limb("ears", top - np.array([0.06, 0.12]), hang, long, 0.15, rng.uniform(-40, 40), 0.7)
    tail = limb("tail", (-0.52, -0.1), rng.uniform(180, 270), rng.uniform(0.4, 0.6), 0.12, rng.uniform(-70, 70), 0.4)
    snout = limb("muzzle", top + 0.08 * direction(look), look, 0.26, 0.17, taper=0.75)
    return [
        tail,
        *_quadruped_legs(rng, 0.4, 0.08, rng.uniform(0.5, 0.68), 0.17),
        tube("body", [(-0.5, -0.02), (0, 0.03), (0.45, 0)], [0.2, 0.22, 0.26]),
        neck,
        blob("head", top, (0.23, 0.2), look),
        snout,
        eye("muzzle", tip(snout), 0.045),
        eye("head", top + 0.09 * direction(look - 55), 0.035),
        ear,
    ]


def starfish(rng: np.random.Generator) -> list[Piece]:
    start = rng.uniform(0, 72)
    arms = []
    for k in range(5):
        angle = start + 72 * k + rng.uniform(-12, 12)
        length = rng.uniform(0.75, 1.0)
        arms.append(limb("body", (0, 0), angle, length, 0.46, rng.uniform(-45, 45), 0.3))
    rings = [ring for arm in arms for ring in arm.rings]
    return [Piece("body", rings, np.array([-direction(start), direction(start)]))]


CREATURES = (
    Kind(
        "bird",
        {
            "body": Material("mottle", 0, 8),
            "head": Material("fur", 1, 6),
            "beak": Material("plain", 2, gloss=0.5),
            "wing": Material("scales", 0, 8),
            "tail": Material("stripes", 1, 9),
            "legs": Material("bands", 2, 14),
        },
        bird,
        20,
    ),
    Kind(
        "fish",
        {
            "body": Material("scales", 0, 8, 0.5),
            "head": Material("plain", 1, gloss=0.5),
            "tail": Material("stripes", 2, 12),
            "fins": Material("stripes", 2, 12),
        },
        fish,
        40,
    ),
    Kind(
        "giraffe",
        {
            "body": Material("patches", 0, 5),
            "neck": Material("patches", 0, 6),
            "head": Material("plain", 0),
            "legs": Material("spots", 0, 8),
            "tail": Material("fur", 1),
        },
        giraffe,
    ),
    Kind("snake", {"body": Material("bands", 0, 4, 0.4), "head": Material("scales", 1, 14, 0.4)}, snake, 90),
    Kind(
        "turtle",
        {
            "shell": Material("patches", 0, 4, 0.4),
            "rim": Material("bands", 1, 7, 0.3),
            "head": Material("spots", 2, 14),
            "legs": Material("scales", 2, 12),
            "tail": Material("plain", 2),
        },
        turtle,
    ),
    Kind(
        "butterfly",
        {
            "body": Material("fur", 2, 8),
            "forewings": Material("spots", 0, 4),
            "hindwings": Material("veins", 1, 5),
        },
        butterfly,
        60,
    ),
    Kind(
        "dog",
        {
            "body": Material("fur", 0, 6),
            "head": Material("fur", 0, 6),
            "muzzle": Material("plain", 1),
            "ears": Material("fur", 2, 8),
            "legs": Material("fur", 0, 6),
            "tail": Material("bands", 0, 5),
        },
        dog,
    ),
    Kind("starfish", {"body": Material("spots", 0, 9, 0.2)}, starfish, 180),
)
