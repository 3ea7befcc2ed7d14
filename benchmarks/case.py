"""A case: the same work done plainly and by the project."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from asgnet.device import fast_dtype

TIGHT = 1e-4  # relative error allowed in float32


def relative_error(plain: Any, ours: Any) -> float:
    """Largest |plain - ours| / |plain| over the results' tensors (Euclidean norms), absolute where |plain| = 0."""
    pairs = zip(tree_leaves(plain), tree_leaves(ours), strict=True)
    return max(_relative(torch.as_tensor(a).double(), torch.as_tensor(b).double()) for a, b in pairs)


def _relative(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        raise ValueError(f"results of shapes {tuple(a.shape)} and {tuple(b.shape)}: expected equal ones")
    length = a.norm()
    return float((a - b).norm() / (length if length > 0 else 1))


@dataclass
class Case:
    """``plain`` and ``ours`` give results of one structure, whose ``error`` is at most ``tolerance``.

    published: seconds of the published code on the machine that `table.PUBLISHED_RATE` describes. long: a case of
    minutes, repeated less often. inputs: tensors and modules that have to be read at least once."""

    title: str
    plain: Callable[[], Any]
    ours: Callable[[], Any]
    tolerance: float = TIGHT
    precision: torch.dtype = torch.float32
    published: float | None = None
    long: bool = False
    inputs: list[Tensor | nn.Module] = field(default_factory=list)
    error: Callable[[Any, Any], float] = relative_error


def fast_tolerance(tight: float, reduced: float) -> dict[str, Any]:
    """What a case that runs in the device's fast precision says of it: the tolerance in float32 or below it."""
    dtype = fast_dtype()
    return {"precision": dtype, "tolerance": tight if dtype == torch.float32 else reduced}
