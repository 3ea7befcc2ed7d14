"""Plants, furniture and tools. Object units: x right, y down, about 2 across."""

import numpy as np

from asgnet.data.parts.kinds import Kind, Material
from asgnet.data.parts.shapes import Piece, blob, box, direction, eye, limb, polygon, tip, tube


def lamp(rng: np.random.Generator) -> list[Piece]:
    stem = limb("stem", (0, 0.8), -90 + rng.uniform(-14, 14), rng.uniform(0.75, 1.0), 0.1, rng.uniform(-35, 35), 0.9)
    top, tilt = tip(stem), rng.uniform(-22, 22)
    up, across = direction(tilt - 90), direction(tilt)
    wide, narrow, high = rng.uniform(0.45, 0.62), rng.uniform(0.18, 0.36), rng.uniform(0.5, 0.7)
    low = top - 0.1 * up
    rim = low + high * up
    corners = [low - wide * across, low + wide * across, rim + narrow * across, rim - narrow * across]
    return [stem, blob("base", (0, 0.85), (rng.uniform(0.3, 0.45), 0.12)), polygon("shade", corners, tilt)]


def mushroom(rng: np.random.Generator) -> list[Piece]:
    stem = limb("stem", (0, 0.85), -90 + rng.uniform(-15, 15), rng.uniform(0.75, 1.0), 0.44, rng.uniform(-30, 30), 0.65)
    x, y = tip(stem)
    wide, high = rng.uniform(0.6, 0.85), rng.uniform(0.4, 0.75)
    cap = [(-wide, 0.12), (-wide * 0.75, -high * 0.5), (0, -high), (wide * 0.75, -high * 0.5), (wide, 0.12), (0, 0.2)]
    return [stem, polygon("cap", [(x + a, y + b) for a, b in cap], curved=True)]


