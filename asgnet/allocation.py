"""Guided prototype allocation (GPA): every query cell picks its most similar prototype.

Li et al., CVPR 2021, section 4.2. The prototypes of all K shots compete in one pool.
"""

import torch
from torch import Tensor

EPS = 1e-7


def gpa(query: Tensor, prototypes: Tensor, valid: Tensor, eps: float = EPS) -> tuple[Tensor, Tensor, Tensor]:
    """Allocate prototypes to query cells by cosine similarity.

    query (B, C, h, w); prototypes (B, M, C); valid (B, M) bool, False where there is no prototype. Returns the guide
    (B, C, h, w), at each cell the prototype chosen there; probability (B, 1, h, w), the sum of the cell's similarities
    to all valid prototypes, so within +-M; index (B, h, w) int64, the guide map. Float32 also under autocast.
    Without any valid prototype guide and probability are zero. Differentiable in query and prototypes.
    """
    with torch.autocast(query.device.type, enabled=False):
        query, prototypes = query.float(), prototypes.float()
        height, width = query.shape[2:]
        flat = query.flatten(2)  # (B, C, P), P = h w
        lengths = prototypes.norm(dim=2)[:, :, None] * flat.norm(dim=1)[:, None]  # (B, M, P)
        similarity = prototypes @ flat / (lengths + eps)
        probability = similarity.masked_fill(~valid[..., None], 0).sum(1)  # (B, P)
        index = similarity.masked_fill(~valid[..., None], -torch.inf).argmax(1)  # (B, P)
        chosen = (prototypes * valid[..., None]).transpose(1, 2)  # (B, C, M)
        guide = chosen.gather(2, index[:, None].expand(-1, chosen.shape[1], -1))  # (B, C, P)
        return (
            guide.unflatten(2, (height, width)),
            probability[:, None].unflatten(2, (height, width)),
            index.unflatten(1, (height, width)),
        )
