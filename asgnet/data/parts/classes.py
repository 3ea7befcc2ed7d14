"""The 20 classes in 4 folds of 5: every fold holds animals, plants or furniture, and vehicles or tools."""

from asgnet.data.parts.creatures import CREATURES
from asgnet.data.parts.kinds import Kind
from asgnet.data.parts.things import THINGS
from asgnet.data.parts.vehicles import VEHICLES

CLASSES = (
    *("bird", "fish", "lamp", "mushroom", "car"),
    *("giraffe", "snake", "flowerpot", "teapot", "sailboat"),
    *("turtle", "butterfly", "tree", "chair", "airplane"),
    *("dog", "starfish", "cactus", "guitar", "truck"),
)
"""Names in the order of their ids 1..20."""

FOLDS = tuple(tuple(range(start, start + 5)) for start in range(1, 21, 5))
"""Class ids of the folds: fold k is novel when training on the other three."""

_KINDS = {kind.name: kind for kind in CREATURES + THINGS + VEHICLES}
KINDS: tuple[Kind, ...] = tuple(_KINDS[name] for name in CLASSES)
"""The definitions, ``KINDS[i]`` of class id i + 1."""