def flowerpot(rng: np.random.Generator) -> list[Piece]:
    stem = limb("stem", (0, 0.4), -90 + rng.uniform(-20, 20), rng.uniform(0.7, 0.95), 0.08, rng.uniform(-45, 45), 0.8)
    head, count = tip(stem), int(rng.integers(5, 10))
    leaves = []
    for k, side in enumerate(rng.permutation([-1, 1, -1, 1])[: rng.integers(2, 5)]):
        root = stem.axis[len(stem.axis) * (k + 1) // 6]
        angle = -90 + side * rng.uniform(35, 85)
        leaves.append(blob("leaves", root + 0.25 * direction(angle), (0.27, 0.11), angle))
    turn, reach = rng.uniform(0, 360), rng.uniform(0.24, 0.32)
    spokes = [turn + 360 * k / count for k in range(count)]
    petals = [blob("petals", head + reach * direction(a), (0.23, 1.1 / count), a) for a in spokes]
    wide = rng.uniform(0.28, 0.4)
    pot = [(-wide, 0.38), (wide, 0.38), (wide * 0.7, 0.95), (-wide * 0.7, 0.95)]
    return [stem, *leaves, polygon("pot", pot), *petals, blob("heart", head, (0.17, 0.17))]


def teapot(rng: np.random.Generator) -> list[Piece]:
    high = rng.uniform(0.42, 0.58)
    bulge = [(-0.35, -high), (0.35, -high), (0.58, 0.05), (0.38, high), (-0.38, high), (-0.58, 0.05)]
    spout = [(0.4, 0.15), (0.72, 0.02), (0.82, -0.3), (1.0, -rng.uniform(0.4, 0.6))]
    reach = rng.uniform(0.85, 1.05)
    grip = [(-0.42, -high * 0.6), (-reach * 0.9, -high * 0.75), (-reach, 0), (-0.5, high * 0.55)]
    lift = rng.uniform(0, 0.16) if rng.random() < 0.4 else 0
    top = -high - lift
    lid = [(-0.36, top + 0.03), (0.36, top + 0.03), (0.2, top - 0.15), (-0.2, top - 0.15)]
    return [
        tube("handle", grip, [0.07, 0.07]),
        tube("spout", spout, [0.17, 0.1, 0.07, 0.08]),
        polygon("body", bulge, curved=True),
        polygon("lid", lid, curved=True),
        blob("knob", (0, top - 0.2), (0.09, 0.09)),
    ]


def tree(rng: np.random.Generator) -> list[Piece]:
    trunk = limb("trunk", (0, 0.95), -90 + rng.uniform(-12, 12), 1.0, 0.26, rng.uniform(-25, 25), 0.55)
    x, y = tip(trunk)
    crown = [blob("crown", (x, y - 0.3), (0.5, 0.42), lobes=9, depth=0.06)]
    for angle in rng.uniform(0, 360) + np.arange(5) * 72:
        centre = np.array([x, y - 0.28]) + rng.uniform(0.3, 0.45) * direction(angle)
        crown.append(blob("crown", centre, (rng.uniform(0.24, 0.36),) * 2, rng.uniform(0, 90), lobes=7, depth=0.08))
    branches = [limb("trunk", (x, y + 0.1), -90 + s * rng.uniform(30, 60), 0.5, 0.1) for s in (-1, 1)]
    return [trunk, *branches, Piece("crown", [ring for piece in crown for ring in piece.rings], crown[0].axis)]


def chair(rng: np.random.Generator) -> list[Piece]:
    depth, lean, high = rng.uniform(0.25, 0.4), rng.uniform(0.0, 0.2), rng.uniform(0.75, 0.95)
    left, right = -0.45, 0.4
    seat = [(left, 0.1), (right, 0.1), (right + depth, 0.1 + depth * 0.7), (left + depth * 0.8, 0.1 + depth * 0.8)]
    back = [(left - lean, 0.1 - high), (right - lean, 0.1 - high), (right, 0.12), (left, 0.12)]
    splay = rng.uniform(-8, 8)
    feet = [(left + 0.06, 0.15, 1), (right - 0.03, 0.15, -1), (right + depth - 0.05, 0.15 + depth * 0.6, -1)]
    feet.append((left + depth * 0.8 + 0.05, 0.15 + depth * 0.7, 1))
    legs = [limb("legs", (x, y), 90 + side * splay, rng.uniform(0.6, 0.66), 0.11, taper=0.75) for x, y, side in feet]
    cushion = blob("cushion", (depth * 0.45, 0.06 + depth * 0.4), (0.4, depth * 0.42))
    return [*legs, polygon("back", back, 90), polygon("seat", seat), *([cushion] if rng.random() < 0.5 else [])]


def cactus(rng: np.random.Generator) -> list[Piece]:
    lean, high = -90 + rng.uniform(-10, 10), rng.uniform(1.1, 1.35)
    trunk = limb("stem", (0, 0.45), lean, high, 0.38, rng.uniform(-15, 15), 0.85)
    arms = []
    for side in rng.permutation([-1, 1])[: rng.integers(1, 3)]:
        y, out, up = rng.uniform(-0.3, 0.1), rng.uniform(0.4, 0.58), rng.uniform(0.3, 0.6)
        points = [(0, y), (side * out * 0.7, y + 0.04), (side * out, y - 0.15), (side * out, y - up)]
        arms.append(tube("arms", points, [0.11, 0.12, 0.1]))
    wide = rng.uniform(0.32, 0.45)
    pot = [(-wide, 0.4), (wide, 0.4), (wide * 0.75, 0.95), (-wide * 0.75, 0.95)]
    bloom = blob("bloom", tip(trunk), (0.17, 0.15), lobes=6, depth=0.25)
    return [*arms, trunk, polygon("pot", pot), *([bloom] if rng.random() < 0.7 else [])]


def guitar(rng: np.random.Generator) -> list[Piece]:
    waist, wide = rng.uniform(0.2, 0.3), rng.uniform(0.38, 0.48)
    half = [(-0.95, 0.0), (-0.85, wide * 0.8), (-0.55, wide), (-0.25, waist), (0.02, wide * 0.75), (0.12, 0.1)]
    body = half + [(x, -y) for x, y in reversed(half[1:])]
    return [
        tube("neck", [(0.0, 0), (0.5, 0), (0.85, 0)], [0.06, 0.05]),
        polygon("head", [(0.82, -0.09), (1.08, -0.12), (1.08, 0.12), (0.82, 0.09)]),
        polygon("body", body, curved=True),
        box("bridge", -0.66, -0.16, -0.58, 0.16),
        blob("rosette", (-0.2, 0), (0.15, 0.15)),
        eye("rosette", (-0.2, 0), 0.1),
    ]


THINGS = (
    Kind(
        "lamp",
        {"base": Material("metal", 0, 6, 0.6), "stem": Material("metal", 0, 6, 0.6), "shade": Material("weave", 1, 9)},
        lamp,
    ),
    Kind("mushroom", {"stem": Material("fur", 1, 5), "cap": Material("spots", 0, 5, 0.4)}, mushroom, 20),
    Kind(
        "flowerpot",
        {
            "pot": Material("bands", 0, 6, 0.3),
            "stem": Material("plain", 1),
            "leaves": Material("veins", 1, 9),
            "petals": Material("fade", 2, 9),
            "heart": Material("spots", 3, 18),
        },
        flowerpot,
    ),
    Kind(
        "teapot",
        {
            "body": Material("checks", 0, 5, 0.8),
            "lid": Material("bands", 1, 8, 0.8),
            "knob": Material("plain", 2, gloss=0.8),
            "spout": Material("plain", 1, gloss=0.8),
            "handle": Material("wood", 2, 8, 0.5),
        },
        teapot,
    ),
    Kind("tree", {"trunk": Material("wood", 0, 9), "crown": Material("foliage", 1, 9)}, tree, 10),
    Kind(
        "chair",
        {
            "back": Material("stripes", 0, 6),
            "seat": Material("wood", 0, 7),
            "legs": Material("wood", 0, 12),
            "cushion": Material("checks", 1, 8),
        },
        chair,
    ),
    Kind(
        "cactus",
        {
            "stem": Material("ribs", 0, 10),
            "arms": Material("ribs", 0, 12),
            "pot": Material("weave", 1, 7),
            "bloom": Material("fade", 2, 8),
        },
        cactus,
    ),
    Kind(
        "guitar",
        {
            "body": Material("wood", 0, 5, 0.6),
            "neck": Material("bands", 1, 8),
            "head": Material("plain", 1, gloss=0.3),
            "bridge": Material("plain", 2),
            "rosette": Material("spots", 2, 14),
        },
        guitar,
        90,
    ),
)
