"""How well superpixels fit true parts, and whether their prototypes differ at all."""

import numpy as np
import torch.nn.functional as F
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.cluster import contingency_matrix
from torch import Tensor


def quality(label: np.ndarray, parts: np.ndarray) -> dict[str, float]:
    """Superpixel quality of one object, over the cells that have both a superpixel and a part; NaN if there are none.

    label (h, w) int, the superpixel of each cell, -1 outside; parts (h, w) int, the true part, 0 for none. Returns

    - ``asa``, per cent: achievable segmentation accuracy, the share of cells that are right if each superpixel takes
      the part it shares most cells with (Liu et al., "Entropy Rate Superpixel Segmentation", CVPR 2011);
    - ``ue``, per cent: undersegmentation error in the form of Neubert and Protzel ("Superpixel Benchmark and
      Comparison", 2012): over all pairs of a part and a superpixel that meet, the sum of min(superpixel's cells in the
      part, superpixel's cells out of it), by the number of cells;
    - ``ari``: adjusted Rand index, -0.5 to 1: 1 for the same partition, 0 on average for random ones, and 0 where one
      superpixel lies on several parts or several on one part.

    Raises ValueError where the shapes differ.
    """
    if label.shape != parts.shape:
        raise ValueError(f"labels {label.shape} and parts {parts.shape}: expected the same shape")
    known = (label >= 0) & (parts > 0)
    if not known.any():
        return dict.fromkeys(("asa", "ue", "ari"), np.nan)
    table = contingency_matrix(parts[known], label[known])  # (parts, superpixels)
    return {
        "asa": 100 * float(table.max(0).sum() / table.sum()),
        "ue": 100 * float(np.minimum(table, table.sum(0) - table).sum() / table.sum()),
        "ari": float(adjusted_rand_score(parts[known], label[known])),
    }


def apart(prototypes: Tensor, valid: Tensor) -> Tensor:
    """How far the prototypes of each support lie apart: the mean of 1 - cosine over the pairs of valid ones, 0 to 2.

    prototypes (B, N, C), valid (B, N) -> (B,), NaN where there is no pair. With prototypes all alike GPA has nothing to
    allocate, however many there are: SGC's weights exp(-D) have a fixed temperature, so on features of a small scale
    its centres fall together."""
    directions = F.normalize(prototypes, dim=2)
    distance = 1 - directions @ directions.transpose(1, 2)  # (B, N, N)
    pair = (valid[:, :, None] & valid[:, None]).triu(1)  # (B, N, N)
    return (distance * pair).sum((1, 2)) / pair.sum((1, 2))
