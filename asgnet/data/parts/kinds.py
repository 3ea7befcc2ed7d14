"""What an object class is made of."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from asgnet.data.parts.shapes import Piece


@dataclass(frozen=True)
class Material:
    """``texture``: a name in ``textures.TEXTURES``; ``tone``: which of the instance's four colours the part takes
    (parts of one tone match); ``frequency``: texture cycles per object unit; ``gloss``: of the highlight, 0..1."""

    texture: str
    tone: int = 0
    frequency: float = 6.0
    gloss: float = 0.15


@dataclass(frozen=True)
class Kind:
    """``parts``: material of each part, in the order of the part indices 1, 2, ...; ``build``: draws a pose and returns
    its pieces, back to front; ``spin``: the largest in-plane rotation in degrees."""

    name: str
    parts: dict[str, Material]
    build: Callable[[np.random.Generator], list[Piece]]
    spin: float = 15.0
