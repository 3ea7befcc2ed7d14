"""``parts``: the embedded dataset, made from code. Articulated, textured, multi-part objects on photographic
backgrounds, 20 classes in 4 folds of 5, with the true part of every object pixel; made by
`asgnet.data.parts.write`."""

from asgnet.data.parts.classes import CLASSES, FOLDS

__all__ = ["CLASSES", "FOLDS"]
