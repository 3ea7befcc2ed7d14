"""Guided prototype allocation (GPA): every query cell picks its most similar prototype.

Li et al., CVPR 2021, section 4.2. The prototypes of all K shots compete in one pool.
"""

import torch
from torch import Tensor

EPS = 1e-7


def gpa(
    query: Tensor, prototypes: Tensor, valid: Tensor, eps: float = EPS, probability: str = "sum"
) -> tuple[Tensor, Tensor, Tensor]:
    """Allocate prototypes to query cells by cosine similarity.

    query (B, C, h, w); prototypes (B, M, C); valid (B, M) bool, False where there is no prototype. Returns the guide
    (B, C, h, w), channels last in memory, at each cell the prototype chosen there; probability (B, 1, h, w), the sum of
    the cell's similarities to all valid prototypes, so within +-M, or with ``probability`` = "mean" their mean, within
    +-1 whatever the number of prototypes (facts page, departure 6); index (B, h, w) int64, the guide map. Float32 also
    under autocast.
    Without any valid prototype guide and probability are zero. Differentiable in query and prototypes.
    """
    if probability not in ("sum", "mean"):
        raise ValueError(f"probability '{probability}': expected 'sum' or 'mean'")
    with torch.autocast(query.device.type, enabled=False):
        query, prototypes = query.float(), prototypes.float()
        height, width = query.shape[2:]
        flat = query.flatten(2)  # (B, C, P), P = h w
        lengths = prototypes.norm(dim=2)[:, :, None] * flat.norm(dim=1)[:, None]  # (B, M, P)
        similarity = prototypes @ flat / (lengths + eps)
        similar = similarity.masked_fill(~valid[..., None], 0).sum(1)  # (B, P)
        if probability == "mean":
            similar = similar / valid.sum(1, keepdim=True).clamp(min=1)
        index = similarity.masked_fill(~valid[..., None], -torch.inf).max(1).indices  # (B, P); faster than argmax
        first = torch.arange(len(valid), device=valid.device)[:, None] * valid.shape[1]  # (B, 1), in the pool of all
        pool = (prototypes * valid[..., None]).flatten(0, 1)  # (B M, C)
        guide = pool.index_select(0, (first + index).flatten()).unflatten(0, index.shape)  # (B, P, C): whole rows
        return (
            guide.transpose(1, 2).unflatten(2, (height, width)),
            similar[:, None].unflatten(2, (height, width)),
            index.unflatten(1, (height, width)),
        )


def expand(prototypes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The alternative to allocation: every query cell gets the mean prototype (paper, section 5.3).

    prototypes (B, M, C), valid (B, M) -> the mean of the valid ones (B, 1, C), and whether there is one (B, 1). With
    one prototype `gpa` gives it to every cell.
    """
    share = valid[..., None] / valid.sum(1).clamp(min=1)[:, None, None]  # (B, M, 1)
    return (prototypes * share).sum(1, keepdim=True), valid.any(1, keepdim=True)
