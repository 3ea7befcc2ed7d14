"""The shape of a whole object, for asking which objects gain from several prototypes."""

import numpy as np
from skimage.measure import regionprops


def object_shape(mask: np.ndarray) -> dict[str, float]:
    """Size and shape of one object, all its components together as one region.

    mask (H, W) bool. Returns

    - ``scale``, per cent: its share of the frame;
    - ``solidity``, in (0, 1]: its share of its convex hull;
    - ``elongation``, in [0, 1): 1 - minor / major axis of the ellipse with its second moments. Pixels are squares, not
      points, so a rectangle of a x b pixels has exactly 1 - a / b for a <= b, a single pixel 0.

    An empty mask has scale 0 and no shape: NaN.
    """
    regions = regionprops(mask.astype(np.uint8))
    if not regions:
        return {"scale": 0.0, "solidity": np.nan, "elongation": np.nan}
    square = 1 / 12  # the variance of a pixel's own area along any axis
    major, minor = np.sqrt(np.add(regions[0].inertia_tensor_eigvals, square))
    return {
        "scale": 100 * float(mask.mean()),
        "solidity": float(regions[0].solidity),
        "elongation": float(1 - minor / major),
    }
