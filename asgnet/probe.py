"""A linear classifier that an episode fits to its supports: ridge regression in closed form (Bertinetto et al., ICLR
2019, use it for few-shot classification), object and background weighing the same.

Averages say what an object looks like; the classifier also knows what it has in common with what stands around it, and
more so the more supports there are.
"""

import torch
from torch import Tensor

RIDGE = 2.0  # in units of the mean variance of a channel


def probe(query: Tensor, cells: Tensor, share: Tensor, products: Tensor | None = None) -> Tensor:
    """Scores (B, P) of B queries' cells: 0 half-way between object and background of their supports, and 1 apart on
    average.

    query (B, D, P); cells (B, n, D): those of all supports of each, float32; share (B, n): how much of each the object
    covers, from 0 to 1; products (B, n, n): of the cells with each other, where they are known. Solved for the n cells,
    not for the D channels: for a few supports on a coarse grid n is less.
    Where the supports show no object, or nothing else, the scores are 0."""
    shares = torch.stack([share, 1 - share], 1)  # (B, 2, n)
    total = shares.sum(2, keepdim=True)  # (B, 2, 1)
    shares = shares / total.clamp(min=1e-6)
    weights, contrast = shares.mean(1), shares[:, 0] - shares[:, 1]  # (B, n)
    target = 2 * share - 1
    root = weights.sqrt()[..., None]  # (B, n, 1)
    gram = cells @ cells.mT if products is None else products  # (B, n, n)
    along = gram @ weights[..., None]  # (B, n, 1): with the average of all cells, which is taken off next
    gram = (gram - along).sub_(along.mT - weights[:, None] @ along).mul_(root * root.mT)
    variance = gram.diagonal(dim1=1, dim2=2).sum(1) / cells.shape[2]  # (B,)
    gram.diagonal(dim1=1, dim2=2).add_(RIDGE * variance[:, None].clamp(min=1e-6))
    residual = target - (weights * target).sum(1, keepdim=True)  # (B, n)
    # Not linalg.solve: MKL's fails for several large systems on several threads.
    solved = root * torch.cholesky_solve(root * residual[..., None], torch.linalg.cholesky_ex(gram).L)  # (B, n, 1)
    normal = cells.mT @ (solved - weights[..., None] * solved.sum(1, keepdim=True))  # (B, D, 1)
    along = (cells @ normal)[..., 0]  # (B, n)
    middle, gap = (weights * along).sum(1), (contrast * along).sum(1)  # (B,): of all, and between the averages
    scores = (normal.mT @ query - middle[:, None, None]) / gap.clamp(min=1e-6)[:, None, None]  # (B, 1, P)
    return scores[:, 0].masked_fill((total == 0).any(1), 0)
