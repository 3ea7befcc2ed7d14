"""A linear classifier that an episode fits to its supports: ridge regression in closed form (Bertinetto et al., ICLR
2019, use it for few-shot classification), object and background weighing the same.

Averages say what an object looks like; the classifier also knows what it has in common with what stands around it, and
more so the more supports there are. What the query shows and no support does, it meets unprepared. So the averages of
the classes that a network was trained on are background to it, too, all but the one that the object resembles most: it
may be that class (BAM trains a network to find those classes: Lang et al., CVPR 2022).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

RIDGE = 16.0  # for one support, in units of the mean variance of a channel
KNOWN = 0.2  # share of the known classes in the background


def probe(
    query: Tensor, cells: Tensor, share: Tensor, known: Tensor, ridge: float = RIDGE, products: Tensor | None = None
) -> Tensor:
    """Scores (B, P) of B queries' cells: 0 half-way between object and background, and 1 apart on average.

    query (B, D, P); cells (B, n, D): those of all supports of each, float32; share (B, n): how much of each the object
    covers, from 0 to 1; known (C, D): averages of classes, rows of 0 are none; ridge: `RIDGE` over the number of
    supports; products (B, n, n): of the cells with each other, where they are known already. Solved for the n + C rows,
    not for the D channels: for a few supports on a coarse grid that is less.
    Where the supports show no object, or nothing else, the scores are 0."""
    shares = torch.stack([share, 1 - share], 1)  # (B, 2, n)
    total = shares.sum(2, keepdim=True)  # (B, 2, 1)
    shares = shares / total.clamp(min=1e-6)
    others = apart(shares[:, :1] @ cells, known)  # (B, C)
    behind = KNOWN * (others.sum(1, keepdim=True) > 0)  # (B, 1)
    shares = torch.cat([shares, torch.stack([torch.zeros_like(others), others], 1)], 2)  # (B, 2, n + C)
    shares[:, 1] *= torch.cat([(1 - behind).expand(-1, cells.shape[1]), behind.expand_as(others)], 1)
    weights, contrast = shares.mean(1), shares[:, 0] - shares[:, 1]  # (B, n + C)
    target = F.pad(2 * share - 1, (0, len(known)), value=-1.0)
    gram = gram_of(cells, known, products)
    cells = torch.cat([cells, known.expand(len(cells), -1, -1)], 1)  # (B, n + C, D)
    root = weights.sqrt()[..., None]  # (B, n + C, 1)
    along = gram @ weights[..., None]  # (B, n + C, 1): with the average of all, which is taken off next
    gram = (gram - along).sub_(along.mT - weights[:, None] @ along).mul_(root * root.mT)
    variance = gram.diagonal(dim1=1, dim2=2).sum(1) / cells.shape[2]  # (B,)
    gram.diagonal(dim1=1, dim2=2).add_(ridge * variance[:, None].clamp(min=1e-6))
    residual = target - (weights * target).sum(1, keepdim=True)  # (B, n + C)
    # Not linalg.solve: MKL's fails for several large systems on several threads.
    solved = root * torch.cholesky_solve(root * residual[..., None], torch.linalg.cholesky_ex(gram).L)
    normal = cells.mT @ (solved - weights[..., None] * solved.sum(1, keepdim=True))  # (B, D, 1)
    along = (cells @ normal)[..., 0]  # (B, n + C)
    middle, gap = (weights * along).sum(1), (contrast * along).sum(1)  # (B,): of all, and between the averages
    scores = (normal.mT @ query - middle[:, None, None]) / gap.clamp(min=1e-6)[:, None, None]  # (B, 1, P)
    return scores[:, 0].masked_fill((total == 0).any(1), 0)


def apart(objects: Tensor, known: Tensor) -> Tensor:
    """objects (B, 1, D): averages, known (C, D) -> (B, C): equal weights that sum to 1, but 0 for the class that the
    object resembles most and for rows of 0; all 0 where no class is left."""
    there = known.norm(dim=1) > 0  # (C,)
    if not len(known):
        return objects.new_zeros(len(objects), 0)
    alike = (F.normalize(known, dim=1) @ objects.mT)[..., 0].masked_fill(~there, -torch.inf)  # (B, C)
    weights = there.to(objects.dtype).expand_as(alike).scatter(1, alike.argmax(1, keepdim=True), 0)
    return weights / weights.sum(1, keepdim=True).clamp(min=1)


def gram_of(cells: Tensor, known: Tensor, products: Tensor | None) -> Tensor:
    """cells (B, n, D), known (C, D) -> the products of all rows with each other, (B, n + C, n + C); products (B, n, n):
    those of the cells, where they are known already."""
    products = cells @ cells.mT if products is None else products
    cross, own = cells @ known.T, (known @ known.T).expand(len(cells), -1, -1)  # (B, n, C), (B, C, C)
    return torch.cat([torch.cat([products, cross], 2), torch.cat([cross.mT, own], 2)], 1)
